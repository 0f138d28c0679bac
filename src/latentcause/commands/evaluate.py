"""``latentcause evaluate``: a fitted model's latents against known true values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from latentcause.commands.encode import model_file
from latentcause.console import show_table
from latentcause.data.labels import listing
from latentcause.io import load, write_atomically
from latentcause.metrics import align_columns, mean_correlation_coefficient, relative_mse, relative_mse_by_domain
from latentcause.metrics.latents import Alignment
from latentcause.models.base import LatentModel

NORMAL_90 = 1.6448536269514722  # standard deviations that hold 90 % of a normal distribution


def evaluate(
    model: Path,
    truth: Path,
    loadings: Path | None,
    domain: str,
    align: Alignment,
    scale: bool,
    json_file: Path | None,
) -> None:
    """Print, and write to ``json_file`` where it is given, how far the fit's latents and loadings are from true ones.

    Raises
    ------
    ValueError, OSError
        Where the true values do not fit the model, or ``scale`` is asked for without loadings.
    """
    if scale and loadings is None:
        raise ValueError("--scale compares the columns of the loadings: give the true ones with --loadings")
    path = model_file(model)
    fitted: Any = load(path)
    if not isinstance(fitted, LatentModel):
        raise ValueError(
            f"{model} holds a {type(fitted).__name__}, not a model of a table: give what `latentcause fit --method f` or g wrote"
        )
    frame = _read(truth)
    true = _columns(frame, fitted.graph.nodes, truth, len(fitted.latents_), "samples")
    if loadings is None:
        alignment = align_columns(fitted.latents_, true, align)
        results: dict[str, Any] = {}
    else:
        panel = _columns(_read(loadings), fitted.graph.nodes, loadings, len(fitted.loadings_), "measurements")
        alignment = align_columns(fitted.loadings_, panel, align, scale=scale)
        results = {"frobenius_error": float(np.square(alignment.loadings(fitted.loadings_) - panel).sum())}
    found = alignment.latents(fitted.latents_)
    sd = np.sqrt(fitted.latent_variances_[:, alignment.order]) * np.abs(alignment.factors)
    labels = _labels(frame, path, domain)
    results |= {
        "relative_mse": relative_mse(found, true),
        "relative_mse_by_domain": {} if labels is None else relative_mse_by_domain(found, true, labels),
        "mean_correlation_coefficient": mean_correlation_coefficient(found, true),
        "coverage_90": float((np.abs(found - true) <= NORMAL_90 * sd).mean()),
    }
    show_table(f"{type(fitted).__name__} against {truth.name}", ["metric", "value"], _rows(results))
    if json_file is not None:
        with write_atomically(json_file) as temporary:
            temporary.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def _rows(results: dict[str, Any]) -> list[tuple[str, str]]:
    """The results in words, in the order in which they are read."""
    rows = {"relative mean squared error": results["relative_mse"]}
    rows |= {f"  in domain {label}": value for label, value in results["relative_mse_by_domain"].items()}
    rows["mean correlation coefficient"] = results["mean_correlation_coefficient"]
    rows["true values within the 90 % error bars"] = results["coverage_90"]
    if "frobenius_error" in results:
        rows["squared Frobenius error of the loadings"] = results["frobenius_error"]
    return [(name, f"{value:.4g}") for name, value in rows.items()]


def _read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, float_precision="round_trip")


def _columns(frame: pd.DataFrame, nodes: tuple[str, ...], path: Path, rows: int, what: str) -> np.ndarray:
    """The nodes' columns as numbers, one row for each of the fit's samples or measurements."""
    absent = [node for node in nodes if node not in frame.columns]
    if absent:
        raise ValueError(
            f"{path.name} lacks column {listing(absent)}: it needs one per node (columns: {listing(frame.columns)})"
        )
    if len(frame) != rows:
        raise ValueError(
            f"{path.name} has {len(frame)} rows for the {rows} {what} of the fit: give one row for each, in its order"
        )
    values = frame[list(nodes)].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=float)
    bad = [node for node, fine in zip(nodes, np.isfinite(values).all(axis=0), strict=True) if not fine]
    if bad:
        raise ValueError(f"{path.name}: column {listing(bad)} holds values that are no finite numbers")
    return values


def _labels(frame: pd.DataFrame, model: Path, domain: str) -> np.ndarray | None:
    """Each row's domain, from the true values' file or from the latents that ``fit`` wrote beside the model."""
    if domain in frame.columns:
        return frame[domain].astype(str).to_numpy()
    beside = model.with_name("latents.csv")
    return pd.read_csv(beside, usecols=["domain"], dtype=str)["domain"].to_numpy() if beside.is_file() else None
