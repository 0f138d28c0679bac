"""Observations as a fitted model of pairs reads them: of the shape it knows, columns in its order."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from latentcause.data.intervention_pairs import InterventionPairs
from latentcause.data.labelled_images import checked_pixels
from latentcause.data.labels import listing


def read_observations(x: Any, shape: tuple[int, ...], columns: tuple[str, ...]) -> np.ndarray:
    """Finite numbers (n, *shape), float64.

    A DataFrame is read by the names of its columns, and others are ignored; by position where it or the model has none. Images
    are as `InterventionPairs` takes them.

    Raises
    ------
    ValueError
        For another shape, a missing column, NaN and infinity, and pixels outside [0, 1].
    """
    if isinstance(x, pd.DataFrame) and columns:
        x = _ordered(x, columns)
    if len(shape) == 3:
        x = checked_pixels(x)
    values = np.asarray(x.detach().cpu() if hasattr(x, "detach") else x, dtype=np.float64)
    if values.shape[1:] != shape:
        shapes = " x ".join(map(str, values.shape[1:])), " x ".join(map(str, shape))
        raise ValueError(f"observations of {shapes[0] or 'one number'}, but the model was fitted to {shapes[1]}")
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(axis=1))[0])
        raise ValueError(f"observation {row} holds NaN or infinity: leave it out")
    return values


def check_pairs(what: str, pairs: Any) -> None:
    """A TypeError where ``what`` was given something else."""
    if not isinstance(pairs, InterventionPairs):
        raise TypeError(
            f"{what} takes InterventionPairs, not {type(pairs).__name__}: InterventionPairs(before, after), or the "
            "attribute pairs of SimulatedPairs"
        )


def check_directions(found: int, m: int) -> None:
    """A ValueError where a linear model has more latents than observations have directions."""
    if found < m:
        raise ValueError(
            f"observations vary in {found} directions, fewer than n_latents={m}: a linear model has no more latents than that"
        )


def warn_of_rank(moved: np.ndarray, m: int) -> None:
    """A warning, to whoever called ``fit``, where changes (n, r) vary in fewer directions than there are latents."""
    squares = np.linalg.eigvalsh(moved.T.astype(np.float64) @ moved)
    rank = int((squares > 1e-8 * squares.max(initial=0)).sum())
    if rank < m:
        warnings.warn(
            f"the changes after - before have rank {rank}, less than n_latents={m}: unless the mixing is nonlinear, "
            f"{m - rank} of them will stay idle",
            UserWarning,
            stacklevel=4,
        )


def halves(pairs: InterventionPairs) -> tuple[Any, Any]:
    """Before and after, under the names of their columns."""
    if pairs.is_images:
        return pairs.before, pairs.after
    return pd.DataFrame(pairs.before, columns=list(pairs.names)), pd.DataFrame(pairs.after, columns=list(pairs.names))


def _ordered(frame: pd.DataFrame, columns: tuple[str, ...]) -> pd.DataFrame:
    if _nameless(columns) or _nameless(list(frame.columns)):
        return frame
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise ValueError(
            f"observations have no column {listing(missing)} of the model (columns: {listing(frame.columns)}): add it"
        )
    return frame[list(columns)]


def _nameless(names: Sequence[Any]) -> bool:
    """Whether these are the numbers, or x0, x1, ..., that stand for names where there are none."""
    return list(names) in (list(range(len(names))), [f"x{j}" for j in range(len(names))])
