"""The picture of a causal graph: columns from left to right, causes before effects."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from latentcause.graph import CausalGraph

FONT_SIZE = 9.0
INK = "#2b2b2b"
FILL = "#dfe9f5"


def draw(graph: CausalGraph, ax: Axes | None = None) -> Axes:
    """Draw ``graph`` on ``ax``, or on a new figure where it is None, and return the axes."""
    at = layout(graph)
    radius = max(
        12.0, 0.32 * FONT_SIZE * max(map(len, graph.nodes)) + 4.0
    )  # points; about 0.6 of the font size a letter
    if ax is None:
        columns = 1 + max(x for x, _ in at.values())
        rows = 1 + max(y for _, y in at.values()) - min(y for _, y in at.values())
        inches = radius / 72
        _, ax = plt.subplots(figsize=(1 + (4 * inches + 0.4) * columns, 1 + (2 * inches + 0.4) * rows))
    for cause, effect in graph.edges:
        far = at[effect][0] - at[cause][0] > 1  # bend round the nodes in between
        style = {
            "arrowstyle": "-|>",
            "color": INK,
            "shrinkA": radius,
            "shrinkB": radius,
            "connectionstyle": f"arc3,rad={-0.25 if far else 0.0}",
        }
        ax.annotate("", xy=at[effect], xytext=at[cause], arrowprops=style)
    xs, ys = zip(*at.values(), strict=True)
    ax.scatter(xs, ys, s=(2 * radius) ** 2, facecolor=FILL, edgecolor=INK, zorder=2)
    for node, (x, y) in at.items():
        ax.text(x, y, node, ha="center", va="center", fontsize=FONT_SIZE, color=INK, parse_math=False)
    ax.set_xlim(min(xs) - 0.6, max(xs) + 0.6)
    ax.set_ylim(min(ys) - 0.8, max(ys) + 0.8)
    ax.axis("off")
    return ax


def layout(graph: CausalGraph) -> dict[str, tuple[float, float]]:
    """Where each node goes: x is the longest path that leads to it, y spreads a column near its members' parents."""
    depth: dict[str, int] = {}
    for node in graph.topological_order:
        depth[node] = 1 + max((depth[parent] for parent in graph.parents(node)), default=-1)
    at: dict[str, tuple[float, float]] = {}
    for x in range(1 + max(depth.values())):
        column = [node for node in graph.nodes if depth[node] == x]
        column.sort(key=lambda node: -fmean([at[parent][1] for parent in graph.parents(node)] or [0.0]))
        at.update({node: (float(x), (len(column) - 1) / 2 - row) for row, node in enumerate(column)})
    return {node: at[node] for node in graph.nodes}
