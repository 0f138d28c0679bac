"""GES on causal-learn: recovery, order of columns, state that it leaves alone, bad input."""

from __future__ import annotations

import builtins
import importlib
import random
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from latentcause.discovery import CPDAG, ges
from latentcause.graph import CausalGraph

pytest.importorskip("causallearn", reason="needs latentcause[discovery]")

GRAPH = CausalGraph.from_string("a -> c; b -> c; c -> d; c -> e; d -> f; e -> f")


def linear_data(graph: CausalGraph, n: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    d = len(graph)
    weights = graph.adjacency * rng.uniform(0.6, 1.2, (d, d)) * rng.choice([-1, 1], (d, d))
    values = rng.standard_normal((n, d)) @ np.linalg.inv(np.eye(d) - weights)
    return pd.DataFrame(values, columns=list(graph.nodes))


def categorical_data(n: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 2, n), rng.integers(0, 3, n)
    c = (a + b + (rng.random(n) < 0.3)) // 2
    d = np.where(rng.random(n) < 0.2, rng.integers(0, 2, n), c)
    return pd.DataFrame({"a": a, "b": b, "c": c, "d": d}).astype(str)


@pytest.mark.parametrize("seed", range(6))
def test_linear_gaussian_data_give_the_true_class(seed: int) -> None:
    assert ges(linear_data(GRAPH, 20_000, seed)) == CPDAG.from_dag(GRAPH)


@pytest.mark.parametrize("seed", range(3))
def test_categories_give_the_true_class(seed: int) -> None:
    truth = CausalGraph.from_string("a -> c; b -> c; c -> d")
    found = ges(categorical_data(4000, seed))
    assert {*found.directed} == {*truth.edges}
    assert not found.undirected


def test_the_order_of_columns_plays_no_part_and_results_are_classes_of_dags() -> None:
    rng = np.random.default_rng(0)
    for seed in range(8):
        d = int(rng.integers(4, 8))
        order = rng.permutation(d)
        matrix = np.triu(rng.random((d, d)) < 0.5, 1).astype(int)[np.ix_(order, order)]
        data = linear_data(CausalGraph.from_adjacency(matrix), 200, seed)
        first = ges(data)
        assert CPDAG.from_dag(first.consistent_extension()) == first
        again = ges(data[rng.permutation(data.columns)])
        assert CPDAG(first.nodes, again.directed, again.undirected) == first
        assert again.nodes != first.nodes or d == 1


def test_scale_plays_no_part_and_a_larger_penalty_leaves_fewer_edges() -> None:
    data = linear_data(GRAPH, 500, seed=0)
    assert ges(data * np.logspace(-6, 6, 6)) == ges(data)
    edges = [len(ges(data, penalty=penalty).skeleton) for penalty in (0.1, 1, 1000)]
    assert edges[0] > edges[1] > edges[2] == 0


def test_nothing_is_printed_and_no_random_numbers_are_drawn(capfd: pytest.CaptureFixture[str]) -> None:
    before = np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    ges(linear_data(GRAPH, 200, seed=0))
    ges(categorical_data(200, seed=0))
    assert np.array_equal(np.random.get_state()[1], before[0])  # noqa: NPY002
    assert random.getstate() == before[1]
    assert capfd.readouterr() == ("", "")


def test_a_result_that_is_no_class_is_completed_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Square:
        """A circle of four undirected edges: every DAG on it has a v-structure."""

        graph = -np.array([[0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 1, 0]])

    # The package's name `ges` is the function; this is the module of that name.
    monkeypatch.setattr(
        importlib.import_module("latentcause.discovery.ges"), "_search", lambda: lambda *_, **__: {"G": Square}
    )
    found = ges(np.random.default_rng(0).standard_normal((50, 4)))
    assert len(found.skeleton) == 4
    assert CPDAG.from_dag(found.consistent_extension()) == found
    assert "no class of DAGs" in found.conflicts[0]


def test_without_causal_learn_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    load = builtins.__import__

    def missing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("causallearn"):
            raise ImportError(name)
        return load(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    monkeypatch.delitem(sys.modules, "causallearn.search.ScoreBased.GES", raising=False)
    with pytest.raises(ImportError, match=r'pip install "latentcause\[discovery\]"'):
        ges(np.random.default_rng(0).standard_normal((50, 3)))


GOOD = linear_data(CausalGraph.chain(3), 50, seed=0)
MIXED = GOOD.assign(kind=np.where(GOOD["z1"] > 0, "yes", "no"))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ges(MIXED), "column 'z1' is numeric and 'kind' categorical"),
        (lambda: ges(GOOD, "bdeu"), "column 'z1' is numeric, which the score 'bdeu' is not for"),
        (lambda: ges(categorical_data(50, 0), "bic"), "column 'a' is categorical, which the score 'bic' is not for"),
        (lambda: ges(GOOD, "bge"), "score is 'bge'"),
        (lambda: ges(GOOD, penalty=0), "penalty is 0"),
        (lambda: ges(categorical_data(50, 0), penalty=2), 'penalty is for the score "bic"'),
        (lambda: ges(categorical_data(50, 0)[["a", "b"]]), "which needs 3: use pc"),
        (lambda: ges(GOOD.assign(z2=1.0)), "column 'z2' is constant"),
        (lambda: ges(GOOD.iloc[:2]), "2 rows for 3 columns"),
    ],
)
def test_bad_input_is_refused_by_name(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError) as error:
        call()
    assert message in str(error.value)
