"""Simulated causal systems of fields with sensors on them, to judge posteriors by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from latentcause.data.gridded_observations import GriddedObservations
from latentcause.fields import (
    FieldNoise,
    GammaNoise,
    GaussianFields,
    Matern,
    SkewNormalNoise,
    StructuralFields,
    StudentNoise,
    White,
)
from latentcause.graph import CausalGraph
from latentcause.observation import GaussianError, Likelihood, Operator, block_mean, identity

Sensors = Mapping[str, Sequence[tuple[Operator, Likelihood]]]
"""For each observed node, what sees it and how noisily."""

NoiseFamily = Literal["gaussian", "student", "skew_normal", "gamma"]


@dataclass(frozen=True, eq=False)
class FieldSystem:
    """Fields whose distribution is known, and scenarios of how they are observed.

    Attributes
    ----------
    fields : GaussianFields or StructuralFields
    scenarios : mapping from name to sensors
        Each maps observed nodes to their (operator, noise) pairs.
    """

    fields: GaussianFields | StructuralFields
    scenarios: Mapping[str, Sensors]

    @property
    def graph(self) -> CausalGraph:
        """That of the fields."""
        return self.fields.graph

    def observe(self, scenario: str, generator: torch.Generator) -> tuple[Tensor, GriddedObservations]:
        """One draw of the fields (d, *shape), and what the sensors of a scenario say of it.

        Raises
        ------
        ValueError
            For an unknown scenario.
        """
        if scenario not in self.scenarios:
            raise ValueError(f"unknown scenario {scenario!r}: choose one of {', '.join(self.scenarios)}")
        z = self.fields.sample(1, generator)[0]
        return z, GriddedObservations.simulate(self.graph, z, self.scenarios[scenario], generator)


def three_fields(shape: tuple[int, ...] = (32,), noise: float = 0.2) -> FieldSystem:
    """The linear-Gaussian system z1 -> z2 -> z3 <- z1, whose posterior is known in closed form.

    z2 = 0.8 z1 + e2 and z3 = 0.5 z1 + 0.7 z2 + e3, with Matern-3/2 noises of lengths 6, 3, 2 pixels and variances 1, 0.5, 0.4.
    The sensors are block means with Gaussian noise; blocks of z1, z2, z3 measure

    - ``VFO`` (varying resolution): 1, 4, 8 pixels;
    - ``LFO`` (low resolution): 4, 8, 8;
    - ``LPO`` (low resolution, partial): 8, 8, 4, and of each node's blocks every third is missing;
    - ``child``: only z3 is observed, pixel by pixel.

    Parameters
    ----------
    shape : tuple of int
        (n,) or (h, w), each at least 16.
    noise : float
        Standard deviation of every sensor.

    Raises
    ------
    ValueError
        For a smaller shape, or noise that is not positive.
    """
    weights = {("z1", "z2"): 0.8, ("z1", "z3"): 0.5, ("z2", "z3"): 0.7}
    return FieldSystem(GaussianFields(_THREE, weights, _KERNELS, shape), _block_sensors(shape, noise))


def nonlinear_three(shape: tuple[int, ...] = (32,), noise: float = 0.2) -> FieldSystem:
    """`three_fields` with a saturating and a product mechanism: z2 = 1.5 tanh(z1) + e2, z3 = 0.5 z1 + 0.5 z1 z2 + e3.

    Noises, sensors and parameters are those of `three_fields`. Where only z3 is observed, posteriors have several modes.
    """
    mechanisms: dict[str, Callable[..., Tensor]] = {
        "z2": lambda z1: 1.5 * torch.tanh(z1),
        "z3": lambda z1, z2: 0.5 * z1 + 0.5 * z1 * z2,
    }
    return FieldSystem(StructuralFields(_THREE, mechanisms, _KERNELS, shape), _block_sensors(shape, noise))


def random_field_system(
    n_nodes: int, edges: int, noise: NoiseFamily = "gaussian", *, sites: int = 1, seed: int
) -> FieldSystem:
    """A random linear system of vectors of independent sites, in which every node has mean 0 and variance 1.

    ``edges`` pairs drawn from all pairs of a random order. The share of a node's variance that its parents explain is uniform
    on [0.4, 0.8]; before that scaling weights are uniform on [0.5, 1], with random signs. The nodes z1, z2, ... stand in an
    order that tells nothing of the causal one. Scenarios, by sensors of single sites:

    - ``all``: every node, with noise of standard deviation 0.1 for half of them and 1 for the others;
    - ``half``: half of the nodes, with noise of standard deviation 0.3.

    Parameters
    ----------
    n_nodes, edges : int
    noise : {"gaussian", "student", "skew_normal", "gamma"}
        Of the nodes: normal; Student's t with 5 degrees of freedom; skew-normal of slant 4 (skewness 0.78); shifted gamma of
        concentration 3 (skewness 1.15). Gaussian systems are `GaussianFields`, others `StructuralFields`.
    sites : int
    seed : int

    Raises
    ------
    ValueError
        For fewer than 2 nodes, more edges than pairs, an unknown noise, or less than one site.
    """
    if noise not in get_args(NoiseFamily):
        raise ValueError(f"unknown noise {noise!r}: choose one of {', '.join(get_args(NoiseFamily))}")
    if n_nodes < 2 or not 0 <= edges <= n_nodes * (n_nodes - 1) // 2:
        raise ValueError(f"{edges} edges between {n_nodes} nodes: give 2 nodes or more, and 0 edges to one per pair")
    rng = np.random.default_rng(seed)
    graph = _random_graph(n_nodes, edges, rng)
    weights, variances = _weights_for_unit_variance(graph, rng)
    noises = {node: _noise(noise, variance) for node, variance in variances.items()}
    better = rng.permutation(n_nodes) < (n_nodes + 1) // 2
    sites_seen = identity((sites,))
    scenarios = {
        "all": {
            node: [(sites_seen, GaussianError(0.1 if good else 1.0))]
            for node, good in zip(graph.nodes, better, strict=True)
        },
        "half": {
            node: [(sites_seen, GaussianError(0.3))] for node, good in zip(graph.nodes, better, strict=True) if good
        },
    }
    kernels = {node: own for node, own in noises.items() if isinstance(own, White)}
    if len(kernels) == n_nodes:
        return FieldSystem(GaussianFields(graph, weights, kernels, (sites,)), scenarios)
    mechanisms = {
        node: _weighted_sum([weights[parent, node] for parent in graph.parents(node)])
        for node in graph.nodes
        if graph.parents(node)
    }
    return FieldSystem(StructuralFields(graph, mechanisms, noises, (sites,)), scenarios)


_THREE = CausalGraph.from_string("z1 -> z2 -> z3; z1 -> z3")
_KERNELS = {"z1": Matern(6.0, 1.0), "z2": Matern(3.0, 0.5), "z3": Matern(2.0, 0.4)}
_BLOCKS = {"VFO": (1, 4, 8), "LFO": (4, 8, 8), "LPO": (8, 8, 4)}


def _block_sensors(shape: tuple[int, ...], noise: float) -> dict[str, Sensors]:
    if min(shape) < 16:
        raise ValueError(
            f"fields of shape {shape} have too few blocks of 8 pixels: give 16 or more pixels along each axis"
        )
    error = GaussianError(noise)
    scenarios: dict[str, Sensors] = {}
    for name, ratios in _BLOCKS.items():
        operators = [block_mean(shape, ratio) for ratio in ratios]
        if name == "LPO":
            operators = [op.rows(_two_of_three(shape, ratio)) for op, ratio in zip(operators, ratios, strict=True)]
        scenarios[name] = {node: [(op, error)] for node, op in zip(_THREE.nodes, operators, strict=True)}
    return scenarios | {"child": {"z3": [(identity(shape), error)]}}


def _two_of_three(shape: tuple[int, ...], ratio: int) -> np.ndarray:
    """Which blocks are kept, flat: diagonals in two dimensions."""
    number = np.indices([n // ratio for n in shape]).sum(0).ravel()
    return number % 3 != 1


def _random_graph(n_nodes: int, edges: int, rng: np.random.Generator) -> CausalGraph:
    nodes = tuple(f"z{i + 1}" for i in range(n_nodes))
    order = [nodes[i] for i in rng.permutation(n_nodes)]
    pairs = list(combinations(order, 2))
    return CausalGraph(nodes, tuple(pairs[k] for k in rng.choice(len(pairs), edges, replace=False)))


def _weights_for_unit_variance(
    graph: CausalGraph, rng: np.random.Generator
) -> tuple[dict[tuple[str, str], float], dict[str, float]]:
    """Weights of the edges and variances of the noises, scaled node after node along the causal order."""
    covariance = np.eye(len(graph))
    weights: dict[tuple[str, str], float] = {}
    variances: dict[str, float] = {}
    for place, node in enumerate(graph.topological_order):
        parents, variances[node] = graph.parents(node), 1.0
        if not parents:
            continue
        known, own = [graph.index(parent) for parent in parents], graph.index(node)
        raw = rng.uniform(0.5, 1.0, len(known)) * rng.choice([-1, 1], len(known))
        share = rng.uniform(0.4, 0.8)
        scaled = raw * np.sqrt(share / (raw @ covariance[np.ix_(known, known)] @ raw))
        variances[node] = 1 - share
        weights |= {(parent, node): float(weight) for parent, weight in zip(parents, scaled, strict=True)}
        before = [graph.index(earlier) for earlier in graph.topological_order[:place]]
        covariance[own, before] = covariance[before, own] = covariance[np.ix_(before, known)] @ scaled
    return weights, variances


def _noise(family: NoiseFamily, variance: float) -> FieldNoise:
    match family:
        case "gaussian":
            return White(variance)
        case "student":
            return StudentNoise(5.0, variance)
        case "skew_normal":
            return SkewNormalNoise(4.0, variance)
        case "gamma":
            return GammaNoise(3.0, variance)


def _weighted_sum(weights: Sequence[float]) -> Callable[..., Tensor]:
    def mechanism(*parents: Tensor) -> Tensor:
        return torch.stack([weight * parent for weight, parent in zip(weights, parents, strict=True)]).sum(0)

    return mechanism
