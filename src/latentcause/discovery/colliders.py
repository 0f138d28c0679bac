"""Which unshielded triples a - c - b are colliders a -> c <- b."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from latentcause.discovery.independence.base import IndependenceTest
from latentcause.discovery.skeleton import Skeleton


@dataclass(frozen=True)
class Collider:
    """A triple a -> c <- b (columns, a < b) that the data ask for.

    Attributes
    ----------
    share : float
        Of the conditions that separate a and b, how many contain c; below a half.
    p_value : float
        The largest of those conditions.
    """

    a: int
    c: int
    b: int
    share: float
    p_value: float


def find_colliders(test: IndependenceTest, skeleton: Skeleton, alpha: float) -> list[Collider]:
    """The majority rule (Colombo and Maathuis 2014, section 4.2): c is a collider if most separations leave it out.

    All conditions within the neighbours of a and within those of b are asked, up to the size that the search for the
    skeleton reached; the separation found there counts too. Where exactly half of them hold c, it is no collider. A
    single separation would depend on one test, and errs about twice as often.
    """
    separating = _separating_conditions(test, skeleton, alpha)
    found = []
    for (a, b), conditions in separating.items():
        sets = [set(given) for given, _ in conditions]
        largest = max(p for _, p in conditions)
        for c in np.flatnonzero(skeleton.adjacent[a] & skeleton.adjacent[b]).tolist():
            share = sum(c in given for given in sets) / len(sets)
            if share < 0.5:
                found.append(Collider(a, c, b, share, largest))
    return found


def _separating_conditions(
    test: IndependenceTest, skeleton: Skeleton, alpha: float
) -> dict[tuple[int, int], list[tuple[tuple[int, ...], float]]]:
    """For every pair of the ends of unshielded triples, each condition that separates it, with its p-value."""
    asked: dict[int, list[tuple[int, int, tuple[int, ...]]]] = defaultdict(list)
    adjacent = skeleton.adjacent
    neighbours = [np.flatnonzero(row).tolist() for row in adjacent]
    apart = np.triu(~adjacent & ((adjacent.astype(np.float32) @ adjacent) > 0), 1)
    separating: dict[tuple[int, int], list[tuple[tuple[int, ...], float]]] = defaultdict(list)
    for a, b in np.argwhere(apart).tolist():
        known = skeleton.separations.get((a, b))
        if known is not None:
            separating[a, b].append((known, float(skeleton.p_values[a, b])))
        for k in range(skeleton.depth + 1):
            near = {given for end in (a, b) for given in combinations(neighbours[end], k)} - {known}
            asked[k] += [(a, b, given) for given in sorted(near)]
    for k, tests in asked.items():
        x, y = (np.array([t[end] for t in tests], dtype=np.int64) for end in (0, 1))
        p_values = test.p_values(x, y, np.array([t[2] for t in tests], dtype=np.int64).reshape(len(tests), k))
        for (first, second, given), p in zip(tests, p_values.tolist(), strict=True):
            if p > alpha:
                separating[first, second].append((given, p))
    return separating
