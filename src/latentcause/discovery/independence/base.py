"""What every test of conditional independence is asked."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

import numpy as np


class IndependenceTest(ABC):
    """Tests of x independent of y given a set of other variables, on data that the test holds.

    Attributes
    ----------
    nodes : tuple of str
        Names of the variables; their positions are the column numbers that ``p_values`` takes.
    """

    nodes: tuple[str, ...]

    @abstractmethod
    def p_values(self, x: np.ndarray, y: np.ndarray, given: np.ndarray) -> np.ndarray:
        """p-values (m,) of m tests at once, all with as many variables k in the condition.

        Parameters
        ----------
        x, y : int ndarray (m,)
            Columns; test i asks whether x[i] and y[i] are independent.
        given : int ndarray (m, k)
            Columns of the conditions, none of them x[i] or y[i], no column twice in a row.

        Returns
        -------
        float64 ndarray (m,)
            In [0, 1]; small where the data speak against independence.
        """

    def p_value(self, x: str, y: str, given: str | Iterable[str] = ()) -> float:
        """p-value of one test, by names.

        Raises
        ------
        ValueError
            For an unknown name, or one that is named twice.
        """
        names = [x, y, *([given] if isinstance(given, str) else given)]
        for name in names:
            if name not in self.nodes:
                raise ValueError(f"unknown variable {name!r}: the data have {', '.join(self.nodes)}")
            if names.count(name) > 1:
                raise ValueError(f"variable {name!r} is named twice: x, y and the condition must not overlap")
        columns = np.array([self.nodes.index(name) for name in names])
        return float(self.p_values(columns[:1], columns[1:2], columns[None, 2:])[0])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self.nodes)} variables)"
