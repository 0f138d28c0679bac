"""Time and memory of SVGDM as rasters grow, and time to a CRPS beside NUTS and variational inference.

Rasters: `latentcause.datasets.three_fields` on squares of ``SIDES`` pixels, sensors of scenario LFO (blocks of 4, 8 and 8
pixels). CPU-microseconds of one pixel of one draw at one step of the sampler, for all three fields, and the peak of the memory
of a process of its own that does nothing else, less what importing takes: moments in closed form at the default steps, and
networks, which one epoch on a few draws has hardly trained (time does not depend on what they have learned), in few steps.
Limits of memory: 4 GB.

Time to a CRPS: `latentcause.datasets.nonlinear_three`, scenarios VFO and LFO, one truth a seed. A ladder of budgets for each
method; the score is the CRPS of the draws as they are, sum |x - y| / n - sum |x - x'| / (2 n^2), in which few draws and
dependent ones cost something (the fair CRPS of the other cases takes that out). The reference is the highest rung of NUTS. A
method's time is that of its lowest rung from which on its mean CRPS is within 3 % of the reference. SVGDM draws by its default
steps and by few of them, which a CRPS hardly feels. Learning, which serves all observations, is shown beside: so many
posteriors pay for it.

``--only`` takes ``rasters``, and the names of methods.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

import latentcause as lc
from latentcause.models.baselines.fields import NUTS, VariationalFields

RASTERS = "rasters"
SIDES = {"exact": (32, 64, 128, 256), "learned": (32, 64, 128)}
DRAWS = {"exact": 4, "learned": 2}
STEPS = {"exact": 48, "learned": 12}
TRAINED_ON = 16  # draws
SCENARIOS = ("VFO", "LFO")
WITHIN = 1.03
FEW_STEPS = 12  # chosen on truths of seeds 900 to 903
BY_FEW = f"SVGDM, learned, {FEW_STEPS} steps"
LADDERS: dict[str, tuple[int, ...]] = {
    "NUTS": (50, 100, 200, 400, 1000),  # steps of warm-up of one chain, and as many draws
    "SVGDM, learned": (25, 50, 100, 200, 400),  # draws, by the default steps
    BY_FEW: (25, 50, 100, 200, 400),
    "SVGDM, moments": (50, 200),
    "ADVI, full rank": (300, 1000, 3000),  # steps
}
LEARNED_FROM, ADVI_DRAWS = 20_000, 400
Model = tuple[lc.SVGDM, float]


def rows(seeds: Sequence[int], only: Sequence[str] | None) -> Iterator[dict[str, Any]]:
    """A row for each raster, and for each method and budget."""
    if not only or RASTERS in only:
        yield from rasters()
    methods = [name for name in LADDERS if not only or name in only]
    if methods:
        yield from times_to_a_crps(methods, seeds)


# --- rasters ---------------------------------------------------------------------------------------------------------


def rasters() -> Iterator[dict[str, Any]]:
    print(f"{'scores':8} {'side':>5} {'us / pixel / draw / step':>26} {'CPU-s a draw':>13} {'peak MB':>8}")
    for scores, sides in SIDES.items():
        for side in sides:
            command = [sys.executable, "-c", f"import svgdm_speed; svgdm_speed.measured({scores!r}, {side})"]
            found = subprocess.run(command, cwd=sys.path[0], capture_output=True, text=True, check=True)
            row = {"scores": scores, "side": side, **json.loads(found.stdout.splitlines()[-1])}
            print(
                f"{scores:8} {side:5} {row['us']:26.2f} {row['cpu_s']:13.2f} {row['peak_mb']:8.0f}",
                flush=True,
            )
            yield row


def measured(scores: str, side: int) -> None:
    """In a process of its own, whose peak of memory is that of this raster."""
    torch.set_num_threads(1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    system = lc.datasets.three_fields((side, side))
    _, observations = system.observe("LFO", torch.Generator().manual_seed(0))
    steps, draws = STEPS[scores], DRAWS[scores]
    prior = system.fields
    if scores == "learned":
        prior = system.fields.sample(TRAINED_ON, torch.Generator().manual_seed(0))
    model = lc.SVGDM(system.graph, prior, scores=scores, epochs=1, batch_size=4, steps=steps, device="cpu")
    model.fit(observations)
    start = time.process_time()
    model.sample_posterior(draws, generator=0)
    cpu_s = (time.process_time() - start) / draws
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = {"us": 1e6 * cpu_s / steps / side**2, "cpu_s": cpu_s, "steps": steps, "peak_mb": (peak - before) / 1024}
    print(json.dumps(found))


# --- time to a CRPS --------------------------------------------------------------------------------------------------


def times_to_a_crps(methods: Sequence[str], seeds: Sequence[int]) -> Iterator[dict[str, Any]]:
    system = lc.datasets.nonlinear_three()
    told = [system.observe(scenario, torch.Generator().manual_seed(seed)) for scenario in SCENARIOS for seed in seeds]
    print(f"\n{'method':24} {'budget':>7} {'CRPS':>8} {'CPU-s':>8} {'learning':>9}")
    ladders: dict[str, list[dict[str, Any]]] = {}
    models: dict[str, Model] = {}
    for method in methods:
        sample, learning_s = sampler(method, system, told[0][1], seeds[0], models)
        for budget in LADDERS[method]:
            start = time.process_time()
            draws = [sample(observations, budget) for _, observations in told]
            cpu_s = (time.process_time() - start) / len(told)
            crps = float(np.mean([score(z, y.numpy()) for z, (y, _) in zip(draws, told, strict=True)]))
            row = {"method": method, "budget": budget, "crps": crps, "cpu_s": cpu_s, "learning_s": learning_s}
            ladders.setdefault(method, []).append(row)
            print(f"{method:24} {budget:7} {crps:8.4f} {cpu_s:8.2f} {learning_s:9.1f}", flush=True)
            yield row
    if "NUTS" in ladders:
        reference = ladders["NUTS"][-1]["crps"]
        for method, ladder in ladders.items():
            reached = next(
                (row for k, row in enumerate(ladder) if all(r["crps"] <= WITHIN * reference for r in ladder[k:])), None
            )
            told_of = "not reached" if reached is None else f"{reached['cpu_s']:.2f} CPU-s at {reached['budget']}"
            print(f"{method}, CRPS within {WITHIN - 1:.0%} of {reference:.4f}: {told_of}")


def sampler(
    method: str, system: Any, observations: lc.GriddedObservations, seed: int, models: dict[str, Model]
) -> tuple[Callable[[lc.GriddedObservations, int], np.ndarray], float]:
    """(observations, budget) -> draws (n, d, points), and the CPU-seconds of what is learned once; ``models`` keeps that."""
    graph, fields = system.graph, system.fields

    def array(dataset: Any) -> np.ndarray:
        return np.stack([dataset[node].to_numpy() for node in graph.nodes], 1)

    if method == "NUTS":
        return lambda seen, budget: array(
            NUTS(graph, fields, warm_up=budget, chains=1, seed=seed).fit(seen).sample_posterior(budget, generator=seed)
        ), 0.0
    if method == "ADVI, full rank":
        return lambda seen, budget: array(
            VariationalFields(graph, fields, family="full_rank", steps=budget, seed=seed)
            .fit(seen)
            .sample_posterior(ADVI_DRAWS, generator=seed)
        ), 0.0
    scores = "gaussian" if method == "SVGDM, moments" else "learned"
    if scores not in models:
        start = time.process_time()
        model = lc.SVGDM(graph, fields, scores=scores, draws=LEARNED_FROM, device="cpu", seed=seed).fit(observations)
        models[scores] = model, time.process_time() - start
    model, learning_s = models[scores]
    steps = FEW_STEPS if method == BY_FEW else lc.SVGDM(graph, fields).steps

    def draws(seen: lc.GriddedObservations, budget: int) -> np.ndarray:
        return array(model.set_params(steps=steps).sample_posterior(budget, generator=seed, observations=seen))

    return draws, learning_s


def score(z: np.ndarray, y: np.ndarray) -> float:
    """CRPS of the draws (n, ...) as they are, mean over cells."""
    n = len(z)
    ranks = (2 * np.arange(1, n + 1) - n - 1).reshape(-1, *[1] * y.ndim)
    return float((np.abs(z - y).mean(0) - (ranks * np.sort(z, 0)).sum(0) / n**2).mean())
