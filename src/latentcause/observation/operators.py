"""Operators: what the cells of an observation see of a field."""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from latentcause.observation.matrices import Kronecker, SparseMatrix, is_identity

Factor = SparseMatrix | Kronecker


class Operator(ABC):
    """Maps a field (..., *shape) to the m numbers (..., m) that the cells of an observation see of it.

    Attributes
    ----------
    shape : tuple of int
        Of the field.
    grid : tuple of int
        Shape of the observed cells, whose product is m; cells are numbered in row-major order.
    """

    shape: tuple[int, ...]
    grid: tuple[int, ...]

    @property
    def size(self) -> int:
        """m, the number of cells."""
        return math.prod(self.grid)

    @property
    def pixels(self) -> int:
        """Number of pixels of a field."""
        return math.prod(self.shape)

    @abstractmethod
    def __call__(self, field: Tensor) -> Tensor:
        """What the cells see, (..., m), in the field's dtype and on its device.

        Raises
        ------
        ValueError
            For a field of another shape.
        """

    @abstractmethod
    def tangent(self, field: Tensor, direction: Tensor) -> Tensor:
        """J u (..., m): the derivative at ``field`` (..., *shape) along ``direction`` u of that shape."""

    @abstractmethod
    def pullback(self, field: Tensor, cells: Tensor) -> Tensor:
        """J' v (..., *shape): the transposed derivative at ``field`` (..., *shape), for v (..., m)."""

    @abstractmethod
    def rows(self, keep: Any) -> Operator:
        """The operator of some cells only: a mask or cell numbers. Its grid is (number of cells,)."""

    def __matmul__(self, first: Operator) -> Operator:
        """``a @ b``: apply b, then a to the cells of b as to a field.

        Raises
        ------
        ValueError
            Where the cells of b are not of the shape that a takes.
        """
        if not isinstance(first, Operator):
            return NotImplemented
        if first.grid != self.shape and (first.size,) != self.shape:
            raise ValueError(
                f"the operator on the left takes fields of shape {self.shape}, the one on the right gives {first.grid}: "
                "they must agree"
            )
        if isinstance(self, LinearOperator) and isinstance(first, LinearOperator):
            return LinearOperator([*self.factors, *first.factors], first.shape, self.grid)
        return FunctionOperator(lambda z: self(first(z).reshape(-1, *self.shape)), first.shape)

    def checked(self, field: Tensor) -> Tensor:
        """The field, where its shape is (..., *shape)."""
        if field.ndim < len(self.shape) or tuple(field.shape[field.ndim - len(self.shape) :]) != self.shape:
            raise ValueError(f"the operator takes fields of shape (..., {_text(self.shape)}), not {tuple(field.shape)}")
        return field


class LinearOperator(Operator):
    """A z for a sparse matrix A (m, pixels), given as a product of sparse matrices A_1 A_2 ... A_k, the last applied first.

    It never changes. Products stay unmultiplied where that is cheaper, and a matrix that treats each axis of a raster by
    itself is held as one small matrix per axis (`Kronecker`). Derivatives of any order, forward and backward, go through it,
    and `torch.func` transforms it.

    Parameters
    ----------
    factors : sequence of sparse matrices, arrays or Kronecker products
        Float64; none means the identity.
    shape : tuple of int
        Of the field.
    grid : tuple of int, optional
        Shape of the observed cells; (m,) where there is none.

    Raises
    ------
    ValueError
        For matrices that do not fit one another or the shapes, entries that are not finite, or no cell.
    """

    def __init__(self, factors: Any, shape: tuple[int, ...], grid: tuple[int, ...] | None = None) -> None:
        self.shape = tuple(int(n) for n in shape)
        self.factors = _shortened([_as_factor(factor) for factor in factors])
        wanted = self.pixels
        for factor in reversed(self.factors):
            if factor.shape[1] != wanted:
                raise ValueError(f"a matrix of the operator has {factor.shape[1]} columns: {wanted} are needed")
            if not all(np.isfinite(part.matrix.data).all() for part in _parts(factor)):
                raise ValueError("a matrix of the operator has entries that are NaN or infinite")
            wanted = factor.shape[0]
        self.grid = (wanted,) if grid is None else tuple(int(n) for n in grid)
        if self.size != wanted or not wanted:
            raise ValueError(f"the operator has {wanted} cells, which do not make a grid of shape {self.grid}")

    def __call__(self, field: Tensor) -> Tensor:
        """A z (..., m) of fields z (..., *shape), in their dtype and on their device.

        Raises
        ------
        ValueError
            For a field of another shape.
        """
        out = self.checked(field).flatten(field.ndim - len(self.shape))
        for factor in reversed(self.factors):
            out = factor.times(out)
        return out

    def adjoint(self, cells: Tensor) -> Tensor:
        """A' v (..., *shape) for v (..., m).

        Raises
        ------
        ValueError
            Where the last dimension is not m.
        """
        if not cells.ndim or cells.shape[-1] != self.size:
            raise ValueError(f"the operator has {self.size} cells: their values have shape {tuple(cells.shape)}")
        out = cells
        for factor in self.factors:
            out = factor.transposed.times(out)
        return out.reshape(*cells.shape[:-1], *self.shape)

    def tangent(self, field: Tensor, direction: Tensor) -> Tensor:
        """A u, wherever the field is."""
        return self(direction)

    def pullback(self, field: Tensor, cells: Tensor) -> Tensor:
        """A' v, wherever the field is."""
        return self.adjoint(cells)

    def rows(self, keep: Any) -> LinearOperator:
        """The operator of some cells only: a mask or cell numbers. Its grid is (number of cells,)."""
        numbers = np.arange(self.size)[keep]
        return LinearOperator([sparse.identity(self.size, format="csr")[numbers], *self.factors], self.shape)

    def pseudo_inverse(self, cells: Tensor, tolerance: float = 1e-8, steps: int = 1000) -> Tensor:
        """A+ y (..., *shape): among the fields that minimise |A z - y| the one of least norm, for y (..., m).

        In closed form where no pixel is seen by two cells (A A' is diagonal), else by conjugate gradients on A'A z = A'y
        from zero (CGLS: Björck, Numerical methods for least squares problems, 1996, section 7.4) until |A'(y - A z)| <=
        ``tolerance`` |A'y|. Directions that A nearly wipes out are left at zero when that is reached: a blur of many
        pixels is undone as far as the tolerance allows, not to the last digit.

        Warns
        -----
        RuntimeWarning
            Where ``steps`` steps do not reach the tolerance.
        """
        if self.disjoint:
            norms = self._through(np.square, torch.ones(self.pixels, dtype=torch.float64)).to(cells)
            return self.adjoint(torch.where(norms > 0, cells / norms.where(norms > 0, 1.0), 0.0))
        return least_squares(self, self.adjoint, cells, tolerance, steps)

    @cached_property
    def matrix(self) -> sparse.csr_matrix:
        """A as one sparse matrix (m, pixels), multiplied out."""
        product = sparse.identity(self.pixels, format="csr")
        for factor in reversed(self.factors):
            product = factor.matrix @ product
        return sparse.csr_matrix(product)

    @property
    def footprint(self) -> np.ndarray:
        """Boolean (*shape): the pixels that some cell sees."""
        return (self._cells_per_pixel > 0).reshape(self.shape)

    @property
    def disjoint(self) -> bool:
        """Whether no pixel is seen by two cells, so that A A' is diagonal."""
        return bool((self._cells_per_pixel <= 1).all())

    @cached_property
    def _cells_per_pixel(self) -> np.ndarray:
        """How many cells see each pixel (pixels,), or through how many paths where there are several factors."""
        counts = torch.ones(self.size, dtype=torch.float64)
        for factor in self.factors:
            counts = factor.mapped(np.ones_like).transposed.times(counts)
        return counts.numpy()

    def _through(self, function: Callable[[np.ndarray], np.ndarray], field: Tensor) -> Tensor:
        """What the cells see of a flat field where every entry x of the factors is function(x)."""
        for factor in reversed(self.factors):
            field = factor.mapped(function).times(field)
        return field

    def __repr__(self) -> str:
        return f"LinearOperator: field {_text(self.shape)} -> cells {_text(self.grid)}"


class FunctionOperator(Operator):
    """What a differentiable function of the field gives, such as a travel time or a product of pixels.

    Parameters
    ----------
    function : callable
        Takes fields ``(n, *shape)`` and returns numbers ``(n, *grid)``; made of torch operations, each row from its own field.
    shape : tuple of int
        Of the field.

    Raises
    ------
    ValueError
        Where the function does not return one row for each field.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> None:
        self.function, self.shape = function, tuple(int(n) for n in shape)
        seen = function(torch.zeros(2, *self.shape, dtype=torch.float64))
        if not isinstance(seen, Tensor) or seen.ndim < 1 or len(seen) != 2 or not seen.numel():
            found = tuple(seen.shape) if isinstance(seen, Tensor) else type(seen).__name__
            raise ValueError(f"the function gives {found} for fields (2, {_text(self.shape)}): it must give (2, cells)")
        self.grid = tuple(seen.shape[1:]) or (1,)

    def __call__(self, field: Tensor) -> Tensor:
        """What the function gives, as (..., m).

        Raises
        ------
        ValueError
            For a field of another shape.
        """
        leading = self.checked(field).shape[: field.ndim - len(self.shape)]
        return self.function(field.reshape(-1, *self.shape)).reshape(*leading, self.size)

    def tangent(self, field: Tensor, direction: Tensor) -> Tensor:
        """J u (..., m) at ``field``, by differentiating J'v in v."""
        return torch.autograd.functional.jvp(self, field, direction, create_graph=torch.is_grad_enabled())[1]

    def pullback(self, field: Tensor, cells: Tensor) -> Tensor:
        """J' v (..., *shape) at ``field``, by backward differentiation."""
        return torch.func.vjp(self, field)[1](cells)[0]

    def rows(self, keep: Any) -> FunctionOperator:
        """The operator of some cells only: a mask or cell numbers."""
        numbers = torch.as_tensor(np.arange(self.size)[keep])
        return FunctionOperator(lambda z: self(z)[..., numbers.to(z.device)], self.shape)

    def __repr__(self) -> str:
        name = getattr(self.function, "__name__", type(self.function).__name__)
        return f"FunctionOperator({name}): field {_text(self.shape)} -> cells {_text(self.grid)}"


def least_squares(
    times: Callable[[Tensor], Tensor],
    adjoint: Callable[[Tensor], Tensor],
    cells: Tensor,
    tolerance: float = 1e-8,
    steps: int = 1000,
) -> Tensor:
    """The field of least norm among those that minimise |A z - y| for y (..., m), with A and A' as functions.

    See `LinearOperator.pseudo_inverse`, which also says when it warns. Each leading row has its own step sizes.
    """
    residual, gradient = cells, adjoint(cells)
    axes = tuple(range(cells.ndim - 1, gradient.ndim))
    direction, z = gradient, torch.zeros_like(gradient)
    size = gradient.square().sum(axes, keepdim=True)
    goal = size * tolerance**2
    for _ in range(steps):
        left = size > goal
        if not left.any():
            return z
        seen = times(direction)
        step = (size / seen.square().sum(-1).reshape(size.shape).where(left, 1.0)).where(left, 0.0)
        z = z + step * direction
        residual = residual - step.reshape(*seen.shape[:-1], 1) * seen
        gradient = adjoint(residual)
        new = gradient.square().sum(axes, keepdim=True)
        direction = gradient + (new / size.where(left, 1.0)).where(left, 0.0) * direction
        size = new.where(left, size)
    if (size > goal).any():
        short = (size / goal).max().sqrt().item() * tolerance
        warnings.warn(
            f"the pseudo-inverse came to {short:.1e} in {steps} steps, not to the tolerance {tolerance:.1e}: allow more",
            RuntimeWarning,
            stacklevel=3,
        )
    return z


def _as_factor(given: Any) -> Factor:
    return given if isinstance(given, Factor) else SparseMatrix(sparse.csr_matrix(given, dtype=np.float64))


def _parts(factor: Factor) -> tuple[SparseMatrix, ...]:
    return factor.axes if isinstance(factor, Kronecker) else (factor,)


def _shortened(factors: list[Factor]) -> tuple[Factor, ...]:
    """The same product with identities left out, and neighbours multiplied where that takes no more work."""
    kept: list[Factor] = []
    for factor in factors:
        if all(is_identity(part.matrix) for part in _parts(factor)):
            continue
        if kept and isinstance(kept[-1], SparseMatrix) and isinstance(factor, SparseMatrix):
            product = _cheaper_product(kept[-1].matrix, factor.matrix)
            if product is not None:
                kept[-1] = SparseMatrix(product)
                continue
        kept.append(factor)
    return tuple(kept)


def _cheaper_product(left: sparse.csr_matrix, right: sparse.csr_matrix) -> sparse.csr_matrix | None:
    """``left @ right`` where it has no more entries than both together (bounded first, so that no large product is made)."""
    if left.shape[1] != right.shape[0]:
        return None
    entries = np.diff(right.indptr)[left.indices].sum()  # of the product, where none coincide
    if entries > 4 * (left.nnz + right.nnz):
        return None
    product = sparse.csr_matrix(left @ right)
    return product if product.nnz <= left.nnz + right.nnz else None


def _text(shape: tuple[int, ...]) -> str:
    return " x ".join(str(n) for n in shape)
