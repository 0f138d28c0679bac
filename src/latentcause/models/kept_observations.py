"""Observations of fields as the file of a fitted model keeps them."""

from __future__ import annotations

from typing import Any

from latentcause.data.gridded_observations import GriddedObservations
from latentcause.graph import CausalGraph
from latentcause.observation import Observation


def kept(observations: GriddedObservations) -> dict[str, Any]:
    """A value of ``fitted_state``; `latentcause.io.can_save` says whether a file holds it: not one of a function of the field."""
    nodes, found = zip(*observations.per_node, strict=True)
    return {"grid": observations.grid, "nodes": list(nodes), "seen": list(found)}


def restored(graph: CausalGraph, value: dict[str, Any]) -> GriddedObservations:
    """The observations, of the nodes of this graph, that gave such a value."""
    by_node: dict[str, list[Observation]] = {}
    for node, observation in zip(value["nodes"], value["seen"], strict=True):
        by_node.setdefault(node, []).append(observation)
    return GriddedObservations(graph, value["grid"], by_node)
