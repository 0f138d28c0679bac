"""Simulated multi-domain data with known latent causes: section 7 of the EB-CRL paper, on any DAG.

Wu, von Kuegelgen and Blei, Multi-Domain Empirical Bayes for Linearly-Mixed Causal Representations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from latentcause.data import MultiDomainData
from latentcause.graph import CausalGraph
from latentcause.scm import AdditiveMechanism, FunctionMechanism, LinearMechanism, StructuralCausalModel

Family = Literal["bounded", "saturating", "linear", "literal"]
InterventionKind = Literal["hard", "shift", "variance"]

KAPPA = 3.0
"""Steepness k of the nonlinearities, as in the paper."""

LITERAL_DEPTH = 2
"""Longest path that Eq. (7.1) as printed can be run on: |z| is cubed and multiplied by 27 along every edge."""

_NONLINEARITIES: dict[str, Callable[[Tensor], Tensor]] = {
    "bounded": lambda z: torch.tanh(KAPPA * z + (KAPPA * z) ** 3),
    "saturating": lambda z: 5.0 * torch.tanh(KAPPA * z / 5.0),
    "linear": lambda z: z,
    "literal": lambda z: torch.tanh(KAPPA * z) + (KAPPA * z) ** 3,
}


@dataclass(frozen=True)
class InterventionalSystem:
    """A fully known system: x = A z + noise, with z from a structural causal model under a domain's interventions.

    Attributes
    ----------
    baseline : StructuralCausalModel
        The mechanisms f_j of Eq. (3.4).
    intervened : dict from node to AdditiveMechanism
        The mechanisms h_j that take over in the domains that target node j.
    loadings : ndarray (d_x, d_z)
        A, with orthogonal columns.
    noise_variance : float
        sigma^2 of the isotropic measurement noise.
    """

    baseline: StructuralCausalModel
    intervened: dict[str, AdditiveMechanism]
    loadings: np.ndarray
    noise_variance: float

    @property
    def graph(self) -> CausalGraph:
        """The causal graph of the latent variables."""
        return self.baseline.graph

    def scm(self, targets: str | Sequence[str] = ()) -> StructuralCausalModel:
        """The structural causal model in force in a domain with these targets."""
        targets = (targets,) if isinstance(targets, str) else targets
        unknown = [node for node in targets if node not in self.intervened]
        if unknown:
            raise ValueError(
                f"target {unknown[0]!r} is not a node of the graph: its nodes are {list(self.graph.nodes)}"
            )
        return self.baseline.replace({node: self.intervened[node] for node in targets})

    def sample(
        self,
        n_per_domain: int,
        targets: Mapping[str, str | Sequence[str]] | None = None,
        *,
        seed: int,
    ) -> InterventionalSample:
        """Draw latents and measurements of every domain.

        Parameters
        ----------
        n_per_domain : int
        targets : mapping from domain to nodes, optional
            Default: one domain per node, named ``do(NODE)``, as in the paper.
        seed : int

        Raises
        ------
        ValueError
            For a target that is not a node of the graph.
        """
        if targets is None:
            targets = {f"do({node})": [node] for node in self.graph.nodes}
        generator = torch.Generator().manual_seed(seed)
        latents = np.concatenate(
            [self.scm(nodes).sample(n_per_domain, generator=generator) for nodes in targets.values()]
        )
        noise = torch.randn(len(latents), len(self.loadings), generator=generator, dtype=torch.float64).numpy()
        x = latents @ self.loadings.T + np.sqrt(self.noise_variance) * noise
        domain = np.repeat(np.array(list(targets), dtype=object), n_per_domain)
        return InterventionalSample(MultiDomainData(x, domain, dict(targets)), latents, self)


@dataclass(frozen=True)
class InterventionalSample:
    """Measurements together with the latents (n, d_z) that caused them and the system that made both."""

    data: MultiDomainData
    latents: np.ndarray
    system: InterventionalSystem


def interventional_system(
    graph: CausalGraph | int = 4,
    *,
    family: Family = "bounded",
    intervention: InterventionKind = "hard",
    n_measurements: int = 100,
    noise_variance: float = 2.0,
    latent_noise_variance: float = 4.0,
    scales: Sequence[float] | None = None,
    seed: int,
) -> InterventionalSystem:
    """The paper's random system, Eq. (7.1): z_j = sum_k w_jk g(z_k) + u_j, w ~ U(-1, 1), u_j ~ N(0, 4).

    Parameters
    ----------
    graph : CausalGraph or int
        Any DAG, or the length of a chain z1 -> z2 -> ...
    family : {"bounded", "saturating", "linear", "literal"}
        g(z) = tanh(kz + (kz)^3), 5 tanh(kz/5), z, or the printed tanh(kz) + (kz)^3; k = 3. The printed one leaves the
        range of float64 noise levels after two edges (z beyond 1e40 on the paper's own chain), hence the others.
    intervention : {"hard", "shift", "variance"}
        On a target: z_j ~ N(10, 1) (the paper's); the mechanism's mean plus 10; or its noise variance divided by 4.
    n_measurements : int
        d_x, at least the number of nodes.
    noise_variance, latent_noise_variance : float
        sigma^2 of the measurements and variance of u_j.
    scales : sequence of float, optional
        Column norms of A (the D of A = O D); 1 by default, as in the paper's experiments.
    seed : int

    Raises
    ------
    ValueError
        For an unknown family or intervention, ``literal`` on a graph whose longest path exceeds two edges, fewer
        measurements than nodes, or a wrong number of scales.
    """
    graph = CausalGraph.chain(graph) if isinstance(graph, int) else graph
    d_z = len(graph.nodes)
    _check_family(graph, family)
    if intervention not in get_args(InterventionKind):
        raise ValueError(f"unknown intervention {intervention!r}: choose one of {list(get_args(InterventionKind))}")
    if n_measurements < d_z:
        raise ValueError(f"n_measurements={n_measurements} is below the {d_z} nodes: the latents could not be seen")
    if scales is not None and len(scales) != d_z:
        raise ValueError(f"scales has {len(scales)} entries for {d_z} nodes: give one per node")
    rng = np.random.default_rng(seed)
    baseline: dict[str, AdditiveMechanism] = {}
    intervened: dict[str, AdditiveMechanism] = {}
    for node in graph.nodes:
        weights = tuple(rng.uniform(-1.0, 1.0, len(graph.parents(node))))
        baseline[node] = _mechanism(family, weights, 0.0, latent_noise_variance)
        if intervention == "hard":
            intervened[node] = LinearMechanism((), 10.0, 1.0)
        elif intervention == "shift":
            intervened[node] = _mechanism(family, weights, 10.0, latent_noise_variance)
        else:
            intervened[node] = _mechanism(family, weights, 0.0, latent_noise_variance / 4)
    loadings = random_orthonormal(n_measurements, d_z, rng) * np.asarray(1.0 if scales is None else scales)
    return InterventionalSystem(StructuralCausalModel(graph, baseline), intervened, loadings, noise_variance)


def random_dag(n_nodes: int, average_degree: float = 2.0, *, seed: int) -> CausalGraph:
    """An Erdos-Renyi DAG: each pair of nodes (in the order z1, z2, ...) is an edge with equal probability."""
    rng = np.random.default_rng(seed)
    probability = min(1.0, average_degree / max(1, n_nodes - 1))
    adjacency = np.triu(rng.random((n_nodes, n_nodes)) < probability, k=1)
    return CausalGraph.from_adjacency(adjacency, nodes=[f"z{j + 1}" for j in range(n_nodes)])


def random_orthonormal(rows: int, columns: int, rng: np.random.Generator) -> np.ndarray:
    """A (rows, columns) matrix with orthonormal columns, uniform on the Stiefel manifold."""
    q, r = np.linalg.qr(rng.standard_normal((rows, columns)))
    return q * np.sign(np.diag(r))


def _mechanism(family: Family, weights: tuple[float, ...], shift: float, variance: float) -> AdditiveMechanism:
    if not weights or family == "linear":
        return LinearMechanism(weights, shift, variance)
    g = _NONLINEARITIES[family]
    return FunctionMechanism(lambda parents: shift + g(parents) @ parents.new_tensor(weights), variance)


def _check_family(graph: CausalGraph, family: Family) -> None:
    if family not in _NONLINEARITIES:
        raise ValueError(f"unknown family {family!r}: choose one of {list(_NONLINEARITIES)}")
    depth = dict.fromkeys(graph.nodes, 0)
    for node in graph.topological_order:
        depth[node] = max((depth[p] + 1 for p in graph.parents(node)), default=0)
    deepest = max(depth.values())
    if family == "literal" and deepest > LITERAL_DEPTH:
        raise ValueError(
            f"family 'literal' (Eq. 7.1 as printed) on a path of {deepest} edges: every edge cubes the value, so under "
            f"do(z = 10) it passes 1e12 after {LITERAL_DEPTH} edges and float64 holds nothing of the noise; choose 'bounded' or "
            f"'saturating', or a graph of depth <= {LITERAL_DEPTH}"
        )
