"""The skeleton: which pairs no condition separates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, islice
from typing import Any

import numpy as np

from latentcause.data.variables import Variables
from latentcause.discovery.independence import IndependenceTest, choose_test
from latentcause.progress import progress

BATCH = 200_000  # tests asked at once


@dataclass(frozen=True)
class Skeleton:
    """What the search for separations found.

    Attributes
    ----------
    adjacent : bool ndarray (d, d)
        Symmetric.
    p_values : float ndarray (d, d)
        Symmetric: for removed pairs, of the separation; for adjacent ones, the largest of all tests.
    separations : dict from (i, j), i < j, to tuple of int
        The condition that separates a removed pair; pairs that background knowledge removed are not in it.
    depth : int
        Largest size of a condition that was asked.
    """

    adjacent: np.ndarray
    p_values: np.ndarray
    separations: dict[tuple[int, int], tuple[int, ...]]
    depth: int


def prepared_test(
    data: Any, alpha: float, test: str | IndependenceTest, max_given: int | None
) -> tuple[tuple[str, ...], IndependenceTest]:
    """The names of the columns in their own order, and the test to ask, for a search with these settings.

    Raises
    ------
    ValueError
        For an alpha outside (0, 1), a negative max_given, and what `Variables` and the test refuse.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is {alpha}: give a level between 0 and 1, such as 0.01")
    if max_given is not None and max_given < 0:
        raise ValueError(f"max_given is {max_given}: give the largest number of variables in a condition, at least 0")
    if isinstance(data, IndependenceTest):
        return data.nodes, data
    variables = Variables.read(data)
    # In the order of their names even the last bit of a p-value does not depend on the order of the columns.
    return variables.names, choose_test(Variables.read(variables, columns=sorted(variables.names)), test)


def find_skeleton(
    test: IndependenceTest,
    alpha: float,
    max_given: int | None = None,
    kept: np.ndarray | None = None,
    excluded: np.ndarray | None = None,
) -> Skeleton:
    """Remove every edge that some condition separates, by conditions of growing size (stable PC).

    At each size k the conditions are drawn from the neighbours that a node had when the size was reached, so the order
    in which edges are removed does not matter (Colombo and Maathuis 2014, Algorithm 4.1). Of all conditions of that
    size with a p-value above alpha, the one with the largest is kept: so the separations do not depend on the order
    either, which the published algorithm leaves open (the maximum is J. Ramsey's rule for colliders, arXiv 1610.00378).

    Parameters
    ----------
    test : IndependenceTest
    alpha : float
    max_given : int, optional
        Largest size of a condition; by default as far as there are neighbours.
    kept, excluded : bool ndarray (d, d), optional
        Symmetric: pairs that stay adjacent whatever the data say, and pairs that never are.
    """
    d = len(test.nodes)
    kept = np.zeros((d, d), dtype=bool) if kept is None else kept
    adjacent = ~np.eye(d, dtype=bool)
    if excluded is not None:
        adjacent &= ~excluded
    p_values, separations = np.zeros((d, d)), dict[tuple[int, int], tuple[int, ...]]()
    depth, deepest = 0, d - 2 if max_given is None else min(max_given, d - 2)
    with progress("searching separations", deepest + 1, "edges") as report:
        for k in range(deepest + 1):
            if k and adjacent.sum(axis=1).max() <= k:
                break
            depth = k
            best, conditions = _best_conditions(test, adjacent, kept, k)
            p_values = np.maximum(p_values, best)
            removed = adjacent & ~kept & (best > alpha)
            for i, j in np.argwhere(np.triu(removed)):
                separations[i, j] = conditions[i, j]
            adjacent = adjacent & ~removed
            report(k + 1, int(adjacent.sum()) // 2)
    return Skeleton(adjacent, p_values, separations, depth)


def _best_conditions(
    test: IndependenceTest, adjacent: np.ndarray, kept: np.ndarray, k: int
) -> tuple[np.ndarray, dict[tuple[int, int], tuple[int, ...]]]:
    """For every adjacent pair the largest p-value (d, d) over the conditions of size k, and its condition."""
    best, conditions = np.zeros(adjacent.shape), dict[tuple[int, int], tuple[int, ...]]()
    if k == 0:
        x, y = np.nonzero(np.triu(adjacent & ~kept))
        best[x, y] = test.p_values(x, y, np.empty((len(x), 0), dtype=np.int64))
        return np.maximum(best, best.T), dict.fromkeys(zip(x.tolist(), y.tolist(), strict=True), ())
    waiting: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def ask() -> None:
        if waiting:
            x, y, given = (np.concatenate(part) for part in zip(*waiting, strict=True))
            _keep_largest(best, conditions, x, y, given, test.p_values(x, y, given))
            waiting.clear()

    for i in range(len(adjacent)):
        for tests in _tests_of(i, adjacent, kept, k):
            waiting.append(tests)
            if sum(len(part[0]) for part in waiting) >= BATCH:
                ask()
    ask()
    return np.maximum(best, best.T), conditions


def _tests_of(
    i: int, adjacent: np.ndarray, kept: np.ndarray, k: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Tests of node i with each neighbour, given k of its other neighbours; those that the neighbour asks, left out."""
    neighbours = np.flatnonzero(adjacent[i])
    if len(neighbours) <= k:
        return
    for sets in _subsets(len(neighbours), k):
        outside = np.ones((len(neighbours), len(sets)), dtype=bool)
        outside[sets.T, np.arange(len(sets))] = False
        position, row = np.nonzero(outside)
        y, given = neighbours[position], neighbours[sets[row]]
        # Of a pair i < j, the sets within the neighbours of both are asked once, from i.
        needed = ~kept[i, y] & ((y > i) | ~adjacent[y[:, None], given].all(axis=1))
        yield np.full(int(needed.sum()), i), y[needed], given[needed]


def _subsets(m: int, k: int) -> Iterator[np.ndarray]:
    """All k-subsets of m positions, in blocks of rows."""
    all_sets = combinations(range(m), k)
    while block := list(islice(all_sets, max(1, BATCH // m))):
        yield np.array(block, dtype=np.int64)


def _keep_largest(
    best: np.ndarray,
    conditions: dict[tuple[int, int], tuple[int, ...]],
    x: np.ndarray,
    y: np.ndarray,
    given: np.ndarray,
    p: np.ndarray,
) -> None:
    """Enter the largest p of each pair (under its smaller and larger column) and its condition."""
    low, high = np.minimum(x, y), np.maximum(x, y)
    key = low * len(best) + high
    order = np.lexsort((*given.T[::-1], -p, key))  # equal p: the condition that comes first
    first = order[np.r_[True, np.diff(key[order]) > 0]] if len(order) else order
    for n in first:
        i, j = int(low[n]), int(high[n])
        if p[n] > best[i, j] or (i, j) not in conditions:
            best[i, j], conditions[i, j] = p[n], tuple(int(s) for s in given[n])
