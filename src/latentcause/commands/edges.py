"""The edges of a learned graph in words and numbers, the same for a `CPDAG` and a `PAG`."""

from __future__ import annotations

from itertools import islice
from typing import NamedTuple

from latentcause.discovery.cpdag import CPDAG
from latentcause.discovery.pag import PAG
from latentcause.graph import CausalGraph

MOST_DAGS = 1000  # of a class that are counted

_LEFT = {"tail": "-", "arrow": "<", "circle": "o"}
_RIGHT = {"tail": "-", "arrow": ">", "circle": "o"}

_MEANING = {
    "->": "{a} causes {b}",
    "-": "joined; the direction is open",
    "<->": "neither causes the other; something hidden causes both",
    "o->": "{b} does not cause {a}; {a} causes {b}, or something hidden causes both, or both of these",
    "o-o": "joined; either may cause the other, and something hidden may cause both",
    "-o": "{a} causes {b}, unless the rows were selected",
}


class FoundEdge(NamedTuple):
    """An edge, written so that an arrow points from a to b.

    Attributes
    ----------
    a, b : str
    at_a, at_b : {"tail", "arrow", "circle"}
    p_value : float or None
        The largest of all tests that could have removed it.
    """

    a: str
    at_a: str
    at_b: str
    b: str
    p_value: float | None

    @property
    def kind(self) -> str:
        """``->``, ``-``, ``<->``, ``o->``, ``o-o`` or ``-o``."""
        if self.at_a == "tail":
            return "-" if self.at_b == "tail" else f"-{_RIGHT[self.at_b]}"
        return f"{_LEFT[self.at_a]}-{_RIGHT[self.at_b]}"

    @property
    def meaning(self) -> str:
        """What the edge says, in a sentence."""
        return _MEANING[self.kind].format(a=self.a, b=self.b)

    def __str__(self) -> str:
        return f"{self.a} {self.kind} {self.b}"


def edges_of(graph: CPDAG | PAG) -> list[FoundEdge]:
    """All edges, those of a `CPDAG` with the arrows first."""
    if isinstance(graph, PAG):
        marked = graph.edges
    else:
        marked = tuple((a, "tail", "arrow", b) for a, b in graph.directed)
        marked += tuple((a, "tail", "tail", b) for a, b in graph.undirected)
    found = []
    for a, at_a, at_b, b in marked:
        if (at_b == "tail" and at_a != "tail") or (at_a == "arrow" and at_b == "circle"):
            a, at_a, at_b, b = b, at_b, at_a, a
        found.append(FoundEdge(a, at_a, at_b, b, graph.p_values.get(frozenset((a, b)))))
    return found


def first_members(graph: CPDAG) -> tuple[list[CausalGraph], bool]:
    """The DAGs of the class, `MOST_DAGS` at the most, and whether these are all."""
    members = list(islice(graph.to_dags(), MOST_DAGS + 1))
    return members[:MOST_DAGS], len(members) <= MOST_DAGS
