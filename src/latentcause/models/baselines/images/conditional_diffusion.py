"""A diffusion model of images that is told their labels: counterfactuals without an encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self, cast

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from latentcause.data.labelled_images import LabelledImages
from latentcause.graph import CausalGraph
from latentcause.models.factor_code import Bounds, FactorCode
from latentcause.models.factor_model import FactorModel
from latentcause.models.image_diffusion import ImageDiffusion, draw_noising, velocity_loss
from latentcause.models.image_model import ImageModel
from latentcause.networks import UNet
from latentcause.scm.interventions import Intervention


class ConditionalDiffusion(ImageModel):
    """The decoder of `CausalDiffAE`, told the labels themselves; so they must be known of every image that is asked about.

    A counterfactual abducts the image's noise given its labels by inverting the sampler, moves the labels as their structural
    causal model says, and samples again (diffusion as the mechanism of the image, as in Sanchez and Tsaftaris, Diffusion
    causal models for counterfactual estimation, 2022; here without a classifier, and by `ImageDiffusion.edited`). Images
    without labels teach only the part of the network that is told nothing.

    Parameters
    ----------
    graph : CausalGraph
    bounds, mechanisms, guidance, steps, refinements
    epochs, batch_size, learning_rate, average, channels
    p_unconditional, precision, device, seed
        As in `CausalDiffAE`.
    """

    module_: LabelledDecoder

    def __init__(
        self,
        graph: CausalGraph,
        *,
        bounds: Mapping[str, Bounds] | None = None,
        mechanisms: str | Mapping[str, str] = "spline",
        guidance: float = 1.0,
        steps: int = 25,
        refinements: int = 3,
        epochs: int = 3,
        batch_size: int = 32,
        learning_rate: float = 2e-3,
        average: float = 0.998,
        channels: Sequence[int] = (32, 64),
        p_unconditional: float = 0.1,
        precision: Literal["float32", "bfloat16"] = "bfloat16",
        device: str = "auto",
        seed: int = 0,
    ) -> None:
        self.graph = graph
        self.bounds = bounds
        self.mechanisms = mechanisms
        self.guidance = guidance
        self.steps = steps
        self.refinements = refinements
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.average = average
        self.channels = channels
        self.p_unconditional = p_unconditional
        self.precision = precision
        self.device = device
        self.seed = seed

    def fit(self, images: LabelledImages, *, checkpoint: Path | None = None, log: Path | None = None) -> Self:
        """Train on the images; what is refused is what `CausalDiffAE.fit` refuses."""
        self.factors_ = FactorModel.fit(images, self.graph, self.bounds, self.mechanisms, self.seed)
        self.image_shape_ = images.pixels.shape[1:]
        self.module_ = cast(LabelledDecoder, self._seeded_module())
        self.module_.decoder.check_size(*self.image_shape_[1:])
        labels = torch.from_numpy(self.code_.scaled(images.values_of(self.graph.nodes))).float()
        self._train((torch.from_numpy(images.pixels.copy()), labels), checkpoint, log)
        return self

    def counterfactual(self, images: Any, do: Mapping[str, Intervention], labels: Any = None) -> np.ndarray:
        """What these images would have been under do(); ``labels`` (a DataFrame) have to be given.

        Raises
        ------
        ValueError
            As `CausalDiffAE.counterfactual` does, and without labels.
        """
        pixels = self._pixels(images)
        factual = self._factual(pixels, labels)
        changed = self.factors_.counterfactual(factual, do)
        without = [
            (self.code_.told(self._without(name, factual, changed)), weight)
            for name, weight in self._exaggerated(do, self.guidance).items()
        ]
        return self._diffusion().edited(pixels, self.code_.told(factual), self.code_.told(changed), without).numpy()

    def sample(
        self, n: int, do: Mapping[str, Intervention] | None = None, *, generator: torch.Generator | int
    ) -> tuple[np.ndarray, pd.DataFrame]:
        """n new images (n, c, h, w) and their factors (n, f), under an intervention or none."""
        self.check_fitted()
        generator = generator if isinstance(generator, torch.Generator) else torch.Generator().manual_seed(generator)
        factors = self.factors_.sample(n, do, generator)
        noise = torch.randn((n, *self.image_shape_), generator=generator)
        pixels = self._diffusion().images_from(noise, self.code_.told(factors), self.guidance)
        return pixels.numpy(), self.factors_.frame(factors)

    def _diffusion(self) -> ImageDiffusion:
        return ImageDiffusion(self.module_.decoder, self.steps, self.refinements)

    def _new_module(self) -> nn.Module:
        return LabelledDecoder(self.code_, self.image_shape_[0], self.channels, self.p_unconditional)


class LabelledDecoder(nn.Module):
    """v(x_t, t, labels), and its training on images and labels (n, f) on the standard scale, NaN where there are none."""

    def __init__(self, code: FactorCode, image_channels: int, channels: Sequence[int], p_unconditional: float) -> None:
        super().__init__()
        self.code, self.p_unconditional = code, p_unconditional
        self.decoder = UNet(image_channels, code.size, tuple(channels))

    def draw(self, batch: tuple[Tensor, ...], generator: torch.Generator) -> tuple[Tensor, ...]:
        """Times, noise, and which rows are told nothing."""
        images = batch[0]
        withheld = torch.rand(len(images), generator=generator, device=images.device) < self.p_unconditional
        return (*draw_noising(images, generator), withheld)

    def loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        """Squared error (n,) of the velocity."""
        images, labels, t, noise, withheld = batch
        unknown = labels.isnan().any(dim=1)
        return velocity_loss(self.decoder, images, self.code.told(labels.nan_to_num()), t, noise, withheld | unknown)
