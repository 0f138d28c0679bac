"""How well fitted mechanisms hold: what they explain, and whether the data refuse what the graph says."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from itertools import combinations

import numpy as np
import pandas as pd
import torch

from latentcause.data.variables import Variables
from latentcause.discovery.holm import holm
from latentcause.discovery.independence import choose_test
from latentcause.scm import DummyCoded, Mechanism, StructuralCausalModel
from latentcause.scm.fitting.nodes import fit_nodes
from latentcause.scm.simulation import parents_of

FOLDS = 5
LEVEL = 0.05  # of all tests of independences together

KINDS = {
    "CategoricalMechanism": "logit",
    "LinearMechanism": "linear",
    "NeuralMechanism": "neural",
    "PostNonlinearMechanism": "post-nonlinear",
    "SplineMechanism": "spline",
    "TreeMechanism": "boosted",
}
"""What the fitted classes are called on the command line; "auto" chooses among them."""

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


def implied_independences(model: StructuralCausalModel, data: Variables) -> tuple[pd.DataFrame, str]:
    """Test what the graph says of every two nodes without an arrow: independent given the parents of the later one.

    By the local Markov property (Pearl, *Causality*, 2nd edition, Theorem 1.2.7), with partial correlations where all
    mechanisms are linear and all nodes numbers, else with the generalised covariance measure.

    Returns
    -------
    DataFrame, str
        A row per pair: ``a``, ``b``, ``given`` (names with semicolons between), ``p_value``, and ``refused``: by Holm's
        procedure at level 0.05 for all pairs together. Sorted by p-value. And the name of the test.

    Raises
    ------
    ValueError
        For what the test refuses, such as too few rows.
    """
    assert model.settings is not None
    is_linear = not model.levels and set(model.settings.kinds.values()) == {"linear"}
    name = "fisher-z" if is_linear else "gcm"
    graph, by_size = model.graph, dict[int, list[tuple[str, str]]]()
    for a, b in combinations(graph.topological_order, 2):
        if a not in graph.parents(b):
            by_size.setdefault(len(graph.parents(b)), []).append((a, b))
    rows: list[tuple[str, str, str, float]] = []
    if by_size:
        test = choose_test(data, name)
        for size, pairs in by_size.items():
            x, y = np.array([[graph.index(a), graph.index(b)] for a, b in pairs]).T
            given = np.array([[graph.index(parent) for parent in graph.parents(b)] for _, b in pairs], dtype=np.int64)
            p_values = test.p_values(x, y, given.reshape(len(pairs), size))
            rows += [(a, b, ";".join(graph.parents(b)), float(p)) for (a, b), p in zip(pairs, p_values, strict=True)]
    table = pd.DataFrame(rows, columns=["a", "b", "given", "p_value"])
    table["refused"] = holm(table["p_value"].to_numpy(dtype=np.float64), LEVEL)
    return table.sort_values("p_value", kind="stable", ignore_index=True), name


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
    mechanism = model.mechanisms[node]
    if not model.graph.parents(node):
        return "shares of the levels" if node in model.levels else "mean"
    inner = mechanism.mechanism if isinstance(mechanism, DummyCoded) else mechanism
    return KINDS[type(inner).__name__]
