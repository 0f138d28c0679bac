"""Priors p(z | a) of the variational autoencoders, Wu, von Kuegelgen and Blei, section 6.

Each is a module whose call gives, row by row, the divergence KL(q || p(. | a)) of a diagonal Gaussian posterior
q = N(mean, exp(log_variance)) in nats (n,): exact where there is a formula, otherwise estimated without bias at the one
sample of q that it is handed. ``indicator`` (n, d) holds the targets a as zeros and ones.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

LOG_TWO_PI = math.log(2 * math.pi)


class StandardNormal(nn.Module):
    """z ~ N(0, I) in every domain: the plain VAE."""

    def forward(self, mean: Tensor, log_variance: Tensor, sample: Tensor, indicator: Tensor) -> Tensor:
        """1/2 sum_j (mean_j^2 + v_j - 1 - log v_j)."""
        return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1)


class DomainGaussian(nn.Module):
    """z | a ~ N(mu_a, Sigma_a), free for each set of targets: the conditional VAE.

    The precision is kept as Sigma_a^-1 = L_a' L_a with L_a lower triangular, its diagonal stored as logarithms.

    Parameters
    ----------
    indicators : Tensor (g, d)
        The distinct rows of targets that the data hold.
    """

    indicators: Tensor

    def __init__(self, indicators: Tensor) -> None:
        super().__init__()
        g, d = indicators.shape
        self.register_buffer("indicators", indicators)
        self.centre = nn.Parameter(torch.zeros(g, d))
        self.factor = nn.Parameter(torch.zeros(g, d, d))

    def forward(self, mean: Tensor, log_variance: Tensor, sample: Tensor, indicator: Tensor) -> Tensor:
        """1/2 (|L (mean - mu)|^2 + sum_ij L_ij^2 v_j - d - log|L'L| - sum_j log v_j)."""
        group = (indicator[:, None] == self.indicators).all(dim=2).float().argmax(dim=1)
        log_diagonal = self.factor.diagonal(dim1=1, dim2=2)
        factor = self.factor.tril(-1) + torch.diag_embed(log_diagonal.exp())
        # Computed for all groups and then picked: a few products of large matrices, and no scattered gradients.
        whitened = (mean[None] - self.centre[:, None]) @ factor.transpose(1, 2)
        spread = log_variance.exp() @ factor.square().sum(dim=1).T
        terms = whitened.square().sum(dim=2).T + spread - 2 * log_diagonal.sum(dim=1)
        chosen = terms.gather(1, group[:, None]).squeeze(1)
        return 0.5 * (chosen - mean.shape[1] - log_variance.sum(dim=1))


class FactorisedExponential(nn.Module):
    """z_j | a independent and Gaussian with natural parameters that a network reads off a: the iVAE.

    Khemakhem, Kingma, Monti and Hyvarinen (2020), Eq. 7 with sufficient statistics (z, z^2):
    p(z_j | a) proportional to exp(l1_j(a) z_j + l2_j(a) z_j^2), l2_j < 0.
    """

    def __init__(self, d: int, hidden: int) -> None:
        super().__init__()
        last = nn.Linear(hidden, 2 * d)
        nn.init.zeros_(last.weight)  # so that every domain starts at N(0, 1)
        nn.init.zeros_(last.bias)
        self.natural = nn.Sequential(nn.Linear(d, hidden), nn.SiLU(), last)

    def forward(self, mean: Tensor, log_variance: Tensor, sample: Tensor, indicator: Tensor) -> Tensor:
        """KL to N(-l1 / (2 l2), -1 / (2 l2)), per row."""
        linear, log_precision = self.natural(indicator).chunk(2, dim=1)
        precision = log_precision.exp()  # -2 l2
        centre = linear / precision
        terms = precision * ((mean - centre).square() + log_variance.exp()) - 1 - log_precision - log_variance
        return 0.5 * terms.sum(dim=1)


class InterventionalSCM(nn.Module):
    """z_j | z_pa(j), a_j Gaussian, one network for the baseline and one for the intervened mechanism of each node.

    Eq. (6.2) with gamma_j(a_j, z_pa, u) = m_j(a_j, z_pa) + exp(s_j(a_j, z_pa)) Phi^-1(u); m and s are a linear term and
    one SiLU layer. The prior's expectation under q is estimated at the sample.

    Parameters
    ----------
    parents : Tensor (d, d)
        ``parents[j, i]`` is 1 where i is a parent of j.
    hard : bool
        Whether intervened mechanisms ignore the parents.
    hidden : int
    """

    masks: Tensor

    def __init__(self, parents: Tensor, hard: bool, hidden: int) -> None:
        super().__init__()
        d = len(parents)
        intervened = torch.zeros_like(parents) if hard else parents
        self.register_buffer("masks", torch.cat([parents, intervened])[:, :, None])  # (2d, d, 1): baseline, intervened
        self.first = nn.Parameter(torch.randn(2 * d, d, hidden))
        self.first_bias = nn.Parameter(torch.randn(2 * d, 1, hidden))
        self.last = nn.Parameter(torch.zeros(2 * d, hidden, 2))
        self.skip = nn.Parameter(torch.zeros(2 * d, d, 2))
        self.bias = nn.Parameter(torch.zeros(2 * d, 1, 2))

    def forward(self, mean: Tensor, log_variance: Tensor, sample: Tensor, indicator: Tensor) -> Tensor:
        """-log p(sample | a) minus the entropy of q, which is known."""
        centre, log_scale = self.mechanisms(sample, indicator)
        surprise = 0.5 * ((sample - centre) / log_scale.exp()).square() + log_scale + 0.5 * LOG_TWO_PI
        entropy = 0.5 * (log_variance + LOG_TWO_PI + 1)
        return (surprise - entropy).sum(dim=1)

    def mechanisms(self, z: Tensor, indicator: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation (n, d) of each z_j given its parents' values in z (n, d) and a_j."""
        hidden = nn.functional.silu(z @ (self.first * self.masks) + self.first_bias)
        both = hidden @ self.last + z @ (self.skip * self.masks) + self.bias
        baseline, intervened = both.unflatten(0, (2, -1))
        centre, log_scale = torch.where(indicator.T[:, :, None] > 0, intervened, baseline).unbind(dim=2)
        return centre.T, log_scale.T
