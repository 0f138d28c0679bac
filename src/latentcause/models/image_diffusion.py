"""Diffusion of images given a code: the loss of the decoder, its sampler, the sampler's inverse, and edits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from latentcause.diffusion import (
    DDIM,
    Cosine,
    Denoiser,
    GuidedDenoiser,
    NetworkDenoiser,
    Prediction,
    denoising_loss,
    draw_times,
    loss_weight,
    times,
)

SCHEDULE = Cosine()
LOW_TIME, HIGH_TIME = 0.001, 0.995  # of training
FIRST, LAST, POWER = 0.995, 0.01, 1.5  # times of sampling and inversion: crowded where images are nearly clean
EXAGGERATED_FROM = 0.3  # time down to which guidance beyond 1 acts in edits: shapes are settled before brightness
LAST_OF_EDITS = 0.06  # an edit rests on the image, which settles what is open where little noise is left
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
    """Images from noise and a code by DDIM, the noise that belongs to an image, and edits; rows in parts, results on the CPU.

    Attributes
    ----------
    network : Module
        Velocity from (x_t, t, code), or from (x_t, t) alone.
    steps, refinements : int
        Of the sampler, and passes that make its inversion exact (`noise_of`; `edited` needs none).
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
    def images_from(self, noise: Tensor, told: Tensor, guidance: float = 1.0) -> Tensor:
        """Images (n, c, h, w) in [0, 1]; guidance (1 is none) is away from being told nothing."""
        parts = []
        for rows in torch.arange(len(noise)).split(ROWS_AT_ONCE):
            sampler = DDIM(GuidedDenoiser(self._denoiser(told[rows]), self._denoiser(None), guidance))
            parts.append(((sampler(noise[rows].to(self._device), self._times) + 1) / 2).clamp(0, 1).cpu())
        return torch.cat(parts)

    @torch.no_grad()
    def edited(
        self, images: Tensor, told: Tensor, wanted: Tensor, without: Sequence[tuple[Tensor, float]] = ()
    ) -> Tensor:
        """What images (n, c, h, w) in [0, 1] become where the network is told ``wanted`` (n, k) in place of ``told`` (n, k).

        Inversion, told the factual, takes an image x up a path x_t, a pass a step. A change d goes down beside the path:

            d_s = r d_t + (1 - r) (D_w(x_t + alpha_t d_t) - D(x_t, told)),   r = sigma_s alpha_t / (alpha_s sigma_t),

        with D the denoiser, d = 0 at the first time and r = 0 in the last step. The image becomes x + d. These are steps of DDIM
        from the noise of x, less what the sampler errs by on the path of x itself (after Yang and Ye, DirectEdit: step-level
        accurate inversion for flow-based image editing, 2026): whoever is told the same is returned, however few the steps, and
        no passes go into inverting exactly.

        ``without`` holds codes (n, k) that lack one factor's own change each, and the weights w_i of these changes:

            D_w(x) = D(x, wanted) + sum_i (w_i - 1) (D(x, wanted) - D(x, without_i)),

        so what a factor does to the image itself is exaggerated, and what follows from it is not. Weights beyond 1 act at times
        from 0.3 on alone (after Kynkäänniemi et al., Applying guidance in a limited interval, 2024): all the way, brightness
        overshoots before shapes follow.
        """
        parts = []
        for rows in torch.arange(len(images)).split(ROWS_AT_ONCE):
            x, factual = images[rows].to(self._device) * 2 - 1, self._denoiser(told[rows])
            plain = self._denoiser(wanted[rows])
            others = [(self._denoiser(code[rows]), weight) for code, weight in without]
            change, path = torch.zeros_like(x), _path(x, factual, self._times_of_edits.flip(0).tolist())
            while path:
                t, x_t, found = path.pop()
                ratio = path[-1][2].sigma * found.alpha / (path[-1][2].alpha * found.sigma) if path else 0.0
                here = x_t + found.alpha * change
                data = asked = plain(here, t).data
                for other, weight in others:
                    if weight < 1 or t >= EXAGGERATED_FROM:
                        asked = asked + (weight - 1) * (data - other(here, t).data)
                change = ratio * change + (1 - ratio) * (asked - found.data)
            parts.append(((x + change + 1) / 2).clamp(0, 1).cpu())
        return torch.cat(parts)

    @property
    def _device(self) -> torch.device:
        return next(self.network.parameters()).device

    @property
    def _times(self) -> Tensor:
        return times(self.steps, FIRST, LAST, POWER)

    @property
    def _times_of_edits(self) -> Tensor:
        return times(self.steps, FIRST, LAST_OF_EDITS, POWER)

    def _denoiser(self, told: Tensor | None) -> NetworkDenoiser:
        """The network, told this or nothing."""
        network, code = self.network, None if told is None else told.to(self._device)
        return NetworkDenoiser(lambda x, t: network(x, t, code), SCHEDULE)


def _path(x: Tensor, denoiser: Denoiser, rising: list[float]) -> list[tuple[float, Tensor, Prediction]]:
    """(t, x_t, what the denoiser makes of it) at rising times, from x at the first of them on, each step by the one before."""
    found = denoiser(x, rising[0])
    path = [(rising[0], x, found)]
    for t in rising[1:]:
        alpha, sigma = denoiser.levels(x, t)
        x = alpha * found.data + sigma * found.noise
        found = denoiser(x, t)
        path.append((t, x, found))
    return path
