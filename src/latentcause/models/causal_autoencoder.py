"""The networks of CausalDiffAE and what they are trained on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from latentcause.models.code_posterior import CodePosterior
from latentcause.models.factor_model import FactorModel
from latentcause.models.free_code import FreeCode
from latentcause.models.image_diffusion import draw_noising, velocity_loss
from latentcause.networks import ImageEncoder, UNet


class CausalAutoencoder(nn.Module):
    """Encoder q(u | x), the causal layer z_i = f_i(z_pa(i)) + u_i, and the decoder v(x_t, t, z).

    Parameters
    ----------
    factors : FactorModel
        Its mechanisms stay as they are.
    image_channels : int
    channels : sequence of int
        Of the decoder.
    block_size : int
    kl_weight, prior_sd, p_unconditional, labels_told
        As in `CausalDiffAE`.
    """

    noise_variance: Tensor

    def __init__(
        self,
        factors: FactorModel,
        image_channels: int,
        channels: Sequence[int],
        *,
        block_size: int,
        kl_weight: float,
        prior_sd: float,
        p_unconditional: float,
        labels_told: bool,
    ) -> None:
        super().__init__()
        self.factors, self.posterior = factors, CodePosterior(factors.code, prior_sd)
        self.free = FreeCode(factors.code, block_size)
        self.kl_weight, self.p_unconditional, self.labels_told = kl_weight, p_unconditional, labels_told
        self.encoder = ImageEncoder(image_channels, sum(self.posterior.sizes) + 2 * self.free.size)
        self.decoder = UNet(image_channels, factors.code.size + self.free.size, tuple(channels))
        self.register_buffer("noise_variance", factors.noise_variance)

    def encode(self, images: Tensor) -> Tensor:
        """z (n, f) at the encoder's means, and the likeliest levels."""
        return self.factors.solved(self.posterior.mean(self._said(images)[0]))

    def encode_free(self, images: Tensor) -> Tensor:
        """The means (n, q) of the free numbers."""
        return self.free.mean(self._said(images)[1])

    def told(self, code: Tensor) -> Tensor:
        """What the decoder is told of a code (n, f + q): the factors on the standard scale, then the free numbers."""
        factors, free = code.split([len(self.factors.code.names), self.free.size], dim=1)
        return torch.cat([self.factors.code.told(factors), free], dim=1)

    def encoder_loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        """KL(q(u | x) || N(u_label, prior_sd^2)) (n,), and minus log q of the labels that are categories.

        Nothing of the free numbers, whose use is for the decoder to find.
        """
        images, labels = batch[:2]
        return self.posterior.divergence(self._said(images)[0], labels, self.noise_variance)

    def draw(self, batch: tuple[Tensor, ...], generator: torch.Generator) -> tuple[Tensor, ...]:
        """Times, noise of images and of the code, and which rows are told nothing."""
        images, labels = batch[0], batch[1]
        return (
            *draw_noising(images, generator),
            torch.randn((len(labels), labels.shape[1] + self.free.size), generator=generator, device=images.device),
            torch.rand(len(images), generator=generator, device=images.device) < self.p_unconditional,
        )

    def loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        """Denoising loss plus ``kl_weight`` times the alignment, (n,), by the weights of the images."""
        images, labels, weights, t, image_noise, code_noise, withheld = batch
        outputs, of_free = (part.float() for part in self._said(images))
        factor_noise, free_noise = code_noise.split([labels.shape[1], self.free.size], dim=1)
        drawn = self.posterior.draw(outputs, labels, factor_noise)
        factors = self.factors.solved(torch.where(labels.isnan(), drawn, labels) if self.labels_told else drawn)
        told = self.told(torch.cat([factors, self.free.draw(of_free, free_noise)], dim=1))
        error = velocity_loss(self.decoder, images, told, t, image_noise, withheld)
        divergence = self.posterior.divergence(outputs, labels, self.noise_variance) + self.free.divergence(of_free)
        return weights * (error + self.kl_weight * divergence)

    def _said(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The encoder's outputs about the factors, and about the free numbers."""
        factors, free = self.encoder(images).split([sum(self.posterior.sizes), 2 * self.free.size], dim=1)
        return factors, free
