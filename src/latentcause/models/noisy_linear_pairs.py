"""NoisyLinearPairs: causal variables of a linear system from pairs that are measured with errors, with error bars."""

from __future__ import annotations

import math
from typing import Any, Self

import numpy as np

from latentcause.data.intervention_pairs import InterventionPairs
from latentcause.models.linear_pairs import matched
from latentcause.models.pairs.linear_reading import LinearReading
from latentcause.models.pairs.lines import Lines, noise_for
from latentcause.models.pairs.noisy_lines import NoisyLines
from latentcause.models.pairs.observations import check_directions
from latentcause.models.pairs.pair_model import ALPHA, MOST_ROWS, PairModel
from latentcause.threads import threads_for
from latentcause.training import Recipe

BATCH, RATE = 512, 0.03


class NoisyLinearPairs(PairModel):
    """Causal variables, their graph and what each pair's intervention hit, where all is linear and x is measured with errors.

    With x = A e + n, n ~ N(0, Psi) independent in x and x~, changes lie on no lines, and `LinearPairs` and `DCRL` lose
    them. Here A, T, Psi (any covariance) and the shares of the targets are those of greatest likelihood
    (`latentcause.models.pairs.linear_likelihood.LinearPairLikelihood`: e ~ N(0, 1), z = T e, one latent hit at a time), found from
    several starts without labels. `encode` gives E[z | x], with `latent_variances_` around it; edges are tested with
    the standard errors of the likelihood. Errors are taken to have an sd of at
    least a thousandth of that of x; where there are none, `LinearPairs` is faster and as good.

    Parameters
    ----------
    n_latents : int
    starts : int
        At the lines of `LinearPairs`, and at random rotations; the most likely goes on.
    steps : int
        Of 512 pairs, for each start; of whole passes over the pairs, as many as come nearest.
    device : str
    seed : int

    Attributes
    ----------
    lines_ : NoisyLines
    latent_variances_ : ndarray (m,)
        Of each variable given one observation, in the order of ``names_``.
    noise_variance_ : ndarray (d,)
        Of the errors in what is observed, in its unit squared.
    """

    max_targets = 1
    mechanisms = "linear"
    _min_effect = 0.02

    def __init__(
        self, n_latents: int, *, starts: int = 3, steps: int = 1500, device: str = "auto", seed: int = 0
    ) -> None:
        self.n_latents = n_latents
        self.starts = starts
        self.steps = steps
        self.device = device
        self.seed = seed

    lines_: NoisyLines
    latent_variances_: np.ndarray
    noise_variance_: np.ndarray

    def fit(self, pairs: InterventionPairs) -> Self:
        """Learn from pairs.

        Raises
        ------
        ValueError
            For settings below 1, fewer pairs than needed, targets beyond ``n_latents`` or more than one at once, and
            observations that vary in fewer directions than there are latents.
        """
        if min(self.starts, self.steps) < 1:
            raise ValueError(f"starts={self.starts}, steps={self.steps}: give at least 1")
        v, after = self._door(pairs, None)
        check_directions(self.whitening_.size, self.n_latents)
        known, m = self._known(pairs), self.n_latents
        lines = Lines.fit(v, after, m, self.seed)
        lines = lines.taking(matched(lines.codes(after) - lines.codes(v), known, m))
        epochs = max(1, round(self.steps / math.ceil(len(v) / BATCH)))
        recipe = Recipe(epochs, min(BATCH, len(v)), RATE, schedule="cosine", warm_up=0.03, held_out=0.0)
        with threads_for(0):
            self.lines_, mixture, settled = NoisyLines.fit(
                v, after, known, lines, recipe, self.starts, self.seed, self.device
            )
        self._measure()
        self._finish(pairs, known, settled, mixture)
        return self

    # --- files -------------------------------------------------------------------------------------------------------

    def fitted_state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """What fitting learned: arrays by name, and values that JSON can hold. ``latentcause.save`` writes both."""
        self.check_fitted()
        return {}, {**self._shared_state(), "lines": self.lines_}

    def restore_state(self, arrays: dict[str, np.ndarray], values: dict[str, Any]) -> None:
        """Set the fitted attributes from what ``fitted_state`` gave."""
        self._restore_shared(values)
        self.lines_ = values["lines"]
        self._measure()

    # --- for PairModel -----------------------------------------------------------------------------------------------

    def _codes(self, x: np.ndarray, t: float | None) -> np.ndarray:
        if t is not None:
            raise ValueError("NoisyLinearPairs has one code, not a trajectory of them: leave t out")
        return self.lines_.codes(self._standardised(x))

    def _solved(self, codes: np.ndarray) -> np.ndarray:
        return np.asarray(codes @ self.lines_.solution)

    def _noise_for(self, codes: np.ndarray, wanted: dict[int, np.ndarray]) -> np.ndarray:
        return noise_for(codes, wanted, self.lines_.solution)

    def _decoded(self, codes: np.ndarray) -> np.ndarray:
        return np.asarray(codes @ self.lines_.mixing)

    def _linear_reading(self) -> LinearReading:
        lines = self.lines_
        return LinearReading.of_solution(lines.solution.T, lines.weight_sd, self.names_, ALPHA, self._min_effect)

    def _variables_before(self) -> np.ndarray:
        """Draws with the moments of z = T e themselves: of means given x, errors would bend regressions."""
        drawn = np.random.default_rng(self.seed).standard_normal((MOST_ROWS, self.n_latents))
        drawn -= drawn.mean(axis=0)
        noise = np.linalg.solve(np.linalg.cholesky(drawn.T @ drawn / len(drawn)), drawn.T).T
        return self._solved(noise)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _measure(self) -> None:
        self.latent_variances_ = self.lines_.variances
        seen = self.whitening_.backward
        self.noise_variance_ = np.einsum("ia,ij,ja->a", seen, self.lines_.error, seen)
