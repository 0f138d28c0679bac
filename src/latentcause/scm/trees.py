"""A mechanism made of boxes: what a sum of regression trees amounts to, in arrays that are quick to look up."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from latentcause.scm.mechanisms import AdditiveMechanism
from latentcause.scm.noise import Noise

MASK_BITS = 8
WHOLE_GRID = 2**20  # cells of a table (8 MB) that holds all boxes at once
BLOCK = 2**18  # bytes of masks at a time: they stay in the cache


@dataclass(frozen=True, eq=False)
class TreeMechanism(AdditiveMechanism):
    """z_j = intercept + sum_l values_l 1[z_pa(j) in box l] + noise: any sum of regression trees, a box for each leaf.

    The thresholds of all trees cut the axis of each parent into cells: cell c holds thresholds[c - 1] < z <=
    thresholds[c]. Up to three parents or so, all boxes are added up once on the grid of these cells. Where that grid is too
    large, the boxes that bound one or two parents (most, where trees are small) are added up on the grids of pairs; for the
    rest each parent's cell gives one bit per box, and the bits of eight boxes their sum. So a prediction is a search per
    parent and one or a few look-ups, and walks through no tree.

    Parameters
    ----------
    thresholds : tuple of ndarray
        One increasing array per parent, in the graph's order; empty where no tree uses the parent.
    boxes : integer ndarray (number of boxes, 2, number of parents)
        First cell of each box along each parent, and the one after its last.
    values : ndarray (number of boxes,)
        In the node's units.
    intercept, variance : float

    Raises
    ------
    ValueError
        If the shapes do not fit each other, or a box is empty or reaches beyond the cells.
    """

    thresholds: tuple[np.ndarray, ...]
    boxes: np.ndarray
    values: np.ndarray
    intercept: float = 0.0
    variance: float = 1.0
    noise: Noise = None  # type: ignore[assignment]  # set by __post_init__

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.boxes.shape != (len(self.values), 2, len(self.thresholds)):
            raise ValueError(
                f"boxes have shape {self.boxes.shape} with {len(self.values)} values and thresholds of "
                f"{len(self.thresholds)} parents: give (values, 2, parents)"
            )
        first, end = self.boxes[:, 0], self.boxes[:, 1]
        if not ((first >= 0) & (first < end) & (end <= self._cells)).all():
            raise ValueError(f"a box is empty or reaches beyond the {self._cells} cells that the thresholds make")

    def __repr__(self) -> str:
        return f"TreeMechanism({len(self.values)} boxes of {len(self.thresholds)} parents, noise {self.noise})"

    def mean(self, parents: Tensor) -> Tensor:
        """Intercept + the values of the boxes that hold the parents; the derivative is zero wherever there is one."""
        if len(self.thresholds) != parents.shape[-1]:
            raise ValueError(f"trees of {len(self.thresholds)} parents on a node with {parents.shape[-1]} parents")
        rows = parents.detach().reshape(-1, parents.shape[-1]).to(torch.float64)
        cells = [
            torch.bucketize(rows[:, k].contiguous(), torch.from_numpy(edges).to(rows.device))
            for k, edges in enumerate(self.thresholds)
        ]
        total = rows.new_full(rows.shape[:1], self.intercept)
        for bound, table in self._tables:
            place = cells[bound[0]]
            for k in bound[1:]:
                place = place * self._cells[k] + cells[k]
            total += table.to(rows.device)[place]
        if self._masks is not None:
            total += self._masks.add_up(cells)
        return total.to(parents.dtype).reshape(parents.shape[:-1])

    def mean_and_slopes(self, parents: Tensor) -> tuple[Tensor, Tensor]:
        """The mean, and zeros: it is piecewise constant."""
        return self.mean(parents), torch.zeros_like(parents)

    @property
    def _cells(self) -> tuple[int, ...]:
        return tuple(len(edges) + 1 for edges in self.thresholds)

    @cached_property
    def _bounded(self) -> np.ndarray:
        """Which parents each box bounds (boxes, parents)."""
        return (self.boxes[:, 0] > 0) | (self.boxes[:, 1] < self._cells)

    @cached_property
    def _tables(self) -> list[tuple[tuple[int, ...], Tensor]]:
        """Parents, and the sums, flat, of boxes that bound none but them, on the grid of their cells.

        One table of all boxes where the grid of all parents is small; else one for each pair of parents.
        """
        everyone = tuple(range(len(self.thresholds)))
        if math.prod(self._cells) <= WHOLE_GRID:
            return [(everyone, _grid_sums(self.boxes, self.values, self._cells))]
        few = np.flatnonzero(self._bounded.sum(axis=1) <= 2)
        if not len(few):
            return []
        first = self._bounded[few].argmax(axis=1)  # 0 where a box bounds no parent
        last = np.where(
            self._bounded[few].any(axis=1), self._bounded.shape[1] - 1 - self._bounded[few][:, ::-1].argmax(axis=1), 0
        )
        tables: list[tuple[tuple[int, ...], Tensor]] = []
        for k, m in np.unique(np.stack([first, last], axis=1), axis=0).tolist():
            rows, bound = few[(first == k) & (last == m)], (k,) if k == m else (k, m)
            shape = tuple(self._cells[j] for j in bound)
            tables.append((bound, _grid_sums(self.boxes[rows][:, :, bound], self.values[rows], shape)))
        return tables

    @cached_property
    def _masks(self) -> _Masks | None:
        many = self._bounded.sum(axis=1) > 2
        if math.prod(self._cells) <= WHOLE_GRID:
            return None
        return _Masks.of(self.boxes[many], self.values[many], self._cells) if many.any() else None


def _grid_sums(boxes: np.ndarray, values: np.ndarray, shape: tuple[int, ...]) -> Tensor:
    """Sum of the boxes on each cell of a grid, flat.

    A box puts its value at its corners with alternating signs, and running sums along every axis fill it in. These are
    sums of whole numbers, hence exact; the unit is 2^-58 of the sum of |values|.
    """
    unit = float(np.abs(values).sum()) / 2.0**58 or 1.0  # the corners of a box stay below 2^63
    whole = np.rint(values / unit).astype(np.int64)
    sums = np.zeros([size + 1 for size in shape], dtype=np.int64)
    for ends in product((0, 1), repeat=len(shape)):
        np.add.at(sums, tuple(boxes[:, end, axis] for axis, end in enumerate(ends)), whole * (-1) ** sum(ends))
    for axis in range(len(shape)):
        sums = sums.cumsum(axis=axis)
    return torch.from_numpy(sums[tuple(slice(size) for size in shape)] * unit).reshape(-1)


class _Masks(NamedTuple):
    """Sum of boxes by their bits, in groups of eight.

    Attributes
    ----------
    bits : list of Tensor (cells, groups), uint8
        For each parent: which boxes reach over the cell.
    sums : Tensor (groups * 256,)
        For each group the sum of every subset of its values.
    """

    bits: list[Tensor]
    sums: Tensor

    @classmethod
    def of(cls, boxes: np.ndarray, values: np.ndarray, cells: tuple[int, ...]) -> _Masks:
        bits = []
        for k, size in enumerate(cells):
            cell = np.arange(size)[:, None]
            over = (boxes[:, 0, k] <= cell) & (cell < boxes[:, 1, k])
            bits.append(torch.from_numpy(np.packbits(over, axis=1, bitorder="little")))
        groups = bits[0].shape[1]
        padded = np.zeros(groups * MASK_BITS)
        padded[: len(values)] = values
        subsets = np.unpackbits(np.arange(2**MASK_BITS, dtype=np.uint8)[:, None], axis=1, bitorder="little")
        return cls(bits, torch.from_numpy(padded.reshape(groups, MASK_BITS) @ subsets.T).reshape(-1))

    def add_up(self, cells: list[Tensor]) -> Tensor:
        device = cells[0].device
        bits, sums = [mask.to(device) for mask in self.bits], self.sums.to(device)
        starts = torch.arange(0, len(sums), 2**MASK_BITS, dtype=torch.int32, device=device)
        parts = []
        for block in zip(*(cell.split(max(1, BLOCK // len(starts))) for cell in cells), strict=True):
            holding = bits[0][block[0]]
            for mask, cell in zip(bits[1:], block[1:], strict=True):
                holding &= mask[cell]
            found = sums.index_select(0, (starts + holding).reshape(-1))
            parts.append(found.reshape(-1, len(starts)).sum(dim=1))
        return torch.cat(parts)
