"""Which node each pair's intervention hit: a mixture over targets, fitted together with the mechanisms of changes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from latentcause.progress import progress

FLOOR = 1e-7  # smallest sd of a change, in sds of the node: below it is rounding
CLEAR = 4.0  # a node's changes are of two kinds where the sds of large and small ones differ by this factor
LARGE = 0.25  # changes of one kind are effects, not measurement error, where their sd exceeds this many sds of the node
ENOUGH = 20_000  # pairs that the mixture is fitted to
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
    error : float
        Changes below this many sds are error. Never below ``FLOOR``.
    """

    after: np.ndarray
    moved: np.ndarray
    levels: np.ndarray
    features: np.ndarray
    error: float

    def rows(self, chosen: np.ndarray) -> Changes:
        """The chosen pairs."""
        return Changes(self.after[chosen], self.moved[chosen], self.levels[chosen], self.features[chosen], self.error)

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
    effect = effect[:, waiting] / np.maximum(effect[np.arange(len(waiting)), waiting], changes.error**2)
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
    part = (
        changes
        if len(changes.moved) <= ENOUGH
        else changes.rows(np.linspace(0, len(changes.moved) - 1, ENOUGH).astype(int))
    )
    weights = _peeled(part)
    with progress("inferring targets", ROUNDS, "mean change") as report:
        for done in range(ROUNDS):
            mixture = _Mixture.fit(part, weights)
            before, weights = weights, mixture.probabilities(part)
            shift = float(np.abs(weights - before).mean())
            report(done + 1, shift)
            if shift < SETTLED:
                break
    return mixture.probabilities(changes)


@dataclass(frozen=True, eq=False)
class _Mixture:
    """The parameters of `infer_targets`: per node its predecessors and their coefficients, error variance, and new values' law."""

    predecessors: list[list[int]]
    coefficients: list[np.ndarray]
    error: np.ndarray
    new_mean: np.ndarray
    new_variance: np.ndarray
    share: np.ndarray

    @classmethod
    def fit(cls, changes: Changes, weights: np.ndarray) -> _Mixture:
        """Maximise the likelihood, each pair shared out over its targets."""
        d = changes.moved.shape[1]
        order = causal_order(changes, weights)
        predecessors = [order[: order.index(j)] if j in order else order for j in range(d)]
        coefficients, error = [], np.empty(d)
        for j in range(d):
            x, y, own = changes.of(predecessors[j]), changes.moved[:, j], 1 - weights[:, j]
            weighted = x.T * own
            gram = weighted @ x
            coefficients.append(np.linalg.solve(gram + np.diag(1e-10 * np.diag(gram) + 1e-30), weighted @ y))
            error[j] = own @ (y - x @ coefficients[j]) ** 2 / max(own.sum(), 1.0)
        error = np.maximum(error, changes.error**2)
        counts = weights.sum(axis=0)
        divisor = np.maximum(counts[:-1], 1.0)
        mean = (weights[:, :-1] * changes.after).sum(axis=0) / divisor
        variance = (weights[:, :-1] * (changes.after - mean) ** 2).sum(axis=0) / divisor
        return cls(predecessors, coefficients, error, mean, variance, counts / len(weights))

    def probabilities(self, changes: Changes) -> np.ndarray:
        """Of each target for each pair (n, d + 1)."""
        new = _log_normal(changes.after - self.new_mean, self.new_variance)
        error = np.empty_like(new)
        for j, (predecessors, w) in enumerate(zip(self.predecessors, self.coefficients, strict=True)):
            error[:, j] = changes.moved[:, j] - changes.of(predecessors) @ w
        with np.errstate(divide="ignore"):
            prior = np.log(self.share)
        log = np.column_stack([new - _log_normal(error, self.error), np.zeros(len(new))]) + prior
        log -= log.max(axis=1, keepdims=True)
        posterior = np.exp(log)
        return posterior / posterior.sum(axis=1, keepdims=True)


def _log_normal(x: np.ndarray, variance: np.ndarray) -> np.ndarray:
    variance = np.maximum(variance, FLOOR**2)
    return -0.5 * (x**2 / variance + np.log(2 * np.pi * variance))


# --- where to start ------------------------------------------------------------------------------------------------------


def _peeled(changes: Changes) -> np.ndarray:
    """First guess of the targets, causes first.

    Among pairs that have no target yet, a node without a cause among the nodes still waiting moves only where it is the
    target itself: so it is the one that moves least often. Where two move in the same pairs (one is the target, and the
    other, its descendant, never is), it is the one whose new value owes less to the old ones.
    """
    n, d = changes.moved.shape
    weights, left, waiting = np.zeros((n, d + 1)), np.ones(n, dtype=bool), list(range(d))
    while waiting and left.any():
        moves = {j: left & _moves(changes.moved[:, j], left, changes.error) for j in waiting}
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
    """Share of the variance of the new value of j that all old values explain, less what chance explains."""
    new = changes.after[rows, j] - changes.after[rows, j].mean()
    old = (changes.after - changes.moved)[rows]
    old = old - old.mean(axis=0)
    freedom = len(new) - old.shape[1] - 1
    if freedom < 1 or not new.any():
        return 0.0
    left = new - old @ np.linalg.lstsq(old, new, rcond=None)[0]
    return float(1 - (left @ left / freedom) / (new @ new / (len(new) - 1)))


def _moves(moved: np.ndarray, left: np.ndarray, error: float) -> np.ndarray:
    """In which pairs (n,) a node moves by more than measurement error: two normals around zero, fitted to those left."""
    size = np.maximum(np.abs(moved), error)
    share, small, large = _two_scales(size[left])
    if large < CLEAR * small:
        return np.full(len(moved), bool(np.sqrt((size[left] ** 2).mean()) > LARGE))
    odds = np.log(share / (1 - share) * small / large) + 0.5 * size**2 * (1 / small**2 - 1 / large**2)
    return odds > 0


def _two_scales(size: np.ndarray) -> tuple[float, float, float]:
    """Share of the wider normal and both sds, by expectation-maximisation over a histogram of log sizes from four starts."""
    counts, edges = np.histogram(np.log(size), bins=200)
    share_of, square = counts / counts.sum(), np.exp(edges[:-1] + edges[1:])
    share, small = np.full((4, 1), 0.5), np.quantile(size, [0.02, 0.2, 0.5, 0.8])[:, None]
    large = np.full((4, 1), np.sqrt(share_of @ square))
    for _ in range(200):
        narrow = np.log1p(-share) - np.log(small) - 0.5 * square / small**2
        wide = np.log(share) - np.log(large) - 0.5 * square / large**2
        both = np.logaddexp(narrow, wide)
        posterior = np.exp(wide - both) * share_of
        before, share = share, np.clip(posterior.sum(axis=1, keepdims=True), 1e-6, 1 - 1e-6)
        small = np.maximum(np.sqrt(((share_of - posterior) @ square)[:, None] / (1 - share)), FLOOR)
        large = np.maximum(np.sqrt((posterior @ square)[:, None] / share), FLOOR)
        if np.abs(share - before).max() < 1e-6:
            break
    best = int((both @ share_of).argmax())
    first, second, part = float(small[best, 0]), float(large[best, 0]), float(share[best, 0])
    return (part, first, second) if first <= second else (1 - part, second, first)
