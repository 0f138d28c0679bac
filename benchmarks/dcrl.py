"""Causal variables from pairs: DCRL beside its Gaussian decoder (ILCM), the closed form, and what needs no pairs.

    python benchmarks/dcrl.py --case linear --seeds 5 --json out/dcrl_linear.json
    python benchmarks/dcrl.py --case nonlinear --methods DCRL LinearPairs
    python benchmarks/dcrl.py --case pendulum --seeds 1

Cases: ``linear`` (5, 10 and 15 variables; ``--n`` for others), ``wide`` (32 and 64, standardised, a tenth of all edges),
``scales`` (columns of x spread 20-fold and more), ``nonlinear`` (mixing by a perceptron and by a flow, with linear and with
nonlinear mechanisms), ``rough`` (measurement noise of a tenth of the variance, soft interventions, one pair in twenty
wrong), ``pendulum`` (images; ILCM also on codes of an image VAE, as its authors run it, and then without R^2, which would be
of codes). With measurement noise there are two rows more: `NoisyLinearPairs`, and the limit, a regression of the true variables
on x. Every figure is of pairs that nothing was fitted to: D and C of the code as it is and after the linear refit, share
of right targets, structural Hamming distance, R^2 of counterfactuals, CPU-seconds of fitting alone.
Rows are medians over seeds, with the range. Seeds start at 4000: none of them was used to choose a setting. Runs are kept in
``--work`` as they come.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from latentcause.console import show_table
from latentcause.experiments.journal import Journal, Task
from latentcause.experiments.pair_contest import MODELS, ON_CODES, SIMPLE, run
from latentcause.writing import write_atomically

FIRST_SEED = 4000
PAIRS = 100_000
NOISY = ("NoisyLinearPairs", "truth regressed on x")
MAIN = ("raw x", "FastICA", "LinearPairs", "ILCM (Gaussian decoder)", "DCRL")
COLUMNS = {
    "D": "D",
    "C": "C",
    "D refit": "D refit",
    "C refit": "C refit",
    "target_accuracy": "targets",
    "shd1": "SHD",
    "shd2": "SHD (reversal 2)",
    "counterfactual_r2": "R^2",
    "cpu_s": "CPU-s",
}


def cases(which: str, sizes: list[int] | None) -> dict[str, dict[str, Any]]:
    """The settings of `latentcause.experiments.pair_contest.simulated` by name."""
    nonlinear = {"nodes": 5, "pairs": PAIRS, "settings": "nonlinear"}
    spline = {"model": {"mechanisms": "spline"}}
    match which:
        case "linear":
            return {f"linear, {n} variables": {"nodes": n, "pairs": PAIRS} for n in sizes or [5, 10, 15]}
        case "wide":
            system = {"standardised": True, "edges": 0.1}
            return {f"linear, {n} variables": {"nodes": n, "pairs": PAIRS, "system": system} for n in sizes or [32, 64]}
        case "scales":
            return {"linear, raw scales": {"nodes": 5, "pairs": PAIRS, "system": {"mixing": "linear"}}}
        case "nonlinear":
            return {
                f"{mixing} mixing, {mechanisms} mechanisms": {
                    **nonlinear,
                    "system": {"mixing": mixing, "mechanisms": mechanisms, "standardised": True},
                    **({} if mechanisms == "linear" else spline),
                }
                for mixing, mechanisms in (
                    ("mlp", "linear"),
                    ("flow", "linear"),
                    ("mlp", "tanh"),
                    ("rotation", "location-scale"),
                )
            }
        case "rough":
            hows = {
                "measurement noise": {"measurement": 0.1},
                "soft": {"softness": 0.5},
                "wrong pairs": {"wrong": 0.05},
            }
            return {
                f"{name}, {n} variables": {"nodes": n, "pairs": PAIRS, "draw": how}
                for n in sizes or [5]
                for name, how in hows.items()
            }
        case _:
            return {"pendulum": {"images": "pendulum", "size": 64, "pairs": 20_000, "settings": "pendulum"}}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ["linear", "wide", "scales", "nonlinear", "rough", "pendulum"]
    parser.add_argument("--case", choices=names, default="linear")
    parser.add_argument("--n", type=int, nargs="+", help="numbers of variables of linear, wide and rough")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds")
    parser.add_argument("--methods", nargs="+", choices=[*SIMPLE, *MODELS])
    parser.add_argument("--json", type=Path, help="file for every single figure")
    parser.add_argument("--work", type=Path, default=Path("out/dcrl"), help="folder of results as they come")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.work.mkdir(parents=True, exist_ok=True)
    journal, found = Journal(arguments.work / "journal.jsonl"), []
    seeds = range(FIRST_SEED, FIRST_SEED + arguments.seeds)
    for name, case in cases(arguments.case, arguments.n).items():
        methods = arguments.methods or (
            *MAIN,
            *(ON_CODES if "images" in case else ()),
            *(NOISY if "measurement" in case.get("draw", {}) else ()),
        )
        tasks = {method: [{"case": case, "method": method, "seed": seed} for seed in seeds] for method in methods}
        journal.complete([task for group in tasks.values() for task in group], one, arguments.jobs)
        rows = {method: [journal[task] for task in group] for method, group in tasks.items()}
        show(name, rows)
        found.append({"case": name, "settings": case, "seeds": list(seeds), "rows": rows})
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        with write_atomically(arguments.json) as temporary:
            temporary.write_text(json.dumps(found, indent=1))
    return 0


def one(task: Task) -> dict[str, Any]:
    """A run of `latentcause.experiments.pair_contest`."""
    return run(task["case"], task["method"], task["seed"])


def show(name: str, rows: dict[str, list[dict[str, Any]]]) -> None:
    """Medians and ranges over the seeds."""
    table = []
    for method, runs in rows.items():
        cells = [method]
        for key in COLUMNS:
            values = [row[key] for row in runs if row.get(key) is not None]
            digits = 0 if key.startswith("shd") else 1 if key == "cpu_s" else 3
            spread = f" ({min(values):.{digits}f}-{max(values):.{digits}f})" if len(values) > 1 else ""
            cells.append(f"{np.median(values):.{digits}f}{spread}" if values else "")
        table.append(cells)
    title = f"{name}, median over {len(next(iter(rows.values())))} seeds (range)"
    show_table(title, ["method", *COLUMNS.values()], table)


if __name__ == "__main__":
    raise SystemExit(main())
