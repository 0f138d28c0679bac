"""Tests by regression, for tables of numbers and categories."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import fdtrc

from latentcause.data.variables import Variables
from latentcause.discovery.independence.base import IndependenceTest
from latentcause.discovery.independence.bases import Bases
from latentcause.discovery.independence.multinomial import MultinomialRegression
from latentcause.discovery.independence.sharing import sharing

TESTED = 4
"""Functions of a numeric variable whose influence is tested: more find wigglier dependence, and plain dependence less often."""

CELLS = 4_000_000
"""Entries of the matrices that are held at once."""

JITTER = 1e-9
"""Added to the mean square of every function, so that equal ones do no harm."""

NOTHING_LEFT = 1e-7
"""Mean square, beside 1, that a function keeps given others when these determine it: it then counts as none."""


class MixedRegression(IndependenceTest):
    """Independence of numeric and categorical variables by nested regressions in both directions.

    One direction asks whether y helps to predict x beside the condition S. The regression on S is additive: of every
    numeric variable it has cubic splines (`Bases`: n^(1/3) functions, at most 15), of every category its indicators;
    y enters with 4 spline functions, or its indicators.

    - x numeric: least squares; the F-test of the functions of y, in closed form from products that are summed over the rows
      once for all tests.
    - x a category: multinomial logistic regression; Rao's score test, which is the likelihood-ratio test to first order,
      keeps its level better with few rows and fits each category given each condition once only, whatever y.

    The directions need not agree; p = min(2 min(p1, p2), max(p1, p2)) holds its level whatever the dependence between them and
    does not depend on which is first (M. Tsagris, G. Borboudakis, V. Lagani and I. Tsamardinos, Int. J. Data Science and
    Analytics 6, 2018, section 3).

    It relies on an influence of the condition that is a sum over its variables (jointly acting ones: "kci"), and, for
    numeric x, on noise of one variance ("gcm" does not).

    Parameters
    ----------
    data : DataFrame, array (n, d) or Variables

    Raises
    ------
    ValueError
        For what `Variables` refuses, a constant column, a category with one level, two columns that say the same, or fewer
        rows than columns; and, when asked for a p-value, a condition with more than one regression function for every two rows.
    RuntimeError
        If a logistic regression does not converge.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> rng = np.random.default_rng(0)
    >>> dose = rng.normal(size=500)
    >>> heals = np.where(dose**2 + rng.normal(size=500) > 1, "yes", "no")
    >>> mood = (heals == "yes") + rng.normal(size=500)
    >>> test = MixedRegression(pd.DataFrame({"dose": dose, "heals": heals, "mood": mood}))
    >>> bool(test.p_value("dose", "mood") < 1e-3), bool(test.p_value("dose", "mood", ["heals"]) > 0.05)
    (True, True)
    """

    def __init__(self, data: Any) -> None:
        variables = Variables.read(data).require_variation()
        self.nodes = variables.names
        self._bases = Bases(variables)
        self._products = self._bases.columns.T @ self._bases.columns / len(variables)
        self._codes = {
            j: np.unique(variables.values[:, j], return_inverse=True)[1] for j in np.flatnonzero(~self._bases.numeric)
        }

    def p_values(self, x: np.ndarray, y: np.ndarray, given: np.ndarray) -> np.ndarray:
        """min(2 min(p1, p2), max(p1, p2)) of the two directions of each test."""
        given = np.sort(given, axis=1)
        self._require_rows(x, y, given)
        pairs = np.concatenate([x, y]), np.concatenate([y, x])  # at once: they share regressions
        there, back = self._one_direction(*pairs, np.concatenate([given, given])).reshape(2, -1)
        return np.minimum(2 * np.minimum(there, back), np.maximum(there, back))

    def _one_direction(self, response: np.ndarray, tested: np.ndarray, given: np.ndarray) -> np.ndarray:
        p = np.empty(len(response))
        numeric = self._bases.numeric[response]
        p[numeric] = self._least_squares(response[numeric], tested[numeric], given[numeric])
        p[~numeric] = self._logistic(response[~numeric], tested[~numeric], given[~numeric])
        return p

    def _least_squares(self, response: np.ndarray, tested: np.ndarray, given: np.ndarray) -> np.ndarray:
        """F-tests from the products of all functions."""
        condition = self._padded(given, self._bases.functions_per_condition(given.shape[1]))
        influence = self._padded(tested[:, None], TESTED)
        columns = np.concatenate([condition, influence, self._bases.start[response][:, None]], axis=1)
        p = np.empty(len(response))
        size = max(1, CELLS // columns.shape[1] ** 2)
        for start in range(0, len(p), size):
            part = slice(start, start + size)
            p[part] = self._f_tests(columns[part], condition.shape[1], influence.shape[1])
        return p

    def _f_tests(self, columns: np.ndarray, of_condition: int, of_influence: int) -> np.ndarray:
        """One Cholesky factor a test: the last row holds what each function, given those before, explains of the response."""
        absent = columns < 0
        products = self._products[columns[:, :, None], columns[:, None, :]]
        products[absent[:, :, None] | absent[:, None, :]] = 0
        diagonal = np.arange(columns.shape[1])
        products[:, diagonal, diagonal] += JITTER + absent
        factor = np.linalg.cholesky(products)
        explained = factor[:, -1] ** 2
        influence = slice(of_condition, of_condition + of_influence)
        own = factor[:, diagonal, diagonal][:, influence] ** 2
        tested = ~absent[:, influence] & (own > NOTHING_LEFT)
        gain = np.where(tested, explained[:, influence], 0).sum(axis=1)
        freedom = tested.sum(axis=1)
        left = len(self._bases.columns) - (~absent).sum(axis=1)  # the response stands for the constant
        testable = (freedom > 0) & (gain + explained[:, -1] > NOTHING_LEFT)
        ratio = gain / np.maximum(freedom, 1) / (explained[:, -1] / left)
        return np.where(testable, fdtrc(np.maximum(freedom, 1), left, ratio), 1.0)

    def _padded(self, variables: np.ndarray, most: int) -> np.ndarray:
        """Columns (m, c) of the functions of the variables (m, k) in each row; -1 fills up."""
        counts = np.where(self._bases.numeric, np.minimum(self._bases.count, most), self._bases.count)
        width = int(counts[variables].max(initial=0))
        step = np.arange(width)
        columns = np.where(step < counts[variables][..., None], self._bases.start[variables][..., None] + step, -1)
        return columns.reshape(len(variables), variables.shape[1] * width)

    def _logistic(self, response: np.ndarray, tested: np.ndarray, given: np.ndarray) -> np.ndarray:
        """Score tests; every distinct regression of a response on a condition is fitted once."""
        p = np.empty(len(response))
        most = self._bases.functions_per_condition(given.shape[1])
        for (node, *condition), tests in sharing(np.column_stack([response, given])):
            predictors = [np.ones((len(self._bases.columns), 1)), *(self._functions(s, most) for s in condition)]
            regression = MultinomialRegression(self._codes[node], np.concatenate(predictors, axis=1))
            p[tests] = [regression.score_test(self._functions(tested[i], TESTED)) for i in tests]
        return p

    def _functions(self, variable: int, most: int) -> np.ndarray:
        return self._bases.columns[:, self._bases.of(variable, most)]

    def _require_rows(self, x: np.ndarray, y: np.ndarray, given: np.ndarray) -> None:
        columns = [
            self._padded(given, self._bases.functions_per_condition(given.shape[1])),
            self._padded(np.column_stack([x, y]), TESTED),
        ]
        needed = 2 * int(sum((part >= 0).sum(axis=1) for part in columns).max(initial=0))
        n = len(self._bases.columns)
        if needed > n:
            raise ValueError(
                f"{n} rows are too few to condition on {given.shape[1]} variables: the regressions need {needed} for splines "
                "and levels; bring more rows, merge levels, or limit the condition with max_given"
            )
