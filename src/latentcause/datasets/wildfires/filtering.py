"""What a sensor's masks say of the fronts of a simulated fire, for one who knows how it was simulated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from latentcause.datasets.wildfires.simulator import SimulatedFire
from latentcause.datasets.wildfires.spread import ignitions

LEAST = 1e-12
"""Smallest chance of a pixel to burn tomorrow: no particle dies of a fire that it holds for impossible."""


@dataclass(frozen=True, eq=False)
class FilteredFronts:
    """Monte Carlo estimates of what the masks up to each day say.

    Attributes
    ----------
    today : ndarray (days, h, w)
        P(burns on this day | masks up to it).
    tomorrow : ndarray (days - 1, h, w)
        P(burns on the next day | masks up to this day).
    effective : ndarray (days,)
        Effective number of particles before they were drawn anew; on the first day, of ignitions. Near 1 on a later day the
        estimates of that day and those after it are not to be trusted.
    """

    today: np.ndarray
    tomorrow: np.ndarray
    effective: np.ndarray


def filtered_fronts(fire: SimulatedFire, particles: int = 256, *, seed: int = 0) -> FilteredFronts:
    """Filter the fronts from the masks by a fully adapted particle filter, with the fire's own spread and sensor.

    A particle is a history of fronts. Given yesterday's, pixels burn independently with the probabilities p of the
    `SpreadModel`, so today's mask y has the closed-form likelihood p(y | yesterday), by which particles are weighted and drawn
    anew, and today's front is drawn from p(today | y, yesterday) (Pitt and Shephard, Journal of the American Statistical
    Association 94, 1999). On the first day every possible ignition is weighed. The sensor's clouds and footprints are known.

    Raises
    ------
    ValueError
        For fewer than 2 particles.
    """
    if particles < 2:
        raise ValueError(f"{particles} particles: give 2 or more")
    rng = np.random.default_rng(seed)
    masks, values = fire.series.masks, fire.series.values
    starts = ignitions(masks.shape[1:])
    log_weight = _ignition_log_likelihood(fire, starts)
    front = reached = starts[_drawn(log_weight, particles, rng)]
    today, tomorrow, effective = [front.mean(0)], [], [_effective(log_weight)]
    for day in range(1, len(masks)):
        p = fire.spread.next_day(front, reached, values[day - 1])
        tomorrow.append(p.mean(0))
        # Where no particle expected a fire, all are equally surprised.
        p = np.where(masks[day], np.maximum(p, LEAST), p)
        log_weight = fire.sensor.log_likelihood(masks[day], p, fire.cloud[day], fire.footprints[day])
        kept = _drawn(log_weight, particles, rng)
        front = fire.sensor.front_given(masks[day], p[kept], fire.cloud[day], fire.footprints[day], rng)
        reached = reached[kept] | front
        today.append(front.mean(0))
        effective.append(_effective(log_weight))
    return FilteredFronts(np.stack(today), np.stack(tomorrow), np.array(effective))


def _ignition_log_likelihood(fire: SimulatedFire, starts: np.ndarray) -> np.ndarray:
    """Of every start; where something is marked, those that burn nowhere in the marks can't be."""
    mask = fire.series.masks[0]
    possible = starts[:, mask].any(1) if mask.any() else np.ones(len(starts), dtype=bool)
    found = np.full(len(starts), -np.inf)
    p = starts[possible].astype(np.float64)
    found[possible] = fire.sensor.log_likelihood(mask, p, fire.cloud[0], fire.footprints[0])
    return found


def _drawn(log_weight: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """n numbers of particles by systematic resampling."""
    share = np.cumsum(_normalised(log_weight))
    return np.minimum(np.searchsorted(share, (np.arange(n) + rng.random()) / n), len(share) - 1)


def _effective(log_weight: np.ndarray) -> float:
    return float(1 / np.square(_normalised(log_weight)).sum())


def _normalised(log_weight: np.ndarray) -> np.ndarray:
    weight = np.exp(log_weight - log_weight.max())
    return weight / weight.sum()
