"""Structural causal models: one mechanism per node of a causal graph; sample them, also under interventions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from latentcause.graph import CausalGraph
from latentcause.scm.mechanisms import AdditiveMechanism, Mechanism
from latentcause.scm.noise import GaussianNoise

Intervention = float | np.ndarray | Mechanism


class StructuralCausalModel:
    """A causal graph with a mechanism at every node.

    z_j = m_j(z_pa(j)) + noise_j for all nodes j, noises independent (paper Eq. 3.2).

    Parameters
    ----------
    graph : CausalGraph
    mechanisms : mapping from node to Mechanism
        One for every node of the graph.

    Raises
    ------
    ValueError
        If a node has no mechanism, or a mechanism belongs to no node.
    """

    def __init__(self, graph: CausalGraph, mechanisms: Mapping[str, Mechanism]) -> None:
        missing = [node for node in graph.nodes if node not in mechanisms]
        if missing:
            raise ValueError(f"no mechanism for node {missing[0]!r}: give one for each of {list(graph.nodes)}")
        _refuse_unknown(graph, mechanisms, "a mechanism is given for")
        self.graph = graph
        self.mechanisms = {node: mechanisms[node] for node in graph.nodes}

    def __repr__(self) -> str:
        kinds = sorted({type(m).__name__ for m in self.mechanisms.values()})
        return f"StructuralCausalModel({self.graph}; {', '.join(kinds)})"

    @property
    def gaussian_mechanisms(self) -> dict[str, AdditiveMechanism]:
        """The mechanisms, all of them additive with Gaussian noise, which exact posteriors of latents rely on.

        Raises
        ------
        ValueError
            If one of them is not.
        """
        for node, mechanism in self.mechanisms.items():
            if not (isinstance(mechanism, AdditiveMechanism) and isinstance(mechanism.noise, GaussianNoise)):
                raise ValueError(
                    f"node {node!r} has {mechanism}: posteriors of latents need additive mechanisms with Gaussian noise"
                )
        return cast(dict[str, AdditiveMechanism], self.mechanisms)

    def replace(self, mechanisms: Mapping[str, Mechanism]) -> StructuralCausalModel:
        """The model after an intervention that puts these mechanisms in place of its own (paper Definition 3.4)."""
        _refuse_unknown(self.graph, mechanisms, "a mechanism is given for")
        return StructuralCausalModel(self.graph, {**self.mechanisms, **mechanisms})

    def sample(
        self, n: int, do: Mapping[str, Intervention] | None = None, *, generator: torch.Generator | int
    ) -> np.ndarray:
        """Draw n independent rows (n, number of nodes), columns in ``graph.nodes`` order.

        Parameters
        ----------
        n : int
        do : mapping from node to intervention, optional
            A number or an array of n numbers fixes the node (hard intervention); a `Mechanism` replaces the node's own
            (stochastic or soft intervention).
        generator : torch.Generator or int
            Source of randomness, or a seed. Each node draws from its own stream, so a do() on one node leaves the
            noise of all others as it was.

        Raises
        ------
        ValueError
            If ``do`` names an unknown node or an array of another length than n.
        """
        do = dict(do or {})
        _refuse_unknown(self.graph, do, "do() names")
        streams = _node_streams(generator, len(self.graph.nodes))
        values = torch.zeros(len(self.graph.nodes), n, dtype=torch.float64)  # a node's values lie side by side
        for node in self.graph.topological_order:
            j = self.graph.index(node)
            parents = values[[self.graph.index(p) for p in self.graph.parents(node)]].T
            action = do.get(node, self.mechanisms[node])
            if isinstance(action, Mechanism):
                values[j] = action.sample(parents, streams[j])
            else:
                values[j] = _fixed_values(node, action, n)
        return values.T.numpy()


def _refuse_unknown(graph: CausalGraph, named: Mapping[str, Any], what: str) -> None:
    unknown = [node for node in named if node not in graph.nodes]
    if unknown:
        raise ValueError(f"{what} {unknown[0]!r}, which is not a node of the graph: its nodes are {list(graph.nodes)}")


def _node_streams(generator: torch.Generator | int, count: int) -> list[torch.Generator]:
    if not isinstance(generator, torch.Generator):
        generator = torch.Generator().manual_seed(int(generator))
    seeds = torch.randint(0, 2**62, (count,), generator=generator)
    return [torch.Generator().manual_seed(int(seed)) for seed in seeds]


def _fixed_values(node: str, action: float | np.ndarray, n: int) -> Tensor:
    value = torch.as_tensor(np.asarray(action, dtype=float))
    if value.ndim > 1 or (value.ndim == 1 and len(value) != n):
        raise ValueError(f"do({node}) has shape {tuple(value.shape)}: give one number, or one for each of the {n} rows")
    if not torch.isfinite(value).all():
        raise ValueError(f"do({node}) is not finite: give a number")
    return value.expand(n)
