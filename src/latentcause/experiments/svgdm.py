"""Posteriors of linked fields, as in the SVGDM paper: three scenarios of sensors, ablations, cost, wildfires, an earthquake.

Causal score conditioning for multi-resolution latent systems, ICLR 2026. Its claims are measured on two systems of three fields:
a linear-Gaussian one, whose exact posterior is a row of the table, and one with tanh and product mechanisms; on simulated
wildfires, beside what the simulator knows; and on the rasters of the Hokkaido earthquake, where they are at hand.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import latentcause
from latentcause.console import say, show_table
from latentcause.datasets.field_systems import FieldSystem, nonlinear_three, random_field_system, three_fields
from latentcause.experiments import hokkaido
from latentcause.experiments.checks import Check, Table, check_table
from latentcause.experiments.fire_forecasts import FireSettings, fire_checks, fire_rows, fire_table
from latentcause.experiments.journal import Journal, Result, Task
from latentcause.fields import GaussianFields
from latentcause.graph import CausalGraph
from latentcause.metrics import forecasts
from latentcause.models.baselines.fields import JMVAE, MMVAE, MoPoE
from latentcause.models.svgdm import SVGDM
from latentcause.posteriors import from_draws
from latentcause.report import Report
from latentcause.writing import write_atomically

SCENARIOS = ("VFO", "LFO", "LPO")
SYSTEMS = {"linear": three_fields, "nonlinear": nonlinear_three}
METHODS: dict[str, dict[str, Any] | None] = {
    "SVGDM": {},
    "parents only (the paper)": {"sees": "parents"},
    "hand-set schedule (the paper)": {"guidance": "anchor"},
    "without learned scores": {"scores": "gaussian"},
    "without causal edges": {},
    "without observations": {},
    "JMVAE": {},
    "MMVAE": {},
    "MoPoE": {},
    "exact posterior": None,
}
SHARED = {"JMVAE": JMVAE, "MMVAE": MMVAE, "MoPoE": MoPoE}
ABLATIONS = {"without learned scores": "nonlinear", "without causal edges": "", "without observations": ""}
MEASURES = ("MAPE", "NRMSE", "CRPS")
NODES = ("z1", "z2", "z3")
LEVEL, TOLERANCE = 0.9, 0.03  # of intervals, and of their coverage
LEARNED = {"SVGDM": "blanket", "hand-set schedule (the paper)": "blanket", "parents only (the paper)": "parents"}


@dataclass(frozen=True)
class Settings:
    """What is drawn, learned and asked.

    Attributes
    ----------
    points : int
        Of each field.
    draws, epochs : int
        Of clean fields to learn from; of training.
    truths : int
        Draws of the truth and its observations, for each system and scenario.
    samples, steps : int
        Of each posterior; of the sampler.
    nodes, edges : int, tuple of int
        Of the random graphs whose cost is measured.
    fires : FireSettings
    folds, map_epochs : int
        Of `CausesOfChange` on the rasters of the earthquake.
    """

    points: int = 32
    draws: int = 20_000
    epochs: int = 20
    truths: int = 40
    samples: int = 59
    steps: int = 48
    nodes: int = 15
    edges: tuple[int, ...] = (14, 30, 45, 60, 75, 90, 105)
    fires: FireSettings = field(default_factory=FireSettings)
    folds: int = 4
    map_epochs: int = 16

    @classmethod
    def quick(cls) -> Settings:
        """Minutes."""
        fewer = {"draws": 4000, "epochs": 8, "truths": 6, "samples": 39, "folds": 2, "map_epochs": 4}
        return cls(points=16, nodes=10, edges=(9, 18, 27, 36, 45), fires=FireSettings.quick(), **fewer)


def reproduce(out: Path, *, quick: bool = False, seed: int = 0, settings: Settings | None = None) -> list[Check]:
    """Learn, sample and measure; write results and report into ``out``, and print the tables.

    Results are kept in ``out/journal.jsonl`` as they come, and an interrupted run goes on there.

    Parameters
    ----------
    out : Path
    quick : bool
        Smaller fields, fewer truths.
    seed : int
    settings : Settings, optional
        In place of the usual ones.
    """
    settings = settings or (Settings.quick() if quick else Settings())
    out.mkdir(parents=True, exist_ok=True)
    journal, whole = Journal(out / "journal.jsonl"), json.loads(json.dumps(asdict(settings)))
    maps = {"folds": whole.pop("folds"), "epochs": whole.pop("map_epochs"), "seed": seed}
    fires = {"fires": whole.pop("fires"), "seed": seed}
    base = {"settings": whole, "seed": seed}
    asked = [
        {**base, "system": system, "method": method, "scenario": scenario}
        for system in SYSTEMS
        for method in METHODS
        for scenario in SCENARIOS
        if not (method == "exact posterior" and system != "linear")
    ]
    costs = [{**base, "edges": edges} for edges in settings.edges]
    journal.complete(asked, _posteriors)
    journal.complete(costs, _cost)
    journal.complete([fires], _fires)
    missing = _earthquake(journal, maps)
    found = {(task["system"], task["method"], task["scenario"]): journal[task] for task in asked}
    seconds = [journal[task]["cpu_s"] for task in costs]
    checks = _checks(found, settings, seconds)
    tables = {f"{system} mechanisms": _table(found, system) for system in SYSTEMS}
    tables["Cost of one posterior"] = _cost_table(settings, seconds)
    tables["Simulated wildfires"] = fire_table(journal[fires]["rows"])
    checks += fire_checks(journal[fires]["rows"])
    if missing:
        say(missing)
    else:
        tables["Hokkaido 2018, west half"] = hokkaido.table(journal[maps]["rows"])
    results = {
        "latentcause": latentcause.__version__,
        **base,
        "posteriors": [{"task": list(key), **value} for key, value in found.items()],
        "cpu_s": seconds,
        "fires": journal[fires]["rows"],
        "hokkaido": missing or journal[maps],
        "checks": [asdict(check) for check in checks],
    }
    with write_atomically(out / "results.json") as temporary:
        temporary.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    _report(tables, checks, settings, missing).save(out / "report.html")
    for title, table in {**tables, "Checks": check_table(checks)}.items():
        show_table(title, *table)
    say(f"written to {out}: open report.html")
    return checks


# --- what is asked ---------------------------------------------------------------------------------------------------


def _posteriors(task: Task) -> Result:
    """Errors of one method in one scenario, mean over truths, by node; and coverage."""
    settings, seed = _settings(task), task["seed"]
    system = SYSTEMS[task["system"]]((settings.points,))
    sample = _sampler(system, task, settings)
    generator = torch.Generator().manual_seed(1_000_000 + seed)
    rows, covered = [], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        for _ in range(settings.truths):
            truth, observations = system.observe(task["scenario"], generator)
            z = sample(observations, int(torch.randint(2**31, (), generator=generator)))
            y = truth.numpy()
            rows.append(
                [
                    [
                        forecasts.mean_absolute_percentage_error(z[:, i].mean(0), y[i]),
                        forecasts.normalised_rmse(z[:, i].mean(0), y[i]),
                        float(forecasts.crps(z[:, i], y[i]).mean()),
                    ]
                    for i in range(len(y))
                ]
            )
            covered.append(float(forecasts.coverage(z, y, [LEVEL])[0]))
    mean = np.mean(rows, axis=0)
    spread = np.std(rows, axis=0, ddof=1) / len(rows) ** 0.5
    return {
        "mean": {node: dict(zip(MEASURES, mean[i].tolist(), strict=True)) for i, node in enumerate(NODES)},
        "se": {node: dict(zip(MEASURES, spread[i].tolist(), strict=True)) for i, node in enumerate(NODES)},
        "crps": [float(np.mean([node[2] for node in row])) for row in rows],
        "coverage": float(np.mean(covered)),
    }


def _settings(task: Task) -> Settings:
    return Settings(**{**task["settings"], "edges": tuple(task["settings"]["edges"])})


def _sampler(system: FieldSystem, task: Task, settings: Settings) -> Callable[[Any, int], np.ndarray]:
    """(observations, seed) -> draws (n, d, points)."""
    n, method, seed = settings.samples, task["method"], task["seed"]
    if method == "without observations":
        return lambda observations, s: system.fields.sample(n, torch.Generator().manual_seed(s)).numpy()
    if method == "exact posterior":
        return partial(_exact, system, n)
    if method in SHARED:  # learned anew for each scenario's sensors
        _, seen = system.observe(task["scenario"], torch.Generator().manual_seed(seed))
        kind = SHARED[method]
        model = kind(system.graph, system.fields, draws=settings.draws, epochs=settings.epochs, seed=seed).fit(seen)
    else:
        model = _fitted(task["system"], method, settings, seed)

    def draws(observations: Any, s: int) -> np.ndarray:
        dataset = model.sample_posterior(n, generator=s, observations=observations)
        return np.stack([dataset[node].to_numpy() for node in NODES], 1)

    return draws


def _exact(system: FieldSystem, n: int, observations: Any, seed: int) -> np.ndarray:
    assert isinstance(system.fields, GaussianFields)
    mean, covariance = system.fields.posterior(observations)
    white = torch.randn((n, len(covariance)), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    z = mean + (white @ torch.linalg.cholesky(covariance).mT).reshape(n, *mean.shape)
    dataset = from_draws(z.numpy(), NODES, observations.grid)
    return np.stack([dataset[node].to_numpy() for node in NODES], 1)


@lru_cache(maxsize=4)
def _fitted(name: str, method: str, settings: Settings, seed: int) -> SVGDM:
    """Scores do not depend on the observations, nor on how these pull."""
    system = SYSTEMS[name]((settings.points,))
    _, observations = system.observe("VFO", torch.Generator().manual_seed(seed))
    options = {
        "draws": settings.draws,
        "epochs": settings.epochs,
        "steps": settings.steps,
        "seed": seed,
        **(METHODS[method] or {}),
    }
    if method == "without causal edges":
        # Each score sees its own field alone: the marginal term is left, the term of causal consistency is not.
        return SVGDM(CausalGraph.from_edges([], nodes=NODES), system.fields, **options).fit(observations)
    if method == "hand-set schedule (the paper)":
        model: SVGDM = _fitted(name, "SVGDM", settings, seed)
        other = SVGDM(system.graph, system.fields, **options)
        other.joint_, other.scores_, other.observations_ = model.joint_, model.scores_, model.observations_
        other.history_ = model.history_
        return other
    return SVGDM(system.graph, system.fields, **options).fit(observations)


def _cost(task: Task) -> Result:
    """CPU-seconds of one posterior with networks on a random graph of so many edges."""
    settings = _settings(task)
    system = random_field_system(settings.nodes, task["edges"], sites=16, seed=task["seed"])
    _, observations = system.observe("all", torch.Generator().manual_seed(task["seed"]))
    model = SVGDM(
        system.graph, system.fields, form="sites", draws=500, epochs=1, steps=settings.steps, seed=task["seed"]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        model.fit(observations).sample_posterior(2, generator=0)  # what is done once
        start = time.process_time()
        model.sample_posterior(settings.samples, generator=0)
    return {"cpu_s": time.process_time() - start}


def _fires(task: Task) -> Result:
    return {"rows": list(fire_rows(FireSettings(**task["fires"]), task["seed"]))}


def _earthquake(journal: Journal, task: Task) -> str:
    """Do the task where its rasters are at hand; else a sentence that says what is missing."""
    try:
        journal.complete([task], hokkaido.mapped_landslides)
    except (FileNotFoundError, ImportError) as error:
        return f"Hokkaido is left out: {error}"
    return ""


def _checks(
    found: Mapping[tuple[str, str, str], Mapping[str, Any]], settings: Settings, seconds: list[float]
) -> list[Check]:
    """The paper's claims; any of them can fail."""
    checks = []

    def crps(system: str, method: str, scenario: str) -> float:
        return float(np.mean(found[system, method, scenario]["crps"]))

    for system in SYSTEMS:
        falling = [crps(system, "SVGDM", scenario) for scenario in SCENARIOS]
        claim = f"{system}: worse sensors, worse posteriors: CRPS grows from VFO to LFO to LPO"
        checks.append(Check(claim, ", ".join(f"{value:.3f}" for value in falling), falling == sorted(falling)))
        for method, only in ABLATIONS.items():
            if only not in ("", system):
                continue
            ratios = [crps(system, method, s) / crps(system, "SVGDM", s) for s in SCENARIOS]
            claim = f"{system}: {method}, CRPS is larger in every scenario"
            checks.append(Check(claim, ", ".join(f"x {r:.2f}" for r in ratios), min(ratios) > 1))
        for method in LEARNED:
            if method == "SVGDM":
                continue
            ratios = [crps(system, method, s) / crps(system, "SVGDM", s) for s in SCENARIOS]
            claim = f"{system}: {method} is as good as the default: CRPS within 3 %"
            checks.append(Check(claim, ", ".join(f"x {r:.2f}" for r in ratios), max(ratios) < 1.03))
        best = [min(crps(system, method, s) for method in SHARED) / crps(system, "SVGDM", s) for s in SCENARIOS]
        claim = (
            f"{system}: one latent vector for all fields, the best of {len(SHARED)}: CRPS is larger in every scenario"
        )
        checks.append(Check(claim, ", ".join(f"x {r:.2f}" for r in best), min(best) > 1))
        shares = [found[system, "SVGDM", scenario]["coverage"] for scenario in SCENARIOS]
        # Few truths hold more or less than their share by chance, the same for the exact posterior as for samples.
        exact = [found[system, "exact posterior", s]["coverage"] for s in SCENARIOS] if system == "linear" else []
        claim = f"{system}: {LEVEL:.0%} intervals hold {'as many truths as exact ones' if exact else f'{LEVEL:.0%} of the truths'}"
        asked = exact or [LEVEL] * len(SCENARIOS)
        holds = max(abs(share - wanted) for share, wanted in zip(shares, asked, strict=True)) <= TOLERANCE
        told = ", ".join(f"{share:.1%}" for share in shares)
        told += f" (exact: {', '.join(f'{share:.1%}' for share in exact)})" if exact else ""
        checks.append(Check(f"{claim}, within {TOLERANCE:.0%}", told, holds))
    ratios = [crps("linear", "SVGDM", s) / crps("linear", "exact posterior", s) for s in SCENARIOS]
    claim = "linear: CRPS within 3 % of the exact posterior's"
    checks.append(Check(claim, ", ".join(f"x {r:.3f}" for r in ratios), max(ratios) < 1.03))
    slope, start, r2 = _line(settings, seconds)
    claim = "cost grows at most in proportion to the edges"
    holds = seconds[-1] / seconds[0] <= settings.edges[-1] / settings.edges[0]
    checks.append(Check(claim, f"{start:.2f} s + {slope:.4f} s an edge, R^2 {r2:.2f}", holds))
    return checks


def _line(settings: Settings, seconds: list[float]) -> tuple[float, float, float]:
    edges = np.array(settings.edges)
    slope, start = np.polyfit(edges, seconds, 1)
    return float(slope), float(start), float(np.corrcoef(edges, seconds)[0, 1] ** 2)


# --- what is told ----------------------------------------------------------------------------------------------------


def _table(found: Mapping[tuple[str, str, str], Mapping[str, Any]], system: str) -> Table:
    """The paper's table: a row for each method and scenario, three measures for each node."""
    header = ["scenario", "method", *(f"{node} {measure}" for node in NODES for measure in MEASURES), "90 %"]
    rows = []
    for scenario in SCENARIOS:
        for method in METHODS:
            result = found.get((system, method, scenario))
            if result is None:
                continue
            cells = [f"{result['mean'][node][measure]:.3f}" for node in NODES for measure in MEASURES]
            rows.append([scenario, method, *cells, f"{result['coverage']:.1%}"])
    return header, rows


def _cost_table(settings: Settings, seconds: list[float]) -> Table:
    rows = [[str(edges), f"{value:.2f}"] for edges, value in zip(settings.edges, seconds, strict=True)]
    return [f"edges of {settings.nodes} nodes", f"CPU-seconds of {settings.samples} samples"], rows


def _report(tables: Mapping[str, Table], checks: list[Check], settings: Settings, missing: str) -> Report:
    holding = sum(check.holds for check in checks)
    lead = (
        f"Three linked fields of {settings.points} points, seen by sensors of different resolution; {settings.truths} truths in "
        f"each scenario, {settings.samples} samples of each posterior. {holding} of {len(checks)} checks hold."
    )
    report = Report("Posteriors of linked fields", lead)
    report.section("Checks").table(*check_table(checks))
    for title, table in tables.items():
        report.section(title).table(*table)
    if missing:
        report.text(missing)
    return report.text(
        "MAPE (per cent; ruled by the cells near zero) and NRMSE are errors of the posterior mean, CRPS one of the whole "
        "posterior; 90 %: share of truths within the central interval. The paper's ablations: without learned scores (its loss "
        "of denoising score matching) the Gaussian moments are left; without causal edges (its term of causal consistency) each "
        "learned score sees its own field alone; without observations there are draws of the prior. JMVAE, MMVAE, MoPoE: the "
        "fields as views of one latent vector, learned "
        "anew for each scenario's sensors. Wildfires: targets and methods as in latentcause.experiments.fire_forecasts."
    )
