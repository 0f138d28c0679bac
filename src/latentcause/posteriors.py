"""Draws of a posterior as maps of mean, spread, quantiles and exceedance; and how well they agree with a known truth.

A posterior is what `latentcause.SVGDM.sample_posterior` returns: an `xarray.Dataset` with a variable for each node, of dimensions
``sample`` and those of the grid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from latentcause.data.labels import listing
from latentcause.metrics import forecasts

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from latentcause.observation import Grid

__all__ = ["exceedance", "from_draws", "scores", "summarise", "to_chains"]


def from_draws(draws: np.ndarray, nodes: Sequence[str], grid: Grid) -> xr.Dataset:
    """Draws (n, nodes, *shape) of fields on a grid as a posterior, with the grid's coordinates and, as ``crs``, its system."""
    import xarray as xr

    coords = {"sample": np.arange(len(draws)), **grid.centres}
    variables = {node: (("sample", *grid.dims), draws[:, i]) for i, node in enumerate(nodes)}
    return xr.Dataset(variables, coords, attrs={} if grid.crs is None else {"crs": grid.crs})


def summarise(
    posterior: xr.Dataset,
    quantiles: Sequence[float] = (0.05, 0.5, 0.95),
    thresholds: Mapping[str, float] | None = None,
) -> xr.Dataset:
    """Maps of what is known about each node.

    Parameters
    ----------
    posterior : Dataset
        Of two or more samples.
    quantiles : sequence of float
        In (0, 1). Of n sorted draws the p-quantile is the one numbered p (n + 1), interpolated, so that another draw of the
        same distribution lies below it with probability p.
    thresholds : mapping from node to float, optional
        In the units of the node.

    Returns
    -------
    Dataset
        ``NODE_mean``, ``NODE_sd``, ``NODE_q05`` and so on for the quantiles, and ``NODE_exceedance`` for nodes with a threshold:
        the share of samples above it. A share of n samples has a standard error of up to 1 / (2 sqrt(n)).

    Raises
    ------
    ValueError
        For fewer than two samples, quantiles outside (0, 1), and a threshold for another node or that is not finite.
    """
    nodes = _nodes(posterior)
    wrong = [q for q in quantiles if not 0 < q < 1]
    if wrong:
        raise ValueError(f"a quantile of {wrong[0]}: give numbers between 0 and 1, such as 0.05")
    if posterior.sizes["sample"] < 2:
        raise ValueError("a posterior of one sample has no spread: draw two samples or more")
    above = exceedance(posterior, thresholds or {})
    maps = {}
    for node in nodes:
        draws = posterior[node]
        maps[f"{node}_mean"] = draws.mean("sample")
        maps[f"{node}_sd"] = draws.std("sample", ddof=1)
        for q in quantiles:
            found = draws.quantile(q, "sample", method="weibull", skipna=False)
            maps[f"{node}_q{f'{100 * q:g}'.zfill(2)}"] = found.drop_vars("quantile")
        if node in above:
            maps[f"{node}_exceedance"] = above[node]
    return _dataset(maps, posterior)


def exceedance(posterior: xr.Dataset, thresholds: Mapping[str, float]) -> xr.Dataset:
    """P(node > threshold) in every pixel, as the share of samples above it, for each node that has a threshold.

    Raises
    ------
    ValueError
        For a threshold of another node, or one that is not finite.
    """
    nodes = _nodes(posterior)
    unknown = [node for node in thresholds if node not in nodes]
    if unknown:
        raise ValueError(f"a threshold for {listing(unknown)}, no node of the posterior (nodes: {listing(nodes)})")
    for node, threshold in thresholds.items():
        if not np.isfinite(threshold):
            raise ValueError(f"the threshold of {node!r} is {threshold}: give a finite number")
    return _dataset({node: (posterior[node] > t).mean("sample") for node, t in thresholds.items()}, posterior)


def scores(posterior: xr.Dataset, truth: Any, levels: Sequence[float] = (0.5, 0.9)) -> pd.DataFrame:
    """How well the draws agree with a known truth: a row for each node.

    Columns, each over all pixels whose truth is known: ``crps`` (mean `latentcause.metrics.crps`), ``rmse`` of the posterior mean,
    ``sd`` (root of the mean posterior variance: what rmse should be), and ``coverage_0.9`` and so on for the levels: the share
    of truths within the central interval (`latentcause.metrics.coverage`).

    Parameters
    ----------
    posterior : Dataset
        Of two or more samples.
    truth : mapping from node to array (*shape), Dataset, or array (nodes, *shape)
        Of some or all nodes; an array has all nodes, in the order of the posterior. NaN where it is not known.
    levels : sequence of float

    Raises
    ------
    ValueError
        For a truth of another node or shape, no known truth, and what the metrics refuse.
    """
    import pandas as pd

    rows = {}
    for node, draws, y in _with_truth(posterior, truth):
        covered = forecasts.coverage(draws, y, levels)
        known = ~np.isnan(y)
        rows[node] = {
            "crps": np.nanmean(forecasts.crps(draws, y)),
            "rmse": np.sqrt(np.square(draws.mean(0) - y)[known].mean()),
            "sd": np.sqrt(draws.var(0, ddof=1)[known].mean()),
            **{f"coverage_{level:g}": share for level, share in zip(levels, covered, strict=True)},
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("node")


def to_chains(posterior: xr.Dataset, chains: int = 1) -> xr.Dataset:
    """The draws with dimensions ``chain`` and ``draw`` in place of ``sample``, as ArviZ takes them.

    ``arviz.convert_to_inference_data(to_chains(posterior, 4))`` holds them as its group ``posterior``. Draws of `SVGDM` are
    independent, so it does not matter how they are cut into chains.

    Raises
    ------
    ValueError
        Where the samples do not make that many chains of equal length.
    """
    _nodes(posterior)
    n = posterior.sizes["sample"]
    if chains < 1 or n % chains:
        raise ValueError(f"{n} samples do not make {chains} chains of equal length: give a divisor of {n}")
    split = posterior.drop_vars("sample", errors="ignore")
    split = split.assign_coords(
        chain=("sample", np.repeat(np.arange(chains), n // chains)),
        draw=("sample", np.tile(np.arange(n // chains), chains)),
    )
    cut = split.set_index(sample=["chain", "draw"]).unstack("sample")
    return cut.transpose("chain", "draw", ...)


# --- inside ----------------------------------------------------------------------------------------------------------


def _nodes(posterior: xr.Dataset) -> list[str]:
    """Names of the nodes; refuses a data set that is no posterior."""
    nodes = [str(name) for name in posterior.data_vars]
    without = [node for node in nodes if "sample" not in posterior[node].dims]
    if not nodes or without:
        raise ValueError(
            f"{listing(without) if without else 'a data set without variables'} is no posterior: variables need the dimension "
            "'sample'"
        )
    return nodes


def _dataset(maps: Mapping[str, xr.DataArray], posterior: xr.Dataset) -> xr.Dataset:
    import xarray as xr

    return xr.Dataset(maps, attrs=posterior.attrs)


def _with_truth(posterior: xr.Dataset, truth: Any) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Node, draws (n, *shape) and truth (*shape) of every node whose truth is given."""
    nodes = _nodes(posterior)
    if hasattr(truth, "data_vars"):
        truth = {str(name): truth[name] for name in truth.data_vars}
    if not isinstance(truth, Mapping):
        if len(truth) != len(nodes):
            raise ValueError(f"truths of {len(truth)} nodes for a posterior of {listing(nodes)}: give them by name")
        truth = dict(zip(nodes, truth, strict=True))
    unknown = [node for node in truth if node not in nodes]
    if unknown:
        raise ValueError(f"a truth of {listing(unknown)}, no node of the posterior (nodes: {listing(nodes)})")
    found = []
    for node, values in truth.items():
        draws = posterior[node].transpose("sample", ...).to_numpy().astype(np.float64)
        y = np.asarray(values, dtype=np.float64)
        if y.shape != draws.shape[1:]:
            raise ValueError(f"the truth of {node!r} has shape {y.shape}, the posterior {draws.shape[1:]}")
        found.append((node, draws, y))
    return found
