"""Linked fields taken for views of one shared latent vector, beside SVGDM.

JMVAE, MMVAE and MoPoE-VAE (`latentcause.models.baselines.fields`) and SVGDM are trained on as many draws of the same prior, of
`nonlinear_three` and `three_fields` on 32 points; the autoencoders once for each scenario's sensors, SVGDM once for all. A seed
draws what is learned, and ``TRUTHS`` truths with their observations. Columns are those of paper 000's main table, for
z1 / z2 / z3, mean over seeds:

- MAPE: sum |error of the posterior mean| / sum |truth|, in %. Errors as shares of single values would be ruled by those near zero;
- NRMSE: root mean squared error of the posterior mean, as a share of the truth's spread;
- CRPS of ``DRAWS_SHOWN`` draws;

and over all fields, with sd over seeds:

- 90 %: share of true values inside the central 90 % of the draws;
- CPU-seconds of learning for the scenario; what serves all scenarios is learned at the first.

``exact`` are draws of the posterior in closed form, the limit; ``node by node`` are Gaussian processes without any link.
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
from latentcause.models.baselines.fields import JMVAE, MMVAE, MoPoE, NodeByNode

SYSTEMS = {"nonlinear": lc.datasets.nonlinear_three, "linear": lc.datasets.three_fields}
SCENARIOS = ("VFO", "LFO", "LPO")
LEARNED_FROM, TRUTHS, DRAWS_SHOWN = 8192, 10, 100
FIGURES = ("mape", "nrmse", "crps")


class Exact:
    """Draws of the closed-form posterior of a linear-Gaussian system."""

    def __init__(self, system: FieldSystem) -> None:
        self.system = system

    def fit(self, observations: lc.GriddedObservations) -> Exact:
        """Nothing to learn."""
        return self

    def sample_posterior(self, n: int, *, generator: int, observations: lc.GriddedObservations) -> Any:
        mean, covariance = self.system.fields.posterior(observations)
        factor = torch.linalg.cholesky(covariance)
        noise = torch.randn((n, mean.numel()), generator=torch.Generator().manual_seed(generator), dtype=mean.dtype)
        z = (mean.flatten() + noise @ factor.mT).reshape(n, *mean.shape)
        return lc.posteriors.from_draws(z.numpy(), self.system.graph.nodes, observations.grid)


def node_by_node(system: FieldSystem, seed: int, observations: lc.GriddedObservations) -> Any:
    settings = {"draws": LEARNED_FROM, "device": "cpu", "seed": seed}
    return NodeByNode(system.graph, system.fields, settings).fit(observations).model_


def learned(kind: type, **settings: Any) -> Callable[[FieldSystem, int, lc.GriddedObservations], Any]:
    def make(system: FieldSystem, seed: int, observations: lc.GriddedObservations) -> Any:
        model = kind(system.graph, system.fields, draws=LEARNED_FROM, device="cpu", seed=seed, **settings)
        return model.fit(observations)

    return make


METHODS: dict[str, Callable[[FieldSystem, int, lc.GriddedObservations], Any]] = {
    "exact": lambda system, seed, observations: Exact(system).fit(observations),
    "SVGDM, learned": learned(lc.SVGDM),
    "SVGDM, moments": learned(lc.SVGDM, scores="gaussian"),
    "JMVAE": learned(JMVAE),
    "MMVAE": learned(MMVAE),
    "MoPoE": learned(MoPoE),
    "node by node": node_by_node,
}
SERVES_ALL = ("SVGDM, learned", "SVGDM, moments", "node by node")
"""Methods that learn the prior, for any sensors."""


def rows(seeds: Sequence[int], only: Sequence[str] | None) -> Iterator[dict[str, Any]]:
    """A row for each system, method and scenario."""
    heads = " ".join(f"{name.upper() + ' of z1, z2, z3':>22}" for name in FIGURES)
    print(f"{'method':15} {'system':10} {'scenario':8} {heads} {'90 %':>15} {'CPU-s':>15}")
    for name, make_system in SYSTEMS.items():
        system = make_system()
        for method, make in METHODS.items():
            if (only and method not in only) or (method == "exact" and name != "linear"):
                continue
            models: dict[int, Any] = {}
            for scenario in SCENARIOS:
                found = []
                for seed in seeds:
                    _, observations = system.observe(scenario, torch.Generator().manual_seed(seed))
                    start = time.process_time()
                    if method not in SERVES_ALL or seed not in models:
                        models[seed] = make(system, seed, observations)
                    learning = {"cpu_s": time.process_time() - start}
                    found.append(judged(models[seed], system, scenario, seed) | learning)
                yield shown({"method": method, "system": name, "scenario": scenario, "seeds": found})


def judged(model: Any, system: FieldSystem, scenario: str, seed: int) -> dict[str, Any]:
    """Figures of each node over truths that are the same for every method."""
    generator = torch.Generator().manual_seed(100_000 + seed)
    truths, draws = [], []
    for _ in range(TRUTHS):
        truth, observations = system.observe(scenario, generator)
        posterior = model.sample_posterior(DRAWS_SHOWN, generator=seed, observations=observations)
        truths.append(truth.numpy())
        draws.append(np.stack([posterior[node].to_numpy() for node in system.graph.nodes], 1))
    y, z = np.stack(truths), np.stack(draws, 1).astype(np.float64)
    mean = z.mean(0)
    return {
        "mape": [float(100 * np.abs(m - t).sum() / np.abs(t).sum()) for m, t in zip(*_by_node(mean, y), strict=True)],
        "nrmse": [forecasts.normalised_rmse(m, t) for m, t in zip(*_by_node(mean, y), strict=True)],
        "crps": [float(each.mean()) for each in np.moveaxis(forecasts.crps(z, y), 1, 0)],
        "coverage": float(forecasts.coverage(z, y, [0.9])[0]),
    }


def _by_node(*arrays: np.ndarray) -> list[np.ndarray]:
    return [np.moveaxis(array, 1, 0) for array in arrays]


def shown(row: dict[str, Any]) -> dict[str, Any]:
    """Print a row, and return it."""
    cells = []
    for name in FIGURES:
        values, digits = np.mean([found[name] for found in row["seeds"]], axis=0), 1 if name == "mape" else 3
        cells.append(f"{' / '.join(f'{value:.{digits}f}' for value in values):>22}")
    for name, digits in (("coverage", 3), ("cpu_s", 1)):
        values = [found[name] for found in row["seeds"]]
        cells.append(f"{f'{np.mean(values):.{digits}f} ({np.std(values):.{digits}f})':>15}")
    print(f"{row['method']:15} {row['system']:10} {row['scenario']:8} {' '.join(cells)}", flush=True)
    return row
