"""Figure 3 of the EB-CRL paper: which scores recover the latents, and how that scales.

Wu, von Kuegelgen and Blei, *Multi-Domain Empirical Bayes for Linearly-Mixed Causal Representations*, section 7 and
appendix D. Left: all methods. Middle: error against the number of nodes and of samples. Right: error by environment with
known and with learned measurement model. The paper's equation (7.1) leaves the range of float64 on its own chain, so the
mechanisms are those of `latentcause.datasets.interventional_system`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt, ValidationError

import latentcause
from latentcause.datasets import InterventionalSample, interventional_system
from latentcause.experiments.contest import Contestant, compete, limit
from latentcause.experiments.journal import Journal, Result, Task
from latentcause.graph import CausalGraph
from latentcause.models.base import LatentModel
from latentcause.models.baselines import PCA
from latentcause.models.f_modeling import FModeling
from latentcause.models.g_modeling import GModeling

LIMIT, F_MODELING, G_MODELING, PCA_ROW = "limit", "f-modeling", "g-modeling", "PCA"

Method = Literal["TRUE", "FULL", "EMPTY", "POOL", "NO SHRINKAGE"]
Variant = Literal["published", "started", "defaults"]

PAPER_METHODS: dict[Method, dict[str, Any]] = {
    "TRUE": {"score": "parents"},
    "FULL": {"score": "full"},
    "EMPTY": {"score": "empty"},
    "POOL": {"score": "parents", "pooled": True},
    "NO SHRINKAGE": {"score": "parents", "damping": 0.0},
}
"""The paper's methods, as parameters of `FModeling`."""

VARIANTS: tuple[Variant, ...] = ("published", "started", "defaults")
"""How they are run: as published (spline score alone, PCA start, all iterations); the same score from the Gaussian start,
stopped by the held-out loss; or with this package's defaults (Gaussian score plus remainder, Gaussian start)."""

SAMPLE_SEED = 10_000  # added to a system's seed to draw its sample


class Config(BaseModel):
    """Settings of the reproduction; a YAML file may change any of them.

    ``environment_nodes`` x ``environments_per_node`` = 20 are the paper's M = 20 single-node interventions.
    ``published_iterations`` is 1,000 in the paper: hours on a CPU, and the error has settled long before.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    family: Literal["bounded", "saturating", "linear"] = "bounded"
    runs: PositiveInt = 40
    scaling_runs: PositiveInt = 20
    environment_runs: PositiveInt = 10
    nodes: PositiveInt = 4
    samples: PositiveInt = 2000
    node_counts: tuple[PositiveInt, ...] = (2, 3, 4, 6, 8, 10)
    sample_counts: tuple[PositiveInt, ...] = (50, 100, 200, 500, 1000, 2000)
    environment_nodes: PositiveInt = 4
    environments_per_node: PositiveInt = 5
    environment_samples: PositiveInt = 500
    measurements: PositiveInt = 100
    noise_variance: PositiveFloat = 2.0
    published_iterations: PositiveInt = 100
    n_splines: int = 8
    variants: tuple[Variant, ...] = VARIANTS
    methods: tuple[Method, ...] = tuple(PAPER_METHODS)
    processes: PositiveInt = 2

    @classmethod
    def quick(cls) -> Self:
        """Small enough for a minute: it shows that everything runs, and proves nothing."""
        return cls(
            runs=2,
            scaling_runs=2,
            environment_runs=1,
            samples=300,
            node_counts=(2, 4),
            sample_counts=(200, 400),
            environments_per_node=2,
            environment_samples=200,
            published_iterations=15,
            n_splines=5,
            variants=("published", "defaults"),
        )

    def changed_by(self, path: Path) -> Self:
        """These settings with those that a YAML file names.

        Raises
        ------
        ValueError
            If the file is not a mapping, or names a setting or value that there is not.
        """
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        if not isinstance(values, dict):
            raise ValueError(f"{path.name} must hold settings as NAME: VALUE lines")
        try:
            return type(self)(**{**self.model_dump(), **values})
        except ValidationError as error:
            first = error.errors()[0]
            raise ValueError(f"{path.name}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def reproduce(out: Path, *, quick: bool = False, family: str | None = None, config: Path | None = None) -> None:
    """Do all runs that ``out/runs.jsonl`` does not hold yet, then print the tables and write report, figures and tables."""
    from latentcause.experiments.eb_crl_report import summarise

    settings = Config.quick() if quick else Config()
    if config is not None:
        settings = settings.changed_by(config)
    if family is not None:
        settings = Config(**{**settings.model_dump(), "family": family})
    out.mkdir(parents=True, exist_ok=True)
    journal = Journal(out / "runs.jsonl")
    journal.complete(all_tasks(settings), run, settings.processes)
    summarise(settings, journal, out)


# --- the runs --------------------------------------------------------------------------------------------------------


def all_tasks(config: Config) -> list[Task]:
    """Every run of every panel, each once."""
    panels = (methods_panel(config), nodes_panel(config), samples_panel(config), environments_panel(config))
    unique = {repr(sorted(task.items())): task for panel in panels for task in panel}
    return list(unique.values())


def methods_panel(config: Config) -> Iterator[Task]:
    """Left column: all methods on the same systems."""
    for seed in range(config.runs):
        for variant, method in table_rows(config):
            yield task(config, variant, method, seed)


def table_rows(config: Config) -> list[tuple[str, str]]:
    """(variant, method) of the left column, the limit first."""
    ours = [("", LIMIT), ("", G_MODELING), ("", F_MODELING)]
    return [*ours, *((variant, method) for variant in config.variants for method in config.methods), ("", PCA_ROW)]


def scaling_rows(config: Config) -> list[tuple[str, str]]:
    """(variant, method) of the middle column: the paper's with the true graph, and ours."""
    return [("", LIMIT), ("", G_MODELING), ("", F_MODELING), *((variant, "TRUE") for variant in config.variants[:1])]


def nodes_panel(config: Config) -> Iterator[Task]:
    """Middle column, top: chains of other lengths."""
    for nodes in config.node_counts:
        for seed in range(config.scaling_runs):
            for variant, method in scaling_rows(config):
                yield task(config, variant, method, seed, nodes=nodes)


def samples_panel(config: Config) -> Iterator[Task]:
    """Middle column, bottom: other numbers of samples in each domain."""
    for samples in config.sample_counts:
        for seed in range(config.scaling_runs):
            for variant, method in scaling_rows(config):
                yield task(config, variant, method, seed, samples=samples)


def environment_rows(config: Config, known: bool) -> list[tuple[str, str]]:
    """(variant, method) of the right column. With A and sigma^2 known nothing is iterated, and there is no start."""
    variant = "published" if known else config.variants[0]
    paper = [m for m in config.methods if not (known and m == "POOL")]
    rows = [("", LIMIT), ("", G_MODELING), ("", F_MODELING), *((variant, method) for method in paper)]
    return rows if known else [*rows, ("", PCA_ROW)]


def environments_panel(config: Config) -> Iterator[Task]:
    """Right column: several environments with the same target, measurement model known or learned."""
    for known in (True, False):
        for seed in range(config.environment_runs):
            for variant, method in environment_rows(config, known):
                yield environment_task(config, variant, method, seed, known)


def environment_task(config: Config, variant: str, method: str, seed: int, known: bool) -> Task:
    """One run of the right column."""
    return task(
        config,
        variant,
        method,
        seed,
        nodes=config.environment_nodes,
        samples=config.environment_samples,
        copies=config.environments_per_node,
        known=known and method != LIMIT,  # the limit knows everything anyway
    )


def task(config: Config, variant: str, method: str, seed: int, **changes: Any) -> Task:
    """One fit of one method to one simulated system, with everything that its result depends on."""
    published = {"iterations": config.published_iterations} if variant == "published" else {}
    splines = {"n_splines": config.n_splines} if variant in ("published", "started") else {}
    return {
        "version": latentcause.__version__,
        "family": config.family,
        "method": method,
        "variant": variant,
        "seed": seed,
        "nodes": config.nodes,
        "samples": config.samples,
        "copies": 1,
        "known": False,
        "measurements": config.measurements,
        "noise_variance": config.noise_variance,
        **published,
        **splines,
        **changes,
    }


def run(task: Task) -> Result:
    """Simulate, fit and measure. Columns are matched to the true ones by signed permutation for every method (A.2)."""
    sample = simulate(task)
    if task["method"] == LIMIT:
        return limit(sample)
    contestant = Contestant(
        task["method"], lambda graph, seed: build(task, graph, sample, seed), align="signed-permutation"
    )
    outcome, _, _ = compete(contestant, sample, task["seed"])
    return asdict(outcome)


def simulate(task: Task) -> InterventionalSample:
    """The system of this seed, and ``copies`` domains for each target."""
    system = interventional_system(
        task["nodes"],
        family=task["family"],
        n_measurements=task["measurements"],
        noise_variance=task["noise_variance"],
        seed=task["seed"],
    )
    targets = {f"do({node}) {copy + 1}": [node] for node in system.graph.nodes for copy in range(task["copies"])}
    return system.sample(task["samples"], targets, seed=SAMPLE_SEED + task["seed"])


def build(task: Task, graph: CausalGraph, sample: InterventionalSample, seed: int) -> LatentModel:
    """The unfitted model of a task."""
    if task["method"] == PCA_ROW:
        return PCA(graph)
    known: dict[str, Any] = {}
    if task["known"]:
        known = {"loadings": sample.system.loadings, "noise_variance": sample.system.noise_variance}
    if task["method"] == G_MODELING:
        return GModeling(graph, seed=seed, **known)
    if task["method"] == F_MODELING:
        return FModeling(graph, seed=seed, **known)
    settings = PAPER_METHODS[task["method"]] | known
    if task["variant"] in ("published", "started"):
        settings = settings | {"base": None, "n_splines": task["n_splines"]}
    if task["variant"] == "published":
        n = task["iterations"]
        start = {"initialisation": "pca", "columns": "orthogonal"}
        settings = settings | start | {"max_iterations": n, "patience": n, "tolerance": 0.0}
    return FModeling(graph, seed=seed, **settings)
