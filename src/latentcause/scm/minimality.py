"""Structural minimality: does each mechanism depend on every one of its parents?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
import torch

from latentcause.data.variables import Variables
from latentcause.graph import CausalGraph
from latentcause.scm.fitting import Table, fit_mechanisms
from latentcause.scm.fitting.categorical import fit_categorical, log_likelihood
from latentcause.scm.fitting.nodes import FitSettings, table_of

if TYPE_CHECKING:
    from latentcause.scm.model import StructuralCausalModel

FOLDS = 5


class _Verdict(NamedTuple):
    test: str
    p_value: float
    drop: float


def edge_tests(model: StructuralCausalModel, data: Variables, alpha: float) -> pd.DataFrame:
    """`StructuralCausalModel.redundant_parents`, which says what is computed."""
    if model.settings is None:
        raise ValueError(
            "only parents of fitted mechanisms can be tested, and those of this model were given: use "
            "StructuralCausalModel.fit"
        )
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is {alpha}: give a level between 0 and 1, such as 0.05")
    verdicts = _by_held_out_error(model.graph, data, model.settings)
    for parent, node in model.graph.edges:
        if (parent, node) not in verdicts:
            compare = _by_likelihood if node in data.levels else _by_f_test
            verdicts[parent, node] = compare(model.graph, data, parent, node)
    rows = [(parent, node, *verdicts[parent, node]) for parent, node in model.graph.edges]
    table = pd.DataFrame(rows, columns=["parent", "node", "test", "p_value", "drop"])
    return table.assign(redundant=table["p_value"] > alpha)


def _without(table: Table, graph: CausalGraph, data: Variables, parent: str) -> Table:
    """The table without the columns of one parent."""
    widths = [len(data.levels.get(other, (0, 0))) - 1 for other in graph.parents(table.node)]
    owners = np.repeat(np.arange(len(widths)), widths)
    kept = np.flatnonzero(owners != graph.parents(table.node).index(parent))
    columns = tuple(table.columns[k] for k in kept)
    return Table(f"{table.node} without {parent}", table.parents[:, kept], table.values, columns)


# --- linear mechanisms -----------------------------------------------------------------------------------------------


def _by_f_test(graph: CausalGraph, data: Variables, parent: str, node: str) -> _Verdict:
    from scipy import stats

    full = table_of(graph, data, node)
    reduced = _without(full, graph, data, parent)
    left, more = _squared_residuals(full), _squared_residuals(reduced)
    extra, free = len(full.columns) - len(reduced.columns), len(data) - len(full.columns) - 1
    total = float(np.square(full.values - full.values.mean()).sum())
    if free < 1:
        raise ValueError(f"{len(data)} rows are too few to test the {len(full.columns)} columns of {node!r}: give more")
    statistic = (more - left) / extra / (left / free) if left > 0 else np.inf
    return _Verdict("F", float(stats.f.sf(statistic, extra, free)), (more - left) / total)


def _squared_residuals(table: Table) -> float:
    design = np.column_stack([np.ones(len(table.values)), table.parents])
    weights = np.linalg.lstsq(design, table.values, rcond=None)[0]
    return float(np.square(table.values - design @ weights).sum())


# --- categories ------------------------------------------------------------------------------------------------------


def _by_likelihood(graph: CausalGraph, data: Variables, parent: str, node: str) -> _Verdict:
    from scipy import stats

    count = len(data.levels[node])
    full = table_of(graph, data, node)
    reduced = _without(full, graph, data, parent)
    empty = Table(node, full.parents[:, :0], full.values, ())
    fits = [log_likelihood(fit_categorical(table, count), table) for table in (full, reduced, empty)]
    extra = (len(np.unique(full.values)) - 1) * (len(full.columns) - len(reduced.columns))
    p_value = float(stats.chi2.sf(2 * (fits[0] - fits[1]), extra))
    return _Verdict("likelihood ratio", p_value, (fits[0] - fits[1]) / -fits[2])


# --- other kinds -----------------------------------------------------------------------------------------------------


def _by_held_out_error(graph: CausalGraph, data: Variables, settings: FitSettings) -> dict[tuple[str, str], _Verdict]:
    """All edges into nodes whose mechanism is neither linear nor a category, each kind fitted in one call per fold."""
    from scipy import stats

    full: dict[str, list[Table]] = {}
    reduced: dict[tuple[str, str], Table] = {}
    for node, kind in settings.kinds.items():
        if kind != "linear" and graph.parents(node):
            table = table_of(graph, data, node)
            full.setdefault(kind, []).append(table)
            reduced |= {(parent, node): _without(table, graph, data, parent) for parent in graph.parents(node)}
    verdicts: dict[tuple[str, str], _Verdict] = {}
    for kind, tables in full.items():
        nodes = {table.node for table in tables}
        edges = [edge for edge in reduced if edge[1] in nodes]
        errors = _held_out_errors(kind, [*tables, *(reduced[edge] for edge in edges)], settings)
        for parent, node in edges:
            gain = errors[f"{node} without {parent}"] - errors[node]
            # By ranks: a few rows in heavy tails would drown the gain of all others in a test of means.
            p_value = float(stats.wilcoxon(gain, alternative="greater").pvalue) if gain.any() else 1.0
            variance = float(data.column(node).var())
            verdicts[parent, node] = _Verdict("held-out error", p_value, float(gain.mean()) / variance)
    return verdicts


def _held_out_errors(kind: str, tables: Sequence[Table], settings: FitSettings) -> Mapping[str, np.ndarray]:
    """Squared errors (n,) of every table's mechanism where its row was held out."""
    n = len(tables[0].values)
    if n < 2 * FOLDS:
        raise ValueError(f"{n} rows are too few for {FOLDS} folds: give at least {2 * FOLDS}")
    fold = np.random.default_rng(settings.seed).permutation(n) % FOLDS
    errors = {table.node: np.empty(n) for table in tables}
    for held in range(FOLDS):
        inside, outside = fold != held, fold == held
        train = [table._replace(parents=table.parents[inside], values=table.values[inside]) for table in tables]
        fitted = fit_mechanisms(kind, [table for table in train if table.columns], settings.noise, settings.seed)
        for table, shown in zip(tables, train, strict=True):
            if table.columns:
                predicted = fitted[table.node].mean(torch.from_numpy(table.parents[outside])).numpy()
            else:
                predicted = shown.values.mean()
            errors[table.node][outside] = np.square(table.values[outside] - predicted)
    return errors
