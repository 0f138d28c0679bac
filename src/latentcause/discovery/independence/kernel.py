"""The kernel test of conditional independence, from causal-learn."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from latentcause.data.variables import Variables
from latentcause.discovery.independence.base import IndependenceTest


class KernelIndependence(IndependenceTest):
    """Independence by kernels (KCI), with Gaussian kernels and the gamma approximation of causal-learn.

    It looks for dependence of any form (K. Zhang, J. Peters, D. Janzing and B. Schoelkopf, UAI 2011, Theorems 4 and 5,
    Propositions 5 and 6). A test takes time in proportion to the cube of the rows: seconds for a thousand, so it is for small
    tables. A category enters as the indicators of its levels.

    Parameters
    ----------
    data : DataFrame, array (n, d) or Variables

    Raises
    ------
    ImportError
        If causal-learn is not installed.
    ValueError
        For what `Variables` refuses, a constant column, a category with one level, two columns that say the same, or fewer
        rows than columns; and, when asked for a p-value, a condition with too many variables for the rows.
    """

    def __init__(self, data: Any) -> None:
        self._unconditional, self._conditional = _causal_learn_tests()
        variables = Variables.read(data).require_variation()
        self.nodes = variables.names
        self._features = [_features(variables, name) for name in self.nodes]
        self._rank = np.argsort(np.argsort(np.array(self.nodes)))

    def p_values(self, x: np.ndarray, y: np.ndarray, given: np.ndarray) -> np.ndarray:
        """Upper tail of the approximating gamma distribution for each test."""
        n, k = len(self._features[0]), given.shape[1]
        if n <= k + 3:
            raise ValueError(
                f"{n} rows are too few to condition on {k} variables: bring more rows, or limit the condition with max_given"
            )
        tests = zip(x.tolist(), y.tolist(), given.tolist(), strict=True)
        return np.array([self._one(sorted((a, b), key=self._place), sorted(s, key=self._place)) for a, b, s in tests])

    def _place(self, variable: int) -> int:
        """Place of a variable in the order of the names, in which the sums over kernels are made."""
        return int(self._rank[variable])

    def _one(self, pair: list[int], condition: list[int]) -> float:
        first, second = (self._features[variable] for variable in pair)
        if not condition:
            p = self._unconditional.compute_pvalue(first, second)[0]
        else:
            given = np.concatenate([self._features[variable] for variable in condition], axis=1)
            p = self._conditional.compute_pvalue(first, second, given)[0]
        return float(np.clip(p, 0.0, 1.0))


def _causal_learn_tests() -> tuple[Any, Any]:
    """The two tests: without and with a condition. Neither draws random numbers."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what causal-learn's dependencies say when they are imported
            from causallearn.utils.KCI.KCI import KCI_CInd, KCI_UInd
    except ImportError:
        raise ImportError('test="kci" needs causal-learn: pip install "latentcause[discovery]"') from None
    return KCI_UInd(approx=True), KCI_CInd(approx=True)


def _features(variables: Variables, name: str) -> np.ndarray:
    """The number (n, 1), or the indicators of the levels that occur (one of two)."""
    values = variables.column(name)
    if variables.is_numeric(name):
        return values[:, None].copy()
    present = np.unique(values)
    return (values[:, None] == (present if len(present) > 2 else present[1:])).astype(np.float64)
