"""Simulated samples of known systems that tests of the models share, and the error of a fit beside the limit."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from latentcause import CausalGraph, MultiDomainData
from latentcause.datasets import interventional_system
from latentcause.datasets.interventional import InterventionalSample
from latentcause.metrics import align_columns, bayes_optimal_latents, relative_mse

NONE_AND_EACH = {"none": (), "do(z1)": ("z1",), "do(z2)": ("z2",), "do(z3)": ("z3",)}


@cache
def paper_sample(family: str) -> InterventionalSample:
    """The paper's four-node chain, smaller: 4 domains x 500 rows, 30 measurements."""
    return interventional_system(4, family=family, n_measurements=30, seed=4).sample(500, seed=104)


@cache
def small_sample(family: str = "saturating", intervention: str = "hard", n: int = 150) -> InterventionalSample:
    """A chain of three nodes in four domains, ten measurements."""
    system = interventional_system(3, family=family, intervention=intervention, n_measurements=10, seed=2)
    return system.sample(n, NONE_AND_EACH, seed=102)


def ratio(fit: Any, sample: InterventionalSample) -> float:
    """Relative error of the latents over that of the Bayes-optimal posterior mean; 1 is the best there is."""
    aligned = align_columns(fit.loadings_, sample.system.loadings)
    limit = relative_mse(bayes_optimal_latents(sample), sample.latents)
    return relative_mse(aligned.latents(fit.latents_), sample.latents) / limit


def values(data: MultiDomainData) -> np.ndarray:
    return np.concatenate([x for _, _, x in data.batches()])


def labels(data: MultiDomainData) -> np.ndarray:
    return np.array(data.domains, dtype=object)[data.domain_index]


def reordered(data: MultiDomainData, order: np.ndarray) -> MultiDomainData:
    return MultiDomainData(values(data)[order], labels(data)[order], data.targets)


def exchangeable(n: int = 300) -> tuple[CausalGraph, MultiDomainData]:
    """Two latents of one variance that no domain targets, so that nothing tells their directions apart, and a third."""
    rng = np.random.default_rng(3)
    z = 2 * rng.normal(size=(2 * n, 3))
    z[n:, 2] = 10 + rng.normal(size=n)
    x = z @ np.linalg.qr(rng.normal(size=(8, 3)))[0].T + rng.normal(size=(2 * n, 8))
    graph = CausalGraph.from_edges([], nodes=["left", "right", "known"])
    return graph, MultiDomainData(x, np.repeat(["none", "hit"], n), {"none": [], "hit": ["known"]})
