"""Increasing functions with a closed-form inverse: the links of post-nonlinear mechanisms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class MonotoneSpline:
    """A strictly increasing g from the real line onto itself, whose inverse is piecewise quadratic.

    The inverse h = g^-1 has slope ``slopes`` at the ``knots``; between them its slope is linear, beyond them constant. So
    h is increasing wherever all slopes are positive, has a continuous derivative, and g solves a quadratic equation.

    Parameters
    ----------
    knots : ndarray (k,)
        Increasing, at least two, in the units of what g returns.
    slopes : ndarray (k,)
        Positive.
    start : float
        h at the first knot.

    Raises
    ------
    ValueError
        If knots do not increase, slopes are not positive, or there are fewer than two of them or not as many.
    """

    knots: np.ndarray
    slopes: np.ndarray
    start: float = 0.0

    def __post_init__(self) -> None:
        if self.knots.ndim != 1 or self.knots.shape != self.slopes.shape or len(self.knots) < 2:
            raise ValueError(f"{self.knots.shape} knots and {self.slopes.shape} slopes: give two or more of each")
        if not (np.diff(self.knots) > 0).all():
            raise ValueError("the knots of a monotone spline must increase")
        if not ((self.slopes > 0) & np.isfinite(self.slopes)).all():
            raise ValueError("the slopes of a monotone spline must be positive")

    def __repr__(self) -> str:
        return f"MonotoneSpline({len(self.knots)} knots from {self.knots[0]:.4g} to {self.knots[-1]:.4g})"

    def __call__(self, y: Tensor) -> Tensor:
        """g(y), for any shape: the z with h(z) = y."""
        knots, slopes, heights = self._at_knots(y)
        inside = y.clamp(heights[0], heights[-1])
        k = torch.bucketize(inside.detach(), heights[1:-1])
        bend = (slopes[k + 1] - slopes[k]) / (knots[k + 1] - knots[k])
        rise = inside - heights[k]
        root = (slopes[k].square() + 2 * rise * bend).clamp(min=torch.finfo(y.dtype).tiny).sqrt()
        beyond = y - inside
        return knots[k] + 2 * rise / (slopes[k] + root) + beyond / torch.where(beyond < 0, slopes[0], slopes[-1])

    def inverse(self, z: Tensor) -> Tensor:
        """h(z), for any shape."""
        knots, slopes, heights = self._at_knots(z)
        inside = z.clamp(knots[0], knots[-1])
        k = torch.bucketize(inside.detach(), knots[1:-1])
        bend = (slopes[k + 1] - slopes[k]) / (knots[k + 1] - knots[k])
        run, beyond = inside - knots[k], z - inside
        return (
            heights[k] + run * (slopes[k] + 0.5 * run * bend) + beyond * torch.where(beyond < 0, slopes[0], slopes[-1])
        )

    def log_slope(self, z: Tensor) -> Tensor:
        """log h'(z), for any shape."""
        knots, slopes, _ = self._at_knots(z)
        inside = z.clamp(knots[0], knots[-1])
        k = torch.bucketize(inside.detach(), knots[1:-1])
        return torch.lerp(slopes[k], slopes[k + 1], (inside - knots[k]) / (knots[k + 1] - knots[k])).log()

    def _at_knots(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Knots, slopes and h there."""
        rises = np.diff(self.knots) * (self.slopes[1:] + self.slopes[:-1]) / 2
        numbers = self.knots, self.slopes, self.start + np.concatenate([[0.0], np.cumsum(rises)])
        knots, slopes, heights = (torch.from_numpy(array).to(like) for array in numbers)
        return knots, slopes, heights
