"""``latentcause fit --method causal-diffae``: from labelled images to a model that answers counterfactuals, and a report."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import latentcause
from latentcause.commands.fit_images_report import HeldOut, factor_table, image_report, measure_held_out
from latentcause.commands.images import read_labelled_images
from latentcause.commands.reading import read_graph
from latentcause.console import say, show_table, shown_warnings
from latentcause.data.labelled_images import LabelledImages, split_rows
from latentcause.io import output_folder, save
from latentcause.models.causal_diffae import CausalDiffAE

IMAGES_SHOWN = 180_000  # to the network in training, where the number of epochs is left open: MorphoMNIST three times
FEWEST_EPOCHS = 3


@dataclass(frozen=True)
class ImageFitRequest:
    """What was asked for; ``bounds`` as FACTOR=LOW:HIGH, ``channels`` as 32,64."""

    images: Path
    labels: Path
    graph: str
    out: Path
    bounds: Sequence[str] = ()
    categorical: Sequence[str] = ()
    few_labels: bool = False
    held_out: float = 0.1
    epochs: int | None = None
    channels: str = "32,64"
    checkpoint: Path | None = None
    device: str = "auto"
    seed: int = 0


def fit_images(request: ImageFitRequest) -> None:
    """Fit, write everything into the folder ``request.out``, and print a short table. Nothing is written on failure.

    Raises
    ------
    ValueError, OSError
        For what the images, the labels, the graph, the model or the folder refuse.
    """
    graph = read_graph(request.graph)
    bounds, channels = _read_bounds(request.bounds), _read_channels(request.channels)
    with output_folder(request.out) as folder, shown_warnings() as notes:
        images, names = read_labelled_images(request.images, request.labels, request.few_labels, request.categorical)
        images.validate_for(graph)
        kept, held = _split(images, request)
        training, tested = images.subset(kept), images.subset(held)
        epochs = request.epochs or max(FEWEST_EPOCHS, math.ceil(IMAGES_SHOWN / len(training)))
        model = CausalDiffAE(
            graph, bounds=bounds, epochs=epochs, channels=channels, device=request.device, seed=request.seed
        )
        begun = time.perf_counter()
        model.fit(training, checkpoint=request.checkpoint)
        seconds = time.perf_counter() - begun
        found = measure_held_out(model, training, tested)
        _write(folder, request, model, training, [names[row] for row in held], tested, found, notes, seconds)
    if request.checkpoint is not None:
        for path in _checkpoints(request.checkpoint):
            path.unlink(missing_ok=True)
    say(
        f"{type(model).__name__} of {len(training)} images ({int(training.labelled.sum())} labelled), {epochs} epochs in "
        f"{seconds:.1f} s; {len(tested)} images held out"
    )
    show_table("", *factor_table(found))
    say(
        f"an intervention that changes nothing changes a pixel by {found.null_error:.2g} of the range from black to white; two "
        f"images differ by {found.spread:.2g}"
    )
    say(f"written to {request.out}: open report.html")


def _read_bounds(texts: Sequence[str]) -> dict[str, tuple[float, float]]:
    bounds: dict[str, tuple[float, float]] = {}
    for text in texts:
        name, _, ends = text.rpartition("=")
        low, colon, high = ends.partition(":")
        try:
            pair = float(low), float(high)
        except ValueError:
            pair = (math.nan, math.nan)
        if not (name and colon and all(map(math.isfinite, pair))):
            raise ValueError(f"--bounds {text!r}: write FACTOR=LOW:HIGH, such as intensity=64:255")
        if name.strip() in bounds:
            raise ValueError(f"--bounds names {name.strip()!r} twice: once is enough")
        bounds[name.strip()] = pair
    return bounds


def _read_channels(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() and int(part) for part in parts):
        raise ValueError(f"--channels {text!r}: write whole numbers, such as 32,64")
    return tuple(map(int, parts))


def _split(images: LabelledImages, request: ImageFitRequest) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers to learn from, and of labelled images to measure on."""
    labelled = np.flatnonzero(images.labelled)
    if not 0 < request.held_out < 1:
        raise ValueError(f"--held-out {request.held_out:g}: give a share between 0 and 1")
    if round(request.held_out * len(labelled)) in (0, len(labelled)):
        raise ValueError(
            f"--held-out {request.held_out:g} of {len(labelled)} labelled images leaves one part empty: give another share, "
            "or more images"
        )
    held = labelled[split_rows(len(labelled), request.held_out, request.seed)[1]]
    return np.setdiff1d(np.arange(len(images)), held), held


def _checkpoints(path: Path) -> list[Path]:
    """The two files of a training: of the encoder alone, and of the whole."""
    return [path, path.with_suffix(f".encoder{path.suffix}")]


# --- what is written -------------------------------------------------------------------------------------------------


def _write(
    folder: Path,
    request: ImageFitRequest,
    model: CausalDiffAE,
    training: LabelledImages,
    held_names: list[str],
    tested: LabelledImages,
    found: HeldOut,
    notes: list[str],
    seconds: float,
) -> None:
    save(model, folder / "model.safetensors", notes={"data": request.images.name, "held_out": held_names})
    columns: dict[str, Any] = {"image": held_names}
    columns |= {f"label_{name}": found.labels[name].to_list() for name in model.graph_.nodes}
    columns |= {f"encoded_{name}": found.encoded[name].to_list() for name in model.graph_.nodes}
    pd.DataFrame(columns).to_csv(folder / "factors.csv", index=False, float_format="%.10g")
    settings = {key: value for key, value in model.get_params(deep=False).items() if key != "graph"}
    summary = {
        "latentcause": latentcause.__version__,
        "model": type(model).__name__,
        "settings": settings,
        "graph": str(model.graph_),
        "data": request.images.name,
        "image_shape": list(model.image_shape_),
        "images": {
            "training": len(training),
            "labelled": int(training.labelled.sum()),
            "held_out": len(tested),
        },
        "categories": {name: [str(level) for level in levels] for name, levels in model.scm_.levels.items()},
        "held_out": {
            "factors": found.errors,
            "null_intervention_error": found.null_error,
            "difference_of_two_images": found.spread,
            "interventions": found.interventions,
        },
        "notes": notes,
        "seconds": round(seconds, 3),
    }
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    report = image_report(model, training, found, request.images.name, notes)
    report.save(folder / "report.html")
    report.save_figures(folder / "figures")
