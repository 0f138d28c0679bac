"""Effects in linear models in closed form, also for many refits at once."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from latentcause.data.variables import Variables
from latentcause.graph import CausalGraph
from latentcause.scm.fitting.linear import COLLINEAR
from latentcause.scm.interventions import Action, Shift
from latentcause.scm.mechanisms import LinearMechanism, Mechanism

BLOCK = 4_000_000
"""Counts of rows held at a time while resampling."""


class Line(NamedTuple):
    """E[z_j | parents] = intercept + sum_k weights_k parent_k; of one fit, or of R fits at once.

    Attributes
    ----------
    intercept : ndarray () or (R,)
    weights : ndarray (p,) or (p, R)
        Rows follow the graph's order of parents.
    """

    intercept: np.ndarray
    weights: np.ndarray


def lines_of(graph: CausalGraph, mechanisms: Mapping[str, Mechanism], nodes: Collection[str]) -> dict[str, Line]:
    """The lines of those of the nodes that have a linear mechanism."""
    return {
        node: _line(mechanism, len(graph.parents(node)))
        for node in nodes
        if isinstance(mechanism := mechanisms[node], LinearMechanism)
    }


def difference(
    graph: CausalGraph,
    outcome: str,
    lines: Mapping[str, Line],
    do: Mapping[str, Action],
    versus: Mapping[str, Action],
    rows: Tensor | None,
) -> np.ndarray | None:
    """E[outcome | do] - E[outcome | versus], () or (R,), or None where that takes the mean of a node without a line.

    With factual rows (number of nodes, n), it is the mean over them of the difference of the outcome's counterfactuals.
    """
    try:
        return _Comparison(graph, lines, (dict(do), dict(versus)), rows).difference(outcome)
    except _NotLinearError:
        return None


class _NotLinearError(Exception):
    """A mean is needed that no line gives."""


class _Comparison:
    """Means of nodes in two arms, and their differences, which need less: what both arms share cancels."""

    def __init__(
        self,
        graph: CausalGraph,
        lines: Mapping[str, Line],
        arms: tuple[dict[str, Action], dict[str, Action]],
        rows: Tensor | None,
    ) -> None:
        self.graph, self.lines, self.arms = graph, lines, arms
        self.factual = None if rows is None else rows.mean(1).numpy()
        self.means: dict[tuple[str, int], np.ndarray] = {}
        self.differences: dict[str, np.ndarray] = {}

    def difference(self, node: str) -> np.ndarray:
        if node not in self.differences:
            self.differences[node] = self._difference(node)
        return self.differences[node]

    def mean(self, node: str, arm: int) -> np.ndarray:
        if (node, arm) not in self.means:
            self.means[node, arm] = self._mean(node, arm)
        return self.means[node, arm]

    def _difference(self, node: str) -> np.ndarray:
        first, second = (arm.get(node) for arm in self.arms)
        own = [action is None or isinstance(action, Shift) for action in (first, second)]
        if all(own):
            changes = [self.difference(parent) for parent in self.graph.parents(node)]
            return self._through(node, changes) + _amount(first) - _amount(second)
        return self.mean(node, 0) - self.mean(node, 1)

    def _mean(self, node: str, arm: int) -> np.ndarray:
        action, parents = self.arms[arm].get(node), self.graph.parents(node)
        if isinstance(action, Tensor):
            return action.mean().numpy()
        if isinstance(action, Mechanism):
            if self.factual is not None:
                raise _NotLinearError
            line = _line(action, len(parents)) if isinstance(action, LinearMechanism) else None
            return self._at(line, [self.mean(parent, arm) for parent in parents])
        if self.factual is None:
            return self._at(self._line(node), [self.mean(parent, arm) for parent in parents]) + _amount(action)
        changes = [self.mean(parent, arm) - self.factual[self.graph.index(parent)] for parent in parents]
        return self.factual[self.graph.index(node)] + self._through(node, changes) + _amount(action)

    def _through(self, node: str, changes: Sequence[np.ndarray]) -> np.ndarray:
        """What changes of the parents do to the node; without any, its line does not matter."""
        return self._weighted(self._line(node), changes) if any(np.any(c) for c in changes) else np.zeros(())

    def _line(self, node: str) -> Line:
        if node not in self.lines:
            raise _NotLinearError
        return self.lines[node]

    def _at(self, line: Line | None, means: Sequence[np.ndarray]) -> np.ndarray:
        if line is None:
            raise _NotLinearError
        return line.intercept + self._weighted(line, means)

    @staticmethod
    def _weighted(line: Line, values: Sequence[np.ndarray]) -> np.ndarray:
        return sum((weight * value for weight, value in zip(line.weights, values, strict=True)), np.zeros(()))


def _line(mechanism: LinearMechanism, n_parents: int) -> Line:
    return Line(np.array(mechanism.intercept + mechanism.noise.mean), np.array(mechanism.weights_for(n_parents)))


def _amount(action: Action | None) -> np.ndarray:
    return action.amount.mean().numpy() if isinstance(action, Shift) else np.zeros(())


# --- resampling ------------------------------------------------------------------------------------------------------


def resampled_lines(
    graph: CausalGraph, data: Variables, nodes: Collection[str], resamples: int, rng: np.random.Generator
) -> dict[str, Line]:
    """Least-squares lines of these nodes on R resamples of the rows, by their Gram matrices; no loop over resamples.

    Lines of resamples whose parents are collinear are not numbers.
    """
    involved = sorted({*nodes, *(parent for node in nodes for parent in graph.parents(node))}, key=graph.index)
    position = {node: k for k, node in enumerate(involved)}
    values = np.stack([data.column(node) for node in involved], axis=1) if involved else np.empty((len(data), 0))
    centre, spread = values.mean(axis=0), values.std(axis=0)
    means, covariances = _resampled_moments((values - centre) / spread, resamples, rng)
    lines = {}
    for node in nodes:
        own, parents = position[node], [position[parent] for parent in graph.parents(node)]
        weights = _batched_weights(covariances[:, parents][:, :, parents], covariances[:, parents, own])
        intercept = means[:, own] - np.einsum("rp,rp->r", means[:, parents], weights)
        weights = weights * (spread[own] / spread[parents])
        lines[node] = Line(centre[own] + spread[own] * intercept - weights @ centre[parents], weights.T)
    return lines


def _resampled_moments(values: np.ndarray, resamples: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Means (R, q) and covariances (R, q, q) of resampled rows of values (n, q)."""
    n, q = values.shape
    upper = np.triu_indices(q)
    products = np.column_stack([values, values[:, upper[0]] * values[:, upper[1]]])
    sums = np.empty((resamples, products.shape[1]))
    step = max(1, BLOCK // n)
    for first in range(0, resamples, step):
        many = min(step, resamples - first)
        chosen = rng.integers(n, size=(many, n)) + n * np.arange(many)[:, None]
        counts = np.bincount(chosen.reshape(-1), minlength=many * n).reshape(many, n)
        sums[first : first + many] = counts.astype(np.float64) @ products
    means, second = sums[:, :q] / n, np.empty((resamples, q, q))
    second[:, upper[0], upper[1]] = second[:, upper[1], upper[0]] = sums[:, q:] / n
    return means, second - means[:, :, None] * means[:, None, :]


def _batched_weights(gram: np.ndarray, cross: np.ndarray) -> np.ndarray:
    """Weights (R, p) that solve gram (R, p, p) weights = cross (R, p); not numbers where gram is singular."""
    if not gram.shape[1]:
        return np.empty(cross.shape)
    variances = np.diagonal(gram, axis1=1, axis2=2)  # about 1, as columns are standardised before resampling
    constant = (variances < 1e-12).any(axis=1)
    scale = np.sqrt(np.where(variances < 1e-12, 1.0, variances))
    correlation = gram / (scale[:, :, None] * scale[:, None, :])
    singular = constant | (np.linalg.eigvalsh(correlation)[:, 0] < COLLINEAR)
    correlation[singular] = np.eye(gram.shape[1])
    weights = np.linalg.solve(correlation, (cross / scale)[..., None])[..., 0] / scale
    weights[singular] = np.nan
    return weights
