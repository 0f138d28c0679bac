"""Denoising real cells: Sachs proteins plus Gaussian noise of known variance, every protein measured once (known panel).

    python benchmarks/sachs.py --seeds 10 --json out/sachs.json

Mean squared error of the denoised cells as a ratio to the Wiener filter of each condition (its sample mean and covariance, the
noise variance known). No method sees the clean cells: settings are chosen by Stein's unbiased risk on the noisy ones. Needs the
files of `latentcause.datasets.sachs` in ../shared/data/sachs, or LATENTCAUSE_DATA. Seeds, of the noise, start at 1000: none of
them was used to choose a setting.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from joblib import Parallel, delayed
from rich.console import Console
from rich.table import Table

import latentcause as lc
from latentcause.datasets.sachs import SachsPanel, load_sachs
from latentcause.io import write_atomically

FIRST_SEED = 1000
NOISE_VARIANCES = (0.1, 0.5, 1.0)
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "sachs"

TARGETS = {0.1: 0.95, 0.5: 0.98, 1.0: 1.00}
HELD_TO_TARGETS = "FModeling, mixture base"

MODELS = {  # name: settings of FModeling beside the known panel
    "FModeling as in the paper: splines of the parents": {"base": None, "score": "parents"},
    "FModeling, Gaussian base": {"base": "gaussian", "score": None},
    "FModeling, Gaussian base + splines of the parents": {"base": "gaussian", "score": "parents"},
    HELD_TO_TARGETS: {"base": "mixture", "score": None},
    "FModeling, mixture base + splines of the parents": {"base": "mixture", "score": "parents"},
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10, help="number of seeds")
    parser.add_argument("--json", type=Path, help="file for every single figure")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    arguments = parser.parse_args()
    seeds = range(FIRST_SEED, FIRST_SEED + arguments.seeds)
    results = {"seeds": list(seeds), **measure(seeds, arguments.jobs)}
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        with write_atomically(arguments.json) as temporary:
            temporary.write_text(json.dumps(results, indent=1))
    return 0


def measure(seeds: range, jobs: int) -> dict:
    """Run all methods for every noise variance and seed, print the table and return it with all runs."""
    tasks = [(variance, seed) for seed in seeds for variance in NOISE_VARIANCES]
    runs = []
    for run in Parallel(n_jobs=jobs, return_as="generator")(delayed(denoise)(*task) for task in tasks):
        runs.append(run)
        print(f"\rdenoise: {len(runs)}/{len(tasks)}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return {"summary": report(runs), "runs": runs}


def denoise(noise_variance: float, seed: int) -> dict:
    """Mean squared error and seconds of every method on one noisy copy of the cells."""
    torch.set_num_threads(1)
    panel = load_sachs(SHARED if SHARED.is_dir() else None).known_panel(noise_variance, seed=seed)
    x = np.concatenate([batch for _, _, batch in panel.data.batches()])
    errors = {
        "no denoising": {"error": _error(x, panel), "seconds": 0.0},
        "per-domain Wiener filter": {"error": _error(wiener(x, panel), panel), "seconds": 0.0},
    }
    for name, settings in MODELS.items():
        model = lc.FModeling(
            panel.graph, loadings=panel.loadings, noise_variance=noise_variance, device="cpu", **settings
        )
        start = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(panel.data)
        errors[name] = {"error": _error(model.latents_, panel), "seconds": time.perf_counter() - start}
    return {"noise_variance": noise_variance, "seed": seed, "methods": errors}


def wiener(x: np.ndarray, panel: SachsPanel) -> np.ndarray:
    """x - sigma^2 S_e^-1 (x - m_e) with the sample mean m_e and covariance S_e of each domain."""
    result = np.empty_like(x)
    for e in range(len(panel.data.domains)):
        rows = panel.data.domain_index == e
        offset = x[rows] - x[rows].mean(axis=0)
        result[rows] = x[rows] - panel.noise_variance * np.linalg.solve(np.cov(x[rows].T), offset.T).T
    return result


def report(runs: list[dict]) -> dict:
    """Print the ratios to the Wiener filter, mean and range over seeds; return them."""
    table = Table(
        title="Sachs cells, known panel: squared error / per-domain Wiener filter, mean (min - max) over seeds"
    )
    table.add_column("method")
    for variance in NOISE_VARIANCES:
        chosen = [r["methods"]["per-domain Wiener filter"]["error"] for r in runs if r["noise_variance"] == variance]
        table.add_column(f"noise {variance} (Wiener {np.mean(chosen):.4f})", justify="right")
    table.add_column("seconds", justify="right")
    table.add_column("to reach")
    summary: dict[str, dict] = {}
    for name in runs[0]["methods"]:
        cells, met = [], True
        summary[name] = {}
        for variance in NOISE_VARIANCES:
            methods = [r["methods"] for r in runs if r["noise_variance"] == variance]
            ratios = np.array([m[name]["error"] / m["per-domain Wiener filter"]["error"] for m in methods])
            summary[name][str(variance)] = {
                "mean": float(ratios.mean()),
                "sd": float(ratios.std()),
                "min": float(ratios.min()),
                "max": float(ratios.max()),
            }
            cells.append(f"{ratios.mean():.4f} ({ratios.min():.4f} - {ratios.max():.4f})")
            met &= bool(ratios.mean() <= TARGETS[variance])
        seconds = np.median([r["methods"][name]["seconds"] for r in runs])
        goal = ", ".join(f"{target:.2f}" for target in TARGETS.values())
        verdict = f"<= {goal}: {'reached' if met else 'MISSED'}" if name == HELD_TO_TARGETS else ""
        table.add_row(name, *cells, f"{seconds:.1f}" if seconds else "", verdict)
    Console(width=200).print(table)
    return summary


def _error(latents: np.ndarray, panel: SachsPanel) -> float:
    return float(np.square(latents - panel.latents).mean())


if __name__ == "__main__":
    sys.exit(main())
