"""Pictures of data, graphs and fitted models, for people: what was found, how sure it is, and how far off it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from latentcause.data import MultiDomainData
    from latentcause.graph import CausalGraph
    from latentcause.scm import Mechanism, StructuralCausalModel

__all__ = [
    "comparison",
    "graph",
    "history",
    "latents_by_domain",
    "loadings",
    "mechanism",
    "mechanisms",
    "recovery",
    "scaling",
]

BASE, TARGETED, QUIET, INK = "#2f6db3", "#d9730d", "#9aa3ad", "#2b2b2b"
"""Colours told apart by the colour-blind: untouched, acted on by an intervention, background, text."""

SERIES = (BASE, TARGETED, "#3a9a6b", "#a2559c", "#7a6a4f", "#c2405b")

PER_ROW = 4  # small multiples beside each other, so that each stays legible on a narrow screen


def graph(
    graph: CausalGraph, targets: Mapping[Any, Iterable[str]] | Iterable[str] = (), ax: Axes | None = None
) -> Axes:
    """Draw the causal graph, its targeted nodes filled in the colour of interventions.

    Parameters
    ----------
    graph : CausalGraph
    targets : mapping from domain to nodes, or nodes
        As in ``data.targets``. A node counts as targeted if any domain targets it.
    ax : Axes, optional

    Raises
    ------
    ValueError
        If a target is not a node of the graph.
    """
    nodes = [node for some in targets.values() for node in some] if isinstance(targets, Mapping) else list(targets)
    return graph.plot(ax, highlight=nodes)


def latents_by_domain(
    latents: np.ndarray,
    data: MultiDomainData,
    graph: CausalGraph,
    variances: np.ndarray | None = None,
    unidentified: Sequence[str] = (),
) -> Figure:
    """Histograms of every latent variable, one row per domain, coloured where the domain targets the variable.

    Parameters
    ----------
    latents : ndarray (n, d_z)
        Posterior means, rows as in ``data`` and columns as in ``graph.nodes``.
    data : MultiDomainData
    graph : CausalGraph
    variances : ndarray (n, d_z), optional
        Posterior variances; their mean root is drawn as a bar, the typical error of one sample.
    unidentified : sequence of str
        Nodes to mark as not identified by the data.

    Raises
    ------
    ValueError
        If the shapes do not fit each other.
    """
    _check_shape("latents", latents, (data.n_samples, len(graph)))
    figure, axes = _panels(len(graph), height=0.9 + 0.33 * len(data.domains), width=2.6, sharey=True)
    for j, (node, ax) in enumerate(zip(graph.nodes, axes, strict=True)):
        low, high = np.quantile(latents[:, j], [0.001, 0.999])
        margin = 0.05 * (high - low) + 1e-9
        edges = np.linspace(low - margin, high + margin, 61)
        for e, domain in enumerate(data.domains):
            counts, _ = np.histogram(latents[data.domain_index == e, j], bins=edges)
            colour = TARGETED if node in data.targets[domain] else BASE
            outline = -e + 0.85 * counts / max(counts.max(), 1)
            ax.stairs(outline, edges, baseline=-e, fill=True, color=colour, alpha=0.75, linewidth=0)
            ax.axhline(-e, color=QUIET, linewidth=0.5)
        if variances is not None:
            error = float(np.sqrt(variances[:, j]).mean())
            ax.errorbar(edges[-1] - error, 1.15, xerr=error, color=INK, capsize=2, linewidth=1)
        ax.set_title(f"{node} (not identified)" if node in unidentified else node, fontsize=10)
        ax.set_ylim(0.85 - len(data.domains), 1.3)
        ax.set_yticks([0.3 - e for e in range(len(data.domains))], [str(domain) for domain in data.domains], fontsize=8)
        ax.tick_params(left=False)
    note = "orange: targeted by the domain" + ("; bar: ± the mean posterior sd" if variances is not None else "")
    figure.supxlabel(f"latent variable ({note})", fontsize=9)
    return figure


def recovery(
    latents: np.ndarray,
    truth: np.ndarray,
    nodes: Sequence[str],
    variances: np.ndarray | None = None,
    points: int = 300,
    seed: int = 0,
) -> Figure:
    """True against recovered values, one panel per latent variable, with two posterior standard deviations.

    Parameters
    ----------
    latents, truth : ndarray (n, d_z)
        Aligned (`latentcause.metrics.align_columns`), in the same units.
    nodes : sequence of str
        Names of the d_z columns.
    variances : ndarray (n, d_z), optional
    points : int
        How many samples to draw.
    seed : int
        Chooses them.
    """
    _check_shape("latents", latents, (len(truth), len(nodes)))
    rows = np.random.default_rng(seed).permutation(len(truth))[:points]
    figure, axes = _panels(len(nodes), height=2.7, width=2.6)
    for j, (node, ax) in enumerate(zip(nodes, axes, strict=True)):
        x, y = truth[rows, j], latents[rows, j]
        ends = [min(x.min(), y.min()), max(x.max(), y.max())]
        ax.plot(ends, ends, color=INK, linewidth=0.8)
        if variances is not None:
            ax.errorbar(x, y, yerr=2 * np.sqrt(variances[rows, j]), fmt="none", ecolor=BASE, alpha=0.25, linewidth=0.7)
        ax.scatter(x, y, s=6, color=BASE, alpha=0.7, linewidth=0)
        ax.set_title(f"{node}: r = {np.corrcoef(truth[:, j], latents[:, j])[0, 1]:.3f}", fontsize=10)
    figure.supxlabel("true value", fontsize=9)
    figure.supylabel("recovered ± 2 sd" if variances is not None else "recovered", fontsize=9)
    return figure


def loadings(
    loadings: np.ndarray, nodes: Sequence[str], measurements: Sequence[str] | None = None, ax: Axes | None = None
) -> Axes:
    """Heat map of the loading matrix A (d_x, d_z): how each latent variable shows in each measurement."""
    if loadings.ndim != 2 or loadings.shape[1] != len(nodes):
        raise ValueError(f"loadings has shape {loadings.shape}: one column for each of {list(nodes)} is needed")
    d_x = len(loadings)
    if ax is None:
        ax = _new_axes(min(10.0, 2.5 + 0.12 * d_x), 1.2 + 0.28 * len(nodes))
    limit = float(np.abs(loadings).max()) or 1.0
    image = ax.imshow(loadings.T, aspect="auto", cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
    ax.set_yticks(range(len(nodes)), nodes, fontsize=8)
    if measurements is not None and d_x <= 40:
        ax.set_xticks(range(d_x), measurements, fontsize=8, rotation=90 if d_x > 6 else 0)
    ax.set_xlabel("measurement")
    ax.figure.colorbar(image, ax=ax, label="loading", fraction=0.05, pad=0.02)
    return ax


def history(history: Sequence[Mapping[str, float]], quantity: str | None = None, ax: Axes | None = None) -> Axes:
    """The course of a fit: one entry of ``model.history_`` against the iteration.

    Parameters
    ----------
    history : sequence of mapping
    quantity : str, optional
        Key of the entries; by default the first that is not a counter.
    ax : Axes, optional

    Raises
    ------
    ValueError
        If there are no iterations, or they hold no such quantity.
    """
    if not history:
        raise ValueError("this fit has no history: nothing was iterated")
    keys = [key for key in history[0] if key not in ("epoch", "iteration")]
    quantity = quantity or keys[0]
    if quantity not in keys:
        raise ValueError(f"the history holds no {quantity!r}: choose one of {keys}")
    ax = ax or _new_axes(4.5, 2.8)
    values = [entry[quantity] for entry in history]
    ax.plot(range(1, len(values) + 1), values, color=BASE, marker="o", markersize=3)
    ax.set_xlabel("iteration")
    ax.set_ylabel(quantity.replace("_", " "))
    ax.ticklabel_format(axis="y", useOffset=False)
    return _plain(ax)


def mechanism(
    baseline: StructuralCausalModel,
    node: str,
    parent: str,
    latents: np.ndarray,
    intervened: Mechanism | None = None,
    truth: Mechanism | None = None,
    ax: Axes | None = None,
) -> Axes:
    """How ``node`` depends on one parent, the other parents held at their medians.

    The line is the mechanism's mean and the band one standard deviation of its noise; ``intervened`` has the colour of
    interventions. The shaded range holds the central 99 % of the parent's values; beyond it the curve is extrapolated.

    Parameters
    ----------
    baseline : StructuralCausalModel
    node, parent : str
        An edge ``parent -> node`` of its graph.
    latents : ndarray (n, d_z)
        For the ranges and medians; columns in ``graph.nodes`` order.
    intervened : Mechanism, optional
        What takes over in domains that target ``node``.
    truth : Mechanism, optional
        The true baseline mechanism, drawn dashed.
    ax : Axes, optional

    Raises
    ------
    ValueError
        If ``parent`` is not a parent of ``node``.
    """
    graph = baseline.graph
    parents = graph.parents(node)
    if parent not in parents:
        raise ValueError(f"{parent!r} is not a parent of {node!r}, whose parents are {list(parents)}")
    ax = ax or _new_axes(3.2, 2.8)
    values = latents[:, [graph.index(p) for p in parents]]
    position = parents.index(parent)
    low, high = np.quantile(values[:, position], [0.005, 0.995])
    x = np.linspace(low - 0.15 * (high - low), high + 0.15 * (high - low), 200)
    grid = np.tile(np.median(values, axis=0), (len(x), 1))
    grid[:, position] = x
    ax.axvspan(low, high, color=QUIET, alpha=0.15, linewidth=0)
    for shown, colour, label in ((baseline.mechanisms[node], BASE, "baseline"), (intervened, TARGETED, "intervened")):
        if shown is not None:
            mean, sd = _mean_of(shown, grid), shown.noise.variance**0.5
            ax.plot(x, mean, color=colour, label=label)
            ax.fill_between(x, mean - sd, mean + sd, color=colour, alpha=0.18, linewidth=0)
    if truth is not None:
        ax.plot(x, _mean_of(truth, grid), color=INK, linestyle="--", linewidth=1, label="true baseline")
    ax.set_xlabel(parent)
    ax.set_ylabel(node)
    return _plain(ax)


def mechanisms(
    baseline: StructuralCausalModel,
    intervened: Mapping[str, Mechanism],
    latents: np.ndarray,
    truth: StructuralCausalModel | None = None,
) -> Figure:
    """`mechanism` for every edge of the graph.

    Raises
    ------
    ValueError
        If the graph has no edges.
    """
    edges = baseline.graph.edges
    if not edges:
        raise ValueError("the graph has no edges, so there is no mechanism with a parent to draw")
    figure, axes = _panels(len(edges), height=2.6, width=2.6)
    for (parent, node), ax in zip(edges, axes, strict=True):
        true = None if truth is None else truth.mechanisms[node]
        mechanism(baseline, node, parent, latents, intervened.get(node), true, ax)
    axes[0].legend(fontsize=7, frameon=False)
    return figure


def comparison(
    results: Mapping[str, Sequence[float]],
    limit: float | None = None,
    quantity: str = "relative mean squared error",
    ax: Axes | None = None,
) -> Axes:
    """Methods beside each other: a bar for the median over runs, a whisker for the quartiles, a line for the limit.

    Parameters
    ----------
    results : mapping from method to values
        One value per run.
    limit : float, optional
        What no method can beat.
    quantity : str
        Label of the axis.
    ax : Axes, optional
    """
    ax = ax or _new_axes(6.0, 0.9 + 0.32 * len(results))
    middle = [float(np.median(values)) for values in results.values()]
    quartiles = np.array([np.quantile(values, [0.25, 0.75]) for values in results.values()]).T
    places = -np.arange(len(results))
    bars = ax.barh(places, middle, color=BASE, alpha=0.8, height=0.7)
    if max(len(values) for values in results.values()) > 1:
        ax.errorbar(middle, places, xerr=np.abs(quartiles - middle), fmt="none", ecolor=INK, capsize=2, linewidth=1)
    else:
        ax.bar_label(bars, [f"{value:.3g}" for value in middle], padding=3, fontsize=8)
    if limit is not None:
        ax.axvline(limit, color=TARGETED, linewidth=1.5, label=f"Bayes limit {limit:.3g}")
        ax.legend(fontsize=8, frameon=False, loc="lower right")
    ax.set_yticks(places, list(results), fontsize=8)
    ax.set_xlabel(quantity)
    return _plain(ax)


def scaling(
    x: Sequence[float],
    runs: Mapping[str, np.ndarray],
    xlabel: str,
    quantity: str = "relative mean squared error",
    ax: Axes | None = None,
    logarithmic: str = "",
) -> Axes:
    """Curves against a size: the median over runs, and the quartiles as a band.

    Parameters
    ----------
    x : sequence of float
    runs : mapping from label to ndarray (number of runs, len(x))
        Runs that are missing are NaN.
    xlabel, quantity : str
    ax : Axes, optional
    logarithmic : str
        The axes with a logarithmic scale: "", "x", "y" or "xy".
    """
    ax = ax or _new_axes(6.4, 3.2)
    for position, (label, values) in enumerate(runs.items()):
        _check_shape(f"runs[{label!r}]", values, (len(values), len(x)))
        low, middle, high = np.nanquantile(values, [0.25, 0.5, 0.75], axis=0)
        colour, dashes = SERIES[position % len(SERIES)], ("-", "--", ":")[position // len(SERIES) % 3]
        ax.plot(x, middle, dashes, color=colour, marker="o", markersize=3, label=label)
        ax.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    if "x" in logarithmic:
        ax.set_xscale("log")
        ax.set_xticks(list(x), [f"{value:g}" for value in x])
        ax.minorticks_off()
    if "y" in logarithmic:
        _plain_log_axis(ax)
    ax.set_xlabel(xlabel)
    ax.set_ylabel(quantity)
    ax.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return _plain(ax)


# --- inside ----------------------------------------------------------------------------------------------------------


def _new_axes(width: float, height: float) -> Axes:
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(width, height), layout="constrained")[1]


def _panels(count: int, height: float, width: float, sharey: bool = False) -> tuple[Figure, list[Axes]]:
    import matplotlib.pyplot as plt

    columns = min(count, PER_ROW)
    rows = ceil(count / columns)
    size = (0.6 + width * columns, 0.3 + height * rows)
    figure, grid = plt.subplots(rows, columns, figsize=size, squeeze=False, sharey=sharey, layout="constrained")
    axes = list(grid.flat)
    for spare in axes[count:]:
        spare.set_visible(False)
    return figure, [_plain(ax) for ax in axes[:count]]


def _plain(ax: Axes) -> Axes:
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def _plain_log_axis(ax: Axes) -> None:
    """A logarithmic vertical axis marked 0.1, 0.2, 0.5, 1, ..."""
    from matplotlib.ticker import LogLocator, NullLocator

    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter("{x:g}")


def _mean_of(mechanism: Mechanism, parents: np.ndarray) -> np.ndarray:
    import torch

    return mechanism.mean(torch.from_numpy(parents)).numpy()


def _check_shape(name: str, array: np.ndarray, wanted: tuple[int, ...]) -> None:
    if array.shape != wanted:
        raise ValueError(f"{name} has shape {array.shape}, where {wanted} is needed")
