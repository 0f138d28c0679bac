"""A linear-Gaussian prior of fields, fitted to observations by expectation maximisation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from sklearn.base import clone
from torch import Tensor

from latentcause.data.gridded_observations import GriddedObservations
from latentcause.fields import GaussianFields, conditioned_draws, fitted_fields
from latentcause.progress import progress
from latentcause.training import resolve_device

if TYPE_CHECKING:
    from latentcause.models.svgdm import SVGDM

DRAWS = 32  # of the posterior, for each round


def fitted_prior(model: SVGDM, observations: GriddedObservations) -> GaussianFields:
    """The model's prior after its ``rounds`` of expectation (posterior draws) and maximisation (`fitted_fields`).

    Raises
    ------
    ValueError
        For a prior that is not `GaussianFields`, and a negative number of rounds.
    """
    prior = model.prior
    if not isinstance(prior, GaussianFields):
        raise ValueError(
            f"rounds={model.rounds} fit a prior of GaussianFields, not a {type(prior).__name__}: give that, or 0"
        )
    if model.rounds < 0:
        raise ValueError(f"rounds={model.rounds}: give 0 or more")
    with progress("fitting the prior", model.rounds, "round") as report:
        for k in range(model.rounds):
            # The same noise in every round, so that rounds settle.
            prior = fitted_fields(prior, _posterior_draws(model, prior, observations))
            report(k + 1, k + 1)
    return prior


def _posterior_draws(model: SVGDM, prior: GaussianFields, observations: GriddedObservations) -> Tensor:
    """Under a prior: exact where they can be, since small errors of variances add up over rounds."""
    device = resolve_device(model.device)
    generator = torch.Generator(device).manual_seed(model.seed)
    if observations.is_linear and observations.is_gaussian:
        joint = prior.joint(model.form_of(observations)).to(device, torch.float64)
        return conditioned_draws(joint, observations, DRAWS, generator).cpu()
    other = clone(model).set_params(prior=prior, scores="exact", rounds=0).fit(observations)
    return other.sampled(DRAWS, generator, observations)[0].double()
