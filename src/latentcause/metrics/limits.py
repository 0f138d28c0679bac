"""The Bayes-optimal posterior mean: what a method that knew everything would answer."""

from __future__ import annotations

import numpy as np
import torch

from latentcause.datasets.interventional import InterventionalSample
from latentcause.inference.tree import Grid, tree_posterior

_ROWS = 8192  # rows a pass: bounds the memory of the message tables


def bayes_optimal_latents(sample: InterventionalSample) -> np.ndarray:
    """Posterior means E[z | x, domain] (n, d_z) under the true mechanisms, loadings and noise, by message passing on a grid.

    No estimator has a smaller expected squared error, so its `relative_mse` is the limit of every table.

    Raises
    ------
    ValueError
        If a node has several parents: message passing is exact on forests only.
    """
    system, data = sample.system, sample.data
    graph = system.graph
    crowded = [node for node in graph.nodes if len(graph.parents(node)) > 1]
    if crowded:
        raise ValueError(
            f"node {crowded[0]!r} has several parents: the Bayes-optimal limit is computed on forests only"
        )
    norms = np.square(system.loadings).sum(0)
    noise = torch.from_numpy(system.noise_variance / norms)
    y = np.concatenate([x @ (system.loadings / norms) for _, _, x in data.batches()])
    result = np.empty_like(y)
    for e, domain in enumerate(data.domains):
        scm = system.scm(data.targets[domain])
        rows = np.flatnonzero(data.domain_index == e)
        values = torch.from_numpy(y[rows])
        grid = Grid.covering(values, noise, scm)
        for start in range(0, len(rows), _ROWS):
            batch = slice(start, start + _ROWS)
            result[rows[batch]] = tree_posterior(scm, values[batch], noise, grid).mean.numpy()
    return result
