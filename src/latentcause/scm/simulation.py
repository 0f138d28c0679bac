"""Draw from a structural causal model, node after node, all rows at once."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from latentcause.graph import CausalGraph
from latentcause.scm.interventions import Action, Shift
from latentcause.scm.mechanisms import LinearMechanism, Mechanism


def simulate(
    graph: CausalGraph,
    mechanisms: Mapping[str, Mechanism],
    actions: Mapping[str, Action],
    n: int,
    generator: torch.Generator | int,
    needed: Collection[str] | None = None,
) -> Tensor:
    """Values (number of nodes, n), float64, of n draws; rows of nodes that are not ``needed`` hold anything.

    Every node has a random stream of its own, whether it is drawn or not.
    """
    streams = _node_streams(generator, len(graph))
    values = torch.empty(len(graph), n, dtype=torch.float64)  # a node's values lie side by side
    for node in graph.topological_order:
        if needed is not None and node not in needed:
            continue
        j, action = graph.index(node), actions.get(node)
        if isinstance(action, Tensor):
            values[j] = action
            continue
        mechanism = action if isinstance(action, Mechanism) else mechanisms[node]
        if isinstance(mechanism, LinearMechanism):  # sums in place: to gather the parents first would take longer
            torch.add(mechanism.noise.sample(n, values, streams[j]), mechanism.intercept, out=values[j])
            parents = graph.parents(node)
            for parent, weight in zip(parents, mechanism.weights_for(len(parents)), strict=True):
                values[j].add_(values[graph.index(parent)], alpha=weight)
        else:
            values[j] = mechanism.sample(parents_of(graph, node, values), streams[j])
        if isinstance(action, Shift):
            values[j] += action.amount
    return values


def parents_of(graph: CausalGraph, node: str, values: Tensor) -> Tensor:
    """Values (n, number of parents) of the node's parents, from values (number of nodes, n); a view where possible."""
    rows = [graph.index(parent) for parent in graph.parents(node)]
    if rows and rows[-1] - rows[0] == len(rows) - 1:  # neighbours, as parents come in the order of nodes
        return values[rows[0] : rows[-1] + 1].T
    return values.index_select(0, torch.tensor(rows, dtype=torch.int64, device=values.device)).T


def _node_streams(generator: torch.Generator | int, count: int) -> list[torch.Generator]:
    if not isinstance(generator, torch.Generator):
        generator = torch.Generator().manual_seed(int(generator))
    seeds = torch.randint(0, 2**62, (count,), generator=generator)
    return [torch.Generator().manual_seed(int(seed)) for seed in seeds]
