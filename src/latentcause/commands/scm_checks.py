"""How well fitted mechanisms hold: what they explain, and whether their noises are as independent as the graph says."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from scipy import stats

from latentcause.data.variables import Variables
from latentcause.discovery.holm import holm
from latentcause.scm import Mechanism, StructuralCausalModel
from latentcause.scm.fitting.nodes import fit_nodes
from latentcause.scm.simulation import parents_of

FOLDS = 5
LEVEL = 0.05  # of all tests of noises together

Losses = dict[str, tuple[float, float]]
"""By node: the loss of the mechanism, and that of a constant."""


def mechanism_table(model: StructuralCausalModel, data: Variables) -> tuple[pd.DataFrame, str]:
    """A row per node: ``node``, ``parents``, ``kind``, the shares ``in sample`` and ``held out``, and the ``noise sd``.

    The shares are 1 - (loss of the mechanism) / (loss of a constant): squared errors of a number, hence R^2; minus log
    likelihoods of a category, hence McFadden's pseudo-R^2. Held out: the mechanisms are fitted to four fifths of the rows
    and judged on the rest, five times over, and losses are added up. The noise sd is the root mean square of
    what the mechanism leaves, in the units of the node.

    Returns
    -------
    DataFrame, str
        And why there are no held-out shares (they are missing then), else empty text.
    """
    inside, why_not = _losses(model, model.mechanisms, data, data), ""
    try:
        outside = _held_out(model, data)
    except ValueError as error:  # a fold of few rows may not determine a mechanism
        outside, why_not = {}, str(error)
    rows = []
    for node in model.graph.nodes:
        parents = model.graph.parents(node)
        shares = [_share(losses[node]) if parents and node in losses else np.nan for losses in (inside, outside)]
        sd = np.nan if node in model.levels else (inside[node][0] / len(data)) ** 0.5
        rows.append([node, ", ".join(parents), _kind(model, node), *shares, sd])
    return pd.DataFrame(rows, columns=["node", "parents", "kind", "in sample", "held out", "noise sd"]), why_not


def noise_correlations(model: StructuralCausalModel, data: Variables) -> pd.DataFrame:
    """Rank correlations between the noises of every two numeric nodes, which the model takes to be independent.

    Returns
    -------
    DataFrame
        A row per pair: ``a``, ``b``, ``correlation`` (Spearman's), ``p_value`` (Fisher z of it), and ``dependent``: rejected by
        Holm's procedure at level 0.05 for all pairs together. Sorted by p-value.
    """
    values = torch.tensor(data.values.T)
    graph, noises = model.graph, {}
    for node in graph.nodes:
        if node not in model.levels:
            parents = parents_of(graph, node, values)
            noises[node] = model.mechanisms[node].abduct(values[graph.index(node)], parents).numpy()
    names, n = list(noises), len(data)
    first, second = np.triu_indices(len(names), 1)
    if len(first) and n > 3:
        ranks = np.stack([stats.rankdata(noise) for noise in noises.values()])
        r = np.corrcoef(ranks)[first, second]
        p_values = 2 * stats.norm.sf(np.abs(np.arctanh(np.clip(r, -1 + 1e-15, 1 - 1e-15))) * np.sqrt((n - 3) / 1.06))
    else:
        first = second = np.zeros(0, dtype=np.int64)
        r = p_values = np.zeros(0)
    table = pd.DataFrame(
        {
            "a": [names[i] for i in first],
            "b": [names[j] for j in second],
            "correlation": r,
            "p_value": p_values,
            "dependent": holm(p_values, LEVEL),
        }
    )
    return table.sort_values("p_value", kind="stable", ignore_index=True)


# --- inside ----------------------------------------------------------------------------------------------------------


def _held_out(model: StructuralCausalModel, data: Variables) -> Losses:
    assert model.settings is not None
    if len(data) < 2 * FOLDS:
        raise ValueError(f"{len(data)} rows are too few for {FOLDS} folds")
    fold = np.random.default_rng(model.settings.seed).permutation(len(data)) % FOLDS
    nodes = [node for node in model.graph.nodes if model.graph.parents(node)]
    total = dict.fromkeys(nodes, (0.0, 0.0))
    for held in range(FOLDS):
        train, test = (Variables(data.names, data.values[rows], data.levels) for rows in (fold != held, fold == held))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what they say was said of the fit to all rows
            fitted = fit_nodes(model.graph, train, model.settings, nodes)
        for node, (own, constant) in _losses(model, fitted, train, test).items():
            total[node] = (total[node][0] + own, total[node][1] + constant)
    return total


def _losses(
    model: StructuralCausalModel, mechanisms: Mapping[str, Mechanism], train: Variables, test: Variables
) -> Losses:
    values = torch.tensor(test.values.T)
    losses = {}
    for node, mechanism in mechanisms.items():
        own, parents = values[model.graph.index(node)], parents_of(model.graph, node, values)
        if node in model.levels:
            counts = np.bincount(train.column(node).astype(np.int64), minlength=len(model.levels[node])) + 0.5
            constant = np.log(counts / counts.sum())[test.column(node).astype(np.int64)]
            losses[node] = (-float(mechanism.log_density(own, parents).sum()), -float(constant.sum()))
        else:
            left, spread = own - mechanism.mean(parents), own - float(train.column(node).mean())
            losses[node] = (float(left.square().sum()), float(spread.square().sum()))
    return losses


def _share(losses: tuple[float, float]) -> float:
    own, constant = losses
    return 1 - own / constant if constant > 0 else np.nan


def _kind(model: StructuralCausalModel, node: str) -> str:
    if node in model.levels:
        return "logit" if model.graph.parents(node) else "shares of the levels"
    if not model.graph.parents(node):
        return "mean"
    return "given" if model.settings is None else model.settings.kinds[node]
