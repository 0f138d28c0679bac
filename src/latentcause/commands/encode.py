"""``latentcause encode``: the latents of new samples under a fitted model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from latentcause.commands.fit import write_latents
from latentcause.commands.reading import read_data
from latentcause.console import say, shown_warnings
from latentcause.data.preparation import Preparation
from latentcause.io import load, read_notes, write_atomically

MODEL_FILE = "model.safetensors"


def encode(model: Path, data: Path, domain: str, targets: Path | None, out: Path) -> None:
    """Write posterior means and standard deviations of every row of ``data``, prepared as in the fit, as a CSV file.

    Raises
    ------
    ValueError, OSError
        For a file that is no model or was saved without notes, and data that do not fit it.
    """
    path = model_file(model)
    notes = read_notes(path)
    if "preparation" not in notes:
        raise ValueError(
            f"{path.name} was not written by `latentcause fit`, so it does not say how its measurements were prepared: "
            "use latentcause.load(...).posterior(data) in Python"
        )
    preparation = Preparation.from_dict(notes["preparation"])
    with shown_warnings(), write_atomically(out) as temporary:
        fitted: Any = load(path)
        names = None if data.suffix.lower() == ".npy" else list(preparation.measurements)
        raw = read_data(data, domain, notes["targets"] if targets is None else targets, names)
        if raw.n_measurements != len(preparation.measurements):
            raise ValueError(
                f"{data.name} has {raw.n_measurements} columns where the fit had {len(preparation.measurements)}"
            )
        prepared = preparation.apply(raw)
        means, variances = fitted.posterior(prepared)
        write_latents(temporary, fitted.graph, prepared, means, variances)
    say(f"{prepared.n_samples} samples, {len(fitted.graph)} latent variables: {out}")


def model_file(path: Path) -> Path:
    """The model that a file, or the folder that ``latentcause fit`` wrote, holds.

    Raises
    ------
    FileNotFoundError
        Where there is none.
    """
    found = path / MODEL_FILE if path.is_dir() else path
    if not found.is_file():
        raise FileNotFoundError(
            f"there is no model at {found}: give a .safetensors file or the folder that `fit` wrote"
        )
    return found
