"""The PC algorithm."""

from __future__ import annotations

from typing import Any

import numpy as np

from latentcause.discovery import meek
from latentcause.discovery.colliders import Collider, find_colliders
from latentcause.discovery.cpdag import CPDAG, Separation, pair
from latentcause.discovery.independence import IndependenceTest
from latentcause.discovery.knowledge import BackgroundKnowledge
from latentcause.discovery.skeleton import Skeleton, find_skeleton, prepared_test


def pc(
    data: Any,
    alpha: float = 0.01,
    test: str | IndependenceTest = "auto",
    *,
    knowledge: BackgroundKnowledge | None = None,
    max_given: int | None = None,
) -> CPDAG:
    """Learn the class of graphs from independences in the data (Spirtes, Glymour and Scheines 2000, section 5.4.2).

    It assumes that no common cause of two variables is left out (else use `fci`), that the independences are those of
    the graph and no others (faithfulness), and that the test fits the data. Then, as the rows grow, it finds the true
    CPDAG. The steps, none of which depends on the order of the columns:

    1. Skeleton: edges are removed by conditions of growing size (`find_skeleton`; stable after Colombo and Maathuis,
       JMLR 15, 2014).
    2. V-structures a -> c <- b by the majority rule (`find_colliders`): a and b are not adjacent, and most of their
       separations leave out c. Where two contradict each other or would close a cycle, the one that stands is the one
       with fewer separations that hold c; of equals, the one with the larger p-value; of these, the first by name. The
       other is dropped, as is one that contradicts background knowledge.
    3. Meek's four rules.
    4. Where no DAG fits what came out, which happens when tests err, the sinks of the graph are removed one by one, each time
       one that needs the fewest further v-structures, and the class of the DAG so found is returned.

    So the result always is a class of DAGs. What was dropped or added in steps 2 and 4 is told in ``conflicts``.

    Parameters
    ----------
    data : DataFrame, array (n, d), Variables or IndependenceTest
        With a test built already (`DSeparation(graph)`, say), ``test`` is not looked at.
    alpha : float
        Level of each test, in (0, 1): an edge is removed where the p-value is larger.
    test : str or class of tests
        "fisher-z", "chi-squared", "g-squared", "mixed", "gcm" or "kci"; "auto" takes "fisher-z" for numbers,
        "chi-squared" for categories and "mixed" for both.
    knowledge : BackgroundKnowledge, optional
    max_given : int, optional
        Largest number of variables in a condition; without it, as many as there are neighbours.

    Returns
    -------
    CPDAG
        With a `Separation` for each removed edge, and for each edge that stands the largest p-value it met.

    Raises
    ------
    ValueError
        For what `Variables` and the test refuse, an alpha outside (0, 1), knowledge that names an unknown variable or
        leaves no direction without a cycle.

    Examples
    --------
    >>> import latentcause as lc
    >>> graph = lc.CausalGraph.from_string("rain -> wet; sprinkler -> wet; wet -> slippery")
    >>> lc.discovery.pc(lc.discovery.DSeparation(graph))
    CPDAG(rain -> wet; wet -> slippery; sprinkler -> wet)
    """
    columns, asked = prepared_test(data, alpha, test, max_given)
    required, forbidden = (knowledge or BackgroundKnowledge()).matrices(asked.nodes)
    skeleton = find_skeleton(asked, alpha, max_given, required | required.T, forbidden & forbidden.T)
    orientation = _Orientation(asked.nodes, skeleton, required, forbidden)
    marks = orientation.finished(find_colliders(asked, skeleton, alpha))
    return _named(asked.nodes, columns, marks, skeleton, orientation.conflicts)


class _Orientation:
    """Arrows on a skeleton: those known, then v-structures, then what follows from them."""

    def __init__(self, nodes: tuple[str, ...], skeleton: Skeleton, required: np.ndarray, forbidden: np.ndarray) -> None:
        self.nodes, self.skeleton, self.forbidden = nodes, skeleton, forbidden
        self.rank = np.argsort(np.argsort(np.array(nodes)))
        self.arrows = (required | (forbidden.T & ~forbidden)) & skeleton.adjacent
        self.known = self.arrows.copy()
        self.reach = meek.descendants(self.arrows)
        self.conflicts: list[str] = []
        if self.reach.diagonal().any():
            around = ", ".join(nodes[i] for i in np.flatnonzero(self.reach.diagonal()))
            raise ValueError(
                f"the data join {around} by edges for which the background knowledge leaves no directions without a cycle: "
                "forbid fewer of them"
            )

    def finished(self, colliders: list[Collider]) -> np.ndarray:
        """The marks of a class of DAGs with these colliders, as far as they agree."""
        for collider in sorted(colliders, key=self._order):
            self._enter(collider.a, collider.c, collider.b)
        marks, frozen = meek.close(self.skeleton.adjacent & ~self.arrows.T)
        dag, unwanted = meek.extend(marks, self.rank)
        if not unwanted and not frozen.any():
            return marks
        repaired = meek.class_of(dag, self.known)
        before, after = (meek.v_structures(dag) for dag in (marks & ~marks.T, dag))
        self.conflicts += [
            f"no graph fits all v-structures found: {self.nodes[i]} -> {self.nodes[j]} is part of one that was added"
            for i, j in np.argwhere(after & ~before)
        ]
        return repaired

    def _order(self, collider: Collider) -> tuple[float, ...]:
        """The surest first; between equals, by name."""
        ends = sorted((self.rank[collider.a], self.rank[collider.b]))
        return (collider.share, -collider.p_value, self.rank[collider.c], *ends)

    def _enter(self, a: int, c: int, b: int) -> None:
        for end in (a, b):
            if self.forbidden[end, c] or self.arrows[c, end] or self.reach[c, end]:
                ends = sorted((self.nodes[a], self.nodes[b]))
                why = "background knowledge" if self.forbidden[end, c] else "a surer one"
                self.conflicts.append(f"{ends[0]} -> {self.nodes[c]} <- {ends[1]} was dropped: it contradicts {why}")
                return
        for end in (a, b):
            self.arrows[end, c] = True
            above, below = self.reach[:, end].copy(), self.reach[c].copy()
            above[end] = below[c] = True
            self.reach |= np.outer(above, below)


def _named(
    nodes: tuple[str, ...], columns: tuple[str, ...], marks: np.ndarray, skeleton: Skeleton, conflicts: list[str]
) -> CPDAG:
    """The result, its nodes in the order of the columns."""
    order = [nodes.index(name) for name in columns]
    separations = {
        pair(nodes[i], nodes[j]): Separation(tuple(nodes[s] for s in given), float(skeleton.p_values[i, j]))
        for (i, j), given in skeleton.separations.items()
    }
    p_values = {
        pair(nodes[i], nodes[j]): float(skeleton.p_values[i, j]) for i, j in np.argwhere(np.triu(skeleton.adjacent))
    }
    return CPDAG.from_adjacency(
        marks[np.ix_(order, order)], columns, separations=separations, p_values=p_values, conflicts=conflicts
    )
