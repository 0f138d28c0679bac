"""Log density of a structural causal model by its factorisation over the nodes."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from latentcause.graph import CausalGraph
from latentcause.scm.interventions import Action, Shift
from latentcause.scm.mechanisms import Mechanism
from latentcause.scm.simulation import parents_of


def log_density(
    graph: CausalGraph, mechanisms: Mapping[str, Mechanism], values: Tensor, actions: Mapping[str, Action]
) -> Tensor:
    """Log density (n,) of values (number of nodes, n) under the actions.

    Raises
    ------
    ValueError
        Where a node has no density.
    """
    total = torch.zeros(values.shape[1], dtype=values.dtype)
    for node in graph.nodes:
        own, action = values[graph.index(node)], actions.get(node)
        if isinstance(action, Tensor):
            total += torch.where(own == action, 0.0, -math.inf)
            continue
        if isinstance(action, Shift):
            own = own - action.amount
        mechanism = action if isinstance(action, Mechanism) else mechanisms[node]
        try:
            total += mechanism.log_density(own, parents_of(graph, node, values))
        except ValueError as error:
            raise ValueError(f"node {node!r} has no density: {error}") from error
    return total
