"""Anderson acceleration of a fixed-point iteration such as EM."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

MEMORY = 5

DAMPING = 1e-8
"""Ridge of the small least-squares problem, as a share of its scale."""


class Anderson:
    """Extrapolates x -> F(x) from its last few steps (Anderson 1965; Walker and Ni 2011, type II).

    With residuals f_k = F(x_k) - x_k, the next point is F(x_k) - sum_i g_i (dF)_i, where g minimises |f_k - sum_i g_i (df)_i|.

    Parameters
    ----------
    weights : ndarray
        Of the entries of x in that norm: how much a unit of each matters.
    """

    def __init__(self, weights: np.ndarray) -> None:
        self._weights = weights
        self._points: list[np.ndarray] = []
        self._images: list[np.ndarray] = []

    def next(self, point: np.ndarray, image: np.ndarray) -> np.ndarray:
        """The point to try after ``image`` = F(``point``)."""
        self._points = [*self._points[-MEMORY:], point]
        self._images = [*self._images[-MEMORY:], image]
        if len(self._points) == 1:
            return image
        residuals = np.stack([b - a for a, b in zip(self._points, self._images, strict=True)]) * self._weights
        steps = np.diff(residuals, axis=0).T
        gram = steps.T @ steps
        gram[np.diag_indices_from(gram)] += DAMPING * np.trace(gram) + np.finfo(float).tiny
        weights = np.linalg.solve(gram, steps.T @ residuals[-1])
        return image - np.diff(np.stack(self._images), axis=0).T @ weights

    @property
    def memory(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """The last points with their images; set it to go on from where another left off."""
        return list(zip(self._points, self._images, strict=True))

    @memory.setter
    def memory(self, pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> None:
        self.forget()
        for point, image in pairs:
            self._points.append(point)
            self._images.append(image)

    def forget(self) -> None:
        """Start afresh, after a step that was taken back."""
        self._points, self._images = [], []
