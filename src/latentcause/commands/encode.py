"""``latentcause encode``: the latents of new samples, or the variables and targets of new pairs, under a fitted model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from latentcause.commands.fit import latents_table
from latentcause.commands.pairs import pair_table, read_pairs
from latentcause.commands.reading import read_data
from latentcause.console import say, shown_warnings
from latentcause.data.preparation import Preparation
from latentcause.io import load, read_notes, write_atomically
from latentcause.models.pairs.pair_model import PairModel

MODEL_FILE = "model.safetensors"
FORMATS = (".csv", ".parquet")


def encode(model: Path, data: Path, domain: str | None, targets: Path | None, out: Path) -> None:
    """Write what the model finds in every row of ``data`` as a CSV or Parquet file.

    Of a table, prepared as in the fit: posterior means and standard deviations. Of pairs: the variables before and after, the
    likeliest target, and its probability.

    Raises
    ------
    ValueError, OSError
        For a file that is no model of a table or of pairs, or was saved without notes, data that do not fit it, and another format.
    """
    if out.suffix.lower() not in FORMATS:
        raise ValueError(f"--out {out.name}: the name of the file must end in {' or '.join(FORMATS)}")
    path = model_file(model)
    fitted: Any = load(path)
    with shown_warnings(), write_atomically(out) as temporary:
        if isinstance(fitted, PairModel):
            if domain is not None or targets is not None:
                raise ValueError(
                    "--domain and --targets belong to tables: leave them out, the model was fitted to pairs"
                )
            pairs = read_pairs(data)
            table = pair_table(fitted, pairs)
            done = f"{len(pairs)} pairs, {len(fitted.names_)} latent variables: {out}"
        else:
            table = _of_table(fitted, path, data, domain, targets)
            done = f"{len(table)} samples, {len(fitted.graph)} latent variables: {out}"
        if out.suffix.lower() == ".csv":
            table.to_csv(temporary, index=False, float_format="%.10g")
        else:
            table.to_parquet(temporary, index=False)
    say(done)


def _of_table(fitted: Any, path: Path, data: Path, domain: str | None, targets: Path | None) -> pd.DataFrame:
    notes = read_notes(path)
    if "preparation" not in notes:
        raise ValueError(
            f"{path.name} was not written by `latentcause fit`, so it does not say how its measurements were prepared: "
            "use latentcause.load(...).posterior(data) in Python"
        )
    if domain is None:
        raise ValueError("a model of a table needs --domain: the column with each row's domain")
    preparation = Preparation.from_dict(notes["preparation"])
    names = None if data.suffix.lower() == ".npy" else list(preparation.measurements)
    raw = read_data(data, domain, notes["targets"] if targets is None else targets, names)
    if raw.n_measurements != len(preparation.measurements):
        raise ValueError(
            f"{data.name} has {raw.n_measurements} columns where the fit had {len(preparation.measurements)}"
        )
    prepared = preparation.apply(raw)
    return latents_table(fitted.graph, prepared, *fitted.posterior(prepared))


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
