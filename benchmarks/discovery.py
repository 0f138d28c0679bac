"""Causal discovery: exactness, independence of the column order, speed and accuracy beside causal-learn, and the Sachs cells.

    python benchmarks/discovery.py --json out/discovery.json
    python benchmarks/discovery.py --part speed --seeds 5

Parts: ``oracle`` (PC with d-separation on 500 random DAGs against the true CPDAG), ``order`` (PC under 50 random orders of the
columns), ``speed`` (PC against causal-learn's stable PC: same data, test and level, one thread, in turn), ``accuracy``
(every method on linear, additive and mixed systems), ``sachs`` (every method against the 17-edge consensus). Beside the
methods stand the empty graph and random graphs with as many edges as the truth. Seeds start at 1000: none of them
was used to choose a setting. Needs the extra ``bench``, and for ``sachs`` the files of `latentcause.datasets.sachs`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from rich.console import Console
from rich.table import Table

from latentcause import CPDAG, CausalGraph
from latentcause.datasets import load_sachs, random_system
from latentcause.discovery import PAG, DSeparation, fci, from_domains, ges, meek, pc
from latentcause.io import write_atomically
from latentcause.metrics import graph_errors

FIRST_SEED = 1000
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "sachs"
ALPHA = 0.01
RANDOM_GRAPHS = 100
FIGURES = (
    "shd1",
    "shd2",
    "sid_low",
    "sid_high",
    "adjacency_f1",
    "arrowhead_precision",
    "arrowhead_recall",
    "arrowhead_f1",
)

Graph = CausalGraph | CPDAG | PAG
Comparison = Callable[[Graph, CausalGraph], dict]


def main() -> int:
    parts: dict[str, Callable[[int], dict]] = {
        "oracle": oracle,
        "order": order,
        "speed": speed,
        "accuracy": accuracy,
        "sachs": sachs,
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=["all", *parts], default="all")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds of speed and accuracy")
    parser.add_argument("--json", type=Path, help="file for every figure")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    results = {name: run(arguments.seeds) for name, run in parts.items() if arguments.part in ("all", name)}
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        with write_atomically(arguments.json) as temporary:
            temporary.write_text(json.dumps(results, indent=1))
    return 0


# --- exactness -------------------------------------------------------------------------------------------------------


def oracle(_: int, graphs: int = 500) -> dict:
    """How many of the random DAGs of 5 to 25 nodes PC recovers exactly (their class) when its test is d-separation."""
    rng = np.random.default_rng(FIRST_SEED)
    right, start = 0, time.perf_counter()
    for number in range(graphs):
        degree = float(rng.choice([1, 2, 3, 4]))
        graph = random_system(int(rng.integers(5, 26)), degree, seed=FIRST_SEED + number).graph
        right += pc(DSeparation(graph)) == CPDAG.from_dag(graph)
        _progress("oracle", number + 1, graphs)
    seconds = time.perf_counter() - start
    print(f"oracle: {right} of {graphs} CPDAGs identical to the truth, {seconds:.0f} s")
    return {"identical": right, "graphs": graphs, "seconds": seconds}


def order(_: int, orders: int = 50) -> dict:
    """On how many of the column orders PC's result is the same: edges, separations, p-values and conflicts."""
    results = {}
    for name, frame in _tables_to_shuffle().items():
        first, rng = _everything(pc(frame, ALPHA)), np.random.default_rng(FIRST_SEED)
        same = sum(_everything(pc(frame[rng.permutation(frame.columns)], ALPHA)) == first for _ in range(orders))
        results[name] = same
        print(f"order: {name}: the same result under {same} of {orders} orders of the columns")
    return {"orders": orders, "same": results}


def _tables_to_shuffle() -> dict[str, pd.DataFrame]:
    scm = random_system(25, 4.0, seed=FIRST_SEED)
    numbers = scm.to_frame(scm.sample(400, generator=FIRST_SEED))
    categories = numbers.iloc[:, :10].apply(lambda column: pd.qcut(column, 3, labels=["low", "mid", "high"]))
    mixed = numbers.iloc[:, :8].copy()
    for name in mixed.columns[::2]:
        mixed[name] = np.where(mixed[name] > mixed[name].median(), "high", "low")
    return {
        "25 numeric columns, 400 rows": numbers,
        "10 categories, 400 rows": categories,
        "8 mixed columns, 400 rows": mixed,
    }


def _everything(found: CPDAG) -> tuple:
    edges = frozenset(found.directed), frozenset(frozenset(edge) for edge in found.undirected)
    return edges, dict(found.separations), dict(found.p_values), found.conflicts


# --- speed -----------------------------------------------------------------------------------------------------------


def speed(seeds: int, rows: int = 5000) -> dict:
    """Seconds of both PCs, and what they find."""
    runs = []
    for nodes in (20, 50, 100):
        for seed in range(FIRST_SEED, FIRST_SEED + seeds):
            scm = random_system(nodes, 3.0, seed=seed)
            frame, truth = scm.to_frame(scm.sample(rows, generator=seed)), CPDAG.from_dag(scm.graph)
            run: dict[str, Any] = {"nodes": nodes, "seed": seed}
            for name in ("latentcause", "causal-learn") if seed % 2 else ("causal-learn", "latentcause"):
                start = time.perf_counter()
                graph = pc(frame, ALPHA, "fisher-z") if name == "latentcause" else peer_pc(frame)
                run[name] = {"seconds": time.perf_counter() - start, **_figures(graph, truth)}
            run["ratio"] = run["causal-learn"]["seconds"] / run["latentcause"]["seconds"]
            runs.append(run)
            _progress("speed", len(runs), 3 * seeds)
    table = Table("nodes", "method", "seconds", "times faster (worst)", "skeleton F1", "arrowhead F1", "SHD")
    summary = []
    for nodes in (20, 50, 100):
        here = [run for run in runs if run["nodes"] == nodes]
        ratios = [run["ratio"] for run in here]
        for name in ("latentcause", "causal-learn"):
            seconds = np.median([run[name]["seconds"] for run in here])
            means = {key: _mean_and_error([run[name][key] for run in here]) for key in FIGURES[:1] + FIGURES[4:]}
            summary.append({"nodes": nodes, "method": name, "seconds": seconds, "ratio": np.median(ratios), **means})
            shown = f"{np.median(ratios):.1f} ({min(ratios):.1f})" if name == "latentcause" else ""
            cells = (_shown(means[key]) for key in ("adjacency_f1", "arrowhead_f1", "shd1"))
            table.add_row(str(nodes), name, f"{seconds:.3f}", shown, *cells)
    Console(width=120).print(table)
    return {"rows": rows, "alpha": ALPHA, "summary": summary, "runs": runs}


def peer_pc(frame: pd.DataFrame) -> CPDAG:
    """causal-learn's stable PC; its double heads and cycles count as open edges."""
    from causallearn.search.ConstraintBased.PC import pc as peer

    matrix = peer(frame.to_numpy(), ALPHA, "fisherz", stable=True, show_progress=False).G.graph
    tails = matrix == -1  # at [i, j]: -1 for a tail and 1 for a head at i
    double = (matrix == 1) & (matrix.T == 1)
    marks = tails | double
    arrows = marks & ~marks.T
    cyclic = arrows & meek.descendants(arrows).T
    return CPDAG.from_adjacency(marks | cyclic.T, frame.columns)


# --- accuracy --------------------------------------------------------------------------------------------------------


def accuracy(seeds: int) -> dict:
    """Every method on systems of 10 nodes and average degree 3, against the true CPDAG and (SID) the true DAG."""
    runs: dict[str, dict[str, list]] = defaultdict(lambda: defaultdict(list))
    for kind, rows in (("linear", 500), ("linear", 5000), ("additive", 500), ("additive", 5000), ("mixed", 2000)):
        for seed in range(FIRST_SEED, FIRST_SEED + seeds):
            scm = random_system(10, 3.0, "additive" if kind == "additive" else "linear", seed=seed)
            frame = scm.to_frame(scm.sample(rows, generator=seed))
            if kind == "mixed":
                for name in frame.columns[::2]:
                    frame[name] = np.where(frame[name] > 0, "high", "low")
            for name, graph in _contestants(frame, scm.graph, kind, seed).items():
                runs[f"{kind}, {rows} rows"][name].append(graph)
            _progress(f"accuracy, {kind}, {rows} rows", seed - FIRST_SEED + 1, seeds)
    for system, methods in runs.items():
        _show(f"{system}, {seeds} seeds", methods)
    return {system: {name: list(figures) for name, figures in methods.items()} for system, methods in runs.items()}


def _contestants(frame: pd.DataFrame, truth: CausalGraph, kind: str, seed: int) -> dict[str, dict]:
    methods: dict[str, Callable[[], Graph]] = {"PC, mixed test": lambda: pc(frame, ALPHA, "mixed")}
    if kind != "mixed":
        methods["PC, Fisher z"] = lambda: pc(frame, ALPHA, "fisher-z")
        methods["PC, covariance measure"] = lambda: pc(frame, ALPHA, "gcm")
        methods["PC of causal-learn, Fisher z"] = lambda: peer_pc(frame)
        methods["GES, BIC"] = lambda: ges(frame)
    cut = {name: pd.qcut(frame[name], 3, labels=False) for name in frame if frame[name].dtype.kind == "f"}
    thirds = frame.assign(**cut).astype(str)
    methods["PC, G^2 on thirds"] = lambda: pc(thirds, ALPHA, "g-squared")
    return {name: _timed(method, truth, _against_class) for name, method in methods.items()} | _floors(
        truth, seed, _against_class
    )


# --- Sachs -----------------------------------------------------------------------------------------------------------


def sachs(_: int) -> dict:
    """Every method on the 853 untreated cells and on all 11,672, against the consensus network, a DAG.

    Its CPDAG has no arrow at all, so no method can turn an edge from independences alone; arrows need the experiments.
    """
    cells = load_sachs(SHARED if SHARED.is_dir() else None)
    proteins, truth = list(cells.graph.nodes), cells.graph
    everything = cells.frame[proteins]
    untreated = everything[cells.frame["condition"] == "cd3cd28"]
    results = {}
    for name, frame in (("853 untreated cells", untreated), ("all 11,672 cells, pooled", everything)):
        thirds = frame.apply(lambda column: pd.qcut(column, 3, labels=["low", "mid", "high"]))
        methods: dict[str, Callable[[], Graph]] = {
            "PC, Fisher z": lambda frame=frame: pc(frame, ALPHA, "fisher-z"),
            "PC, mixed test": lambda frame=frame: pc(frame, ALPHA, "mixed"),
            "PC, covariance measure": lambda frame=frame: pc(frame, ALPHA, "gcm"),
            "PC, G^2 on thirds": lambda thirds=thirds: pc(thirds, ALPHA, "g-squared"),
            "PC of causal-learn, Fisher z": lambda frame=frame: peer_pc(frame),
            "FCI, Fisher z": lambda frame=frame: fci(frame, ALPHA, "fisher-z"),
            "GES, BIC": lambda frame=frame: ges(frame),
            "GES, BDeu on thirds": lambda thirds=thirds: ges(thirds),
        }
        if frame is everything:
            methods["from_domains, known targets"] = lambda: from_domains(cells.data(), alpha=ALPHA).cpdag
            methods["from_domains, nearest, known targets"] = lambda: (
                from_domains(cells.data(), alpha=ALPHA, nearest=True).cpdag
            )
            methods["from_domains, unknown targets"] = lambda: (
                from_domains(everything, cells.frame["condition"], alpha=ALPHA).cpdag
            )
        figures = {method: [_timed(ask, truth, _figures)] for method, ask in methods.items()}
        figures |= {floor: [value] for floor, value in _floors(truth, FIRST_SEED, _figures).items()}
        _show(f"Sachs, {name}", figures)
        results[name] = {method: values[0] for method, values in figures.items()}
    return results


# --- figures ---------------------------------------------------------------------------------------------------------


def _figures(estimate: Graph, truth: CausalGraph | CPDAG) -> dict[str, float | None]:
    try:
        errors = graph_errors(estimate, truth)
    except ValueError:  # a peer's result that is no class of DAGs has no intervention distance
        assert isinstance(truth, CausalGraph)
        errors = graph_errors(estimate, CPDAG(truth.nodes, truth.edges))
    return {key: value for key, value in errors.as_dict().items() if key in FIGURES}


def _timed(method: Callable[[], Graph], truth: CausalGraph, compare: Comparison) -> dict[str, float | None]:
    start = time.perf_counter()
    found = method()
    seconds = time.perf_counter() - start
    return compare(found, truth) | {"seconds": seconds}


def _against_class(found: Graph, truth: CausalGraph) -> dict[str, float | None]:
    """Against the CPDAG of the truth, but the intervention distance (which needs it) against the DAG itself."""
    by_class, by_dag = _figures(found, CPDAG.from_dag(truth)), _figures(found, truth)
    return by_class | {key: by_dag[key] for key in ("sid_low", "sid_high")}


def _floors(truth: CausalGraph, seed: int, compare: Comparison) -> dict[str, dict]:
    """The empty graph, the mean over random DAGs with as many edges as the truth, and the true class."""
    rng, drawn = np.random.default_rng(seed), []
    pairs = [(i, j) for i in range(len(truth)) for j in range(i)]
    for _ in range(RANDOM_GRAPHS):
        names = rng.permutation(truth.nodes).tolist()
        chosen = rng.choice(len(pairs), size=len(truth.edges), replace=False)
        dag = CausalGraph(truth.nodes, tuple((names[pairs[k][1]], names[pairs[k][0]]) for k in chosen))
        drawn.append(compare(dag, truth))
    mean = {key: float(np.nanmean([figures[key] for figures in drawn])) for key in FIGURES}
    limit = compare(CPDAG.from_dag(truth), truth)
    return {
        "random graphs": mean,
        "empty graph": compare(CausalGraph(truth.nodes), truth),
        "true CPDAG (limit)": limit,
    }


def _show(title: str, methods: dict[str, list[dict]]) -> None:
    table = Table(
        "method", "SHD", "SHD, reversal 2", "SID", "skeleton F1", "arrow precision", "recall", "F1", "s", title=title
    )
    for name, runs in methods.items():
        cells = {key: _mean_and_error([run[key] for run in runs]) for key in FIGURES}
        sid = f"{cells['sid_low'][0]:.1f} to {cells['sid_high'][0]:.1f}"
        seconds = np.median([run.get("seconds", np.nan) for run in runs])
        table.add_row(
            name,
            _shown(cells["shd1"], 1),
            _shown(cells["shd2"], 1),
            sid,
            *(_shown(cells[key]) for key in FIGURES[4:]),
            "" if np.isnan(seconds) else f"{seconds:.2f}",
        )
    Console(width=150).print(table)


def _mean_and_error(values: list) -> tuple[float, float]:
    numbers = np.array([np.nan if value is None else value for value in values], dtype=float)
    numbers = numbers[~np.isnan(numbers)]
    if not len(numbers):
        return float("nan"), float("nan")
    error = numbers.std(ddof=1) / np.sqrt(len(numbers)) if len(numbers) > 1 else float("nan")
    return float(numbers.mean()), float(error)


def _shown(value: tuple[float, float], digits: int = 3) -> str:
    mean, error = value
    return f"{mean:.{digits}f}" + ("" if np.isnan(error) else f" +- {error:.{digits}f}")


def _progress(what: str, done: int, total: int) -> None:
    print(f"\r{what}: {done}/{total}", end="\n" if done == total else "", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
