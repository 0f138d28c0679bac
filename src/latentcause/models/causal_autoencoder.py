"""The networks of CausalDiffAE and what they are trained on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from latentcause.models.code_posterior import CodePosterior
from latentcause.models.factor_model import FactorModel
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
    kl_weight, prior_sd, p_unconditional : float
        As in `CausalDiffAE`.
    """

    noise_variance: Tensor

    def __init__(
        self,
        factors: FactorModel,
        image_channels: int,
        channels: Sequence[int],
        *,
        kl_weight: float,
        prior_sd: float,
        p_unconditional: float,
    ) -> None:
        super().__init__()
        self.factors, self.posterior = factors, CodePosterior(factors.code, prior_sd)
        self.kl_weight, self.p_unconditional = kl_weight, p_unconditional
        self.encoder = ImageEncoder(image_channels, sum(self.posterior.sizes))
        self.decoder = UNet(image_channels, factors.code.size, tuple(channels))
        self.register_buffer("noise_variance", factors.noise_variance)

    def encode(self, images: Tensor) -> Tensor:
        """z (n, f) at the encoder's means, and the likeliest levels."""
        return self.factors.solved(self.posterior.mean(self.encoder(images)))

    def encoder_loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        """KL(q(u | x) || N(u_label, prior_sd^2)) (n,), and minus log q of the labels that are categories."""
        images, labels = batch
        return self.posterior.divergence(self.encoder(images), labels, self.noise_variance)

    def draw(self, batch: tuple[Tensor, ...], generator: torch.Generator) -> tuple[Tensor, ...]:
        """Times, noise of images and of factors, and which rows are told nothing."""
        images, labels = batch[0], batch[1]
        return (
            *draw_noising(images, generator),
            torch.randn(labels.shape, generator=generator, device=images.device),
            torch.rand(len(images), generator=generator, device=images.device) < self.p_unconditional,
        )

    def loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        """Denoising loss plus ``kl_weight`` times the alignment, (n,)."""
        images, labels, t, image_noise, factor_noise, withheld = batch
        outputs = self.encoder(images).float()
        told = self.factors.code.told(self.factors.solved(self.posterior.draw(outputs, labels, factor_noise)))
        error = velocity_loss(self.decoder, images, told, t, image_noise, withheld)
        return error + self.kl_weight * self.posterior.divergence(outputs, labels, self.noise_variance)
