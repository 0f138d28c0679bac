"""One fit of one method to simulated data, measured against the truth and the limit."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from latentcause.datasets import InterventionalSample
from latentcause.graph import CausalGraph
from latentcause.metrics import (
    align_columns,
    bayes_optimal_latents,
    frobenius_error,
    mean_correlation_coefficient,
    relative_mse,
    relative_mse_by_domain,
)
from latentcause.metrics.latents import Alignment
from latentcause.models.base import LatentModel

NORMAL_90 = 1.6448536269514722  # standard deviations that hold 90 % of a normal distribution


@dataclass(frozen=True)
class Contestant:
    """A method under the name that tables give it.

    Attributes
    ----------
    name : str
    make : callable
        The unfitted model for a graph and a seed.
    align : {"sign", "signed-permutation"}
        Whether the method says which column is which node, or the columns are matched to the truth (appendix A.2).
    slow : bool
        Left out of quick runs.
    """

    name: str
    make: Callable[[CausalGraph, int], LatentModel]
    align: Alignment = "sign"
    slow: bool = False


@dataclass(frozen=True)
class Outcome:
    """What one fit came to.

    Attributes
    ----------
    relative_mse, frobenius_error, correlation, seconds : float
        Eqs. (7.2) and (7.3) of Wu, von Kuegelgen and Blei, and the mean correlation coefficient.
    coverage : float
        Share of true values within the 90 % error bars.
    by_domain : dict
        `relative_mse` of every domain.
    converged : bool
    """

    relative_mse: float
    frobenius_error: float
    correlation: float
    coverage: float
    seconds: float
    by_domain: dict[str, float]
    converged: bool


def compete(contestant: Contestant, sample: InterventionalSample, seed: int) -> tuple[Outcome, LatentModel, np.ndarray]:
    """Fit and measure; also give the fitted model and its latents (n, d_z) aligned with the true ones.

    Warnings that a fit did not settle are not shown: ``Outcome.converged`` holds them.
    """
    begun = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        model = contestant.make(sample.system.graph, seed).fit(sample.data)
    seconds = time.perf_counter() - begun
    alignment = align_columns(model.loadings_, sample.system.loadings, contestant.align)
    latents = alignment.latents(model.latents_)
    sd = np.sqrt(model.latent_variances_[:, alignment.order])
    outcome = Outcome(
        relative_mse=relative_mse(latents, sample.latents),
        frobenius_error=frobenius_error(model.loadings_, sample.system.loadings, contestant.align),
        correlation=mean_correlation_coefficient(latents, sample.latents),
        coverage=float((np.abs(latents - sample.latents) <= NORMAL_90 * sd).mean()),
        seconds=seconds,
        by_domain=_by_domain(latents, sample),
        converged=bool(model.converged_),
    )
    return outcome, model, latents


def limit(sample: InterventionalSample) -> dict[str, Any]:
    """RelMSE, overall and by domain, and correlation of the Bayes-optimal posterior mean."""
    latents = bayes_optimal_latents(sample)
    return {
        "relative_mse": relative_mse(latents, sample.latents),
        "correlation": mean_correlation_coefficient(latents, sample.latents),
        "by_domain": _by_domain(latents, sample),
    }


def _by_domain(latents: np.ndarray, sample: InterventionalSample) -> dict[str, float]:
    labels = np.array([str(domain) for domain in sample.data.domains])[sample.data.domain_index]
    return {str(label): error for label, error in relative_mse_by_domain(latents, sample.latents, labels).items()}
