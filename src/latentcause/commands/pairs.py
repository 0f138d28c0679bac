"""Pairs that users name on the command line, and what a model says of each of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from latentcause.data.intervention_pairs import InterventionPairs
from latentcause.models.pairs.observations import halves
from latentcause.models.pairs.pair_model import PairModel


def read_pairs(path: Path) -> InterventionPairs:
    """Pairs from a .npz or a Parquet file.

    Raises
    ------
    FileNotFoundError
        Where there is no such file.
    ValueError
        For a file of another kind, and what `InterventionPairs` refuses.
    """
    readers = {".npz": InterventionPairs.from_npz, ".parquet": InterventionPairs.from_parquet}
    if path.suffix.lower() not in readers:
        raise ValueError(
            f"{path.name}: pairs come in a .npz file with the arrays before and after, or in a .parquet file with columns "
            "NAME_before and NAME_after"
        )
    return readers[path.suffix.lower()](path)


def pair_table(model: PairModel, pairs: InterventionPairs) -> pd.DataFrame:
    """A row for each pair: its number (from 0), every variable before and after, the likeliest target and its probability."""
    before, after = (model.encode(part) for part in halves(pairs))
    probabilities = model.infer_targets(pairs)
    likeliest = probabilities.to_numpy().argmax(axis=1)
    return pd.concat(
        [
            pd.DataFrame({"pair": np.arange(len(pairs))}),
            before.add_suffix("_before"),
            after.add_suffix("_after"),
            pd.DataFrame(
                {"target": probabilities.columns[likeliest], "probability": probabilities.to_numpy().max(axis=1)}
            ),
        ],
        axis=1,
    )
