"""From the settings of ``latentcause posterior`` to graph, observations and prior; an error names the key and the file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from latentcause.commands.posterior_config import (
    GivenGrid,
    NodePrior,
    PosteriorConfig,
    Prior,
)
from latentcause.commands.posterior_observations import MeasuredPoints, MeasuredRaster, measure, sd_file
from latentcause.commands.reading import read_graph
from latentcause.data.gridded_observations import GriddedObservations
from latentcause.data.labels import listing
from latentcause.data.rasters import grid_of, refuse_other_crs, start_and_step
from latentcause.fields import GaussianFields, Kernel, Matern, SquaredExponential, White
from latentcause.graph import CausalGraph
from latentcause.observation import Grid, Observation

SMOOTHNESS = 1.5  # of a Matern kernel


@dataclass(frozen=True, eq=False)
class Problem:
    """What a posterior is drawn from."""

    graph: CausalGraph
    observations: GriddedObservations
    prior: GaussianFields | None
    """None where the model learns its own."""


def read_problem(config: PosteriorConfig, data: Path) -> Problem:
    """Read all files, which lie in the folder ``data``.

    Raises
    ------
    ValueError, FileNotFoundError
        For what a file, the graph, the observations or the prior refuse; the message names the key.
    """
    if not data.is_dir():
        raise FileNotFoundError(f"there is no folder {data}")
    with naming("graph"):
        graph = _graph(config.graph, data)
    _check_nodes(config, graph)
    measured: list[tuple[str, str, MeasuredRaster | MeasuredPoints]] = []
    for node, several in config.observations.items():
        for number, one in enumerate(several):
            where = f"observations.{node}.{number}"
            with naming(where):
                measured.append((node, where, measure(one, data)))
    with naming("grid"):
        rasters = {found.name: found.grid for _, _, found in measured if isinstance(found, MeasuredRaster)}
        grid = _grid(config.grid, rasters, data)
    by_node: dict[str, list[Observation]] = {}
    for node, where, found in measured:
        with naming(f"{where} ({found.name})"):
            by_node.setdefault(node, []).append(found.observation(grid))
    with naming("observations"):
        observations = GriddedObservations(graph, grid, by_node)
    if config.prior is None:
        return Problem(graph, observations, None)
    with naming("prior"):
        return Problem(graph, observations, prior_of(config.prior, graph, grid.shape))


def files_of(config: PosteriorConfig, data: Path) -> list[Path]:
    """All files that the settings name, each once."""
    observed = [one for several in config.observations.values() for one in several]
    names = [one.file for one in observed]
    names += [beside.file for one in observed if (beside := sd_file(one)) is not None]
    if isinstance(config.grid, str):
        names.append(config.grid)
    if isinstance(config.graph, str) and _names_a_file(config.graph):
        names.append(config.graph)
    return [data / name for name in dict.fromkeys(names)]


def prior_of(settings: Prior, graph: CausalGraph, shape: tuple[int, ...]) -> GaussianFields:
    """The system of fields; its intercepts are such that the nodes have the means that are given.

    Raises
    ------
    ValueError
        For nodes and edges other than those of the graph.
    """
    edges = {f"{cause} -> {effect}": (cause, effect) for cause, effect in graph.edges}
    given = {" -> ".join(part.strip() for part in text.split("->")): w for text, w in settings.weights.items()}
    _check_keys("weights", given, edges)
    _check_keys("nodes", settings.nodes, graph.nodes)
    weights = {edges[text]: weight for text, weight in given.items()}
    means = {node: prior.mean for node, prior in settings.nodes.items()}
    intercepts = {
        node: means[node] - sum(weights[parent, node] * means[parent] for parent in graph.parents(node))
        for node in graph.nodes
    }
    kernels = {node: _kernel(prior) for node, prior in settings.nodes.items()}
    return GaussianFields(graph, weights, kernels, shape, intercepts)


@contextmanager
def naming(where: str) -> Iterator[None]:
    """Put the place in the settings before the message of what goes wrong inside."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{where}: {error}") from None
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


# --- inside ----------------------------------------------------------------------------------------------------------


def _graph(given: str | Sequence[tuple[str, str]], data: Path) -> CausalGraph:
    if not isinstance(given, str):
        return CausalGraph.from_edges(given)
    if given.lstrip().startswith(("digraph", "strict digraph")):
        return CausalGraph.from_dot(given)
    return read_graph(str(data / given) if _names_a_file(given) else given)


def _names_a_file(graph: str) -> bool:
    return "->" not in graph and ";" not in graph and bool(Path(graph).suffix)


def _check_nodes(config: PosteriorConfig, graph: CausalGraph) -> None:
    for key, given in (("observations", config.observations), ("thresholds", config.thresholds)):
        unknown = [node for node in given if node not in graph.nodes]
        if unknown:
            raise ValueError(f"{key}: {listing(unknown)} is no node of the graph (nodes: {listing(graph.nodes)})")
    unfit = [node for node in graph.nodes if "/" in node or "\\" in node or node.startswith(".")]
    if unfit:
        raise ValueError(f"graph: node {unfit[0]!r} can't be part of a file's name: rename it")


def _check_keys(key: str, given: Iterable[str], wanted: Iterable[str]) -> None:
    names, known = list(given), list(wanted)
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"{key}: {unknown[0]!r} is not in the graph, which has {listing(known) or 'none'}")
    if missing := [name for name in known if name not in names]:
        raise ValueError(f"{key}: {missing[0]!r} is missing: give each of {listing(known)}")


def _grid(given: str | GivenGrid | None, rasters: Mapping[str, Grid], data: Path) -> Grid:
    if isinstance(given, GivenGrid):
        rows, columns = (
            np.linspace(given.north, given.south, given.rows + 1),
            np.linspace(given.west, given.east, given.columns + 1),
        )
        name, grid = "the grid", Grid((rows, columns), ("y", "x"), given.crs)
    elif given is not None:
        name, grid = given, grid_of(data / given)
    elif rasters:
        name, grid = min(rasters.items(), key=lambda pair: pair[1].cell_size)
    else:
        raise ValueError("there are only points: give the grid of the fields, or a raster that has it")
    if len(grid.shape) != 2:
        raise ValueError(f"{name} has the axes {listing(grid.dims)}: maps of two axes are needed")
    for dim, axis in zip(grid.dims, grid.edges, strict=True):
        start_and_step(dim, axis)
    refuse_other_crs(rasters, name, grid)
    return grid


def _kernel(prior: NodePrior) -> Kernel:
    if prior.length is None:
        return White(prior.variance)
    if prior.kernel == "matern":
        return Matern(prior.length, prior.variance, prior.smoothness or SMOOTHNESS)
    return SquaredExponential(prior.length, prior.variance)
