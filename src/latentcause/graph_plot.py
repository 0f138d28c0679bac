"""The picture of a graph: columns from left to right, causes before effects; marks at both ends of mixed edges."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise
from statistics import fmean
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import networkx as nx
import numpy as np
from matplotlib.path import Path as MplPath

from latentcause.graph import CausalGraph

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from latentcause.graph_text import Edge

FONT_SIZE = 9.0
LETTER_WIDTH = 0.6 * FONT_SIZE
INK = "#2b2b2b"
FILL = "#dfe9f5"
HIGHLIGHT = "#f6c89f"
SWEEPS = 8

Point = tuple[float, float]
MixedEdge = tuple[str, str, str, str]  # (a, mark at a, mark at b, b)
MarkedRoute = tuple[str, list[Point], str]  # the mark where the route starts, its points, the mark where it ends


def draw(graph: CausalGraph, ax: Axes | None = None, highlight: Collection[str] = ()) -> Axes:
    """Draw ``graph`` on ``ax``, or on a new figure where it is None, and return the axes."""
    places, routes = layout(graph)
    return _picture(places, [("tail", route, "arrow") for route in routes.values()], ax, highlight)


def draw_mixed(
    nodes: Sequence[str], edges: Iterable[MixedEdge], ax: Axes | None = None, highlight: Collection[str] = ()
) -> Axes:
    """Draw a graph whose edges carry a mark at each end: a plain end, an arrowhead, or an open circle.

    The nodes stand where ``layout`` puts them once every edge is given a direction: directed edges keep theirs, and
    the others follow an order of the nodes that agrees with them. Where the directed edges make a cycle, the nodes
    stand on a circle.

    Parameters
    ----------
    nodes : sequence of str
    edges : iterable of (a, mark at a, mark at b, b)
        Marks are ``"tail"``, ``"arrow"`` or ``"circle"``; ``(a, "tail", "arrow", b)`` is a -> b.
    ax : matplotlib axes, optional
        A new figure where it is None.
    highlight : collection of str
        Nodes that are filled in another colour.
    """
    edges = tuple(edges)
    order = _order_of(nodes, edges)
    if order is None:
        places = _on_a_circle(nodes)
        routes = {frozenset((a, b)): [places[a], places[b]] for a, _, _, b in edges}
    else:
        rank = {node: i for i, node in enumerate(order)}
        oriented = [(a, b) if rank[a] < rank[b] else (b, a) for a, _, _, b in edges]
        places, directed = layout(CausalGraph(tuple(nodes), tuple(oriented)))
        routes = {frozenset(edge): route for edge, route in directed.items()}
    marked = []
    for a, at_a, at_b, b in edges:
        route = routes[frozenset((a, b))]
        marked.append((at_a, route, at_b) if route[0] == places[a] else (at_b, route, at_a))
    return _picture(places, marked, ax, highlight)


def _order_of(nodes: Sequence[str], edges: Collection[MixedEdge]) -> tuple[str, ...] | None:
    """An order that agrees with every a -> b, and with every a o-> b too where that is possible."""
    position = {node: i for i, node in enumerate(nodes)}
    for start_marks in (("tail", "circle"), ("tail",)):
        digraph = nx.DiGraph()
        digraph.add_nodes_from(nodes)
        digraph.add_edges_from((a, b) for a, at_a, at_b, b in edges if at_a in start_marks and at_b == "arrow")
        digraph.add_edges_from((b, a) for a, at_a, at_b, b in edges if at_b in start_marks and at_a == "arrow")
        if nx.is_directed_acyclic_graph(digraph):
            return tuple(nx.lexicographical_topological_sort(digraph, key=position.__getitem__))
    return None


def _on_a_circle(nodes: Sequence[str]) -> dict[str, Point]:
    """Neighbours on the circle are one unit apart."""
    radius = 0.5 / math.sin(math.pi / max(2, len(nodes)))
    turns = [2 * math.pi * i / len(nodes) for i in range(len(nodes))]
    return {node: (radius * math.sin(t), radius * math.cos(t)) for node, t in zip(nodes, turns, strict=True)}


def _picture(
    places: dict[str, Point], edges: Iterable[MarkedRoute], ax: Axes | None, highlight: Collection[str]
) -> Axes:
    """Edges under the nodes: a line along the route, with the mark of each end where it meets its node."""
    edges = list(edges)
    xs, ys = zip(*places.values(), *(point for _, route, _ in edges for point in route), strict=True)
    radius = max(12.0, 4.0 + LETTER_WIDTH * max(map(len, places)) / 2)  # in points
    if ax is None:
        inches = 2 * radius / 72 + 0.5
        width, height = max(xs) - min(xs) + 1, max(ys) - min(ys) + 1
        _, ax = plt.subplots(figsize=(1 + 1.7 * inches * width, 0.5 + inches * height))
    for at_first, route, at_last in edges:
        stops = route if len(route) > 2 else [route[0], _middle(*route), route[1]]
        ax.plot(*zip(*stops[1:-1], strict=True), color=INK, linewidth=1.0, zorder=1)
        for mark, end, near in ((at_first, stops[0], stops[1]), (at_last, stops[-1], stops[-2])):
            if mark == "tail":
                ax.plot(*zip(near, end, strict=True), color=INK, linewidth=1.0, zorder=1)
            else:
                ax.annotate("", xy=end, xytext=near, arrowprops={**HEADS[mark], "shrinkA": 0.0, "shrinkB": radius})
    for node, (x, y) in places.items():
        fill = HIGHLIGHT if node in highlight else FILL
        ax.scatter(x, y, s=(2 * radius) ** 2, facecolor=fill, edgecolor=INK, zorder=2)
        ax.text(x, y, node, ha="center", va="center", fontsize=FONT_SIZE, color=INK, parse_math=False)
    ax.set_xlim(min(xs) - 0.5, max(xs) + 0.5)
    ax.set_ylim(min(ys) - 0.7, max(ys) + 0.7)
    ax.axis("off")
    return ax


def _middle(first: Point, last: Point) -> Point:
    return (first[0] + last[0]) / 2, (first[1] + last[1]) / 2


def _open_circle(path: MplPath, size: float, linewidth: float, aspect: float = 1.0) -> tuple[list[MplPath], list[bool]]:
    """An arrow style for matplotlib: the line ends in a ring that touches the node (matplotlib has none)."""
    start, end = np.asarray(path.vertices)[[0, -1]]
    radius = 0.25 * size
    step = (end - start) / max(float(np.linalg.norm(end - start)), 1e-9)
    ring = MplPath.circle(tuple(end - radius * step), radius)
    return [MplPath([start, end - 2 * radius * step]), ring], [False, True]


HEADS: dict[str, dict[str, Any]] = {
    "arrow": {"arrowstyle": "-|>", "color": INK},
    "circle": {"arrowstyle": _open_circle, "facecolor": "white", "edgecolor": INK},
}


def layout(graph: CausalGraph) -> tuple[dict[str, Point], dict[Edge, list[Point]]]:
    """Place the nodes and route the edges (Sugiyama, Tagawa and Toda 1981).

    A node stands in the column after the last of its parents. An edge that passes a column takes a place of its own
    there, so that it does not run over a node. Sweeps to and fro sort each column by the mean height of what its
    members are joined to in the column before.

    Returns
    -------
    places : dict
        (x, y) of each node; x counts columns, y is centred at 0.
    routes : dict
        The points that each edge passes, from its cause to its effect.
    """
    column_of: dict[str, int] = {}
    for node in graph.topological_order:
        column_of[node] = 1 + max((column_of[parent] for parent in graph.parents(node)), default=-1)
    members: dict[int, list[object]] = defaultdict(list)
    for node in graph.nodes:
        members[column_of[node]].append(node)
    stops: dict[Edge, list[object]] = {}
    joined: dict[int, dict[object, list[object]]] = {-1: defaultdict(list), 1: defaultdict(list)}  # to the left, right
    for edge in graph.edges:
        between = range(column_of[edge[0]] + 1, column_of[edge[1]])
        for x in between:
            members[x].append((edge, x))
        stops[edge] = [edge[0], *((edge, x) for x in between), edge[1]]
        for left, right in pairwise(stops[edge]):
            joined[1][left].append(right)
            joined[-1][right].append(left)

    columns = [members[x] for x in sorted(members)]
    height = {member: (len(column) - 1) / 2 - row for column in columns for row, member in enumerate(column)}
    for sweep in range(SWEEPS):
        side = -1 if sweep % 2 == 0 else 1
        near = joined[side]
        for column in columns[::-side]:
            column.sort(key=lambda member: -fmean([height[other] for other in near[member]] or [height[member]]))
            height.update({member: (len(column) - 1) / 2 - row for row, member in enumerate(column)})

    place = {member: (float(x), height[member]) for x, column in enumerate(columns) for member in column}
    return {node: place[node] for node in graph.nodes}, {edge: [place[stop] for stop in stops[edge]] for edge in stops}
