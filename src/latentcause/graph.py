"""CausalGraph: a named directed acyclic graph that never changes."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import networkx as nx
import numpy as np

from latentcause import graph_text
from latentcause.graph_text import Edge
from latentcause.writing import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, repr=False)
class CausalGraph:
    """A directed acyclic graph over named variables: an arrow points from a cause to its effect.

    The order of ``nodes`` is part of the graph: the columns of every array that belongs to it follow that order. Two
    graphs are equal, and hash alike, where nodes, their order and edges agree. Every method that returns several nodes
    returns them as a tuple in that order.

    Parameters
    ----------
    nodes : iterable of str
        Names, in the order wanted; non-empty printable text without spaces at either end.
    edges : iterable of (str, str)
        Pairs (cause, effect). Kept sorted by the positions of cause and effect.

    Raises
    ------
    ValueError
        For a cycle (printed as ``a -> b -> a``), a self-loop, an edge or a node given twice, an edge whose end is not
        among the nodes, a name that is not usable, or no node at all.

    Examples
    --------
    >>> graph = CausalGraph.from_string("z1 -> z2 -> z3; z4 -> z3")
    >>> graph.parents("z3")
    ('z2', 'z4')
    >>> graph.do("z3")
    CausalGraph.from_string('z1 -> z2; z3; z4')
    """

    nodes: tuple[str, ...]
    edges: tuple[Edge, ...] = ()

    def __post_init__(self) -> None:
        nodes = _checked_nodes(self.nodes)
        edges = _checked_edges(self.edges, nodes)
        position = {node: i for i, node in enumerate(nodes)}
        object.__setattr__(self, "nodes", nodes)
        object.__setattr__(self, "edges", tuple(sorted(edges, key=lambda edge: (position[edge[0]], position[edge[1]]))))
        if not nx.is_directed_acyclic_graph(self._digraph):
            cycle = [cause for cause, _ in nx.find_cycle(self._digraph)]
            raise ValueError(f"the graph has a cycle: {' -> '.join([*cycle, cycle[0]])}; a causal graph has none")

    # --- kin ---------------------------------------------------------------------------------------------------------

    def parents(self, node: str) -> tuple[str, ...]:
        """Direct causes of ``node``."""
        return self._parents[self._one(node)]

    def children(self, node: str) -> tuple[str, ...]:
        """Direct effects of ``node``."""
        return self._sorted(self._digraph.successors(self._one(node)))

    def coparents(self, node: str) -> tuple[str, ...]:
        """The other parents of the children of ``node`` (they may also be its parents or children)."""
        return self._sorted({other for child in self.children(node) for other in self.parents(child)} - {node})

    def markov_blanket(self, node: str) -> tuple[str, ...]:
        """Parents, children and co-parents: given these, ``node`` is independent of all other nodes."""
        return self._sorted({*self.parents(node), *self.children(node), *self.coparents(node)})

    def ancestors(self, node: str) -> tuple[str, ...]:
        """Every node with a directed path to ``node``, without the node itself."""
        return self._sorted(nx.ancestors(self._digraph, self._one(node)))

    def descendants(self, node: str) -> tuple[str, ...]:
        """Every node with a directed path from ``node``, without the node itself."""
        return self._sorted(nx.descendants(self._digraph, self._one(node)))

    # --- the whole graph ---------------------------------------------------------------------------------------------

    @cached_property
    def topological_order(self) -> tuple[str, ...]:
        """The nodes with every cause before its effects; among free choices the earlier in ``nodes`` comes first."""
        return tuple(nx.lexicographical_topological_sort(self._digraph, key=self.index))

    @cached_property
    def adjacency(self) -> np.ndarray:
        """The read-only int64 matrix of shape (d, d) that is 1 at [i, j] where ``nodes[i] -> nodes[j]``, else 0."""
        matrix = np.zeros((len(self.nodes), len(self.nodes)), dtype=np.int64)
        for cause, effect in self.edges:
            matrix[self.index(cause), self.index(effect)] = 1
        matrix.flags.writeable = False
        return matrix

    def index(self, node: str) -> int:
        """Position of ``node`` in ``nodes``, which is its column in every array of this graph."""
        return self._position[self._one(node)]

    def __contains__(self, node: object) -> bool:
        return node in self._position

    def __len__(self) -> int:
        return len(self.nodes)

    def d_separated(self, x: str | Iterable[str], y: str | Iterable[str], given: str | Iterable[str] = ()) -> bool:
        """Whether ``given`` blocks every path between ``x`` and ``y`` (each one node or several).

        Then x and y are independent given ``given`` in every distribution that factorises over the graph (Pearl,
        *Causality*, 2nd edition, definition 1.2.3).

        Raises
        ------
        ValueError
            For an unknown node, an empty ``x`` or ``y``, or a node that is in two of the three sets.
        """
        sets = {"x": set(self._several(x)), "y": set(self._several(y)), "given": set(self._several(given))}
        for first, second in (("x", "y"), ("x", "given"), ("y", "given")):
            if shared := self._sorted(sets[first] & sets[second]):
                raise ValueError(f"node {shared[0]!r} is in both {first} and {second}: the sets must not overlap")
        if not sets["x"] or not sets["y"]:
            raise ValueError("x and y need at least one node each")
        return bool(nx.is_d_separator(self._digraph, sets["x"], sets["y"], sets["given"]))

    # --- new graphs from this one ------------------------------------------------------------------------------------

    def do(self, nodes: str | Iterable[str]) -> Self:
        """The graph under an intervention that sets ``nodes``: the arrows into them are gone (surgery)."""
        targets = set(self._several(nodes))
        return type(self)(self.nodes, tuple(edge for edge in self.edges if edge[1] not in targets))

    def complete(self) -> Self:
        """The complete DAG of the topological order: an arrow from every node to every later one."""
        order = self.topological_order
        return type(self)(self.nodes, tuple(combinations(order, 2)))

    def subgraph(self, nodes: str | Iterable[str]) -> Self:
        """The graph on ``nodes``, in the order given, with every arrow between two of them."""
        kept = self._several(nodes)
        return type(self)(kept, tuple(edge for edge in self.edges if edge[0] in kept and edge[1] in kept))

    # --- conversions -------------------------------------------------------------------------------------------------

    @classmethod
    def chain(cls, n: int) -> Self:
        """``z1 -> z2 -> ... -> zn``."""
        nodes = _numbered(n)
        return cls(nodes, tuple(pairwise(nodes)))

    @classmethod
    def from_edges(cls, edges: Iterable[Edge], nodes: Iterable[str] | None = None) -> Self:
        """From pairs (cause, effect); without ``nodes``, the nodes stand in the order in which the edges name them."""
        edges = tuple(edges)
        if nodes is None:
            nodes = graph_text.in_order_of_appearance(_checked_edges(edges))
        return cls(_checked_nodes(nodes), edges)

    def to_edges(self) -> list[Edge]:
        """The edges as a list of pairs (cause, effect). Nodes without edges are not in it."""
        return list(self.edges)

    @classmethod
    def from_string(cls, text: str) -> Self:
        """From the one-line form: ``"z1 -> z2 -> z3; z4"``. Names with signs in them stand in double quotes."""
        return cls._from_parsed(graph_text.parse_string(text))

    def to_string(self) -> str:
        """The one-line form, which is also ``str(graph)``."""
        return graph_text.format_string(self.nodes, self.edges)

    @classmethod
    def from_csv(cls, path: str | os.PathLike[str]) -> Self:
        """From a CSV file with the columns ``cause`` and ``effect``; a row with an empty effect only names a node."""
        return cls._from_parsed(graph_text.parse_csv(Path(path).read_text(encoding="utf-8-sig")))

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the CSV file that ``from_csv`` reads."""
        _write(path, graph_text.format_csv(self.nodes, self.edges))

    @classmethod
    def from_dot(cls, source: str | os.PathLike[str]) -> Self:
        """From DOT: a text that contains a brace, or else the path of a file. Attributes are skipped.

        Reads edge chains, quoted names, groups ``{a b} -> c``, subgraphs, ports and comments; not HTML labels.
        """
        is_text = isinstance(source, str) and "{" in source
        return cls._from_parsed(graph_text.parse_dot(str(source) if is_text else Path(source).read_text("utf-8-sig")))

    def to_dot(self) -> str:
        """The graph in the DOT language; ``to_file("graph.dot")`` writes it."""
        return graph_text.format_dot(self.nodes, self.edges)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Self:
        """From a file: ``.csv`` of edges, ``.dot`` or ``.gv``, or ``.txt`` with the one-line form."""
        match _suffix(path):
            case ".csv":
                return cls.from_csv(path)
            case ".txt":
                return cls.from_string(Path(path).read_text(encoding="utf-8-sig"))
            case _:
                return cls.from_dot(Path(path))

    def to_file(self, path: str | os.PathLike[str]) -> None:
        """Write the form that the suffix asks for: ``.csv``, ``.dot``, ``.gv`` or ``.txt``."""
        match _suffix(path):
            case ".csv":
                self.to_csv(path)
            case ".txt":
                _write(path, f"{self}\n")
            case _:
                _write(path, self.to_dot())

    @classmethod
    def from_networkx(cls, graph: Any) -> Self:
        """From a ``networkx.DiGraph`` whose nodes are strings; attributes are left behind."""
        if not graph.is_directed():
            raise ValueError("the networkx graph is undirected: give a networkx.DiGraph, whose edges have a direction")
        return cls(tuple(graph.nodes), tuple((edge[0], edge[1]) for edge in graph.edges))

    def to_networkx(self) -> Any:
        """A new ``networkx.DiGraph``."""
        return self._digraph.copy()

    @classmethod
    def from_adjacency(cls, matrix: Any, nodes: Iterable[str] | None = None) -> Self:
        """From a square matrix of zeros and ones, 1 at [i, j] for ``nodes[i] -> nodes[j]``; names default to z1, ..."""
        array = np.asarray(matrix)
        if array.ndim != 2 or array.shape[0] != array.shape[1]:
            raise ValueError(f"an adjacency matrix is square, not of shape {array.shape}")
        names = _numbered(len(array)) if nodes is None else _checked_nodes(nodes)
        if len(names) != len(array):
            raise ValueError(f"{len(names)} nodes for an adjacency matrix of shape {array.shape}: give one a row")
        for i, j in np.argwhere((array != 0) & (array != 1)):
            raise ValueError(
                f"entry [{i}, {j}] of the adjacency matrix ({names[i]} -> {names[j]}) is {array[i, j]}, neither 0 nor "
                "1; for a matrix of weights give (weights != 0)"
            )
        return cls(names, tuple((names[i], names[j]) for i, j in np.argwhere(array == 1)))

    def to_adjacency(self) -> np.ndarray:
        """A writable copy of ``adjacency``."""
        return self.adjacency.copy()

    def __str__(self) -> str:
        return self.to_string()

    def __repr__(self) -> str:
        return f"{type(self).__name__}.from_string({str(self)!r})"

    @classmethod
    def _from_parsed(cls, parsed: graph_text.Parsed) -> Self:
        nodes, edges = parsed
        return cls(tuple(nodes), tuple(edges))

    def plot(self, ax: Axes | None = None, highlight: Iterable[str] = ()) -> Axes:
        """Draw the graph from left to right, each node one column after the last of its parents; return the axes.

        The nodes in ``highlight`` are filled in another colour.
        """
        from latentcause.graph_plot import draw

        return draw(self, ax, self._several(highlight))

    # --- inside ------------------------------------------------------------------------------------------------------

    @cached_property
    def _digraph(self) -> Any:
        digraph = nx.DiGraph()
        digraph.add_nodes_from(self.nodes)
        digraph.add_edges_from(self.edges)
        return digraph

    @cached_property
    def _parents(self) -> dict[str, tuple[str, ...]]:
        return {node: self._sorted(self._digraph.predecessors(node)) for node in self.nodes}

    @cached_property
    def _position(self) -> dict[str, int]:
        return {node: i for i, node in enumerate(self.nodes)}

    def _sorted(self, nodes: Iterable[str]) -> tuple[str, ...]:
        return tuple(sorted(nodes, key=self._position.__getitem__))

    def _one(self, node: str) -> str:
        if node not in self._position:
            raise ValueError(f"unknown node {node!r}: the graph has {_listed(self.nodes)}")
        return node

    def _several(self, nodes: str | Iterable[str]) -> tuple[str, ...]:
        return tuple(self._one(node) for node in ([nodes] if isinstance(nodes, str) else nodes))


def _checked_nodes(nodes: Iterable[str]) -> tuple[str, ...]:
    if isinstance(nodes, str):
        raise ValueError(f"nodes is the single text {nodes!r}: give a list of names")
    checked: dict[str, None] = {}
    for node in nodes:
        if not isinstance(node, str) or not node.isprintable() or node != node.strip() or not node:
            raise ValueError(
                f"{node!r} is no name for a node: names are non-empty printable text without spaces at either end"
            )
        if node in checked:
            raise ValueError(f"node {node!r} is given twice: names must differ")
        checked[node] = None
    if not checked:
        raise ValueError("a causal graph needs at least one node")
    return tuple(checked)


def _checked_edges(edges: Iterable[Edge], nodes: tuple[str, ...] | None = None) -> tuple[Edge, ...]:
    """Pairs, no self-loops, none twice, and (where ``nodes`` is given) both ends known."""
    checked: dict[Edge, None] = {}
    for edge in edges:
        pair = tuple(edge) if isinstance(edge, Iterable) and not isinstance(edge, str) else ()
        if len(pair) != 2:
            raise ValueError(f"{edge!r} is no edge: give pairs (cause, effect)")
        cause, effect = pair
        if cause == effect:
            raise ValueError(f"self-loop {cause} -> {effect}: no variable causes itself")
        if pair in checked:
            raise ValueError(f"edge {cause} -> {effect} is given twice")
        if unknown := [end for end in pair if nodes is not None and end not in nodes]:
            raise ValueError(
                f"edge {cause} -> {effect} has the unknown node {unknown[0]!r}: the nodes are {_listed(nodes)}"
            )
        checked[pair] = None
    return tuple(checked)


def _listed(nodes: Iterable[str] | None, most: int = 20) -> str:
    names = list(nodes or ())
    return ", ".join(names[:most]) + (f", ... ({len(names)} in all)" if len(names) > most else "")


def _numbered(n: int) -> tuple[str, ...]:
    return tuple(f"z{i}" for i in range(1, n + 1))


def _suffix(path: str | os.PathLike[str]) -> str:
    suffix = Path(path).suffix.lower()
    if suffix not in (".csv", ".dot", ".gv", ".txt"):
        raise ValueError(f"{os.fspath(path)!r} has the suffix {suffix!r}: a graph file ends in .csv, .dot, .gv or .txt")
    return suffix


def _write(path: str | os.PathLike[str], text: str) -> None:
    with write_atomically(Path(path)) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
