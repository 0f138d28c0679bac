"""The FCI algorithm."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import combinations, islice
from typing import Any

import networkx as nx
import numpy as np

from latentcause.discovery.ancestral import ARROW, CIRCLE, NONE, TAIL, Orientation
from latentcause.discovery.colliders import find_colliders
from latentcause.discovery.cpdag import Separation, pair
from latentcause.discovery.independence import IndependenceTest
from latentcause.discovery.knowledge import BackgroundKnowledge
from latentcause.discovery.pag import PAG
from latentcause.discovery.skeleton import BATCH, Skeleton, find_skeleton, prepared_test
from latentcause.progress import progress

MARK_NAMES = {CIRCLE: "circle", ARROW: "arrow", TAIL: "tail"}


def fci(
    data: Any,
    alpha: float = 0.01,
    test: str | IndependenceTest = "auto",
    *,
    knowledge: BackgroundKnowledge | None = None,
    max_given: int | None = None,
) -> PAG:
    """Learn what the data tell of causes when common causes may be hidden (Spirtes, Glymour and Scheines 2000, section 6.7).

    It assumes that the independences are those of a graph over the measured and any number of hidden variables and no
    others (faithfulness), that no variable was used to select the rows, and that the test fits the data. Then, as
    the rows grow, it finds the PAG of that graph: every mark on which all graphs with these independences agree (Zhang
    2008). The steps, none of which depends on the order of the columns:

    1. Skeleton by conditions within neighbours, as in `pc`.
    2. Colliders by the majority rule, as in `pc`. Hidden variables may need conditions beyond the neighbours: for each edge
       that stands, those within the possible d-separating sets of its ends are asked, by growing size, only among
       nodes in a block of the graph with the edge (Colombo, Maathuis, Kalisch and Richardson, Annals of Statistics
       40, 2012, Definition 3.3). Edges are removed together at the end.
    3. Colliders again, on the smaller skeleton; then Zhang's rules 1 to 4 and 8 to 10 (`Orientation`).

    When tests err, rules can contradict each other; those edges keep circles, and ``conflicts`` names them.

    Parameters
    ----------
    data : DataFrame, array (n, d), Variables or IndependenceTest
        With a test built already (`DSeparation(graph, latent)`, say), ``test`` is not looked at.
    alpha : float
        Level of each test, in (0, 1): an edge is removed where the p-value is larger.
    test : str or class of tests
        As for `pc`.
    knowledge : BackgroundKnowledge, optional
        With hidden variables in between, it speaks of causes, not of edges: a required edge a -> b says that a causes b, and
        they are joined whatever the data say; a forbidden one, or one against the tiers, says that a does not cause b:
        if they are joined, an arrowhead stands at a. Where both directions are forbidden, an edge is a <-> b.
    max_given : int, optional
        Largest number of variables in a condition. Step 2 asks all subsets of its sets: give a limit, 4 say, where these
        hold more than about 15 variables.

    Returns
    -------
    PAG
        With a `Separation` for each removed edge, and for each edge that stands the largest p-value it met.

    Raises
    ------
    ValueError
        For what `Variables` and the test refuse, an alpha outside (0, 1), or knowledge that names an unknown variable.

    Examples
    --------
    >>> import latentcause as lc
    >>> graph = lc.CausalGraph.from_string("rain -> wet; sprinkler -> wet; hidden -> wet; hidden -> slip; shoes -> slip")
    >>> lc.discovery.fci(lc.discovery.DSeparation(graph, latent=["hidden"]))
    PAG(rain o-> wet; sprinkler o-> wet; wet <-> slip; shoes o-> slip)
    """
    columns, asked = prepared_test(data, alpha, test, max_given)
    required, forbidden = (knowledge or BackgroundKnowledge()).matrices(asked.nodes)
    kept = required | required.T
    skeleton = find_skeleton(asked, alpha, max_given, kept)
    first, _ = _collided(asked, skeleton, alpha, required, forbidden)
    skeleton = _search_beyond_neighbours(asked, skeleton, alpha, max_given, first, kept)
    marks, conflicts = _collided(asked, skeleton, alpha, required, forbidden)
    orientation = Orientation(asked.nodes, marks, skeleton.separations)
    orientation.close()
    return _named(asked.nodes, columns, marks, skeleton, [*conflicts, *orientation.conflicts])


def _collided(
    test: IndependenceTest, skeleton: Skeleton, alpha: float, required: np.ndarray, forbidden: np.ndarray
) -> tuple[np.ndarray, list[str]]:
    """Marks (d, d) with what is known and the arrowheads of unshielded colliders, and the colliders that were dropped."""
    marks = np.where(skeleton.adjacent, CIRCLE, NONE)
    marks[skeleton.adjacent & forbidden.T] = ARROW
    marks[required], marks[required.T] = ARROW, TAIL
    known_tails, conflicts = marks == TAIL, []
    for collider in find_colliders(test, skeleton, alpha):
        a, c, b = collider.a, collider.c, collider.b
        if known_tails[a, c] or known_tails[b, c]:
            ends = sorted((test.nodes[a], test.nodes[b]))
            conflicts.append(
                f"{ends[0]} *-> {test.nodes[c]} <-* {ends[1]} was dropped: it contradicts background knowledge"
            )
        else:
            marks[[a, b], c] = ARROW
    return marks, sorted(conflicts)


# --- conditions beyond the neighbours --------------------------------------------------------------------------------


def _search_beyond_neighbours(
    test: IndependenceTest, skeleton: Skeleton, alpha: float, max_given: int | None, marks: np.ndarray, kept: np.ndarray
) -> Skeleton:
    """Remove the edges that a condition within the possible d-separating set of one of its ends separates."""
    adjacent, p_values = skeleton.adjacent.copy(), skeleton.p_values.copy()
    separations, depth = dict(skeleton.separations), skeleton.depth
    reachable = [_possibly_separating(marks, a) for a in range(len(marks))]
    blocks = [set(block) for block in nx.biconnected_components(nx.from_numpy_array(skeleton.adjacent))]
    edges = np.argwhere(np.triu(skeleton.adjacent & ~kept)).tolist()
    with progress("searching beyond neighbours", len(edges), "edges") as report:
        for done, (a, b) in enumerate(edges):
            block = next(block for block in blocks if {a, b} <= block)
            sets = [sorted((reachable[end] & block) - {a, b}) for end in (a, b)]
            near = [set(np.flatnonzero(skeleton.adjacent[end]).tolist()) for end in (a, b)]
            largest, given = _best_separation(test, a, b, sets, near, alpha, max_given)
            p_values[a, b] = p_values[b, a] = max(largest, p_values[a, b]) if largest <= alpha else largest
            if largest > alpha:
                adjacent[a, b] = adjacent[b, a] = False
                separations[a, b] = given
            report(done + 1, int(adjacent.sum()) // 2)
    return Skeleton(adjacent, p_values, separations, depth)


def _possibly_separating(marks: np.ndarray, a: int) -> set[int]:
    """Nodes at the end of a path from a on which every inner node is a collider or in the middle of a triangle."""
    adjacent, arrow = marks != NONE, marks == ARROW
    seen = {(a, int(b)) for b in np.flatnonzero(adjacent[a])}
    waiting = deque(sorted(seen))
    while waiting:
        u, v = waiting.popleft()
        for w in np.flatnonzero(adjacent[v] & (adjacent[u] | (arrow[u, v] & arrow[:, v]))).tolist():
            if w not in (a, u) and (v, w) not in seen:
                seen.add((v, w))
                waiting.append((v, w))
    return {v for _, v in seen}


def _best_separation(
    test: IndependenceTest,
    a: int,
    b: int,
    sets: list[list[int]],
    near: list[set[int]],
    alpha: float,
    max_given: int | None,
) -> tuple[float, tuple[int, ...]]:
    """The condition with the largest p-value, of the smallest size at which one exceeds alpha; those asked before left out."""
    best, condition = 0.0, tuple[int, ...]()
    longest = max(map(len, sets))
    for k in range(longest + 1 if max_given is None else min(longest, max_given) + 1):
        for conditions in _conditions(sets, near, k):
            ends = np.full(len(conditions), a), np.full(len(conditions), b)
            p_values = test.p_values(*ends, np.array(conditions, dtype=np.int64).reshape(len(conditions), k))
            largest = int(np.argmax(p_values))
            if p_values[largest] > best:
                best, condition = float(p_values[largest]), conditions[largest]
        if best > alpha:
            break
    return best, condition


def _conditions(sets: list[list[int]], near: list[set[int]], k: int) -> Iterator[list[tuple[int, ...]]]:
    """The k-subsets of either set, in batches; those within the neighbours of an end were asked for the skeleton."""
    first = set(sets[0])
    new = (
        given
        for which, members in enumerate(sets)
        for given in combinations(members, k)
        if not (which == 1 and first.issuperset(given)) and not any(neighbours.issuperset(given) for neighbours in near)
    )
    while batch := list(islice(new, BATCH)):
        yield batch


def _named(
    nodes: tuple[str, ...], columns: tuple[str, ...], marks: np.ndarray, skeleton: Skeleton, conflicts: list[str]
) -> PAG:
    """The result, its nodes in the order of the columns."""
    edges = [
        (nodes[i], MARK_NAMES[marks[j, i]], MARK_NAMES[marks[i, j]], nodes[j]) for i, j in np.argwhere(np.triu(marks))
    ]
    separations = {
        pair(nodes[i], nodes[j]): Separation(tuple(nodes[s] for s in given), float(skeleton.p_values[i, j]))
        for (i, j), given in skeleton.separations.items()
    }
    p_values = {
        pair(nodes[i], nodes[j]): float(skeleton.p_values[i, j]) for i, j in np.argwhere(np.triu(skeleton.adjacent))
    }
    return PAG(columns, tuple(edges), separations, p_values, tuple(conflicts))
