"""Speed of f-modeling against a straight dense implementation of Algorithm 1, and its cost against the size of the problem.

    python benchmarks/eb_crl_speed.py --json out/eb_crl_speed.json --plot out/eb_crl_speed.png
    python benchmarks/eb_crl_speed.py --part large      # 1,000,000 x 1,000 streamed from disk; writes a 4 GB file first

Parts: ``iteration`` (one EM iteration, same score, one core), ``accuracy`` (time to the accuracy of ``eb_crl.py``), ``full``
(the four-variable tensor basis), ``scaling`` (samples, measurements, nodes, parents), ``large``. Timings of both sides alternate
in one process; the medians are reported.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from scipy.interpolate import BSpline

import latentcause as lc
from latentcause.datasets.interventional import InterventionalSample, interventional_system
from latentcause.io import write_atomically
from latentcause.metrics import align_columns, bayes_optimal_latents, relative_mse
from latentcause.scores.causal import Visibility, node_views

REPEATS = 5
SPLINES = 8


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=["all", "iteration", "accuracy", "full", "scaling", "large"], default="all")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path, help="picture of the scaling part")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the large part")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    parts: dict[str, Callable[[], dict]] = {
        "iteration": iteration,
        "accuracy": accuracy,
        "full": full,
        "scaling": scaling,
        "large": lambda: large(arguments.rows),
    }
    chosen = [name for name in parts if arguments.part == name or (arguments.part == "all" and name != "large")]
    results = {}
    for name in chosen:
        results[name] = parts[name]()
        print(name, json.dumps({k: v for k, v in results[name].items() if k != "curves"}, indent=1))
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        with write_atomically(arguments.json) as temporary:
            temporary.write_text(json.dumps(results, indent=1))
    if arguments.plot and "scaling" in results:
        draw(results["scaling"]["curves"], arguments.plot)
    return 0


# --- the dense opponent ----------------------------------------------------------------------------------------------


class DenseAlgorithm:
    """Algorithm 1 of the paper as one would first write it: dense tensor-product design matrices, x in every iteration."""

    def __init__(self, sample: InterventionalSample, score: Visibility, ridge: float = 1.0) -> None:
        self.x = np.concatenate([batch for _, _, batch in sample.data.batches()])
        views, indicator = node_views(sample.system.graph, score), sample.data.indicator(sample.system.graph)
        visible = [list(view.columns) for view in views]
        self.states = np.stack([view.states(indicator)[sample.data.domain_index] for view in views], 1)
        loadings = sample.system.loadings
        self.O, self.sigma2 = loadings.copy(), 2.0
        self.visible, self.ridge = visible, ridge
        inner = np.linspace(-15, 15, SPLINES - 2)
        self.knots = np.r_[[inner[0]] * 3, inner, [inner[-1]] * 3]

    def iterate(self) -> np.ndarray:
        """One iteration; returns the posterior means."""
        y = self.x @ self.O
        inside = np.clip(y, -14.999, 14.999)
        values = [BSpline.design_matrix(c, self.knots, 3).toarray() for c in inside.T]
        basis = BSpline(self.knots, np.eye(SPLINES), 3)
        slopes = [basis.derivative()(c) for c in inside.T]
        score, derivative = np.empty_like(y), np.empty_like(y)
        for j, columns in enumerate(self.visible):
            phi, psi = values[j], slopes[j]
            for c in columns[1:]:
                phi = (phi[:, :, None] * values[c][:, None, :]).reshape(len(y), -1)
                psi = (psi[:, :, None] * values[c][:, None, :]).reshape(len(y), -1)
            for state in np.unique(self.states[:, j]):
                rows = self.states[:, j] == state
                gram = phi[rows].T @ phi[rows] + self.ridge * np.eye(phi.shape[1])
                theta = -np.linalg.solve(gram, psi[rows].sum(0))
                score[rows, j], derivative[rows, j] = phi[rows] @ theta, psi[rows] @ theta
        z = y + self.sigma2 * score
        second = z**2 + self.sigma2 + self.sigma2**2 * derivative
        left, _, right = np.linalg.svd(self.x.T @ z, full_matrices=False)
        self.O = left @ right
        total = second.sum() - 2 * ((self.x @ self.O) * z).sum() + (self.x**2).sum()
        self.sigma2 = total / self.x.size
        return z


def chain_sample(
    seed: int = 2000, n: int = 2000, d_z: int = 4, d_x: int = 100, family: str = "bounded"
) -> InterventionalSample:
    return interventional_system(d_z, family=family, n_measurements=d_x, seed=seed).sample(n, seed=seed + 500_000)


def paper_model(
    sample: InterventionalSample, start: np.ndarray, iterations: int, score: str = "parents"
) -> lc.FModeling:
    """The paper's score in our implementation, held to a number of iterations."""
    return lc.FModeling(
        sample.system.graph, score=score, base=None, initialisation=start, n_splines=SPLINES, max_iterations=iterations,
        patience=10**9, tolerance=0.0, device="cpu",
    )  # fmt: skip


def seconds_of(action: Callable[[], object]) -> float:
    """CPU seconds on the one thread that everything here runs on: other work on the machine counts less than by the clock."""
    start = time.process_time()
    action()
    return time.process_time() - start


# --- parts -----------------------------------------------------------------------------------------------------------


def iteration() -> dict:
    """One iteration of Algorithm 1: the difference of runs of 12 and 2 iterations, over 10.

    With the paper's score s_j(y_j, y_pa(j), a_j), tensors of up to 2 variables; and with that of the Markov blanket, up to 3.
    """
    sample = chain_sample()
    results: dict[str, dict] = {}
    for score in ("parents", "blanket"):
        ours, dense = [], []
        for _ in range(REPEATS):
            long = seconds_of(
                lambda score=score: paper_model(sample, sample.system.loadings, 12, score).fit(sample.data)
            )
            short = seconds_of(
                lambda score=score: paper_model(sample, sample.system.loadings, 2, score).fit(sample.data)
            )
            ours.append((long - short) / 10)
            opponent = DenseAlgorithm(sample, score)
            opponent.iterate()
            dense.append(seconds_of(lambda o=opponent: [o.iterate() for _ in range(3)]) / 3)
        results[score] = {
            "dense_ms": 1e3 * float(np.median(dense)),
            "ours_ms": 1e3 * float(np.median(ours)),
            "ratio": float(np.median(dense) / np.median(ours)),
            "to_reach": 10,
        }
    return results


def accuracy() -> dict:
    """Time of a whole default fit, and its RelMSE / limit, against 1,000 dense iterations (timed from 5)."""
    ratios, fits, dense = [], [], []
    warm = chain_sample(1999)
    lc.FModeling(warm.system.graph, device="cpu").fit(warm.data)  # what the first call imports is not the method's time
    for seed in range(2000, 2000 + REPEATS):
        sample = chain_sample(seed)
        limit = relative_mse(bayes_optimal_latents(sample), sample.latents)
        model = lc.FModeling(sample.system.graph, device="cpu")
        fits.append(seconds_of(lambda model=model, sample=sample: model.fit(sample.data)))
        latents = align_columns(model.loadings_, sample.system.loadings).latents(model.latents_)
        ratios.append(relative_mse(latents, sample.latents) / limit)
        opponent = DenseAlgorithm(sample, "parents")
        opponent.iterate()
        dense.append(200 * seconds_of(lambda opponent=opponent: [opponent.iterate() for _ in range(5)]))
    return {
        "fit_s": float(np.median(fits)),
        "dense_1000_iterations_s": float(np.median(dense)),
        "ratio": float(np.median(dense) / np.median(fits)),
        "to_reach": 50,
        "relmse_over_limit": float(np.median(ratios)),
    }


def full() -> dict:
    """The 4-node ``full`` graph: 4,096 functions for the last node, without a dense design (8,000 x 4,096 is 262 MB)."""
    sample = chain_sample()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = seconds_of(lambda: paper_model(sample, sample.system.loadings, 1, "full").fit(sample.data))
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "fit_s": seconds,
        "peak_memory_grew_mb": (after - before) / 1024,
        "dense_design_mb": 8000 * 4096 * 8 / 2**20,
    }


def scaling() -> dict:
    """Seconds of a default fit against samples, measurements, nodes and parents, one varied at a time."""
    curves: dict[str, list[tuple[int, float]]] = {
        "samples": [],
        "measurements": [],
        "nodes": [],
        "parents of one node": [],
    }
    for n in (500, 2000, 8000, 32000):
        sample = chain_sample(n=n)
        curves["samples"].append((4 * n, seconds_of(lambda s=sample: lc.FModeling(s.system.graph).fit(s.data))))
    for d_x in (10, 100, 1000):
        sample = chain_sample(d_x=d_x)
        curves["measurements"].append((d_x, seconds_of(lambda s=sample: lc.FModeling(s.system.graph).fit(s.data))))
    for d_z in (2, 4, 8, 16):
        sample = chain_sample(n=1000, d_z=d_z)
        curves["nodes"].append((d_z, seconds_of(lambda s=sample: lc.FModeling(s.system.graph).fit(s.data))))
    for parents in (1, 2, 3):
        edges = [(f"p{k}", "child") for k in range(parents)]
        graph = lc.CausalGraph.from_edges(edges, nodes=[*(f"p{k}" for k in range(3)), "child"])
        sample = interventional_system(graph, seed=1).sample(2000, seed=2)
        curves["parents of one node"].append(
            (parents, seconds_of(lambda s=sample: lc.FModeling(s.system.graph).fit(s.data)))
        )
    slopes = {name: float(np.polyfit(*np.log(np.array(points)).T, 1)[0]) for name, points in curves.items()}
    return {"log_log_slopes": slopes, "curves": curves}


def draw(curves: dict[str, list[tuple[int, float]]], path: Path) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(curves), figsize=(3.2 * len(curves), 2.8), sharey=True, layout="constrained")
    for ax, (name, points) in zip(axes, curves.items(), strict=True):
        ax.loglog(*np.array(points).T, marker="o")
        ax.set_xlabel(name)
    axes[0].set_ylabel("seconds of a fit")
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(path) as temporary:
        figure.savefig(temporary, format="png", dpi=130)


def large(rows: int) -> dict:
    """A default fit of rows x 1,000 measurements read from a memory-mapped file; the file is written by another process."""
    per_domain = rows // 4
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        writer = get_context("spawn").Process(target=write_large, args=(folder, per_domain))
        writer.start()
        writer.join()
        graph = lc.CausalGraph.chain(4)
        targets = {f"do({node})": [node] for node in graph.nodes}
        data = lc.MultiDomainData(folder / "x.npy", np.repeat(list(targets), per_domain), targets)
        start = time.perf_counter()
        model = lc.FModeling(graph).fit(data)
        seconds = time.perf_counter() - start
        truth, loadings = np.load(folder / "latents.npy"), np.load(folder / "loadings.npy")
    error = relative_mse(align_columns(model.loadings_, loadings).latents(model.latents_), truth)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"rows": 4 * per_domain, "fit_s": seconds, "peak_memory_gb": peak, "relmse": error, "to_reach_gb": 4}


def write_large(folder: Path, per_domain: int) -> None:
    """Simulate a chain of 4 nodes into files, a part at a time."""
    system = interventional_system(4, n_measurements=1000, seed=7)
    x = np.lib.format.open_memmap(folder / "x.npy", "w+", np.float32, (4 * per_domain, 1000))
    rng = np.random.default_rng(0)
    latents = [system.scm([node]).sample(per_domain, generator=e) for e, node in enumerate(system.graph.nodes)]
    everything = np.concatenate(latents)
    for start in range(0, len(everything), 50_000):
        part = everything[start : start + 50_000]
        noise = np.sqrt(2.0) * rng.standard_normal((len(part), 1000), dtype=np.float32)
        x[start : start + len(part)] = part @ system.loadings.T + noise
    x.flush()
    np.save(folder / "latents.npy", everything)
    np.save(folder / "loadings.npy", system.loadings)


if __name__ == "__main__":
    sys.exit(main())
