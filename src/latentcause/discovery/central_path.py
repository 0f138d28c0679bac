"""The optimisation inside `acyclic_weights`: a likelihood, a measure of cycles, and a path from one to both."""

from __future__ import annotations

import numpy as np

from latentcause.progress import progress

PATH = (10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.001)
"""Weights mu of the likelihood. From mu = 10, where cycles cost little, fewer wrong edges come out than from the published 1."""
STEPS = 5000  # at most, for each mu
SETTLED = 1e-6  # largest change of a weight, for a step of the usual length, that ends a stage
SHORTEST, LONGEST = 1e-14, 1e6  # lengths of steps
LOOK_BACK = 5  # objectives that a step may exceed all but the largest of


def log_det_acyclicity(weights: np.ndarray) -> tuple[float, np.ndarray]:
    """h(W) = -log det(I - W o W) and its gradient 2 (I - W o W)^-T o W.

    h is at least 0 where the spectral radius of W o W is below 1, and 0 only where W has no cycle (K. Bello, B. Aragam and
    P. Ravikumar, DAGMA, NeurIPS 2022, Theorem 1 with s = 1).

    Parameters
    ----------
    weights : ndarray (d, d)

    Returns
    -------
    float
        inf where the spectral radius is not below 1.
    ndarray (d, d)
        nan there.
    """
    matrix = np.eye(len(weights)) - weights**2
    sign, log_det = np.linalg.slogdet(matrix)
    if sign > 0:
        inverse = np.linalg.inv(matrix)
        # The spectral radius of a matrix M without negative entries is below 1 just where (I - M)^-1 has none either.
        if inverse.min() >= -1e-12:
            return float(-log_det), 2 * inverse.T * weights
    return np.inf, np.full_like(weights, np.nan)


def negative_log_likelihood(weights: np.ndarray, covariance: np.ndarray) -> tuple[float, np.ndarray]:
    """Of x = W^T x + u with independent Gaussian u, per row and up to a constant, at the best variances of u; its gradient.

    f(W) = 1/2 sum_j log [(I - W)^T S (I - W)]_jj - log |det(I - W)|, for any W, with cycles or without (I. Ng, A. Ghassami and
    K. Zhang, On the role of sparsity and DAG constraints for learning linear DAGs, NeurIPS 2020, equation 2).

    Parameters
    ----------
    weights, covariance : ndarray (d, d)
        W[i, j] of i on j, and S.

    Returns
    -------
    float
        inf where det(I - W) is not positive.
    ndarray (d, d)
        nan there.
    """
    residual = np.eye(len(weights)) - weights
    sign, log_det = np.linalg.slogdet(residual)
    if sign <= 0:
        return np.inf, np.full_like(weights, np.nan)
    shared = covariance @ residual
    variances = (residual * shared).sum(axis=0)
    value = 0.5 * np.log(variances).sum() - log_det
    return float(value), np.linalg.inv(residual).T - shared / variances


def follow_path(covariance: np.ndarray, penalty: np.ndarray) -> tuple[np.ndarray, bool]:
    """Minimise mu [f(W) + sum_ij penalty_ij |W_ij|] + h(W) for falling mu, each time from the last minimum.

    The first starts at W = 0. Each takes proximal steps of Barzilai-Borwein length (S. Wright, R. Nowak and M. Figueiredo,
    Sparse reconstruction by separable approximation, 2009), which keep W in the domain of h and have exact zeros.

    Parameters
    ----------
    covariance, penalty : ndarray (d, d)
        inf where there can be no edge.

    Returns
    -------
    weights : ndarray (d, d)
    settled : bool
        Whether the last minimum was reached.
    """
    weights, settled = np.zeros_like(covariance), False
    with progress("acyclic weights", len(PATH) * STEPS, quantity="objective") as report:
        for stage, mu in enumerate(PATH):
            descent = _Descent(weights, covariance, penalty, mu)
            for step in range(STEPS):
                settled = descent.advance()
                report(stage * STEPS + step, descent.recent[-1])
                if settled:
                    break
            weights = descent.weights
    return weights, settled


class _Descent:
    """Proximal gradient steps for one mu."""

    def __init__(self, weights: np.ndarray, covariance: np.ndarray, penalty: np.ndarray, mu: float) -> None:
        self.covariance, self.mu = covariance, mu
        self.free = np.isfinite(penalty)
        self.penalty = np.where(self.free, mu * penalty, 0.0)
        self.weights, self.length = weights, 1.0 / mu
        smooth, self.gradient = self._smooth(weights)
        self.recent = [smooth + self._absolute(weights)]

    def advance(self) -> bool:
        """Take one step; say whether nothing moves any more."""
        while True:
            moved = self.weights - self.length * self.gradient
            moved = np.sign(moved) * np.maximum(np.abs(moved) - self.length * self.penalty, 0.0)
            change = moved - self.weights
            size = float((change**2).sum())
            smooth, gradient = self._smooth(moved)
            objective = smooth + self._absolute(moved)
            if objective <= max(self.recent) - 1e-4 * size / (2 * self.length):
                break
            self.length /= 2
            if self.length < SHORTEST:  # the objective falls by less than rounding
                return True
        curvature = float((change * (gradient - self.gradient)).sum())
        settled = np.abs(change).max() < SETTLED * min(1.0, self.mu * self.length)
        self.length = min(size / curvature if curvature > 0 else 2 * self.length, LONGEST)
        self.weights, self.gradient = moved, gradient
        self.recent = [*self.recent[1 - LOOK_BACK :], objective]
        return settled

    def _smooth(self, weights: np.ndarray) -> tuple[float, np.ndarray]:
        cycles, of_cycles = log_det_acyclicity(weights)
        if not np.isfinite(cycles):
            return np.inf, of_cycles
        fit, of_fit = negative_log_likelihood(weights, self.covariance)
        return self.mu * fit + cycles, np.where(self.free, self.mu * of_fit + of_cycles, 0.0)

    def _absolute(self, weights: np.ndarray) -> float:
        return float((self.penalty * np.abs(weights)).sum())
