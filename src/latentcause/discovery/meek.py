"""Orienting a partially directed graph: Meek's rules, and extension to a DAG.

A graph is a bool matrix ``marks`` (d, d): [i, j] alone for i -> j, [i, j] and [j, i] for i - j, neither for no edge.
"""

from __future__ import annotations

import numpy as np


def close(marks: np.ndarray, frozen: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Apply Meek's four rules until nothing changes.

    Rules 1 to 3 make the arrows of a DAG's v-structures complete; with rule 4 so are arrows known beforehand (C. Meek,
    Causal inference and causal explanation with background knowledge, UAI 1995, Theorems 2 to 4). All rules fire at once in
    each round, so the order of the nodes plays no part. Where the graph contradicts itself (an edge that the rules would
    turn both ways, or into a cycle), the edge stays undirected.

    Parameters
    ----------
    marks : bool ndarray (d, d)
    frozen : bool ndarray (d, d), optional
        Symmetric; undirected edges that are to stay so.

    Returns
    -------
    marks : bool ndarray (d, d)
    frozen : bool ndarray (d, d)
        With the edges that contradictions kept undirected.
    """
    marks = marks.copy()
    frozen = np.zeros_like(marks) if frozen is None else frozen.copy()
    while True:
        wanted = _wanted_arrows(marks) & ~frozen
        torn = wanted & wanted.T
        frozen |= torn
        wanted &= ~torn
        if not wanted.any():
            return marks, frozen
        turned = marks & ~wanted.T
        if (cyclic := wanted & descendants(turned & ~turned.T).T).any():
            frozen |= cyclic | cyclic.T
            turned = marks & ~(wanted & ~cyclic).T
        marks = turned


def v_structures(dag: np.ndarray) -> np.ndarray:
    """Arrows (d, d) of a DAG that end in an unshielded collider: i -> j <- k with i and k not adjacent."""
    adjacent = dag | dag.T
    arrows = np.zeros_like(dag)
    for j in np.flatnonzero(dag.sum(axis=0) > 1):
        above = np.flatnonzero(dag[:, j])
        apart = ~adjacent[np.ix_(above, above)] & ~np.eye(len(above), dtype=bool)
        arrows[above[apart.any(axis=1)], j] = True
    return arrows


def class_of(dag: np.ndarray, known: np.ndarray | None = None) -> np.ndarray:
    """The marks of all DAGs with the skeleton and v-structures of ``dag`` that share its arrows where ``known``."""
    fixed = v_structures(dag)
    if known is not None:
        fixed |= dag & (known | known.T)
    return close((dag | dag.T) & ~fixed.T)[0]


def extend(marks: np.ndarray, rank: np.ndarray | None = None) -> tuple[np.ndarray, int]:
    """A DAG with the same skeleton and arrows, by removing sinks (D. Dor and M. Tarsi, UCLA report R-185, 1992).

    Parameters
    ----------
    marks : bool ndarray (d, d)
        Its arrows form no cycle.
    rank : ndarray (d,), optional
        Breaks ties; by default the positions.

    Returns
    -------
    dag : bool ndarray (d, d)
    unwanted : int
        0 where the DAG has no v-structure that ``marks`` lacks: it is then a consistent extension. Otherwise there is
        none, and the DAG adds v-structures at that many nodes, choosing at each step the sink that adds fewest.
    """
    rest, dag = marks.copy(), marks & ~marks.T
    rank = np.arange(len(marks)) if rank is None else rank
    unwanted, left = 0, np.ones(len(marks), dtype=bool)
    for _ in range(len(marks)):
        adjacent = rest | rest.T
        undirected = rest & rest.T
        # Pairs (neighbour of x by an undirected edge, other node adjacent to x) that are not adjacent to each other.
        broken = ((undirected.astype(np.float32) @ ~adjacent) * adjacent).sum(axis=1) - undirected.sum(axis=1)
        sink = left & ~(rest & ~rest.T).any(axis=1)
        x = min(np.flatnonzero(sink), key=lambda node: (broken[node], rank[node]))
        unwanted += bool(broken[x] > 0)
        dag[undirected[:, x], x] = True
        rest[x], rest[:, x], left[x] = False, False, False
    return dag, unwanted


def descendants(arrows: np.ndarray) -> np.ndarray:
    """Whether a directed path of at least one arrow leads from i to j: bool (d, d)."""
    reach = arrows.copy()
    while not np.array_equal(longer := reach | _path(reach, reach), reach):
        reach = longer
    return reach


def _wanted_arrows(marks: np.ndarray) -> np.ndarray:
    """The undirected edges that the rules turn, as arrows."""
    arrows, undirected = marks & ~marks.T, marks & marks.T
    if not undirected.any():
        return undirected
    adjacent = marks | marks.T
    apart = ~adjacent
    np.fill_diagonal(apart, False)
    wanted = undirected & (_path(arrows.T, apart) | _path(arrows, arrows))  # rules 1 and 2
    for a, b in np.argwhere(undirected & ~wanted):
        above = arrows[:, b]
        both = undirected[a] & above
        if both.sum() > 1 and apart[np.ix_(both, both)].any():  # rule 3: a - c -> b, a - d -> b, c and d apart
            wanted[a, b] = True
            continue
        middle, start = adjacent[a] & above, undirected[a] & apart[b]
        if arrows[np.ix_(start, middle)].any():  # rule 4: a - d -> c -> b, a and c adjacent, d and b apart
            wanted[a, b] = True
    return wanted


def _path(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Whether a node k joins i to j by first[i, k] and second[k, j]."""
    return (first.astype(np.float32) @ second.astype(np.float32)) > 0
