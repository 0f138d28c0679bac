"""Observations on a standard scale, so that caller's units and correlations make no difference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

SMALLEST = 1e-5  # of the largest sd of a direction: below it is rounding of float32
CONSTANT = 1e-6  # of a column's largest value: an sd below it is rounding of float32
ROWS = 50_000  # that moments are taken of
NUMBERS = 1 << 26  # that are handled at once: of wide rows, fewer count
WIDE = 1000  # columns, above which leading directions come from a randomised decomposition


@dataclass(frozen=True, eq=False)
class Whitening:
    """v = (x - mean) W with unit variances and no correlations, in the principal directions that vary.

    With all directions, W = S^-1 R^-1/2 with the columns' sds S and correlations R (Kessy, Lewin and Strimmer, Optimal whitening
    and decorrelation, 2018): a column of v stays near its column of x, and units play no part. With fewer, W holds the
    leading principal directions of x as it is, scaled.

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
        columns = before.shape[1]
        step = max(1, len(before) // ROWS, 2 * len(before) * columns // NUMBERS)
        rows = np.concatenate([before[::step], after[::step]]).astype(np.float64)
        mean = rows.mean(axis=0)
        largest = np.abs(rows).max(axis=0)
        rows -= mean
        spread = np.sqrt((rows**2).mean(axis=0))
        varies = spread > CONSTANT * largest
        limited = most is not None and most < columns
        unit = np.where(varies, 1.0 if limited else spread, 0.0)
        per_unit = np.divide(1.0, unit, out=np.zeros(columns), where=varies)
        rows *= per_unit
        variances, axes = _leading(rows, min(most or columns, columns))
        keep = variances > SMALLEST**2 * variances.max()
        sd, axes = np.sqrt(variances[keep]), axes[:, keep]
        turn = axes.T if len(sd) == columns else np.eye(len(sd))
        return cls(mean, per_unit[:, None] * (axes / sd @ turn), (turn.T * sd) @ axes.T * unit)

    @property
    def size(self) -> int:
        """r."""
        return self.forward.shape[1]

    @property
    def spread(self) -> np.ndarray:
        """sds (r,) of the directions, in the unit of x."""
        return np.asarray(np.linalg.norm(self.backward, axis=1))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """(n, r) float32 of rows (n, d)."""
        parts = np.array_split(x, 1 + x.size // NUMBERS)
        return np.concatenate([((part - self.mean) @ self.forward).astype(np.float32) for part in parts])

    def inverse(self, v: np.ndarray) -> np.ndarray:
        """Rows (n, d) of (n, r)."""
        return np.asarray(v, dtype=np.float64) @ self.backward + self.mean


def _leading(rows: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """The largest variances (r,), r <= ``most``, of centred rows (n, d), in ascending order, and their directions (d, r)."""
    if rows.shape[1] <= max(WIDE, 4 * most):
        variances, axes = np.linalg.eigh(rows.T @ rows / len(rows))
        return variances[-most:], axes[:, -most:]
    from sklearn.utils.extmath import randomized_svd

    _, values, directions = randomized_svd(rows.astype(np.float32), most, random_state=0)
    return np.asarray(values[::-1], dtype=np.float64) ** 2 / len(rows), directions[::-1].T.astype(np.float64)
