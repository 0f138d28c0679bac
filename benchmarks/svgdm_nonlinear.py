"""The nonlinear system of three fields beside long runs of NUTS.

`latentcause.datasets.nonlinear_three`: z2 = 1.5 tanh(z1) + e2 and z3 = .5 z1 + .5 z1 z2 + e3 on 32 points, block-mean sensors as
in case ``exact``. A seed draws the truth and the observations, in each scenario; scores are learned once a seed, for all of
them. Columns, mean (sd) over seeds:

- CRPS: mean over the fields and points, of ``DRAWS_SHOWN`` draws; beside it, its ratio to that of NUTS on the same truths
  (ratio of sums over seeds);
- NRMSE: error of the posterior mean, as a share of the truth's spread, mean over the fields; and its ratio;
- 90 %: share of true values inside the central 90 % of the draws;
- CPU-seconds of learning, which serves every observation, and of one posterior.

NUTS: two chains of 500 steps of warm-up and 500 draws each, in whitened coordinates. Where only the child is observed the
posterior has several modes, and two chains need not agree: the largest difference of their means, in sd of the draws, is shown.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

import latentcause as lc
from latentcause.datasets.field_systems import FieldSystem
from latentcause.metrics import forecasts
from latentcause.models.baselines.fields import NUTS, NodeByNode, VariationalFields

SCENARIOS = ("VFO", "LFO", "LPO", "child")
LEARNED_FROM, DRAWS_SHOWN = 20_000, 200
REFERENCE = "NUTS"
Maker = Callable[[FieldSystem, int], Any]
Judge = Callable[[np.ndarray, FieldSystem, lc.GriddedObservations], dict[str, float]]
"""Further figures of draws (n, d, *shape)."""
METHODS: dict[str, Maker] = {
    REFERENCE: lambda s, seed: NUTS(s.graph, s.fields, warm_up=500, chains=2, thin=5, seed=seed),
    "SVGDM, learned": lambda s, seed: lc.SVGDM(s.graph, s.fields, draws=LEARNED_FROM, device="cpu", seed=seed),
    "SVGDM, moments": lambda s, seed: lc.SVGDM(
        s.graph, s.fields, scores="gaussian", draws=LEARNED_FROM, device="cpu", seed=seed
    ),
    "node by node": lambda s, seed: NodeByNode(
        s.graph, s.fields, {"draws": LEARNED_FROM, "device": "cpu", "seed": seed}
    ),
    "ADVI, full rank": lambda s, seed: VariationalFields(s.graph, s.fields, family="full_rank", seed=seed),
    "ADVI, mean field": lambda s, seed: VariationalFields(s.graph, s.fields, family="mean_field", seed=seed),
    "black-box VI": lambda s, seed: VariationalFields(s.graph, s.fields, family="black_box", seed=seed),
}
COLUMNS = ("crps", "nrmse", "coverage", "learning_s", "posterior_s", "chains")


def rows(seeds: Sequence[int], only: Sequence[str] | None) -> Iterator[dict[str, Any]]:
    """A row for each method and scenario."""
    yield from compared(lc.datasets.nonlinear_three(), SCENARIOS, METHODS, seeds, only)


def compared(
    system: FieldSystem,
    scenarios: Sequence[str],
    methods: dict[str, Maker],
    seeds: Sequence[int],
    only: Any,
    more: Judge | None = None,
) -> Iterator[dict[str, Any]]:
    """The rows of methods on one system."""
    heads = " ".join(f"{name:>15}" for name in COLUMNS)
    print(f"{'method':18} {'scenario':8} {heads}   CRPS, NRMSE / {next(iter(methods))}")
    learned: dict[Any, tuple[Any, float]] = {}
    reference: dict[str, list[dict[str, float]]] = {}
    for method, make in methods.items():
        if only and method not in only:
            continue
        for scenario in scenarios:
            found = [judged(method, make, system, scenario, seed, learned, more) for seed in seeds]
            if method == next(iter(methods)):
                reference[scenario] = found
            yield shown({"method": method, "scenario": scenario, "seeds": found}, reference.get(scenario))


def judged(
    method: str,
    make: Maker,
    system: FieldSystem,
    scenario: str,
    seed: int,
    learned: dict[Any, tuple[Any, float]],
    more: Judge | None = None,
) -> dict[str, float]:
    """One posterior beside its truth."""
    truth, observations = system.observe(scenario, torch.Generator().manual_seed(seed))
    amortised = method.startswith("SVGDM")
    start = time.process_time()
    if amortised and (method, seed) in learned:
        model, learning_s = learned[method, seed]
    else:
        model = make(system, seed).fit(observations)
        learning_s = time.process_time() - start
        if amortised:
            learned[method, seed] = (model, learning_s)
    start = time.process_time()
    told = {"observations": observations} if amortised else {}
    dataset = model.sample_posterior(DRAWS_SHOWN, generator=seed, **told)
    posterior_s = time.process_time() - start
    if not amortised:
        learning_s, posterior_s = 0.0, learning_s + posterior_s
    z, y = np.stack([dataset[node].to_numpy() for node in system.graph.nodes], 1), truth.numpy()
    halves = [part.mean(0) for part in np.array_split(z, 2)]
    return {
        "crps": float(forecasts.crps(z, y).mean()),
        "nrmse": float(np.mean(np.sqrt(((z.mean(0) - y) ** 2).mean(-1)) / y.std(-1))),
        "coverage": float(forecasts.coverage(z, y, [0.9])[0]),
        "learning_s": learning_s,
        "posterior_s": posterior_s,
        "chains": float((np.abs(halves[0] - halves[1]) / z.std(0)).max()),
        **(more(z, system, observations) if more else {}),
    }


def shown(row: dict[str, Any], reference: list[dict[str, float]] | None) -> dict[str, Any]:
    """Print a row, with its ratios to the reference, and return it."""
    cells = []
    for name in COLUMNS:
        values = [found[name] for found in row["seeds"]]
        cells.append(
            f"{np.mean(values):.{1 if name.endswith('_s') else 3}f} ({np.std(values):.{1 if name.endswith('_s') else 3}f})"
        )
    if reference:
        row["ratios"] = [
            sum(found[name] for found in row["seeds"]) / sum(found[name] for found in reference)
            for name in ("crps", "nrmse")
        ]
    ratios = "   {:.3f}, {:.3f}".format(*row["ratios"]) if reference else ""
    further = [name for name in row["seeds"][0] if name not in COLUMNS]
    ratios += "".join(f"   {name} {np.mean([found[name] for found in row['seeds']]):.4f}" for name in further)
    print(
        f"{row['method']:18} {row['scenario']:8} " + " ".join(f"{cell:>15}" for cell in cells) + ratios,
        flush=True,
    )
    return row
