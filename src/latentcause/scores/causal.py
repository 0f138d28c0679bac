"""Which variables, and whose intervention flags, a node's score may see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from latentcause.graph import CausalGraph

Visibility = Literal["blanket", "parents", "full", "empty"]


@dataclass(frozen=True)
class NodeView:
    """The inputs of one node's score: columns (the node itself first), and the nodes whose intervention flags it knows."""

    columns: tuple[int, ...]
    flags: tuple[int, ...]

    def states(self, indicator: np.ndarray) -> np.ndarray:
        """Number of the flag pattern in force in each domain (n_domains,); ``indicator`` is bool (n_domains, d)."""
        return np.unique(indicator[:, list(self.flags)], axis=0, return_inverse=True)[1].reshape(-1)


def node_views(graph: CausalGraph, visibility: Visibility) -> list[NodeView]:
    """What each node's score sees, in ``graph.nodes`` order.

    ``parents`` is Eq. (5.2) of Wu, von Kuegelgen and Blei, s_j(y_j, y_pa(j), a_j); ``empty`` and ``full`` are the same for the
    graph without arrows and for the complete DAG of the causal order. ``blanket``, the default of the models, is what the
    score of the latents themselves depends on, Eq. (5.1): s_j(y_j, y_pa, y_ch, y_copa; a_j, a_ch). It departs from the paper,
    whose choice stays biased for every node with children.

    Raises
    ------
    ValueError
        For an unknown ``visibility``.
    """
    if visibility not in get_args(Visibility):
        raise ValueError(f"unknown score {visibility!r}: choose one of {list(get_args(Visibility))}")
    views = []
    for j, node in enumerate(graph.nodes):
        if visibility == "blanket":
            seen, flags = graph.markov_blanket(node), graph.children(node)
        elif visibility == "parents":
            seen, flags = graph.parents(node), ()
        elif visibility == "full":
            seen, flags = graph.complete().parents(node), ()
        else:
            seen, flags = (), ()
        views.append(NodeView((j, *map(graph.index, seen)), (j, *map(graph.index, flags))))
    return views
