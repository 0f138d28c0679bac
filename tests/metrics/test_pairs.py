"""Scores of what was recovered from pairs: the truth itself scores 1, and names make no difference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest

from latentcause import CausalGraph
from latentcause.datasets import SimulatedPairs, pair_system
from latentcause.metrics import code_scores, matched_latents, pair_scores

SYSTEM = pair_system(3, seed=3)
TRUTH = SYSTEM.draw(400, seed=1)
NAMES = {"z0": "c", "z1": "a", "z2": "b"}


@dataclass
class Oracle:
    """Knows the system, and calls its variables otherwise; its latents have the opposite sign."""

    truth: SimulatedPairs
    graph_: Any

    def encode(self, x: np.ndarray) -> pd.DataFrame:
        known = np.concatenate([self.truth.pairs.before, self.truth.pairs.after])
        factors = pd.concat([self.truth.factors_before, self.truth.factors_after], ignore_index=True)
        rows = [int(np.abs(known - row).sum(axis=1).argmin()) for row in x]
        return (-factors.iloc[rows]).rename(columns=NAMES)[["a", "b", "c"]].reset_index(drop=True)

    def infer_targets(self, pairs: Any) -> pd.DataFrame:
        targets = pd.Series([NAMES.get(str(target), "none") for target in self.truth.targets])
        return pd.get_dummies(targets, dtype=float)

    def counterfactual(self, x: np.ndarray, do: dict[str, np.ndarray]) -> np.ndarray:
        back = {latent: name for name, latent in NAMES.items()}
        before = (-self.encode(x)).rename(columns=back)[["z0", "z1", "z2"]]
        ((latent, value),) = do.items()
        return SYSTEM.mix(SYSTEM.counterfactual(before, back[latent], -value))


def renamed(graph: CausalGraph) -> CausalGraph:
    return CausalGraph.from_edges([(NAMES[a], NAMES[b]) for a, b in graph.edges], nodes=["a", "b", "c"])


def test_an_oracle_is_perfect_whatever_it_calls_its_latents() -> None:
    oracle = Oracle(TRUTH, renamed(TRUTH.graph))
    assert matched_latents(oracle.encode(TRUTH.pairs.before), TRUTH.factors_before) == NAMES
    scores = pair_scores(oracle, TRUTH)
    assert scores.target_accuracy == 1
    assert (scores.shd1, scores.shd2) == (0, 0)
    assert scores.counterfactual_r2 == pytest.approx(1, abs=1e-6)


def test_errors_are_counted() -> None:
    edges = [(NAMES[a], NAMES[b]) for a, b in TRUTH.graph.edges]
    assert edges
    reversed_ = CausalGraph.from_edges([edges[0][::-1]], nodes=["a", "b", "c"])
    scores = pair_scores(Oracle(TRUTH, reversed_), TRUTH)
    assert (scores.shd1, scores.shd2) == (len(edges), len(edges) + 1)

    class Lazy(Oracle):
        def infer_targets(self, pairs: Any) -> pd.DataFrame:
            return pd.DataFrame({"a": np.zeros(len(TRUTH)), "none": np.ones(len(TRUTH))})

    scores = pair_scores(Lazy(TRUTH, reversed_), TRUTH)
    assert scores.target_accuracy == np.mean([target == "none" for target in TRUTH.targets])
    x, after = TRUTH.pairs.before, TRUTH.pairs.after
    unchanged = 1 - np.square(x - after).sum() / np.square(after - after.mean(axis=0)).sum()
    assert scores.counterfactual_r2 == pytest.approx(unchanged, abs=1e-5)


def test_wrong_pairs_are_left_out_and_an_open_graph_has_no_distance() -> None:
    mixed = SYSTEM.draw(400, seed=1, wrong=0.2)
    assert mixed.wrong.any()

    class Open(Oracle):
        @property
        def graph_(self) -> CausalGraph:  # type: ignore[override]
            raise ValueError("open")

        @graph_.setter
        def graph_(self, value: Any) -> None:
            pass

    clean = mixed.subset(~mixed.wrong)
    scores = pair_scores(Open(clean, None), mixed)
    assert scores.target_accuracy == 1
    assert scores.shd1 is None
    assert scores.counterfactual_r2 == pytest.approx(1, abs=1e-6)


def test_the_truth_is_a_perfect_code_and_noise_is_not() -> None:
    factors = SYSTEM.draw(1500, seed=5).factors_before
    perfect = code_scores(factors.rename(columns=NAMES), factors, seed=0)
    noise = pd.DataFrame(np.random.default_rng(0).normal(size=factors.shape), columns=["a", "b", "c"])
    nothing = code_scores(noise, factors, seed=0)
    assert perfect.correlation == pytest.approx(1)
    assert perfect.disentanglement > 0.95 > 0.2 > nothing.disentanglement
    assert nothing.correlation < 0.1
    assert nothing.informativeness < 0.1
