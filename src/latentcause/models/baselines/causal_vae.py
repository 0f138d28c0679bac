"""CausalVAE: a variational autoencoder whose code is a structural causal model, with a convolutional decoder."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Self, cast

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from latentcause.data.labelled_images import LabelledImages
from latentcause.graph import CausalGraph
from latentcause.models.code_posterior import CodePosterior
from latentcause.models.factor_code import Bounds
from latentcause.models.factor_model import FactorModel
from latentcause.models.image_model import ROWS_AT_ONCE, ImageModel
from latentcause.networks import ImageEncoder
from latentcause.networks.unet import ImageNorm
from latentcause.scm.interventions import Intervention

HIDDEN = 128


class CausalVAE(ImageModel):
    """Encoder -> noise u of the factors -> causal layer z -> convolutional decoder: one pass, no diffusion.

    Yang et al., CausalVAE: disentangled representation learning via neural structural causal models, 2021. Minimises

        |x - D(z, s)|^2 / (2 pixel_sd^2) + kl_weight [KL(q(u | x) || N(u_label, prior_sd^2)) + KL(q(s | x) || N(0, I))],

    in nats per image, with z solved along the graph from a draw of u, and s the style: what no factor says of the image. The
    graph is given and the mechanisms are fitted to the labels, as in `CausalDiffAE`, where the published method learns a
    linear graph and masked mechanisms; its concepts of several entries, all tied to one label, carry what s carries here.
    An answer to do() is D(z', s) at the means, so even do() of nothing returns a reconstruction, not the image.

    Parameters
    ----------
    graph : CausalGraph
    style_size : int
        Entries of s.
    pixel_sd : float
        Standard deviation of a pixel, for images in [0, 1].
    channels : sequence of int
        Of the decoder, from the coarsest resolution; one more than it doubles the size of the image.
    bounds, mechanisms, epochs, batch_size, learning_rate, average, kl_weight, prior_sd, precision, device, seed
        As in `CausalDiffAE`.
    """

    module_: CausalVAENetwork

    def __init__(
        self,
        graph: CausalGraph,
        *,
        style_size: int = 16,
        pixel_sd: float = 0.05,
        bounds: Mapping[str, Bounds] | None = None,
        mechanisms: str | Mapping[str, str] = "spline",
        epochs: int = 30,
        batch_size: int = 32,
        learning_rate: float = 2e-3,
        average: float = 0.998,
        channels: Sequence[int] = (64, 32, 32),
        kl_weight: float = 1.0,
        prior_sd: float = 0.03,
        precision: Literal["float32", "bfloat16"] = "float32",
        device: str = "auto",
        seed: int = 0,
    ) -> None:
        self.graph = graph
        self.style_size = style_size
        self.pixel_sd = pixel_sd
        self.bounds = bounds
        self.mechanisms = mechanisms
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.average = average
        self.channels = channels
        self.kl_weight = kl_weight
        self.prior_sd = prior_sd
        self.precision = precision
        self.device = device
        self.seed = seed

    def fit(self, images: LabelledImages, *, checkpoint: Path | None = None, log: Path | None = None) -> Self:
        """Train on the images; labels may be missing where ``images`` allows it.

        Raises
        ------
        ValueError
            As `CausalDiffAE.fit` does, except that images of any size will do.
        """
        self.factors_ = FactorModel.fit(images, self.graph, self.bounds, self.mechanisms, self.seed)
        self.image_shape_ = images.pixels.shape[1:]
        self.module_ = cast(CausalVAENetwork, self._seeded_module())
        tensors = (torch.from_numpy(images.pixels.copy()), self.factors_.noise_of(images))
        self._train(tensors, checkpoint, log)
        return self

    def counterfactual(self, images: Any, do: Mapping[str, Intervention], labels: Any = None) -> np.ndarray:
        """What these images would have been under do(): abduct factors, their noise and the style; act; decode.

        Raises
        ------
        ValueError
            As `CausalDiffAE.counterfactual` does.
        """
        pixels = self._pixels(images)
        changed = self.factors_.counterfactual(self._factual(pixels, labels), do)
        return self._decoded(changed, self._styles(pixels))

    def sample(
        self, n: int, do: Mapping[str, Intervention] | None = None, *, generator: torch.Generator | int
    ) -> tuple[np.ndarray, pd.DataFrame]:
        """n new images (n, c, h, w) and their factors (n, f), under an intervention or none."""
        self.check_fitted()
        generator = generator if isinstance(generator, torch.Generator) else torch.Generator().manual_seed(generator)
        factors = self.factors_.sample(n, do, generator)
        return self._decoded(factors, torch.randn(n, self.style_size, generator=generator)), self.factors_.frame(
            factors
        )

    @torch.no_grad()
    def _styles(self, pixels: Tensor) -> Tensor:
        device = next(self.module_.parameters()).device
        return torch.cat([self.module_.style(part.to(device)).cpu() for part in pixels.split(ROWS_AT_ONCE)])

    @torch.no_grad()
    def _decoded(self, factors: Tensor, styles: Tensor) -> np.ndarray:
        device = next(self.module_.parameters()).device
        codes = torch.cat([self.code_.told(factors), styles], dim=1)
        return torch.cat([self.module_.decoder(part.to(device)).cpu() for part in codes.split(ROWS_AT_ONCE)]).numpy()

    def _new_module(self) -> CausalVAENetwork:
        return CausalVAENetwork(
            self.factors_,
            self.image_shape_,
            self.channels,
            self.style_size,
            pixel_sd=self.pixel_sd,
            kl_weight=self.kl_weight,
            prior_sd=self.prior_sd,
        )


class CausalVAENetwork(nn.Module):
    """q(u, s | x), the causal layer and D(z, s), with what they are trained on. Parameters as in `CausalVAE`."""

    noise_variance: Tensor

    def __init__(
        self,
        factors: FactorModel,
        image_shape: Sequence[int],
        channels: Sequence[int],
        style_size: int,
        *,
        pixel_sd: float,
        kl_weight: float,
        prior_sd: float,
    ) -> None:
        super().__init__()
        self.factors, self.posterior = factors, CodePosterior(factors.code, prior_sd)
        self.pixel_sd, self.kl_weight, self.style_size = pixel_sd, kl_weight, style_size
        self.encoder = ImageEncoder(image_shape[0], sum(self.posterior.sizes))
        # Pixels where they are: what convolutions and their mean over pixels say of the style takes much longer to learn, and
        # until then the prior has it collapse.
        self.style_encoder = nn.Sequential(
            nn.Flatten(), nn.Linear(math.prod(image_shape), HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, 2 * style_size)
        )
        self.decoder = ImageDecoder(factors.code.size + style_size, image_shape, channels)
        self.register_buffer("noise_variance", factors.noise_variance)

    def encode(self, images: Tensor) -> Tensor:
        """z (n, f) at the encoder's means, and the likeliest levels."""
        return self.factors.solved(self.posterior.mean(self.encoder(images)))

    def style(self, images: Tensor) -> Tensor:
        """The mean (n, style_size) of s."""
        return self.style_encoder(images).chunk(2, dim=1)[0]

    def draw(self, batch: tuple[Tensor, ...], generator: torch.Generator) -> tuple[Tensor, ...]:
        """Noise of u and s."""
        images, labels = batch
        shapes = (labels.shape, (len(images), self.style_size))
        return tuple(torch.randn(shape, generator=generator, device=images.device) for shape in shapes)

    def loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        """Minus the evidence lower bound (n,), in nats per image, up to a constant."""
        images, labels, factor_noise, style_noise = batch
        outputs = self.encoder(images).float()
        mean, log_variance = self.style_encoder(images).float().chunk(2, dim=1)
        told = self.factors.code.told(self.factors.solved(self.posterior.draw(outputs, labels, factor_noise)))
        style = mean + (0.5 * log_variance).exp() * style_noise
        error = (self.decoder(torch.cat([told, style], dim=1)).float() - images).square().sum(dim=(1, 2, 3))
        prior = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1)
        divergence = self.posterior.divergence(outputs, labels, self.noise_variance) + prior
        return error / (2 * self.pixel_sd**2) + self.kl_weight * divergence


class ImageDecoder(nn.Module):
    """Images (n, c, h, w) in [0, 1] from codes (n, k): a perceptron, then convolutions between doublings, cut to size."""

    def __init__(self, code_size: int, image_shape: Sequence[int], channels: Sequence[int]) -> None:
        super().__init__()
        self.shape = tuple(image_shape)
        doublings = len(channels) - 1
        self.start = (channels[0], *(math.ceil(size / 2**doublings) for size in self.shape[1:]))
        self.first = nn.Sequential(
            nn.Linear(code_size, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, math.prod(self.start)), nn.SiLU()
        )
        layers: list[nn.Module] = []
        for here, after in pairwise(channels):
            layers += [
                nn.Conv2d(here, after, 3, padding=1),
                ImageNorm(after),
                nn.SiLU(),
                nn.Upsample(scale_factor=2),
                nn.Conv2d(after, after, 3, padding=1),
                ImageNorm(after),
                nn.SiLU(),
            ]
        self.body = nn.Sequential(*layers, nn.Conv2d(channels[-1], self.shape[0], 3, padding=1), nn.Sigmoid())

    def forward(self, code: Tensor) -> Tensor:
        """The images."""
        h = self.first(code).reshape(len(code), *self.start)
        return self.body(h)[:, :, : self.shape[1], : self.shape[2]]
