"""The picture of a causal graph: columns from left to right, causes before effects."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from itertools import pairwise
from statistics import fmean
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from latentcause.graph import CausalGraph
    from latentcause.graph_text import Edge

FONT_SIZE = 9.0
LETTER_WIDTH = 0.6 * FONT_SIZE
INK = "#2b2b2b"
FILL = "#dfe9f5"
HIGHLIGHT = "#f6c89f"
SWEEPS = 8

Point = tuple[float, float]


def draw(graph: CausalGraph, ax: Axes | None = None, highlight: Collection[str] = ()) -> Axes:
    """Draw ``graph`` on ``ax``, or on a new figure where it is None, and return the axes."""
    places, routes = layout(graph)
    xs, ys = zip(*places.values(), *(point for route in routes.values() for point in route), strict=True)
    radius = max(12.0, 4.0 + LETTER_WIDTH * max(map(len, graph.nodes)) / 2)  # in points
    if ax is None:
        inches = 2 * radius / 72 + 0.5
        _, ax = plt.subplots(figsize=(1 + 1.7 * inches * (max(xs) + 1), 0.5 + inches * (max(ys) - min(ys) + 1)))
    for route in routes.values():
        for start, end in pairwise(route[:-1]):
            ax.plot(*zip(start, end, strict=True), color=INK, linewidth=1.0, zorder=1)
        first = len(route) == 2  # starts at a node, not at a bend
        arrow = {"arrowstyle": "-|>", "color": INK, "shrinkA": radius if first else 0.0, "shrinkB": radius}
        ax.annotate("", xy=route[-1], xytext=route[-2], arrowprops=arrow)
    for node, (x, y) in places.items():
        fill = HIGHLIGHT if node in highlight else FILL
        ax.scatter(x, y, s=(2 * radius) ** 2, facecolor=fill, edgecolor=INK, zorder=2)
        ax.text(x, y, node, ha="center", va="center", fontsize=FONT_SIZE, color=INK, parse_math=False)
    ax.set_xlim(min(xs) - 0.5, max(xs) + 0.5)
    ax.set_ylim(min(ys) - 0.7, max(ys) + 0.7)
    ax.axis("off")
    return ax


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
