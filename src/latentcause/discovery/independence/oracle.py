"""The test that knows the graph."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from latentcause.discovery.independence.base import IndependenceTest
from latentcause.graph import CausalGraph


class DSeparation(IndependenceTest):
    """p-value 1 where the condition d-separates x and y in ``graph``, else 0: what tests say of endless data.

    Parameters
    ----------
    graph : CausalGraph
    latent : iterable of str
        Nodes that nobody measures: they are left out of ``nodes``.
    """

    def __init__(self, graph: CausalGraph, latent: Iterable[str] = ()) -> None:
        hidden = set(latent)
        self.graph = graph
        self.nodes = tuple(node for node in graph.nodes if node not in hidden)
        self._parents = graph.adjacency.T.astype(bool)
        self._columns = np.array([graph.index(node) for node in self.nodes])

    def p_values(self, x: np.ndarray, y: np.ndarray, given: np.ndarray) -> np.ndarray:
        """1.0 or 0.0 for each test."""
        x, y, given = self._columns[x], self._columns[y], self._columns[given]
        return np.array([self._separated(*test) for test in zip(x, y, given, strict=True)], dtype=np.float64)

    def _separated(self, x: int, y: int, given: np.ndarray) -> bool:
        """No path from x to y in the moral graph of the ancestors of all, less the condition (Lauritzen et al. 1990)."""
        d = len(self._parents)
        inside = np.zeros(d, dtype=bool)
        inside[[x, y, *given]] = True
        while not np.array_equal(grown := inside | self._parents[inside].any(axis=0), inside):
            inside = grown
        family = (self._parents | np.eye(d, dtype=bool))[inside]  # each node with its parents: all joined when moral
        open_ = np.ones(d, dtype=bool)
        open_[given] = False
        reached = np.zeros(d, dtype=bool)
        reached[x] = True
        while not reached[y]:
            touched = (family[:, reached]).any(axis=1)
            grown = reached | (family[touched].any(axis=0) & open_)
            if np.array_equal(grown, reached):
                return True
            reached = grown
        return False
