"""Tests on tables of counts: Pearson's chi-squared and the likelihood ratio G^2."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.special import chdtrc, xlogy

from latentcause.data.variables import Variables
from latentcause.discovery.independence.base import IndependenceTest

CELLS = 4_000_000
"""Codes and cells of tables that are held at once."""


class ChiSquared(IndependenceTest):
    """Independence of categories by Pearson's statistic in every combination of levels (stratum) of the condition.

    Of the n rows of a stratum, N[a, b] have x = a and y = b, and E[a, b] = N[a, .] N[., b] / n are expected under
    independence. The statistic is the sum over strata of

        (n - 1) / n  sum_ab (N[a, b] - E[a, b])^2 / E[a, b],

    and is compared with a chi-squared distribution. The factor (n - 1) / n makes the mean exact, given the margins,
    whatever the size of the stratum (J. B. S. Haldane, Biometrika 31, 1940; E. S. Pearson, Biometrika 34, 1947); without
    it thousands of small strata add up to a test that rejects true independence. Degrees of freedom are (non-empty rows
    - 1) (non-empty columns - 1) of each stratum's table, added up: levels that a stratum does not show say nothing there
    (Bishop, Fienberg and Holland, Discrete Multivariate Analysis, 1975, section 3.8; so does M. Scutari's bnlearn, J.
    Stat. Software 35(3), 2010, in its adjusted tests). Where none is left p is 1.

    Parameters
    ----------
    data : DataFrame, array (n, d) or Variables
        Every column a category: text, bool or category dtype.

    Raises
    ------
    ValueError
        For what `Variables` refuses, a numeric column, a category with one level, two columns that say the same, or fewer
        rows than columns; and, when asked for a p-value, a condition whose strata hold fewer than 2 rows on average.

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
        self._counts = _Counts(data, "chi-squared", rows_needed=2)
        self.nodes = self._counts.nodes

    def p_values(self, x: np.ndarray, y: np.ndarray, given: np.ndarray) -> np.ndarray:
        """Upper tail of chi-squared for each test."""
        return self._counts.p_values(x, y, given, _pearson)


class GSquared(IndependenceTest):
    """Independence of categories by the likelihood ratio in every combination of levels (stratum) of the condition.

    The statistic is the sum over strata of 2 sum_ab N[a, b] log(N[a, b] / E[a, b]) / q with Williams' correction

        q = 1 + (n sum_a 1 / N[a, .] - 1) (n sum_b 1 / N[., b] - 1) / (6 n df),

    sums and degrees of freedom df over non-empty rows and columns; tables and degrees of freedom are those of `ChiSquared`
    (Spirtes, Glymour and Scheines, Causation, Prediction, and Search, 2nd ed., section 5.5; D. A. Williams, Biometrika 63,
    1976). In small strata the correction is not enough, hence the rows that are asked for; `ChiSquared` keeps its level with
    fewer.

    Parameters
    ----------
    data : DataFrame, array (n, d) or Variables
        Every column a category: text, bool or category dtype.

    Raises
    ------
    ValueError
        As `ChiSquared`, but a condition whose strata hold fewer than 5 rows on average is refused.
    """

    def __init__(self, data: Any) -> None:
        self._counts = _Counts(data, "g-squared", rows_needed=5)
        self.nodes = self._counts.nodes

    def p_values(self, x: np.ndarray, y: np.ndarray, given: np.ndarray) -> np.ndarray:
        """Upper tail of chi-squared for each test."""
        return self._counts.p_values(x, y, given, _likelihood_ratio)


@dataclass(frozen=True)
class _Tables:
    """Tables of x and y in every stratum of m tests, and what they hold under independence."""

    counts: np.ndarray
    """(m, strata, levels of x, levels of y); strata and levels that a test does not have are empty."""

    @cached_property
    def of_x(self) -> np.ndarray:
        return self.counts.sum(axis=3)

    @cached_property
    def of_y(self) -> np.ndarray:
        return self.counts.sum(axis=2)

    @cached_property
    def rows(self) -> np.ndarray:
        """Rows of each stratum (m, strata), 1 where there are none."""
        return np.maximum(self.of_x.sum(axis=2), 1)

    @cached_property
    def expected(self) -> np.ndarray:
        return self.of_x[..., None] * (self.of_y / self.rows[..., None])[..., None, :]

    @cached_property
    def freedom(self) -> np.ndarray:
        """(Non-empty rows - 1) (non-empty columns - 1) of each stratum."""
        return np.prod([np.maximum((margin > 0).sum(axis=2) - 1, 0) for margin in (self.of_x, self.of_y)], axis=0)


def _pearson(tables: _Tables) -> np.ndarray:
    parts = (tables.counts - tables.expected) ** 2 / np.where(tables.expected > 0, tables.expected, 1.0)
    return parts.sum(axis=(2, 3)) * (tables.rows - 1) / tables.rows


def _likelihood_ratio(tables: _Tables) -> np.ndarray:
    ratio = np.where(tables.counts > 0, tables.counts, 1.0) / np.where(tables.expected > 0, tables.expected, 1.0)
    spread = [
        tables.rows * np.divide(1, margin, out=np.zeros_like(margin), where=margin > 0).sum(axis=2) - 1
        for margin in (tables.of_x, tables.of_y)
    ]
    correction = 1 + np.where(
        tables.freedom > 0, spread[0] * spread[1] / (6 * tables.rows * np.maximum(tables.freedom, 1)), 0
    )
    return 2 * xlogy(tables.counts, ratio).sum(axis=(2, 3)) / correction


class _Counts:
    """Categories, and the tables of x and y in every stratum of a condition."""

    def __init__(self, data: Any, name: str, rows_needed: int) -> None:
        variables = Variables.read(data).require_variation()
        numeric = [column for column in variables.names if variables.is_numeric(column)]
        if numeric:
            raise ValueError(
                f"column {numeric[0]!r} is numeric, and {name} counts categories: cut it into classes (pandas.cut, or "
                "astype('category') if its numbers are labels), or take test=\"mixed\""
            )
        self.name, self.rows_needed = name, rows_needed
        self.nodes = variables.names
        self._codes = np.ascontiguousarray(variables.values.T.astype(np.int64))
        self._levels = np.array([len(variables.levels[column]) for column in self.nodes])

    def p_values(
        self,
        x: np.ndarray,
        y: np.ndarray,
        given: np.ndarray,
        statistic: Callable[[_Tables], np.ndarray],
    ) -> np.ndarray:
        """p-values (m,) by the statistic that ``statistic(tables)`` gives of each stratum."""
        p = np.empty(len(x))
        start = 0
        while start < len(x):
            part = slice(start, start + self._how_many(x[start:], y[start:], given[start:]))
            tables = self._tables(x[part], y[part], given[part])
            freedom, value = tables.freedom.sum(axis=1), np.maximum(statistic(tables).sum(axis=1), 0)
            p[part] = np.where(freedom > 0, chdtrc(np.maximum(freedom, 1), value), 1.0)
            start = part.stop
        return p

    def _how_many(self, x: np.ndarray, y: np.ndarray, given: np.ndarray) -> int:
        """The longest run of tests from the first on whose codes and tables fit into CELLS; at least one."""
        n = self._codes.shape[1]
        most = np.maximum.accumulate
        strata = np.minimum(most(self._levels[given], axis=0).prod(axis=1, dtype=np.float64), n)
        cells = (n + strata * most(self._levels[x]) * most(self._levels[y])) * np.arange(1, len(x) + 1)
        return max(1, int(np.searchsorted(cells, CELLS)))

    def _tables(self, x: np.ndarray, y: np.ndarray, given: np.ndarray) -> _Tables:
        strata, n_strata = self._strata(given)
        shape = (len(x), n_strata, int(self._levels[x].max()), int(self._levels[y].max()))
        table = np.arange(len(x))[:, None] * n_strata + strata
        cells = (table * shape[2] + self._codes[x]) * shape[3] + self._codes[y]
        counts = np.bincount(cells.ravel(), minlength=int(np.prod(shape)))
        return _Tables(counts.reshape(shape).astype(np.float64))

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
        if self.rows_needed * n_strata > n:
            numbers, n_strata = _renumbered(numbers, n_strata)
        if self.rows_needed * n_strata > n:
            raise ValueError(
                f"{n} rows are too few to condition on {given.shape[1]} categories that show {n_strata} combinations of "
                f"levels: {self.name} needs at least {self.rows_needed} rows for each; bring more rows, merge levels, or limit "
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
