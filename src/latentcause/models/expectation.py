"""E-steps of g-modeling: posterior moments of the latents under the current prior, exact on forests, sampled on any graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from latentcause.inference.chains import Assigned, PosteriorChains
from latentcause.inference.tree import Grid, tree_posterior
from latentcause.models.structural_prior import Regression, StructuralPrior, rows_of_states

ROWS = 8192
"""Rows that message passing takes at a time, which bounds the memory of its tables."""


@dataclass(frozen=True)
class Expectation:
    """Result of an E-step.

    Attributes
    ----------
    mean, variance : Tensor (n, d)
        Posterior means and variances.
    second : Tensor (d, d)
        Sum over samples of E[z z'].
    statistics : list of list of Regression
        Expected statistics of every node's mechanism in both states.
    log_likelihood : float or None
        Sum over samples of log p(u), where it is known.
    """

    mean: Tensor
    variance: Tensor
    second: Tensor
    statistics: list[list[Regression]]
    log_likelihood: float | None


class EStep(Protocol):
    """What g-modeling asks of an E-step."""

    def __call__(self, prior: StructuralPrior, u: Tensor, noise: Tensor) -> Expectation:
        """Posterior of z given u (n, d) = z + N(0, noise), with noise (d,) or (d, d)."""
        ...


class ExactEStep:
    """Message passing on a grid; for graphs where no node has two parents, and uncorrelated noise.

    Grids reach beyond the samples of their domain, and beyond the points ``reach`` (k, d) where given: for a few samples that may
    lie far from where the prior has its mass.
    """

    def __init__(self, domain: Tensor, indicator: np.ndarray, reach: Tensor | None = None) -> None:
        self.rows = [(domain == e).nonzero()[:, 0] for e in range(len(indicator))]
        self.indicator = indicator
        self.reach = reach

    def __call__(self, prior: StructuralPrior, u: Tensor, noise: Tensor) -> Expectation:
        """See `EStep`."""
        mean, variance = torch.empty_like(u), torch.empty_like(u)
        statistics = prior.empty_statistics()
        total = 0.0
        for targeted, rows in zip(self.indicator, self.rows, strict=True):
            scm = prior.scm(targeted)
            points = u[rows] if self.reach is None else torch.cat([u[rows], self.reach])
            grid = Grid.covering(points, noise, scm)
            for part in rows.split(ROWS):
                posterior = tree_posterior(scm, u[part], noise, grid)
                mean[part], variance[part] = posterior.mean, posterior.variance
                prior.add_tables(statistics, posterior, grid, targeted)
                total += float(posterior.log_likelihood.sum())
        second = mean.T @ mean + torch.diag(
            variance.sum(0)
        )  # off-diagonal covariances only matter for correlated noise
        return Expectation(mean, variance, second, statistics, total)


class SampledEStep:
    """Persistent Monte Carlo chains with averaging over iterations: stochastic-approximation EM (Delyon et al. 1999).

    Statistics are S_k = S_{k-1} + gamma_k (new - S_{k-1}) with gamma = 1 for the first ``burn_in`` calls and 1 / (calls since)
    after, so the Monte Carlo error dies out although every call makes only a few moves.

    Parameters
    ----------
    domain, indicator
        Domain number of every row (n,), and the nodes each domain targets.
    burn_in, moves : int
    seed : int
    """

    def __init__(self, domain: Tensor, indicator: np.ndarray, *, burn_in: int, moves: int, seed: int) -> None:
        self.rows = rows_of_states(domain, indicator)
        self.burn_in, self.moves = burn_in, moves
        self.generator = torch.Generator(domain.device).manual_seed(seed)
        self.chains: PosteriorChains | None = None
        self.calls = 0
        self.average: Expectation | None = None

    def __call__(self, prior: StructuralPrior, u: Tensor, noise: Tensor) -> Expectation:
        """See `EStep`."""
        z = self._advance(prior, u, noise, self.moves)
        statistics = prior.empty_statistics()
        prior.add_rows(statistics, z, self.rows)
        new = Expectation(z, torch.zeros_like(z), z.T @ z, statistics, None)
        self.calls += 1
        if self.average is None or self.calls <= self.burn_in:
            self.average = new
        else:
            self.average = _blend(self.average, new, 1.0 / (self.calls - self.burn_in))
        return self.average

    def final(self, prior: StructuralPrior, u: Tensor, noise: Tensor, draws: int) -> Expectation:
        """Posterior moments from a number of fresh draws under the final model."""
        self._advance(prior, u, noise, 5)
        mean, square = torch.zeros_like(u), torch.zeros_like(u)
        second = u.new_zeros(u.shape[1], u.shape[1])
        for _ in range(draws):
            z = self._advance(prior, u, noise, 1)
            mean += z / draws
            square += z.square() / draws
            second += z.T @ z / draws
        # The mean of m draws carries 1/m of the variance as Monte Carlo error, which the plain estimate lacks.
        variance = (square - mean.square()) * draws / (draws - 1)
        return Expectation(mean, variance, second, prior.empty_statistics(), None)

    def _advance(self, prior: StructuralPrior, u: Tensor, noise: Tensor, moves: int) -> Tensor:
        precision = torch.diag(1.0 / noise) if noise.ndim == 1 else torch.linalg.inv(noise)
        if self.chains is None:
            self.chains = PosteriorChains(u, self.generator)
        mechanisms = [
            (
                j,
                list(prior.parents[j]),
                [Assigned(prior.mechanism(j, state), rows) for state, rows in enumerate(by_state) if len(rows)],
            )
            for j, by_state in enumerate(self.rows)
        ]
        return self.chains.advance(mechanisms, u, precision, moves)


def _blend(old: Expectation, new: Expectation, share: float) -> Expectation:
    """old + share (new - old) of all that the M-step uses."""
    statistics = [
        [
            Regression(
                torch.lerp(a.gram, b.gram, share),
                torch.lerp(a.cross, b.cross, share),
                a.square + share * (b.square - a.square),
                a.count,
            )
            for a, b in zip(row_a, row_b, strict=True)
        ]
        for row_a, row_b in zip(old.statistics, new.statistics, strict=True)
    ]
    mean, second = torch.lerp(old.mean, new.mean, share), torch.lerp(old.second, new.second, share)
    return Expectation(mean, new.variance, second, statistics, None)
