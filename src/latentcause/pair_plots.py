"""Pictures of what was learned from pairs before and after an intervention: whose code moved, and a graph with weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import TYPE_CHECKING

import numpy as np

from latentcause.graph import CausalGraph
from latentcause.plots import BASE, INK, PER_ROW, TARGETED

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["moves", "weighted_graph"]

SMALLEST = 1e-6  # of the largest move: what moves less is drawn there
BINS = 60


def moves(moved: pd.DataFrame, targets: Sequence[str]) -> Figure:
    """How far the noise code of each latent moved, in pairs whose intervention hit it and in all others.

    Histograms of |e~ - e|, each scaled to the same height.
    Where the two are apart, the pairs tell what was hit; where they run into each other, the code is mixed or the model is not
    done learning.

    Parameters
    ----------
    moved : DataFrame (n, m)
        ``model.noise(after) - model.noise(before)``.
    targets : sequence of n str
        The likeliest target of each pair, of several at once with ``;`` between them; "none" is one.

    Raises
    ------
    ValueError
        For another number of targets than rows.
    """
    import matplotlib.pyplot as plt

    if len(targets) != len(moved):
        raise ValueError(f"{len(targets)} targets for {len(moved)} pairs: give one for each")
    m = moved.shape[1]
    columns = min(m, PER_ROW)
    rows = ceil(m / columns)
    figure, grid = plt.subplots(
        rows,
        columns,
        figsize=(0.6 + 2.6 * columns, 0.5 + 1.9 * rows),
        squeeze=False,
        sharex=True,
        sharey=True,
        layout="constrained",
    )
    kinds, which = np.unique(np.asarray(targets, dtype=object).astype(str), return_inverse=True)
    size = np.abs(moved.to_numpy())
    largest = max(float(size.max()), 1e-12)
    size = np.maximum(size, SMALLEST * largest)
    edges = np.geomspace(max(float(size.min()), SMALLEST * largest) * 0.9, largest * 1.1, BINS + 1)
    for j, (name, ax) in enumerate(zip(moved.columns, grid.flat, strict=False)):
        hit = np.array([name in kind.split(";") for kind in kinds])[which]
        for chosen, colour, label in ((~hit, BASE, "other pairs"), (hit, TARGETED, "pairs that hit it")):
            counts, _ = np.histogram(size[chosen, j], bins=edges)
            ax.stairs(counts / max(counts.max(), 1), edges, fill=True, color=colour, alpha=0.65, label=label)
        ax.set_yticks([])
        ax.set_xscale("log")
        ax.set_title(str(name), fontsize=10)
        ax.spines[["top", "right"]].set_visible(False)
    for spare in list(grid.flat)[m:]:
        spare.set_visible(False)
    grid[0, 0].legend(fontsize=7, frameon=False)
    grid[0, 0].set_ylabel("share of pairs")
    figure.supxlabel("move of the noise code", fontsize=9)
    return figure


def weighted_graph(graph: CausalGraph, weights: Mapping[tuple[str, str], float], ax: Axes | None = None) -> Axes:
    """Draw the graph, and beside each edge its weight.

    Parameters
    ----------
    graph : CausalGraph
    weights : mapping from (cause, effect) to float
        Edges that it lacks are drawn without.
    ax : Axes, optional

    Raises
    ------
    ValueError
        For a weight of an edge that the graph does not have.
    """
    from latentcause.graph_plot import layout

    foreign = [edge for edge in weights if edge not in graph.edges]
    if foreign:
        raise ValueError(f"there is no edge {' -> '.join(foreign[0])} in the graph {graph}: leave its weight out")
    ax = graph.plot(ax)
    for edge, route in layout(graph)[1].items():
        if edge in weights:
            x, y = _along(np.array(route), 0.4)  # off the middle, where routes cross
            ax.text(
                x,
                y,
                f"{weights[edge]:.2g}",
                fontsize=8,
                color=INK,
                ha="center",
                va="center",
                bbox={"boxstyle": "round,pad=0.1", "facecolor": "white", "edgecolor": "none"},
            )
    return ax


def _along(route: np.ndarray, share: float) -> np.ndarray:
    """The point (2,) at a share of the length of a route (k, 2)."""
    lengths = np.linalg.norm(np.diff(route, axis=0), axis=1)
    at = np.concatenate([[0.0], np.cumsum(lengths)])
    return np.array([np.interp(share * at[-1], at, coordinate) for coordinate in route.T])
