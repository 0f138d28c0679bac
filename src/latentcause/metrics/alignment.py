"""Two graphs over the same names, as matrices in one order."""

from __future__ import annotations

import numpy as np

from latentcause.discovery.cpdag import CPDAG
from latentcause.discovery.pag import PAG
from latentcause.graph import CausalGraph

Graph = CausalGraph | CPDAG


def aligned_marks(estimate: Graph, truth: Graph) -> tuple[np.ndarray, np.ndarray]:
    """Two bool matrices (d, d) in the order of the truth's nodes: [i, j] alone for i -> j, both for i - j."""
    return _marks(estimate, shared_order(estimate, truth)), _marks(truth, truth.nodes)


def aligned_skeletons(estimate: Graph | PAG, truth: Graph | PAG) -> tuple[np.ndarray, np.ndarray]:
    """Two symmetric bool matrices (d, d) in the order of the truth's nodes."""
    order = shared_order(estimate, truth)
    return _skeleton(estimate, order), _skeleton(truth, order)


def shared_order(estimate: Graph | PAG, truth: Graph | PAG) -> tuple[str, ...]:
    """The truth's nodes.

    Raises
    ------
    ValueError
        If the graphs are not over the same names.
    TypeError
        For something that is no graph.
    """
    for graph in (estimate, truth):
        if not isinstance(graph, CausalGraph | CPDAG | PAG):
            raise TypeError(f"{type(graph).__name__} is no graph to compare: give a CausalGraph, a CPDAG or a PAG")
    for name in (*estimate.nodes, *truth.nodes):
        if name not in estimate.nodes or name not in truth.nodes:
            where = "estimate" if name in truth.nodes else "truth"
            raise ValueError(f"the {where} has no node {name!r}: graphs are compared over the same names")
    return truth.nodes


def _marks(graph: Graph, order: tuple[str, ...]) -> np.ndarray:
    positions = [graph.index(name) for name in order]
    return graph.adjacency[np.ix_(positions, positions)].astype(bool)


def _skeleton(graph: Graph | PAG, order: tuple[str, ...]) -> np.ndarray:
    if isinstance(graph, PAG):
        return np.array([[graph.mark(a, b) is not None for b in order] for a in order])
    marks = _marks(graph, order)
    return marks | marks.T
