"""Arrows that outside evidence puts on a skeleton."""

from __future__ import annotations

import numpy as np

from latentcause.discovery import meek
from latentcause.discovery.cpdag import CPDAG


class Arrows:
    """Arrows that enter the skeleton of a CPDAG one by one, the surest first, and never close a cycle.

    Parameters
    ----------
    start : CPDAG
        Its skeleton is kept; its arrows give way to those that enter.
    """

    def __init__(self, start: CPDAG) -> None:
        self.start = start
        self.marks = start.adjacency.astype(bool)
        self.arrows = np.zeros_like(self.marks)
        self.conflicts = list(start.conflicts)

    def enter(self, ends: tuple[str, str], against: str) -> None:
        """Turn the edge of ``ends`` (cause, effect) this way, or note that it contradicts ``against``."""
        i, j = (self.start.index(end) for end in ends)
        if self.arrows[i, j]:
            return
        if meek.descendants(self.arrows)[j, i]:
            self.drop(ends, against)
        else:
            self.arrows[i, j] = True

    def drop(self, ends: tuple[str, str], against: str) -> None:
        """Note that ``ends`` (cause, effect) lost to ``against``."""
        self.conflicts.append(f"{ends[0]} -> {ends[1]} was dropped: it contradicts {against}")

    def finished(self) -> CPDAG:
        """The class of DAGs with the arrows that entered, the start's where they fit, and what follows from them."""
        before = self.marks & ~self.marks.T
        skeleton = self.marks | self.marks.T
        colliders = meek.v_structures(before)
        for chosen in (colliders, before & ~colliders):
            for ends in sorted((self.start.nodes[i], self.start.nodes[j]) for i, j in np.argwhere(chosen)):
                self.enter(ends, "invariances, or other arrows of the start")
        marks, frozen = meek.close(skeleton & ~self.arrows.T)
        rank = np.argsort(np.argsort(np.array(self.start.nodes)))
        dag, unwanted = meek.extend(marks, rank)
        if unwanted or frozen.any():
            marks = meek.class_of(dag, self.arrows)
            self.conflicts.append("no graph fits all arrows and v-structures: some v-structures were added")
        return CPDAG.from_adjacency(
            marks,
            self.start.nodes,
            separations=self.start.separations,
            p_values=self.start.p_values,
            conflicts=self.conflicts,
        )
