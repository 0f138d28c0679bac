"""PAG: what data can tell about causes when common causes may be hidden."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from latentcause import graph_text
from latentcause.discovery.cpdag import Pair, Separation
from latentcause.graph import CausalGraph

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKS = ("tail", "arrow", "circle")
_LEFT = {"tail": "-", "arrow": "<", "circle": "o"}
_RIGHT = {"tail": "-", "arrow": ">", "circle": "o"}

MarkedEdge = tuple[str, str, str, str]
"""(a, mark at a, mark at b, b)."""


@dataclass(frozen=True, repr=False)
class PAG:
    """A partial ancestral graph: edges whose marks say what all systems with the same independences share.

    The marks at b of an edge between a and b, where variables may be hidden (J. Zhang, Artificial Intelligence 172, 2008):

    - tail: b is a cause of a, directly or through others;
    - arrow: b is no cause of a;
    - circle: it is in some of the systems and not in others.

    So ``a -> b``: a causes b. ``a <-> b``: neither causes the other, a hidden variable causes both. ``a o-> b``: b does
    not cause a; a causes b, or they have a hidden common cause, or both. Two are equal where nodes, their order, and
    edges agree; how they were found plays no part.

    Parameters
    ----------
    nodes : iterable of str
    edges : iterable of (a, mark at a, mark at b, b)
        Marks are "tail", "arrow" or "circle". Kept with the earlier node first, sorted by the positions of the ends.
    separations : mapping from frozenset of two names to Separation, optional
        For pairs that are not adjacent: the condition that separates them, and its p-value.
    p_values : mapping from frozenset of two names to float, optional
        For adjacent pairs: the largest p-value of all tests that could have removed the edge.
    conflicts : iterable of str, optional
        Sentences: where the data contradicted themselves, and what was done.

    Raises
    ------
    ValueError
        For nodes and ends that `CausalGraph` refuses, an unknown mark, or a pair with two edges.

    Examples
    --------
    >>> pag = PAG(("a", "b", "c"), [("a", "circle", "arrow", "b"), ("c", "arrow", "tail", "b")])
    >>> pag
    PAG(a o-> b; b -> c)
    >>> pag.mark("a", "b"), pag.mark("b", "a")
    ('arrow', 'circle')
    >>> pag.definite_causes("c"), pag.possible_causes("c")
    (('b',), ('a', 'b'))
    """

    nodes: tuple[str, ...]
    edges: tuple[MarkedEdge, ...] = ()
    separations: Mapping[Pair, Separation] = field(default_factory=dict, compare=False)
    p_values: Mapping[Pair, float] = field(default_factory=dict, compare=False)
    conflicts: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        nodes = CausalGraph(tuple(self.nodes)).nodes  # checks the names
        edges = _checked_edges(self.edges, nodes)
        object.__setattr__(self, "nodes", nodes)
        object.__setattr__(self, "edges", edges)
        object.__setattr__(self, "separations", MappingProxyType(dict(self.separations)))
        object.__setattr__(self, "p_values", MappingProxyType(dict(self.p_values)))
        object.__setattr__(self, "conflicts", tuple(self.conflicts))

    # --- marks -------------------------------------------------------------------------------------------------------

    def mark(self, a: str, b: str) -> str | None:
        """The mark at ``b`` of the edge between ``a`` and ``b``; None where they are not adjacent."""
        return self._marks.get((self._known(a), self._known(b)))

    def adjacent(self, node: str) -> tuple[str, ...]:
        """What is joined to ``node`` by an edge of any kind."""
        return tuple(other for other in self.nodes if (self._known(node), other) in self._marks)

    @property
    def skeleton(self) -> frozenset[Pair]:
        """The adjacent pairs."""
        return frozenset(frozenset((a, b)) for a, _, _, b in self.edges)

    @property
    def confounded(self) -> tuple[tuple[str, str], ...]:
        """The pairs a <-> b: no system with these independences lacks a hidden common cause of the two."""
        return tuple((a, b) for a, at_a, at_b, b in self.edges if at_a == at_b == "arrow")

    def definite_causes(self, node: str) -> tuple[str, ...]:
        """Nodes that the marks show to cause ``node``: those on a path of arrows a -> ... -> node."""
        return self._above(node, start=("tail",), end=("arrow",))

    def possible_causes(self, node: str) -> tuple[str, ...]:
        """Nodes that may cause ``node``: on a path to it with no arrowhead against it. All others do not cause it."""
        return self._above(node, start=("tail", "circle"), end=("arrow", "circle"))

    def __len__(self) -> int:
        return len(self.nodes)

    def __contains__(self, node: object) -> bool:
        return node in self.nodes

    # --- for people --------------------------------------------------------------------------------------------------

    def plot(self, ax: Axes | None = None, highlight: Iterable[str] = ()) -> Axes:
        """Draw the graph, circles as open rings; return the axes. Nodes in ``highlight`` have another colour."""
        from latentcause.graph_plot import draw_mixed

        return draw_mixed(self.nodes, self.edges, ax, tuple(map(self._known, highlight)))

    def to_dot(self) -> str:
        """The graph in the DOT language, every edge with ``dir=both`` and the mark of each end."""
        return graph_text.format_marked_dot(self.nodes, self.edges)

    def __reduce__(self) -> tuple[Any, ...]:
        # Read-only mappings can't be copied or pickled.
        return type(self), (self.nodes, self.edges, dict(self.separations), dict(self.p_values), self.conflicts)

    def __str__(self) -> str:
        joined = {node for edge in self.edges for node in (edge[0], edge[3])}
        return "; ".join([*map(_text_of, self.edges), *(node for node in self.nodes if node not in joined)])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self})"

    # --- inside ------------------------------------------------------------------------------------------------------

    @cached_property
    def _marks(self) -> dict[tuple[str, str], str]:
        """The mark at the second of two names."""
        one_way = {(a, b): at_b for a, _, at_b, b in self.edges}
        return one_way | {(b, a): at_a for a, at_a, _, b in self.edges}

    def _above(self, node: str, start: tuple[str, ...], end: tuple[str, ...]) -> tuple[str, ...]:
        found, waiting = set[str](), [self._known(node)]
        while waiting:
            below = waiting.pop()
            for above in self.adjacent(below):
                fits = self._marks[below, above] in start and self._marks[above, below] in end
                if fits and above != node and above not in found:
                    found.add(above)
                    waiting.append(above)
        return tuple(other for other in self.nodes if other in found)

    def _known(self, node: str) -> str:
        if node not in self.nodes:
            raise ValueError(f"unknown node {node!r}: the graph has {', '.join(self.nodes)}")
        return node


def _checked_edges(edges: Iterable[MarkedEdge], nodes: tuple[str, ...]) -> tuple[MarkedEdge, ...]:
    position = {node: i for i, node in enumerate(nodes)}
    checked: dict[tuple[str, str], MarkedEdge] = {}
    for edge in edges:
        parts = tuple(edge) if not isinstance(edge, str) else ()
        if len(parts) != 4:
            raise ValueError(f"{edge!r} is no edge: give (a, mark at a, mark at b, b)")
        a, at_a, at_b, b = parts
        for end in (a, b):
            if end not in position:
                raise ValueError(f"an edge ends at the unknown node {end!r}: the nodes are {', '.join(nodes)}")
        if a == b:
            raise ValueError(f"the edge at {a!r} joins a node to itself: give two names")
        for mark in (at_a, at_b):
            if mark not in MARKS:
                raise ValueError(f"the edge between {a} and {b} has the mark {mark!r}: marks are {', '.join(MARKS)}")
        first, last = sorted((a, b), key=position.__getitem__)
        if (first, last) in checked:
            raise ValueError(f"{first} and {last} are joined by two edges: give one")
        checked[first, last] = (a, at_a, at_b, b) if first == a else (b, at_b, at_a, a)
    return tuple(checked[pair] for pair in sorted(checked, key=lambda pair: (position[pair[0]], position[pair[1]])))


def _text_of(edge: MarkedEdge) -> str:
    """``a -> b``, ``a <-> b``, ``a o-o b``, ...; an edge with one tail is written from the tail on."""
    a, at_a, at_b, b = edge
    if (at_b == "tail" and at_a != "tail") or (at_a == "arrow" and at_b == "circle"):
        a, at_a, at_b, b = b, at_b, at_a, a
    if at_a == "tail":
        return f"{a} {'-' if at_b == 'tail' else '-' + _RIGHT[at_b]} {b}"
    return f"{a} {_LEFT[at_a]}-{_RIGHT[at_b]} {b}"
