from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graph_strategies import graphs
from latentcause import CPDAG, CausalGraph
from latentcause.datasets import random_dag
from latentcause.discovery import BackgroundKnowledge, DSeparation, FisherZ, IndependenceTest, pc


def linear_data(d: int, degree: float, n: int, seed: int) -> tuple[CausalGraph, pd.DataFrame]:
    """Rows of a random linear-Gaussian system whose columns are not in causal order."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(d)
    adjacency = np.zeros((d, d), dtype=np.int64)
    adjacency[np.ix_(order, order)] = np.triu(rng.random((d, d)) < degree / (d - 1), 1)
    weights = adjacency * rng.uniform(0.3, 1.2, (d, d)) * rng.choice([-1, 1], (d, d))
    graph = CausalGraph.from_adjacency(adjacency)
    rows = rng.normal(size=(n, d)) @ np.linalg.inv(np.eye(d) - weights)
    return graph, pd.DataFrame(rows, columns=list(graph.nodes))


@given(graphs(most=7))
def test_with_the_oracle_the_result_is_the_true_class(graph):
    found = pc(DSeparation(graph))
    assert found == CPDAG.from_dag(graph)
    assert found.conflicts == ()
    for separated, separation in found.separations.items():
        assert graph.d_separated(*separated, given=separation.given)


@pytest.mark.parametrize("seed", range(10))
def test_with_the_oracle_larger_graphs_come_out_too(seed):
    rng = np.random.default_rng(seed)
    graph = linear_data(int(rng.integers(10, 26)), 3, 2, seed)[0]
    assert pc(DSeparation(graph)) == CPDAG.from_dag(graph)


@given(graphs(most=6), st.data())
def test_knowledge_of_true_edges_leaves_the_members_that_agree(graph, data):
    known = data.draw(st.lists(st.sampled_from(graph.edges), unique=True)) if graph.edges else []
    found = pc(DSeparation(graph), knowledge=BackgroundKnowledge(required=known))
    agreeing = [dag for dag in CPDAG.from_dag(graph).to_dags() if set(known) <= set(dag.edges)]
    assert set(found.to_dags()) == set(agreeing)


@given(graphs(most=6))
def test_tiers_in_causal_order_give_the_graph_itself(graph):
    tiers = [[node] for node in graph.topological_order]
    found = pc(DSeparation(graph), knowledge=BackgroundKnowledge(tiers=tiers))
    assert found.undirected == ()
    assert set(found.directed) == set(graph.edges)


def test_an_edge_forbidden_both_ways_is_absent_and_a_required_one_present():
    graph = CausalGraph.from_string("a -> b -> c; d")
    knowledge = BackgroundKnowledge(required=[("d", "a")], forbidden=[("b", "c"), ("c", "b")])
    found = pc(DSeparation(graph), knowledge=knowledge)
    assert frozenset("bc") not in found.skeleton
    assert ("d", "a") in found.directed


def test_knowledge_that_leaves_only_a_cycle_is_refused():
    graph = CausalGraph.from_string("a -> b -> c; a -> c")
    knowledge = BackgroundKnowledge(forbidden=[("b", "a"), ("c", "b"), ("a", "c")])
    with pytest.raises(ValueError, match="data join a, b, c by edges for which the background knowledge"):
        pc(DSeparation(graph), knowledge=knowledge)


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_the_columns_plays_no_part(seed):
    _, frame = linear_data(15, 4, 300, seed)
    first = pc(frame)
    assert first.nodes == tuple(frame.columns)
    rng = np.random.default_rng(seed)
    for _ in range(10):
        other = pc(frame[list(rng.permutation(frame.columns))])
        assert set(other.directed) == set(first.directed)
        assert other.skeleton == first.skeleton
        assert other.separations == first.separations
        assert other.p_values == first.p_values
        assert other.conflicts == first.conflicts


def test_contradictory_data_still_give_a_class_of_dags_and_say_so():
    told = {"was dropped": 0, "one that was added": 0}
    for seed in range(30):
        _, frame = linear_data(12, 5, 80, seed)
        found = pc(frame, alpha=0.2)
        assert set(found.directed) <= set(found.consistent_extension().edges)
        for what in told:
            told[what] += any(what in sentence for sentence in found.conflicts)
    assert min(told.values()) >= 3  # so both kinds of contradiction were met


def test_many_rows_give_the_true_class():
    graph, frame = linear_data(8, 2, 50_000, 0)
    assert pc(frame, alpha=0.001) == CPDAG.from_dag(graph)


def test_every_removed_edge_has_its_test_and_every_other_its_largest_p_value():
    _, frame = linear_data(10, 3, 500, 1)
    found, test = pc(frame), FisherZ(frame)
    for pair, separation in found.separations.items():
        assert separation.p_value > 0.01
        assert separation.p_value == pytest.approx(test.p_value(*pair, given=separation.given), rel=1e-6)
    assert set(found.p_values) == set(found.skeleton)
    assert max(found.p_values.values()) <= 0.01
    assert len(found.separations) + len(found.skeleton) == 45


def test_max_given_limits_the_conditions():
    graph = CausalGraph.from_string("a -> c; b -> c; a -> d; b -> d; c -> e; d -> e")
    asked = _Recording(DSeparation(graph))
    pc(asked, max_given=1)
    assert asked.largest == 1
    assert frozenset("ae") in pc(DSeparation(graph), max_given=1).skeleton
    assert frozenset("ae") not in pc(DSeparation(graph)).skeleton


class _Recording(IndependenceTest):
    def __init__(self, inner: IndependenceTest) -> None:
        self.nodes, self.inner, self.largest = inner.nodes, inner, 0

    def p_values(self, x, y, given):
        self.largest = max(self.largest, given.shape[1])
        return self.inner.p_values(x, y, given)


def test_a_hidden_node_is_not_among_the_nodes():
    graph = CausalGraph.from_string("u -> a; u -> b; b -> c")
    assert pc(DSeparation(graph, latent=["u"])).nodes == ("a", "b", "c")


@pytest.mark.parametrize("alpha", [0, 1, -0.1, 5])
def test_an_impossible_level_is_refused(alpha):
    with pytest.raises(ValueError, match="alpha is"):
        pc(np.zeros((3, 2)), alpha=alpha)


def test_a_negative_limit_is_refused():
    with pytest.raises(ValueError, match="max_given is -1"):
        pc(np.zeros((3, 2)), max_given=-1)


def test_degenerate_data_are_refused():
    rng = np.random.default_rng(0)
    good = pd.DataFrame(rng.normal(size=(50, 3)), columns=list("abc"))
    for bad, message in (
        (good.assign(d=1.0), "'d'"),
        (good.assign(d=2 * good["a"] + 1), "'d'"),
        (good.head(2), "rows"),
        (good.assign(a=good["a"].where(good.index != 7)), "'a'"),
    ):
        with pytest.raises(ValueError, match=message):
            pc(bad)


def test_one_variable_is_a_graph_of_one_node():
    assert pc(np.random.default_rng(0).normal(size=(20, 1))).nodes == ("x0",)


def test_random_dag_of_the_simulators_is_found():
    graph = random_dag(6, 0.4, seed=3)
    assert pc(DSeparation(graph)) == CPDAG.from_dag(graph)
