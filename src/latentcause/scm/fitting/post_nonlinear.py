"""Post-nonlinear mechanisms by maximum likelihood: a smooth additive model of an increasing function of the node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.special import ndtr, ndtri

from latentcause.scm.fitting.linear import check_rank
from latentcause.scm.fitting.splines import AdditiveDesign, Smoothed, smoothed
from latentcause.scm.fitting.table import Table, residual_noise
from latentcause.scm.mechanisms import Mechanism
from latentcause.scm.monotone import MonotoneSpline
from latentcause.scm.post_nonlinear import PostNonlinearMechanism

KNOTS = (1, 2, 4, 6, 8, 12, 16, 24)
"""Numbers of knots of the link that are tried; one slope makes it a line, hence the mechanism additive."""

OUTSIDE = 2.0  # rows beyond the outer knots, on each side
TURNS = 50
SETTLED = 1e-4  # gain in log-likelihood of a turn, in nats per row


def fit(tables: Sequence[Table], noise: str, seed: int) -> dict[str, Mechanism]:
    """Maximum likelihood of h(z_j) = m_j(z_pa(j)) + u_j with u_j Gaussian, h increasing and m_j additive in the parents.

    h is a `MonotoneSpline` with knots at quantiles of the node, m_j a penalised spline per parent as in the "spline" kind.
    For given smoothing of m_j the log-likelihood - d'Gd / 2 + sum_i log h'(z_i) is concave in the slopes d of h at its
    knots, where d'Gd is the penalised sum of squares that the best m_j leaves; Newton's method finds its only maximum.
    This alternates with restricted maximum likelihood for the smoothing. The number of knots is the one with the smallest
    BIC. The scale of h is free: h keeps its outer knots in place. Nothing is random: ``seed`` is not used.

    The residuals become noise of any kind, but h is right only in so far as the noise is near to Gaussian.

    Raises
    ------
    ValueError
        If parents of a node are constant or collinear; the message names the columns.
    """
    return {table.node: _fit_one(table, noise) for table in tables}


@dataclass(frozen=True)
class _LinkDesign:
    """What h and h' are linear in: the slopes at the knots.

    Attributes
    ----------
    knots : ndarray (max(k, 2),)
    values, derivatives : ndarray (n, k)
        Of h - h(first knot) and of h', per unit of each of k slopes; one slope stands for that of a line.
    """

    knots: np.ndarray
    values: np.ndarray
    derivatives: np.ndarray

    @classmethod
    def of(cls, z: np.ndarray, count: int) -> Self:
        """Knots at quantiles of z (n,) that are equally far apart on the scale of a Gaussian z."""
        reach = ndtri(1 - min(0.25, OUTSIDE / len(z)))
        knots = np.unique(np.quantile(z, ndtr(np.linspace(-reach, reach, max(count, 2)))))
        if len(knots) < 2:
            knots = np.array([z.min(), z.max()])
        inside, hats = np.clip(z, knots[0], knots[-1]), np.eye(len(knots))
        k = np.searchsorted(knots[1:-1], inside)
        rows, widths = np.arange(len(z)), np.diff(knots)
        share = (inside - knots[k]) / widths[k]
        derivatives = np.zeros((len(z), len(knots)))
        derivatives[rows, k], derivatives[rows, k + 1] = 1 - share, share
        areas = widths[:, None] * (hats[1:] + hats[:-1]) / 2
        values = np.concatenate([np.zeros((1, len(knots))), np.cumsum(areas, axis=0)])[k]
        values[rows, k] += widths[k] * (share - share**2 / 2)
        values[rows, k + 1] += widths[k] * share**2 / 2
        values += (z - inside)[:, None] * derivatives
        if count == 1:
            values, derivatives = values.sum(axis=1, keepdims=True), np.ones((len(z), 1))
        return cls(knots, values, derivatives)


@dataclass(frozen=True)
class _Fitted:
    """A link, the smooth model of what it makes of the node, and the BIC of both (smaller is better)."""

    link: _LinkDesign
    slopes: np.ndarray
    smooth: Smoothed
    criterion: float


def _fit_one(table: Table, noise: str) -> PostNonlinearMechanism:
    check_rank(table.node, table.columns, np.atleast_2d(np.cov(table.parents.T, bias=True)))
    design = AdditiveDesign.of(table.parents)
    best = min((_fit_link(design, table.values, count) for count in KNOTS), key=lambda fitted: fitted.criterion)
    knots = best.link.knots
    slopes = np.resize(best.slopes, len(knots))
    unit = (knots[-1] - knots[0]) / float(np.diff(knots) @ (slopes[1:] + slopes[:-1]) / 2)
    link = MonotoneSpline(knots, slopes * unit, float(knots[0]))
    heights = knots[0] + best.link.values @ (best.slopes * unit)
    weights = best.smooth.weights * unit
    residuals = heights - heights.mean() - design.columns @ weights
    inner = design.mechanism(weights, float(heights.mean()), residual_noise(table.node, residuals, noise))
    return PostNonlinearMechanism(inner, link)


def _fit_link(design: AdditiveDesign, z: np.ndarray, count: int) -> _Fitted:
    """The fit with this many knots."""
    link, n = _LinkDesign.of(z, count), len(z)
    centred = link.values - link.values.mean(axis=0)
    slopes = np.full(link.values.shape[1], 1 / z.std())
    before = -np.inf
    for _ in range(TURNS):
        smooth = smoothed(design, centred @ slopes)
        projected = design.columns.T @ centred
        gram = centred.T @ centred
        gram = gram - projected.T @ smooth.inverse @ projected + 1e-10 * gram
        slopes = _newton(gram, link.derivatives, slopes)
        residuals = centred @ slopes - design.columns @ (smooth.inverse @ (projected @ slopes))
        variance = float(residuals @ residuals) / n
        likelihood = float(np.log(link.derivatives @ slopes).sum()) - 0.5 * n * (np.log(2 * np.pi * variance) + 1)
        if likelihood - before < SETTLED * n:
            break
        before = likelihood
    smooth = smoothed(design, centred @ slopes)
    return _Fitted(link, slopes, smooth, np.log(n) * (len(slopes) + smooth.degrees) - 2 * likelihood)


def _newton(gram: np.ndarray, derivatives: np.ndarray, slopes: np.ndarray) -> np.ndarray:
    """The positive slopes d that minimise d'gram d / 2 - sum log(derivatives d) - sum log d, a convex function.

    The last term counts as much as a row at each knot, and keeps slopes positive where there are none.
    """
    rows = np.vstack([derivatives, np.eye(len(slopes))])

    def value(d: np.ndarray) -> float:
        return float(d @ gram @ d / 2 - np.log(rows @ d).sum())

    current = value(slopes)
    for _ in range(100):
        pulls = rows / (rows @ slopes)[:, None]
        gradient = gram @ slopes - pulls.sum(axis=0)
        step = -np.linalg.solve(gram + pulls.T @ pulls, gradient)
        if -gradient @ step < 1e-8:
            break
        shrinking = step < 0
        size = min(1.0, 0.95 * float(np.min(-slopes[shrinking] / step[shrinking], initial=np.inf)))
        while (candidate := value(slopes + size * step)) > current + 0.25 * size * float(
            gradient @ step
        ) and size > 1e-9:
            size /= 2
        slopes, current = slopes + size * step, candidate
    return slopes
