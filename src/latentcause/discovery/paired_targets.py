"""Which node each pair's intervention hit: a mixture over targets, fitted together with the mechanisms of changes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from latentcause.progress import progress

FLOOR = 1e-7  # smallest sd of a change, in sds of the node: below it is rounding
CLEAR = 4.0  # a node's changes are of two kinds where the sds of large and small ones differ by this factor
LARGE = 0.25  # changes of one kind are effects, not measurement error, where their sd exceeds this many sds of the node
ROUNDS = 100
SETTLED = 1e-5  # mean change of a probability in one round


@dataclass(frozen=True, eq=False)
class Changes:
    """Pairs in units of each node's sd before, centred on its mean before.

    Attributes
    ----------
    after : ndarray (n, d)
    moved : ndarray (n, d)
        After minus before.
    levels, features : ndarray (n, d, B)
        B functions of a node's value before, and their changes: the value itself where mechanisms are linear.
    """

    after: np.ndarray
    moved: np.ndarray
    levels: np.ndarray
    features: np.ndarray

    def of(self, nodes: list[int]) -> np.ndarray:
        """Features (n, B len(nodes)) of some nodes, side by side."""
        return self.features[:, nodes].reshape(len(self.moved), -1)


def causal_order(changes: Changes, weights: np.ndarray) -> list[int]:
    """Targeted nodes, causes first: each next one is the least moved when others still waiting are targeted.

    Parameters
    ----------
    changes : Changes
    weights : ndarray (n, d + 1)
        Probability of each target, the last column for none. Nodes that no pair targets are left out.
    """
    counts = weights[:, :-1].sum(axis=0)
    waiting = [int(t) for t in np.flatnonzero(counts > 0.5)]
    effect = weights[:, waiting].T @ changes.moved**2 / counts[waiting, None]  # of target t (rows) on j
    effect = effect[:, waiting] / np.maximum(effect[np.arange(len(waiting)), waiting], FLOOR**2)
    np.fill_diagonal(effect, 0)
    order, left = [], list(range(len(waiting)))
    while left:
        first = left[int(effect[np.ix_(left, left)].max(axis=0).argmin())]
        order.append(waiting[first])
        left.remove(first)
    return order


def infer_targets(changes: Changes) -> np.ndarray:
    """Probabilities (n, d + 1) that each node, or none (last), is the target of each pair.

    A pair with target t has the likelihood N(z~_t; m_t, v_t) prod_{j != t} N(r_j; 0, s_j^2): the new value owes nothing to the
    old ones (a perfect intervention), and r_j, what is left of the change of j after its mechanism's answer to the changes
    of its predecessors, is measurement error, because the noise of j is kept. Expectation-maximisation, started by
    `_peeled`; the order is found anew in each round.
    """
    weights = _peeled(changes)
    with progress("inferring targets", ROUNDS, "mean change") as report:
        for done in range(ROUNDS):
            before, weights = weights, _posterior(changes, weights)
            shift = float(np.abs(weights - before).mean())
            report(done + 1, shift)
            if shift < SETTLED:
                break
    return weights


def _posterior(changes: Changes, weights: np.ndarray) -> np.ndarray:
    n, d = changes.moved.shape
    order = causal_order(changes, weights)
    kept, new = np.zeros((n, d)), np.full((n, d), -np.inf)
    for j in range(d):
        predecessors = order[: order.index(j)] if j in order else order
        own = 1 - weights[:, j]
        error = changes.moved[:, j] - _fitted(changes.of(predecessors), changes.moved[:, j], own)
        kept[:, j] = _log_normal(error, 0.0, own @ error**2 / max(own.sum(), 1.0))
        if j in order:
            share = weights[:, j] / weights[:, j].sum()
            mean = share @ changes.after[:, j]
            new[:, j] = _log_normal(changes.after[:, j], mean, share @ (changes.after[:, j] - mean) ** 2)
    log = np.column_stack([new - kept, np.zeros(n)])
    with np.errstate(divide="ignore"):
        log += np.log(weights.mean(axis=0))
    log -= log.max(axis=1, keepdims=True)
    posterior = np.exp(log)
    return posterior / posterior.sum(axis=1, keepdims=True)


def _fitted(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    if x.shape[1] == 0:
        return np.zeros_like(y)
    weighted = x.T * weights
    gram = weighted @ x
    return x @ np.linalg.solve(gram + np.diag(1e-10 * np.diag(gram) + 1e-30), weighted @ y)


def _log_normal(x: np.ndarray, mean: float, variance: float) -> np.ndarray:
    variance = max(variance, FLOOR**2)
    return -0.5 * ((x - mean) ** 2 / variance + np.log(2 * np.pi * variance))


# --- where to start ------------------------------------------------------------------------------------------------------


def _peeled(changes: Changes) -> np.ndarray:
    """First guess of the targets, causes first.

    Among pairs that have no target yet, a node without a cause among the nodes still waiting moves only where it is the
    target itself: so it is the one that moves least often. Where two move in the same pairs (one is the target, and the
    other, its descendant, never is), it is the one whose new value owes less to its old one.
    """
    n, d = changes.moved.shape
    weights, left, waiting = np.zeros((n, d + 1)), np.ones(n, dtype=bool), list(range(d))
    while waiting and left.any():
        moves = {j: left & _moves(changes.moved[:, j], left) for j in waiting}
        waiting = [j for j in waiting if moves[j].any()]
        if not waiting:
            break
        rarest = min(waiting, key=lambda j: moves[j].sum())
        alike = [j for j in waiting if (moves[j] & moves[rarest]).sum() > 0.9 * (moves[j] | moves[rarest]).sum()]
        first = min(alike, key=lambda j: _kept(changes, j, moves[j]))
        weights[moves[first], first] = 1
        left &= ~moves[first]
        waiting.remove(first)
    weights[left, -1] = 1
    return weights * 0.98 + 0.02 * weights.mean(axis=0)


def _kept(changes: Changes, j: int, rows: np.ndarray) -> float:
    """|Correlation| of the old and the new value of node j."""
    after = changes.after[rows, j]
    before = after - changes.moved[rows, j]
    if len(after) < 3 or np.ptp(after) == 0 or np.ptp(before) == 0:
        return 0.0
    return float(abs(np.corrcoef(before, after)[0, 1]))


def _moves(moved: np.ndarray, left: np.ndarray) -> np.ndarray:
    """In which pairs (n,) a node moves by more than measurement error: two normals around zero, fitted to those left."""
    size = np.maximum(np.abs(moved), FLOOR)
    share, small, large = _two_scales(size[left])
    if large < CLEAR * small:
        return np.full(len(moved), bool(np.sqrt((size[left] ** 2).mean()) > LARGE))
    odds = np.log(share / (1 - share) * small / large) + 0.5 * size**2 * (1 / small**2 - 1 / large**2)
    return odds > 0


def _two_scales(size: np.ndarray) -> tuple[float, float, float]:
    """Share of the wider normal and both sds, by expectation-maximisation over a histogram of log sizes."""
    counts, edges = np.histogram(np.log(size), bins=400)
    square = np.exp(edges[:-1] + edges[1:])
    best, best_fit = (0.0, 1.0, 1.0), -np.inf
    rms = np.sqrt(counts @ square / counts.sum())
    for quantile in (0.02, 0.2, 0.5, 0.8):
        share, small, large = 0.5, float(np.quantile(size, quantile)), float(rms)
        for _ in range(200):
            narrow = np.log1p(-share) - np.log(small) - 0.5 * square / small**2
            wide = np.log(share) - np.log(large) - 0.5 * square / large**2
            both = np.logaddexp(narrow, wide)
            posterior = np.exp(wide - both)
            share = float(np.clip(counts @ posterior / counts.sum(), 1e-6, 1 - 1e-6))
            small = max(float(np.sqrt(counts @ ((1 - posterior) * square) / counts.sum() / (1 - share))), FLOOR)
            large = max(float(np.sqrt(counts @ (posterior * square) / counts.sum() / share)), FLOOR)
        if (fit := float(counts @ both)) > best_fit:
            best, best_fit = (share, small, large) if small <= large else (1 - share, large, small), fit
    return best
