"""Exact posteriors on forests: message passing on a grid, for graphs where every node has at most one parent."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from latentcause.graph import CausalGraph
from latentcause.scm import AdditiveMechanism, StructuralCausalModel

STEPS_PER_DEVIATION = 2.0
"""Grid points per standard deviation of the narrowest posterior: the trapezoid rule is then exact to about 1e-8 for linear
mechanisms, and to about 1e-3 standard deviations for steps as sharp as the bounded family's."""

PROBES = 257
"""Points at which a mechanism's slope is looked at."""

MARGIN = 5.0
"""How many posterior standard deviations the grid reaches beyond the outermost measurement."""

MIN_POINTS, MAX_POINTS = 33, 513


@dataclass(frozen=True)
class TreePosterior:
    """What message passing gives for n samples of d nodes on K grid points a node.

    Attributes
    ----------
    mean, variance : Tensor (n, d)
        Posterior mean and variance of each node.
    log_likelihood : Tensor (n,)
        log p(y) of each sample, in nats.
    node_tables : list of Tensor (K_j,)
        Posterior probability of every grid point of node j, summed over the samples.
    edge_tables : list of Tensor (K_parent, K_j) or None
        The same for a node and its parent, jointly; None for roots.
    """

    mean: Tensor
    variance: Tensor
    log_likelihood: Tensor
    node_tables: list[Tensor]
    edge_tables: list[Tensor | None]


class Grid:
    """Equally spaced points for every node, wide and dense enough for the posteriors that it is to carry.

    Parameters
    ----------
    low, high : Tensor (d,)
        Where each node's points begin and end.
    spacing : Tensor (d,)
        Upper bound on the distance of neighbouring points.

    Raises
    ------
    ValueError
        If a node would need more than `MAX_POINTS` points.
    """

    def __init__(self, low: Tensor, high: Tensor, spacing: Tensor, nodes: tuple[str, ...]) -> None:
        wanted = torch.ceil((high - low) / spacing) + 1
        if (wanted > MAX_POINTS).any():
            j = int(wanted.argmax())
            raise ValueError(
                f"node {nodes[j]!r} would need {int(wanted[j])} grid points (limit {MAX_POINTS}): its noise is too small for the "
                "range of its values; standardise the measurements or use sampled posteriors"
            )
        self.points = [
            torch.linspace(float(lo), float(hi), max(int(k), MIN_POINTS), dtype=low.dtype, device=low.device)
            for lo, hi, k in zip(low, high, wanted, strict=True)
        ]
        self.steps = [float(p[1] - p[0]) for p in self.points]

    @classmethod
    def covering(cls, y: Tensor, noise_variance: Tensor, scm: StructuralCausalModel) -> Grid:
        """The grid for posteriors under ``scm`` of measurements y (n, d) with noise variance (d,).

        The spacing follows the narrowest posterior that each node can have, of precision 1/noise + 1/own variance + sum over
        children of slope^2 / (noise + variance of the child).
        """
        graph = scm.graph
        mechanisms = scm.gaussian_mechanisms
        variances = y.new_tensor([mechanisms[node].variance for node in graph.nodes])
        margin = MARGIN * torch.sqrt(noise_variance)
        low, high = y.amin(0) - margin, y.amax(0) + margin
        precision = 1.0 / noise_variance + 1.0 / variances
        for j, node in enumerate(graph.nodes):
            for p in map(graph.index, graph.parents(node)):
                slope = _steepest(mechanisms[node], float(low[p]), float(high[p]), y)
                precision[p] += slope**2 / (noise_variance[j] + variances[j])
        return cls(low, high, precision.rsqrt() / STEPS_PER_DEVIATION, graph.nodes)


def is_forest(graph: CausalGraph) -> bool:
    """Whether every node has at most one parent, so that `tree_posterior` applies."""
    return all(len(graph.parents(node)) <= 1 for node in graph.nodes)


def tree_posterior(scm: StructuralCausalModel, y: Tensor, noise_variance: Tensor, grid: Grid) -> TreePosterior:
    """Posterior of z ~ scm given y_j = z_j + N(0, noise_variance_j), for every row of y.

    Sum-product message passing: up the tree m_c(z_p) = sum_{z_c} p(z_c | z_p) L_c(z_c) prod m_{ch(c)}(z_c), and down with the
    message of the node itself left out. Cost O(n K^2) an edge.

    Parameters
    ----------
    scm : StructuralCausalModel
        On a forest (`is_forest`).
    y : Tensor (n, d)
        Measurements, columns in ``graph.nodes`` order.
    noise_variance : Tensor (d,)
    grid : Grid
        Points that carry the posteriors; use `Grid.covering`.

    Raises
    ------
    ValueError
        For a row so far from the prior that the numbers run out.
    """
    graph = scm.graph
    index = {node: j for j, node in enumerate(graph.nodes)}
    order = [index[node] for node in graph.topological_order]
    parent = [index[graph.parents(node)[0]] if graph.parents(node) else None for node in graph.nodes]
    mechanisms = scm.gaussian_mechanisms
    priors = [_transition(mechanisms[node], grid, j, parent[j]) for j, node in enumerate(graph.nodes)]
    likelihoods, log_scale = _likelihoods(y, noise_variance, grid)

    upward = list(likelihoods)  # L_j times the messages of all children
    messages: dict[int, Tensor] = {}  # from j to its parent
    for j in reversed(order):
        above = parent[j]
        if above is not None:
            message = upward[j] @ priors[j].T
            peak = message.amax(1, keepdim=True)
            log_scale = log_scale + peak[:, 0].log()
            messages[j] = message / peak
            upward[above] = upward[above] * messages[j]

    beliefs: list[Tensor] = [upward[0]] * len(order)
    edge_tables: list[Tensor | None] = [None] * len(order)
    log_likelihood = log_scale
    for j in order:
        above = parent[j]
        if above is None:
            belief = priors[j] * upward[j]
            total = belief.sum(1, keepdim=True)
            log_likelihood = log_likelihood + total[:, 0].log()
        else:
            cavity = beliefs[above] / messages[j].clamp_min(torch.finfo(y.dtype).tiny)
            belief = (cavity @ priors[j]) * upward[j]
            total = belief.sum(1, keepdim=True)
            edge_tables[j] = priors[j] * ((cavity / total).T @ upward[j])
        beliefs[j] = belief / total
    far = (~torch.isfinite(log_likelihood)).nonzero()[:, 0].tolist()
    if far:
        raise ValueError(
            f"row {far[0]} (of those with its targets) lies so far from all that the model expects that its probability is zero "
            "in float64: remove it if it is an error of measurement"
        )
    return _summarise(beliefs, edge_tables, log_likelihood, grid)


def _steepest(mechanism: AdditiveMechanism, low: float, high: float, like: Tensor) -> float:
    """Largest slope of a mechanism of one parent between two of its values."""
    points = torch.linspace(low, high, PROBES, dtype=like.dtype, device=like.device)
    return float(mechanism.mean(points[:, None]).diff().abs().max()) * (PROBES - 1) / (high - low)


def _transition(mechanism: AdditiveMechanism, grid: Grid, j: int, parent: int | None) -> Tensor:
    """p(z_j | z_parent) on the grid times the step: (K_parent, K_j), or (K_j,) for a root."""
    points = grid.points[j]
    if parent is None:
        return mechanism.log_density(points, points.new_zeros(1, 0)).exp() * grid.steps[j]
    above = grid.points[parent]
    return mechanism.log_density(points[None, :], above[:, None, None]).exp() * grid.steps[j]


def _likelihoods(y: Tensor, noise_variance: Tensor, grid: Grid) -> tuple[list[Tensor], Tensor]:
    normaliser = -0.5 * torch.log(2 * torch.pi * noise_variance).sum()
    tables = [
        torch.exp(-0.5 * (y[:, j, None] - points) ** 2 / noise_variance[j]) for j, points in enumerate(grid.points)
    ]
    return tables, normaliser.expand(len(y))


def _summarise(
    beliefs: list[Tensor], edge_tables: list[Tensor | None], log_likelihood: Tensor, grid: Grid
) -> TreePosterior:
    means = torch.stack([b @ p for b, p in zip(beliefs, grid.points, strict=True)], 1)
    squares = torch.stack([b @ p.square() for b, p in zip(beliefs, grid.points, strict=True)], 1)
    return TreePosterior(means, squares - means.square(), log_likelihood, [b.sum(0) for b in beliefs], edge_tables)
