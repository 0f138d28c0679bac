"""Denoisers of fields whose prior is Gaussian: of all nodes together, or of each from the nodes that its score may see."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor

from latentcause.diffusion.denoisers import Denoiser, Prediction
from latentcause.diffusion.schedules import Schedule
from latentcause.fields.joint_gaussian import JointGaussian
from latentcause.graph import CausalGraph

Sees = Literal["all", "blanket", "parents"]


class JointDenoiser(Denoiser):
    """The exact denoiser of fields z ~ N(mean, C), every node seeing every other.

    Parameters
    ----------
    joint : JointGaussian
    schedule : Schedule
    """

    def __init__(self, joint: JointGaussian, schedule: Schedule) -> None:
        self.joint, self.schedule = joint, schedule

    def __call__(self, x_t: Tensor, t: Tensor | float) -> Prediction:
        """For fields x_t (n, d, *shape)."""
        alpha, sigma = self.levels(x_t, t)
        return Prediction.of(self.joint.denoise(x_t, alpha, sigma), "data", x_t, alpha, sigma)

    def linearised(self, x_t: Tensor, t: Tensor | float) -> tuple[Prediction, Callable[[Tensor], Tensor]]:
        """The prediction, and v -> Cov[z | x_t] v in closed form."""
        found = self(x_t, t)
        return found, lambda v: self.joint.denoising_covariance_times(v, found.alpha, found.sigma)


class LocalDenoiser(Denoiser):
    """E[z_i | z_t of node i and of the nodes that its score sees], for every node i of fields z ~ N(mean, C).

    The nodes that a score sees are its Markov blanket (parents, children and their other parents), or its parents alone (paper
    000, Theorem 2). At t = 0 the blanket gives the exact score and the parents give it for nodes without children only; with
    noise, both leave something out, the parents much more.

    Parameters
    ----------
    joint : JointGaussian
        Nodes as in the graph.
    graph : CausalGraph
    sees : {"blanket", "parents"}
    schedule : Schedule
    """

    def __init__(self, joint: JointGaussian, graph: CausalGraph, sees: Sees, schedule: Schedule) -> None:
        self.schedule = schedule
        self.seen = [seen_nodes(graph, node, sees) for node in graph.nodes]
        self.places = [seen.index(i) for i, seen in enumerate(self.seen)]
        self.joints = [joint.marginal(seen) for seen in self.seen]
        self.joint = joint
        self._last: tuple[tuple[float, float], Tensor] | None = None

    def __call__(self, x_t: Tensor, t: Tensor | float) -> Prediction:
        """For fields x_t (n, d, *shape); at one time for all by one matrix, whatever the number of edges."""
        alpha, sigma = self.levels(x_t, t)
        if alpha.ndim == 0:
            mean = self.joint.mean.to(x_t)
            found = mean + self.joint.through(self._matrices(alpha, sigma), x_t - alpha * mean)
            return Prediction.of(found, "data", x_t, alpha, sigma)
        parts = zip(self.joints, self.seen, self.places, strict=True)
        data = [joint.denoise(x_t[:, seen], alpha, sigma)[:, place] for joint, seen, place in parts]
        return Prediction.of(torch.stack(data, dim=1), "data", x_t, alpha, sigma)

    def linearised(self, x_t: Tensor, t: Tensor | float) -> tuple[Prediction, Callable[[Tensor], Tensor]]:
        """As of every denoiser; at one time for all in closed form."""
        if torch.as_tensor(t).ndim:
            return super().linearised(x_t, t)
        found = self(x_t, t)
        turned = self._matrices(found.alpha, found.sigma).mH
        return found, lambda v: found.sigma.square() / found.alpha * self.joint.through(turned, v)

    def _matrices(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """The derivative of the estimates, blocks (blocks, size, size) as those of the joint distribution; of the last level."""
        level = (float(alpha), float(sigma))
        if self._last is None or self._last[0] != level:
            blocks, size, _ = self.joint.axes.shape
            d = len(self.seen)
            found = self.joint.axes.new_zeros(blocks, d, size // d, d, size // d)
            for i, (joint, seen, place) in enumerate(zip(self.joints, self.seen, self.places, strict=True)):
                rows = joint.estimator(*level).unflatten(1, (len(seen), -1))[:, place]
                found[:, i, :, seen] = rows.unflatten(2, (len(seen), -1))
            self._last = level, found.reshape(blocks, size, size)
        return self._last[1]


def gaussian_denoiser(joint: JointGaussian, graph: CausalGraph, sees: Sees, schedule: Schedule) -> Denoiser:
    """The denoiser of N(mean, C) in which each node sees what it may.

    `JointDenoiser`, which is exact and faster, wherever every node sees all others anyway.
    """
    if all(len(seen_nodes(graph, node, sees)) == len(graph) for node in graph.nodes):
        return JointDenoiser(joint, schedule)
    return LocalDenoiser(joint, graph, sees, schedule)


def seen_nodes(graph: CausalGraph, node: str, sees: Sees) -> list[int]:
    """Numbers of the nodes that a node's score sees, itself among them.

    Raises
    ------
    ValueError
        For an unknown kind.
    """
    match sees:
        case "all":
            return list(range(len(graph)))
        case "blanket":
            others = graph.markov_blanket(node)
        case "parents":
            others = graph.parents(node)
        case _:
            raise ValueError(f"unknown {sees!r}: a score sees one of {', '.join(get_args(Sees))}")
    return sorted({graph.index(node), *(graph.index(other) for other in others)})
