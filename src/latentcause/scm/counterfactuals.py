"""Counterfactuals: abduct the noise of each row, act, and predict."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import torch
from torch import Tensor

from latentcause.graph import CausalGraph
from latentcause.scm.interventions import Action, Shift
from latentcause.scm.mechanisms import LinearMechanism, Mechanism


def answer(
    graph: CausalGraph,
    mechanisms: Mapping[str, Mechanism],
    values: Tensor,
    actions: Mapping[str, Action],
    needed: Collection[str] | None = None,
) -> Tensor:
    """Turn factual values (number of nodes, n) into counterfactual ones in place, and return them.

    Rows of nodes that are not ``needed`` stay factual.

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
    followers = _followers(graph, actions)
    lines = {node: m for node in followers if isinstance(m := mechanisms[node], LinearMechanism)}
    if len(lines) == len(followers):
        return _move_lines(graph, lines, values, actions)
    factual: dict[str, Tensor] = {}  # the former values of the nodes that have moved
    for node in graph.topological_order:
        if (node not in followers and node not in actions) or (needed is not None and node not in needed):
            continue
        own, action, parents = values[graph.index(node)], actions.get(node), graph.parents(node)
        factual[node] = own.clone()
        if isinstance(action, Tensor):
            own.copy_(action)
        if node in followers:
            after = [values[graph.index(parent)] for parent in parents]
            before = [factual.get(parent, new) for parent, new in zip(parents, after, strict=True)]
            own.copy_(_follow(node, mechanisms[node], own, before, after))
        if isinstance(action, Shift):
            own.add_(action.amount)
    return values


def _followers(graph: CausalGraph, actions: Mapping[str, Action]) -> set[str]:
    """The nodes that have a parent that moves, and are not set themselves."""
    followers: set[str] = set()
    for node in graph.topological_order:
        moving = any(parent in actions or parent in followers for parent in graph.parents(node))
        if moving and not isinstance(actions.get(node), Tensor):
            followers.add(node)
    return followers


def _follow(node: str, mechanism: Mechanism, own: Tensor, before: list[Tensor], after: list[Tensor]) -> Tensor:
    try:
        return mechanism.counterfactual(own, torch.stack(before).T, torch.stack(after).T)
    except ValueError as error:
        raise ValueError(f"the counterfactual of node {node!r} is not determined: {error}") from error


def _move_lines(
    graph: CausalGraph, lines: Mapping[str, LinearMechanism], values: Tensor, actions: Mapping[str, Action]
) -> Tensor:
    """Followers with linear mechanisms, all at once: they move by their total effects times what moves the nodes acted on."""
    effects = np.zeros((len(graph), len(actions)))  # of one unit more at each node acted on
    moves = torch.empty(len(actions), values.shape[1], dtype=values.dtype)
    column = {node: k for k, node in enumerate(actions)}
    for node in graph.topological_order:
        j, action, parents = graph.index(node), actions.get(node), graph.parents(node)
        if node in lines:
            weights = np.array(lines[node].weights_for(len(parents)))
            effects[j] = weights @ effects[[graph.index(parent) for parent in parents]]
        if isinstance(action, Tensor):
            effects[j, column[node]], moves[column[node]] = 1.0, action - values[j]
        elif isinstance(action, Shift):
            effects[j, column[node]], moves[column[node]] = 1.0, action.amount
    values.addmm_(torch.from_numpy(effects), moves)
    for node, action in actions.items():
        if isinstance(action, Tensor):
            values[graph.index(node)] = action  # to the last bit
    return values
