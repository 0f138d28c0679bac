"""The denoisers that both sides of `diffusion_core` are given, and the rows they look at; all float64."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from latentcause.diffusion import Denoiser, GaussianDenoiser, NetworkDenoiser, Prediction, Schedule

ROWS, D = 64, 3


def rows(seed: int) -> Tensor:
    return torch.randn(ROWS, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gaussian(seed: int, schedule: Schedule) -> GaussianDenoiser:
    """The exact denoiser of a Gaussian with a random mean and a random covariance."""
    mean, *root = torch.randn(D + 1, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    covariance = torch.stack(root) @ torch.stack(root).T + 0.01 * torch.eye(D, dtype=torch.float64)
    return GaussianDenoiser(2 * mean, covariance, schedule)


def gradient_of_log_density(exact: GaussianDenoiser, x_t: Tensor, t: float) -> Tensor:
    """The score at x_t, by torch.distributions and automatic differentiation."""
    alpha, sigma = exact.levels(x_t, t)
    variances = alpha**2 * exact.variances + sigma**2
    marginal = MultivariateNormal(alpha * exact.mean, exact.axes @ variances.diag() @ exact.axes.T)
    x = x_t.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(marginal.log_prob(x).sum(), x)
    return gradient


class Mixture(Denoiser):
    """The exact denoiser of an even mixture of three Gaussians."""

    def __init__(self, schedule: Schedule, seed: int) -> None:
        self.schedule = schedule
        self.parts = [gaussian(seed + k, schedule) for k in range(3)]

    def __call__(self, x_t: Tensor, t: Tensor | float) -> Prediction:
        alpha, sigma = self.levels(x_t, t)
        data, noise, logs = [], [], []
        for part in self.parts:
            found = part(x_t, t)
            data.append(found.data)
            noise.append(found.noise)
            variances = alpha**2 * part.variances + sigma**2
            offset = (x_t - alpha * part.mean) @ part.axes
            logs.append(-0.5 * (offset**2 / variances + variances.log()).sum(1))
        shares = torch.stack(logs).softmax(0)[:, :, None]
        return Prediction((shares * torch.stack(data)).sum(0), (shares * torch.stack(noise)).sum(0), alpha, sigma)


def network(schedule: Schedule, seed: int) -> NetworkDenoiser:
    """Predicts the velocity with a `Backbone`, from what azula's KarrasDenoiser gives to it."""
    backbone = Backbone(seed)

    def velocity(x_t: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = schedule.at(t)
        return -backbone(x_t / (alpha**2 + sigma**2).sqrt()[:, None], (sigma / alpha).log())

    return NetworkDenoiser(velocity, schedule)


class Backbone(nn.Module):
    """A random network of x (n, d) and a time, () or (n,)."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.inner, self.outer = (
            nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64) / math.sqrt(shape[0]), False)
            for shape in ((D + 1, 16), (16, D))
        )

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return torch.tanh(torch.cat([x, t.expand(len(x))[:, None]], 1) @ self.inner) @ self.outer
