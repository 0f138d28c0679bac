"""The denoising loss and how it weighs the times."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from latentcause.diffusion.denoisers import Kind, Prediction
from latentcause.diffusion.schedules import Schedule

Weighting = Literal["uniform", "likelihood", "min-snr"]

SNR_CAP = 5.0
"""gamma of the min-SNR weighting, as its authors recommend."""


def draw_times(n: int, generator: torch.Generator, like: Tensor, low: float = 0.0, high: float = 1.0) -> Tensor:
    """n times, each uniform on [low, high], spread evenly over it by one common shift (Kingma et al. 2021, appendix I).

    The loss then varies less from batch to batch than with independent times.
    """
    shift = torch.rand((), generator=generator, dtype=torch.float64, device=like.device)
    order = torch.randperm(n, generator=generator, device=like.device)
    return low + (high - low) * ((order + shift) / n)


def noised(
    x: Tensor, t: Tensor, schedule: Schedule, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(x_t, eps, alpha, sigma) of data x (n, ...) at times t (n,); alpha and sigma broadcast against x."""
    shape = (-1, *[1] * (x.ndim - 1))
    alpha, sigma = (level.to(x).reshape(shape) for level in schedule.at(t))
    noise = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
    return alpha * x + sigma * noise, noise, alpha, sigma


def denoising_loss(output: Tensor, kind: Kind, x: Tensor, noise: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """Squared error (n,) of a network's output in its own form, the mean over all entries of a row.

    Its minimiser is the conditional mean of that form given x_t, hence the exact denoiser (Vincent 2011).
    """
    target = Prediction(x, noise, alpha, sigma).to(kind)
    return (output - target).square().flatten(1).mean(1)


def loss_weight(weighting: Weighting, kind: Kind, schedule: Schedule, t: Tensor) -> Tensor:
    """Weight (n,) of `denoising_loss` at times t (n,), float64.

    ``"uniform"``: 1. ``"likelihood"``: what makes the mean loss, times the number of entries, an upper bound of the negative
    log-likelihood in nats, up to a constant: -(log SNR)' / 2 on the squared error of the noise (Kingma et al. 2021, Eq. 17).
    ``"min-snr"``: min(SNR, 5) on the squared error of the data (Hang et al. 2023, Eq. 8).

    Raises
    ------
    ValueError
        For an unknown weighting.
    """
    if weighting == "uniform":
        return torch.ones_like(t, dtype=torch.float64)
    alpha, sigma = schedule.at(t)
    # Squared errors of the same prediction: noise = (alpha / sigma)^2 data, velocity = (r / sigma)^2 data with
    # r^2 = alpha^2 + sigma^2, score = noise / sigma^2.
    snr = (alpha / sigma).square()
    in_data = {
        "data": torch.ones_like(snr),
        "noise": snr,
        "velocity": snr + 1,
        "score": snr / sigma.square(),
    }[kind]
    if weighting == "min-snr":
        return snr.clamp(max=SNR_CAP) / in_data
    if weighting == "likelihood":
        times = t.to(torch.float64).clone().requires_grad_()
        with torch.enable_grad():
            (slope,) = torch.autograd.grad(schedule.log_snr(times).sum(), times)
        return -0.5 * slope * snr / in_data
    raise ValueError(f"unknown weighting {weighting!r}: choose one of {', '.join(get_args(Weighting))}")
