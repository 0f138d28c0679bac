"""Diffusion of images given a code: the loss of the decoder, its sampler and the sampler's inverse."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from latentcause.diffusion import (
    DDIM,
    Cosine,
    GuidedDenoiser,
    NetworkDenoiser,
    denoising_loss,
    draw_times,
    loss_weight,
    times,
)

SCHEDULE = Cosine()
LOW_TIME, HIGH_TIME = 0.001, 0.995  # of training
FIRST, LAST, POWER = 0.995, 0.01, 1.5  # times of sampling and inversion: crowded where images are nearly clean
ROWS_AT_ONCE = 64


def draw_noising(images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Times (n,) and noise (n, c, h, w) to train on images (n, c, h, w)."""
    t = draw_times(len(images), generator, images, LOW_TIME, HIGH_TIME).to(images)
    return t, torch.randn(images.shape, generator=generator, device=images.device)


def velocity_loss(
    network: nn.Module,
    images: Tensor,
    told: Tensor,
    t: Tensor,
    noise: Tensor,
    withheld: Tensor | None = None,
) -> Tensor:
    """Squared error (n,) of the velocity, on images in [0, 1] and what the network is told of them (n, k).

    Where ``withheld`` (n,), it is told nothing.
    """
    x = 2 * images - 1
    alpha, sigma = (level.to(x)[:, None, None, None] for level in SCHEDULE.at(t))
    predicted = network(alpha * x + sigma * noise, t, told, withheld).float()
    error = denoising_loss(predicted, "velocity", x, noise, alpha, sigma)
    return loss_weight("uniform", "velocity", SCHEDULE, t).to(error) * error


@dataclass(frozen=True)
class ImageDiffusion:
    """Images from noise and a code by DDIM, and the noise that belongs to an image; rows in parts, results on the CPU.

    Attributes
    ----------
    network : Module
        Velocity from (x_t, t, code), or from (x_t, t) alone.
    steps, refinements : int
        Of the sampler, and passes that make its inversion exact.
    """

    network: nn.Module
    steps: int
    refinements: int

    @torch.no_grad()
    def noise_of(self, images: Tensor, told: Tensor) -> Tensor:
        """The noise (n, c, h, w) from which `images_from`, told the same (n, k), returns images (n, c, h, w) in [0, 1]."""
        parts = []
        for rows in torch.arange(len(images)).split(ROWS_AT_ONCE):
            sampler = DDIM(self._denoiser(told[rows]))
            x = images[rows].to(self._device) * 2 - 1
            parts.append(sampler.invert(x, self._times, self.refinements).cpu())
        return torch.cat(parts)

    @torch.no_grad()
    def images_from(
        self, noise: Tensor, told: Tensor, guidance: float = 1.0, reference: Tensor | None = None
    ) -> Tensor:
        """Images (n, c, h, w) in [0, 1]; guidance (1 is none) is away from a reference (n, k), or from being told nothing."""
        parts = []
        for rows in torch.arange(len(noise)).split(ROWS_AT_ONCE):
            away = self._denoiser(None if reference is None else reference[rows])
            sampler = DDIM(GuidedDenoiser(self._denoiser(told[rows]), away, guidance))
            parts.append(((sampler(noise[rows].to(self._device), self._times) + 1) / 2).clamp(0, 1).cpu())
        return torch.cat(parts)

    @property
    def _device(self) -> torch.device:
        return next(self.network.parameters()).device

    @property
    def _times(self) -> Tensor:
        return times(self.steps, FIRST, LAST, POWER)

    def _denoiser(self, told: Tensor | None) -> NetworkDenoiser:
        """The network, told this or nothing."""
        network, code = self.network, None if told is None else told.to(self._device)
        return NetworkDenoiser(lambda x, t: network(x, t, code), SCHEDULE)
