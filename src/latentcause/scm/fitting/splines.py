"""Additive cubic splines by penalised least squares: one smooth curve per parent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from latentcause.scm.fitting.linear import check_rank
from latentcause.scm.fitting.table import Table, residual_noise
from latentcause.scm.mechanisms import Mechanism, SplineMechanism
from latentcause.scm.noise import Noise
from latentcause.splines import UniformBSpline

FUNCTIONS = 24
"""Cubic B-splines per parent, at most: the penalty, not their number, sets how smooth a curve is."""

STEPS = 200
SETTLED = 1e-4  # change of the effective degrees of freedom in a step
LARGEST, SMALLEST = 1e10, 1e-10  # smoothing, relative to where it starts


def fit(tables: Sequence[Table], noise: str, seed: int) -> dict[str, Mechanism]:
    """Penalised least squares of every node on one cubic spline per parent; nothing is random: ``seed`` is not used.

    Minimises sum of squares + sum_k smoothing_k |second differences of the coefficients of spline k|^2 (P-splines,
    Eilers and Marx 1996), each smoothing chosen by restricted maximum likelihood (`smoothed`). A parent with two
    values, an indicator, gets a straight line.

    Raises
    ------
    ValueError
        If parents of a node are constant or collinear; the message names the columns.
    """
    return {table.node: _fit_one(table, noise) for table in tables}


@dataclass(frozen=True)
class AdditiveDesign:
    """The columns that an additive model is linear in, each centred: a constant stands beside them.

    Attributes
    ----------
    splines : tuple of UniformBSpline
    contrasts : tuple of ndarray (functions of a spline, its columns)
        What turns a spline's columns' weights into its coefficients.
    columns : ndarray (n, sum of columns)
    penalties : tuple of ndarray (columns, columns)
        Of each spline; all zero where it is a line.
    """

    splines: tuple[UniformBSpline, ...]
    contrasts: tuple[np.ndarray, ...]
    columns: np.ndarray
    penalties: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, parents: np.ndarray) -> AdditiveDesign:
        """For parents (n, p), none of them constant."""
        splines, contrasts, columns, penalties = [], [], [], []
        for column in parents.T:
            distinct = len(np.unique(column))
            spline = UniformBSpline(*_ends(column, distinct), min(FUNCTIONS, distinct + 2))
            dense = spline.design(torch.from_numpy(np.ascontiguousarray(column))).numpy()
            centre = dense.mean(axis=0)
            if distinct == 2:  # coefficients on a line give that line
                contrast = np.arange(spline.count, dtype=float)[:, None]
                contrast -= centre @ contrast
                penalty = np.zeros((1, 1))
            else:  # all coefficients for which the spline has mean zero over the rows
                contrast = np.linalg.svd(centre[None])[2][1:].T
                penalty = contrast.T @ spline.roughness().numpy() @ contrast
            splines.append(spline)
            contrasts.append(contrast)
            columns.append(dense @ contrast)
            penalties.append(penalty)
        return cls(tuple(splines), tuple(contrasts), np.hstack(columns), tuple(penalties))

    def blocks(self) -> list[slice]:
        """Where the columns of each spline are."""
        ends = np.cumsum([0, *(contrast.shape[1] for contrast in self.contrasts)])
        return [slice(a, b) for a, b in pairwise(ends.tolist())]

    def mechanism(self, weights: np.ndarray, intercept: float, noise: Noise) -> SplineMechanism:
        """The additive model with these weights of the columns."""
        coefficients = tuple(
            tuple((contrast @ weights[block]).tolist())
            for contrast, block in zip(self.contrasts, self.blocks(), strict=True)
        )
        return SplineMechanism(self.splines, coefficients, intercept, noise=noise)


@dataclass(frozen=True)
class Smoothed:
    """A penalised least-squares fit of centred values: what its weights are, and what they are linear in.

    Attributes
    ----------
    weights : ndarray (columns,)
    inverse : ndarray (columns, columns)
        Of columns' columns + penalty: weights are inverse columns' values.
    degrees : float
        Effective degrees of freedom, the trace of the smoother.
    """

    weights: np.ndarray
    inverse: np.ndarray
    degrees: float


def smoothed(design: AdditiveDesign, values: np.ndarray) -> Smoothed:
    """The additive fit of ``values`` (n,), with the smoothing that maximises the restricted likelihood.

    From the likelihood's derivative each smoothing should be variance (rank of its penalty - smoothing tr(inverse
    penalty)) / (weights' penalty weights); repeating this raises the likelihood at every step (Wood and Fasiolo 2017,
    Eq. 6) until a curve is as smooth as the data ask, up to a straight line.
    """
    centred, n = values - values.mean(), len(values)
    gram, moment, square = design.columns.T @ design.columns, design.columns.T @ centred, float(centred @ centred)
    floor = 1e-14 * square + np.finfo(float).tiny  # values without noise leave residuals of rounding only
    blocks, ranks = design.blocks(), [np.linalg.matrix_rank(penalty) for penalty in design.penalties]
    start = np.array(
        [np.trace(gram[b, b]) / (np.trace(p) or 1.0) for b, p in zip(blocks, design.penalties, strict=True)]
    )
    smoothing, degrees = start.copy(), np.inf
    for _ in range(STEPS):
        penalised = gram.copy()
        for block, penalty, weight in zip(blocks, design.penalties, smoothing, strict=True):
            penalised[block, block] += weight * penalty
        inverse = np.linalg.inv(penalised)
        weights = inverse @ moment
        before, degrees = degrees, float((inverse * gram).sum())
        if abs(degrees - before) < SETTLED:
            break
        rss = max(square - 2 * float(weights @ moment) + float(weights @ gram @ weights), floor)
        variance = rss / max(n - 1 - degrees, 1.0)
        for k, (block, penalty, rank) in enumerate(zip(blocks, design.penalties, ranks, strict=True)):
            if rank:
                left = rank - smoothing[k] * float((inverse[block, block] * penalty).sum())
                roughness = float(weights[block] @ penalty @ weights[block])
                wanted = variance * left / max(roughness, floor / n)
                smoothing[k] = np.clip(wanted, SMALLEST * start[k], LARGEST * start[k])
    return Smoothed(weights, inverse, degrees)


def _ends(column: np.ndarray, distinct: int) -> tuple[float, float]:
    """Where a curve may bend: between these it is a spline, beyond them a line.

    They leave out the outermost half per cent of the rows on either side. A single row far out would otherwise have the last
    knots for itself, and its noise would set the slope of everything beyond.
    """
    low, high = np.quantile(column, [0.005, 0.995]) if distinct > 2 else (column.min(), column.max())
    return (float(low), float(high)) if low < high else (float(column.min()), float(column.max()))


def _fit_one(table: Table, noise: str) -> SplineMechanism:
    check_rank(table.node, table.columns, np.atleast_2d(np.cov(table.parents.T, bias=True)))
    design = AdditiveDesign.of(table.parents)
    fitted = smoothed(design, table.values)
    residuals = table.values - design.columns @ fitted.weights
    return design.mechanism(fitted.weights, float(table.values.mean()), residual_noise(table.node, residuals, noise))
