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
    """p(inner, ring | context) = sum_k pi_k(context) p_k(inner) p_k(ring | inner, context), maximised over everything.

    ``inner`` is the mean of the map in a small window, ``ring`` that of the pixels around it, as far as noise reaches, and
    ``context`` what lies beyond. pi is a network; p_k(inner, ring | context) a mixture of normals, in which the mean of the ring is
    linear in inner and context. That inner depends on the context through the class alone is what makes the classes known:
    they are what a window shares with its surroundings (blind-spot networks: Laine, Karras, Lehtinen and Aila 2019; mixtures
    known from conditionally independent views: Allman, Matias and Rhodes, Annals of Statistics 37, 2009).

    Parameters
    ----------
    inputs : int
        Of the network.
    views : Tensor (n, 2)
        Inner and ring of all windows: the densities start at their quantiles.
    contexts : int
        Numbers of the context on which the mean of the ring depends.
    width, components : int
        Of the two hidden layers; normals in each class.
    """

    def __init__(self, inputs: int, views: Tensor, contexts: int, width: int, components: int) -> None:
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, len(CLASSES))
        )
        start = torch.quantile(views[:: max(1, len(views) // 100_000), 0], torch.tensor(_STARTS).to(views))
        apart = torch.linspace(-0.6, 0.6, components) if components > 1 else torch.zeros(1)
        shape = (len(CLASSES), components)
        self.level = nn.Parameter(start[:, None] + apart)
        self.log_sd = nn.Parameter(torch.full(shape, math.log(0.7)))
        self.ring_level = nn.Parameter(torch.zeros(shape))
        self.ring_slope = nn.Parameter(torch.ones(shape))
        self.ring_context = nn.Parameter(torch.zeros(len(CLASSES), contexts))
        self.ring_log_sd = nn.Parameter(torch.full(shape, math.log(0.7)))
        self.weight = nn.Parameter(torch.zeros(shape))

    def log_classes(self, x: Tensor) -> Tensor:
        """log pi (n, 3) of inputs (n, inputs)."""
        return log_softmax(self.network(x), dim=1)

    def log_inner_density(self, inner: Tensor) -> Tensor:
        """log p_k(inner) (n, 3) of inner (n, 1)."""
        each = _log_normal(inner[:, :, None] - self.level, self.log_sd)
        return torch.logsumexp(log_softmax(self.weight, dim=1) + each, dim=-1)

    def log_density(self, views: Tensor, contexts: Tensor) -> Tensor:
        """log p_k(inner, ring | context) (n, 3) of views (n, 2) and contexts (n, contexts)."""
        inner, ring = views[:, :1, None], views[:, 1:, None]
        mean = self.ring_level + self.ring_slope * inner + (contexts @ self.ring_context.T)[:, :, None]
        total = _log_normal(inner - self.level, self.log_sd) + _log_normal(ring - mean, self.ring_log_sd)
        return torch.logsumexp(log_softmax(self.weight, dim=1) + total, dim=-1)

    def loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        """-log p(inner, ring | context) (n,) of inputs, views and contexts."""
        x, views, contexts = batch
        return -torch.logsumexp(self.log_classes(x) + self.log_density(views, contexts), dim=1)

    def posterior(self, x: Tensor, views: Tensor, contexts: Tensor) -> Tensor:
        """P(class | everything) (n, 3)."""
        return torch.softmax(self.log_classes(x) + self.log_density(views, contexts), dim=1)


def _log_normal(difference: Tensor, log_sd: Tensor) -> Tensor:
    return -0.5 * (difference / log_sd.exp()).square() - log_sd - 0.5 * math.log(2 * math.pi)
