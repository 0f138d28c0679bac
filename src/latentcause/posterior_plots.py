"""Pictures of posteriors of fields: maps, lines with error bars, and how far stated chances hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from latentcause.metrics import coverage, pit_histogram
from latentcause.plots import INK, SERIES

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from latentcause.metrics import Reliability

__all__ = ["calibration", "maps", "profiles", "reliability_diagram"]

KINDS = {
    "mean": ("mean", "viridis"),
    "sd": ("standard deviation", "magma"),
    "exceedance": ("chance above threshold", "cividis"),
}
"""Of maps: their suffix in a summary, their title and colours."""

WIDTH, MOST_HEIGHT = 2.9, 4.5  # of a map, in inches


def maps(summary: xr.Dataset, truth: Mapping[str, Any] | None = None) -> Figure:
    """Maps of mean, standard deviation and (where there is a threshold) exceedance: a row for each node.

    Parameters
    ----------
    summary : Dataset
        As `latentcause.posteriors.summarise` returns it, of maps.
    truth : mapping from node to array (h, w), optional
        Drawn to the left, in the colours of the mean.

    Raises
    ------
    ValueError
        Where the summary holds no maps.
    """
    nodes = [str(name).removesuffix("_mean") for name in summary.data_vars if str(name).endswith("_mean")]
    if not nodes or summary[f"{nodes[0]}_mean"].ndim != 2:
        raise ValueError("the summary holds no maps: give what summarise makes of fields (h, w), or draw profiles")
    truth = {node: np.asarray(values, dtype=np.float64) for node, values in (truth or {}).items()}
    kinds = [kind for kind in KINDS if any(f"{node}_{kind}" in summary for node in nodes)]
    columns = [*(["truth"] if truth else []), *kinds]
    extent, aspect, tallness = _placed(summary, nodes[0])
    figure, axes = _grid(len(nodes), len(columns), WIDTH, min(MOST_HEIGHT, 0.8 * WIDTH * tallness))
    for node, row in zip(nodes, axes, strict=True):
        for kind, ax in zip(columns, row, strict=True):
            values = truth.get(node) if kind == "truth" else summary.get(f"{node}_{kind}")
            if values is None:
                ax.set_axis_off()
                continue
            title, colours = KINDS.get(kind, ("truth", "viridis"))
            limits = _limits(kind, summary[f"{node}_mean"].to_numpy(), truth.get(node))
            image = ax.imshow(
                np.asarray(values), cmap=colours, extent=extent, aspect=aspect, interpolation="nearest", **limits
            )
            ax.set_title(f"{node}: {title}", fontsize=9)
            ax.tick_params(labelsize=6)
            ax.locator_params(nbins=4)
            ax.ticklabel_format(style="plain", useOffset=False)
            figure.colorbar(image, ax=ax, fraction=0.046, pad=0.02).ax.tick_params(labelsize=7)
    for ax in axes[:, 1:].flat:
        ax.set_yticklabels([])
    for ax in axes[:-1].flat:
        ax.set_xticklabels([])
    return figure


def profiles(
    posterior: xr.Dataset, truth: Any = None, level: float = 0.9, others: Mapping[str, xr.Dataset] | None = None
) -> Figure:
    """Mean and central interval of each node along a line; a truth dashed.

    Parameters
    ----------
    posterior : Dataset
        Of fields along one axis; a line of a map is ``posterior.isel(y=10)``.
    truth : mapping from node to array (n,), or array (nodes, n), optional
    level : float
        Of the interval.
    others : mapping from label to posterior, optional
        Of the same fields, drawn beside it; such as the one without causal edges.

    Raises
    ------
    ValueError
        For fields along no axis or several, and a level outside (0, 1).
    """
    nodes = [str(name) for name in posterior.data_vars]
    axes_of_fields = [str(dim) for dim in posterior[nodes[0]].dims if dim != "sample"]
    if len(axes_of_fields) != 1:
        raise ValueError(
            f"the fields have the axes {axes_of_fields}: give those along one line, such as posterior.isel(y=10)"
        )
    if not 0 < level < 1:
        raise ValueError(f"a level of {level}: give a number between 0 and 1, such as 0.9")
    along = axes_of_fields[0]
    true = truth if isinstance(truth, Mapping) else {} if truth is None else dict(zip(nodes, truth, strict=True))
    x = posterior[along].to_numpy()
    figure, axes = _grid(len(nodes), 1, 6.8, 1.7)
    for node, ax in zip(nodes, axes[:, 0], strict=True):
        for number, (label, found) in enumerate({"posterior": posterior, **(others or {})}.items()):
            draws, colour = found[node].transpose("sample", along).to_numpy(), SERIES[number % len(SERIES)]
            low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0, method="weibull")
            ax.fill_between(x, low, high, color=colour, alpha=0.22, linewidth=0)
            ax.plot(x, draws.mean(0), color=colour, label=f"{label}: mean and {100 * level:g} % interval")
        if node in true:
            ax.plot(x, np.asarray(true[node]), color=INK, linestyle="--", linewidth=1, label="truth")
        ax.set_ylabel(node)
        _plain(ax)
    axes[0, 0].legend(fontsize=7, frameon=False, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
    axes[-1, 0].set_xlabel(along)
    return figure


def calibration(seen: Mapping[str, tuple[Any, Any]], bins: int = 10) -> Figure:
    """Where what came true lies among the draws, and how often it lies within central intervals: a colour for each label.

    A flat histogram (`latentcause.metrics.pit_histogram`) and points on the diagonal (`latentcause.metrics.coverage`) are
    calibrated. Heaps at both ends, and points below the diagonal: the posterior is too narrow. Neighbouring pixels err together,
    so a single map strays from the flat line by more than as many independent numbers would.

    Parameters
    ----------
    seen : mapping from label to (draws, truth)
        As `latentcause.metrics.coverage` takes them, such as ``{"z1": (posterior["z1"], truth["z1"])}``.
    bins : int
        Of the histogram.

    Raises
    ------
    ValueError
        What the metrics refuse.
    """
    levels = [k / 10 for k in range(1, 10)]
    figure, ((left, right),) = _grid(1, 2, 3.9, 3.0)
    for number, (label, (draws, truth)) in enumerate(seen.items()):
        colour = SERIES[number % len(SERIES)]
        edges = np.linspace(0, 1, bins + 1)
        left.stairs(bins * pit_histogram(draws, truth, bins), edges, color=colour, linewidth=1.6)
        right.plot(levels, coverage(draws, truth, levels), color=colour, marker="o", markersize=3, label=label)
    left.axhline(1, color=INK, linestyle="--", linewidth=0.8)
    right.plot([0, 1], [0, 1], color=INK, linestyle="--", linewidth=0.8)
    left.set(xlabel="place among the draws", ylabel="density", xlim=(0, 1), ylim=(0, None))
    right.set(xlabel="stated coverage", ylabel="observed coverage", xlim=(0, 1), ylim=(0, 1))
    right.legend(fontsize=7, frameon=False)
    _plain(left)
    _plain(right)
    return figure


def reliability_diagram(found: Mapping[str, Reliability], ax: Axes | None = None) -> Axes:
    """Observed frequency against forecast probability, bins with few cells small; on the diagonal chances hold.

    Parameters
    ----------
    found : mapping from label to `latentcause.metrics.Reliability`
    ax : Axes, optional
    """
    ax = _grid(1, 1, 3.6, 3.2)[1][0, 0] if ax is None else ax
    ax.plot([0, 1], [0, 1], color=INK, linestyle="--", linewidth=0.8)
    for number, (label, one) in enumerate(found.items()):
        colour = SERIES[number % len(SERIES)]
        used = one.counts > 0
        ax.plot(one.forecast[used], one.observed[used], color=colour, linewidth=1)
        sizes = 6 + 60 * np.sqrt(one.counts[used] / one.counts.sum())
        text = f"{label} (calibration error {one.calibration_error:.3f})"
        ax.scatter(one.forecast[used], one.observed[used], s=sizes, color=colour, label=text)
    ax.set(xlabel="forecast probability", ylabel="observed frequency", xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    ax.legend(fontsize=7, frameon=False)
    return _plain(ax)


# --- inside ----------------------------------------------------------------------------------------------------------


def _grid(rows: int, columns: int, width: float, height: float) -> tuple[Figure, np.ndarray]:
    import matplotlib.pyplot as plt

    size = (0.4 + width * columns, 0.4 + height * rows)
    return plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")


def _plain(ax: Axes) -> Axes:
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def _limits(kind: str, mean: np.ndarray, truth: np.ndarray | None) -> dict[str, float]:
    """Ends of the colours: a node's mean and its truth have the same, a standard deviation begins at 0, chances are 0 to 1."""
    if kind == "exceedance":
        return {"vmin": 0.0, "vmax": 1.0}
    if kind == "sd":
        return {"vmin": 0.0}
    both = mean if truth is None else np.concatenate([mean.ravel(), truth.ravel()])
    return {"vmin": float(np.nanmin(both)), "vmax": float(np.nanmax(both))}


def _placed(summary: xr.Dataset, node: str) -> tuple[tuple[float, float, float, float] | None, float, float]:
    """Extent and aspect for imshow, and the map's height over its width; in pixels where there are no coordinates."""
    field = summary[f"{node}_mean"]
    if any(dim not in field.coords or field.sizes[dim] < 2 for dim in field.dims):
        return None, 1.0, field.shape[0] / field.shape[1]
    (top, bottom), (left, right) = (_ends(field[dim].to_numpy()) for dim in field.dims)
    degrees = _is_geographic(summary.attrs.get("crs"))
    aspect = 1 / float(np.cos(np.radians((top + bottom) / 2))) if degrees else 1.0
    return (left, right, bottom, top), aspect, aspect * abs((top - bottom) / (right - left))


def _ends(centres: np.ndarray) -> tuple[float, float]:
    """The outer edges of the first and the last cell."""
    first, last = (centres[1] - centres[0]) / 2, (centres[-1] - centres[-2]) / 2
    return float(centres[0] - first), float(centres[-1] + last)


def _is_geographic(crs: str | None) -> bool:
    if crs is None:
        return False
    from rasterio.crs import CRS

    return bool(CRS.from_user_input(crs).is_geographic)
