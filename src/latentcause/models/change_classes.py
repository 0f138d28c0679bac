"""Classes of the pixels of a map, learned from how the middle of a window depends on its surroundings."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

CLASSES = ("none", "other", "caused")
"""Of a pixel: no change, a change of which no cause is known, and a change by one of the causes."""

_STARTS = (0.30, 0.75, 0.95)  # quantiles of the map at which the classes' densities begin


class ChangeClasses(nn.Module):
    """p(y | context) = sum_k pi_k(context) p_k(y), maximised over the network pi and the densities p_k, mixtures of normals.

    y is the mean of the map in a small window, ``context`` what lies around it beyond the reach of the noise. That y depends on the
    context through the class alone is what makes the classes known: they are what a window shares with its surroundings
    (blind-spot networks: Laine, Karras, Lehtinen and Aila 2019; mixtures known from conditionally independent views: Allman,
    Matias and Rhodes, Annals of Statistics 37, 2009).

    Parameters
    ----------
    inputs : int
        Of the network.
    y : Tensor (n, 1)
        Of all windows: the densities start at its quantiles.
    width, components : int
        Of the two hidden layers; normals in each class.
    """

    def __init__(self, inputs: int, y: Tensor, width: int, components: int) -> None:
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, len(CLASSES))
        )
        start = torch.quantile(y[:: max(1, len(y) // 100_000), 0], torch.tensor(_STARTS).to(y))
        apart = torch.linspace(-0.6, 0.6, components) if components > 1 else torch.zeros(1)
        shape = (len(CLASSES), components)
        self.level = nn.Parameter(start[:, None] + apart)
        self.log_sd = nn.Parameter(torch.full(shape, math.log(0.7)))
        self.weight = nn.Parameter(torch.zeros(shape))

    def log_classes(self, x: Tensor) -> Tensor:
        """log pi (n, 3) of inputs (n, inputs)."""
        return log_softmax(self.network(x), dim=1)

    def log_density(self, y: Tensor) -> Tensor:
        """log p_k(y) (n, 3) of y (n, 1)."""
        deviation = (y[:, :, None] - self.level) / self.log_sd.exp()
        each = -0.5 * deviation.square() - self.log_sd - 0.5 * math.log(2 * math.pi)
        return torch.logsumexp(log_softmax(self.weight, dim=1) + each, dim=-1)

    def loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        """-log p(y | context) (n,) of inputs and y."""
        x, y = batch
        return -torch.logsumexp(self.log_classes(x) + self.log_density(y), dim=1)

    def posterior(self, x: Tensor, y: Tensor) -> Tensor:
        """P(class | context, y) (n, 3)."""
        return torch.softmax(self.log_classes(x) + self.log_density(y), dim=1)
