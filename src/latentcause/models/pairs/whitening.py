"""Observations on a standard scale, so that caller's units and correlations make no difference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

SMALLEST = 1e-5  # of the largest sd of a direction: below it is rounding of float32
ROWS = 50_000  # that moments are taken of


@dataclass(frozen=True, eq=False)
class Whitening:
    """v = (x - mean) W with unit variances and no correlations, in the principal directions that vary.

    With all directions, W = C^-1/2 is symmetric (ZCA): a column of v stays near its column of x. With fewer, W holds the leading
    principal directions, scaled.

    Attributes
    ----------
    mean : ndarray (d,)
    forward : ndarray (d, r)
        W.
    backward : ndarray (r, d)
        x - mean = v ``backward`` for x in the directions kept.
    """

    mean: np.ndarray
    forward: np.ndarray
    backward: np.ndarray

    @classmethod
    def of(cls, before: np.ndarray, after: np.ndarray, most: int | None = None) -> Self:
        """From rows (n, d) before and after an intervention, keeping ``most`` directions at the most."""
        step = max(1, len(before) // ROWS)
        rows = np.concatenate([before[::step], after[::step]]).astype(np.float64)
        mean = rows.mean(axis=0)
        rows -= mean
        variances, axes = np.linalg.eigh(rows.T @ rows / len(rows))
        keep = variances > SMALLEST**2 * variances[-1]
        keep[: max(0, len(keep) - (most or len(keep)))] = False
        sd, axes = np.sqrt(variances[keep]), axes[:, keep]
        turn = axes.T if len(sd) == len(mean) else np.eye(len(sd))
        return cls(mean, axes / sd @ turn, (turn.T * sd) @ axes.T)

    @property
    def size(self) -> int:
        """r."""
        return self.forward.shape[1]

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """(n, r) float32 of rows (n, d)."""
        return ((x - self.mean) @ self.forward).astype(np.float32)

    def inverse(self, v: np.ndarray) -> np.ndarray:
        """Rows (n, d) of (n, r)."""
        return np.asarray(v, dtype=np.float64) @ self.backward + self.mean
