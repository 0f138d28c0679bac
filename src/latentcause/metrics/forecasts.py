"""How good forecasts are: ensembles of draws against what came true, and probabilities against yes or no.

Ensembles are arrays (n, *cells) of n draws; truths are arrays (*cells), with NaN where nothing is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


def crps(samples: Any, truth: Any) -> np.ndarray:
    """Continuous ranked probability score of every cell, in the units of the truth, smaller is better.

    sum_i |x_i - y| / n - sum_i,j |x_i - x_j| / (2 n (n - 1)): the fair estimate, whose mean over ensembles is that of infinitely
    many draws, E|X - y| - E|X - X'| / 2 (Ferro, Fair scores for ensemble forecasts, 2014). Of a single cell it may be below
    zero. NaN where the truth is.

    Raises
    ------
    ValueError
        For fewer than two draws, draws that are not finite, and shapes that do not fit each other.
    """
    draws, y = _checked(samples, truth, least=2)
    n = len(draws)
    ranks = (2 * np.arange(1, n + 1) - n - 1).reshape(-1, *[1] * y.ndim)
    spread = (ranks * np.sort(draws, axis=0)).sum(0) / (n * (n - 1))
    return np.abs(draws - y).mean(0) - spread


def pit(samples: Any, truth: Any) -> tuple[np.ndarray, np.ndarray]:
    """Probability integral transform: the interval (low, high) of the truth's place among the draws, cell by cell.

    With k draws below the truth and m equal to it, low = k / (n + 1) and high = (k + m + 1) / (n + 1). Where truth and draws
    come from one distribution, a number drawn evenly from that interval is uniform on [0, 1], for any n. NaN where the truth is.

    Raises
    ------
    ValueError
        For draws that are not finite, and shapes that do not fit each other.
    """
    draws, y = _checked(samples, truth, least=1)
    known = np.where(np.isnan(y), np.nan, 1.0) / (len(draws) + 1)
    return (draws < y).sum(0) * known, ((draws <= y).sum(0) + 1) * known


def pit_histogram(samples: Any, truth: Any, bins: int = 10) -> np.ndarray:
    """Share (bins,) of the truths whose `pit` lies in each of ``bins`` equal parts of [0, 1].

    An interval counts in each bin by the share of it that lies there, so no random number is needed (Czado, Gneiting and Held,
    Predictive model assessment for count data, 2009). Flat is calibrated; heaped at both ends too narrow; heaped in the middle
    too wide; leaning to one side biased.

    Raises
    ------
    ValueError
        As `pit`, and where no truth is known.
    """
    low, high = _known(*pit(samples, truth))
    edges = np.linspace(0.0, 1.0, bins + 1)
    return np.diff([_mass_below(edge, low, high).mean() for edge in edges])


def coverage(samples: Any, truth: Any, levels: Sequence[float] = (0.5, 0.9)) -> np.ndarray:
    """Share (levels,) of the truths within the central interval of each level.

    From the `pit`: what part of its interval lies within [(1 - level) / 2, (1 + level) / 2]. So the expected share is the level
    itself where truth and draws come from one distribution, for any number of draws. (Between the 5 % and 95 %
    quantiles of 64 draws, as usually interpolated, lie 87 % of such truths.)

    Raises
    ------
    ValueError
        As `pit`, for a level outside (0, 1), and where no truth is known.
    """
    wrong = [level for level in levels if not 0 < level < 1]
    if wrong:
        raise ValueError(f"a level of {wrong[0]}: give numbers between 0 and 1, such as 0.9")
    low, high = _known(*pit(samples, truth))
    inside = [
        _mass_below((1 + level) / 2, low, high) - _mass_below((1 - level) / 2, low, high)
        for level in map(float, levels)
    ]
    return np.array([share.mean() for share in inside])


def normalised_rmse(prediction: Any, truth: Any) -> float:
    """sqrt(mean (prediction - truth)^2) as a share of the truth's standard deviation over its cells (NRMSE).

    1 is a prediction of the mean everywhere. Cells whose truth is NaN are left out.

    Raises
    ------
    ValueError
        For shapes that do not fit each other, and a truth that is the same in all cells.
    """
    p, y = _pairs(prediction, truth)
    if not y.std() > 0:
        raise ValueError("the truth is the same in all cells: an error has no share of its standard deviation")
    return float(np.sqrt(np.square(p - y).mean()) / y.std())


def mean_absolute_percentage_error(prediction: Any, truth: Any) -> float:
    """100 mean |prediction - truth| / |truth| (MAPE), in per cent.

    Cells near zero rule it: it says little of fields that change sign. Cells whose truth is NaN are left out.

    Raises
    ------
    ValueError
        For shapes that do not fit each other, and a truth of zero.
    """
    p, y = _pairs(prediction, truth)
    if (y == 0).any():
        raise ValueError(f"the truth is 0 in {(y == 0).sum()} cells: an error there is no percentage of it")
    return float(100 * np.abs((p - y) / y).mean())


@dataclass(frozen=True, eq=False)
class Reliability:
    """Probabilities against what came true, in bins of equal width.

    Attributes
    ----------
    edges : ndarray (bins + 1,)
        Of the bins.
    counts : ndarray (bins,)
        Cells in each.
    forecast, observed : ndarray (bins,)
        Mean probability, and share that came true; NaN in empty bins.
    calibration_error : float
        sum_b counts_b / n |forecast_b - observed_b|, the expected calibration error.
    brier : float
        mean (p - y)^2.
    base_rate_brier : float
        That of the share that came true, forecast everywhere: what a forecast without knowledge of the cells reaches.
    """

    edges: np.ndarray
    counts: np.ndarray
    forecast: np.ndarray
    observed: np.ndarray
    calibration_error: float
    brier: float
    base_rate_brier: float


def reliability(probability: Any, truth: Any, bins: int = 10) -> Reliability:
    """How far probabilities of an event in each cell are from its frequency, given whether it came true there.

    Parameters
    ----------
    probability : array
        In [0, 1].
    truth : array
        0 or 1, or bool; NaN where it is not known.
    bins : int
        Of equal width; a probability on an edge counts in the bin above, 1 in the last.

    Raises
    ------
    ValueError
        For probabilities outside [0, 1], a truth that is neither 0 nor 1, shapes that do not fit each other, and where no truth is
        known.
    """
    p, y = _pairs(probability, truth)
    if (wrong := (p < 0) | (p > 1)).any():
        raise ValueError(f"{wrong.sum()} probabilities are outside [0, 1] (first: {p[wrong.argmax()]:g})")
    if (wrong := (y != 0) & (y != 1)).any():
        raise ValueError(
            f"{wrong.sum()} truths are neither 0 nor 1 (first: {y[wrong.argmax()]:g}): give a threshold first"
        )
    edges = np.linspace(0.0, 1.0, bins + 1)
    number = np.clip(np.searchsorted(edges, p, side="right") - 1, 0, bins - 1)
    counts = np.bincount(number, minlength=bins)
    filled = np.where(counts > 0, counts, np.nan)
    forecast = np.bincount(number, p, bins) / filled
    observed = np.bincount(number, y, bins) / filled
    gaps = np.nan_to_num(np.abs(forecast - observed))
    rate = y.mean()
    return Reliability(
        edges,
        counts,
        forecast,
        observed,
        float((counts * gaps).sum() / len(p)),
        float(np.square(p - y).mean()),
        float(rate * (1 - rate)),
    )


# --- inside ----------------------------------------------------------------------------------------------------------


def _mass_below(edge: float, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The share of each interval below an edge."""
    return np.clip((edge - low) / (high - low), 0.0, 1.0)


def _checked(samples: Any, truth: Any, least: int) -> tuple[np.ndarray, np.ndarray]:
    draws, y = np.asarray(samples, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    if draws.ndim != y.ndim + 1 or draws.shape[1:] != y.shape:
        raise ValueError(f"draws of shape {draws.shape} for a truth of shape {y.shape}: give (n, *{y.shape})")
    if len(draws) < least:
        raise ValueError(f"{len(draws)} draws: at least {least} are needed")
    if not np.isfinite(draws).all():
        raise ValueError(f"{(~np.isfinite(draws)).sum()} numbers of the draws are not finite")
    return draws, y


def _known(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    known = ~np.isnan(low)
    if not known.any():
        raise ValueError("no cell has a known truth")
    return low[known], high[known]


def _pairs(prediction: Any, truth: Any) -> tuple[np.ndarray, np.ndarray]:
    """Both flat, without the cells whose truth is not known."""
    p, y = np.asarray(prediction, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    if p.shape != y.shape:
        raise ValueError(f"predictions of shape {p.shape} for a truth of shape {y.shape}: give one for each cell")
    known = ~np.isnan(y)
    if not known.any():
        raise ValueError("no cell has a known truth")
    p, y = p[known], y[known]
    if not np.isfinite(p).all():
        raise ValueError(f"{(~np.isfinite(p)).sum()} predictions are not finite where the truth is known")
    return p, y
