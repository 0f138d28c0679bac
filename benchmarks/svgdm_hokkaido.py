"""Landslides of the 2018 Hokkaido earthquake from rasters alone, beside what was mapped in the west half.

    python benchmarks/svgdm_hokkaido.py --seeds 3 --json out/hokkaido.json

Needs the extra ``geo`` and the files of `latentcause.datasets.hokkaido` in ../shared/data/hokkaido, or LATENTCAUSE_DATA. The map is
read to score and for nothing else; each method gives a probability for each of the 424 x 289 pixels of the west.

Columns: AUROC; AP, the average precision; ECE, the expected calibration error (10 bins of equal width); Brier score; mean
probability (the mapped share is printed first); minutes to fit and to draw 32 joint samples of the whole raster; peak memory of the
process. Rows: the ground failure model, the damage proxy as it is and blurred by 2 pixels, the posterior that the authors of VBCI
published, our own `VBCI` on the same inputs, and `latentcause.CausesOfChange` with its default settings: its probabilities, and
those counted from 32 samples.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage
from sklearn.metrics import average_precision_score, roc_auc_score

import latentcause as lc
from latentcause.metrics import reliability
from latentcause.models.baselines.fields import VBCI, GroundFailure, area_of_chance
from latentcause.writing import write_atomically

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "hokkaido"
FIRST_SEED = 3000
SAMPLES = 32
HEADER = f"{'':34}{'AUROC':>7}{'AP':>7}{'ECE':>7}{'Brier':>7}{'mean':>7}{'fit':>7}{'draw':>6}  GB"


def rows(seeds: Sequence[int], only: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """A row for each baseline, and two for each seed of the model."""
    maps = lc.datasets.load_hokkaido(SHARED if SHARED.is_dir() else None)
    west = maps.truth.notnull().to_numpy()
    truth = maps.truth.to_numpy()[west]
    print(f"{west.sum()} pixels, {truth.mean():.4f} of them mapped as landslide\n{HEADER}")
    proxy = maps.rasters["damage_proxy"].to_numpy()
    baselines = {
        "ground failure model": maps.rasters["prior_landslide"].to_numpy(),
        "damage proxy": proxy,
        "damage proxy, blurred": ndimage.gaussian_filter(proxy, 2),
        "VBCI, published": maps.rasters["vbci_landslide"].to_numpy(),
    }
    for name, probability in baselines.items():
        if not only or name in only:
            yield _shown(name, {}, truth, probability[west])
    if not only or "VBCI, own fit" in only:
        yield _of_vbci(maps, truth, west)
    if not only or "CausesOfChange" in only:
        for seed in seeds:
            yield from _of_model(seed, maps, truth, west)


def _of_vbci(maps: Any, truth: np.ndarray, west: np.ndarray) -> dict[str, Any]:
    names = ("damage_proxy", "prior_landslide", "prior_liquefaction", "building_footprint")
    seen = GroundFailure.from_rasters(*(maps.rasters[name].to_numpy() for name in names))
    start = time.perf_counter()
    model = VBCI(seen.graph, where=seen.where).fit(seen.observations)
    fitted = time.perf_counter()
    model.sample_posterior(SAMPLES, generator=0)
    cost = {
        "fit_minutes": (fitted - start) / 60,
        "draw_minutes": (time.perf_counter() - fitted) / 60,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    }
    area = area_of_chance(model.probabilities_["landslide"].to_numpy(), "landslide")
    return _shown("VBCI, own fit", cost, truth, area[west])


def _of_model(seed: int, maps: Any, truth: np.ndarray, west: np.ndarray) -> Iterator[dict[str, Any]]:
    observations = maps.observations()
    start = time.perf_counter()
    model = lc.CausesOfChange(maps.graph, seed=seed).fit(observations)
    fitted = time.perf_counter()
    draws = model.sample_posterior(SAMPLES, generator=seed)["landslide"].to_numpy()
    cost = {
        "seed": seed,
        "held_out": model.held_out_,
        "length": model.length_,
        "fit_minutes": (fitted - start) / 60,
        "draw_minutes": (time.perf_counter() - fitted) / 60,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    }
    probability = model.probabilities()["landslide"].to_numpy()
    yield _shown(f"CausesOfChange, seed {seed}", cost, truth, probability[west])
    yield _shown(f"  of {SAMPLES} samples", {"seed": seed}, truth, draws.mean(0)[west])


def _shown(name: str, cost: dict[str, Any], truth: np.ndarray, probability: np.ndarray) -> dict[str, Any]:
    calibration = reliability(probability, truth)
    row = {
        "method": name,
        "auroc": float(roc_auc_score(truth, probability)),
        "ap": float(average_precision_score(truth, probability)),
        "ece": calibration.calibration_error,
        "brier": calibration.brier,
        "mean": float(probability.mean()),
        **cost,
    }
    figures = "".join(f"{row[key]:7.4f}" for key in ("auroc", "ap", "ece", "brier", "mean"))
    costs = (
        f"{cost['fit_minutes']:7.1f}{cost['draw_minutes']:6.1f}{cost['peak_gb']:4.1f}" if "fit_minutes" in cost else ""
    )
    print(f"{name:34}{figures}{costs}", flush=True)
    return row


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    parser.add_argument("--only", nargs="+", help="methods to run, by the names in the first column")
    parser.add_argument("--json", type=Path, help="file for every single figure")
    arguments = parser.parse_args()
    found = list(rows(range(FIRST_SEED, FIRST_SEED + arguments.seeds), arguments.only))
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        with write_atomically(arguments.json) as temporary:
            temporary.write_text(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
