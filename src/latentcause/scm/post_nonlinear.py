"""Post-nonlinear mechanisms: an additive one, seen through an increasing function."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from scipy.special import ndtr
from torch import Tensor

from latentcause.scm.mechanisms import AdditiveMechanism, Mechanism
from latentcause.scm.noise import EmpiricalNoise, GaussianNoise, KernelNoise, Noise

HERMITE = 64
"""Points of the quadrature over Gaussian noise."""

BLOCKS = 128
"""Points, at most, that stand for the values of empirical or kernel noise."""

BLOCK_VALUES = 2**22  # of rows times points, at a time


class Link(Protocol):
    """A strictly increasing function g, its inverse, and the logarithm of the inverse's derivative, on tensors of any shape."""

    def __call__(self, y: Tensor) -> Tensor:
        """g(y)."""

    def inverse(self, z: Tensor) -> Tensor:
        """The y with g(y) = z."""

    def log_slope(self, z: Tensor) -> Tensor:
        """Log of the derivative of the inverse at z."""


@dataclass(frozen=True)
class PostNonlinearMechanism(Mechanism):
    """z_j = g(m_j(z_pa(j)) + u_j) with g strictly increasing (Zhang and Hyvarinen 2009, Eq. 2).

    The effect of the noise may thus depend on the parents: with g = exp the noise multiplies. Every value has exactly one
    noise behind it, so counterfactuals are determined.

    Parameters
    ----------
    inner : AdditiveMechanism
        m_j and the noise u_j.
    link : Link
        g, for example a `MonotoneSpline`.
    """

    inner: AdditiveMechanism
    link: Link

    @property
    def noise(self) -> Noise:  # type: ignore[override]
        """Of the inner mechanism."""
        return self.inner.noise

    def predict(self, parents: Tensor, noise: Tensor) -> Tensor:
        """g(m_j(parents) + noise)."""
        return self.link(self.inner.predict(parents, noise))

    def abduct(self, values: Tensor, parents: Tensor) -> Tensor:
        """g^-1(values) - m_j(parents)."""
        return self.inner.abduct(self.link.inverse(values), parents)

    def mean(self, parents: Tensor) -> Tensor:
        """E[g(m_j(parents) + u_j)] by quadrature over the noise: Gauss-Hermite, or up to 128 blocks of values.

        Raises
        ------
        ValueError
            For noise that is neither Gaussian, empirical nor kernel noise.
        """
        inner = self.inner.mean(parents)
        points, shares = (torch.from_numpy(part).to(parents) for part in _quadrature(self.noise))
        parts = [
            self.link(rows[:, None] + points) @ shares
            for rows in inner.reshape(-1).split(max(1, BLOCK_VALUES // len(points)))
        ]
        return torch.cat(parts).reshape(inner.shape)

    def log_density(self, values: Tensor, parents: Tensor) -> Tensor:
        """log p_u(g^-1(values) - m_j(parents)) + log of the derivative of g^-1 at the values."""
        return self.inner.log_density(self.link.inverse(values), parents) + self.link.log_slope(values)


def _quadrature(noise: Noise) -> tuple[np.ndarray, np.ndarray]:
    """Points and their shares of the noise."""
    match noise:
        case GaussianNoise():
            points, shares = np.polynomial.hermite_e.hermegauss(HERMITE)
            return points * noise.variance**0.5, shares / shares.sum()
        case EmpiricalNoise():
            return _block_means(noise.values)
        case KernelNoise():
            (centres, outer), (steps, inner) = _block_means(noise.values), np.polynomial.hermite_e.hermegauss(5)
            points, shares = np.add.outer(centres, noise.bandwidth * steps), np.outer(outer, inner / inner.sum())
            return points.reshape(-1), shares.reshape(-1)
    raise ValueError(f"no quadrature is known for {noise}: sample the mechanism instead")


def _block_means(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means and shares of blocks of neighbouring values; towards both ends they hold fewer, down to one."""
    n = len(values)
    if n <= BLOCKS:
        return values, np.full(n, 1 / n)
    edges = np.unique(np.rint(n * ndtr(np.linspace(-4, 4, BLOCKS + 1))).astype(np.int64))
    sizes = np.diff(edges, append=n)[: np.searchsorted(edges, n)]
    return np.add.reduceat(np.sort(values), edges[edges < n]) / sizes, sizes / n
