"""The generalised covariance measure: are the errors of two regressions correlated?"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
from scipy.special import ndtr

from latentcause.data.variables import Variables
from latentcause.discovery.independence.base import IndependenceTest
from latentcause.discovery.independence.bases import Bases
from latentcause.discovery.independence.sharing import sharing

DRAWS = 9_999
"""Draws of the largest of several statistics: p-values of categories have a standard error of at most 0.005."""

NOTHING_LEFT = 1e-9
"""Mean square of residuals, beside that of the variable, below which the condition determines the variable."""


class GeneralisedCovariance(IndependenceTest):
    """Independence by the covariance of what regressions on the condition leave of x and y.

    With the residuals r = x - f(s), t = y - g(s) and their products R_i = r_i t_i,

        T = sqrt(n) mean(R) / sqrt(mean(R^2) - mean(R)^2)

    is standard normal under independence if both regressions converge, however slowly, and whatever the noise (R. D. Shah and
    J. Peters, Annals of Statistics 48, 2020, section 3). A category stands for the indicators of its levels. Of
    several T the largest |T| counts, beside the largest of jointly normal variables with the correlations of the products R:
    that is the distribution of the paper's Gaussian multiplier bootstrap, drawn directly. The p-value is not
    larger than the sum of those of the single T.

    The regressions are least squares on splines of every numeric variable of the condition (`Bases`: n^(1/3) functions, at
    most 15), indicators of every category, and products of the variables two by two. All residuals given one condition are made
    at once, and only once in a batch.

    Dependence that leaves the covariance zero, such as an influence of x on the variance of y or an even function of a
    symmetric x, is not seen ("mixed" sees the latter, "kci" both).

    Parameters
    ----------
    data : DataFrame, array (n, d) or Variables
    seed : int
        Of the draws for categories of three levels or more.

    Raises
    ------
    ValueError
        For what `Variables` refuses, a constant column, a category with one level, two columns that say the same, or fewer
        rows than columns; and, when asked for a p-value, a condition with more than one regression function for every two rows.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> a = rng.normal(size=500)
    >>> b, c = np.sin(a) + 0.5 * rng.normal(size=500), a + rng.normal(size=500)
    >>> test = GeneralisedCovariance(np.column_stack([a, b, c]))
    >>> bool(test.p_value("x1", "x2") < 1e-10), bool(test.p_value("x1", "x2", ["x0"]) > 0.05)
    (True, True)
    """

    def __init__(self, data: Any, seed: int = 0) -> None:
        variables = Variables.read(data).require_variation()
        self.nodes = variables.names
        self.seed = seed
        self._bases = Bases(variables)
        self._targets = [_targets(variables, name) for name in self.nodes]
        self._rank = np.argsort(np.argsort(np.array(self.nodes)))

    def p_values(self, x: np.ndarray, y: np.ndarray, given: np.ndarray) -> np.ndarray:
        """2 Phi(-|T|), or the tail of the largest |T|, for each test."""
        # The draws fall on the levels in one order, whichever variable is called x.
        swap = self._rank[x] > self._rank[y]
        x, y = np.where(swap, y, x), np.where(swap, x, y)
        p = np.empty(len(x))
        for condition, tests in sharing(np.sort(given, axis=1)):
            p[tests] = self._given_one(x[tests], y[tests], condition)
        return p

    def _given_one(self, x: np.ndarray, y: np.ndarray, condition: np.ndarray) -> np.ndarray:
        """p-values of the tests of several pairs given the same condition."""
        nodes, position = np.unique(np.concatenate([x, y]), return_inverse=True)
        first, second = position.reshape(2, -1)
        residuals = self._residuals(nodes, condition)
        width = np.array([self._targets[node].shape[1] for node in nodes])
        start = np.concatenate([[0], np.cumsum(width)[:-1]])
        n = len(residuals)
        mean = residuals.T @ residuals / n
        variance = np.maximum((residuals**2).T @ residuals**2 / n - mean**2, 0)
        nothing = np.diagonal(mean) <= NOTHING_LEFT
        unknown = nothing[:, None] | nothing | (variance == 0)
        statistic = np.where(unknown, 0, np.sqrt(n) * np.abs(mean) / np.sqrt(np.where(unknown, 1, variance)))
        p = 2 * ndtr(-statistic[start[first], start[second]])
        for test in np.flatnonzero(width[first] * width[second] > 1):
            rows, columns = (start[j] + np.arange(width[j]) for j in (first[test], second[test]))
            p[test] = self._largest(statistic[np.ix_(rows, columns)], residuals[:, rows], residuals[:, columns])
        return p

    def _largest(self, statistic: np.ndarray, first: np.ndarray, second: np.ndarray) -> float:
        """p-value of the largest of the statistics (a, b) of residuals (n, a) and (n, b)."""
        known = statistic.ravel() > 0
        if not known.any():
            return 1.0
        products = (first[:, :, None] * second[:, None, :]).reshape(len(first), -1)[:, known]
        values, vectors = np.linalg.eigh(np.corrcoef(products, rowvar=False).reshape(known.sum(), -1))
        root = vectors * np.sqrt(np.maximum(values, 0))
        normal = np.random.default_rng(self.seed).standard_normal((DRAWS, known.sum())) @ root.T
        largest = statistic.max()
        drawn = (1 + (np.abs(normal).max(axis=1) >= largest).sum()) / (DRAWS + 1)
        return float(min(drawn, known.sum() * 2 * ndtr(-largest)))

    def _residuals(self, nodes: np.ndarray, condition: np.ndarray) -> np.ndarray:
        """What the regressions on the condition leave of the nodes' targets, side by side."""
        targets = np.concatenate([self._targets[node] for node in nodes], axis=1)
        if not len(condition):
            return targets
        predictors = self._predictors(condition)
        values, vectors = np.linalg.eigh(predictors.T @ predictors)
        kept = values > 1e-10 * values.max()
        projection = vectors[:, kept] / values[kept] @ (vectors[:, kept].T @ (predictors.T @ targets))
        return targets - predictors @ projection

    def _predictors(self, condition: np.ndarray) -> np.ndarray:
        """Functions of the condition: a constant, those of its variables, and products of two variables' leading ones."""
        k = len(condition)
        most = self._bases.functions_per_condition(k)
        columns = self._bases.columns
        leading = [columns[:, self._bases.of(variable, 1)] for variable in condition]
        parts = [np.ones((len(columns), 1)), *(columns[:, self._bases.of(variable, most)] for variable in condition)]
        for first, second in combinations(leading, 2):
            parts.append((first[:, :, None] * second[:, None, :]).reshape(len(columns), -1))
        needed = 2 * sum(part.shape[1] for part in parts)
        if needed > len(columns):
            raise ValueError(
                f"{len(columns)} rows are too few to condition on {k} variables: the regressions need {needed} for splines, levels "
                "and their products; bring more rows, merge levels, or limit the condition with max_given"
            )
        return np.concatenate(parts, axis=1)


def _targets(variables: Variables, name: str) -> np.ndarray:
    """What is regressed (n, c), mean 0 and mean square 1: the number, or the indicators of the levels that occur (one of two)."""
    values = variables.column(name)
    if not variables.is_numeric(name):
        present = np.unique(values)
        values = values[:, None] == (present if len(present) > 2 else present[1:])
    centred = values.reshape(len(values), -1) - values.reshape(len(values), -1).mean(axis=0)
    return centred / np.sqrt(np.mean(centred**2, axis=0))
