"""Draws of the clean fields, from whatever a user gives as their prior."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from latentcause.models.svgdm import SVGDM


class Prior(Protocol):
    """What the fields are drawn from: `latentcause.fields.GaussianFields`, `StructuralFields`, or a simulator."""

    def sample(self, n: int, generator: torch.Generator) -> Tensor: ...  # noqa: D102


def training_draws(model: SVGDM) -> Tensor:
    """What scores are learned from, (n, d, *shape) in float64: an array of draws as it is, else as many as the model asks for.

    Raises
    ------
    ValueError
        For a prior that nothing can be drawn from.
    """
    prior = model.prior_
    if prior is None:
        raise ValueError("this model was loaded from a file that holds no prior: set model.prior before another fit")
    if isinstance(prior, (np.ndarray, Tensor)):
        return torch.as_tensor(prior, dtype=torch.float64)
    if not hasattr(prior, "sample"):
        raise ValueError(f"the prior is a {type(prior).__name__}: give fields to draw from, or draws")
    return torch.as_tensor(prior.sample(model.draws, torch.Generator().manual_seed(model.seed))).double()


def further_draws(model: SVGDM, n: int, generator: torch.Generator) -> Tensor:
    """Draws (n, d, *shape) in float64 on the CPU; of an array, rows of it.

    Raises
    ------
    ValueError
        Where the model has no prior.
    """
    prior = model.prior_
    if isinstance(prior, (np.ndarray, Tensor)):
        rows = torch.randint(len(prior), (n,), generator=generator, device=generator.device).cpu()
        return torch.as_tensor(prior)[rows].double()
    if not hasattr(prior, "sample"):
        raise ValueError("this model has no prior to draw from: set model.prior")
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    return prior.sample(n, torch.Generator().manual_seed(seed)).double()
