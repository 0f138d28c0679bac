"""Structural causal models beside dowhy.gcm and beside closed forms: speed, counterfactuals, coverage of intervals.

    python benchmarks/scm.py --seeds 5 --json out/scm.json
    python benchmarks/scm.py --part coverage

Parts: ``speed`` (100,000 interventional and 10,000 counterfactual samples of a fitted 10-node model, both sides with the same
mechanisms on the same data; timings alternate in one process, medians are reported), ``counterfactual`` (error against closed
forms, mechanisms given and fitted), ``coverage`` (90 % intervals of a linear effect, 200 repetitions). Speed and the peer's rows
of ``counterfactual`` need dowhy (the ``bench`` extra). Seeds start at 1000: none of them was used to choose a setting.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from rich.console import Console
from rich.table import Table

from latentcause import CausalGraph, StructuralCausalModel
from latentcause.io import write_atomically
from latentcause.scm import FunctionMechanism, LinearMechanism, Mechanism
from latentcause.scm.fitting import KINDS
from latentcause.scm.fitting.boosted import SETTINGS as BOOSTED

FIRST_SEED = 1000
ROUNDS, TURN_S = 7, 0.1
NODES, ROWS = 10, 5_000
DRAWS, COUNTERFACTUALS = 100_000, 10_000
REPETITIONS = 200
WANTED_RATIO, WANTED_ERROR, WANTED_COVERAGE = 10.0, 1e-6, (0.86, 0.94)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=["all", "speed", "counterfactual", "coverage"], default="all")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds of speed and counterfactual")
    parser.add_argument("--json", type=Path, help="file for every single figure")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    seeds = range(FIRST_SEED, FIRST_SEED + arguments.seeds)
    parts: dict[str, Callable[[], Any]] = {
        "speed": lambda: report_speed([speed(kind, seed) for kind in ("linear", "boosted") for seed in seeds]),
        "counterfactual": lambda: report_counterfactual(
            [given(seed) for seed in seeds], [fitted(seed) for seed in seeds]
        ),
        "coverage": lambda: report_coverage([coverage(rows) for rows in (100, 1_000)]),
    }
    results: dict[str, Any] = {"seeds": list(seeds)}
    for name, part in parts.items():
        if arguments.part in ("all", name):
            results[name] = part()
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        with write_atomically(arguments.json) as temporary:
            temporary.write_text(json.dumps(results, indent=1))
    return 0


# --- speed -----------------------------------------------------------------------------------------------------------


def speed(kind: str, seed: int) -> dict[str, Any]:
    """Seconds of both sides, and how far apart their answers are, for one random system."""
    from dowhy import gcm

    truth = random_system(seed, linear=kind == "linear")
    graph = truth.graph
    data = truth.to_frame(truth.sample(ROWS, generator=seed))
    ours = StructuralCausalModel.fit(graph, data, mechanisms=kind)
    theirs = dowhy_model(graph, data, kind)
    target = graph.nodes[NODES // 4]
    rows = truth.to_frame(truth.sample(COUNTERFACTUALS, generator=seed + 500_000))
    (draw, their_draw), drawn = alternate(
        lambda: ours.sample(DRAWS, do={target: 1.0}, generator=seed),
        lambda: gcm.interventional_samples(theirs, {target: lambda _: 1.0}, num_samples_to_draw=DRAWS),
    )
    (imagine, their_imagine), imagined = alternate(
        lambda: ours.counterfactual(rows, do={target: 1.0}),
        lambda: gcm.counterfactual_samples(theirs, {target: lambda _: 1.0}, observed_data=rows),
    )
    first, second = drawn[0], drawn[1][list(graph.nodes)].to_numpy(dtype=float)
    free = [j for j, node in enumerate(graph.nodes) if node != target]
    error = np.sqrt((first[:, free].var(0) + second[:, free].var(0)) / DRAWS)
    apart = np.abs(first[:, free].mean(0) - second[:, free].mean(0)) / error
    counterfactuals = imagined[1][list(graph.nodes)].to_numpy(dtype=float)
    return {
        "kind": kind,
        "seed": seed,
        "edges": len(graph.edges),
        "sample_s": draw,
        "dowhy_sample_s": their_draw,
        "counterfactual_s": imagine,
        "dowhy_counterfactual_s": their_imagine,
        "means_apart_in_standard_errors": float(apart.max()),
        "counterfactuals_apart": float(np.abs(imagined[0].to_numpy() - counterfactuals).max()),
    }


def random_system(seed: int, linear: bool) -> StructuralCausalModel:
    """Ten nodes, 15 edges; mechanisms linear, or sums of sines and squares that saturate."""
    rng = np.random.default_rng(seed)
    nodes = tuple(f"x{k}" for k in range(NODES))
    pairs = [(nodes[i], nodes[j]) for j in range(NODES) for i in range(j)]
    graph = CausalGraph(nodes, tuple(pairs[k] for k in rng.choice(len(pairs), 15, replace=False)))
    mechanisms: dict[str, Mechanism] = {}
    for node in nodes:
        count = len(graph.parents(node))
        if linear or not count:
            mechanisms[node] = LinearMechanism(tuple(rng.uniform(-1, 1, count)), float(rng.normal()), 1.0)
        else:
            a, b = torch.tensor(rng.normal(size=(2, count)))
            mechanisms[node] = FunctionMechanism(
                lambda z, a=a, b=b: (torch.sin(a * z) + b * z.square() / (1 + z.square())).sum(-1), 0.25
            )
    return StructuralCausalModel(graph, mechanisms)


def dowhy_model(graph: CausalGraph, data: pd.DataFrame, kind: str) -> Any:
    """The peer's model with the same regressors, fitted to the same data; roots and noise are empirical."""
    from dowhy import gcm
    from dowhy.gcm.ml.regression import SklearnRegressionModel
    from sklearn.ensemble import HistGradientBoostingRegressor
    from sklearn.linear_model import LinearRegression

    gcm.config.disable_progress_bars()
    model = gcm.InvertibleStructuralCausalModel(graph.to_networkx())
    for node in graph.nodes:
        if not graph.parents(node):
            model.set_causal_mechanism(node, gcm.EmpiricalDistribution())
            continue
        regressor = LinearRegression() if kind == "linear" else HistGradientBoostingRegressor(**BOOSTED, random_state=0)
        model.set_causal_mechanism(node, gcm.AdditiveNoiseModel(SklearnRegressionModel(regressor)))
    gcm.fit(model, data)
    return model


def alternate(ours: Callable[[], Any], theirs: Callable[[], Any]) -> tuple[tuple[float, float], tuple[Any, Any]]:
    """Median seconds of both sides, one after the other, and their last answers; the first round does not count.

    A call is repeated within its turn until the turn lasts a tenth of a second, and the time of the turn is its mean.
    """
    seconds: list[list[float]] = [[], []]
    answers: list[Any] = [None, None]
    for _ in range(ROUNDS + 1):
        for side, ask in enumerate((ours, theirs)):
            calls, start = 0, time.perf_counter()
            while (passed := time.perf_counter() - start) < TURN_S:
                answers[side] = ask()
                calls += 1
            seconds[side].append(passed / calls)
    return (float(np.median(seconds[0][1:])), float(np.median(seconds[1][1:]))), (answers[0], answers[1])


def report_speed(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Print medians over seeds and the smallest ratio; return them with all runs."""
    table = Table(
        title=f"Fitted {NODES}-node models, {DRAWS:,} interventional and {COUNTERFACTUALS:,} counterfactual samples, one "
        "thread: median milliseconds over seeds (ratio: the smallest over seeds)"
    )
    for column in ("mechanisms", "task", "latentcause", "dowhy.gcm", "ratio", "answers apart", "to reach"):
        table.add_column(column, justify="left" if column in ("mechanisms", "task", "to reach") else "right")
    summary: dict[str, Any] = {}
    for kind in dict.fromkeys(run["kind"] for run in runs):
        chosen = [run for run in runs if run["kind"] == kind]
        for task in ("sample", "counterfactual"):
            own = np.array([run[f"{task}_s"] for run in chosen])
            theirs = np.array([run[f"dowhy_{task}_s"] for run in chosen])
            if task == "sample":
                most = max(run["means_apart_in_standard_errors"] for run in chosen)
                apart, equal = f"means: {most:.1f} standard errors at most", most < 4.5
            else:
                most = max(run["counterfactuals_apart"] for run in chosen)
                apart, equal = f"values: {most:.1e} at most", most < WANTED_ERROR
            met = bool((theirs / own).min() >= WANTED_RATIO and equal)
            summary[f"{kind} {task}"] = {"ratio": float((theirs / own).min()), "apart": most, "met": met}
            table.add_row(
                kind,
                task,
                f"{1e3 * np.median(own):.1f}",
                f"{1e3 * np.median(theirs):.1f}",
                f"{(theirs / own).min():.1f} x",
                apart,
                f">= {WANTED_RATIO:.0f} x, equal: {'reached' if met else 'MISSED'}",
            )
    Console(width=180).print(table)
    return {"summary": summary, "runs": runs}


# --- counterfactuals -------------------------------------------------------------------------------------------------


def given(seed: int) -> dict[str, float]:
    """Largest error of counterfactuals of given mechanisms against the closed form."""
    linear = random_system(seed, linear=True)
    graph = linear.graph
    rows = linear.sample(COUNTERFACTUALS, generator=seed)
    j = NODES // 4
    B = np.zeros((NODES, NODES))
    for child, node in enumerate(graph.nodes):
        B[child, [graph.index(parent) for parent in graph.parents(node)]] = linear.mechanisms[node].weights
    B[j] = 0.0  # what changes at the target flows along the directed paths that leave it
    change = np.linalg.inv(np.eye(NODES) - B)[:, j]
    wanted = rows + np.outer(1.0 - rows[:, j], change)
    linear_error = np.abs(linear.counterfactual(rows, do={graph.nodes[j]: 1.0}) - wanted).max()
    truth = curved_system()
    rows = truth.sample(COUNTERFACTUALS, generator=seed)
    curved_error = np.abs(truth.counterfactual(rows, do={"x": 1.0}) - curved_answer(rows, 1.0)).max()
    return {"linear": float(linear_error), "additive nonlinear": float(curved_error)}


def curved_system() -> StructuralCausalModel:
    """x ~ N(0, 1); m = tanh(2 x) + u; y = x m + m^2 + u: an interaction and a curve."""
    return StructuralCausalModel(
        CausalGraph.from_string("x -> m -> y; x -> y"),
        {
            "x": LinearMechanism(),
            "m": FunctionMechanism(lambda z: torch.tanh(2 * z[..., 0]), 0.25),
            "y": FunctionMechanism(lambda z: z[..., 0] * z[..., 1] + z[..., 1] ** 2, 0.25),
        },
    )


def curved_answer(rows: np.ndarray, x_new: float) -> np.ndarray:
    """Counterfactual rows of `curved_system` under do(x = x_new)."""
    x, m, y = rows.T
    m_new = m - np.tanh(2 * x) + np.tanh(2 * x_new)
    y_new = y - (x * m + m**2) + (x_new * m_new + m_new**2)
    return np.stack([np.full_like(x, x_new), m_new, y_new], axis=1)


def fitted(seed: int) -> dict[str, float]:
    """Relative error of counterfactuals of fitted mechanisms on new rows: squared error of y as a share of its change."""
    truth = curved_system()
    graph = truth.graph
    data = truth.to_frame(truth.sample(ROWS, generator=seed))
    rows = truth.to_frame(truth.sample(2_000, generator=seed + 500_000))
    wanted = curved_answer(rows.to_numpy(), 1.0)[:, 2]
    size = np.mean((wanted - rows["y"].to_numpy()) ** 2)

    def share(answer: pd.DataFrame) -> float:
        return float(np.mean((answer["y"].to_numpy(dtype=float) - wanted) ** 2) / size)

    errors = {}
    for kind in KINDS:
        model = StructuralCausalModel.fit(graph, data, mechanisms=kind, seed=seed)
        errors[kind] = share(model.counterfactual(rows, do={"x": 1.0}))
    try:
        from dowhy import gcm
    except ImportError:
        return errors
    gcm.config.disable_progress_bars()
    gcm.util.general.set_random_seed(seed)
    for name, regressor in (
        ("dowhy.gcm, linear", gcm.ml.create_linear_regressor),
        ("dowhy.gcm, boosted, its defaults", gcm.ml.create_hist_gradient_boost_regressor),
    ):
        theirs = gcm.InvertibleStructuralCausalModel(graph.to_networkx())
        theirs.set_causal_mechanism("x", gcm.EmpiricalDistribution())
        for node in ("m", "y"):
            theirs.set_causal_mechanism(node, gcm.AdditiveNoiseModel(regressor()))
        gcm.fit(theirs, data)
        answer = gcm.counterfactual_samples(theirs, {"x": lambda _: 1.0}, observed_data=rows)
        errors[name] = share(answer)
    return errors


def report_counterfactual(exact: list[dict[str, float]], learned: list[dict[str, float]]) -> dict[str, Any]:
    """Print both tables; return them."""
    table = Table(title="Counterfactuals against the closed form: median (largest) over seeds")
    for column in ("mechanisms", "error", "to reach"):
        table.add_column(column, justify="right" if column == "error" else "left")
    for name in exact[0]:
        errors = [run[name] for run in exact]
        met = max(errors) <= WANTED_ERROR
        table.add_row(
            f"given, {name}",
            f"largest {np.median(errors):.1e} ({max(errors):.1e})",
            f"<= {WANTED_ERROR}: {'reached' if met else 'MISSED'}",
        )
    for name in learned[0]:
        errors = [run[name] for run in learned]
        table.add_row(f"fitted, {name}", f"share of the change {np.median(errors):.5f} ({max(errors):.5f})", "reported")
    Console(width=140).print(table)
    return {"given": exact, "fitted": learned}


# --- coverage --------------------------------------------------------------------------------------------------------


def coverage(rows: int) -> dict[str, float]:
    """How many 90 % intervals of a confounded and mediated linear effect hold the true effect."""
    graph = CausalGraph.from_string("w -> x; w -> y; x -> m; m -> y")
    truth = StructuralCausalModel(
        graph,
        {
            "w": LinearMechanism((), 0.0, 1.0),
            "x": LinearMechanism((0.8,), 1.0, 0.5),
            "y": LinearMechanism((-0.7, 1.2), 0.0, 1.5),
            "m": LinearMechanism((0.5,), -1.0, 1.0),
        },
    )
    ask = {"outcome": "y", "do": {"x": 1.0}, "versus": {"x": 0.0}}
    wanted = truth.effect(**ask).value
    covered, widths, start = 0, [], time.perf_counter()
    for seed in range(FIRST_SEED, FIRST_SEED + REPETITIONS):
        data = truth.sample(rows, generator=seed)
        effect = StructuralCausalModel.fit(graph, data).effect(**ask, data=data, generator=seed)
        covered += effect.low <= wanted <= effect.high
        widths.append(effect.high - effect.low)
    share = covered / REPETITIONS
    return {
        "rows": rows,
        "coverage": share,
        "binomial_error": (share * (1 - share) / REPETITIONS) ** 0.5,
        "true_effect": wanted,
        "mean_width": float(np.mean(widths)),
        "seconds_per_interval": (time.perf_counter() - start) / REPETITIONS,
    }


def report_coverage(runs: list[dict[str, float]]) -> list[dict[str, float]]:
    """Print the table; return the runs."""
    table = Table(title=f"90 % bootstrap intervals of a linear effect, 200 refits each, {REPETITIONS} repetitions")
    for column in ("rows", "coverage", "mean width", "ms per fit and interval", "to reach"):
        table.add_column(column, justify="left" if column == "to reach" else "right")
    for run in runs:
        low, high = WANTED_COVERAGE
        table.add_row(
            f"{run['rows']:,.0f}",
            f"{run['coverage']:.1%} ± {run['binomial_error']:.1%}",
            f"{run['mean_width']:.3f} (effect {run['true_effect']:.2f})",
            f"{1e3 * run['seconds_per_interval']:.1f}",
            f"{low:.0%} to {high:.0%}: {'reached' if low <= run['coverage'] <= high else 'MISSED'}",
        )
    Console(width=140).print(table)
    return runs


if __name__ == "__main__":
    sys.exit(main())
