"""Matrices, sparse or known by their solver, times batches of vectors, on any device, with derivatives of any order."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor


class SparseMatrix:
    """A matrix A (m, k) that multiplies vectors (..., k); copies per device and dtype are made when first needed."""

    def __init__(self, matrix: sparse.csr_matrix) -> None:
        self._matrix = matrix
        self._copies: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    @cached_property
    def transposed(self) -> SparseMatrix:
        """A'."""
        other = SparseMatrix(sparse.csr_matrix(self._matrix.T))
        other.__dict__["transposed"] = self
        return other

    def times(self, vectors: Tensor) -> Tensor:
        """A v (..., m) for v (..., k), in the dtype of v and on its device."""
        return _Product.apply(vectors, self)

    def product(self, vectors: Tensor) -> Tensor:
        """``times`` without derivatives."""
        flat = vectors.reshape(-1, vectors.shape[-1])
        copy = self._copy(flat.device, flat.dtype)
        return torch.sparse.mm(copy, flat.to(copy.dtype).T).T.to(flat.dtype).reshape(*vectors.shape[:-1], len(copy))

    def _copy(self, device: torch.device, dtype: torch.dtype) -> Tensor:
        if dtype not in (torch.float32, torch.float64):
            dtype = torch.float32  # sparse products of half precision do not exist on every device
        if (device, dtype) not in self._copies:
            coordinates = self._matrix.tocoo()
            self._copies[device, dtype] = torch.sparse_coo_tensor(
                torch.stack([torch.as_tensor(axis).long() for axis in (coordinates.row, coordinates.col)]),
                torch.as_tensor(coordinates.data).to(dtype),
                coordinates.shape,
                device=device,
                check_invariants=True,
                is_coalesced=True,
            )
        return self._copies[device, dtype]


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
