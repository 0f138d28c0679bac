"""The diffusion autoencoder without a causal layer: its edits stop at the factor that is set."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self, cast

import numpy as np
import torch
from torch import Tensor, nn

from latentcause.data.labelled_images import LabelledImages
from latentcause.graph import CausalGraph
from latentcause.models.factor_code import Bounds, FactorCode
from latentcause.models.factor_model import FactorModel
from latentcause.models.image_diffusion import ImageDiffusion, draw_noising, velocity_loss
from latentcause.models.image_model import ROWS_AT_ONCE, ImageModel
from latentcause.networks import ImageEncoder, UNet
from latentcause.scm.interventions import Intervention

RIDGE = 1e-4  # of the mean variance of a code's entries


class DiffAE(ImageModel):
    """A code c = E(x) that no label shapes, a diffusion decoder that is told it, and the labels regressed linearly on it.

    Preechakul et al., Diffusion autoencoders: toward a meaningful and decodable representation, 2022, with the networks of
    `CausalDiffAE`. An intervention moves the code along the direction of the factor until the regression sees the change asked
    for, by the step that is shortest where codes are white: c' = c + S W (W'SW)^-1 (change), S the covariance of codes and W
    the regression weights of the factors that are set. (Without S the step would leave the codes that images have: entries of
    c are correlated.) The graph plays no part: factors downstream keep their labels, as far as the code separates them.

    Parameters
    ----------
    graph : CausalGraph
        Its nodes are the factors; its edges are not used.
    code_size : int
        Entries of c.
    bounds, steps, refinements, epochs, batch_size, learning_rate, average, channels, precision, device, seed
        As in `CausalDiffAE`.
    """

    module_: FreeAutoencoder

    def __init__(
        self,
        graph: CausalGraph,
        *,
        code_size: int = 32,
        bounds: Mapping[str, Bounds] | None = None,
        steps: int = 25,
        refinements: int = 3,
        epochs: int = 3,
        batch_size: int = 32,
        learning_rate: float = 2e-3,
        average: float = 0.998,
        channels: Sequence[int] = (32, 64),
        precision: Literal["float32", "bfloat16"] = "bfloat16",
        device: str = "auto",
        seed: int = 0,
    ) -> None:
        self.graph = graph
        self.code_size = code_size
        self.bounds = bounds
        self.steps = steps
        self.refinements = refinements
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.average = average
        self.channels = channels
        self.precision = precision
        self.device = device
        self.seed = seed

    def fit(self, images: LabelledImages, *, checkpoint: Path | None = None, log: Path | None = None) -> Self:
        """Train encoder and decoder on all images, then the regression on those with labels.

        Raises
        ------
        ValueError
            As `CausalDiffAE.fit` does.
        """
        # The graph has no edges here, so what an intervention sets is all that it changes.
        edgeless = CausalGraph(self.graph.nodes, ())
        self.factors_ = FactorModel.fit(images, edgeless, self.bounds, "linear", self.seed)
        self.image_shape_ = images.pixels.shape[1:]
        self.module_ = cast(FreeAutoencoder, self._seeded_module())
        self.module_.decoder.check_size(*self.image_shape_[1:])
        pixels = torch.from_numpy(images.pixels.copy())
        self._train((pixels,), checkpoint, log)
        labels = torch.from_numpy(self.code_.scaled(images.values_of(self.graph.nodes)[images.labelled]))
        self.module_.regress(self._codes(pixels[torch.tensor(images.labelled)]), self.code_.told(labels))
        return self

    def counterfactual(self, images: Any, do: Mapping[str, Intervention], labels: Any = None) -> np.ndarray:
        """These images with the factors of ``do`` changed: abduct code and noise, move the code, sample again.

        Raises
        ------
        ValueError
            As `CausalDiffAE.counterfactual` does.
        """
        pixels = self._pixels(images)
        factual = self._factual(pixels, labels)
        changed = self.factors_.counterfactual(factual, do)
        codes = self._codes(pixels)
        moved = self.module_.moved(codes, self.code_.told(changed) - self.code_.told(factual), self._columns(do))
        diffusion = ImageDiffusion(self.module_.decoder, self.steps, self.refinements)
        return diffusion.edited(pixels, codes, moved).numpy()

    @torch.no_grad()
    def _codes(self, pixels: Tensor) -> Tensor:
        device = next(self.module_.parameters()).device
        return torch.cat([self.module_.code_of(part.to(device)).cpu() for part in pixels.split(ROWS_AT_ONCE)])

    def _columns(self, do: Mapping[str, Intervention]) -> Tensor:
        """Which numbers of what a network is told belong to the factors that are set."""
        return torch.cat(
            [torch.full((len(self.code_.levels.get(name, (0,))),), name in do) for name in self.code_.names]
        )

    def _new_module(self) -> nn.Module:
        return FreeAutoencoder(self.code_, self.image_shape_, self.channels, self.code_size)


class FreeAutoencoder(nn.Module):
    """c = E(x), v(x_t, t, c), and the regression of what `FactorCode.told` says of the labels on c."""

    covariance: Tensor
    weights: Tensor
    intercept: Tensor

    def __init__(self, code: FactorCode, image_shape: Sequence[int], channels: Sequence[int], code_size: int) -> None:
        super().__init__()
        self.code = code
        self.encoder = ImageEncoder(image_shape[0], code_size)
        # A new encoder says nearly the same of all images, and a decoder that learns to ignore it never needs it to say
        # more. A random projection of the pixels differs from the start.
        self.projection = nn.Linear(math.prod(image_shape), code_size)
        self.decoder = UNet(image_shape[0], code_size, tuple(channels))
        self.register_buffer("covariance", torch.eye(code_size))
        self.register_buffer("weights", torch.zeros(code_size, code.size))
        self.register_buffer("intercept", torch.zeros(code.size))

    def code_of(self, images: Tensor) -> Tensor:
        """c (n, k)."""
        return self.encoder(images) + self.projection(images.flatten(1))

    def draw(self, batch: tuple[Tensor, ...], generator: torch.Generator) -> tuple[Tensor, ...]:
        """Times and noise."""
        return draw_noising(batch[0], generator)

    def loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        """Squared error (n,) of the velocity."""
        images, t, noise = batch
        return velocity_loss(self.decoder, images, self.code_of(images).float(), t, noise)

    def regress(self, codes: Tensor, told: Tensor) -> None:
        """Fit the regression (ridge) to codes (n, k) and what their labels say (n, m)."""
        centre, target = codes.double().mean(0), told.double().mean(0)
        offsets = codes.double() - centre
        covariance = offsets.T @ offsets / len(codes)
        covariance += RIDGE * covariance.trace() / len(covariance) * torch.eye(len(covariance))
        weights = torch.linalg.solve(covariance, offsets.T @ (told.double() - target) / len(codes))
        self.covariance.copy_(covariance)
        self.weights.copy_(weights)
        self.intercept.copy_(target - centre @ weights)

    def encode(self, images: Tensor) -> Tensor:
        """Factors (n, f) on the standard scale, by the regression."""
        return self.code.chosen(self.intercept + self.code_of(images) @ self.weights)

    def moved(self, codes: Tensor, change: Tensor, columns: Tensor) -> Tensor:
        """Codes (n, k) after the step that changes these columns of what the regression says by ``change`` (n, m)."""
        covariance, weights = self.covariance.double().cpu(), self.weights[:, columns].double().cpu()
        # The indicators of a category sum to 1, so their directions are not independent.
        inverse = torch.linalg.pinv(weights.T @ covariance @ weights, hermitian=True, rtol=1e-6)
        return codes + (change[:, columns].double() @ inverse @ weights.T @ covariance).float()
