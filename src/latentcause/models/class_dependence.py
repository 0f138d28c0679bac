"""How far apart two pixels still have their class in common, beyond what the map around them tells."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from scipy.special import ndtr, ndtri
from torch import Tensor

from latentcause.fields import Matern
from latentcause.models.change_classes import ChangeClasses
from latentcause.training import Recipe, train

PAIRS = 10_000  # of pixels at each distance, drawn at random
SHORTEST, LONGEST = 0.2, 10.0  # lengths that are tried, in units of the hole
NODES = 24  # of the quadrature

Inputs = Callable[[tuple[int, int]], Tensor]


def fit_length(classes: ChangeClasses, y: Tensor, inputs: Inputs, hole: int, recipe: Recipe, seed: int) -> float:
    """Length, in pixels, of the Matern-3/2 field u by which classes depend on one another.

    The class of pixel i is the ordered one in whose interval u_i falls, u standard normal and the intervals such that the
    marginals are what they are. Maximised is sum over pairs of log sum_ab P(a, b) p_a(y_i) p_b(y_j), at distances of
    ``hole`` and ``hole + 3`` pixels along both axes, where P has for marginals the chances given a context that leaves out the
    surroundings of both pixels: for that the network is trained further, the densities p stay.

    Parameters
    ----------
    classes : ChangeClasses
    y : Tensor (h, w)
    inputs : callable
        Inputs (h * w, k) of the network where a second square, at the distance given, is hidden.
    hole : int
    recipe : Recipe
    seed : int
    """
    generator = np.random.default_rng(seed)
    pairs = [
        _pairs(classes, y, inputs, step, recipe, seed, generator)
        for distance in (hole, hole + 3)
        for step in ((0, distance), (distance, 0))
    ]

    def misfit(log_length: float) -> float:
        kernel = Matern(float(np.exp(log_length)))
        return -sum(_log_likelihood(kernel, *pair) for pair in pairs)

    bounds = (np.log(SHORTEST * hole), np.log(LONGEST * hole))
    return float(np.exp(minimize_scalar(misfit, bounds=bounds, method="bounded", options={"xatol": 1e-2}).x))


def _pairs(
    classes: ChangeClasses,
    y: Tensor,
    inputs: Inputs,
    step: tuple[int, int],
    recipe: Recipe,
    seed: int,
    generator: np.random.Generator,
) -> tuple[float, list[np.ndarray], list[np.ndarray]]:
    """The distance; marginals and densities, each (pairs, 3), of both pixels of pairs of pixels at one step."""
    both = [inputs(step), inputs((-step[0], -step[1]))]
    other = deepcopy(classes).requires_grad_(False)
    other.network.requires_grad_(True)
    values = y.reshape(-1, 1)
    train(other, other.loss, (torch.cat(both), torch.cat([values, values])), recipe, seed=seed, label="pairs")
    other.cpu()
    rows, columns = y.shape
    start = generator.integers(0, [rows - step[0], columns - step[1]], size=(PAIRS, 2))
    ends = [np.ravel_multi_index(tuple((start + shift).T), y.shape) for shift in (0, np.array(step))]
    with torch.no_grad():
        marginals = [other.log_classes(x[at]).exp().double().numpy() for x, at in zip(both, ends, strict=True)]
        densities = [other.log_density(values[at]).exp().double().numpy() for at in ends]
    return float(max(step)), marginals, densities


def _log_likelihood(kernel: Matern, distance: float, marginals: list[np.ndarray], densities: list[np.ndarray]) -> float:
    """sum over pairs of log sum_ab P(a, b) p_a p_b: given what both u share, the two classes are independent."""
    rho = float(kernel.correlation(torch.tensor(distance, dtype=torch.float64)))
    nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
    bounds = [ndtri(np.clip(np.cumsum(part, axis=1)[:, :-1], 1e-9, 1 - 1e-9)) for part in marginals]
    total = np.zeros(len(bounds[0]))
    for node, weight in zip(nodes, weights / weights.sum(), strict=True):
        product = np.ones_like(total)
        for bound, density in zip(bounds, densities, strict=True):
            below = ndtr((bound - np.sqrt(rho) * node) / np.sqrt(1 - rho))
            product *= (np.diff(below, axis=1, prepend=0.0, append=1.0) * density).sum(1)
        total += weight * product
    return float(np.log(total).sum())
