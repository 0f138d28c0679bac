"""Tweedie's formulas: posterior mean and covariance of a noisy vector from the score of its density."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

SMALLEST_SHARE = 1e-3
"""A posterior variance below this share of the noise variance is raised to it, and counted."""


@dataclass(frozen=True)
class Posterior:
    """Posterior moments of z given u = z + N(0, C).

    Attributes
    ----------
    mean : Tensor (n, d)
    covariance : Tensor (n, d) or (n, d, d)
        Variances, or whole covariance matrices where the noise is correlated.
    raised : int
        How many variances the score's error had made too small, and that were raised to `SMALLEST_SHARE` of the noise.
    """

    mean: Tensor
    covariance: Tensor
    raised: int

    @property
    def variance(self) -> Tensor:
        """Posterior variances (n, d)."""
        return self.covariance if self.covariance.ndim == 2 else self.covariance.diagonal(dim1=1, dim2=2)


def tweedie(u: Tensor, score: Tensor, jacobian: Tensor, noise: Tensor, damping: float = 1.0) -> Posterior:
    """First- and second-order Tweedie formulas for u = z + e, e ~ N(0, C).

    E[z | u] = u + eta C s(u) and Cov[z | u] = C + eta C J(u) C, with s = grad log f(u) and J its Jacobian: Eqs. (4.4), (4.5) and
    section 4.6 of Wu, von Kuegelgen and Blei for u = D^-1 y and C = sigma^2 D^-2 (their 4.5 is the case eta = 1; damping the
    second term too keeps eta = 0, no shrinkage, consistent: its posterior variance is the noise).

    Parameters
    ----------
    u, score : Tensor (n, d)
    jacobian : Tensor (n, d) or (n, d, d)
        d s_j / d u_k, or its diagonal, which is enough for a diagonal C.
    noise : Tensor (d,) or (d, d)
        Variances, or covariance matrix C. A full C needs the full Jacobian.
    damping : float
        eta in [0, 1].
    """
    if noise.ndim == 1:
        mean = u + damping * noise * score
        variance = noise + damping * noise.square() * jacobian
        raised = variance < SMALLEST_SHARE * noise
        return Posterior(mean, torch.maximum(variance, SMALLEST_SHARE * noise), int(raised.sum()))
    mean = u + damping * score @ noise
    symmetric = 0.5 * (jacobian + jacobian.transpose(1, 2))
    covariance = noise + damping * noise @ symmetric @ noise
    values, vectors = torch.linalg.eigh(covariance)
    floor = SMALLEST_SHARE * torch.linalg.eigvalsh(noise)[0]
    raised = values < floor
    fixed = vectors * values.clamp_min(floor)[:, None, :] @ vectors.transpose(1, 2)
    return Posterior(mean, fixed, int(raised.sum()))
