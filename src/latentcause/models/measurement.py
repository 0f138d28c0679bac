"""The measurement model x = A z + noise in the coordinates of a subspace: unmix, and re-estimate A and sigma^2."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, Self, get_args

import numpy as np
import torch
from torch import Tensor

from latentcause.models.subspace import Subspace

Columns = Literal["orthonormal", "orthogonal", "psd"]

_SWEEPS = 20  # alternations of O and D, or rounds over the columns, in an M-step; they settle in a few


@dataclass(frozen=True)
class Measurement:
    """A = W G with an orthonormal basis W (d_x, d) of the subspace, and isotropic noise of variance sigma^2.

    Unmixed coordinates u = G^-1 c = z + N(0, C) with C = sigma^2 (G'G)^-1 are the normal means problem, Eq. (4.2), for any A;
    with orthogonal columns C is diagonal.

    Attributes
    ----------
    mixing : Tensor (d, d)
        G.
    noise_variance : float
        sigma^2.
    columns : {"orthonormal", "orthogonal", "psd"}
        What is assumed of A: orthonormal columns (A = O); orthogonal ones of free norm, Assumption 4.1 (A = O D); or any A,
        section 4.6 (A = O L with L positive semi-definite is the polar form of any matrix), its columns scaled to norm 1.
        The norm of a column is not identified, because the prior of z_j can absorb it, so "orthonormal" loses nothing.
    """

    mixing: Tensor
    noise_variance: float
    columns: Columns

    def __post_init__(self) -> None:
        if self.columns not in get_args(Columns):
            raise ValueError(f"unknown columns {self.columns!r}: choose one of {list(get_args(Columns))}")

    def to(self, device: torch.device) -> Self:
        """The same on a device."""
        return replace(self, mixing=self.mixing.to(device))

    def unmix(self, coordinates: Tensor) -> Tensor:
        """u = G^-1 c for rows c (n, d)."""
        return torch.linalg.solve(self.mixing, coordinates.T).T

    @property
    def metric(self) -> Tensor:
        """(G'G)^-1: its diagonal (d,) where the columns are orthogonal, else the matrix (d, d)."""
        inverse = torch.linalg.inv(self.mixing.T @ self.mixing)
        off_diagonal = inverse - torch.diag(inverse.diagonal())
        orthogonal = bool((off_diagonal.abs() <= 1e-8 * inverse.diagonal().max()).all())
        return inverse.diagonal() if orthogonal else inverse

    @property
    def noise(self) -> Tensor:
        """C, as variances (d,) or as a matrix (d, d)."""
        return self.noise_variance * self.metric

    def step(
        self,
        subspace: Subspace,
        coordinates: Tensor,
        moments: LatentMoments,
        *,
        learn_loadings: bool,
        learn_noise: bool,
    ) -> Self:
        """The M-step, Eqs. (4.6) to (4.9): maximise the expected log-likelihood over A and sigma^2.

        For A = O D the printed update pairs sorted singular values with nodes and collapses D; the same objective is
        maximised here by alternating O = polar(M D) and D_jj = (O'M)_jj / sum E[z_j^2].
        """
        mixing = self._best_mixing(moments) if learn_loadings else self.mixing
        if not learn_noise:
            return replace(self, mixing=mixing)
        n, d_x = len(coordinates), subspace.basis.shape[0]
        outside = subspace.power - float(coordinates.square().sum()) / n
        inside = (
            float(coordinates.square().sum())
            - 2 * float((moments.cross * mixing).sum())
            + float((mixing.T @ mixing * moments.second).sum())
        ) / n
        return replace(self, mixing=mixing, noise_variance=(outside + inside) / d_x)

    def _best_mixing(self, moments: LatentMoments) -> Tensor:
        if self.columns == "orthonormal":
            return _polar(moments.cross)
        if self.columns == "psd":
            return self._best_unit_columns(moments)
        scales = torch.linalg.vector_norm(self.mixing, dim=0)
        for _ in range(_SWEEPS):
            rotation = _polar(moments.cross * scales)
            scales = (rotation * moments.cross).sum(0) / moments.second.diagonal()
        return rotation * scales

    def _best_unit_columns(self, moments: LatentMoments) -> Tensor:
        """Columns of norm 1, each set in turn to the best direction given the others."""
        mixing = self.mixing / torch.linalg.vector_norm(self.mixing, dim=0)
        for _ in range(_SWEEPS):
            for j in range(mixing.shape[1]):
                others = mixing @ moments.second[:, j] - mixing[:, j] * moments.second[j, j]
                direction = moments.cross[:, j] - others
                mixing[:, j] = direction / torch.linalg.vector_norm(direction)
        return mixing


@dataclass(frozen=True)
class LatentMoments:
    """Posterior sums over the samples: M = sum c E[z]' (d, d) and sum E[z z'] (d, d)."""

    cross: Tensor
    second: Tensor

    @classmethod
    def of(cls, coordinates: Tensor, mean: Tensor, covariance: Tensor) -> Self:
        """From posterior means (n, d) and variances (n, d) or covariances (n, d, d)."""
        spread = torch.diag(covariance.sum(0)) if covariance.ndim == 2 else covariance.sum(0)
        return cls(coordinates.T @ mean, mean.T @ mean + spread)


def known_mixing(loadings: np.ndarray) -> tuple[np.ndarray, Tensor]:
    """Orthonormal basis W of the column space of known loadings A (d_x, d), and G with A = W G.

    Raises
    ------
    ValueError
        If the columns of A are linearly dependent.
    """
    basis, mixing = np.linalg.qr(loadings)
    diagonal = np.abs(np.diag(mixing))
    if diagonal.min() <= 1e-10 * diagonal.max():
        raise ValueError("the columns of the given loadings are linearly dependent: no latents could be told apart")
    return basis, torch.from_numpy(mixing)


def _polar(matrix: Tensor) -> Tensor:
    """The rotation O that maximises tr(O' matrix) (orthogonal Procrustes)."""
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    return left @ right
