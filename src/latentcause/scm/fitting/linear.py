"""Linear mechanisms by least squares, from the second moments of the columns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from latentcause.scm.fitting.table import Table, residual_noise
from latentcause.scm.mechanisms import LinearMechanism, Mechanism

COLLINEAR = 1e-11
"""Smallest eigenvalue of the parents' correlation matrix that still counts as of full rank."""


def fit(tables: Sequence[Table], noise: str, seed: int) -> dict[str, Mechanism]:
    """Ordinary least squares of every node on its parents; nothing is random, so ``seed`` does not matter.

    Raises
    ------
    ValueError
        If parents of a node are constant or collinear; the message names the columns.
    """
    return {table.node: _fit_one(table, noise) for table in tables}


def check_rank(node: str, columns: Sequence[str], covariance: np.ndarray) -> None:
    """Refuse parents whose covariance (p, p) leaves the weights undetermined, naming the columns at fault."""
    spread = np.sqrt(covariance.diagonal())
    if constant := [column for column, s in zip(columns, spread, strict=True) if s == 0]:
        raise ValueError(f"parent {constant[0]!r} of node {node!r} is constant in these data: drop that edge")
    eigenvalues, vectors = np.linalg.eigh(covariance / np.outer(spread, spread))
    if eigenvalues[0] < COLLINEAR:
        named = [column for column, weight in zip(columns, vectors[:, 0], strict=True) if abs(weight) > 0.01]
        raise ValueError(
            f"the parents {named} of node {node!r} are collinear (one is a linear function of the others), so their "
            "weights are not determined: drop one of these edges"
        )


def _fit_one(table: Table, noise: str) -> LinearMechanism:
    centre = table.parents.mean(axis=0)
    parents, values = table.parents - centre, table.values - table.values.mean()
    gram = parents.T @ parents
    check_rank(table.node, table.columns, gram)
    scale = np.sqrt(gram.diagonal())
    weights = np.linalg.solve(gram / np.outer(scale, scale), parents.T @ values / scale) / scale
    return LinearMechanism(
        tuple(weights.tolist()),
        float(table.values.mean() - centre @ weights),
        noise=residual_noise(table.node, values - parents @ weights, noise),
    )
