"""What surrounds each pixel of a map, seen without the pixel itself: inputs of a network that is blind at the centre."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.signal import fftconvolve

LOWEST, HIGHEST = -4.0, 8.0
"""Where standardised maps are cut off before means are taken: a few bright pixels would decide them."""

_WIDTHS = (1.2, 2.0, 3.5, 6.0, 12.0, 24.0)  # of Gaussian means, in pixels
_LEVELS, _SOFTNESS, _NEAR_WIDTHS = (1.0, 2.5, 4.0), 0.4, (1.2, 2.5, 5.0)  # of shares of bright pixels
_SPREAD_WIDTHS = (2.0, 5.0)
_DIRECTIONS, _DIRECTED_WIDTH = 8, 2.5

Reach = Callable[[np.ndarray, np.ndarray], np.ndarray]


def context_features(z: np.ndarray, hole: int, other: tuple[int, int] | None = None) -> np.ndarray:
    """25 summaries (h, w, 25) of the surroundings of each pixel.

    Gaussian-weighted means over six widths; shares of pixels above three levels at three widths; spreads at two widths; and means
    in eight directions, sorted, so that a turned map gives the same. No summary sees the square of ``hole`` pixels a side
    around its pixel.

    Parameters
    ----------
    z : array (h, w)
        Standardised: median 0 and the spread of most pixels about 1. At its edges means are of the pixels that there are.
    hole : int
        Odd.
    other : (rows, columns), optional
        A second square of the same size, at this distance from the pixel, that is not seen either.
    """
    cut = np.clip(z, LOWEST, HIGHEST)
    found = [_weighted_mean(cut, width, hole, other) for width in _WIDTHS]
    for level in _LEVELS:
        share = 1 / (1 + np.exp(-(cut - level) / _SOFTNESS))
        found += [_weighted_mean(share, width, hole, other) for width in _NEAR_WIDTHS]
    for width in _SPREAD_WIDTHS:
        square = _weighted_mean(cut**2, width, hole, other) - _weighted_mean(cut, width, hole, other) ** 2
        found.append(np.sqrt(np.maximum(square, 1e-6)))
    turns = 2 * np.pi / _DIRECTIONS * np.arange(_DIRECTIONS)
    directed = [_weighted_mean(cut, _DIRECTED_WIDTH, hole, other, _towards(turn)) for turn in turns]
    return np.stack([*found, *np.sort(directed, axis=0)], axis=-1)


def standardised(features: np.ndarray) -> np.ndarray:
    """Features (h, w, k) with mean 0 and standard deviation 1 over the map, float32; constant ones become 0."""
    spread = features.std(axis=(0, 1))
    return ((features - features.mean(axis=(0, 1))) / np.where(spread > 0, spread, 1.0)).astype(np.float32)


def _towards(turn: float) -> Reach:
    """Weight of a pixel by its direction: the cubed cosine of the angle from ``turn``, and next to nothing behind."""

    def weight(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        along = (rows * np.sin(turn) + columns * np.cos(turn)) / np.maximum(np.hypot(rows, columns), 1e-9)
        return np.clip(along, 0, 1) ** 3 + 1e-6

    return weight


def _weighted_mean(
    z: np.ndarray, width: float, hole: int, other: tuple[int, int] | None, weight: Reach | None = None
) -> np.ndarray:
    """Mean with Gaussian weights out to three widths, and at least as far as two pixels beyond what is not seen."""
    hidden = hole // 2
    reach = max(int(3 * width), hidden + 2, *(abs(step) + hidden + 1 for step in other or ()), hidden + 2)
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    kernel = np.exp(-0.5 * (rows**2 + columns**2) / width**2)
    if weight is not None:
        kernel = kernel * weight(rows, columns)
    for row, column in ((0, 0), *([other] if other else [])):
        kernel[np.maximum(abs(rows - row), abs(columns - column)) <= hidden] = 0
    return _convolved(z, kernel / kernel.sum())


def _convolved(z: np.ndarray, kernel: np.ndarray) -> Any:
    """Weighted mean of the pixels that there are: a map that went on as its mirror image would show each pixel itself."""
    flipped = kernel[::-1, ::-1]
    weights = fftconvolve(np.ones_like(z), flipped, mode="same")
    return fftconvolve(z, flipped, mode="same") / weights
