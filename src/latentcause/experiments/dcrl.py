"""Causal variables from pairs, as in the DCRL paper, and beside what it does not compare with.

Diffusion based causal representation learning, arXiv 2311.05421: graph and disentanglement on linear-Gaussian systems of 5, 10
and 15 variables, and the code along the diffusion's trajectory. Beside it: the closed form, which the paper leaves out; mixing
and mechanisms that are not linear; measurement noise, soft interventions and wrong pairs; fewer pairs, fewer steps, narrower
networks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import latentcause
from latentcause.console import say, show_table
from latentcause.experiments.checks import Check, Table, check_table
from latentcause.experiments.journal import Journal, Result, Task
from latentcause.experiments.pair_contest import run
from latentcause.report import Report
from latentcause.writing import write_atomically

COMPARED = ("raw x", "beta-VAE", "dVAE", "ILCM (Gaussian decoder)", "LinearPairs", "DCRL", "DCRL, trajectory")
MAPPED = ("LinearPairs", "ILCM (Gaussian decoder)", "DCRL", "DCRL, through the diffusion")
COLUMNS = {
    "D": ("D", 3),
    "C": ("C", 3),
    "D refit": ("D refit", 3),
    "target_accuracy": ("targets", 3),
    "shd1": ("SHD", 1),
    "counterfactual_r2": ("R^2", 3),
    "cpu_s": ("CPU-s", 1),
}
CLOSE = 0.005  # of D: as good as


@dataclass(frozen=True)
class Settings:
    """What is drawn and learned.

    Attributes
    ----------
    sizes : tuple of int
        Variables of the linear systems.
    pairs, seeds : int
    steps, nonlinear_steps : int
        Of training, where all is linear and where it is not.
    fewer : tuple of int
        Numbers of pairs, and of steps, that the ablation goes down to.
    """

    sizes: tuple[int, ...] = (5, 10, 15)
    pairs: int = 100_000
    seeds: int = 5
    steps: int = 1500
    nonlinear_steps: int = 4000
    fewer_pairs: tuple[int, ...] = (1000, 10_000)
    fewer_steps: tuple[int, ...] = (200, 600)
    widths: tuple[int, ...] = (16, 32)

    @classmethod
    def quick(cls) -> Settings:
        """Minutes."""
        return cls((3, 5), 10_000, 1, 300, 600, (1000,), (100,), (16,))


def reproduce(out: Path, *, quick: bool = False, seed: int = 0, settings: Settings | None = None) -> list[Check]:
    """Learn and measure; write results and report into ``out``, and print the tables.

    Results are kept in ``out/journal.jsonl`` as they come, and an interrupted run goes on there.

    Parameters
    ----------
    out : Path
    quick : bool
        Smaller systems, one seed, short trainings.
    seed : int
        The first of ``settings.seeds``.
    settings : Settings, optional
        In place of the usual ones.
    """
    settings = settings or (Settings.quick() if quick else Settings())
    out.mkdir(parents=True, exist_ok=True)
    journal, seeds = Journal(out / "journal.jsonl"), range(seed, seed + settings.seeds)
    groups = {
        title: {
            label: [{"case": case, "method": method, "seed": one} for one in seeds]
            for label, case, method in contestants
        }
        for title, contestants in _asked(settings).items()
    }
    journal.complete([task for rows in groups.values() for tasks in rows.values() for task in tasks], _run)
    found = {
        title: {label: [journal[task] for task in tasks] for label, tasks in rows.items()}
        for title, rows in groups.items()
    }
    checks, tables = _checks(found, settings), {title: _table(rows) for title, rows in found.items()}
    tables["Along the trajectory"] = _trajectory_table(found[_linear(settings.sizes[-1])]["DCRL, trajectory"])
    results = {
        "latentcause": latentcause.__version__,
        "settings": asdict(settings),
        "seeds": list(seeds),
        "runs": found,
        "checks": [asdict(check) for check in checks],
    }
    with write_atomically(out / "results.json") as temporary:
        temporary.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    _report(tables, checks, settings).save(out / "report.html")
    for title, table in {**tables, "Checks": check_table(checks)}.items():
        show_table(title, *table)
    say(f"written to {out}: open report.html")
    return checks


# --- what is asked ---------------------------------------------------------------------------------------------------


def _asked(settings: Settings) -> dict[str, list[tuple[str, dict[str, Any], str]]]:
    """(row, case, method) of every table."""
    plain: dict[str, Any] = {"pairs": settings.pairs, "model": {"steps": settings.steps}}
    bent: dict[str, Any] = {
        "pairs": settings.pairs,
        "nodes": 5,
        "model": {"steps": settings.nonlinear_steps, "width": 128},
    }
    asked = {_linear(n): [(method, {**plain, "nodes": n}, method) for method in COMPARED] for n in settings.sizes}
    for mixing, mechanisms in (("mlp", "linear"), ("mlp", "tanh"), ("rotation", "location-scale")):
        case: dict[str, Any] = {**bent, "system": {"mixing": mixing, "mechanisms": mechanisms, "standardised": True}}
        if mechanisms != "linear":
            case["model"] = {**bent["model"], "mechanisms": "spline"}
        asked[f"Mixing: {mixing}, mechanisms: {mechanisms}"] = [(method, case, method) for method in MAPPED]
    small = {**plain, "nodes": settings.sizes[0]}
    rough: dict[str, dict[str, float]] = {
        "measurement noise, a tenth of the variance": {"measurement": 0.1},
        "soft interventions": {"softness": 0.5},
    }
    asked["Where the assumptions fail"] = [
        (f"{method}: {name}", {**small, "draw": how}, method)
        for name, how in {**rough, "one pair in twenty wrong": {"wrong": 0.05}}.items()
        for method in ("LinearPairs", "DCRL")
    ]
    noisy = {**small, "draw": {"measurement": 0.1}}
    asked["Where the assumptions fail"] += [
        (f"{method}: measurement noise, a tenth of the variance", noisy, method)
        for method in ("NoisyLinearPairs", "truth regressed on x")
    ]
    shorter = [(f"{steps} steps", {**small, "model": {"steps": steps}}) for steps in settings.fewer_steps]
    scarcer = [(f"{pairs} pairs", {**small, "pairs": pairs}) for pairs in settings.fewer_pairs]
    narrower = [(f"width {w}", {**small, "model": {**plain["model"], "width": w}}) for w in settings.widths]
    asked["Less of everything"] = [(name, case, "DCRL") for name, case in [*scarcer, *shorter, *narrower]]
    asked["Less of everything"].append(("random start", small, "DCRL, random start"))
    return asked


def _linear(n: int) -> str:
    return f"Linear-Gaussian, {n} variables"


def _run(task: Task) -> Result:
    return run(task["case"], task["method"], task["seed"])


# --- what came of it -------------------------------------------------------------------------------------------------


def _median(runs: Sequence[Mapping[str, Any]], key: str) -> float:
    values = [row[key] for row in runs if row.get(key) is not None]
    return float(np.median(values)) if values else float("nan")


def _table(rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> Table:
    body = [
        [
            label,
            *(
                f"{value:.{digits}f}" if (value := _median(runs, key)) == value else ""
                for key, (_, digits) in COLUMNS.items()
            ),
        ]
        for label, runs in rows.items()
    ]
    return ["method (median over seeds)", *(title for title, _ in COLUMNS.values())], body


def _trajectory_table(runs: Sequence[Mapping[str, Any]]) -> Table:
    """D and C of the code at each time, and how often the time was chosen without labels."""
    times = list(runs[0]["by_time"])
    return ["t", "D", "C", "chosen"], [
        [
            t,
            *(f"{np.median([row['by_time'][t][which] for row in runs]):.3f}" for which in ("D", "C")),
            f"{sum(float(t) == row['time'] for row in runs)} of {len(runs)}",
        ]
        for t in times
    ]


def _checks(found: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]], settings: Settings) -> list[Check]:
    """The paper's claims, and those of this library; any of them can fail."""
    checks = []
    for n in settings.sizes:
        rows = found[_linear(n)]
        ours, theirs, closed = (_median(rows[name], "D") for name in ("DCRL", "ILCM (Gaussian decoder)", "LinearPairs"))
        figures = f"{ours:.3f}, {theirs:.3f}, closed form {closed:.3f}"
        checks.append(Check(f"{n} variables: DCRL disentangles as well as ILCM (D)", figures, ours > theirs - CLOSE))
        checks.append(Check(f"{n} variables: DCRL beats the closed form on linear systems (D)", figures, ours > closed))
    by_time = found[_linear(settings.sizes[-1])]["DCRL, trajectory"][0]["by_time"]
    d = [values["D"] for values in by_time.values()]
    claim = "the middle of the trajectory holds more than both ends (D)"
    checks.append(Check(claim, ", ".join(f"{value:.3f}" for value in d), max(d[1:-1]) > max(d[0], d[-1])))
    rows = found["Mixing: mlp, mechanisms: linear"]
    ours, theirs, closed, flexible = (_median(rows[name], "D") for name in ("DCRL", *MAPPED[1::-1], MAPPED[3]))
    figures = f"{ours:.3f}, ILCM {theirs:.3f}, closed form {closed:.3f}, through the diffusion {flexible:.3f}"
    bent = "mixing by a perceptron"
    checks += [
        Check(f"{bent}: DCRL beats the closed form (D)", figures, ours > closed),
        Check(f"{bent}: DCRL beats its Gaussian decoder (D)", figures, ours > theirs),
        Check(f"{bent}: codes learn better through the head than through the diffusion", figures, ours > flexible),
    ]
    return checks


def _report(tables: Mapping[str, Table], checks: Sequence[Check], settings: Settings) -> Report:
    lead = (
        f"Pairs before and after an unknown intervention, {settings.pairs:,} of each system, {settings.seeds} seeds; every figure "
        "is of pairs that nothing was fitted to. D and C: disentanglement and completeness of the code, as it is and after a "
        "linear refit."
    )
    report = Report("Causal variables from pairs", lead).section("Checks")
    report.table(*check_table(checks))
    for title, table in tables.items():
        report.section(title).table(*table)
    return report
