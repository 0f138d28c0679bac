"""Matrices, sparse or known by their solver, times batches of vectors, on any device, with derivatives of any order."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property, reduce
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor


class SparseMatrix:
    """A matrix A (m, k) that multiplies vectors (..., k); copies per device and dtype are made when first needed."""

    def __init__(self, matrix: sparse.csr_matrix) -> None:
        self.matrix = matrix.copy()
        self.matrix.sum_duplicates()  # which also sorts them
        self.shape: tuple[int, int] = matrix.shape
        self._copies: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    @cached_property
    def transposed(self) -> SparseMatrix:
        """A'."""
        other = SparseMatrix(sparse.csr_matrix(self.matrix.T))
        other.__dict__["transposed"] = self
        return other

    def times(self, vectors: Tensor) -> Tensor:
        """A v (..., m) for v (..., k), in the dtype of v and on its device."""
        return _Product.apply(vectors, self)

    def mapped(self, function: Callable[[np.ndarray], np.ndarray]) -> SparseMatrix:
        """The matrix with every entry x that is not zero replaced by function(x)."""
        other = self.matrix.copy()
        other.data = function(other.data)
        return SparseMatrix(other)

    def product(self, vectors: Tensor) -> Tensor:
        """``times`` without derivatives."""
        flat = vectors.reshape(-1, vectors.shape[-1])
        copy = self._copy(flat.device, flat.dtype)
        return torch.sparse.mm(copy, flat.to(copy.dtype).T).T.to(flat.dtype).reshape(*vectors.shape[:-1], len(copy))

    def _copy(self, device: torch.device, dtype: torch.dtype) -> Tensor:
        if dtype not in (torch.float32, torch.float64):
            dtype = torch.float32  # sparse products of half precision do not exist on every device
        if (device, dtype) not in self._copies:
            coordinates = self.matrix.tocoo()
            self._copies[device, dtype] = torch.sparse_coo_tensor(
                torch.stack([torch.as_tensor(axis).long() for axis in (coordinates.row, coordinates.col)]),
                torch.as_tensor(coordinates.data).to(dtype),
                coordinates.shape,
                device=device,
                check_invariants=True,
                is_coalesced=True,
            )
        return self._copies[device, dtype]


class Kronecker:
    """A_1 (x) A_2 (x) ...: one matrix for each axis of a raster, of which only those are held.

    Parameters
    ----------
    axes : sequence of sparse matrices
        A_i (m_i, k_i) for axis i; vectors are rasters (k_1, k_2, ...) in row-major order.
    """

    def __init__(self, axes: Sequence[SparseMatrix]) -> None:
        self.axes = tuple(axes)
        rows, columns = zip(*(axis.shape for axis in self.axes), strict=True)
        self.shape: tuple[int, int] = (math.prod(rows), math.prod(columns))

    @cached_property
    def transposed(self) -> Kronecker:
        """Its transpose."""
        return Kronecker([axis.transposed for axis in self.axes])

    @cached_property
    def matrix(self) -> sparse.csr_matrix:
        """Multiplied out."""
        return sparse.csr_matrix(reduce(lambda left, right: sparse.kron(left, right, "csr"), self._matrices))

    def times(self, vectors: Tensor) -> Tensor:
        """A v (..., m) for v (..., k), in the dtype of v and on its device."""
        out = vectors.reshape(-1, *(axis.shape[1] for axis in self.axes))
        for number, axis in enumerate(self.axes, start=1):
            if not is_identity(axis.matrix):
                out = axis.times(out.movedim(number, -1)).movedim(-1, number)
        return out.reshape(*vectors.shape[:-1], self.shape[0])

    def mapped(self, function: Callable[[np.ndarray], np.ndarray]) -> Kronecker:
        """With function(x) for the entries x of each axis' matrix: for a function with f(x y) = f(x) f(y) that of the product."""
        return Kronecker([axis.mapped(function) for axis in self.axes])

    @property
    def _matrices(self) -> list[sparse.csr_matrix]:
        return [axis.matrix for axis in self.axes]


class SymmetricInverse:
    """R^-1 for a symmetric R, given by a NumPy function that solves R x = b for the columns of b (m, k)."""

    def __init__(self, solve: Callable[[np.ndarray], np.ndarray]) -> None:
        self._solve = solve

    @property
    def transposed(self) -> SymmetricInverse:
        """Itself."""
        return self

    def times(self, vectors: Tensor) -> Tensor:
        """R^-1 v for v (..., m), in the dtype of v and on its device."""
        return _Product.apply(vectors, self)

    def product(self, vectors: Tensor) -> Tensor:
        """``times`` without derivatives."""
        columns = vectors.detach().cpu().double().reshape(-1, vectors.shape[-1]).numpy().T
        return torch.as_tensor(self._solve(np.ascontiguousarray(columns)).T.copy()).reshape(vectors.shape).to(vectors)


class _Product(torch.autograd.Function):
    """A v, whose derivative in v is A; torch's own sparse product knows neither `torch.func` nor second derivatives."""

    @staticmethod
    def forward(vectors: Tensor, matrix: SparseMatrix | SymmetricInverse) -> Tensor:
        return matrix.product(vectors)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.matrix = inputs[1]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.matrix.transposed.times(gradient), None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: None) -> Tensor:
        return ctx.matrix.times(tangent)

    @staticmethod
    def vmap(
        info: Any, dims: tuple[int | None, None], vectors: Tensor, matrix: SparseMatrix | SymmetricInverse
    ) -> tuple[Tensor, int]:
        return matrix.times(vectors.movedim(dims[0] or 0, 0)), 0


def is_identity(matrix: sparse.csr_matrix) -> bool:
    """Whether a matrix is the identity."""
    n = matrix.shape[0]
    if not n == matrix.shape[1] == matrix.nnz or (matrix.data != 1).any():
        return False
    return bool((matrix.indices == np.arange(n)).all() and (matrix.indptr == np.arange(n + 1)).all())
