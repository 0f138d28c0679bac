"""Functions of single variables that regressions are built of: splines of numbers, indicators of categories."""

from __future__ import annotations

import numpy as np
from scipy.interpolate import BSpline
from scipy.special import ndtr

from latentcause.data.variables import Variables

MOST = 15
"""Functions of one numeric variable that are made at the most."""


class Bases:
    """For every variable some functions of it, each of mean 0 and mean square 1, orthogonal to each other over the rows.

    A numeric variable has first itself, standardised, and then cubic B-splines with knots at its quantiles (those that are
    evenly spaced from -2 to 2 standard deviations in a normal distribution), turned so that they come from smooth to wiggly.
    Smoothness is that of P-splines, second differences of the coefficients (Eilers and Marx, Statistical Science 11, 1996),
    the order that of Demmler and Reinsch (1975). So the leading c functions are a regression spline of c degrees of freedom. A
    category of K levels has K - 1 functions that span its indicators.

    Parameters
    ----------
    variables : Variables
        Without constant columns.

    Attributes
    ----------
    columns : ndarray (n, D)
        The functions of all variables, side by side.
    start, count : int ndarray (d,)
        Where the functions of each variable begin in ``columns``, and how many it has.
    numeric : bool ndarray (d,)
    """

    def __init__(self, variables: Variables) -> None:
        most = min(MOST, max(3, int(np.cbrt(len(variables)) + 1e-9)))
        blocks = [
            _spline_functions(variables.column(name), most)
            if variables.is_numeric(name)
            else _indicator_functions(variables.column(name))
            for name in variables.names
        ]
        self.numeric = np.array([variables.is_numeric(name) for name in variables.names])
        self.columns = np.concatenate(blocks, axis=1)
        self.count = np.array([block.shape[1] for block in blocks])
        self.start = np.concatenate([[0], np.cumsum(self.count)[:-1]])

    def of(self, variable: int, most: int) -> np.ndarray:
        """Numbers of the columns of a variable: all of a category, at most ``most`` of a numeric one."""
        count = min(self.count[variable], most) if self.numeric[variable] else self.count[variable]
        return self.start[variable] + np.arange(count)

    def functions_per_condition(self, k: int) -> int:
        """How many functions of each numeric variable a condition on k variables may use.

        n^(1/3), which lets the error of a regression on smooth functions vanish, but at most 15, and no more than leave 10 rows
        for every function.
        """
        n = len(self.columns)
        return int(np.clip(n // (10 * max(k, 1)), 1, min(MOST, np.cbrt(n) + 1e-9)))


def _spline_functions(x: np.ndarray, most: int) -> np.ndarray:
    """Leading functions (n, c), c <= most, of a numeric variable."""
    n = len(x)
    line = x - x.mean()
    line = (line / np.sqrt(np.mean(line**2)))[:, None]
    inner = np.unique(np.quantile(x, ndtr(np.linspace(-2, 2, most))))
    if len(inner) < 3:  # two values, or all but the same value in most rows
        inner = np.unique(x)[:: max(1, len(np.unique(x)) // most)]
    if len(inner) < 3:
        return line
    low, high = x.min(), x.max()
    knots = np.concatenate([[low] * 3, [low], inner[(inner > low) & (inner < high)], [high], [high] * 3])
    splines = BSpline.design_matrix(x, knots, 3).toarray()
    splines -= splines.mean(axis=0)
    splines -= line * (line.T @ splines) / n
    values, vectors = np.linalg.eigh(splines.T @ splines / n)
    kept = values > 1e-8 * values.max()
    whitening = vectors[:, kept] / np.sqrt(values[kept])
    # Roughness of a function with coefficients c, up to the straight line that was taken out: |second differences of c|^2.
    differences = np.diff(whitening, n=2, axis=0)
    turns = np.linalg.eigh(differences.T @ differences)[1]
    return np.concatenate([line, splines @ (whitening @ turns)], axis=1)[:, :most]


def _indicator_functions(codes: np.ndarray) -> np.ndarray:
    """Orthonormal functions (n, K - 1) with the span of the centred indicators of the K levels that occur."""
    present, position, counts = np.unique(codes, return_inverse=True, return_counts=True)
    share = counts / len(codes)
    # Orthonormal vectors of R^K, the first along sqrt(share): the others, over sqrt(share), have mean 0 and mean square 1.
    frame = np.linalg.qr(np.column_stack([np.sqrt(share), np.eye(len(present))[:, :-1]]))[0]
    return (frame[:, 1:] / np.sqrt(share)[:, None])[position]
