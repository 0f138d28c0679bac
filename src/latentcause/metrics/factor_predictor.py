"""A small network that reads factors off images: a judge of counterfactual images that no model under test has had a part in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from latentcause.data.labelled_images import LabelledImages, checked_pixels
from latentcause.networks import ImageEncoder
from latentcause.threads import threads_for
from latentcause.training import Recipe, resolve_device, seeded, train

ROWS_AT_ONCE = 512


@dataclass(frozen=True, eq=False)
class FactorPredictor:
    """Factors of images, in the units of their labels: ``centre + scale * network(images)``.

    Attributes
    ----------
    names : tuple of str
    centre, scale : ndarray (number of factors,)
    network : ImageEncoder
    """

    names: tuple[str, ...]
    centre: np.ndarray
    scale: np.ndarray
    network: ImageEncoder

    def __call__(self, images: Any) -> pd.DataFrame:
        """A frame (n, number of factors) of images (n, c, h, w)."""
        pixels, device = torch.from_numpy(checked_pixels(images)), next(self.network.parameters()).device
        with torch.no_grad():
            parts = [self.network(part.to(device)).cpu() for part in pixels.split(ROWS_AT_ONCE)]
        return pd.DataFrame(self.centre + self.scale * torch.cat(parts).double().numpy(), columns=list(self.names))


def train_factor_predictor(
    images: LabelledImages, *, seed: int, epochs: int = 10, device: str = "auto"
) -> FactorPredictor:
    """Least squares on the standardised labels of real images, by AdamW on an `ImageEncoder`.

    Factors that go together in the training images may be read off each other: where an intervention breaks that, the measured
    factors are the better judge.

    Parameters
    ----------
    images : LabelledImages
        Not those that are to be judged. Images without labels are left out.
    seed, epochs : int
    device : str

    Raises
    ------
    ValueError
        For a factor that is a category or does not vary.
    """
    if images.levels:
        raise ValueError(f"factor {next(iter(images.levels))!r} is a category: the predictor reads numbers")
    values = images.values[images.labelled]
    centre, scale = values.mean(axis=0), values.std(axis=0)
    if not scale.all():
        raise ValueError(
            f"factor {images.names[int((scale == 0).argmax())]!r} is the same in all images: nothing to learn"
        )
    with seeded(seed):
        network = ImageEncoder(images.pixels.shape[1], len(images.names))
    targets = torch.from_numpy((values - centre) / scale).float()

    def loss(batch: tuple[Tensor, ...]) -> Tensor:
        return (network(batch[0]) - batch[1]).square().mean(dim=1)

    with threads_for(0):
        train(
            network,
            loss,
            (torch.from_numpy(images.pixels[images.labelled]), targets),
            Recipe(epochs, batch_size=64, learning_rate=2e-3, schedule="cosine", held_out=0.0),
            seed=seed,
            device=str(resolve_device(device)),
            label="predictor",
        )
    return FactorPredictor(images.names, centre, scale, network.eval())
