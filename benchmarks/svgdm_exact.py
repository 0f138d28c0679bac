"""The linear-Gaussian system of three fields, whose posterior is known.

`latentcause.datasets.three_fields`: 32 points, z2 = .8 z1 + e2, z3 = .5 z1 + .7 z2 + e3, Matern-3/2 noises; block-mean
observations in four scenarios (VFO, LFO, LPO, only the child observed). A seed draws the truth, the observations and what is
learned. Columns, mean (sd) over seeds:

- KL: of a Gaussian with the samples' mean and covariance from the exact posterior, per coordinate, in nats, less what as many
  draws of the exact posterior itself would show;
- variance: mean ratio of the samples' variances to the exact ones;
- mean: mean |error of the mean| as a share of the exact sd. Draws of the exact posterior show sqrt(2 / (pi n)), the last row;
- 90 %: share of true values inside the central 90 % of ``CALLED`` draws, over ``TRUTHS`` further truths and observations;
- CRPS of z2, whose sensors are the coarsest relative to its detail, at those truths;
- CPU-seconds for 1,000 draws.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

import latentcause as lc
from latentcause.datasets.field_systems import FieldSystem
from latentcause.metrics import forecasts
from latentcause.models.baselines.fields import NodeByNode

SCENARIOS = ("VFO", "LFO", "LPO", "child")
DRAWS = 20_000  # of clean fields to learn from
SAMPLES = {"exact": 2000, "gaussian": 2000, "learned": 600}
TRUTHS = 17  # for each seed and scenario
CALLED = 59  # the central 54 of 60 places among 59 draws are 90 %
METHODS: dict[str, dict[str, Any]] = {
    "exact scores": {"scores": "exact"},
    "moments of draws": {"scores": "gaussian"},
    "learned scores": {"scores": "learned"},
    "probability flow": {"scores": "exact", "eta": 0.0},
    "plug-in guidance": {"scores": "exact", "guidance": "plug-in"},
    "hand-set schedule": {"scores": "exact", "guidance": "anchor"},
    "parents only": {"scores": "exact", "sees": "parents"},
    "no causal edges": {"scores": "exact"},
}
COLUMNS = ("kl", "variance", "mean", "coverage", "crps_z2", "cpu_s")


def rows(seeds: Sequence[int], only: Sequence[str] | None) -> Iterator[dict[str, Any]]:
    """A row for each method and scenario."""
    system, learned = lc.datasets.three_fields(), {}
    print(f"{'method':18} {'scenario':8} " + " ".join(f"{name:>15}" for name in COLUMNS))
    for method, settings in METHODS.items():
        if only and method not in only:
            continue
        for scenario in SCENARIOS:
            found = []
            for seed in seeds:
                if (method, seed) not in learned:
                    learned[method, seed] = fitted(method, settings, system, seed)
                found.append(judged(learned[method, seed], settings["scores"], system, scenario, seed))
            yield shown({"method": method, "scenario": scenario, "seeds": found})
    for name, n in SAMPLES.items():
        print(f"the mean's own error with {n} exact draws ({name}): {math.sqrt(2 / (math.pi * n)):.3f}")


def fitted(method: str, settings: dict[str, Any], system: FieldSystem, seed: int) -> Any:
    """What is learned does not depend on the observations."""
    _, observations = system.observe("VFO", torch.Generator().manual_seed(seed))
    options = {"draws": DRAWS, "device": "cpu", "seed": seed, **settings}
    if method == "no causal edges":
        return NodeByNode(system.graph, system.fields, options).fit(observations).model_
    return lc.SVGDM(system.graph, system.fields, **options).fit(observations)


def judged(model: Any, scores: str, system: FieldSystem, scenario: str, seed: int) -> dict[str, float]:
    """One posterior beside the exact one, and calibration over more truths."""
    _, observations = system.observe(scenario, torch.Generator().manual_seed(seed))
    mean, covariance = system.fields.posterior(observations)
    n, start = SAMPLES[scores], time.process_time()
    z = drawn(model, n, seed, observations)
    cpu_s = (time.process_time() - start) * 1000 / n
    z = torch.from_numpy(z).double().flatten(1)
    spread, sd = torch.cov(z.mT), covariance.diagonal().sqrt()
    offset = z.mean(0) - mean.flatten()
    return {
        "kl": (divergence(offset, spread, covariance) - shown_by_draws(len(offset), n)) / len(offset),
        "variance": float((spread.diagonal() / covariance.diagonal()).mean()),
        "mean": float((offset.abs() / sd).mean()),
        **calibration(model, system, scenario, 100_000 + seed),
        "cpu_s": cpu_s,
    }


def calibration(model: Any, system: FieldSystem, scenario: str, seed: int) -> dict[str, float]:
    """Coverage of all fields, and CRPS of z2, over new truths with observations of their own."""
    generator, covered, scores = torch.Generator().manual_seed(seed), [], []
    for _ in range(TRUTHS):
        truth, observations = system.observe(scenario, generator)
        z = drawn(model, CALLED, int(torch.randint(2**31, (), generator=generator)), observations)
        below = (z < truth.numpy()).sum(0)
        covered.append(((below >= 3) & (below <= CALLED - 3)).mean())
        scores.append(forecasts.crps(z[:, 1], truth[1].numpy()).mean())
    return {"coverage": float(np.mean(covered)), "crps_z2": float(np.mean(scores))}


def drawn(model: Any, n: int, seed: int, observations: lc.GriddedObservations) -> np.ndarray:
    """Samples (n, d, points)."""
    dataset = model.sample_posterior(n, generator=seed, observations=observations)
    return np.stack([dataset[node].to_numpy() for node in model.graph.nodes], 1)


def divergence(offset: Tensor, spread: Tensor, covariance: Tensor) -> float:
    """KL(N(m + offset, spread) || N(m, covariance)) in nats."""
    factor = torch.linalg.cholesky(covariance)
    half = torch.linalg.solve_triangular(factor, spread, upper=False)
    ratios = torch.linalg.eigvalsh(torch.linalg.solve_triangular(factor, half.mT, upper=False))
    shift = torch.linalg.solve_triangular(factor, offset[:, None], upper=False)
    # Variances that a method has lost altogether count as a millionth, so that its divergence is large and not infinite.
    logs = ratios.clamp(min=1e-6).log().sum()
    return float(0.5 * (ratios.sum() - len(offset) - logs + shift.square().sum()))


def shown_by_draws(size: int, n: int) -> float:
    """Expected `divergence` of the sample moments of n exact draws: E log det of a Wishart matrix, and the mean's own error."""
    degrees = n - 1 - torch.arange(size, dtype=torch.float64)
    log_det = (torch.special.digamma(degrees / 2) + math.log(2 / (n - 1))).sum()
    return float(-0.5 * log_det) + 0.5 * size / n


def shown(row: dict[str, Any]) -> dict[str, Any]:
    """Print a row, and return it."""
    cells = []
    for name in COLUMNS:
        values = [found[name] for found in row["seeds"]]
        digits = {"kl": 4, "crps_z2": 4, "cpu_s": 1}.get(name, 3)
        cells.append(f"{np.mean(values):.{digits}f} ({np.std(values):.{digits}f})")
    print(f"{row['method']:18} {row['scenario']:8} " + " ".join(f"{cell:>15}" for cell in cells), flush=True)
    return row
