"""Pictures of the mechanisms of a structural causal model beside data."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from latentcause.plots import BASE, INK, PER_ROW, QUIET, SERIES
from latentcause.scm.categorical import CategoricalMechanism, DummyCoded, levels_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from latentcause.data.variables import Variables
    from latentcause.scm.mechanisms import Mechanism
    from latentcause.scm.model import StructuralCausalModel

POINTS = 500


def mechanisms(model: StructuralCausalModel, data: Variables) -> Figure:
    """One panel per edge: `StructuralCausalModel.plot_mechanisms`, which says what it shows."""
    import matplotlib.pyplot as plt

    edges = model.graph.edges
    if not edges:
        raise ValueError("the graph has no edges, so there is no mechanism with a parent to draw")
    columns = min(len(edges), PER_ROW)
    rows = ceil(len(edges) / columns)
    size = (0.6 + 2.8 * columns, 0.3 + 2.6 * rows)
    figure, grid = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    panels = list(grid.flat)
    for spare in panels[len(edges) :]:
        spare.set_visible(False)
    for (parent, node), ax in zip(edges, panels, strict=False):
        _draw_edge(model, data, parent, node, ax)
    return figure


def _draw_edge(model: StructuralCausalModel, data: Variables, parent: str, node: str, ax: Axes) -> None:
    x, inputs = _grid(model, data, parent, node)
    shown = slice(0, POINTS)
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_xlabel(parent)
    ax.set_ylabel(node)
    if parent in model.levels:
        ax.set_xticks(range(len(model.levels[parent])), [str(level) for level in model.levels[parent]])
    mechanism = model.mechanisms[node]
    style: dict[str, Any] = {"marker": "_", "markersize": 18, "linestyle": "none"} if parent in model.levels else {}
    if levels_of(mechanism):
        for number, (level, chance) in enumerate(
            zip(model.levels[node], _probabilities(mechanism, inputs), strict=True)
        ):
            ax.plot(x, chance, color=SERIES[number % len(SERIES)], label=str(level), **style)
        ax.set_ylim(-0.02, 1.02)
        ax.set_ylabel(f"P({node})")
        ax.legend(fontsize=7, frameon=False)
        return
    ax.scatter(data.column(parent)[shown], data.column(node)[shown], s=5, color=QUIET, alpha=0.5, linewidth=0)
    try:
        ax.plot(x, mechanism.mean(inputs).numpy(), color=BASE, **style)
    except ValueError:
        ax.set_title("mean not known in closed form", fontsize=7, color=INK)


def _grid(model: StructuralCausalModel, data: Variables, parent: str, node: str) -> tuple[np.ndarray, torch.Tensor]:
    """Values of one parent, and inputs of the mechanism with the other parents at their median or commonest level."""
    parents = model.graph.parents(node)
    own = data.column(parent)
    x = np.arange(len(model.levels[parent])) if parent in model.levels else np.linspace(own.min(), own.max(), 200)
    inputs = np.empty((len(x), len(parents)))
    for k, other in enumerate(parents):
        values = data.column(other)
        commonest = np.bincount(values.astype(np.int64)).argmax() if other in model.levels else np.median(values)
        inputs[:, k] = x if other == parent else commonest
    return x, torch.from_numpy(inputs)


def _probabilities(mechanism: Mechanism, inputs: torch.Tensor) -> np.ndarray:
    if isinstance(mechanism, DummyCoded):
        inputs = mechanism.expand(inputs)
        mechanism = mechanism.mechanism
    assert isinstance(mechanism, CategoricalMechanism)
    return mechanism.probabilities(inputs).T.numpy()
