"""Next-day forecasts of simulated fires, and hidden fronts by SVGDM, beside what the simulator itself knows.

A seed draws all fires anew: some to learn from, some to choose the threshold of the F1, some to report on; no fire is in two of
the sets. Targets:

- ``mask``: what the sensor marks on the next day, over all pixels of all days of the fires reported on. ``true front`` has the
  simulator's own probabilities given the true front, and nothing that sees less can expect more; ``filter`` those given the masks
  up to that day (a particle filter, which knows clouds and footprints too), the limit of forecasts up to its Monte Carlo error.
- ``today`` and ``tomorrow``: the true front, in windows around the detections, one of each fire. From yesterday's and today's
  masks, with clouds missing, and the drive (wind, slope, fuel, drought), SVGDM samples the fronts of three days, with scores
  learned from the true fronts of other simulated fires. ``SVGDM, mechanism`` carries the samples of today's front to tomorrow by
  the simulator's mechanism. Its probabilities are the samples' mean, 1 where it burns and -1 elsewhere, brought to [0, 1]: the
  share above 0 has no more levels than samples. Thresholds are chosen on windows of the fires that choose thresholds.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.metrics import average_precision_score, precision_recall_curve

from latentcause.console import say
from latentcause.datasets.wildfires import SimulatedFire, filtered_fronts, simulate_wildfires
from latentcause.datasets.wildfires.fronts import FRONT_GRAPH, FrontWindow, front_draws, front_windows
from latentcause.experiments.checks import Check, Table
from latentcause.models.baselines.fires import FireForecaster, FireUNet, LogisticFire, PersistentFire
from latentcause.models.svgdm import SVGDM

PARTICLES = 256
FORECASTERS: dict[str, Callable[[FireSettings, int], FireForecaster]] = {
    "persistence": lambda settings, seed: PersistentFire(),
    "logistic": lambda settings, seed: LogisticFire(seed=seed),
    "U-Net": lambda settings, seed: FireUNet((8, 16), epochs=settings.epochs, device="cpu", seed=seed),
}
Pair = tuple[list[SimulatedFire], list[SimulatedFire]]
"""The fires that choose thresholds, and those reported on."""


@dataclass(frozen=True)
class FireSettings:
    """How much is simulated and learned.

    Attributes
    ----------
    fires : int
        To learn from; a quarter of that number chooses thresholds, and half of it is reported on.
    prior_fires : int
        From whose fronts SVGDM learns.
    windows : int
        In which SVGDM is judged, at most one a fire; 0 leaves it out.
    epochs, samples : int
        Of networks; of SVGDM.
    """

    fires: int = 60
    prior_fires: int = 300
    windows: int = 20
    epochs: int = 20
    samples: int = 16

    @classmethod
    def quick(cls) -> FireSettings:
        """Minutes."""
        return cls(fires=16, prior_fires=60, windows=6, epochs=6, samples=8)


def fire_rows(settings: FireSettings, seed: int) -> Iterator[dict[str, Any]]:
    """A row for each method and target: average precision, F1, Brier score, prevalence."""
    learned, *others = drawn(seed, settings.fires, settings.fires // 4, settings.fires // 2)
    pair = (others[0], others[1])
    methods: dict[str, FireForecaster] = {}
    for name, make in FORECASTERS.items():
        start = time.process_time()
        methods[name] = make(settings, seed).fit([fire.series for fire in learned])
        seconds = time.process_time() - start
        yield {"method": name, **masks_judged(pair, forecast_by(methods[name])), "learning_s": seconds}
    yield {"method": "filter", **masks_judged(pair, forecast_by_filter(seed))}
    yield {"method": "true front", **masks_judged(pair, lambda fire: fire.sensor.mark_probability(fire.tomorrow()))}
    if settings.windows:
        yield from fronts(settings, seed, pair, methods)


# --- masks -----------------------------------------------------------------------------------------------------------


def masks_judged(pair: Pair, forecast: Callable[[SimulatedFire], np.ndarray]) -> dict[str, Any]:
    """Figures of forecasts of the masks of all days but the first."""
    p = [[forecast(fire) for fire in fires] for fires in pair]
    truth = [[fire.series.masks[1:] for fire in fires] for fires in pair]
    return {"target": "mask", **judged(p, truth)}


def forecast_by(method: FireForecaster) -> Callable[[SimulatedFire], np.ndarray]:
    """Of a fitted method."""
    return lambda fire: method.predict_proba(fire.series)


def forecast_by_filter(seed: int) -> Callable[[SimulatedFire], np.ndarray]:
    """Of the particle filter."""
    return lambda fire: fire.sensor.mark_probability(filtered_fronts(fire, PARTICLES, seed=seed).tomorrow)


def drawn(seed: int, *sizes: int) -> list[list[SimulatedFire]]:
    """Sets of fires, none in two of them."""
    fires = simulate_wildfires(sum(sizes), seed=seed)
    ends = np.cumsum(sizes)
    return [fires[end - size : end] for end, size in zip(ends, sizes, strict=True)]


# --- fronts ----------------------------------------------------------------------------------------------------------


def fronts(
    settings: FireSettings, seed: int, pair: Pair, methods: dict[str, FireForecaster]
) -> Iterator[dict[str, Any]]:
    """A row for each method and day."""
    windows = [one_window_each(fires, seed)[: settings.windows] for fires in pair]
    start = time.process_time()
    draws = front_draws(simulate_wildfires(settings.prior_fires, seed=seed + 100_000), seed=seed)
    spreads = draws.std((0, 2, 3))
    model = SVGDM(
        FRONT_GRAPH,
        draws,
        channels=12,
        blocks=2,
        epochs=settings.epochs,
        batch_size=32,
        steps=24,
        eta=1.0,
        device="cpu",
        seed=seed,
    ).fit(windows[0][0].observations(spreads))
    say(f"SVGDM: {len(draws)} draws, {time.process_time() - start:.0f} CPU-s")
    found = [
        [window_forecasts(model, methods, window, spreads, settings.samples, seed) for window in part]
        for part in windows
    ]
    for target, days in (("today", 0), ("tomorrow", 1)):
        truth = [[window.cut(window.fire.front[window.day + days]) for window in part] for part in windows]
        for name in found[0][0][target]:
            p = [[one[target][name] for one in part] for part in found]
            yield {"method": name, "target": target, **judged(p, truth), "windows": len(windows[1])}


def one_window_each(fires: Sequence[SimulatedFire], seed: int) -> list[FrontWindow]:
    """A window of every fire that has one, on a day drawn at random."""
    rng = np.random.default_rng(seed)
    listed = [list(front_windows(fire)) for fire in fires]
    return [windows[rng.integers(len(windows))] for windows in listed if windows]


def window_forecasts(
    model: SVGDM,
    methods: dict[str, FireForecaster],
    window: FrontWindow,
    spreads: torch.Tensor,
    samples: int,
    seed: int,
) -> dict[str, dict[str, np.ndarray]]:
    """Probabilities (side, side) of today's and tomorrow's front, by each method."""
    fire, day = window.fire, window.day
    filtered = filtered_fronts(fire, PARTICLES, seed=seed)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        posterior = model.sample_posterior(samples, generator=seed, observations=window.observations(spreads))
    for warning in told:
        say(f"  {fire.series.name}, day {day}: {warning.message}")
    z = {name: posterior[name].to_numpy() for name in ("yesterday", "today", "tomorrow")}
    front, before = z["today"] > 0, z["yesterday"] > 0
    seen = window.cut(np.any(fire.series.masks[:day], axis=0))
    mechanism = fire.spread.next_day(front, front | before | seen, window.cut(fire.series.values[day]))
    mask = window.cut(fire.series.masks[day]).astype(float)
    return {
        "today": {
            "mask": mask,
            "SVGDM": as_probability(z["today"]),
            "filter": window.cut(filtered.today[day]),
        },
        "tomorrow": {
            **{name: window.cut(method.predict_proba(fire.series)[day]) for name, method in methods.items()},
            "SVGDM": as_probability(z["tomorrow"]),
            "SVGDM, mechanism": mechanism.mean(0),
            "filter": window.cut(filtered.tomorrow[day]),
            "true front": window.cut(fire.tomorrow()[day]),
        },
    }


def as_probability(samples: np.ndarray) -> np.ndarray:
    """Of burning, from samples (n, h, w) that are 1 where it burns and -1 elsewhere."""
    return np.clip((1 + samples.mean(0)) / 2, 0, 1)


# --- what is told ----------------------------------------------------------------------------------------------------


def fire_checks(rows: list[dict[str, Any]]) -> list[Check]:
    """The hidden front is better known than the mask shows, and tomorrow's than by the plain forecasts."""
    ap = {(row["method"], row["target"]): row["ap"] for row in rows}
    if ("SVGDM", "today") not in ap:
        return []
    today, mask = ap["SVGDM", "today"], ap["mask", "today"]
    moved, plain = ap["SVGDM, mechanism", "tomorrow"], max(ap[name, "tomorrow"] for name in FORECASTERS)
    limits = [ap["filter", day] for day in ("today", "tomorrow")]
    return [
        Check(
            "wildfires: today's front has a higher average precision than the mask of the day",
            f"{today:.3f}, mask {mask:.3f}, particle filter {limits[0]:.3f}",
            today > mask,
        ),
        Check(
            "wildfires: tomorrow's front, by the mechanism, than forecasts that see masks alone",
            f"{moved:.3f}, best forecast {plain:.3f}, particle filter {limits[1]:.3f}",
            moved > plain,
        ),
    ]


def fire_table(rows: list[dict[str, Any]]) -> Table:
    """A row for each target and method."""
    cells = [[row["target"], row["method"], *(f"{row[name]:.3f}" for name in ("ap", "f1"))] for row in rows]
    return ["target", "method", "average precision", "F1"], cells


# --- figures ---------------------------------------------------------------------------------------------------------


def judged(p: Sequence[Sequence[np.ndarray]], truth: Sequence[Sequence[np.ndarray]]) -> dict[str, float]:
    """Over all pixels of the second set: AP, and F1 at the threshold that is best in the first; Brier score, prevalence."""
    (chosen, reported), (chosen_truth, reported_truth) = (
        [np.concatenate([np.ravel(maps) for maps in part]) for part in both] for both in (p, truth)
    )
    precision, recall, thresholds = precision_recall_curve(chosen_truth, chosen)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    marked = reported >= thresholds[f1[:-1].argmax()]
    hits = float((marked & reported_truth).sum())
    return {
        "ap": float(average_precision_score(reported_truth, reported)),
        "f1": 2 * hits / float(marked.sum() + reported_truth.sum()),
        "brier": float(np.square(reported - reported_truth).mean()),
        "prevalence": float(reported_truth.mean()),
    }
