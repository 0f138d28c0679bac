"""Counterfactuals: abduct the noise of each row, act, and predict."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from torch import Tensor

from latentcause.graph import CausalGraph
from latentcause.scm.interventions import Action, Shift
from latentcause.scm.mechanisms import Mechanism
from latentcause.scm.simulation import parents_of


def answer(
    graph: CausalGraph,
    mechanisms: Mapping[str, Mechanism],
    factual: Tensor,
    actions: Mapping[str, Action],
    needed: Collection[str] | None = None,
) -> Tensor:
    """Counterfactual values (number of nodes, n) of factual ones; rows of nodes that are not ``needed`` stay factual.

    Raises
    ------
    ValueError
        For a mechanism among the actions, and where noise that is needed is not determined.
    """
    for node, given in actions.items():
        if isinstance(given, Mechanism):
            raise ValueError(
                f"do({node}) is a mechanism, which draws new noise, so a row does not determine its counterfactual: set "
                "values or shift them, or use sample()"
            )
    values = factual.clone()
    moved: set[str] = set()
    for node in graph.topological_order:
        if needed is not None and node not in needed:
            continue
        j, action = graph.index(node), actions.get(node)
        if isinstance(action, Tensor):
            values[j] = action
        elif not moved.isdisjoint(graph.parents(node)):
            values[j] = _under_new_parents(graph, node, mechanisms[node], factual, values)
        elif action is None:
            continue
        if isinstance(action, Shift):
            values[j] += action.amount
        moved.add(node)
    return values


def _under_new_parents(graph: CausalGraph, node: str, mechanism: Mechanism, factual: Tensor, values: Tensor) -> Tensor:
    own, before, after = factual[graph.index(node)], parents_of(graph, node, factual), parents_of(graph, node, values)
    try:
        return mechanism.counterfactual(own, before, after)
    except ValueError as error:
        raise ValueError(f"the counterfactual of node {node!r} is not determined: {error}") from error
