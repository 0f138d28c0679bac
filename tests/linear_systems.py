"""Random linear Gaussian systems under interventions, for tests of discovery."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from latentcause.discovery.invariance import DomainMoments
from latentcause.graph import CausalGraph

Kind = Literal["soft", "hard", "shift", "variance"]


@dataclass(frozen=True)
class LinearSystem:
    """z = B z + c + e, with independent e_j ~ N(0, v_j)."""

    graph: CausalGraph
    weights: np.ndarray
    intercepts: np.ndarray
    variances: np.ndarray

    @classmethod
    def draw(cls, graph: CausalGraph, rng: np.random.Generator) -> LinearSystem:
        size = graph.adjacency.T.shape
        weights = graph.adjacency.T * rng.uniform(0.5, 1.5, size) * rng.choice([-1, 1], size)
        return cls(graph, weights, np.zeros(len(graph)), rng.uniform(0.5, 1.5, len(graph)))

    def under(self, targets: Sequence[str], kind: Kind, rng: np.random.Generator) -> LinearSystem:
        B, c, v = self.weights.copy(), self.intercepts.copy(), self.variances.copy()
        for t in map(self.graph.index, targets):
            if kind == "hard":
                B[t], c[t], v[t] = 0, rng.choice([-1, 1]) * rng.uniform(1, 2), rng.uniform(0.3, 1)
            elif kind == "soft":
                B[t] *= rng.uniform(0, 0.5)
                v[t] *= rng.choice([0.4, 2.5])
            elif kind == "shift":
                c[t] += 1
            else:
                v[t] /= 4
        return LinearSystem(self.graph, B, c, v)

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and covariance of the population."""
        total = np.linalg.inv(np.eye(len(self.graph)) - self.weights)
        return total @ self.intercepts, total * self.variances @ total.T

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        noise = self.intercepts + np.sqrt(self.variances) * rng.standard_normal((n, len(self.graph)))
        return noise @ np.linalg.inv(np.eye(len(self.graph)) - self.weights).T


def population(systems: Sequence[LinearSystem], count: int = 10**9) -> DomainMoments:
    """Moments of domains so large that they are those of the population."""
    mean, covariance = (np.array(part) for part in zip(*(system.moments() for system in systems), strict=True))
    return DomainMoments(systems[0].graph.nodes, np.full(len(systems), count), mean, covariance * count)


def random_graph(n: int, degree: float, rng: np.random.Generator) -> CausalGraph:
    """A random DAG whose order of nodes is not causal."""
    upper = np.triu(rng.random((n, n)) < min(1.0, degree / (n - 1)), 1)
    order = rng.permutation(n)
    return CausalGraph.from_adjacency(upper[np.ix_(order, order)].astype(int))


def distance(found: np.ndarray, true: np.ndarray) -> int:
    """Pairs of nodes whose edges differ."""
    differs = (found != true) | (found.T != true.T)
    return int(np.triu(differs).sum())
