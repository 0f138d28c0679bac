"""CorrelatedError: Gaussian errors that neighbouring cells share."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.linalg import SuperLU, splu
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist
from torch import Tensor

from latentcause.observation.likelihoods import Likelihood, noise_like, refuse
from latentcause.observation.matrices import SparseMatrix, SymmetricInverse

NOT_POSITIVE = "the noise covariance is not positive definite: add a variance to its diagonal, or use another kernel"


@dataclass(frozen=True, eq=False)
class CorrelatedError(Likelihood):
    """y = seen + e, e ~ N(0, R) over all m cells together.

    Parameters
    ----------
    covariance : array or tensor (m, m), or sparse matrix
        R. Of a raster's cells keep it sparse: ``from_kernel`` with a reach.

    Raises
    ------
    ValueError
        For a matrix that is not square, finite and symmetric, a variance that is not positive, and a covariance that is
        not positive definite (of a sparse one that shows when it is first factorised).
    """

    covariance: Any = field(repr=False)
    is_gaussian = True

    def __post_init__(self) -> None:
        given = self.covariance.detach().cpu().numpy() if isinstance(self.covariance, Tensor) else self.covariance
        if sparse.issparse(given):
            matrix: Any = sparse.csr_matrix(given, dtype=np.float64)
            entries = matrix.data
        else:
            matrix = np.array(given, dtype=np.float64)
            entries = matrix
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.shape[0]:
            raise ValueError(f"a noise covariance of shape {matrix.shape}: give (m, m)")
        if not np.isfinite(entries).all():
            raise ValueError("the noise covariance has entries that are NaN or infinite")
        variances = matrix.diagonal()
        refuse(variances <= 0, variances, "not positive", "the diagonal of a noise covariance holds variances")
        if abs(matrix - matrix.T).max() > 1e-10 * variances.max():
            raise ValueError("the noise covariance is not symmetric: give R with R[i, j] = R[j, i]")
        object.__setattr__(self, "covariance", matrix)
        _ = self._algebra  # a dense covariance is factorised, and so checked, at once

    @classmethod
    def from_kernel(
        cls, kernel: Callable[[np.ndarray], np.ndarray], centres: Any, reach: float | None = None
    ) -> CorrelatedError:
        """Covariances that depend on the distance between the cells' centres.

        Parameters
        ----------
        kernel : callable
            Covariance of two cells at given distances (array in, array out); at distance 0 the variance.
        centres : array (m, axes)
            Of the cells, in the unit of the distances.
        reach : float, optional
            Distance beyond which the kernel is zero: gives a sparse covariance, which a raster needs. A kernel that is
            merely cut off there may not be positive definite.
        """
        at = np.asarray(centres, dtype=np.float64)
        at = at[:, None] if at.ndim == 1 else at
        if reach is None:
            return cls(kernel(cdist(at, at)))
        pairs = cKDTree(at).query_pairs(reach, output_type="ndarray")
        distances = np.linalg.norm(at[pairs[:, 0]] - at[pairs[:, 1]], axis=1)
        upper = sparse.coo_matrix((kernel(distances), (pairs[:, 0], pairs[:, 1])), shape=(len(at), len(at)))
        return cls(upper + upper.T + sparse.diags(kernel(np.zeros(len(at)))))

    def log_prob(self, y: Tensor, seen: Tensor) -> Tensor:
        """Shares (..., m) of the log density: -(r_i (R^-1 r)_i + log det R / m + log 2 pi) / 2 with r = y - seen.

        Only their sum over all cells is one.
        """
        residual = y - seen
        share = self._algebra.log_determinant / len(y) + math.log(2 * math.pi)
        return -0.5 * (residual * self._algebra.solve(residual) + share)

    def sample(self, seen: Tensor, generator: torch.Generator) -> Tensor:
        """Seen + e, e = R^(1/2) times standard normal numbers."""
        return seen + self._algebra.root_times(noise_like(seen, generator))

    def noise_variance(self, like: Tensor) -> Tensor:
        """The diagonal of R (m,)."""
        return torch.as_tensor(self.covariance.diagonal().copy()).to(like)

    def noise_times(self, v: Tensor) -> Tensor:
        """R v for v (..., m)."""
        return self._algebra.times(v)

    def check_size(self, m: int) -> None:
        """Refuse a covariance of another number of cells."""
        if m != self.covariance.shape[0]:
            raise ValueError(f"a noise covariance of {self.covariance.shape[0]} cells for {m} values: they must agree")

    def rows(self, keep: np.ndarray) -> Self:
        """The errors of some cells only."""
        return type(self)(self.covariance[keep][:, keep])

    @cached_property
    def _algebra(self) -> _Dense | _Sparse:
        return _Sparse(self.covariance) if sparse.issparse(self.covariance) else _Dense(self.covariance)


class _Dense:
    """Products with a dense covariance (m, m) and its inverse."""

    def __init__(self, matrix: np.ndarray) -> None:
        self._matrix = torch.as_tensor(matrix)
        self._root, failed = torch.linalg.cholesky_ex(self._matrix)
        if failed:
            raise ValueError(NOT_POSITIVE)
        self.log_determinant = 2 * float(self._root.diagonal().log().sum())

    def times(self, v: Tensor) -> Tensor:
        return v @ self._matrix.to(v)

    def root_times(self, v: Tensor) -> Tensor:
        return v @ self._root.T.to(v)

    def solve(self, v: Tensor) -> Tensor:
        flat = v.double().reshape(-1, v.shape[-1]).T
        return torch.cholesky_solve(flat, self._root.to(v.device)).T.reshape(v.shape).to(v)


class _Sparse:
    """The same with a sparse one: P R P' = L D L', found when first needed."""

    def __init__(self, matrix: sparse.csr_matrix) -> None:
        self._matrix = matrix
        self._product = SparseMatrix(matrix)

    def times(self, v: Tensor) -> Tensor:
        return self._product.times(v)

    def root_times(self, v: Tensor) -> Tensor:
        return self._root.times(v)

    def solve(self, v: Tensor) -> Tensor:
        return SymmetricInverse(self._factors.solve).times(v)

    @cached_property
    def log_determinant(self) -> float:
        return float(np.log(self._factors.U.diagonal()).sum())

    @cached_property
    def _root(self) -> SparseMatrix:
        """P' L D^(1/2)."""
        factors = self._factors
        scaled = factors.L @ sparse.diags(np.sqrt(factors.U.diagonal()))
        return SparseMatrix(sparse.csr_matrix(scaled.tocsr()[factors.perm_r]))

    @cached_property
    def _factors(self) -> SuperLU:
        options = {"SymmetricMode": True}
        factors = splu(self._matrix.tocsc(), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options=options)
        if (factors.U.diagonal() <= 0).any() or (factors.perm_r != factors.perm_c).any():
            raise ValueError(NOT_POSITIVE)
        return factors
