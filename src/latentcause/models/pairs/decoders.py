"""Decoders of pairs: p(x | e) as a Gaussian about a network, and as a diffusion about that Gaussian."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from latentcause.diffusion import Denoiser, DPMSolver, Prediction, VarianceExploding, times
from latentcause.models.pairs.flow_codes import FlowHead
from latentcause.networks.skip_mlp import SkipMLP

SIGMA_MIN, SIGMA_MAX = 0.02, 5.0  # of noise, in units of the standardised observations
SCHEDULE = VarianceExploding(SIGMA_MIN, SIGMA_MAX)
STEPS = 64  # of a draw
SPREAD = 0.6  # of half of the noise levels in training, about the width of the head
FREQUENCIES = (1.0, 2.0, 4.0)


class PairDecoder(nn.Module, ABC):
    """p(x | e) of standardised observations x (n, d) and codes e (k, n, m): k hypotheses about the code of each row.

    Attributes
    ----------
    head : SkipMLP or FlowHead
        g(e), the mean.
    log_sd : Parameter (d,)
        Of x about it.
    """

    def __init__(self, size: int, code_size: int, width: int, depth: int) -> None:
        super().__init__()
        self.head: SkipMLP | FlowHead = SkipMLP(code_size, size, width, depth)
        self.log_sd = nn.Parameter(torch.full((size,), -1.0))

    @abstractmethod
    def cost(self, x: Tensor, code: Tensor, log_sigma: Tensor, noise: Tensor) -> Tensor:
        """-log p(x | e) in nats (k, n), up to a constant; a bound of it, or an unbiased estimate of one.

        ``log_sigma`` (n,) and ``noise`` (n, d) are those of the diffusion.
        """

    @abstractmethod
    def draw(self, code: Tensor, generator: torch.Generator) -> Tensor:
        """One draw (n, d) from p(x | e) for each code (n, m)."""

    def head_cost(self, x: Tensor, code: Tensor) -> Tensor:
        """-log N(x; g(e), diag(sd^2)) (k, n), less d log(2 pi) / 2."""
        return (0.5 * ((x - self.head(code)) / self.log_sd.exp()).square() + self.log_sd).sum(-1)


class GaussianDecoder(PairDecoder):
    """x = g(e) + sd * noise: the decoder of a variational autoencoder, as in ILCM."""

    def cost(self, x: Tensor, code: Tensor, log_sigma: Tensor, noise: Tensor) -> Tensor:
        """-log p(x | e), exactly."""
        return self.head_cost(x, code)

    def draw(self, code: Tensor, generator: torch.Generator) -> Tensor:
        """N(g, sd^2)."""
        mean = self.head(code)
        return mean + self.log_sd.exp() * torch.randn(mean.shape, generator=generator, device=mean.device)


class DiffusionDecoder(PairDecoder):
    """Denoises x_sigma = x + sigma eps, told the code.

    The network F is preconditioned by the Gaussian head (after Karras et al., Elucidating the design space of diffusion-based
    generative models, 2022, section 5, where the Gaussian is that of all data): with r = sd,

        D(x_sigma; e) = g + r^2 / (r^2 + sigma^2) (x_sigma - g) + sigma r / sqrt(r^2 + sigma^2) F,

    so at F = 0 it is the exact denoiser of x | e ~ N(g, r^2). With log sigma uniform on [log sigma_min, log sigma_max],

        R E |D - x|^2 / sigma^2,    R = log(sigma_max / sigma_min),

    bounds -log p(x | e) in nats up to a constant (Kingma et al., Variational diffusion models, 2021, Eq. 17). Half of the levels
    are drawn about r, where they tell most of g, and weighed accordingly.
    """

    def __init__(self, size: int, code_size: int, width: int, depth: int) -> None:
        super().__init__(size, code_size, width, depth)
        self.of_level = nn.Linear(2 + 2 * len(FREQUENCIES), width)
        self.of_x = nn.Linear(size, width, bias=False)
        self.of_code = nn.Linear(code_size, width, bias=False)
        self.hidden = nn.Linear(width, width)
        self.last = nn.Linear(width, size)
        with torch.no_grad():
            self.last.weight.zero_()
            self.last.bias.zero_()

    def cost(self, x: Tensor, code: Tensor, log_sigma: Tensor, noise: Tensor) -> Tensor:
        """The denoising loss."""
        return self._cost(x - self.head(code), code, log_sigma, noise, self.log_sd.exp())

    def cost_beside(self, x: Tensor, code: Tensor, log_sigma: Tensor, noise: Tensor) -> Tensor:
        """The denoising loss (k, n) for F alone to learn from: head and code do not feel it."""
        with torch.no_grad():
            residual = x - self.head(code)
        return self._cost(residual, code.detach(), log_sigma, noise, self.log_sd.detach().exp())

    def levels(self, n: int, generator: torch.Generator) -> Tensor:
        """n values of log sigma, half of them uniform and half logistic about log r, evenly spread."""
        device = self.log_sd.device
        low, high, centre, below, above = self._proposal()
        u = (
            torch.randperm(n, generator=generator, device=device) + torch.rand((), generator=generator, device=device)
        ) / n
        share = below + (above - below) * (2 * u - 1).clamp(1e-6, 1 - 1e-6)
        return torch.where(u < 0.5, low + (high - low) * 2 * u, centre + SPREAD * (share / (1 - share)).log())

    def weight(self, log_sigma: Tensor) -> Tensor:
        """One over the density of `levels` (n,)."""
        low, high, centre, below, above = self._proposal()
        p = torch.sigmoid((log_sigma - centre) / SPREAD)
        return 1 / (0.5 / (high - low) + 0.5 * p * (1 - p) / SPREAD / (above - below))

    def draw(self, code: Tensor, generator: torch.Generator) -> Tensor:
        """By the probability flow from x_sigma ~ N(g, sd^2 + sigma_max^2)."""
        mean = self.head(code)
        spread = (self.log_sd.mul(2).exp() + SIGMA_MAX**2).sqrt()
        start = mean + spread * torch.randn(mean.shape, generator=generator, device=mean.device)
        return DPMSolver(self.denoiser(code), eta=0.0)(start, times(STEPS))

    def denoiser(self, code: Tensor) -> Denoiser:
        """Of x given codes (n, m), for the samplers of `latentcause.diffusion`."""
        return _TrajectoryDenoiser(self, code)

    def _cost(self, residual: Tensor, code: Tensor, log_sigma: Tensor, noise: Tensor, r: Tensor) -> Tensor:
        sigma = log_sigma.exp()[:, None]
        found = self._denoised(residual + sigma * noise, code, log_sigma, sigma, r)
        return self.weight(log_sigma) * ((found - residual) / sigma).square().sum(-1)

    def _denoised(self, offset: Tensor, code: Tensor, log_sigma: Tensor, sigma: Tensor, r: Tensor) -> Tensor:
        """D - g of x_sigma - g."""
        total = r.square() + sigma.square()
        h = self.of_level(_features(log_sigma)) + self.of_x(offset * total.rsqrt()) + self.of_code(code)
        h = nn.functional.silu(self.hidden(nn.functional.silu(h)))
        return r.square() / total * offset + sigma * r * total.rsqrt() * self.last(h)

    def _proposal(self) -> tuple[float, float, float, float, float]:
        """Ends and centre of log sigma, and the logistic's shares below the ends."""
        low, high = math.log(SIGMA_MIN), math.log(SIGMA_MAX)
        centre = min(max(float(self.log_sd.detach().mean()), low + SPREAD), high - SPREAD)
        below, above = (1 / (1 + math.exp(-(end - centre) / SPREAD)) for end in (low, high))
        return low, high, centre, below, above


class _TrajectoryDenoiser(Denoiser):
    def __init__(self, decoder: DiffusionDecoder, code: Tensor) -> None:
        self.decoder, self.code, self.schedule = decoder, code, SCHEDULE

    def __call__(self, x_t: Tensor, t: Tensor | float) -> Prediction:
        """At one time for all rows, or one per row."""
        alpha, sigma = self.levels(x_t, t)
        rows = sigma.reshape(-1).expand(len(x_t))
        head = self.decoder.head(self.code)
        offset = self.decoder._denoised(x_t - head, self.code, rows.log(), rows[:, None], self.decoder.log_sd.exp())
        return Prediction.of(head + offset, "data", x_t, alpha, sigma)


def _features(log_sigma: Tensor) -> Tensor:
    """What a network is told of a noise level, (n, 8)."""
    u = log_sigma / 3
    waves = [wave for k in FREQUENCIES for wave in ((2 * k * u).cos(), (2 * k * u).sin())]
    return torch.stack([u, u * u, *waves], dim=-1)
