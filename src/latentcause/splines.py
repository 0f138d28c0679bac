"""Uniform cubic B-splines by their local support: four non-zero functions at any point, linear beyond the ends."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

SUPPORT = 4
"""Cubic B-splines that are non-zero at a point."""

# Coefficients of the four cubic pieces in powers 1, t, t^2, t^3 of the position t in [0, 1] within a knot interval.
_PIECES = (
    (1 / 6, -1 / 2, 1 / 2, -1 / 6),
    (2 / 3, 0.0, -1.0, 1 / 2),
    (1 / 6, 1 / 2, 1 / 2, -1 / 2),
    (0.0, 0.0, 0.0, 1 / 6),
)


@dataclass(frozen=True)
class UniformBSpline:
    """``count`` cubic B-splines on equally spaced knots covering [low, high]; each continues as a line outside.

    They sum to one everywhere. Linear tails keep the mean or score that they build from exploding where there are no data.

    Parameters
    ----------
    low, high : float
        Ends of the interval that the basis resolves.
    count : int
        Number of basis functions, at least 4; there are ``count - 3`` knot intervals.
    """

    low: float
    high: float
    count: int

    def __post_init__(self) -> None:
        if self.count < SUPPORT:
            raise ValueError(f"a cubic spline basis needs at least {SUPPORT} functions, not {self.count}")
        if not self.low < self.high:
            raise ValueError(
                f"the interval [{self.low}, {self.high}] of a spline basis is empty: is the column constant?"
            )

    @property
    def step(self) -> float:
        """Distance of neighbouring knots."""
        return (self.high - self.low) / (self.count - SUPPORT + 1)

    def local(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Non-zero functions at every x (n,): index of the first (n,), values (n, 4) and derivatives (n, 4)."""
        inside = x.clamp(self.low, self.high)
        position = (inside - self.low) / self.step
        first = position.floor().clamp(max=self.count - SUPPORT)
        t = position - first
        powers = torch.stack([torch.ones_like(t), t, t * t, t * t * t], -1)
        slopes = torch.stack([torch.zeros_like(t), torch.ones_like(t), 2 * t, 3 * t * t], -1) / self.step
        pieces = x.new_tensor(_PIECES)
        derivatives = slopes @ pieces.T
        values = powers @ pieces.T + (x - inside)[..., None] * derivatives
        return first.long(), values, derivatives

    @property
    def n_pieces(self) -> int:
        """Number of polynomial pieces: the knot intervals and the two tails."""
        return self.count - SUPPORT + 3

    def locate(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Number of the piece that every x (n,) falls in, the left tail being 0, and the position t of x in knot steps there."""
        position = (x - self.low) / self.step
        intervals = self.count - SUPPORT + 1
        interval = position.floor().clamp(0, intervals - 1)
        piece = interval + 1 + (position >= intervals).to(x.dtype) - (position < 0).to(x.dtype)
        return piece.long(), position - interval

    def pieces(self) -> tuple[Tensor, Tensor]:
        """Index of the first of the 4 functions that are non-zero on each piece, and their coefficients (n_pieces, 4, 4).

        Entry [., a, k] is the coefficient of t^k of function ``first + a``, with t as in `locate`.
        """
        inner = torch.tensor(_PIECES, dtype=torch.float64)
        powers = torch.arange(SUPPORT, dtype=torch.float64)
        left, right = torch.zeros_like(inner), torch.zeros_like(inner)
        left[:, :2] = inner[:, :2]
        right[:, 1] = inner @ powers
        right[:, 0] = inner.sum(1) - right[:, 1]
        intervals = self.count - SUPPORT + 1
        first = torch.tensor([0, *range(intervals), intervals - 1])
        return first, torch.stack([left, *[inner] * intervals, right])

    def design(self, x: Tensor) -> Tensor:
        """All basis functions at every x (n,), as a dense matrix (n, count)."""
        first, values, _ = self.local(x)
        dense = x.new_zeros(*x.shape, self.count)
        return dense.scatter_(-1, first[..., None] + torch.arange(SUPPORT, device=x.device), values)

    def roughness(self) -> Tensor:
        """Second-difference penalty (count, count) of P-splines (Eilers and Marx 1996); straight lines cost nothing."""
        differences = torch.diff(torch.eye(self.count, dtype=torch.float64), n=2, dim=0)
        return differences.T @ differences
