"""``latentcause counterfactual``: what images would have been, as images, factors, and a picture of the change."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import latentcause
from latentcause.commands.encode import model_file
from latentcause.commands.images import NamedImages, read_named_images
from latentcause.commands.interventions import in_words, read_question
from latentcause.console import say, show_table, shown_warnings
from latentcause.data.labelled_images import checked_pixels
from latentcause.data.labels import listing
from latentcause.image_plots import counterfactuals
from latentcause.io import load, output_folder
from latentcause.models.causal_diffae import CausalDiffAE

MOST_SHOWN = 16  # images in the picture
DPI = 160


@dataclass(frozen=True)
class CounterfactualRequest:
    """What was asked for; ``do`` and ``shift`` as NODE=VALUE."""

    model: Path
    images: Path
    do: Sequence[str]
    shift: Sequence[str]
    out: Path
    labels: Path | None = None
    guidance: float | None = None
    measure: str | None = None
    n: int = 8


@dataclass(frozen=True)
class Answer:
    """Images (n, c, h, w) and factors before and after; with an instrument, what it finds in both."""

    factual: np.ndarray
    counterfactual: np.ndarray
    factors: pd.DataFrame
    changed: pd.DataFrame
    measured: tuple[pd.DataFrame, pd.DataFrame] | None


def counterfactual(request: CounterfactualRequest) -> None:
    """Answer, write everything into the folder ``request.out``, and print a short table. Nothing is written on failure.

    Raises
    ------
    ValueError, OSError
        For a file that is no model of images, images or labels that do not fit it, and what do() refuses.
    """
    model = read_image_model(request.model)
    actions = read_question(model.scm_, request.do, request.shift)
    asked = in_words(request.do, request.shift)
    given = read_named_images(request.images, request.labels, few_labels=request.labels is not None, most=request.n)
    with output_folder(request.out) as folder, shown_warnings() as notes:
        answer = _answer(model, given, actions, request)
        _write(folder, answer, given.names, list(actions), asked)
        summary = {
            "latentcause": latentcause.__version__,
            "model": type(model).__name__,
            "images": request.images.name,
            "asked": asked,
            "factors_from": "the model's encoder" if request.labels is None else request.labels.name,
            "guidance": model.guidance if request.guidance is None else request.guidance,
            "notes": notes,
        }
        (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    say(f"{len(given.names)} images as they would have been under {asked}")
    show_table("", *_table(answer))
    say(f"written to {request.out}: open grid.png")


def read_image_model(path: Path) -> CausalDiffAE:
    """The model of images that a file, or the folder of ``latentcause fit --method causal-diffae``, holds.

    Raises
    ------
    ValueError, FileNotFoundError
        Where there is none, or another kind of model.
    """
    found: Any = load(model_file(path))
    if not isinstance(found, CausalDiffAE):
        raise ValueError(
            f"{path} holds a {type(found).__name__}, not a model of images: give what `latentcause fit --method "
            "causal-diffae` wrote"
        )
    return found


# --- what is asked ---------------------------------------------------------------------------------------------------


def _answer(model: CausalDiffAE, given: NamedImages, actions: dict[str, Any], request: CounterfactualRequest) -> Answer:
    pixels = checked_pixels(given.pixels)
    if pixels.shape[1] == 1 and model.image_shape_[0] == 3:  # grey files among the coloured, as in the fit
        pixels = np.repeat(pixels, 3, axis=1)
    instrument = _instrument(request.measure)
    before = None if instrument is None else instrument(pixels)
    labels = None if given.labels is None else _observed(model, given.labels)
    changed = model.counterfactual_factors(pixels, actions, labels)
    images = model.counterfactual(pixels, actions, labels, request.guidance)
    factors = model.encode(pixels) if labels is None else labels
    measured = None if instrument is None or before is None else (before, instrument(images))
    return Answer(pixels, images, factors, changed, measured)


def _observed(model: CausalDiffAE, labels: pd.DataFrame) -> pd.DataFrame:
    """The columns of the model's factors; what reads like a level of a category becomes that level."""
    nodes = list(model.graph_.nodes)
    absent = [name for name in nodes if name not in labels.columns]
    if absent:
        raise ValueError(
            f"the labels have no column {listing(absent)} of the model (columns: {listing(labels.columns)}): add it, or leave "
            "--labels out"
        )
    table = labels[nodes].reset_index(drop=True)
    missing = table.isna().any(axis=1)
    if missing.any():
        raise ValueError(
            f"labels are missing for {missing.sum()} of {len(table)} images (first: image {int(missing.argmax())}): fill them "
            "in, or leave --labels out"
        )
    for name, levels in model.scm_.levels.items():
        by_text = {str(level): level for level in levels}
        table[name] = table[name].astype(object).map(lambda value, known=by_text: known.get(str(value), value))
    return table


def _instrument(name: str | None) -> Any:
    if name is None:
        return None
    from latentcause.datasets.images.morphomnist import measure_strokes

    return {"strokes": measure_strokes}[name]


# --- what is written -------------------------------------------------------------------------------------------------


def _write(folder: Path, answer: Answer, names: list[str], acted: list[str], title: str) -> None:
    import matplotlib.pyplot as plt

    (folder / "images").mkdir()
    files = [f"{row:04d}_{Path(name).stem}.png" for row, name in enumerate(names)]
    for file, image in zip(files, answer.counterfactual, strict=True):
        _write_image(folder / "images" / file, image)
    np.savez_compressed(folder / "counterfactuals.npz", images=answer.counterfactual, factual=answer.factual)
    columns = {"image": names, "counterfactual_image": files}
    tables = {"factual": answer.factors, "counterfactual": answer.changed}
    if answer.measured is not None:
        tables |= {"measured_factual": answer.measured[0], "measured_counterfactual": answer.measured[1]}
    for kind, table in tables.items():
        columns |= {f"{kind}_{name}": table[name].to_list() for name in table.columns}
    pd.DataFrame(columns).to_csv(folder / "factors.csv", index=False, float_format="%.10g")
    shown = slice(0, MOST_SHOWN)
    figure = counterfactuals(
        answer.factual[shown],
        answer.counterfactual[shown],
        answer.factors.iloc[shown],
        answer.changed.iloc[shown],
        acted,
        None if answer.measured is None else (answer.measured[0].iloc[shown], answer.measured[1].iloc[shown]),
        title,
    )
    figure.savefig(
        folder / "grid.png",
        dpi=DPI,
        bbox_inches="tight",
        pad_inches=0.15,
        facecolor="white",
        metadata={"Software": None},
    )
    plt.close(figure)


def _write_image(path: Path, image: np.ndarray) -> None:
    """An image (c, h, w) of one or three channels as a PNG file."""
    from PIL import Image

    levels = np.round(255 * image).astype(np.uint8)
    if len(levels) not in (1, 3):
        raise ValueError(f"images of {len(levels)} channels can't be written as PNG: one or three are needed")
    Image.fromarray(levels[0] if len(levels) == 1 else np.moveaxis(levels, 0, -1)).save(path)


def _table(answer: Answer) -> tuple[list[str], list[list[str]]]:
    """Means before and after (of a category, its most common level), of the factors and what was measured."""
    pairs = [("", answer.factors, answer.changed)]
    if answer.measured is not None:
        pairs.append(("measured ", *answer.measured))
    rows = [
        [kind + name, _typical(before[name]), _typical(after[name])]
        for kind, before, after in pairs
        for name in before.columns
    ]
    return ["mean", "factual", "counterfactual"], rows


def _typical(column: pd.Series) -> str:
    if pd.api.types.is_float_dtype(column):
        return f"{column.mean():.4g}"
    return f"{column.mode().iloc[0]} (most common)"
