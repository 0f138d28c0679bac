"""Next-day forecasts of fire masks on simulated fires, beside what the simulator itself knows; and SVGDM's hidden fronts.

    python benchmarks/wildfire.py --fires 60 --seeds 3 --json out/wildfire.json
    python benchmarks/wildfire.py --windows 0        # without SVGDM

Forecasters learn from ``--fires`` fires and forecast others, of which a quarter of that number chooses the threshold of the F1 and
half of it is reported on; no fire is in two of the sets. A seed draws all fires anew. Rows, mean (sd) over seeds:

- target ``mask``: what the sensor marks on the next day, over all pixels of all days of the fires reported on. ``true front``
  has the simulator's own probabilities given the true front, and nothing that sees less can expect more; ``filter`` those given
  the masks up to that day (a particle filter, which knows clouds and footprints too), the limit of forecasts up to its Monte
  Carlo error.
- targets ``today`` and ``tomorrow``: the true front, in windows of 24 x 24 pixels around the detections, one of each fire, at
  most ``--windows``. From yesterday's and today's masks, with clouds missing, and the drive (wind, slope, fuel, drought), SVGDM
  samples the fronts of yesterday, today and tomorrow, with scores learned from the true fronts of ``--prior-fires`` other simulated
  fires. ``SVGDM, mechanism`` carries the samples of today's front to tomorrow by the simulator's mechanism. Its probabilities are
  the samples' mean, 1 where it burns and -1 elsewhere, brought to [0, 1]: the share above 0 has no more levels than samples. The
  threshold is chosen on windows of the fires that choose thresholds.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import average_precision_score, precision_recall_curve

import latentcause as lc
from latentcause.datasets.wildfires import SimulatedFire, filtered_fronts, simulate_wildfires
from latentcause.datasets.wildfires.fronts import FRONT_GRAPH, FrontWindow, front_draws, front_windows
from latentcause.models.baselines.fires import FireForecaster, FireUNet, LogisticFire, PersistentFire
from latentcause.writing import write_atomically

FIRST_SEED = 7000
PARTICLES = 256
METHODS: dict[str, Callable[[int], FireForecaster]] = {
    "persistence": lambda seed: PersistentFire(),
    "logistic": lambda seed: LogisticFire(seed=seed),
    "U-Net": lambda seed: FireUNet((8, 16), epochs=20, device="cpu", seed=seed),
}
Pair = tuple[list[SimulatedFire], list[SimulatedFire]]
"""The fires that choose thresholds, and those reported on."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fires", type=int, default=60, help="fires to learn from")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    parser.add_argument("--windows", type=int, default=20, help="windows in which SVGDM is judged; 0 leaves it out")
    parser.add_argument("--prior-fires", type=int, default=300, help="fires from whose fronts SVGDM learns")
    parser.add_argument("--epochs", type=int, default=20, help="of SVGDM")
    parser.add_argument("--samples", type=int, default=16, help="of SVGDM")
    parser.add_argument("--json", type=Path, help="file for every single figure")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found: list[dict[str, Any]] = []
    for seed in range(FIRST_SEED, FIRST_SEED + arguments.seeds):
        for row in rows_of(arguments, seed):
            shown_row = shown({"seed": seed, **row})
            found.append(shown_row)
            if arguments.json:
                arguments.json.parent.mkdir(parents=True, exist_ok=True)
                with write_atomically(arguments.json) as temporary:
                    temporary.write_text(json.dumps(found, indent=1))
    summarise(found)
    return 0


def rows_of(arguments: argparse.Namespace, seed: int) -> Iterator[dict[str, Any]]:
    """A row for each method and target."""
    learned, *others = drawn(seed, arguments.fires, arguments.fires // 4, arguments.fires // 2)
    pair = (others[0], others[1])
    methods: dict[str, FireForecaster] = {}
    for name, make in METHODS.items():
        start = time.process_time()
        methods[name] = make(seed).fit([fire.series for fire in learned])
        seconds = time.process_time() - start
        yield {"method": name, **masks_judged(pair, forecast_by(methods[name])), "learning_s": seconds}
    yield {"method": "filter", **masks_judged(pair, forecast_by_filter(seed))}
    yield {"method": "true front", **masks_judged(pair, lambda fire: fire.sensor.mark_probability(fire.tomorrow()))}
    if arguments.windows:
        yield from fronts(arguments, seed, pair, methods)


# --- masks -----------------------------------------------------------------------------------------------------------


def masks_judged(pair: Pair, forecast: Callable[[SimulatedFire], np.ndarray]) -> dict[str, Any]:
    p = [[forecast(fire) for fire in fires] for fires in pair]
    truth = [[fire.series.masks[1:] for fire in fires] for fires in pair]
    return {"target": "mask", **judged(p, truth)}


def forecast_by(method: FireForecaster) -> Callable[[SimulatedFire], np.ndarray]:
    return lambda fire: method.predict_proba(fire.series)


def forecast_by_filter(seed: int) -> Callable[[SimulatedFire], np.ndarray]:
    return lambda fire: fire.sensor.mark_probability(filtered_fronts(fire, PARTICLES, seed=seed).tomorrow)


def drawn(seed: int, *sizes: int) -> list[list[SimulatedFire]]:
    """Sets of fires, none in two of them."""
    fires = simulate_wildfires(sum(sizes), seed=seed)
    ends = np.cumsum(sizes)
    return [fires[end - size : end] for end, size in zip(ends, sizes, strict=True)]


# --- fronts ----------------------------------------------------------------------------------------------------------


def fronts(
    arguments: argparse.Namespace, seed: int, pair: Pair, methods: dict[str, FireForecaster]
) -> Iterator[dict[str, Any]]:
    """A row for each method and day."""
    windows = [one_window_each(fires, seed)[: arguments.windows] for fires in pair]
    start = time.process_time()
    draws = front_draws(simulate_wildfires(arguments.prior_fires, seed=seed + 100_000), seed=seed)
    spreads = draws.std((0, 2, 3))
    model = lc.SVGDM(
        FRONT_GRAPH,
        draws,
        channels=12,
        blocks=2,
        epochs=arguments.epochs,
        batch_size=32,
        steps=24,
        eta=1.0,
        device="cpu",
        seed=seed,
    ).fit(windows[0][0].observations(spreads))
    print(f"SVGDM: {len(draws)} draws, {time.process_time() - start:.0f} CPU-s, {model.history_[-1]}", flush=True)
    found = [
        [window_forecasts(model, methods, window, spreads, arguments.samples, seed) for window in part]
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
    model: lc.SVGDM,
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
        print(f"  {fire.series.name}, day {day}: {warning.message}", flush=True)
    z = {name: posterior[name].to_numpy() for name in ("yesterday", "today", "tomorrow")}
    front, before = z["today"] > 0, z["yesterday"] > 0
    seen = window.cut(fire.series.masks[:day].any(0))
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


def shown(row: dict[str, Any]) -> dict[str, Any]:
    print(
        " ".join(f"{key}={value:.4g}" if isinstance(value, float) else f"{value}" for key, value in row.items()),
        flush=True,
    )
    return row


def summarise(found: Sequence[dict[str, Any]]) -> None:
    print(f"\n{'method':18} {'target':9} {'AP':>15} {'F1':>15} {'Brier':>9} {'prevalence':>11}")
    for method, target in dict.fromkeys((row["method"], row["target"]) for row in found):
        rows = [row for row in found if (row["method"], row["target"]) == (method, target)]
        cells = [
            f"{np.mean([row[name] for row in rows]):.3f} ({np.std([row[name] for row in rows]):.3f})"
            for name in ("ap", "f1")
        ]
        brier, prevalence = (np.mean([row[name] for row in rows]) for name in ("brier", "prevalence"))
        print(f"{method:18} {target:9} {cells[0]:>15} {cells[1]:>15} {brier:9.5f} {prevalence:11.5f}")


if __name__ == "__main__":
    raise SystemExit(main())
