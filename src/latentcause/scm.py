"""Structural causal models: one mechanism per node of a causal graph; sample them, also under interventions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latentcause.graph import CausalGraph
from latentcause.splines import UniformBSpline


class Mechanism(ABC):
    """How one node comes about: z_j = m_j(z_pa(j)) + sqrt(v_j) u, with u ~ N(0, 1) independent of everything else.

    This is Eq. (3.2) of Wu, von Kuegelgen and Blei with additive Gaussian noise. The mean function is what the
    final classes differ in; all of them work on float64 tensors of any device.

    Attributes
    ----------
    variance : float
        Variance v_j of the noise, in the squared units of the node.
    """

    variance: float

    @abstractmethod
    def mean(self, parents: Tensor) -> Tensor:
        """m_j of the parents' values: (..., number of parents) -> (...); columns in the graph's order of parents."""

    def mean_and_slopes(self, parents: Tensor) -> tuple[Tensor, Tensor]:
        """m_j (n,) at parents (n, p), and its derivatives (n, p) with respect to them."""
        with torch.enable_grad():
            variables = parents.detach().requires_grad_()
            mean = self.mean(variables)
            (slopes,) = torch.autograd.grad(mean.sum(), variables, allow_unused=True)
        return mean.detach(), torch.zeros_like(parents) if slopes is None else slopes

    def sample(self, parents: Tensor, generator: torch.Generator) -> Tensor:
        """One value per row of ``parents`` (n, number of parents) -> (n,)."""
        noise = torch.randn(parents.shape[0], generator=generator, dtype=parents.dtype, device=parents.device)
        return self.mean(parents) + self.variance**0.5 * noise

    def log_density(self, value: Tensor, parents: Tensor) -> Tensor:
        """log N(value; m_j(parents), v_j), in nats; shapes broadcast as in ``mean``."""
        residual = value - self.mean(parents)
        return -0.5 * (residual.square() / self.variance + np.log(2 * np.pi * self.variance))


@dataclass(frozen=True)
class LinearMechanism(Mechanism):
    """z_j = intercept + sum_k weights_k z_k + noise. With no weights it is a hard intervention N(intercept, variance).

    Parameters
    ----------
    weights : tuple of float
        One per parent, in the graph's order; a shorter tuple than there are parents is an error, except the empty one,
        which means that the node ignores its parents.
    intercept, variance : float
        In the node's units, and squared units.
    """

    weights: tuple[float, ...] = ()
    intercept: float = 0.0
    variance: float = 1.0

    def mean(self, parents: Tensor) -> Tensor:
        """Intercept + parents @ weights."""
        if not self.weights:
            return parents.new_full(parents.shape[:-1], self.intercept)
        _check_count("weights", len(self.weights), parents)
        return self.intercept + parents @ parents.new_tensor(self.weights)

    def mean_and_slopes(self, parents: Tensor) -> tuple[Tensor, Tensor]:
        """The mean, and the weights."""
        weights = parents.new_tensor(self.weights) if self.weights else parents.new_zeros(parents.shape[-1])
        return self.mean(parents), weights.expand_as(parents)


@dataclass(frozen=True)
class SplineMechanism(Mechanism):
    """z_j = intercept + sum_k spline_k(z_k) + noise: an additive model with one cubic spline per parent.

    Parameters
    ----------
    splines : tuple of UniformBSpline
        One per parent, in the graph's order.
    coefficients : tuple of tuple of float
        Those of each spline.
    intercept, variance : float
    """

    splines: tuple[UniformBSpline, ...]
    coefficients: tuple[tuple[float, ...], ...]
    intercept: float = 0.0
    variance: float = 1.0

    def mean(self, parents: Tensor) -> Tensor:
        """Intercept + sum_k B_k(z_k)' coefficients_k."""
        _check_count("splines", len(self.splines), parents)
        total = parents.new_full(parents.shape[:-1], self.intercept)
        for k, (spline, coefficients) in enumerate(zip(self.splines, self.coefficients, strict=True)):
            first, values, _ = spline.local(parents[..., k])
            near = parents.new_tensor(coefficients)[first[..., None] + torch.arange(4, device=parents.device)]
            total = total + (values * near).sum(-1)
        return total

    def mean_and_slopes(self, parents: Tensor) -> tuple[Tensor, Tensor]:
        """The mean, and the splines' own derivatives."""
        mean, slopes = parents.new_full(parents.shape[:-1], self.intercept), torch.empty_like(parents)
        for k, (spline, coefficients) in enumerate(zip(self.splines, self.coefficients, strict=True)):
            first, values, derivatives = spline.local(parents[..., k])
            near = parents.new_tensor(coefficients)[first[..., None] + torch.arange(4, device=parents.device)]
            mean = mean + (values * near).sum(-1)
            slopes[..., k] = (derivatives * near).sum(-1)
        return mean, slopes


@dataclass(frozen=True)
class FunctionMechanism(Mechanism):
    """z_j = function(parents) + noise, for a mean function given as code (so it cannot be saved to a file).

    ``function`` takes a tensor (..., number of parents) and returns (...).
    """

    function: Callable[[Tensor], Tensor] = field(repr=False)
    variance: float = 1.0

    def mean(self, parents: Tensor) -> Tensor:
        """``function(parents)``."""
        return self.function(parents)


Intervention = float | np.ndarray | Mechanism


class StructuralCausalModel:
    """A causal graph with a mechanism at every node.

    z_j = m_j(z_pa(j)) + noise_j for all nodes j, noises independent (paper Eq. 3.2).

    Parameters
    ----------
    graph : CausalGraph
    mechanisms : mapping from node to Mechanism
        One for every node of the graph.

    Raises
    ------
    ValueError
        If a node has no mechanism, or a mechanism belongs to no node.
    """

    def __init__(self, graph: CausalGraph, mechanisms: Mapping[str, Mechanism]) -> None:
        missing = [node for node in graph.nodes if node not in mechanisms]
        if missing:
            raise ValueError(f"no mechanism for node {missing[0]!r}: give one for each of {list(graph.nodes)}")
        _refuse_unknown(graph, mechanisms, "a mechanism is given for")
        self.graph = graph
        self.mechanisms = {node: mechanisms[node] for node in graph.nodes}

    def __repr__(self) -> str:
        kinds = sorted({type(m).__name__ for m in self.mechanisms.values()})
        return f"StructuralCausalModel({self.graph}; {', '.join(kinds)})"

    def replace(self, mechanisms: Mapping[str, Mechanism]) -> StructuralCausalModel:
        """The model after an intervention that puts these mechanisms in place of its own (paper Definition 3.4)."""
        _refuse_unknown(self.graph, mechanisms, "a mechanism is given for")
        return StructuralCausalModel(self.graph, {**self.mechanisms, **mechanisms})

    def sample(
        self, n: int, do: Mapping[str, Intervention] | None = None, *, generator: torch.Generator | int
    ) -> np.ndarray:
        """Draw n independent rows (n, number of nodes), columns in ``graph.nodes`` order.

        Parameters
        ----------
        n : int
        do : mapping from node to intervention, optional
            A number or an array of n numbers fixes the node (hard intervention); a `Mechanism` replaces the node's own
            (stochastic or soft intervention).
        generator : torch.Generator or int
            Source of randomness, or a seed. Each node draws from its own stream, so a do() on one node leaves the
            noise of all others as it was.

        Raises
        ------
        ValueError
            If ``do`` names an unknown node or an array of another length than n.
        """
        do = dict(do or {})
        _refuse_unknown(self.graph, do, "do() names")
        streams = _node_streams(generator, len(self.graph.nodes))
        values = torch.zeros(n, len(self.graph.nodes), dtype=torch.float64)
        for node in self.graph.topological_order:
            j = self.graph.index(node)
            parents = values[:, [self.graph.index(p) for p in self.graph.parents(node)]]
            action = do.get(node, self.mechanisms[node])
            if isinstance(action, Mechanism):
                values[:, j] = action.sample(parents, streams[j])
            else:
                values[:, j] = _fixed_values(node, action, n)
        return values.numpy()


def _check_count(what: str, count: int, parents: Tensor) -> None:
    if count != parents.shape[-1]:
        raise ValueError(
            f"a mechanism with {count} {what} on a node with {parents.shape[-1]} parents: give one per parent"
        )


def _refuse_unknown(graph: CausalGraph, named: Mapping[str, Any], what: str) -> None:
    unknown = [node for node in named if node not in graph.nodes]
    if unknown:
        raise ValueError(f"{what} {unknown[0]!r}, which is not a node of the graph: its nodes are {list(graph.nodes)}")


def _node_streams(generator: torch.Generator | int, count: int) -> list[torch.Generator]:
    if not isinstance(generator, torch.Generator):
        generator = torch.Generator().manual_seed(int(generator))
    seeds = torch.randint(0, 2**62, (count,), generator=generator)
    return [torch.Generator().manual_seed(int(seed)) for seed in seeds]


def _fixed_values(node: str, action: float | np.ndarray, n: int) -> Tensor:
    value = torch.as_tensor(np.asarray(action, dtype=float))
    if value.ndim > 1 or (value.ndim == 1 and len(value) != n):
        raise ValueError(f"do({node}) has shape {tuple(value.shape)}: give one number, or one for each of the {n} rows")
    if not torch.isfinite(value).all():
        raise ValueError(f"do({node}) is not finite: give a number")
    return value.expand(n)
