"""``latentcause fit``: from a table to latents with error bars, loadings, a saved model and a report."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import latentcause
from latentcause.commands.fit_report import fit_report, node_table
from latentcause.commands.reading import read_data, read_graph
from latentcause.console import say, show_table, shown_warnings
from latentcause.data import MultiDomainData
from latentcause.data.preparation import Preparation
from latentcause.graph import CausalGraph
from latentcause.io import output_folder, save
from latentcause.models.base import LatentModel
from latentcause.models.f_modeling import FModeling
from latentcause.models.g_modeling import GModeling

Model = FModeling | GModeling


@dataclass(frozen=True)
class FitRequest:
    """What was asked for; ``settings`` are parameters of the model, ``known_panel`` makes the loadings the identity."""

    data: Path
    domain: str
    targets: Path
    graph: str
    method: str
    settings: dict[str, Any]
    out: Path
    known_panel: bool = False
    measurements: list[str] | None = None
    transform: Any = "none"
    cofactor: float = 5.0
    standardise: bool = False


def fit(request: FitRequest) -> None:
    """Fit, write everything into the folder ``request.out``, and print a short table. Nothing is written on failure.

    Raises
    ------
    ValueError, OSError
        For what the data, the graph, the model or the folder refuse.
    """
    graph = read_graph(request.graph)
    measurements, settings = _panel(request, graph)
    with output_folder(request.out) as folder, shown_warnings() as notes:
        raw = read_data(request.data, request.domain, request.targets, measurements)
        preparation = Preparation.learn(raw, request.transform, request.cofactor, request.standardise)
        data = preparation.apply(raw)
        begun = time.perf_counter()
        model = (FModeling if request.method == "f" else GModeling)(graph, **settings).fit(data)
        seconds = time.perf_counter() - begun
        _write(folder, model, data, preparation, request, notes, seconds)
    show_table(f"{type(model).__name__} of {data.n_samples} samples in {seconds:.1f} s", *node_table(model, data))
    say(f"noise variance {model.noise_variance_:.4g}; {_course(model)}")
    say(f"written to {request.out}: open report.html")


def _panel(request: FitRequest, graph: CausalGraph) -> tuple[list[str] | None, dict[str, Any]]:
    """The measurements to read and the model's settings, for a known panel with each node measured once."""
    if not request.known_panel:
        return request.measurements, request.settings
    if request.measurements is not None:
        raise ValueError("--known-panel measures each node once, under its own name: leave --measurements out")
    if request.settings.get("noise_variance") is None:
        raise ValueError(
            "--known-panel has as many measurements as nodes, so the noise must be known: give --noise-variance"
        )
    return list(graph.nodes), {**request.settings, "loadings": np.eye(len(graph))}


def _course(model: Model) -> str:
    if not model.n_iter_:
        return "loadings and noise were given, so nothing was iterated"
    return f"{model.n_iter_} iterations, {'converged' if model.converged_ else 'not converged'}"


# --- what is written -------------------------------------------------------------------------------------------------


def _write(
    folder: Path,
    model: Model,
    data: MultiDomainData,
    preparation: Preparation,
    request: FitRequest,
    notes: list[str],
    seconds: float,
) -> None:
    remembered = {
        "preparation": preparation.to_dict(),
        "domain": request.domain,
        "targets": {str(domain): list(nodes) for domain, nodes in data.targets.items()},
    }
    save(model, folder / "model.safetensors", notes=remembered)
    latents_table(model.graph, data, model.latents_, model.latent_variances_).to_csv(
        folder / "latents.csv", index=False, float_format="%.10g"
    )
    table = pd.DataFrame(model.loadings_, columns=list(model.graph.nodes))
    table.insert(0, "measurement", list(data.measurements))
    table.to_csv(folder / "loadings.csv", index=False)
    summary = _summary(model, data, preparation, request, notes, seconds)
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    report = fit_report(model, data, request.data.name, notes)
    report.save(folder / "report.html")
    report.save_figures(folder / "figures")


def latents_table(graph: CausalGraph, data: MultiDomainData, means: np.ndarray, variances: np.ndarray) -> pd.DataFrame:
    """A row per sample: index (from 0), domain, and the mean and standard deviation of every node."""
    columns: dict[str, Any] = {"index": np.arange(len(means)), "domain": np.array(data.domains)[data.domain_index]}
    columns |= {node: means[:, j] for j, node in enumerate(graph.nodes)}
    columns |= {f"{node}_sd": np.sqrt(variances[:, j]) for j, node in enumerate(graph.nodes)}
    return pd.DataFrame(columns)


def _summary(
    model: LatentModel,
    data: MultiDomainData,
    preparation: Preparation,
    request: FitRequest,
    notes: list[str],
    seconds: float,
) -> dict[str, Any]:
    settings = {key: value for key, value in model.get_params(deep=False).items() if key not in ("graph", "loadings")}
    return {
        "latentcause": latentcause.__version__,
        "model": type(model).__name__,
        "settings": settings,
        "known_panel": request.known_panel,
        "graph": str(model.graph),
        "data": request.data.name,
        "samples": data.n_samples,
        "measurements": data.n_measurements,
        "domains": {
            str(domain): {"samples": int(count), "targets": list(nodes)}
            for (domain, nodes), count in zip(data.targets.items(), np.bincount(data.domain_index), strict=True)
        },
        "preparation": {"transform": preparation.transform, "standardised": preparation.centre is not None},
        "noise_variance": model.noise_variance_,
        "converged": model.converged_,
        "iterations": model.n_iter_,
        "unidentified": list(model.unidentified_),
        "notes": notes,
        "seconds": round(seconds, 3),
    }
