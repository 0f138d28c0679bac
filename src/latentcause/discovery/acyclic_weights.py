"""A linear causal graph by continuous optimisation."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from latentcause.data.labels import listing
from latentcause.data.variables import Variables
from latentcause.discovery import meek
from latentcause.discovery.central_path import follow_path
from latentcause.discovery.cpdag import CPDAG
from latentcause.discovery.knowledge import BackgroundKnowledge
from latentcause.graph import CausalGraph

TIE = 1e-3  # what an arrow against the order of the columns costs more: without it two columns are a saddle point
DEPENDENT = 1e-10  # variance of a column given the others, as a share of its own, that counts as none


@dataclass(frozen=True, eq=False, repr=False)
class AcyclicWeights:
    """A linear structural equation model, x_j = sum_i weights[i, j] x_i + u_j, and how far its arrows can be trusted.

    Attributes
    ----------
    graph : CausalGraph
        One of ``cpdag``.
    weights : DataFrame (d, d)
        [cause, effect], in units of the effect per unit of the cause, by least squares on the graph; 0 where there is no edge.
    noise_variances : Series (d,)
        Of u, in squared units.
    cpdag : CPDAG
        All graphs that fit these data equally well, and agree with what was known.
    notes : tuple of str
        What to know before relying on it.
    """

    graph: CausalGraph
    weights: pd.DataFrame
    noise_variances: pd.Series
    cpdag: CPDAG
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        size = self.weights.to_numpy()
        at = self.graph.index
        arrows = [f"{a} -> {b} ({size[at(a), at(b)]:.3g})" for a, b in self.graph.edges]
        return "\n  ".join([f"AcyclicWeights: {', '.join(arrows) or 'no edges'}", *self.notes])


def acyclic_weights(
    data: Any,
    sparsity: float = 0.1,
    *,
    threshold: float = 0.05,
    knowledge: BackgroundKnowledge | None = None,
) -> AcyclicWeights:
    """Learn a linear causal graph by continuous optimisation under a log-determinant measure of cycles.

    After K. Bello, B. Aragam and P. Ravikumar, DAGMA (NeurIPS 2022, Algorithm 1). On standardised columns, minimise

        mu [f(W) + sparsity sum |W_ij|] + h(W),    h(W) = -log det(I - W o W),

    for mu falling to 0.001, each time from the last minimum: h is 0 just where W has no cycle. Then keep the |W_ij| above
    ``threshold``, the largest first and none that closes a cycle; fit them by least squares, and drop those that are then below
    it, or that twice the log likelihood of n rows rewards with less than log(n) (Schwarz 1978).

    f is the Gaussian likelihood with a noise variance of its own for each column, at the best such variances. The published
    score, least squares, takes all noises to be of equal variance. On columns in their own units it then reads the causal
    order off their variances, which grow along the graph in most simulated systems (A. Reisach, C. Seiler and S. Weichwald,
    Beware of the simulated DAG!, NeurIPS 2021, call that varsortability) but change with the units; on standardised columns
    its order is no better than chance. This likelihood does not depend on units. The price: with Gaussian noises it is
    the same for all graphs of a Markov class, so data alone don't decide more than `pc` would. What they leave open is in
    ``cpdag`` and in the notes; ``graph`` then has the earlier column as the cause, as far as a graph without further
    v-structures allows. Noises that are not Gaussian are no help here. Knowledge is: it turns open edges.

    It assumes that no common cause is left out, and that effects are linear. The objective has more than one minimum, so even
    with endless rows the graph found need not be the right one. On random linear systems of up to 5 columns `pc` came nearer to
    the truth, on those of 20 columns this did.

    Parameters
    ----------
    data : DataFrame, array (n, d) or Variables
        Numbers.
    sparsity : float
        Effects of the size of ``sparsity`` + ``threshold`` or less, in standard deviations, are lost. 0.1 is for about 1,000 rows;
        the more rows, the less is needed.
    threshold : float
        In standard deviations of the effect per standard deviation of the cause.
    knowledge : BackgroundKnowledge, optional
        Required edges are not penalised and always there.

    Returns
    -------
    AcyclicWeights

    Raises
    ------
    ValueError
        For what `Variables` refuses, categories, a column that is a linear combination of others, a negative sparsity or
        threshold, and knowledge that names an unknown variable or whose required edges the tiers forbid.

    Warns
    -----
    UserWarning
        Where the optimisation stops before it settles.

    Examples
    --------
    >>> noise = np.random.default_rng(0).standard_normal((5000, 3))
    >>> found = acyclic_weights(noise + noise[:, [0, 1, 0]] * [0, 0, 1] + noise[:, [0, 1, 1]] * [0, 0, 1])
    >>> found.graph.edges
    (('x0', 'x2'), ('x1', 'x2'))
    """
    variables = _checked(data)
    for name, value in (("sparsity", sparsity), ("threshold", threshold)):
        if not 0 <= value < np.inf:
            raise ValueError(f"{name} is {value}: give a number, at least 0")
    nodes, d = variables.names, len(variables.names)
    required, forbidden = (knowledge or BackgroundKnowledge()).matrices(nodes)
    covariance = np.cov(variables.values, rowvar=False, bias=True).reshape(d, d)
    scale = np.sqrt(np.diag(covariance))
    correlations = covariance / np.outer(scale, scale)
    _refuse_dependent(nodes, correlations)
    penalty = sparsity * (1 + TIE * np.tril(np.ones((d, d))))
    penalty[required] = 0.0
    penalty[forbidden | np.eye(d, dtype=bool)] = np.inf
    standard, settled = follow_path(correlations, penalty)
    if not settled:
        warnings.warn(
            "acyclic_weights stopped before its weights settled: raise sparsity, or use pc", UserWarning, stacklevel=2
        )
    dag = _without_cycles(standard, threshold, required)
    dag, marks = _without_weak(dag, correlations, len(variables), threshold, required, forbidden)
    weights, noise, _ = _least_squares(correlations, dag)
    weights, noise = weights * scale / scale[:, None], noise * scale**2
    cpdag = CPDAG.from_adjacency(marks, nodes)
    return AcyclicWeights(
        CausalGraph.from_adjacency(dag.astype(np.int64), nodes),
        pd.DataFrame(weights, index=nodes, columns=nodes),
        pd.Series(noise, index=nodes),
        cpdag,
        _notes(cpdag),
    )


def _checked(data: Any) -> Variables:
    variables = Variables.read(data)
    if variables.levels:
        raise ValueError(
            f"column {next(iter(variables.levels))!r} holds categories, and linear weights need numbers: leave it out, or use "
            'pc(data, test="mixed")'
        )
    return variables.require_variation()


def _refuse_dependent(nodes: tuple[str, ...], correlations: np.ndarray) -> None:
    values, vectors = np.linalg.eigh(correlations)
    if values[0] < DEPENDENT:
        among = [node for node, share in zip(nodes, vectors[:, 0], strict=True) if abs(share) > 1e-3]
        raise ValueError(
            f"columns {listing(among)} are linear combinations of each other: leave one of them out, or give more rows"
        )


def _without_cycles(weights: np.ndarray, threshold: float, required: np.ndarray) -> np.ndarray:
    """The edges above the threshold, and those required, as a DAG: the largest first, and none that closes a cycle."""
    dag, reach = required.copy(), meek.descendants(required)
    sizes = np.where(required, 0.0, np.abs(weights))
    for i, j in np.dstack(np.unravel_index(np.argsort(-sizes, axis=None, kind="stable"), sizes.shape))[0]:
        if sizes[i, j] <= threshold:
            break
        if not reach[j, i]:
            dag[i, j] = True
            above, below = reach[:, i].copy(), reach[j].copy()
            above[i] = below[j] = True
            reach |= np.outer(above, below)
    return dag


def _without_weak(
    dag: np.ndarray, correlations: np.ndarray, n: int, threshold: float, required: np.ndarray, forbidden: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The member of the DAG's class that follows the columns' order, and the marks of the class.

    An edge with a small weight or gain there goes, that of the least gain first: the penalty may have put a pair of edges
    where one of the other direction does.
    """
    while True:
        marks = meek.class_of(dag, required | (forbidden & ~forbidden.T))
        dag, _ = meek.extend(marks, -np.arange(len(dag)))
        weights, _, gains = _least_squares(correlations, dag)
        weak = dag & ~required & ((np.abs(weights) <= threshold) | (n * gains < np.log(n)))
        if not weak.any():
            return dag, marks
        dag[np.unravel_index(np.where(weak, gains, np.inf).argmin(), dag.shape)] = False


def _least_squares(covariance: np.ndarray, dag: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights (d, d), noise variances (d,), and by how much log variance falls with each edge (d, d), on a DAG."""
    weights, gains, variances = np.zeros_like(covariance), np.zeros_like(covariance), np.diag(covariance).copy()
    for j in range(len(dag)):
        parents = np.flatnonzero(dag[:, j])
        precision = np.linalg.inv(covariance[np.ix_(parents, parents)])
        weights[parents, j] = precision @ covariance[parents, j]
        variances[j] -= weights[parents, j] @ covariance[parents, j]
        gains[parents, j] = np.log1p(weights[parents, j] ** 2 / np.diag(precision) / variances[j])
    return weights, variances, gains


def _notes(cpdag: CPDAG) -> tuple[str, ...]:
    if not cpdag.undirected:
        return ()
    edges = ", ".join(f"{a} - {b}" for a, b in cpdag.undirected)
    return (f"the data fit either direction of {edges} equally well: the order of the columns decided",)
