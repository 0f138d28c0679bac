"""Diagonal Gaussians: products of experts with the prior N(0, I), and mixtures of such products."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Gaussian(NamedTuple):
    """N(mean, diag(1 / precision)), both (n, k)."""

    mean: Tensor
    precision: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """mean + noise / sqrt(precision), of standard normal noise (n, k)."""
        return self.mean + noise * self.precision.rsqrt()

    def log_density(self, u: Tensor) -> Tensor:
        """log N(u; mean, 1 / precision), (n,), of u (n, k)."""
        misfit = self.precision * (u - self.mean).square()
        return 0.5 * (self.precision.log() - math.log(2 * math.pi) - misfit).sum(-1)

    def divergence(self, other: Gaussian) -> Tensor:
        """KL(this || other), (n,), in nats."""
        ratio = other.precision / self.precision
        shift = other.precision * (self.mean - other.mean).square()
        return 0.5 * (ratio - 1 - ratio.log() + shift).sum(-1)

    def divergence_from_prior(self) -> Tensor:
        """KL(this || N(0, I)), (n,)."""
        return self.divergence(Gaussian(torch.zeros_like(self.mean), torch.ones_like(self.precision)))


def product(experts: Sequence[Gaussian]) -> Gaussian:
    """N(u; 0, I) prod_v N(u; m_v, 1 / l_v), normalised: precision 1 + sum l_v, mean sum l_v m_v / precision.

    The prior enters once, whatever the number of experts: where l_v and m_v are those of the likelihood p(y_v | u), and the
    y_v are independent given u, this is p(u | y).
    """
    precision = 1 + torch.stack([expert.precision for expert in experts]).sum(0)
    weighted = torch.stack([expert.precision * expert.mean for expert in experts]).sum(0)
    return Gaussian(weighted / precision, precision)


def log_mixture(u: Tensor, components: Sequence[Gaussian]) -> Tensor:
    """log (1 / C sum_c q_c(u)), (n,), of u (n, k)."""
    each = torch.stack([component.log_density(u) for component in components])
    return torch.logsumexp(each, 0) - math.log(len(components))
