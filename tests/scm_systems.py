"""Structural causal models with known answers, shared by the tests of latentcause.scm."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from latentcause import CausalGraph, StructuralCausalModel
from latentcause.scm import CategoricalMechanism, DummyCoded, FunctionMechanism, LinearMechanism


def linear_model(graph: CausalGraph, seed: int) -> tuple[StructuralCausalModel, np.ndarray, np.ndarray, np.ndarray]:
    """A random linear-Gaussian model with its weights B (child, parent), intercepts and noise variances."""
    rng = np.random.default_rng(seed)
    B = rng.uniform(-1, 1, (len(graph), len(graph))) * graph.adjacency.T
    intercepts, variances = rng.normal(size=len(graph)), rng.uniform(0.2, 2.0, len(graph))
    mechanisms = {
        node: LinearMechanism(
            tuple(B[j, [graph.index(p) for p in graph.parents(node)]]), float(intercepts[j]), float(variances[j])
        )
        for j, node in enumerate(graph.nodes)
    }
    return StructuralCausalModel(graph, mechanisms), B, intercepts, variances


def wavy_model(graph: CausalGraph, seed: int) -> StructuralCausalModel:
    """z_j = sum_k sin(a_k z_k) + b_k z_k^2 / (1 + z_k^2) + noise, with random a and b."""
    rng = np.random.default_rng(seed)
    mechanisms = {}
    for node in graph.nodes:
        a, b = torch.tensor(rng.normal(size=(2, len(graph.parents(node)))))
        mechanisms[node] = FunctionMechanism(
            lambda z, a=a, b=b: (torch.sin(a * z) + b * z.square() / (1 + z.square())).sum(-1),
            float(rng.uniform(0.2, 2.0)),
        )
    return StructuralCausalModel(graph, mechanisms)


CLINIC = CausalGraph.from_string(
    "age -> site; age -> treated; site -> treated; site -> pain; treated -> pain; age -> pain"
)
SITES = ("a", "b", "c")


def clinic() -> StructuralCausalModel:
    """Numbers and categories mixed: site has 3 levels, treated is False or True."""
    return StructuralCausalModel(
        CLINIC,
        {
            "age": LinearMechanism((), 50.0, 100.0),
            "site": CategoricalMechanism((0.0, 1.0, 0.5), ((0.0,), (-0.02,), (0.01,))),
            "treated": DummyCoded(
                CategoricalMechanism((0.0, -1.0), ((0.0, 0.0, 0.0), (0.02, 0.5, -0.5))), n_levels=(0, 3)
            ),
            "pain": DummyCoded(LinearMechanism((0.1, 1.0, -2.0, -3.0), 1.0, 0.5), n_levels=(0, 3, 2)),
        },
        levels={"site": SITES, "treated": (False, True)},
    )


def clinic_rows(n: int, seed: int) -> pd.DataFrame:
    model = clinic()
    return model.to_frame(model.sample(n, generator=seed))
