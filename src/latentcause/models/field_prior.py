"""A linear-Gaussian prior of fields, fitted to observations by expectation maximisation."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from sklearn.base import clone
from torch import Tensor

from latentcause.data.gridded_observations import GriddedObservations
from latentcause.fields import (
    GaussianFields,
    Kernel,
    Matern,
    SquaredExponential,
    conditioned_draws,
    fitted_fields,
    log_evidence,
)
from latentcause.fields.conditioning import MOST_CELLS
from latentcause.fields.fitting import LONGEST, MOST_STEP, SHORTEST
from latentcause.models.anderson import Anderson
from latentcause.models.kept_rounds import KeptRounds
from latentcause.progress import progress
from latentcause.training import resolve_device

if TYPE_CHECKING:
    from latentcause.models.svgdm import SVGDM

DRAWS = 32  # of the posterior, for each round


def fitted_prior(model: SVGDM, observations: GriddedObservations, checkpoint: Path | None = None) -> GaussianFields:
    """The model's prior after its ``rounds`` of expectation (posterior draws) and maximisation (`fitted_fields`).

    Where the evidence of the observations is known in closed form (`log_evidence`: linear and Gaussian, at most 1024 cells)
    each round also goes on from the last few by Anderson's acceleration. The likeliest counts: that point, the plain round, or
    where both started, and then the rounds have settled and end. Else rounds are plain; these are nearly, and not strictly,
    likelier than the ones before, since the lengths are fitted by Whittle's likelihood.

    Where there is a ``checkpoint``, the state after each round is kept beside it, in a file of its name and ``.rounds``, and rounds
    go on from there to the same result (to rounding); also to more of them than were asked for then.

    Raises
    ------
    ValueError
        For a prior that is not `GaussianFields`, a negative number of rounds, and a file that is damaged or of another fit.
    """
    prior = model.prior
    if not isinstance(prior, GaussianFields):
        raise ValueError(
            f"rounds={model.rounds} fit a prior of GaussianFields, not a {type(prior).__name__}: give that, or form='sites' for "
            "independent sites, or rounds=0"
        )
    if model.rounds < 0:
        raise ValueError(f"rounds={model.rounds}: give 0 or more")
    anderson = Anderson(np.ones_like(_packed(prior)))
    known = observations.is_linear and observations.is_gaussian and len(observations.values) <= MOST_CELLS

    def rated(fields: GaussianFields) -> tuple[float, GaussianFields]:
        return log_evidence(fields.joint(model.form_of(observations)), observations), fields

    kept = None if checkpoint is None else KeptRounds(checkpoint, model, observations)
    done, settled = 0, False
    if kept is not None and kept.path.exists():
        done, settled, prior, anderson.memory = kept.read(prior)
    best = rated(prior) if known else (math.nan, prior)
    with progress("fitting the prior", model.rounds, "round") as report:
        for k in range(done, model.rounds if not settled else done):
            # The same noise in every round, so that rounds settle.
            plain = fitted_fields(prior, _posterior_draws(model, prior, observations))
            if known:
                further = _unpacked(anderson.next(_packed(prior), _packed(plain)), plain)
                best = max(rated(further), rated(plain), best, key=lambda pair: pair[0])
                settled = best[1] is prior
                if best[1] is plain:
                    anderson.forget()
            prior = best[1] if known else plain
            if kept is not None:
                kept.write(k + 1, settled, prior, anderson.memory)
            report(k + 1, k + 1)
            if settled:
                break
    return prior


def _packed(fields: GaussianFields) -> np.ndarray:
    """Its numbers, those that are positive by their logarithms."""
    kernels = fields.kernels.values()
    variances = [math.log(kernel.variance) for kernel in kernels]
    lengths = [math.log(kernel.length) for kernel in kernels if isinstance(kernel, Matern | SquaredExponential)]
    return np.array([*fields.weights.values(), *fields.intercepts.values(), *variances, *lengths])


def _unpacked(numbers: np.ndarray, like: GaussianFields) -> GaussianFields:
    """The fields that have these numbers, in the order of `_packed`; positive ones within a factor of those of ``like``."""
    rest = iter(numbers.tolist())
    weights = {edge: next(rest) for edge in like.weights}
    intercepts = {node: next(rest) for node in like.intercepts}
    kernels: dict[str, Kernel] = {}
    for node, kernel in like.kernels.items():
        kernels[node] = replace(kernel, variance=_near(next(rest), kernel.variance))  # type: ignore[type-var]
    for node, kernel in kernels.items():
        if isinstance(kernel, Matern | SquaredExponential):
            length = min(max(_near(next(rest), kernel.length), SHORTEST), LONGEST * max(like.shape))
            kernels[node] = replace(kernel, length=length)
    return GaussianFields(like.graph, weights, kernels, like.shape, intercepts)


def _near(logarithm: float, other: float) -> float:
    """Its exponential, at most `MOST_STEP` times as large as another number, or as small."""
    return other * math.exp(min(max(logarithm - math.log(other), -math.log(MOST_STEP)), math.log(MOST_STEP)))


def _posterior_draws(model: SVGDM, prior: GaussianFields, observations: GriddedObservations) -> Tensor:
    """Under a prior: exact where they can be, since small errors of variances add up over rounds."""
    device = resolve_device(model.device)
    generator = torch.Generator(device).manual_seed(model.seed)
    if observations.is_linear and observations.is_gaussian:
        joint = prior.joint(model.form_of(observations)).to(device, torch.float64)
        return conditioned_draws(joint, observations, DRAWS, generator).cpu()
    other = clone(model).set_params(prior=prior, scores="exact", rounds=0).fit(observations)
    return other.sampled(DRAWS, generator, observations)[0].double()
