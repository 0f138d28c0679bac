"""How well causal variables, targets, graph and counterfactuals were recovered from pairs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment

from latentcause.datasets.pairs.simulated_pairs import SimulatedPairs
from latentcause.graph import CausalGraph
from latentcause.metrics.disentanglement import dci
from latentcause.metrics.graphs import structural_hamming_distance


@dataclass(frozen=True)
class CodeScores:
    """Of a code (n, m) of the observations before.

    Attributes
    ----------
    disentanglement, completeness, informativeness : float
        `dci` against the true variables.
    correlation : float
        Mean |correlation| of the true variables with the latents that they are matched to.
    """

    disentanglement: float
    completeness: float
    informativeness: float
    correlation: float


@dataclass(frozen=True)
class PairScores:
    """Of a model of pairs, on pairs that it was not fitted to.

    Attributes
    ----------
    target_accuracy : float
        Share of pairs whose likeliest target is the true one ("none" is one of them).
    shd1, shd2 : int or None
        Structural Hamming distance of ``graph_``, a reversal counted once and twice; None where the graph is not determined.
    counterfactual_r2 : float
        Of x~ as `counterfactual` predicts it from x, the inferred target and the value that `encode` reads for it in x~: 1 less the
        squared error over that of the mean of x~.
    """

    target_accuracy: float
    shd1: int | None
    shd2: int | None
    counterfactual_r2: float


def matched_latents(code: pd.DataFrame, factors: pd.DataFrame) -> dict[str, str]:
    """{true variable: latent}, by the assignment of largest total |correlation| (Hungarian algorithm)."""
    m = code.shape[1]
    together = np.nan_to_num(np.abs(np.corrcoef(code.to_numpy().T, factors.to_numpy().T)[:m, m:]))
    rows, columns = linear_sum_assignment(-together)
    return {str(factors.columns[j]): str(code.columns[i]) for i, j in zip(rows, columns, strict=True)}


def code_scores(code: pd.DataFrame, factors: pd.DataFrame, *, seed: int, rows: int = 4000) -> CodeScores:
    """Score a code against the true variables, DCI on the first ``rows``."""
    pairs = matched_latents(code, factors)
    correlations = [abs(np.corrcoef(code[latent], factors[name])[0, 1]) for name, latent in pairs.items()]
    found = dci(code.to_numpy()[:rows], factors.to_numpy()[:rows], seed=seed)
    return CodeScores(
        found.disentanglement, found.completeness, found.informativeness, float(np.nan_to_num(correlations).mean())
    )


def pair_scores(model: Any, truth: SimulatedPairs) -> PairScores:
    """Score a fitted `DCRL` or `LinearPairs` on pairs with known truth; pairs that were mismatched on purpose are left out.

    Latents are matched to the true variables by `matched_latents`.
    """
    truth = truth.subset(~truth.wrong)
    before, after = model.encode(truth.pairs.before), model.encode(truth.pairs.after)
    latent_of = matched_latents(before, truth.factors_before)
    targets = model.infer_targets(truth.pairs).idxmax(axis=1).to_numpy()
    expected = np.array([_renamed(target, latent_of) for target in truth.targets], dtype=object)
    distances: tuple[int | None, int | None]
    try:
        graph = _graph_in(model.graph_, latent_of)
        distances = (
            structural_hamming_distance(graph, truth.graph),
            structural_hamming_distance(graph, truth.graph, reversal=2),
        )
    except ValueError:
        distances = (None, None)
    once, twice = distances
    accuracy = float((targets == expected).mean())
    return PairScores(accuracy, once, twice, _counterfactual_r2(model, truth, targets, after))


def _renamed(target: Any, latent_of: Mapping[str, str]) -> str:
    names = (target,) if isinstance(target, str) else target
    return ";".join(sorted(latent_of.get(name, name) for name in names))


def _graph_in(graph: CausalGraph, latent_of: Mapping[str, str]) -> CausalGraph:
    """The graph over the names of the true variables."""
    name_of = {latent: name for name, latent in latent_of.items()}
    nodes = [name_of[node] for node in graph.nodes if node in name_of]
    edges = [(name_of[a], name_of[b]) for a, b in graph.edges if a in name_of and b in name_of]
    return CausalGraph.from_edges(edges, nodes=nodes)


def _counterfactual_r2(model: Any, truth: SimulatedPairs, targets: np.ndarray, after: pd.DataFrame) -> float:
    x, x_after = truth.pairs.before, truth.pairs.after.astype(np.float64)
    predicted = x.astype(np.float64)
    for target in set(targets) - {"none"}:
        rows = np.flatnonzero(targets == target)
        do = {name: after[name].to_numpy()[rows] for name in target.split(";")}
        predicted[rows] = model.counterfactual(x[rows], do)
    return float(1 - ((predicted - x_after) ** 2).sum() / ((x_after - x_after.mean(axis=0)) ** 2).sum())
