from __future__ import annotations

from collections import defaultdict
from functools import cache
from itertools import product

import numpy as np
import pytest

from latentcause.discovery import meek


@cache
def all_dags(d: int) -> list[np.ndarray]:
    """Every DAG on d labelled nodes (543 for d = 4)."""
    pairs = [(i, j) for i in range(d) for j in range(i + 1, d)]
    dags = []
    for choice in product(range(3), repeat=len(pairs)):
        matrix = np.zeros((d, d), dtype=bool)
        for (i, j), kind in zip(pairs, choice, strict=True):
            matrix[i, j], matrix[j, i] = kind == 1, kind == 2
        if not meek.descendants(matrix).diagonal().any():
            dags.append(matrix)
    return dags


@cache
def classes(d: int) -> list[list[np.ndarray]]:
    """The DAGs on d nodes by skeleton and v-structures (Verma and Pearl's theorem)."""
    groups: dict[bytes, list[np.ndarray]] = defaultdict(list)
    for dag in all_dags(d):
        groups[(dag | dag.T).tobytes() + meek.v_structures(dag).tobytes()].append(dag)
    return list(groups.values())


def union(members: list[np.ndarray]) -> np.ndarray:
    return np.any(members, axis=0)


def test_there_are_as_many_dags_and_classes_as_known():
    # Robinson 1973; Gillispie and Perlman 2001.
    assert [len(all_dags(d)) for d in (2, 3, 4)] == [3, 25, 543]
    assert [len(classes(d)) for d in (2, 3, 4)] == [2, 11, 185]


@pytest.mark.parametrize("d", [3, 4])
def test_the_class_of_a_dag_is_the_union_of_its_members(d):
    for members in classes(d):
        for dag in members:
            assert np.array_equal(meek.class_of(dag), union(members))


def test_known_arrows_leave_the_union_of_the_members_that_have_them():
    rng = np.random.default_rng(0)
    partly = 0
    for members in classes(4):
        for dag in members:
            known = dag & (rng.random(dag.shape) < 0.4)
            agreeing = [member for member in members if (member | ~known).all()]
            partly += 1 < len(agreeing) < len(members)
            assert np.array_equal(meek.class_of(dag, known), union(agreeing))
    assert partly > 50


def test_rule_four_is_needed_with_background_knowledge():
    # a - b, a - c, a - d, b - c, c - d, with d -> c and c -> b known: a -> b follows from rule 4 alone.
    a, b, c, d = range(4)
    marks = np.zeros((4, 4), dtype=bool)
    for i, j in ((a, b), (a, c), (a, d)):
        marks[i, j] = marks[j, i] = True
    marks[d, c] = marks[c, b] = True
    closed, frozen = meek.close(marks)
    assert closed[a, b]
    assert not closed[b, a]
    assert not frozen.any()


def test_contradictions_stay_undirected_whatever_the_order_of_the_nodes():
    # a -> b - c <- d with nothing else: rule 1 turns b - c both ways.
    marks = np.zeros((4, 4), dtype=bool)
    marks[0, 1] = marks[1, 2] = marks[2, 1] = marks[3, 2] = True
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]):
        closed, frozen = meek.close(marks[np.ix_(order, order)])
        assert np.array_equal(closed, marks[np.ix_(order, order)])
        assert frozen.sum() == 2


def test_an_extension_is_found_exactly_where_there_is_one():
    rng = np.random.default_rng(1)
    outcomes = {True: 0, False: 0}
    for members in classes(4):
        dag = members[rng.integers(len(members))]
        arrows = dag & (rng.random(dag.shape) < 0.5)
        marks = (dag | dag.T) & ~arrows.T
        # A member has the skeleton and the arrows of the marks, and no v-structure that is not among the arrows.
        exists = any(
            np.array_equal(other | other.T, marks | marks.T)
            and (other | ~arrows).all()
            and not _unshielded(other) - _unshielded(arrows, marks | marks.T)
            for other in all_dags(4)
        )
        found, unwanted = meek.extend(marks)
        assert (unwanted == 0) == exists
        assert np.array_equal(found | found.T, marks | marks.T)
        assert (found | ~arrows).all()
        assert not meek.descendants(found).diagonal().any()
        outcomes[exists] += 1
    assert min(outcomes.values()) > 10


def _unshielded(arrows: np.ndarray, adjacent: np.ndarray | None = None) -> set[tuple[int, int, int]]:
    adjacent = arrows | arrows.T if adjacent is None else adjacent
    d = len(arrows)
    return {
        (a, c, b)
        for a in range(d)
        for b in range(a + 1, d)
        for c in range(d)
        if arrows[a, c] and arrows[b, c] and not adjacent[a, b]
    }
