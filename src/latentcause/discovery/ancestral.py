"""Orienting a graph whose common causes may be hidden: the rules of J. Zhang (Artificial Intelligence 172, 2008).

A graph is an int matrix ``marks`` (d, d): [i, j] is the mark at j of the edge between i and j, and 0 where there is none.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import numpy as np

NONE, CIRCLE, ARROW, TAIL = range(4)


class Orientation:
    """The marks of a graph, and Zhang's rules that turn circles into arrowheads and tails.

    Rules 1 to 4 give every arrowhead, rules 8 to 10 every tail that the independences imply (Zhang 2008, Theorems 1 to 4).
    Rules 5 to 7 speak of selection, which is taken to be absent. All applications of a rule fire at once, so the order
    of the nodes plays no part. Where they contradict each other, which happens when tests err, the marks of that edge
    stay circles, and ``conflicts`` says so.

    Parameters
    ----------
    nodes : tuple of str
    marks : int ndarray (d, d)
        Changed in place. Known arrowheads and tails, circles elsewhere.
    separations : mapping from (i, j), i < j, to a tuple of columns
        For every pair that is not adjacent.

    Attributes
    ----------
    conflicts : list of str
    """

    def __init__(
        self, nodes: tuple[str, ...], marks: np.ndarray, separations: Mapping[tuple[int, int], tuple[int, ...]]
    ) -> None:
        self.nodes, self.marks, self.separations = nodes, marks, separations
        self.adjacent = marks != NONE
        self.apart = ~self.adjacent & ~np.eye(len(marks), dtype=bool)
        self.frozen = np.zeros_like(self.adjacent)
        self.conflicts: list[str] = []

    def close(self) -> None:
        """Apply the rules until nothing changes."""
        while self._rule_1() | self._rule_2() | self._rule_3() | self._rule_4():
            pass
        while self._rule_8() | self._rule_9() | self._rule_10():
            pass

    # --- arrowheads --------------------------------------------------------------------------------------------------

    def _rule_1(self) -> bool:
        """a *-> b o-* c, a and c apart: b -> c."""
        return self._direct(_joined(self._at(ARROW).T, self.apart))

    def _rule_2(self) -> bool:
        """a -> b *-> c or a *-> b -> c, with a *-o c: a *-> c."""
        arrow, directed = self._at(ARROW), self._directed
        return self._set(_joined(directed, arrow) | _joined(arrow, directed), ARROW)

    def _rule_3(self) -> bool:
        """a *-> b <-* c, a *-o d o-* c, a and c apart, d *-o b: d *-> b."""
        arrow, circle = self._at(ARROW), self._at(CIRCLE)
        wanted = np.zeros_like(circle)
        for d, b in np.argwhere(circle):
            ends = np.flatnonzero(arrow[:, b] & circle[:, d])
            wanted[d, b] = self.apart[np.ix_(ends, ends)].any()
        return self._set(wanted, ARROW)

    def _rule_4(self) -> bool:
        """(d, ..., a, b, c) is a discriminating path for b, and b o-* c: b -> c, or a <-> b <-> c.

        The first where b is in the separation of d and c.
        """
        chain, collider = np.zeros_like(self.apart), np.zeros_like(self.apart)
        for c, b in np.argwhere(self._at(CIRCLE)).tolist():
            for a in np.flatnonzero(self._directed[:, c] & self._at(ARROW)[b]).tolist():
                for d in self._ends_of_discriminating_paths(a, b, c):
                    if b in self.separations[min(c, d), max(c, d)]:
                        chain[b, c] = True
                    else:
                        collider[[a, c], b] = collider[b, c] = True
        torn = chain & collider
        self._freeze(torn)
        told = self._direct(chain & ~torn)
        return self._set(collider & ~(torn | torn.T), ARROW) or told

    def _ends_of_discriminating_paths(self, a: int, b: int, c: int) -> list[int]:
        """Nodes d, apart from c, of paths d *-> v1 <-> ... <-> a <-* b whose inner nodes are all parents of c."""
        arrow, parents = self._at(ARROW), self._directed[:, c]
        ends, seen, waiting = [], {a, b, c}, deque([a])
        while waiting:
            v = waiting.popleft()
            for u in np.flatnonzero(arrow[:, v]).tolist():
                if u in seen:
                    continue
                seen.add(u)
                if self.apart[u, c]:
                    ends.append(u)
                elif parents[u] and arrow[v, u]:
                    waiting.append(u)
        return ends

    # --- tails -------------------------------------------------------------------------------------------------------

    def _rule_8(self) -> bool:
        """a -> b -> c and a o-> c: a -> c."""
        return self._direct(_joined(self._directed, self._directed) & self._half)

    def _rule_9(self) -> bool:
        """a o-> c, and an uncovered path a, b, ..., c that may be directed, with b and c apart: a -> c."""
        wanted = np.zeros_like(self.apart)
        for a in np.flatnonzero(self._half.any(axis=1)).tolist():
            reached = self._reached_uncovered(a)
            wanted[a] = self._half[a] & (reached & self.apart).any(axis=0)
        return self._direct(wanted)

    def _rule_10(self) -> bool:
        """a o-> c, b -> c <- d, and uncovered paths from a to b and from a to d that may be directed: a -> c.

        Their second nodes differ and are apart.
        """
        wanted = np.zeros_like(self.apart)
        for a in np.flatnonzero(self._half.any(axis=1)).tolist():
            reached = self._reached_uncovered(a)
            for c in np.flatnonzero(self._half[a]):
                hits = reached & self._directed[:, c]
                hits[c] = False  # a path does not start with the edge that is asked about
                starts = np.flatnonzero(hits.any(axis=1))
                for i, j in np.argwhere(np.triu(self.apart[np.ix_(starts, starts)])):
                    wanted[a, c] |= (hits[starts[i]] | hits[starts[j]]).sum() > 1
        return self._direct(wanted)

    def _reached_uncovered(self, a: int) -> np.ndarray:
        """[b, t]: whether an uncovered path a, b, ..., t may be directed from a to t (bool (d, d))."""
        onwards = self.adjacent & (self.marks != TAIL) & (self.marks.T != ARROW)
        reached = np.zeros_like(onwards)
        for b in np.flatnonzero(onwards[a]).tolist():
            seen, waiting = {(a, b)}, deque([(a, b)])
            while waiting:
                u, v = waiting.popleft()
                reached[b, v] = True
                for w in np.flatnonzero(onwards[v] & self.apart[u]).tolist():
                    if w != a and (v, w) not in seen:
                        seen.add((v, w))
                        waiting.append((v, w))
        return reached

    # --- inside ------------------------------------------------------------------------------------------------------

    def _at(self, mark: int) -> np.ndarray:
        return self.marks == mark

    @property
    def _directed(self) -> np.ndarray:
        """[i, j]: i -> j."""
        return self._at(ARROW) & self._at(TAIL).T

    @property
    def _half(self) -> np.ndarray:
        """[i, j]: i o-> j."""
        return self._at(ARROW) & self._at(CIRCLE).T

    def _direct(self, wanted: np.ndarray) -> bool:
        """Make i -> j of i o-* j at [i, j]; whether anything changed."""
        wanted = wanted & self._at(CIRCLE).T & ~self._at(TAIL) & ~self.frozen
        torn = wanted & wanted.T
        self._freeze(torn)
        wanted &= ~torn
        self.marks[wanted] = ARROW
        self.marks[wanted.T] = TAIL
        return bool(wanted.any())

    def _set(self, wanted: np.ndarray, mark: int) -> bool:
        """Put the mark at j of i *-o j at [i, j]; whether anything changed."""
        wanted = wanted & self._at(CIRCLE) & ~self.frozen
        self.marks[wanted] = mark
        return bool(wanted.any())

    def _freeze(self, torn: np.ndarray) -> None:
        torn = (torn | torn.T) & ~self.frozen
        self.frozen |= torn
        self.conflicts += [
            f"the edge between {first} and {last} keeps its circles: the rules contradict each other there"
            for first, last in sorted(sorted((self.nodes[i], self.nodes[j])) for i, j in np.argwhere(np.triu(torn)))
        ]


def _joined(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Whether a node k joins i to j by first[i, k] and second[k, j]."""
    return (first.astype(np.float32) @ second.astype(np.float32)) > 0
