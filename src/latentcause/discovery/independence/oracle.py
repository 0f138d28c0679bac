"""The test that knows the graph."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from latentcause.discovery.independence.base import IndependenceTest
from latentcause.graph import CausalGraph

BATCH = 20_000  # tests whose reachable nodes are held at once


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
        self._above = graph.adjacency.T.astype(np.float32)  # [j, i]: i is a parent of j
        self._family = self._above + np.eye(len(graph), dtype=np.float32)
        self._columns = np.array([graph.index(node) for node in self.nodes])

    def p_values(self, x: np.ndarray, y: np.ndarray, given: np.ndarray) -> np.ndarray:
        """1.0 or 0.0 for each test."""
        x, y, given = self._columns[x], self._columns[y], self._columns[given]
        parts = [slice(start, start + BATCH) for start in range(0, len(x), BATCH)]
        return np.concatenate([self._separated(x[p], y[p], given[p]) for p in parts] or [np.empty(0)])

    def _separated(self, x: np.ndarray, y: np.ndarray, given: np.ndarray) -> np.ndarray:
        """1 where no path joins x and y in the moral graph of the ancestors of all, less the condition.

        Lauritzen, Dawid, Larsen and Leimer 1990, Proposition 3. In the moral graph a node and its parents are all joined,
        so a step goes from the nodes reached to every family that holds one of them, and on to all of that family.
        """
        tests = np.arange(len(x))
        relevant = np.zeros((len(x), len(self._family)), dtype=bool)
        relevant[tests, x] = relevant[tests, y] = relevant[tests[:, None], given] = True
        relevant = _grown(relevant, lambda found: found @ self._above > 0)
        passable = relevant.copy()
        passable[tests[:, None], given] = False
        start = np.zeros_like(relevant)
        start[tests, x] = True

        def step(reached: np.ndarray) -> np.ndarray:
            families = (reached @ self._family.T > 0) & relevant
            return (families.astype(np.float32) @ self._family > 0) & passable

        return (~_grown(start, step)[tests, y]).astype(np.float64)


def _grown(found: np.ndarray, step: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    while not np.array_equal(grown := found | step(found.astype(np.float32)), found):
        found = grown
    return found
