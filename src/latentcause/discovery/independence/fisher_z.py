"""Fisher's z-test of partial correlations."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import ndtr

from latentcause.data.variables import Variables
from latentcause.discovery.independence.base import IndependenceTest

LARGEST = 1 - 1e-12  # of a correlation, so that its z stays finite
BATCH = 50_000  # conditions whose matrices are held at once


class FisherZ(IndependenceTest):
    """Independence of numeric variables that are jointly Gaussian: is the partial correlation zero?

    z = sqrt(n - k - 3) atanh(r), with r the partial correlation given k variables, is standard normal under independence
    (R. A. Fisher 1924). Everything comes from the correlation matrix, so a test costs nothing per row; a batch is one
    pass of linear algebra.

    Parameters
    ----------
    data : DataFrame, array (n, d) or Variables

    Raises
    ------
    ValueError
        For what `Variables` refuses, a column of categories, a constant or duplicated column, or fewer rows than
        columns; and, when asked for a p-value, a condition with too many variables for the rows.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> a = rng.normal(size=500)
    >>> b = a + rng.normal(size=500)
    >>> test = FisherZ(np.column_stack([a, b, b + rng.normal(size=500)]))
    >>> bool(test.p_value("x0", "x2") < 1e-10), bool(test.p_value("x0", "x2", ["x1"]) > 0.05)
    (True, True)
    """

    def __init__(self, data: Any) -> None:
        variables = Variables.read(data).require_variation()
        if variables.levels:
            raise ValueError(
                f'column {next(iter(variables.levels))!r} holds categories, and partial correlations need numbers: use test="mixed"'
            )
        self.nodes = variables.names
        self.n_rows = len(variables.values)
        self._correlation = np.corrcoef(variables.values, rowvar=False).reshape(len(self.nodes), -1)

    @classmethod
    def from_correlation(cls, correlation: np.ndarray, nodes: tuple[str, ...], n_rows: int) -> FisherZ:
        """The test of n_rows samples whose correlation matrix (d, d) is known already."""
        test = cls.__new__(cls)
        test.nodes, test.n_rows, test._correlation = (
            tuple(nodes),
            int(n_rows),
            np.asarray(correlation, dtype=np.float64),
        )
        return test

    def p_values(self, x: np.ndarray, y: np.ndarray, given: np.ndarray) -> np.ndarray:
        """2 Phi(-|z|) for each test."""
        freedom = self.n_rows - given.shape[1] - 3
        if freedom < 1:
            raise ValueError(
                f"{self.n_rows} rows are too few to condition on {given.shape[1]} variables: Fisher's z needs more than "
                f"{given.shape[1] + 3}; bring more rows, or limit the condition with max_given"
            )
        r = np.clip(self.partial_correlations(x, y, given), -LARGEST, LARGEST)
        return 2 * ndtr(-np.sqrt(freedom) * np.abs(np.arctanh(r)))

    def partial_correlations(self, x: np.ndarray, y: np.ndarray, given: np.ndarray) -> np.ndarray:
        """Correlation of x and y once the given ones are regressed out: float64 (m,), shapes as in ``p_values``."""
        R = self._correlation
        if given.shape[1] == 0:
            return R[x, y]
        if given.shape[1] == 1:
            s = given[:, 0]
            top = R[x, y] - R[x, s] * R[y, s]
            return top / np.sqrt((1 - R[x, s] ** 2) * (1 - R[y, s] ** 2))
        parts = [slice(start, start + BATCH) for start in range(0, len(x), BATCH)]
        return np.concatenate([self._by_inversion(x[part], y[part], given[part]) for part in parts] or [R[x, y]])

    def _by_inversion(self, x: np.ndarray, y: np.ndarray, given: np.ndarray) -> np.ndarray:
        columns = np.column_stack([x, y, given])
        precision = np.linalg.inv(self._correlation[columns[:, :, None], columns[:, None, :]])
        return -precision[:, 0, 1] / np.sqrt(precision[:, 0, 0] * precision[:, 1, 1])
