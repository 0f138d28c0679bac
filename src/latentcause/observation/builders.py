"""Builders of linear operators: means of blocks and areas, blurs, masks, points, a user's linear function.

Positions are in units of the field's pixels: pixel i spans i to i + 1 along its axis, so its centre is at i + 1/2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from latentcause.observation.grids import Grid
from latentcause.observation.matrices import Kronecker, SparseMatrix
from latentcause.observation.operators import LinearOperator

Shape = tuple[int, ...]
ROUNDING = 1e-9
"""In pixels: positions that differ by less are the same."""

PROBED_PIXELS = 10_000
"""``linear`` asks its function about each pixel in turn: fields are smaller than this."""


def identity(shape: Shape) -> LinearOperator:
    """Every pixel is a cell."""
    return LinearOperator([], _checked(shape), _checked(shape))


def block_mean(
    shape: Shape, ratio: float | Sequence[float], offset: float | Sequence[float] = 0.0, *, partial: bool = False
) -> LinearOperator:
    """Means over blocks of ``ratio`` pixels, one beginning at ``offset``: block k spans offset + ratio k to offset + ratio (k + 1).

    Parameters
    ----------
    shape : tuple of int
    ratio, offset : float, or one per axis
        In pixels; they need not be whole: a pixel counts by the share of it that is in the block.
    partial : bool
        Whether blocks that the field cuts off count as cells too, with the mean of what is left of them. Otherwise only
        whole blocks do, and pixels beside them are not seen.

    Raises
    ------
    ValueError
        For a ratio that is not positive, or a field without a whole block.
    """
    shape = _checked(shape)
    edges = []
    for n, size, start in zip(shape, _per_axis(ratio, shape, "ratio"), _per_axis(offset, shape, "offset"), strict=True):
        if not 0 < size < math.inf:
            raise ValueError(f"ratio={ratio}: a block needs a positive number of pixels")
        first, last = math.ceil(-start / size - ROUNDING), math.floor((n - start) / size + ROUNDING)
        axis = start + size * np.arange(first, last + 1)
        if partial:
            axis = np.concatenate([[0.0] if first > last or axis[0] > ROUNDING else [], axis])
            axis = np.concatenate([axis, [float(n)] if axis[-1] < n - ROUNDING else []])
        if len(axis) < 2:
            raise ValueError(
                f"a field of shape {shape} has no whole block of {size:g} pixels: give smaller blocks or partial=True"
            )
        edges.append(axis)
    return area_mean(shape, edges)


def area_mean(shape: Shape, edges: Sequence[Any]) -> LinearOperator:
    """Means over the cells between given edges, each pixel weighted by the share of the cell that it fills.

    Parameters
    ----------
    shape : tuple of int
    edges : one array per axis
        Edges of the cells along that axis in pixels, rising or falling, k + 1 of them for k cells.

    Raises
    ------
    ValueError
        For edges outside the field, not finite or not monotone, and another number of axes.
    """
    shape, grid = _checked(shape), Grid(tuple(edges))
    if len(grid.edges) != len(shape):
        raise ValueError(f"edges along {len(grid.edges)} axes for a field of shape {shape}: give one array per axis")
    for number, (axis, n) in enumerate(zip(grid.edges, shape, strict=True)):
        if axis.min() < -ROUNDING or axis.max() > n + ROUNDING:
            raise ValueError(
                f"cells along axis {number} span {axis.min():g} to {axis.max():g} pixels, outside the field of 0 to {n}: crop "
                "the observation or enlarge the field"
            )
    overlaps = [_overlaps(axis, n) for axis, n in zip(grid.edges, shape, strict=True)]
    return LinearOperator([Kronecker(overlaps)], shape, grid.shape)


def between(field: Grid, cells: Grid, keep: Any = None) -> LinearOperator:
    """Means over the cells of one grid of a field on another, whatever their sizes, offsets and directions.

    Parameters
    ----------
    field, cells : Grid
    keep : array of bool of the shape of the cells, optional
        Which cells there are, such as ``field.covers(cells)``; all of them by default.

    Raises
    ------
    ValueError
        For other axes or coordinate systems, and cells that do not lie within the field.
    """
    covered = field.covers(cells)
    wanted = np.ones(cells.shape, dtype=bool) if keep is None else np.asarray(keep, dtype=bool)
    outside = int((wanted & ~covered).sum())
    if outside:
        raise ValueError(
            f"{outside} of {wanted.sum()} cells lie outside the field, wholly or in part: crop the observation or enlarge the field"
        )
    overlaps = [_overlaps(axis, n) for axis, n in zip(field.edges_in_pixels(cells), field.shape, strict=True)]
    operator = LinearOperator([Kronecker(overlaps)], field.shape, cells.shape)
    return operator if wanted.all() else operator.rows(wanted.ravel())


def gaussian_blur(shape: Shape, sd: float | Sequence[float]) -> LinearOperator:
    """A Gaussian point spread of standard deviation ``sd`` pixels, cut off at 4 sd: one cell per pixel.

    Weights are renormalised at the border, so that a constant field stays what it is.

    Raises
    ------
    ValueError
        For a negative or infinite ``sd``.
    """
    shape = _checked(shape)
    widths = _per_axis(sd, shape, "sd")
    if not all(0 <= width < math.inf for width in widths):
        raise ValueError(f"sd={sd}: the width of a point spread is at least 0 pixels")
    return LinearOperator([Kronecker([_blur(n, width) for n, width in zip(shape, widths, strict=True)])], shape, shape)


def cells(mask: Any) -> LinearOperator:
    """The pixels where a mask (*shape) is true, in row-major order.

    Raises
    ------
    ValueError
        For a mask that is not boolean or nowhere true.
    """
    chosen = np.asarray(mask)
    if chosen.dtype != bool or not chosen.any():
        raise ValueError("a mask of cells is an array of bool that is true somewhere")
    return identity(chosen.shape).rows(chosen.ravel())


def points(shape: Shape, coordinates: Any) -> LinearOperator:
    """The field at points, interpolated linearly between the centres of pixels (bilinear in two dimensions).

    Parameters
    ----------
    shape : tuple of int
    coordinates : array (k, number of axes)
        In pixels: (i + 1/2, j + 1/2) is the centre of pixel (i, j). Up to half a pixel beyond the outermost centres the field
        goes on as it is there.

    Raises
    ------
    ValueError
        For points outside the field (the first is named), not finite, or with another number of coordinates.
    """
    shape = _checked(shape)
    at = np.asarray(coordinates, dtype=np.float64)
    if at.ndim != 2 or at.shape[1] != len(shape) or not len(at):
        raise ValueError(f"points have shape {at.shape}: give (k, {len(shape)}) for a field of shape {shape}")
    outside = np.logical_not(((at >= 0) & (at <= shape)).all(axis=1))
    if outside.any():
        first = int(outside.argmax())
        raise ValueError(
            f"{outside.sum()} points lie outside the field of shape {shape} (first: point {first} at {tuple(at[first].tolist())}): "
            "remove them or enlarge the field"
        )
    number, weight = np.zeros((len(at), 1), dtype=np.int64), np.ones((len(at), 1))
    for axis, n in enumerate(shape):
        left = np.clip(at[:, axis] - 0.5, 0, n - 1)
        below = np.minimum(left.astype(np.int64), max(n - 2, 0))
        pair = np.stack([below, np.minimum(below + 1, n - 1)], axis=1)
        share = np.stack([1 - (left - below), left - below], axis=1)
        number = (number[:, :, None] * n + pair[:, None, :]).reshape(len(at), -1)
        weight = (weight[:, :, None] * share[:, None, :]).reshape(len(at), -1)
    rows = np.repeat(np.arange(len(at)), number.shape[1])
    matrix = sparse.coo_matrix((weight.ravel(), (rows, number.ravel())), shape=(len(at), math.prod(shape))).tocsr()
    matrix.eliminate_zeros()
    return LinearOperator([matrix], shape)


def linear(function: Callable[[Tensor], Tensor], shape: Shape) -> LinearOperator:
    """The matrix of a linear function of small fields, found by asking it about each pixel.

    Parameters
    ----------
    function : callable
        Takes fields ``(n, *shape)``, float64, and returns ``(n, *grid)``.
    shape : tuple of int
        Of at most 10,000 pixels in all; larger fields take a `FunctionOperator`, or a `LinearOperator` from a sparse matrix.

    Raises
    ------
    ValueError
        For a larger field, or a function that is not linear: f(0) is not 0, or f(a + b) is not f(a) + f(b).
    """
    shape = _checked(shape)
    pixels = math.prod(shape)
    if pixels > PROBED_PIXELS:
        raise ValueError(
            f"a field of {pixels} pixels is too large to ask about each (at most {PROBED_PIXELS}): use FunctionOperator"
        )
    with torch.no_grad():
        seen = function(torch.eye(pixels, dtype=torch.float64).reshape(pixels, *shape))
        trial = torch.cos(torch.arange(2.0 * pixels, dtype=torch.float64)).reshape(2, *shape)
        answer = function(torch.cat([trial, torch.zeros_like(trial)])).reshape(4, -1)
    matrix = seen.reshape(pixels, -1).T
    expected = torch.cat([trial.reshape(2, -1) @ matrix.T, answer.new_zeros(2, answer.shape[1])])
    if not torch.allclose(answer, expected, rtol=1e-6, atol=1e-6 * float(matrix.abs().max())):
        raise ValueError("the function is not linear in the field: use FunctionOperator")
    return LinearOperator([sparse.csr_matrix(matrix.numpy())], shape, tuple(seen.shape[1:]) or (1,))


def _overlaps(edges: np.ndarray, n: int) -> SparseMatrix:
    """(cells, n): the share of each cell that each pixel fills."""
    low, high = np.minimum(edges[1:], edges[:-1]), np.maximum(edges[1:], edges[:-1])
    low, high = np.clip(low, 0, n), np.clip(high, 0, n)
    first, last = np.floor(low).astype(np.int64), np.ceil(high).astype(np.int64)
    counts = np.maximum(last - first, 0)
    rows = np.repeat(np.arange(len(low)), counts)
    columns = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + first[rows]
    shared = np.minimum(high[rows], columns + 1) - np.maximum(low[rows], columns)
    share = shared / (high - low)[rows]
    used = shared > 0
    return SparseMatrix(sparse.csr_matrix((share[used], (rows[used], columns[used])), shape=(len(low), n)))


def _blur(n: int, sd: float) -> SparseMatrix:
    reach = min(math.ceil(4 * sd), n - 1)
    steps = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (steps / sd) ** 2) if sd > 0 else np.ones(1)
    matrix = sparse.diags([np.full(n - abs(k), w) for k, w in zip(steps, weights, strict=True)], steps, shape=(n, n))
    return SparseMatrix(sparse.csr_matrix(sparse.diags(1 / np.asarray(matrix.sum(axis=1)).ravel()) @ matrix))


def _per_axis(value: float | Sequence[float], shape: Shape, name: str) -> tuple[float, ...]:
    values = (
        tuple(float(v) for v in np.broadcast_to(np.asarray(value, dtype=np.float64), (len(shape),)))
        if np.size(value) in (1, len(shape))
        else ()
    )
    if not values:
        raise ValueError(f"{name}={value} for a field of shape {shape}: give one number, or one per axis")
    return values


def _checked(shape: Shape) -> Shape:
    if not shape or any(int(n) != n or n < 1 for n in shape):
        raise ValueError(f"shape={shape}: give the number of pixels along each axis, at least 1")
    return tuple(int(n) for n in shape)
