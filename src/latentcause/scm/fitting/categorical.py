"""Categories by maximum likelihood: multinomial logits by Newton's method."""

from __future__ import annotations

import warnings

import numpy as np

from latentcause.scm.categorical import CategoricalMechanism
from latentcause.scm.fitting.linear import check_rank
from latentcause.scm.fitting.table import Table

STEPS = 60
CONVERGED = 1e-10
"""Gain in log-likelihood per row, in nats, below which Newton's method stops."""

CERTAIN = 1e-6
"""Largest chance of another level, in every row, at which levels count as separated by the parents."""


def fit_categorical(table: Table, n_levels: int) -> CategoricalMechanism:
    """The multinomial logit of a node's codes in its parents that has the largest likelihood.

    The first level that occurs is the reference, with weights zero. Levels that do not occur get probability zero. Where
    the parents separate the levels, there is no largest likelihood: the steps stop at probabilities of all but 0 and 1,
    with a warning.

    Raises
    ------
    ValueError
        For parents that are constant or collinear; the message names the columns.

    Warns
    -----
    RuntimeWarning
        Where the parents separate the levels.
    """
    codes = table.values.astype(np.int64)
    occurs = np.flatnonzero(np.bincount(codes, minlength=n_levels))
    centre, spread = table.parents.mean(axis=0), table.parents.std(axis=0)
    if table.columns:
        check_rank(table.node, table.columns, np.atleast_2d(np.cov(table.parents.T, bias=True)))
    standardised = (table.parents - centre) / spread
    design = np.column_stack([np.ones(len(codes)), standardised])
    indicators = (codes[:, None] == occurs[1:]).astype(np.float64)
    beta, log_likelihood = _newton(design, indicators)
    if table.columns and len(occurs) > 1 and log_likelihood > np.log1p(-CERTAIN):
        warnings.warn(
            f"the parents of node {table.node!r} tell its levels apart without error, so their weights have no finite "
            "estimate; probabilities near 0 and 1 stand in for them",
            RuntimeWarning,
            stacklevel=2,
        )
    intercepts, weights = np.full(n_levels, -np.inf), np.zeros((n_levels, len(table.columns)))
    weights[occurs[1:]] = beta[:, 1:] / spread
    intercepts[occurs] = 0.0
    intercepts[occurs[1:]] = beta[:, 0] - weights[occurs[1:]] @ centre
    return CategoricalMechanism(
        tuple(intercepts.tolist()), tuple(tuple(row) for row in weights.tolist()) if table.columns else ()
    )


def log_likelihood(mechanism: CategoricalMechanism, table: Table) -> float:
    """Sum over rows of the log probability of the table's codes, in nats."""
    import torch

    return float(mechanism.log_density(torch.tensor(table.values), torch.tensor(table.parents)).sum())


def _newton(design: np.ndarray, indicators: np.ndarray) -> tuple[np.ndarray, float]:
    """Coefficients (K - 1, q) against the reference level, and the mean log-likelihood, from design (n, q)."""
    n, q = design.shape
    others = indicators.shape[1]
    beta = np.zeros((others, q))
    probabilities, value = _likelihood(design, indicators, beta)
    for _ in range(STEPS if others else 0):
        gradient = (indicators - probabilities).T @ design / n
        step = np.linalg.lstsq(_information(design, probabilities), gradient.reshape(-1), rcond=1e-12)[0]
        size, before = 1.0, value
        while size > 1e-4:  # halve a step that overshoots
            candidate = beta + size * step.reshape(others, q)
            probabilities, value = _likelihood(design, indicators, candidate)
            if value >= before:
                beta = candidate
                break
            size /= 2
        if value - before < CONVERGED:
            break
    return beta, value


def _likelihood(design: np.ndarray, indicators: np.ndarray, beta: np.ndarray) -> tuple[np.ndarray, float]:
    logits = design @ beta.T
    top = np.maximum(logits.max(axis=1, initial=0.0), 0.0)
    log_total = top + np.log(np.exp(-top) + np.exp(logits - top[:, None]).sum(axis=1))
    return np.exp(logits - log_total[:, None]), float(np.mean((indicators * logits).sum(axis=1) - log_total))


def _information(design: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Mean Fisher information ((K - 1) q, (K - 1) q)."""
    others, q = probabilities.shape[1], design.shape[1]
    blocks = np.empty((others, q, others, q))
    for k in range(others):
        for m in range(k, others):
            weight = probabilities[:, k] * ((k == m) - probabilities[:, m])
            blocks[k, :, m] = blocks[m, :, k] = design.T @ (weight[:, None] * design) / len(design)
    return blocks.reshape(others * q, others * q)
