"""Multinomial logistic regression of a category, and the score test of further predictors."""

from __future__ import annotations

import numpy as np
from scipy.special import chdtrc, logsumexp

RIDGE = 1e-2
"""Penalty RIDGE / 2 |coefficients|^2 on the log-likelihood: finite coefficients where the predictors separate the levels."""

MOST_STEPS = 50
DECREMENT = 1e-4
"""Newton's method ends when another step would raise the log-likelihood by less than half of this."""

RANK = 1e-8
"""Relative size below which a direction of the information counts as none."""


class MultinomialRegression:
    """P(level l | x) proportional to exp(x . b_l), the last level's b being 0, fitted by Newton's method.

    Parameters
    ----------
    codes : int ndarray (n,)
        The level 0..K-1 of each row; every level occurs.
    predictors : ndarray (n, q)
        With a column of ones; of similar scales.

    Attributes
    ----------
    probabilities : ndarray (n, K)

    Raises
    ------
    RuntimeError
        If Newton's method has not converged after 50 steps.
    """

    def __init__(self, codes: np.ndarray, predictors: np.ndarray) -> None:
        self.predictors = predictors
        self.observed = np.eye(int(codes.max()) + 1)[codes]
        coefficients = np.zeros((self.observed.shape[1] - 1, predictors.shape[1]))
        value, self.probabilities = self._evaluate(coefficients)
        for _ in range(MOST_STEPS):
            information = self._information(predictors, predictors)
            gradient = self._score(predictors) - RIDGE * coefficients.ravel()
            step = np.linalg.solve(information + RIDGE * np.eye(len(information)), gradient)
            if gradient @ step < DECREMENT:
                self._inverse = np.linalg.pinv(information, rcond=RANK, hermitian=True)
                return
            step = step.reshape(coefficients.shape)
            length = 1.0
            while (trial := self._evaluate(coefficients + length * step))[0] < value and length > 1e-6:
                length /= 2
            coefficients = coefficients + length * step
            value, self.probabilities = trial
        raise RuntimeError(f"the logistic regression of a category did not converge in {MOST_STEPS} steps")

    def score_test(self, further: np.ndarray) -> float:
        """p-value (Rao 1948) for adding the predictors ``further`` (n, r): a likelihood-ratio test to first order.

        The statistic U' V^-1 U, with the score U of their coefficients at 0, less its regression on the score of the
        predictors fitted, and the variance V that this leaves, needs no second fit. It is scaled by (n - q) / n for the q columns
        fitted already, and compared with chi-squared on as many degrees of freedom as V has rank. Without any, p is 1.
        """
        n, q = self.predictors.shape
        within = self._information(further, further)
        across = self._information(self.predictors, further)
        slopes = self._inverse @ across
        score = self._score(further) - slopes.T @ self._score(self.predictors)
        variance = within - across.T @ slopes
        values, vectors = np.linalg.eigh((variance + variance.T) / 2)
        kept = values > RANK * np.trace(within)
        if not kept.any():
            return 1.0
        statistic = ((score @ vectors[:, kept]) ** 2 / values[kept]).sum()
        return float(chdtrc(kept.sum(), statistic * (n - q) / n))

    def _evaluate(self, coefficients: np.ndarray) -> tuple[float, np.ndarray]:
        """Penalised log-likelihood, and the probabilities (n, K)."""
        linear = np.zeros_like(self.observed)
        linear[:, :-1] = self.predictors @ coefficients.T
        logarithms = linear - logsumexp(linear, axis=1, keepdims=True)
        value = (self.observed * logarithms).sum() - RIDGE / 2 * (coefficients**2).sum()
        return float(value), np.exp(logarithms)

    def _score(self, predictors: np.ndarray) -> np.ndarray:
        """Derivative of the log-likelihood ((K - 1) q,) by the coefficients of the predictors (n, q)."""
        return ((self.observed - self.probabilities)[:, :-1].T @ predictors).ravel()

    def _information(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Covariance of the scores of two sets of predictors, ((K - 1) q, (K - 1) r), ordered by level, then predictor."""
        free = self.probabilities.shape[1] - 1
        blocks = np.empty((free, first.shape[1], free, second.shape[1]))
        for level in range(free):
            for other in range(level + 1):
                p, o = self.probabilities[:, level], self.probabilities[:, other]
                weight = p * (1 - p) if level == other else -p * o
                block = first.T @ (weight[:, None] * second)
                blocks[level, :, other] = blocks[other, :, level] = block
        return blocks.reshape(free * first.shape[1], free * second.shape[1])
