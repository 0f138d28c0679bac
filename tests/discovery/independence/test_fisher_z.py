from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from scipy import stats

from graph_strategies import graphs_and_sets
from latentcause.discovery import DSeparation, FisherZ


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.normal(size=(400, 6)) @ rng.normal(size=(6, 6))


@pytest.mark.parametrize("k", range(5))
def test_partial_correlations_are_those_of_residuals(rows, k):
    test = FisherZ(rows)
    centred = rows - rows.mean(axis=0)
    for x, y, *rest in combinations(range(6), k + 2):
        S = centred[:, rest]
        left, right = (centred[:, v] - S @ np.linalg.lstsq(S, centred[:, v])[0] for v in (x, y))
        expected = (left @ right) / np.sqrt((left @ left) * (right @ right))
        given = np.array([rest], dtype=np.int64).reshape(1, k)
        assert test.partial_correlations(np.array([x]), np.array([y]), given)[0] == pytest.approx(expected, abs=1e-9)


def test_the_p_value_is_fishers(rows):
    r = np.corrcoef(rows[:, 0], rows[:, 1])[0, 1]
    expected = 2 * stats.norm.sf(abs(np.arctanh(r)) * np.sqrt(400 - 3))
    assert FisherZ(rows).p_value("x0", "x1") == pytest.approx(expected, rel=1e-9)


def test_a_batch_is_its_tests_one_by_one(rows):
    test = FisherZ(rows)
    rng = np.random.default_rng(1)
    columns = np.array([rng.permutation(6)[:4] for _ in range(50)])
    together = test.p_values(columns[:, 0], columns[:, 1], columns[:, 2:])
    alone = [test.p_value(f"x{x}", f"x{y}", [f"x{s}" for s in S]) for x, y, *S in columns]
    assert np.allclose(together, alone, rtol=1e-9)


def test_p_values_are_uniform_under_independence():
    rng = np.random.default_rng(2)
    found = []
    for _ in range(300):
        s = rng.normal(size=(60, 2))
        x, y = (s @ rng.normal(size=2) + rng.normal(size=60) for _ in range(2))
        found.append(FisherZ(np.column_stack([x, y, s])).p_value("x0", "x1", ["x2", "x3"]))
    assert stats.kstest(found, "uniform").pvalue > 0.01


def test_a_correlation_matrix_is_enough(rows):
    test = FisherZ.from_correlation(np.corrcoef(rows.T), tuple("abcdef"), 400)
    assert test.p_value("a", "b", "c") == pytest.approx(FisherZ(rows).p_value("x0", "x1", "x2"), rel=1e-9)


def test_what_it_cannot_test_is_refused(rows):
    with pytest.raises(ValueError, match="'b' holds categories"):
        FisherZ(pd.DataFrame({"a": rows[:, 0], "b": np.where(rows[:, 1] > 0, "up", "down")}))
    with pytest.raises(ValueError, match="6 rows are too few to condition on 3 variables"):
        FisherZ(rows[:6]).p_value("x0", "x1", ["x2", "x3", "x4"])
    with pytest.raises(ValueError, match="unknown variable 'y'"):
        FisherZ(rows).p_value("x0", "y")
    with pytest.raises(ValueError, match="'x0' is named twice"):
        FisherZ(rows).p_value("x0", "x1", ["x0"])


@given(graphs_and_sets())
def test_the_oracle_agrees_with_the_graph(drawn):
    graph, _, _, condition = drawn
    test = DSeparation(graph)
    for x, y in combinations([node for node in graph.nodes if node not in condition], 2):
        assert test.p_value(x, y, sorted(condition)) == float(graph.d_separated(x, y, condition))


def test_the_oracle_sees_through_latent_nodes():
    from latentcause import CausalGraph

    graph = CausalGraph.from_string("u -> a; u -> b; c -> a")
    test = DSeparation(graph, latent=["u"])
    assert test.nodes == ("a", "b", "c")
    assert test.p_value("a", "b") == 0
    assert test.p_value("b", "c") == 1
    assert test.p_value("b", "c", ["a"]) == 0
