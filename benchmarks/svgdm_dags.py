"""Random causal graphs of 10 and 15 nodes: accuracy beside the exact posterior or NUTS, and cost against edges.

`latentcause.datasets.random_field_system`: linear mechanisms, unit variances, ``SITES`` independent sites, sensors with noise of
.1 on half of the nodes and 1 on the others. Sparse graphs have 1.2 edges a node, dense ones half of all pairs. Rows are those
of case ``nonlinear``; for Gaussian noise the reference is draws of the exact posterior, else NUTS. Gaussian rows have further
columns: divergence from the exact posterior in nats per coordinate (sites being alike, of their mean covariance; less what draws
of the posterior itself would show), ratio of variances, and mean |error of the mean| in exact sd (by chance sqrt(2 / (pi n)) =
.056). At last, CPU-seconds of one posterior (moments, and networks) against the number of edges of 15 nodes: slope, and R^2 of
the straight line.

``--only`` also takes noises, graphs and ``cost``, as in ``--only gaussian "15 dense"``.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import svgdm_nonlinear as beside
import torch
from svgdm_exact import divergence, shown_by_draws

import latentcause as lc
from latentcause.datasets.field_systems import FieldSystem
from latentcause.models.baselines.fields import NUTS, NodeByNode
from latentcause.posteriors import from_draws

SITES = 16
SIZES = {"10 sparse": (10, 12), "10 dense": (10, 22), "15 sparse": (15, 18), "15 dense": (15, 52)}
FAMILIES = ("gaussian", "student", "skew_normal", "gamma")
EDGES = (14, 30, 45, 60, 75, 90, 105)
DRAWS = 4000  # of 16 sites each
TIMED = 100  # posterior draws
COST = "cost"


class ExactDraws:
    """Draws of the exact posterior of Gaussian fields, with the interface of the models."""

    def __init__(self, fields: Any) -> None:
        self.fields = fields

    def fit(self, observations: lc.GriddedObservations) -> ExactDraws:
        self.observations = observations
        self.mean, covariance = self.fields.posterior(observations)
        self.factor = torch.linalg.cholesky(covariance)
        return self

    def sample_posterior(self, n: int, *, generator: int) -> Any:
        white = torch.randn(
            (n, len(self.factor)), generator=torch.Generator().manual_seed(generator), dtype=torch.float64
        )
        z = self.mean + (white @ self.factor.mT).reshape(n, *self.mean.shape)
        return from_draws(z.numpy(), self.fields.graph.nodes, self.observations.grid)


def rows(seeds: Sequence[int], only: Sequence[str] | None) -> Iterator[dict[str, Any]]:
    """A row for each noise, graph, method and scenario, and one of costs."""
    families, graphs = (chosen(names, only) for names in (FAMILIES, SIZES))
    wanted = [name for name in only or [] if name not in (*FAMILIES, *SIZES, COST)]
    for family in [] if only == [COST] else families:
        for name in graphs:
            nodes, edges = SIZES[name]
            print(f"\n{family} noise, {name}: {nodes} nodes, {edges} edges")
            system = lc.datasets.random_field_system(nodes, edges, family, sites=SITES, seed=seeds[0])
            more = beside_exact if family == "gaussian" else None
            for row in beside.compared(system, ("all", "half"), methods(family), seeds, wanted, more):
                yield {"noise": family, "graph": name, **row}
    if not only or COST in only:
        yield costs(seeds[0])


def chosen(names: Iterable[str], only: Sequence[str] | None) -> list[str]:
    """Those asked for, or all."""
    return [name for name in names if name in (only or [])] or list(names)


def beside_exact(z: np.ndarray, system: FieldSystem, observations: lc.GriddedObservations) -> dict[str, float]:
    """How far draws z (n, d, sites) are from the exact posterior."""
    mean, covariance = system.fields.posterior(observations)
    n, d, sites = z.shape
    draws = torch.from_numpy(z).double()
    offset = draws.mean(0) - mean
    own = covariance.reshape(d, sites, d, sites)[:, 0, :, 0]
    residual = draws - draws.mean(0)
    spread = torch.einsum("nis,njs->ij", residual, residual) / ((n - 1) * sites)
    sd = own.diagonal().sqrt()[:, None]
    far = sum(divergence(offset[:, k], spread, own) for k in range(sites)) / sites
    chance = shown_by_draws(d, n * sites) + 0.5 * d / n * (1 - 1 / sites)
    return {
        "kl": (far - chance) / d,
        "variance": float((spread.diagonal() / own.diagonal()).mean()),
        "mean": float((offset.abs() / sd).mean()),
    }


def methods(family: str) -> dict[str, beside.Maker]:
    """The reference first."""
    options = {"form": "sites", "draws": DRAWS, "device": "cpu"}
    learned: beside.Maker = lambda s, seed: lc.SVGDM(s.graph, s.fields, seed=seed, **options)  # noqa: E731
    reference: beside.Maker = (
        (lambda s, seed: ExactDraws(s.fields))
        if family == "gaussian"
        else (lambda s, seed: NUTS(s.graph, s.fields, warm_up=300, chains=2, thin=3, seed=seed))
    )
    return {
        "exact" if family == "gaussian" else beside.REFERENCE: reference,
        "SVGDM, learned": learned,
        "SVGDM, moments": lambda s, seed: lc.SVGDM(s.graph, s.fields, scores="gaussian", seed=seed, **options),
        "node by node": lambda s, seed: NodeByNode(s.graph, s.fields, {**options, "seed": seed}),
    }


def costs(seed: int) -> dict[str, Any]:
    """Of one posterior against edges."""
    found: dict[str, list[float]] = {"exact": [], "learned": []}
    for scores, seconds in found.items():
        for edges in EDGES:
            system = lc.datasets.random_field_system(15, edges, sites=SITES, seed=seed)
            _, observations = system.observe("all", torch.Generator().manual_seed(seed))
            model = lc.SVGDM(
                system.graph, system.fields, scores=scores, form="sites", draws=500, epochs=1, device="cpu"
            )
            model.fit(observations)
            start = time.process_time()
            model.sample_posterior(TIMED, generator=seed)
            seconds.append(time.process_time() - start)
        slope, at_none = np.polyfit(EDGES, seconds, 1)
        left = np.var(np.array(seconds) - at_none - slope * np.array(EDGES)) / np.var(seconds)
        print(
            f"{scores} scores, CPU-s of {TIMED} draws at {EDGES} edges: {np.round(seconds, 2)}; "
            f"{at_none:.2f} + {slope:.4f} an edge, R^2 {1 - left:.3f}"
        )
    return {"edges": EDGES, "cpu_s": found}
