"""SVGDM beside the exact posterior of a linear-Gaussian system of three fields.

    python benchmarks/svgdm.py --seeds 3 --json out/svgdm.json
    python benchmarks/svgdm.py --scores exact --steps 24 48 96 192

`latentcause.datasets.three_fields`: 32 points, z2 = .8 z1 + e2, z3 = .5 z1 + .7 z2 + e3, Matern-3/2 noises; block-mean
observations in four scenarios (VFO, LFO, LPO, only the child observed). A seed draws the truth, the observations and what is
learned. Columns, each by scenario and mean (sd) over seeds: KL(samples || exact posterior) per coordinate in nats, mean ratio of
variances, mean |error of the mean| as a share of the posterior sd, and share of true values inside the central 90 % interval.

With Gaussian scores the sampler is an affine map of its noise: the distribution of its samples is computed from what it makes of
0 and of the unit vectors, without Monte Carlo error. With networks it is estimated from ``--samples`` draws, and the KL that
so many draws of the exact posterior would show is taken off. Seeds start at 3000.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import latentcause as lc
from latentcause.diffusion import DDIM, times
from latentcause.models.svgdm import FIRST, LAST, POWER
from latentcause.writing import write_atomically

FIRST_SEED = 3000
SCENARIOS = ("VFO", "LFO", "LPO", "child")
VARIANTS: dict[str, dict[str, Any]] = {
    "blanket, Gaussian guidance": {},
    "plug-in guidance": {"guidance": "plug-in"},
    "anchor (hand-set schedule)": {"guidance": "anchor"},
    "parents only": {"sees": "parents"},
}
Z90 = 1.6448536269514722


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scores", nargs="+", choices=["exact", "gaussian", "learned"], default=["exact", "gaussian"])
    parser.add_argument("--steps", nargs="+", type=int, default=[96])
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    parser.add_argument("--draws", type=int, default=20_000, help="clean fields to learn from")
    parser.add_argument("--samples", type=int, default=4000, help="posterior draws, for learned scores")
    parser.add_argument("--json", type=Path, help="file for every single figure")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    print(
        f"{'scores':9} {'variant':28} {'steps':>5} {'scenario':8} {'KL/coordinate':>16} {'variance':>14} {'mean':>14} {'90 %':>6}"
    )
    for scores in arguments.scores:
        for variant, settings in VARIANTS.items() if scores == "exact" else [next(iter(VARIANTS.items()))]:
            for steps in arguments.steps:
                for scenario in SCENARIOS:
                    found = [
                        judged(scores, scenario, seed, {**settings, "steps": steps}, arguments)
                        for seed in range(FIRST_SEED, FIRST_SEED + arguments.seeds)
                    ]
                    rows.append(
                        {"scores": scores, "variant": variant, "steps": steps, "scenario": scenario, "seeds": found}
                    )
                    print_row(rows[-1])
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        with write_atomically(arguments.json) as temporary:
            temporary.write_text(json.dumps(rows, indent=1))
    return 0


def judged(
    scores: str, scenario: str, seed: int, settings: dict[str, Any], arguments: argparse.Namespace
) -> dict[str, float]:
    """One posterior beside the exact one."""
    system = lc.datasets.three_fields()
    truth, observations = system.observe(scenario, torch.Generator().manual_seed(seed))
    mean, covariance = system.fields.posterior(observations)
    model = lc.SVGDM(
        system.graph, system.fields, scores=scores, draws=arguments.draws, device="cpu", seed=seed, **settings
    ).fit(observations)
    start = time.process_time()
    if scores == "learned":
        centre, spread, taken_off = drawn(model, arguments.samples, seed)
    else:
        centre, spread, taken_off = mapped(model)
    sd, offset = spread.diagonal().sqrt(), centre - mean.flatten()
    return {
        "kl": (divergence(offset, spread, covariance) - taken_off) / len(offset),
        "variance": float((spread.diagonal() / covariance.diagonal()).mean()),
        "mean": float((offset.abs() / covariance.diagonal().sqrt()).mean()),
        "coverage": float(((truth.flatten() - centre).abs() < Z90 * sd).double().mean()),
        "cpu_s": time.process_time() - start,
    }


def mapped(model: lc.SVGDM) -> tuple[Tensor, Tensor, float]:
    """Mean and covariance of the samples, the sampler being affine."""
    size = model.joint_.mean.numel()
    denoiser = model.denoiser()
    clock = times(model.steps, FIRST, LAST, POWER)
    alpha, sigma = denoiser.levels(torch.zeros(1, dtype=torch.float64), float(clock[0]))
    anchor = torch.nan_to_num(model.observations_.pseudo_inverse()).double().flatten()
    unit = torch.cat([torch.zeros(1, size), torch.eye(size)]).double()
    ends = DDIM(denoiser)((alpha * anchor + sigma * unit).reshape(-1, *model.joint_.mean.shape), clock).flatten(1)
    root = ends[1:] - ends[0]
    return ends[0], root.mT @ root, 0.0


def drawn(model: lc.SVGDM, n: int, seed: int) -> tuple[Tensor, Tensor, float]:
    """Mean and covariance of n samples, and the KL that n draws of the exact posterior would show."""
    dataset = model.sample_posterior(n, generator=seed)
    z = torch.from_numpy(np.stack([dataset[node] for node in model.graph.nodes], 1)).double().flatten(1)
    size = z.shape[1]
    return z.mean(0), torch.cov(z.mT), 0.5 * size / n + size * (size + 1) / (4 * n)


def divergence(offset: Tensor, spread: Tensor, covariance: Tensor) -> float:
    """KL(N(m + offset, spread) || N(m, covariance)) in nats."""
    factor = torch.linalg.cholesky(covariance)
    half = torch.linalg.solve_triangular(factor, spread, upper=False)
    ratios = torch.linalg.eigvalsh(torch.linalg.solve_triangular(factor, half.mT, upper=False))
    shift = torch.linalg.solve_triangular(factor, offset[:, None], upper=False)
    # Variances that a variant has lost altogether count as a millionth, so that its divergence is large and not infinite.
    logs = ratios.clamp(min=1e-6).log().sum()
    return float(0.5 * (ratios.sum() - len(offset) - logs + shift.square().sum()))


def print_row(row: dict[str, Any]) -> None:
    def cell(name: str, digits: int = 3) -> str:
        values = [found[name] for found in row["seeds"]]
        return f"{np.mean(values):.{digits}f} ({np.std(values):.{digits}f})"

    coverage = 100 * np.mean([found["coverage"] for found in row["seeds"]])
    print(
        f"{row['scores']:9} {row['variant']:28} {row['steps']:5d} {row['scenario']:8} {cell('kl', 4):>16} "
        f"{cell('variance'):>14} {cell('mean'):>14} {coverage:6.1f}",
        flush=True,
    )


if __name__ == "__main__":
    raise SystemExit(main())
