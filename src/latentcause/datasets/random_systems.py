"""Random structural causal models, to judge discovery and effects by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from latentcause.graph import CausalGraph
from latentcause.scm import FunctionMechanism, LinearMechanism, Mechanism, StructuralCausalModel

SystemFamily = Literal["linear", "additive"]


def random_system(
    n_nodes: int, average_degree: float = 3.0, family: SystemFamily = "linear", *, seed: int
) -> StructuralCausalModel:
    """An Erdos-Renyi DAG whose nodes stand in random order, with random mechanisms and unit Gaussian noise.

    z_j = sum_k w_k g_k(z_k) + u_j over the parents k, |w_k| uniform on [0.3, 1.2] with a random sign, u_j ~ N(0, 1). For
    ``linear`` g_k(z) = z; for ``additive`` g_k is, with equal chance, z, 2 tanh(z), 2 sin(z) or z^2 / 2 cut off at |z| = 3. The
    order of the columns tells nothing of the causal order.

    Parameters
    ----------
    n_nodes : int
        The nodes are x1, x2, ....
    average_degree : float
        Expected number of edges at a node.
    family : {"linear", "additive"}
    seed : int

    Raises
    ------
    ValueError
        For an unknown family, no node, or a degree that is negative or above n_nodes - 1.
    """
    if family not in get_args(SystemFamily):
        raise ValueError(f"unknown family {family!r}: choose one of {list(get_args(SystemFamily))}")
    if n_nodes < 1 or not 0 <= average_degree <= n_nodes - 1:
        raise ValueError(f"average degree {average_degree} for {n_nodes} nodes: give 0 to n_nodes - 1")
    rng = np.random.default_rng(seed)
    order = rng.permutation(n_nodes)
    adjacency = np.zeros((n_nodes, n_nodes), dtype=np.int64)
    chance = average_degree / max(1, n_nodes - 1)
    adjacency[np.ix_(order, order)] = np.triu(rng.random((n_nodes, n_nodes)) < chance, 1)
    graph = CausalGraph.from_adjacency(adjacency, [f"x{j + 1}" for j in range(n_nodes)])
    mechanisms: dict[str, Mechanism] = {}
    for node in graph.nodes:
        count = len(graph.parents(node))
        weights = tuple((rng.uniform(0.3, 1.2, count) * rng.choice([-1, 1], count)).tolist())
        curves = tuple(rng.integers(len(CURVES), size=count).tolist())
        mechanisms[node] = (
            LinearMechanism(weights)
            if family == "linear" or not count
            else FunctionMechanism(_sum_of_curves(weights, curves))
        )
    return StructuralCausalModel(graph, mechanisms)


CURVES: tuple[Callable[[Tensor], Tensor], ...] = (
    lambda z: z,
    lambda z: 2 * torch.tanh(z),
    lambda z: 2 * torch.sin(z),
    lambda z: z.clamp(-3, 3).square() / 2,
)


def _sum_of_curves(weights: tuple[float, ...], curves: tuple[int, ...]) -> Callable[[Tensor], Tensor]:
    def function(parents: Tensor) -> Tensor:
        parts = [w * CURVES[c](parents[..., k]) for k, (w, c) in enumerate(zip(weights, curves, strict=True))]
        return torch.stack(parts).sum(0)

    return function
