"""Graphs from pairs before and after an intervention: what moves, and by how much, tells who causes whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import torch
from scipy.special import chdtrc, ndtr

from latentcause.data.labels import listing
from latentcause.data.variables import Variables
from latentcause.discovery.cpdag import CPDAG
from latentcause.discovery.holm import holm
from latentcause.discovery.knowledge import BackgroundKnowledge
from latentcause.discovery.paired_targets import FLOOR, Changes, causal_order, infer_targets
from latentcause.discovery.pc import pc
from latentcause.graph import CausalGraph
from latentcause.splines import UniformBSpline

Mechanisms = Literal["linear", "spline"]

SPLINES = 12  # functions of a node's value
LEAST_EFFECT: dict[Mechanisms, float] = {"linear": 0.0, "spline": 0.05}


@dataclass(frozen=True, eq=False, repr=False)
class PairsResult:
    """A graph learned from pairs, and why.

    Attributes
    ----------
    cpdag : CPDAG
        All arrows where every node is the target of some pair; else edges may be open, those between nodes that are not.
    targets : tuple of str or None
        The most probable target of each pair; None for no intervention.
    probabilities : DataFrame (n, d)
        Of each node being the target of each pair; what is missing to 1 is that of no intervention.
    untargeted : tuple of str
        Nodes that no pair targets.
    p_values : DataFrame (d, d)
        [cause, effect]: of "the cause is no parent of the effect". NaN where the order excludes the edge, or where `pc` had
        to decide (``cpdag.p_values`` then).
    alpha : float
        Level that all edges hold together (Holm).
    """

    cpdag: CPDAG
    targets: tuple[str | None, ...]
    probabilities: pd.DataFrame
    untargeted: tuple[str, ...]
    p_values: pd.DataFrame
    alpha: float

    def dag(self) -> CausalGraph:
        """The graph, where it is identified.

        Raises
        ------
        ValueError
            Where edges are open; it names them.
        """
        if self.cpdag.undirected:
            open_ = ", ".join(f"{a} - {b}" for a, b in self.cpdag.undirected)
            raise ValueError(
                f"the pairs leave the direction of {open_} open, as they never target {', '.join(self.untargeted)}: "
                "cpdag.consistent_extension() chooses one graph, cpdag.to_dags() gives all"
            )
        return CausalGraph(self.cpdag.nodes, self.cpdag.directed)

    def __repr__(self) -> str:
        counts = pd.Series(self.targets, dtype=object).value_counts()
        shown = ", ".join(f"{node} {counts.get(node, 0)}" for node in self.cpdag.nodes)
        none = sum(target is None for target in self.targets)
        return f"PairsResult: {self.cpdag}\n  targets of {len(self.targets)} pairs: {shown}, none {none}"


def from_pairs(
    before: Any,
    after: Any,
    targets: Sequence[str | None] | None = None,
    *,
    alpha: float = 0.01,
    mechanisms: Mechanisms = "linear",
    error: float = 0.0,
    min_effect: float | None = None,
) -> PairsResult:
    """Learn a graph from values before and after a perfect intervention on at most one node, all other noises kept.

    This is the weak supervision of J. Brehmer, P. de Haan, P. Lippe and T. Cohen (NeurIPS 2022) with the nodes at hand. In
    z_j = sum_k f_jk(z_k) + u_j the noise u_j cancels in the change of a node that is not the target:

        z~_j - z_j = sum_k f_jk(z~_k) - f_jk(z_k),

    without error, or up to errors of measurement. So:

    1. Targets, where unknown: a mixture over them (`latentcause.discovery.paired_targets.infer_targets`).
    2. Order: causes move the others; `causal_order`.
    3. Parents of j: regression of its change on those of its predecessors, over the pairs that do not target j. The
       predecessors' errors of measurement show alone in pairs that target j or a later node; their second moments are
       taken off those of the regressors (errors in variables; W. A. Fuller, Measurement Error Models, 1987, section 2.2).
       Wald tests with a sandwich covariance, Holm's correction over all edges.
    4. A node u that is never the target changes exactly with its causes, and does not tell whether it or they cause a
       later node. So regressions with such a predecessor take in the values before, weighed by the variances of both
       kinds of error. Two such nodes whose order the targets leave open are joined, and given parents, by `pc` on the
       values before, which knows all the rest.

    The regressors' errors must be independent of the response's. With every node targeted the result is the true graph as
    pairs grow, without faithfulness, whatever the law of the noises.

    Parameters
    ----------
    before, after : DataFrame, array (n, d) or Variables
        Row i of both is pair i. The columns of ``after`` are matched by name, if it has names.
    targets : sequence of n names or None, optional
        The target of each pair, None for no intervention; without it they are inferred.
    alpha : float
        Level, in (0, 1).
    mechanisms : {"linear", "spline"}
        f_jk: a line, or a cubic spline with 12 functions. Splines are additive over parents.
    error : float
        Changes of fewer sds (of the node before) are error of measurement when targets are inferred. Independent errors
        need no such bound: their size is learned. It is for latents that leak into each other.
    min_effect : float, optional
        Edges with sd(f_jk(z_k)) / sd(z_j), before, below this are left out. By default 0 for linear mechanisms and 0.05 for
        splines, whose errors of approximation look like weak edges, as do latents that leak into each other.

    Raises
    ------
    ValueError
        For what `Variables` refuses (missing values, constant columns, fewer rows than columns), categories, shapes that
        differ, a wrong number of targets or an unknown one, pairs of which none shows an intervention, an alpha outside
        (0, 1), unknown mechanisms, and an ``error`` or ``min_effect`` out of range.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> u, new, hit = rng.normal(size=(3, 500, 2))
    >>> before = np.column_stack([u[:, 0], 2 * u[:, 0] + u[:, 1]])
    >>> first = np.where(hit[:, 0] > 0, new[:, 0], u[:, 0])
    >>> after = np.column_stack([first, np.where(hit[:, 0] > 0, 2 * first + u[:, 1], new[:, 1])])
    >>> from_pairs(before, after)
    PairsResult: x0 -> x1
      targets of 500 pairs: x0 235, x1 265, none 0
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is {alpha}: give a level between 0 and 1, such as 0.01")
    if mechanisms not in get_args(Mechanisms):
        raise ValueError(f"unknown mechanisms {mechanisms!r}: choose one of {', '.join(get_args(Mechanisms))}")
    if not 0 <= error < 1:
        raise ValueError(f"error is {error}: give a number of sds, at least 0 and below 1")
    if min_effect is None:
        min_effect = LEAST_EFFECT[mechanisms]
    if not 0 <= min_effect < np.inf:
        raise ValueError(f"min_effect is {min_effect}: give a number of sds, at least 0")
    first, second = _read(before, after)
    nodes = first.names
    changes = _changes(first.values, second.values, mechanisms, max(error, FLOOR))
    weights = infer_targets(changes) if targets is None else _given(targets, nodes, len(first))
    order = causal_order(changes, weights)
    if not order:
        raise ValueError("no pair shows an intervention: before and after agree in all of them")
    tiers = _tiers(changes, weights, order, alpha)
    p_values, effects = _parent_tests(changes, weights, tiers)
    cpdag = CPDAG.from_adjacency(holm(p_values, alpha) & (effects >= min_effect), nodes)
    if any(len(tier) > 1 for tier in tiers):
        cpdag = _completed(first, cpdag, tiers, alpha)
    chosen = weights.argmax(axis=1)
    return PairsResult(
        cpdag,
        tuple([*nodes, None][t] for t in chosen),
        pd.DataFrame(weights[:, :-1], columns=nodes),
        tuple(node for j, node in enumerate(nodes) if j not in order),
        pd.DataFrame(p_values, index=nodes, columns=nodes),
        alpha,
    )


# --- reading -------------------------------------------------------------------------------------------------------------


def _read(before: Any, after: Any) -> tuple[Variables, Variables]:
    first = Variables.read(before)
    named = isinstance(after, (pd.DataFrame, Variables)) and isinstance(before, (pd.DataFrame, Variables))
    shapes = [np.shape(part.values if isinstance(part, Variables) else part) for part in (before, after)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"before has the shape {shapes[0]}, after {shapes[1]}: row i of both must be pair i")
    second = Variables.read(after, columns=first.names if named else None)
    for part, what in ((first, "before"), (second, "after")):
        if part.levels:
            raise ValueError(f"column {next(iter(part.levels))!r} of {what} holds categories: changes need numbers")
    first.require_variation()
    return first, second


def _changes(before: np.ndarray, after: np.ndarray, mechanisms: Mechanisms, error: float) -> Changes:
    centre, scale = before.mean(axis=0), before.std(axis=0)
    old, new = (before - centre) / scale, (after - centre) / scale
    moved = (after - before) / scale
    if mechanisms == "linear":
        return Changes(new, moved, old[:, :, None], moved[:, :, None], error)
    levels, features = [], []
    for z, z_new in zip(old.T, new.T, strict=True):
        low, high = np.quantile(np.r_[z, z_new], [0.002, 0.998])
        basis = UniformBSpline(float(low), float(high), SPLINES)
        values = [basis.design(torch.from_numpy(part.copy())).numpy() for part in (z, z_new)]
        levels.append(values[0][:, 1:])
        features.append((values[1] - values[0])[:, 1:])  # the functions sum to 1, so their changes to 0
    return Changes(new, moved, np.stack(levels, axis=1), np.stack(features, axis=1), error)


def _given(targets: Sequence[str | None], nodes: tuple[str, ...], n: int) -> np.ndarray:
    if isinstance(targets, str) or len(targets) != n:
        raise ValueError(f"targets must hold one name or None for each of the {n} pairs")
    column: dict[str | None, int] = {node: j for j, node in enumerate(nodes)}
    column[None] = len(nodes)
    if unknown := [target for target in targets if target not in column]:
        raise ValueError(
            f"target {unknown[0]!r} is not a column: they are {listing(nodes)}; None is for no intervention"
        )
    return np.eye(len(nodes) + 1)[[column[target] for target in targets]]


# --- order ---------------------------------------------------------------------------------------------------------------


def _tiers(changes: Changes, weights: np.ndarray, order: list[int], alpha: float) -> list[list[int]]:
    """The nodes, causes first, those between which the order is open in one tier.

    A node that is never the target comes after the last target that moves it, and before the next, which it can't follow.
    """
    slots: list[list[int]] = [[] for _ in range(len(order) + 1)]
    for u in range(changes.moved.shape[1]):
        if u not in order:
            movers = [place + 1 for place, t in enumerate(order) if _moves_along(changes, weights, t, u, alpha)]
            slots[max(movers, default=0)].append(u)
    tiers = [slots[0]]
    for t, slot in zip(order, slots[1:], strict=True):
        tiers += [[t], slot]
    return [tier for tier in tiers if tier]


def _moves_along(changes: Changes, weights: np.ndarray, t: int, u: int, alpha: float) -> bool:
    """Whether u moves by more where t does, in the pairs that target t (Fisher's z, level alpha / d^2)."""
    size = np.abs(changes.moved[weights[:, t] > 0.5][:, [t, u]])
    if len(size) < 4 or np.ptp(size, axis=0).min() < 10 * FLOOR:
        return False
    z = np.sqrt(len(size) - 3) * np.arctanh(np.clip(np.corrcoef(size.T)[0, 1], -1 + 1e-12, 1 - 1e-12))
    return bool(2 * ndtr(-abs(z)) < alpha / changes.moved.shape[1] ** 2)


# --- parents -------------------------------------------------------------------------------------------------------------


def _parent_tests(changes: Changes, weights: np.ndarray, tiers: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """p-values and effects (d, d), [cause, effect], of the nodes of earlier tiers on each node that has a tier of its own."""
    d = changes.moved.shape[1]
    p_values, effects = np.full((d, d), np.nan), np.zeros((d, d))
    predecessors: list[int] = []
    for tier in tiers:
        if len(tier) == 1 and predecessors:
            (j,) = tier
            p_values[predecessors, j], found = _regression(changes, weights, j, predecessors)
            for k, coefficients in zip(predecessors, found, strict=True):
                effects[k, j] = (changes.levels[:, k] @ coefficients).std()
        predecessors = [*predecessors, *tier]
    return p_values, effects


def _regression(
    changes: Changes, weights: np.ndarray, j: int, predecessors: list[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Steps 3 and 4 of `from_pairs` for one node: Wald p-values (m,) and coefficients (m, B) of its m predecessors."""
    x, y = changes.of(predecessors), changes.moved[:, j]
    moved = weights[:, predecessors].sum(axis=1)  # the pairs that tell of the mechanism: a predecessor is the target
    unmoved = np.maximum(1 - moved, 0)  # all change of the predecessors is error
    n, m = moved.sum(), unmoved.sum()
    error = (x.T * unmoved) @ x / m if m > 2 * x.shape[1] else np.zeros((x.shape[1], x.shape[1]))
    plain = (x.T * moved) @ x
    gram = plain - n * error + np.diag(1e-14 * np.diag(plain) + FLOOR**2)
    right, share = (x.T * moved) @ y, n
    levels = np.zeros_like(x)
    old = np.zeros_like(y)
    if weights[:, predecessors].sum(axis=0).min() < 0.5:  # an untargeted one: its changes are those of its causes
        levels, old = _levels_weighed(changes, j, predecessors, x, y, moved)
        gram += levels.T @ levels
        right += levels.T @ old
        share += len(y)
    w = np.linalg.solve(gram, right)
    pull = error @ w
    scores = moved[:, None] * (x * (y - x @ w)[:, None] + pull) + levels * (old - levels @ w)[:, None]
    of_error = (n / max(m, 1.0)) * unmoved[:, None] * (x * (x @ w)[:, None] - pull)
    middle = scores.T @ scores + of_error.T @ of_error + FLOOR**2 * (plain + FLOOR**2 * np.eye(len(plain)))
    half = np.linalg.solve(gram, middle)
    covariance = np.linalg.solve(gram, half.T) * share / max(share - len(w), 1.0)
    width = len(w) // len(predecessors)
    blocks = [slice(start, start + width) for start in range(0, len(w), width)]
    wald = [w[block] @ np.linalg.lstsq(covariance[block, block], w[block], rcond=1e-12)[0] for block in blocks]
    return chdtrc(width, np.maximum(wald, 0.0)), w.reshape(-1, width)


def _levels_weighed(
    changes: Changes, j: int, predecessors: list[int], x: np.ndarray, y: np.ndarray, moved: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Values before, of predecessors and of j, centred and times sd(error of a change) / sd(noise of j): weights of a joint fit."""
    levels = changes.levels[:, predecessors].reshape(len(y), -1)
    levels, old = levels - levels.mean(axis=0), (changes.after - changes.moved)[:, j]
    old = old - old.mean()
    noise = old - levels @ np.linalg.lstsq(levels, old, rcond=None)[0]
    rows = np.sqrt(moved)
    error = rows * y - (x.T * rows).T @ np.linalg.lstsq((x.T * rows).T, rows * y, rcond=None)[0]
    ratio = np.sqrt(error @ error / max(moved.sum(), 1.0) / max(noise @ noise / len(y), FLOOR**2))
    scale = max(float(ratio), 1e-4)  # not less, or rounding of the changes would count for more than the values
    return levels * scale, old * scale


def _completed(before: Variables, found: CPDAG, tiers: list[list[int]], alpha: float) -> CPDAG:
    """Edges into nodes that share a tier, by `pc` on the values before; all others are known."""
    nodes = before.names
    settled = [nodes[tier[0]] for tier in tiers if len(tier) == 1]
    required = [edge for edge in found.directed if edge[1] in settled]
    forbidden = [(k, j) for j in settled for k in nodes if k != j and (k, j) not in required]
    knowledge = BackgroundKnowledge(required, forbidden, [[nodes[j] for j in tier] for tier in tiers])
    return pc(before, alpha, knowledge=knowledge)
