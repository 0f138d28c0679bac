"""Tests on tables of counts: Pearson's chi-squared and the likelihood ratio G^2."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.special import chdtrc, xlogy

from latentcause.data.variables import Variables
from latentcause.discovery.independence.base import IndependenceTest

CELLS = 4_000_000
"""Codes and cells of tables that are held at once."""

ROWS_PER_STRATUM = 2
"""Rows that the occupied strata of a condition must hold on average."""


class ChiSquared(IndependenceTest):
    """Independence of categories by Pearson's statistic, the sum over strata and cells of (N - E)^2 / E.

    A stratum is one combination of levels of the condition. Of its N[., .] rows, N[a, b] have x = a and y = b, and
    E[a, b] = N[a, .] N[., b] / N[., .] are expected under independence (K. Pearson 1900; A. Agresti, Categorical Data
    Analysis, 3rd ed., section 3.2). Degrees of freedom are (non-empty rows - 1) (non-empty columns - 1) of the table of
    each stratum, added up: levels that a stratum does not show can say nothing there (Bishop, Fienberg and Holland,
    Discrete Multivariate Analysis, 1975, section 3.8; the "adjusted" tests of M. Scutari's bnlearn, J. Stat. Software
    35(3), 2010). Where none is left p is 1.

    Parameters
    ----------
    data : DataFrame, array (n, d) or Variables
        Every column a category: text, bool or category dtype.

    Raises
    ------
    ValueError
        For what `Variables` refuses, a numeric column, a category with one level, two columns that say the same, or fewer
        rows than columns; and, when asked for a p-value, a condition whose strata hold fewer than 2 rows on average,
        where a chi-squared distribution says nothing.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> rng = np.random.default_rng(0)
    >>> a = rng.choice(["lo", "hi"], 500)
    >>> b = np.where(rng.random(500) < 0.8, a, "hi")
    >>> c = np.where(rng.random(500) < 0.8, b, "lo")
    >>> test = ChiSquared(pd.DataFrame({"a": a, "b": b, "c": c}))
    >>> bool(test.p_value("a", "c") < 1e-10), bool(test.p_value("a", "c", ["b"]) > 0.05)
    (True, True)
    """

    def __init__(self, data: Any) -> None:
        self._counts = _Counts(data, "chi-squared")
        self.nodes = self._counts.nodes

    def p_values(self, x: np.ndarray, y: np.ndarray, given: np.ndarray) -> np.ndarray:
        """Upper tail of chi-squared for each test."""
        return self._counts.p_values(x, y, given, _pearson)


class GSquared(IndependenceTest):
    """Independence of categories by the likelihood ratio, the sum over strata and cells of 2 N log(N / E).

    Tables, degrees of freedom, parameters and errors are those of `ChiSquared` (S. S. Wilks 1938; Spirtes, Glymour and
    Scheines, Causation, Prediction, and Search, 2nd ed., section 5.5).
    """

    def __init__(self, data: Any) -> None:
        self._counts = _Counts(data, "g-squared")
        self.nodes = self._counts.nodes

    def p_values(self, x: np.ndarray, y: np.ndarray, given: np.ndarray) -> np.ndarray:
        """Upper tail of chi-squared for each test."""
        return self._counts.p_values(x, y, given, _likelihood_ratio)


def _pearson(counts: np.ndarray, expected: np.ndarray) -> np.ndarray:
    return (counts - expected) ** 2 / np.where(expected > 0, expected, 1.0)


def _likelihood_ratio(counts: np.ndarray, expected: np.ndarray) -> np.ndarray:
    return 2 * xlogy(counts, np.where(counts > 0, counts, 1.0) / np.where(expected > 0, expected, 1.0))


class _Counts:
    """Categories, and the tables of x and y in every stratum of a condition."""

    def __init__(self, data: Any, name: str) -> None:
        variables = Variables.read(data).require_variation()
        numeric = [column for column in variables.names if variables.is_numeric(column)]
        if numeric:
            raise ValueError(
                f"column {numeric[0]!r} is numeric, and {name} counts categories: cut it into classes (pandas.cut, or "
                "astype('category') if its numbers are labels), or take test=\"mixed\""
            )
        self.name = name
        self.nodes = variables.names
        self._codes = np.ascontiguousarray(variables.values.T.astype(np.int64))
        self._levels = np.array([len(variables.levels[column]) for column in self.nodes])

    def p_values(
        self,
        x: np.ndarray,
        y: np.ndarray,
        given: np.ndarray,
        statistic: Callable[[np.ndarray, np.ndarray], np.ndarray],
    ) -> np.ndarray:
        """p-values (m,) by the statistic whose parts, cell by cell, ``statistic(counts, expected)`` gives."""
        p = np.empty(len(x))
        start = 0
        while start < len(x):
            part = slice(start, start + self._how_many(x[start:], y[start:], given[start:]))
            counts = self._tables(x[part], y[part], given[part])
            of_x, of_y = counts.sum(axis=3, keepdims=True), counts.sum(axis=2, keepdims=True)
            expected = of_x * of_y / np.maximum(of_x.sum(axis=2, keepdims=True), 1)
            value = statistic(counts, expected).sum(axis=(1, 2, 3))
            free_x = np.maximum((of_x > 0).sum(axis=(2, 3)) - 1, 0)
            free_y = np.maximum((of_y > 0).sum(axis=(2, 3)) - 1, 0)
            freedom = (free_x * free_y).sum(axis=1)
            p[part] = np.where(freedom > 0, chdtrc(np.maximum(freedom, 1), np.maximum(value, 0)), 1.0)
            start = part.stop
        return p

    def _how_many(self, x: np.ndarray, y: np.ndarray, given: np.ndarray) -> int:
        """The longest run of tests from the first on whose codes and tables fit into CELLS; at least one."""
        n = self._codes.shape[1]
        most = np.maximum.accumulate
        strata = np.minimum(most(self._levels[given], axis=0).prod(axis=1, dtype=np.float64), n)
        cells = (n + strata * most(self._levels[x]) * most(self._levels[y])) * np.arange(1, len(x) + 1)
        return max(1, int(np.searchsorted(cells, CELLS)))

    def _tables(self, x: np.ndarray, y: np.ndarray, given: np.ndarray) -> np.ndarray:
        """Counts (m, strata, levels of x, levels of y); strata and levels that a test does not have are empty."""
        strata, n_strata = self._strata(given)
        shape = (len(x), n_strata, int(self._levels[x].max()), int(self._levels[y].max()))
        table = np.arange(len(x))[:, None] * n_strata + strata
        cells = (table * shape[2] + self._codes[x]) * shape[3] + self._codes[y]
        return np.bincount(cells.ravel(), minlength=int(np.prod(shape))).reshape(shape).astype(np.float64)

    def _strata(self, given: np.ndarray) -> tuple[np.ndarray, int]:
        """Number of the stratum that each row falls in (m, n), and how many strata there are at the most."""
        n = self._codes.shape[1]
        numbers = np.zeros((len(given), n), dtype=np.int64)
        n_strata = 1
        for column in given.T:
            numbers = numbers * self._levels[column][:, None] + self._codes[column]
            n_strata *= int(self._levels[column].max())
            if n_strata > n:  # numbers of strata that do not occur would soon leave the range of integers
                numbers, n_strata = _renumbered(numbers, n_strata)
        if ROWS_PER_STRATUM * n_strata > n:
            numbers, n_strata = _renumbered(numbers, n_strata)
        if ROWS_PER_STRATUM * n_strata > n:
            raise ValueError(
                f"{n} rows are too few to condition on {given.shape[1]} categories that show {n_strata} combinations of "
                f"levels: {self.name} needs at least {ROWS_PER_STRATUM} rows for each; bring more rows, merge levels, or limit "
                "the condition with max_given"
            )
        return numbers, n_strata


def _renumbered(numbers: np.ndarray, n_strata: int) -> tuple[np.ndarray, int]:
    """Strata numbered anew in each test (row), so that only those that occur are counted, and the most that one test has."""
    offset = np.arange(len(numbers))[:, None] * n_strata
    found, position = np.unique(numbers + offset, return_inverse=True)
    first = np.searchsorted(found, offset)
    per_test = np.diff(np.append(first[:, 0], len(found)))
    return position.reshape(numbers.shape) - first, int(per_test.max())
