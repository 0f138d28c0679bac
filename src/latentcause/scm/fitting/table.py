"""What a mechanism is fitted to, and the noise that its residuals become."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from latentcause.scm.noise import EmpiricalNoise, GaussianNoise, KernelNoise, Noise

NOISES = ("empirical", "gaussian", "kernel")


class Table(NamedTuple):
    """The data of one node with at least one parent.

    Attributes
    ----------
    node : str
    parents : ndarray (n, p), float64
        Columns follow the graph's order of parents; a category of K levels stands as K - 1 columns of zeros and ones.
    values : ndarray (n,), float64
    columns : tuple of str
        What the p columns are called in messages: ``age``, or ``site=b`` for the indicator of a level.
    """

    node: str
    parents: np.ndarray
    values: np.ndarray
    columns: tuple[str, ...]


def residual_noise(node: str, residuals: np.ndarray, noise: str) -> Noise:
    """The distribution of these residuals (n,), centred first: the intercept of a mechanism holds their mean.

    Raises
    ------
    ValueError
        If ``noise`` is not one of `NOISES`; for a kernel estimate of residuals that are constant.
    """
    centred = residuals - residuals.mean()
    match noise:
        case "empirical":
            return EmpiricalNoise(centred)
        case "gaussian":
            return GaussianNoise(float(centred @ centred) / len(centred))
        case "kernel":
            if not centred.any():
                raise ValueError(f"node {node!r} has no noise to estimate: its residuals are constant")
            return KernelNoise(centred)
    raise ValueError(f"unknown noise {noise!r}: choose one of {list(NOISES)}")
