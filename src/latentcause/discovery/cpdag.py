"""CPDAG: all the DAGs that data alone can't tell apart."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from latentcause import graph_text
from latentcause.discovery import meek
from latentcause.graph import CausalGraph
from latentcause.graph_text import Edge

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Pair = frozenset[str]


@dataclass(frozen=True)
class Separation:
    """Why two variables are not joined.

    Attributes
    ----------
    given : tuple of str
        The condition under which they were found independent.
    p_value : float
        Of that test; above the level of the search.
    """

    given: tuple[str, ...]
    p_value: float


@dataclass(frozen=True, repr=False)
class CPDAG:
    """A completed partially directed acyclic graph: a -> b where all DAGs of a class agree, a - b where they differ.

    The class holds the DAGs with the same independences (Verma and Pearl 1990), or, where background knowledge or
    interventions have turned more edges, those of them that agree with that too (a maximally oriented graph, Meek 1995).
    Two are equal where nodes, their order, and edges agree; how they were found plays no part.

    Parameters
    ----------
    nodes : iterable of str
    directed, undirected : iterable of (str, str)
        Arrows (cause, effect), and edges whose direction is open, in either order.
    separations : mapping from frozenset of two names to Separation, optional
        For pairs that are not adjacent: the condition that separates them, and its p-value.
    p_values : mapping from frozenset of two names to float, optional
        For adjacent pairs: the largest p-value of all tests that could have removed the edge. Near the level of the
        search, the edge was nearly removed.
    conflicts : iterable of str, optional
        Sentences: where the data contradicted themselves, and what was done.

    Raises
    ------
    ValueError
        For what `CausalGraph` refuses, a pair with two edges, or arrows that form a cycle.

    Examples
    --------
    >>> graph = CausalGraph.from_string("a -> c; b -> c -> d -> e; f -> e; g -> h")
    >>> cpdag = CPDAG.from_dag(graph)
    >>> cpdag
    CPDAG(a -> c; c -> d; b -> c; d -> e; f -> e; g - h)
    >>> [dag.parents("h") for dag in cpdag.to_dags()]
    [('g',), ()]
    """

    nodes: tuple[str, ...]
    directed: tuple[Edge, ...]
    undirected: tuple[Edge, ...] = ()
    separations: Mapping[Pair, Separation] = field(default_factory=dict, compare=False)
    p_values: Mapping[Pair, float] = field(default_factory=dict, compare=False)
    conflicts: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        arrows = CausalGraph(tuple(self.nodes), tuple(self.directed))  # checks names, ends and cycles
        index = {node: i for i, node in enumerate(arrows.nodes)}
        pairs = [
            (a, b) if index.get(a, 0) <= index.get(b, 0) else (b, a) for a, b in (tuple(e) for e in self.undirected)
        ]
        for edge in CausalGraph(arrows.nodes, tuple(pairs)).edges:  # in this order of ends there is no cycle
            if edge in arrows.edges or edge[::-1] in arrows.edges:
                raise ValueError(f"{edge[0]} and {edge[1]} are joined by an arrow and by an undirected edge: give one")
        object.__setattr__(self, "nodes", arrows.nodes)
        object.__setattr__(self, "directed", arrows.edges)
        object.__setattr__(self, "undirected", tuple(sorted(pairs, key=lambda edge: (index[edge[0]], index[edge[1]]))))
        object.__setattr__(self, "separations", MappingProxyType(dict(self.separations)))
        object.__setattr__(self, "p_values", MappingProxyType(dict(self.p_values)))
        object.__setattr__(self, "conflicts", tuple(self.conflicts))

    @classmethod
    def from_dag(cls, graph: CausalGraph) -> Self:
        """The class of all DAGs with the skeleton and the v-structures of ``graph``."""
        return cls.from_adjacency(meek.class_of(graph.adjacency.astype(bool)), graph.nodes)

    @classmethod
    def from_adjacency(
        cls,
        adjacency: np.ndarray,
        nodes: Iterable[str],
        *,
        separations: Mapping[Pair, Separation] | None = None,
        p_values: Mapping[Pair, float] | None = None,
        conflicts: Iterable[str] = (),
    ) -> Self:
        """From a square matrix of zeros and ones: [i, j] alone for an arrow from i to j, both for an open direction."""
        marks, names = np.asarray(adjacency) != 0, tuple(nodes)
        if marks.shape != (len(names), len(names)):
            raise ValueError(f"an adjacency matrix of shape {marks.shape} for {len(names)} nodes: give one row a node")
        arrows, open_ = np.argwhere(marks & ~marks.T), np.argwhere(np.triu(marks & marks.T))
        return cls(
            names,
            tuple((names[i], names[j]) for i, j in arrows),
            tuple((names[i], names[j]) for i, j in open_),
            separations or {},
            p_values or {},
            tuple(conflicts),
        )

    # --- kin ---------------------------------------------------------------------------------------------------------

    def parents(self, node: str) -> tuple[str, ...]:
        """Causes of ``node`` in every member."""
        return self._named(self._arrows[:, self.index(node)])

    def children(self, node: str) -> tuple[str, ...]:
        """Effects of ``node`` in every member."""
        return self._named(self._arrows[self.index(node)])

    def neighbours(self, node: str) -> tuple[str, ...]:
        """What is joined to ``node`` by an undirected edge: a cause in some members, an effect in others."""
        return self._named((self._marks & self._marks.T)[self.index(node)])

    def adjacent(self, node: str) -> tuple[str, ...]:
        """Parents, children and neighbours of ``node``."""
        return self._named((self._marks | self._marks.T)[self.index(node)])

    def index(self, node: str) -> int:
        """Position of ``node`` in ``nodes``."""
        if node not in self.nodes:
            raise ValueError(f"unknown node {node!r}: the graph has {', '.join(self.nodes)}")
        return self.nodes.index(node)

    @property
    def skeleton(self) -> frozenset[Pair]:
        """The adjacent pairs."""
        return frozenset(frozenset(edge) for edge in (*self.directed, *self.undirected))

    @cached_property
    def adjacency(self) -> np.ndarray:
        """The read-only int64 matrix (d, d) that is 1 at [i, j] where ``nodes[i] -> nodes[j]`` or ``nodes[i] - nodes[j]``."""
        matrix = np.zeros((len(self.nodes), len(self.nodes)), dtype=np.int64)
        index = {node: i for i, node in enumerate(self.nodes)}
        for a, b in (*self.directed, *self.undirected, *((b, a) for a, b in self.undirected)):
            matrix[index[a], index[b]] = 1
        matrix.flags.writeable = False
        return matrix

    def __len__(self) -> int:
        return len(self.nodes)

    def __contains__(self, node: object) -> bool:
        return node in self.nodes

    # --- members -----------------------------------------------------------------------------------------------------

    def consistent_extension(self) -> CausalGraph:
        """One DAG of the class; the same one whatever the order of the nodes.

        Raises
        ------
        ValueError
            Where there is none: the edges do not describe a class of DAGs.
        """
        rank = np.argsort(np.argsort(np.array(self.nodes)))
        dag, unwanted = meek.extend(self._marks, rank)
        if unwanted:
            raise ValueError(
                f"no DAG has the skeleton, the arrows and only the v-structures of {self}: it is no class of DAGs"
            )
        return CausalGraph.from_adjacency(dag.astype(np.int64), self.nodes)

    def to_dags(self) -> Iterator[CausalGraph]:
        """Every DAG of the class, once. Their number can grow exponentially with that of the undirected edges.

        An open edge is turned either way and Meek's rules applied; these being complete, no branch ends in vain.

        Raises
        ------
        ValueError
            Where there is none (as for ``consistent_extension``).
        """
        self.consistent_extension()
        for dag in _members(meek.close(self._marks)[0]):
            yield CausalGraph.from_adjacency(dag.astype(np.int64), self.nodes)

    # --- for people --------------------------------------------------------------------------------------------------

    def plot(self, ax: Axes | None = None, highlight: Iterable[str] = ()) -> Axes:
        """Draw the graph, open directions as plain lines; return the axes. Nodes in ``highlight`` have another colour."""
        from latentcause.graph_plot import draw_mixed

        arrows = [(a, "tail", "arrow", b) for a, b in self.directed]
        lines = [(a, "tail", "tail", b) for a, b in self.undirected]
        return draw_mixed(self.nodes, [*arrows, *lines], ax, tuple(highlight))

    def to_dot(self) -> str:
        """The graph in the DOT language; undirected edges have ``dir=none``."""
        return graph_text.format_dot(self.nodes, self.directed, self.undirected)

    def __reduce__(self) -> tuple[Any, ...]:
        # Read-only mappings can't be copied or pickled.
        kept = (self.nodes, self.directed, self.undirected, dict(self.separations), dict(self.p_values), self.conflicts)
        return type(self), kept

    def __str__(self) -> str:
        arrows = [f"{a} -> {b}" for a, b in self.directed]
        joined = {node for edge in (*self.directed, *self.undirected) for node in edge}
        return "; ".join(
            [*arrows, *(f"{a} - {b}" for a, b in self.undirected), *(node for node in self.nodes if node not in joined)]
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self})"

    # --- inside ------------------------------------------------------------------------------------------------------

    @property
    def _marks(self) -> np.ndarray:
        return self.adjacency.astype(bool)

    @property
    def _arrows(self) -> np.ndarray:
        return self._marks & ~self._marks.T

    def _named(self, chosen: np.ndarray) -> tuple[str, ...]:
        return tuple(node for node, is_chosen in zip(self.nodes, chosen, strict=True) if is_chosen)


def pair(a: str, b: str) -> Pair:
    """The key of two names in ``separations`` and ``p_values``."""
    return frozenset((a, b))


def _members(marks: np.ndarray) -> Iterator[np.ndarray]:
    open_ = np.argwhere(np.triu(marks & marks.T))
    if not len(open_):
        yield marks
        return
    i, j = open_[0]
    for cause, effect in ((i, j), (j, i)):
        turned = marks.copy()
        turned[effect, cause] = False
        yield from _members(meek.close(turned)[0])
