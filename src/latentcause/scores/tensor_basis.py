"""Tensor products of cubic B-splines as polynomials on knot cells: small sufficient statistics and fast evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from latentcause.splines import SUPPORT, UniformBSpline

DEGREES = 7
"""Powers 0 to 6 of a coordinate: all that products of two cubic pieces are made of."""

MOST_VARIABLES = 4
"""Coordinates of a basis at most: its moments are 7^p numbers a cell."""

BLOCK = 32
"""Rows of one knot cell whose moments are summed in one step, where there are many coordinates."""

ROWS = 65536
"""Rows taken at a time, which bounds the memory of their powers."""


@dataclass(frozen=True)
class Position:
    """Where n points lie: their knot cell (n,), and the powers 0 to 6 of their place in it, (n, 7) along each coordinate."""

    cell: Tensor
    powers: list[Tensor]

    def __getitem__(self, rows: Tensor | slice) -> Position:
        return Position(self.cell[rows], [power[rows] for power in self.powers])


class TensorBasis:
    """phi(u) = B(u_1) x ... x B(u_p): every product of one cubic B-spline per visible coordinate (appendix A.1).

    On a knot cell all functions are polynomials, and only 4^p are not zero. So Phi' Phi follows from the moments
    sum t_1^k_1 ... t_p^k_p of the points in every cell, by one fixed linear map per coordinate, and a spline is evaluated from
    4^p coefficients. A dense design matrix (n, functions) never exists.
    """

    def __init__(self, splines: Sequence[UniformBSpline]) -> None:
        self.splines = list(splines)
        self.size = int(np.prod([s.count for s in self.splines]))
        self.n_cells = int(np.prod([s.n_pieces for s in self.splines]))
        spread = [_spread(spline) for spline in self.splines]  # (pieces, functions, 4)
        self._values = [table.permute(1, 0, 2).flatten(1).contiguous() for table in spread]
        self._slopes = _derivative(spread[0] / self.splines[0].step).permute(1, 0, 2).flatten(1).contiguous()
        self._products = [_products(table) for table in spread]

    def locate(self, located: Sequence[tuple[Tensor, Tensor]]) -> Position:
        """Positions from the piece (n,) and `powers` (n, 7) of each coordinate, which all nodes share."""
        cell = located[0][0]
        for spline, (piece, _) in zip(self.splines[1:], located[1:], strict=True):
            cell = cell * spline.n_pieces + piece
        return Position(cell, [power for _, power in located])

    def normal_equations(
        self, position: Position, group: Tensor, n_groups: int, base: Tensor | None, weights: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Phi' W Phi (n_groups, m, m) and Psi' w + Phi' W b (n_groups, m) of each group of rows.

        Psi is the derivative of Phi along the first coordinate, b (n,) a base score (none: 0), W diagonal; ``group`` (n,) holds
        the number of each row's group.
        """
        plain = pulled = None
        for start in range(0, len(group), ROWS):
            rows = slice(start, start + ROWS)
            part, owner = position[rows], group[rows] * self.n_cells + position.cell[rows]
            own = None if weights is None else weights[rows]
            plain = _added(plain, self._moments(part.powers, own, owner, n_groups))
            if base is not None:
                low = [power[:, :SUPPORT] for power in part.powers]
                pulled = _added(
                    pulled, self._moments(low, base[rows] if own is None else base[rows] * own, owner, n_groups)
                )
        assert plain is not None
        return self._gram(plain), self._slope(plain, pulled)

    def _moments(self, powers: list[Tensor], weights: Tensor | None, owner: Tensor, n_groups: int) -> Tensor:
        """Sums of w t^k over the rows of every group and cell: (n_groups, pieces x degrees, ..., pieces x degrees)."""
        add = _added_directly if len(powers) <= 2 else _added_in_blocks
        sums = add(powers, weights, owner, n_groups * self.n_cells)
        p, degrees, pieces = len(powers), powers[0].shape[1], [s.n_pieces for s in self.splines]
        apart = sums.view(n_groups, *pieces, *[degrees] * p)
        together = apart.permute(0, *[axis for j in range(p) for axis in (1 + j, 1 + p + j)])
        return together.reshape(n_groups, *[count * degrees for count in pieces])

    def _gram(self, moments: Tensor) -> Tensor:
        products = _contract(moments, self._products)
        p, counts = len(self.splines), [s.count for s in self.splines]
        paired = products.view(len(moments), *[count for count in counts for _ in range(2)])
        apart = paired.permute(0, *range(1, 2 * p, 2), *range(2, 2 * p + 1, 2))
        return apart.reshape(len(moments), self.size, self.size)

    def _slope(self, moments: Tensor, pulled: Tensor | None) -> Tensor:
        pieces = [s.n_pieces for s in self.splines]
        low = moments.view(len(moments), *[number for count in pieces for number in (count, DEGREES)])
        low = low[(slice(None), *[slice(None), slice(SUPPORT)] * len(pieces))]
        low = low.reshape(len(moments), *[count * SUPPORT for count in pieces])
        total = _contract(low, [self._slopes, *self._values[1:]])
        if pulled is not None:
            total = total + _contract(pulled, self._values)
        return total.reshape(len(moments), self.size)

    # --- evaluation --------------------------------------------------------------------------------------------------

    def cell_polynomials(self, theta: Tensor) -> Tensor:
        """Coefficients of phi' theta (states, functions) in the powers 0 to 3 of t on every cell: (states x n_cells, 4^p)."""
        p, pieces = len(self.splines), [s.n_pieces for s in self.splines]
        local = _contract(
            theta.view(len(theta), *[s.count for s in self.splines]), [table.mT for table in self._values]
        )
        apart = local.view(len(theta), *[number for count in pieces for number in (count, SUPPORT)])
        ordered = apart.permute(0, *range(1, 2 * p, 2), *range(2, 2 * p + 1, 2))
        return ordered.reshape(len(theta) * self.n_cells, SUPPORT**p)

    def evaluate(self, polynomials: Tensor, position: Position, along: Sequence[int]) -> tuple[Tensor, list[Tensor]]:
        """Values (n,) and the derivatives (n,) along some coordinates of splines given on every point's cell (n, 4^p)."""
        p = len(self.splines)
        places = [power[:, 1] for power in position.powers]
        shaped = polynomials.view(len(polynomials), *[SUPPORT] * p)
        slopes = []
        for j in along:
            rest = shaped.movedim(1 + j, 1)
            for k in reversed([k for k in range(p) if k != j]):
                rest = _horner(rest, places[k])
            slopes.append(_horner_slope(rest, places[j]) / self.splines[j].step)
        return _horner(rest.contiguous(), places[j]), slopes


def powers(t: Tensor) -> Tensor:
    """Powers 0 to 6 of positions t (..., n): (..., n, 7)."""
    columns = [torch.ones_like(t), t]
    for _ in range(DEGREES - 2):
        columns.append(columns[-1] * t)
    return torch.stack(columns, -1)


def _added(total: Tensor | None, more: Tensor) -> Tensor:
    return more if total is None else total + more


def _added_directly(powers: list[Tensor], weights: Tensor | None, owner: Tensor, n_owners: int) -> Tensor:
    """Sum over each owner's rows of the products of the powers: every row's products are made and added."""
    products = powers[0] if weights is None else powers[0] * weights[:, None]
    for power in powers[1:]:
        products = (products[:, :, None] * power[:, None, :]).flatten(1)
    return products.new_zeros(n_owners, products.shape[1]).index_add_(0, owner, products)


def _added_in_blocks(powers: list[Tensor], weights: Tensor | None, owner: Tensor, n_owners: int) -> Tensor:
    """The same by matrix products, for many coordinates, where the products of single rows would be long.

    The rows are sorted by owner and laid out in blocks of rows of one owner, the last padded with rows of weight zero.
    """
    present, owner = torch.unique(owner, return_inverse=True)
    counts = torch.bincount(owner, minlength=len(present))
    blocks = (counts + BLOCK - 1) // BLOCK
    n_blocks = int(blocks.sum())
    order = torch.argsort(owner)
    slot = torch.repeat_interleave(_before(blocks) * BLOCK - _before(counts), counts, output_size=len(owner))
    slot = slot + torch.arange(len(owner), device=owner.device)
    source = torch.full((n_blocks * BLOCK,), -1, dtype=torch.long, device=owner.device).index_copy_(0, slot, order)
    left = (source >= 0).to(powers[0].dtype) if weights is None else torch.where(source >= 0, weights[source], 0.0)
    left = left[:, None]
    for power in powers[:-1]:
        left = (left[:, :, None] * power[source][:, None, :]).flatten(1)
    right = powers[-1][source]
    sums = torch.bmm(left.view(n_blocks, BLOCK, -1).mT, right.view(n_blocks, BLOCK, -1)).flatten(1)
    owner_of_block = torch.repeat_interleave(present, blocks, output_size=n_blocks)
    return sums.new_zeros(n_owners, sums.shape[1]).index_add_(0, owner_of_block, sums)


def _before(counts: Tensor) -> Tensor:
    """How many come before each entry's own."""
    return torch.cumsum(counts, 0) - counts


def _spread(spline: UniformBSpline) -> Tensor:
    """Coefficients (pieces, functions, 4) of all functions on every piece, zeros included."""
    first, polynomials = spline.pieces()
    table = torch.zeros(spline.n_pieces, spline.count, SUPPORT, dtype=torch.float64)
    for piece, start in enumerate(first.tolist()):
        table[piece, start : start + SUPPORT] = polynomials[piece]
    return table


def _products(table: Tensor) -> Tensor:
    """Map (functions^2, pieces x 7) from a coordinate's moments to the sums of products of two of its functions."""
    pieces, count, _ = table.shape
    result = table.new_zeros(pieces, count, count, DEGREES)
    for k in range(SUPPORT):
        result[..., k : k + SUPPORT] += table[:, :, None, k, None] * table[:, None, :, :]
    return result.permute(1, 2, 0, 3).reshape(count * count, pieces * DEGREES)


def _derivative(table: Tensor) -> Tensor:
    """Coefficients of the derivative in t of polynomials (..., 4)."""
    shifted = table[..., 1:] * torch.arange(1, SUPPORT).to(table)
    return torch.cat([shifted, torch.zeros_like(shifted[..., :1])], -1)


def _contract(tensor: Tensor, tables: list[Tensor]) -> Tensor:
    """Replace each axis of tensor (g, k_1, ..., k_p) by that of its table (a_j, k_j): -> (g, a_1, ..., a_p)."""
    for table in tables:
        # The axis in front leaves, and its new form joins at the end: after all tables the order is as it was.
        tensor = torch.movedim(tensor, 1, -1) @ table.to(tensor).mT
    return tensor


def _horner(polynomials: Tensor, t: Tensor) -> Tensor:
    """Evaluate the last axis (..., 4) of polynomials of n points at t (n,)."""
    t = t.view(len(t), *[1] * (polynomials.ndim - 2))
    result = torch.addcmul(polynomials[..., 2], polynomials[..., 3], t)
    result = torch.addcmul(polynomials[..., 1], result, t)
    return torch.addcmul(polynomials[..., 0], result, t)


def _horner_slope(polynomials: Tensor, t: Tensor) -> Tensor:
    """Derivative in t (n,) of polynomials (n, 4)."""
    result = torch.add(2 * polynomials[:, 2], 3 * polynomials[:, 3] * t)
    return torch.addcmul(polynomials[:, 1], result, t)
