"""Fit the mechanisms of the nodes of a graph: which kind each one gets, and what its parents look like to it."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass

import numpy as np

from latentcause.data.variables import Variables
from latentcause.graph import CausalGraph
from latentcause.scm.categorical import DummyCoded
from latentcause.scm.fitting import KINDS, fit_mechanisms
from latentcause.scm.fitting.categorical import fit_categorical
from latentcause.scm.fitting.table import NOISES, Table, residual_noise
from latentcause.scm.interventions import refuse_unknown
from latentcause.scm.mechanisms import LinearMechanism, Mechanism

Levels = Mapping[str, tuple[Hashable, ...]]


@dataclass(frozen=True)
class FitSettings:
    """How a structural causal model was fitted, so that it can be fitted again.

    Attributes
    ----------
    kinds : dict from node to str
        Of every node that is no category.
    noise : str
    seed : int
    """

    kinds: dict[str, str]
    noise: str
    seed: int


def fit_settings(
    graph: CausalGraph, levels: Levels, mechanisms: str | Mapping[str, str], noise: str, seed: int
) -> FitSettings:
    """The settings of a fit, checked.

    Raises
    ------
    ValueError
        For an unknown node, kind or noise, or a kind for a node that is a category.
    """
    asked = dict.fromkeys(graph.nodes, mechanisms) if isinstance(mechanisms, str) else dict(mechanisms)
    refuse_unknown(graph, asked, "mechanisms names")
    for node, kind in asked.items():
        if kind not in KINDS:
            raise ValueError(f"unknown kind of mechanism {kind!r} for node {node!r}: choose one of {list(KINDS)}")
        if node in levels and not isinstance(mechanisms, str):
            raise ValueError(f"node {node!r} is a category and gets a multinomial logit: leave it out of mechanisms")
    if noise not in NOISES:
        raise ValueError(f"unknown noise {noise!r}: choose one of {list(NOISES)}")
    return FitSettings({node: asked.get(node, "linear") for node in graph.nodes if node not in levels}, noise, seed)


def fit_nodes(
    graph: CausalGraph, variables: Variables, settings: FitSettings, nodes: Collection[str]
) -> dict[str, Mechanism]:
    """A fitted mechanism for each of these nodes; ``variables`` has a column for every node of the graph."""
    fitted: dict[str, Mechanism] = {}
    tables: dict[str, list[Table]] = {}
    for node in nodes:
        table = table_of(graph, variables, node)
        if node in variables.levels:
            fitted[node] = fit_categorical(table, len(variables.levels[node]))
        elif not table.columns:
            noise = residual_noise(node, table.values, settings.noise)
            fitted[node] = LinearMechanism((), float(table.values.mean()), noise=noise)
        else:
            tables.setdefault(settings.kinds[node], []).append(table)
    for kind, some in tables.items():
        fitted |= fit_mechanisms(kind, some, settings.noise, settings.seed)
    return {node: _seeing_codes(graph, variables.levels, node, fitted[node]) for node in nodes}


def table_of(graph: CausalGraph, variables: Variables, node: str) -> Table:
    """The node's values, and its parents with categories as indicators of all levels but the first."""
    parents: list[np.ndarray] = []
    columns: list[str] = []
    for parent in graph.parents(node):
        values, levels = variables.column(parent), variables.levels.get(parent)
        if levels is None:
            parents.append(values)
            columns.append(parent)
        else:
            parents.extend((values == code).astype(np.float64) for code in range(1, len(levels)))
            columns.extend(f"{parent}={level}" for level in levels[1:])
    stacked = np.stack(parents, axis=1) if parents else np.empty((len(variables), 0))
    return Table(node, stacked, variables.column(node), tuple(columns))


def _seeing_codes(graph: CausalGraph, levels: Levels, node: str, mechanism: Mechanism) -> Mechanism:
    """The mechanism as it sees the parents' codes; codes 0 and 1 already are the one indicator of two levels."""
    counts = tuple(len(levels.get(parent, ())) for parent in graph.parents(node))
    return DummyCoded(mechanism, counts) if max(counts, default=0) > 2 else mechanism
