"""The prior of g-modeling: baseline and intervened mechanisms of every node, refitted from posterior statistics."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latentcause.graph import CausalGraph
from latentcause.inference.tree import Grid, TreePosterior
from latentcause.scm import AdditiveMechanism, LinearMechanism, SplineMechanism, StructuralCausalModel
from latentcause.splines import UniformBSpline

BASELINE, INTERVENED = 0, 1

VARIANCE_FLOOR = 1e-2
"""Smallest noise variance of a mechanism, as a share of the measurement noise: below it the data cannot tell."""


@dataclass
class Regression:
    """Expected sufficient statistics of one mechanism's regression: features F of the parents, and the node's value z.

    All are sums over samples of posterior expectations: ``gram`` E[F F'] (m, m), ``cross`` E[F z] (m,), ``square`` E[z^2],
    ``count`` the number of samples.
    """

    gram: Tensor
    cross: Tensor
    square: float = 0.0
    count: float = 0.0

    def add(self, features: Tensor, weights: Tensor, targets: Tensor, square: float) -> None:
        """Add rows with features (k, m), weights (k,) and the weighted sums of their targets (k,)."""
        self.gram += (features.T @ (features * weights[:, None])).to(self.gram)
        self.cross += (features.T @ targets).to(self.cross)
        self.square += square
        self.count += float(weights.sum())


@dataclass
class FittedMechanism:
    """Coefficients, noise variance and smoothing of one additive mechanism; ``parents`` is empty where it ignores them."""

    parents: tuple[int, ...]
    coefficients: Tensor
    variance: float
    smoothing: list[float] = field(default_factory=list)


class StructuralPrior:
    """p(z | a) = prod_j N(z_j; m_{j,a_j}(z_pa(j)), v_{j,a_j}): Eq. (6.2) of the paper with additive Gaussian mechanisms.

    Every m_{j,a} is an intercept plus one function per parent: linear, or a cubic P-spline whose smoothing is found with the
    coefficients by the Fellner-Schall update (Wood and Fasiolo 2017, Eq. 3), a step of the same empirical Bayes.

    Parameters
    ----------
    graph : CausalGraph
    splines : list of UniformBSpline or None
        The basis on each node's axis; None for linear mechanisms.
    hard : bool
        Whether intervened mechanisms ignore the parents.
    variance_floor : Tensor (d,)
        Smallest noise variance of each node.
    """

    def __init__(
        self, graph: CausalGraph, splines: list[UniformBSpline] | None, *, hard: bool, variance_floor: Tensor
    ) -> None:
        self.graph = graph
        self.splines = splines
        self.hard = hard
        self.variance_floor = variance_floor
        self.parents = [tuple(graph.index(p) for p in graph.parents(node)) for node in graph.nodes]
        self.mechanisms: list[list[FittedMechanism | None]] = [[None, None] for _ in graph.nodes]

    def scm(self, targeted: np.ndarray) -> StructuralCausalModel:
        """The structural causal model of a domain that targets these nodes (bool, (d,))."""
        return StructuralCausalModel(
            self.graph, {node: self.mechanism(j, int(targeted[j])) for j, node in enumerate(self.graph.nodes)}
        )

    def mechanism(self, j: int, state: int) -> AdditiveMechanism:
        """The current mechanism of node j, in the public form."""
        fitted = self.mechanisms[j][state]
        if fitted is None:  # never seen in the data: the other state is the best guess there is
            fitted = self.mechanisms[j][1 - state]
        assert fitted is not None
        intercept, *rest = fitted.coefficients.tolist()
        if self.splines is None or not fitted.parents:
            return LinearMechanism(tuple(rest), intercept, fitted.variance)
        splines = tuple(self.splines[p] for p in fitted.parents)
        ends = np.cumsum([0] + [s.count for s in splines])
        pieces = tuple(tuple(rest[a:b]) for a, b in pairwise(ends))
        return SplineMechanism(splines, pieces, intercept, fitted.variance)

    def start_from(self, u: Tensor, domain: Tensor, indicator: np.ndarray, noise: Tensor) -> None:
        """First mechanisms: regressions of the noisy u (n, d) on each other, the noise (d,) taken off their variances."""
        statistics = self.empty_statistics()
        self.add_rows(statistics, u, rows_of_states(domain, indicator))
        self.maximise(statistics)
        for j, row in enumerate(self.mechanisms):
            for fitted in row:
                if fitted is not None:
                    fitted.variance = max(fitted.variance - float(noise[j]), 0.1 * float(noise[j]))

    # --- expected statistics -----------------------------------------------------------------------------------------

    def empty_statistics(self) -> list[list[Regression]]:
        """A `Regression` of zeros for every node and state."""
        sizes = [[self._features_of(j, state) for state in (BASELINE, INTERVENED)] for j in range(len(self.graph))]
        return [
            [Regression(torch.zeros(m, m, dtype=torch.float64), torch.zeros(m, dtype=torch.float64)) for m in row]
            for row in sizes
        ]

    def add_tables(
        self, statistics: list[list[Regression]], posterior: TreePosterior, grid: Grid, targeted: np.ndarray
    ) -> None:
        """Add the exact posteriors of one domain, given as tables on the grid."""
        for j, points in enumerate(grid.points):
            regression = statistics[j][int(targeted[j])]
            marginal, table = posterior.node_tables[j], posterior.edge_tables[j]
            square = float(marginal @ points.square())
            if table is None or not self._active_parents(j, int(targeted[j])):
                total = marginal.sum()
                regression.add(marginal.new_ones(1, 1), total[None], (marginal @ points)[None], square)
            else:
                parent = self.parents[j][0]
                features = self.features(j, grid.points[parent][:, None])
                regression.add(features, table.sum(1), table @ points, square)

    def add_rows(self, statistics: list[list[Regression]], z: Tensor, rows: list[list[Tensor]]) -> None:
        """Add one draw z (n, d) of every sample; ``rows`` as `rows_of_states` gives them."""
        for j, by_state in enumerate(rows):
            for state, chosen in enumerate(by_state):
                parents, here = self._active_parents(j, state), z[chosen]
                features = self.features(j, here[:, parents]) if parents else z.new_ones(len(here), 1)
                value = here[:, j]
                statistics[j][state].add(features, torch.ones_like(value), value, float(value.square().sum()))

    def features(self, j: int, parents: Tensor) -> Tensor:
        """[1, functions of every parent] at parents (k, p) -> (k, m)."""
        ones = parents.new_ones(len(parents), 1)
        if self.splines is None:
            return torch.cat([ones, parents], 1)
        return torch.cat([ones, *(self.splines[p].design(parents[:, k]) for k, p in enumerate(self.parents[j]))], 1)

    def _active_parents(self, j: int, state: int) -> list[int]:
        return [] if state == INTERVENED and self.hard else list(self.parents[j])

    def _features_of(self, j: int, state: int) -> int:
        parents = self._active_parents(j, state)
        return 1 + (len(parents) if self.splines is None else sum(self.splines[p].count for p in parents))

    # --- as one vector, for acceleration -----------------------------------------------------------------------------

    def pack(self) -> np.ndarray:
        """Coefficients and log variances as one vector. Smoothings stay out: they wander by orders of magnitude at no effect."""
        parts = []
        for fitted in self._learned():
            parts += [fitted.coefficients.numpy(), np.log([fitted.variance])]
        return np.concatenate(parts)

    def unpack(self, vector: np.ndarray) -> None:
        """Set coefficients and variances from a vector that `pack` could have made."""
        start = 0
        for j, row in enumerate(self.mechanisms):
            for fitted in row:
                if fitted is not None:
                    end = start + len(fitted.coefficients)
                    fitted.coefficients = torch.from_numpy(vector[start:end].copy())
                    fitted.variance = max(float(np.exp(min(vector[end], 50.0))), float(self.variance_floor[j]))
                    start = end + 1

    def _learned(self) -> list[FittedMechanism]:
        return [fitted for row in self.mechanisms for fitted in row if fitted is not None]

    # --- maximisation ------------------------------------------------------------------------------------------------

    def maximise(self, statistics: list[list[Regression]], *, smooth: bool = True) -> None:
        """Refit every mechanism by penalised least squares on its expected statistics (the M-step).

        With ``smooth`` the smoothing parameters are updated too; without, the map from one iterate to the next stays the same
        from call to call, which acceleration needs.
        """
        for j, row in enumerate(statistics):
            for state, regression in enumerate(row):
                if regression.count > 0:
                    self.mechanisms[j][state] = self._refit(j, state, regression, smooth)

    def _refit(self, j: int, state: int, r: Regression, smooth: bool) -> FittedMechanism:
        parents = tuple(self._active_parents(j, state))
        old = self.mechanisms[j][state]
        variance = old.variance if old is not None else float(r.square / r.count)
        penalties = self._penalties(parents)
        smoothing = list(old.smoothing) if old is not None else [variance] * len(penalties)
        # A hair of ridge fixes the constant that the intercept and every spline share.
        ridge = 1e-8 * r.count * torch.eye(len(r.cross), dtype=r.cross.dtype)
        roughness = sum((s * p for s, p in zip(smoothing, penalties, strict=True)), torch.zeros_like(r.gram))
        inverse = torch.linalg.inv(r.gram + ridge + roughness)
        coefficients = inverse @ r.cross
        residual = r.square - 2 * coefficients @ r.cross + coefficients @ r.gram @ coefficients
        variance = max(float(residual) / r.count, float(self.variance_floor[j]))
        for k, penalty in enumerate(penalties if smooth else []):
            # P-spline penalties overlap only in the ridge's null space, so tr(S_lambda^- S_k) = rank(S_k) / lambda_k.
            rank = self.splines[parents[k]].count - 2 if self.splines is not None else 0
            free = rank / smoothing[k] - float((inverse * penalty).sum())
            rough = float(coefficients @ penalty @ coefficients)
            # Between practically unpenalised and practically a straight line; past that the update is rounding error.
            unit = float(r.gram.diagonal().mean())
            wanted = variance * smoothing[k] * free / max(rough, 1e-12)
            smoothing[k] = float(np.clip(wanted, 1e-6 * unit, 1e4 * unit)) if free > 0 else 1e4 * unit
        return FittedMechanism(parents, coefficients, variance, smoothing)

    def _penalties(self, parents: tuple[int, ...]) -> list[Tensor]:
        if self.splines is None:
            return []
        sizes = [self.splines[p].count for p in parents]
        total = 1 + sum(sizes)
        penalties = []
        for k, p in enumerate(parents):
            start = 1 + sum(sizes[:k])
            penalty = torch.zeros(total, total, dtype=torch.float64)
            penalty[start : start + sizes[k], start : start + sizes[k]] = self.splines[p].roughness()
            penalties.append(penalty)
        return penalties

    # --- to and from files -------------------------------------------------------------------------------------------

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Arrays and JSON values from which `from_state` makes the same prior."""
        arrays = {"variance_floor": self.variance_floor.numpy()}
        learned = []
        for j, row in enumerate(self.mechanisms):
            for state, fitted in enumerate(row):
                if fitted is not None:
                    arrays[f"mechanism.{j}.{state}"] = fitted.coefficients.numpy()
                    learned.append([j, state, list(fitted.parents), fitted.variance, fitted.smoothing])
        splines = None if self.splines is None else [[s.low, s.high, s.count] for s in self.splines]
        return arrays, {"hard": self.hard, "splines": splines, "learned": learned}

    @classmethod
    def from_state(cls, graph: CausalGraph, arrays: dict[str, np.ndarray], values: dict[str, Any]) -> StructuralPrior:
        """The prior that `state` described."""
        stored = values["splines"]
        splines = None if stored is None else [UniformBSpline(low, high, int(count)) for low, high, count in stored]
        floor = torch.from_numpy(arrays["variance_floor"].copy())
        prior = cls(graph, splines, hard=bool(values["hard"]), variance_floor=floor)
        for j, state, parents, variance, smoothing in values["learned"]:
            coefficients = torch.from_numpy(arrays[f"mechanism.{j}.{state}"].copy())
            prior.mechanisms[j][state] = FittedMechanism(tuple(parents), coefficients, variance, smoothing)
        return prior


def rows_of_states(domain: Tensor, indicator: np.ndarray) -> list[list[Tensor]]:
    """For every node, the rows whose domain leaves it alone, and those whose domain targets it."""
    flags = torch.from_numpy(indicator).to(domain.device)[domain]
    return [[(~column).nonzero()[:, 0], column.nonzero()[:, 0]] for column in flags.T]
