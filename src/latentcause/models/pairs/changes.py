"""Which latent an intervention hit, from how codes moved: a mixture fitted without labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.special import logsumexp

ROUNDS = 200
SETTLED = 1e-6  # mean change of a probability in one round
ROWS = 20_000
NO_SHARE = 1e-12
MOST_WRONG = 0.25  # share of wrong pairs
LEAST_SD = 1e-6  # of a latent's typical move
STILL = 1e-5  # of the largest typical move of all latents: smaller moves are rounding of float32


@dataclass(frozen=True, eq=False)
class ChangeMixture:
    """Moves d = e~ - e of codes: given the hypothesis h, d_i ~ N(0, wide_i^2) of what was hit, else d_j ~ N(0, narrow_j^2).

    Hypotheses that hit a latent whose wide moves are no wider than its narrow ones have no share: no pair speaks for them.

    Attributes
    ----------
    hypotheses : ndarray (k, m)
        0 or 1.
    narrow, wide : ndarray (m,)
        sds.
    shares : ndarray (k,)
        Of the hypotheses.
    """

    hypotheses: np.ndarray
    narrow: np.ndarray
    wide: np.ndarray
    shares: np.ndarray

    @classmethod
    def fit(cls, moved: np.ndarray, hypotheses: np.ndarray) -> Self:
        """By expectation-maximisation from the moves (n, m), started by who moves most for their size.

        Moves of all latents at once, as wrong pairs have them, are set aside by a hypothesis of their own meanwhile, unless they
        are too many for that: then latents leak into each other.
        """
        rows = moved[:: max(1, len(moved) // ROWS)].astype(np.float64)
        if not hypotheses.all(axis=1).any():
            found = cls._settled(rows, np.vstack([hypotheses, np.ones_like(hypotheses[:1])]))
            if found.shares[-1] < MOST_WRONG:
                shares = found.shares[:-1]
                return cls(hypotheses, found.narrow, found.wide, shares / shares.sum())
        return cls._settled(rows, hypotheses)

    @classmethod
    def _settled(cls, rows: np.ndarray, hypotheses: np.ndarray) -> Self:
        size = np.sqrt((rows**2).mean(axis=0))
        least = np.maximum(np.maximum(LEAST_SD * size, STILL * size.max()), np.finfo(float).tiny ** 0.25)
        narrow, wide = np.maximum(0.2 * size, least), np.maximum(2.0 * size, least)
        shares = np.full(len(hypotheses), 1 / len(hypotheses))
        before = np.zeros((len(rows), len(hypotheses)))
        for _ in range(ROUNDS):
            posterior = cls(hypotheses, narrow, wide, shares).probabilities(rows)
            hit = np.minimum(posterior @ hypotheses, 1.0)  # rounding may add up to more
            wide = np.sqrt((hit * rows**2).sum(0) / np.maximum(hit.sum(0), 1.0))
            narrow = np.sqrt(((1 - hit) * rows**2).sum(0) / np.maximum((1 - hit).sum(0), 1.0))
            narrow = np.maximum(narrow, least)
            still = hypotheses @ (wide <= narrow) > 0
            wide = np.maximum(wide, narrow)
            shares = np.where(still, 0.0, posterior.mean(axis=0)) + NO_SHARE
            if np.abs(posterior - before).mean() < SETTLED:
                break
            before = posterior
        return cls(hypotheses, narrow, wide, shares / shares.sum())

    def probabilities(self, moved: np.ndarray) -> np.ndarray:
        """Of every hypothesis for each move (n, k)."""
        log = self._log_joint(moved)
        return np.exp(log - logsumexp(log, axis=1, keepdims=True))

    def of_pairs(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Probabilities (n, k) of every hypothesis for pairs of codes (n, m)."""
        return self.probabilities(second - first)

    def mean_log_density(self, moved: np.ndarray) -> float:
        """Of the moves, in nats."""
        return float(logsumexp(self._log_joint(moved), axis=1).mean())

    def _log_joint(self, moved: np.ndarray) -> np.ndarray:
        """Log of share times density (n, k)."""
        narrow = _log_normal(moved, self.narrow)
        return (
            narrow.sum(1, keepdims=True)
            + (_log_normal(moved, self.wide) - narrow) @ self.hypotheses.T
            + np.log(self.shares)
        )


def _log_normal(x: np.ndarray, sd: np.ndarray) -> np.ndarray:
    return -0.5 * (x / sd) ** 2 - np.log(sd) - 0.5 * np.log(2 * np.pi)
