from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graph_strategies import graphs
from latentcause import CausalGraph, datasets
from latentcause.discovery import CPDAG, BackgroundKnowledge, acyclic_weights, central_path, pc
from latentcause.discovery.central_path import follow_path, log_det_acyclicity, negative_log_likelihood
from latentcause.metrics import adjacency_scores


def random_weights(graph: CausalGraph, seed: int) -> np.ndarray:
    return graph.adjacency * np.random.default_rng(seed).uniform(-3, 3, (len(graph), len(graph)))


def drawn(graph: CausalGraph, n: int, seed: int, sds: np.ndarray | None = None) -> tuple[pd.DataFrame, np.ndarray]:
    """Rows of a linear system with weights of size 0.5 to 1, and the weights."""
    draw = np.random.default_rng(seed)
    shape = (len(graph), len(graph))
    weights = graph.adjacency * draw.uniform(0.5, 1, shape) * draw.choice([-1, 1], shape)
    noise = draw.standard_normal((n, len(graph))) * (1 if sds is None else sds)
    return pd.DataFrame(noise @ np.linalg.inv(np.eye(len(graph)) - weights), columns=list(graph.nodes)), weights


# --- cycles and likelihood -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", ["cycles", "likelihood"])
def test_gradients_are_those_of_finite_differences(function):
    draw = np.random.default_rng(0)
    weights, root = draw.uniform(-0.3, 0.3, (5, 5)), draw.standard_normal((5, 5))
    covariance = root @ root.T
    f = {"cycles": log_det_acyclicity, "likelihood": lambda w: negative_log_likelihood(w, covariance)}[function]
    value, gradient = f(weights)
    assert np.isfinite(value)
    for i, j in np.ndindex(5, 5):
        step = np.zeros((5, 5))
        step[i, j] = 1e-6
        assert gradient[i, j] == pytest.approx((f(weights + step)[0] - f(weights - step)[0]) / 2e-6, abs=1e-7)


def test_the_measure_of_a_cycle_of_two_in_closed_form():
    weights = np.array([[0.0, 0.8], [-0.5, 0.0]])
    assert log_det_acyclicity(weights)[0] == pytest.approx(-np.log(1 - 0.64 * 0.25))
    assert log_det_acyclicity(np.array([[0.0, 2.0], [0.6, 0.0]]))[0] == np.inf  # spectral radius 1.2
    two = np.kron(np.eye(2), np.array([[0.0, 2.0], [0.6, 0.0]]))  # the determinant alone is positive here
    assert np.linalg.det(np.eye(4) - two**2) > 0
    assert log_det_acyclicity(two)[0] == np.inf


@given(graphs(), st.integers(0, 99))
def test_a_graph_without_cycles_measures_0(graph, seed):
    value, gradient = log_det_acyclicity(random_weights(graph, seed))
    assert value == pytest.approx(0, abs=1e-9)
    np.testing.assert_allclose(gradient, 0, atol=1e-9)


@given(graphs(least=2), st.integers(0, 99), st.data())
def test_a_cycle_measures_more_than_0(graph, seed, data):
    weights = random_weights(graph, seed)
    cause, effect = data.draw(st.permutations(graph.nodes))[:2]
    i, j = graph.index(cause), graph.index(effect)
    if cause not in graph.ancestors(effect):
        i, j = j, i
    weights[i, j], weights[j, i] = 1.0, 0.5
    weights *= min(1.0, 0.9 / np.sqrt(np.abs(np.linalg.eigvals(weights**2)).max()))
    assert log_det_acyclicity(weights)[0] > 1e-8


def test_the_likelihood_in_closed_form():
    draw = np.random.default_rng(1)
    root = draw.standard_normal((4, 4))
    covariance = root @ root.T
    assert negative_log_likelihood(np.zeros((4, 4)), covariance)[0] == pytest.approx(
        0.5 * np.log(np.diag(covariance)).sum()
    )
    for order in (range(4), [2, 0, 3, 1]):  # least squares on any complete DAG: the same likelihood, its maximum
        weights = np.zeros((4, 4))
        for place, j in enumerate(order):
            above = list(order)[:place]
            weights[above, j] = np.linalg.solve(covariance[np.ix_(above, above)], covariance[above, j])
        value, gradient = negative_log_likelihood(weights, covariance)
        assert value == pytest.approx(0.5 * np.linalg.slogdet(covariance)[1])
        np.testing.assert_allclose(gradient, 0, atol=1e-9)
    assert negative_log_likelihood(np.array([[0.0, 2.0], [2.0, 0.0]]), np.eye(2))[0] == np.inf


def test_the_end_of_the_path_is_a_stationary_point():
    covariance = np.corrcoef(drawn(CausalGraph.from_string("a -> c; b -> c -> d"), 500, 3)[0].to_numpy(), rowvar=False)
    penalty = np.where(np.eye(4) > 0, np.inf, 0.1)
    weights, settled = follow_path(covariance, penalty)
    assert settled
    mu = central_path.PATH[-1]
    slope = mu * negative_log_likelihood(weights, covariance)[1] + log_det_acyclicity(weights)[1]
    np.testing.assert_allclose(slope[weights != 0], -mu * 0.1 * np.sign(weights[weights != 0]), atol=1e-3 * mu)
    zero = (weights == 0) & np.isfinite(penalty)
    assert (np.abs(slope[zero]) <= mu * 0.1 * 1.01).all()
    assert (weights[np.eye(4) > 0] == 0).all()


# --- graphs ----------------------------------------------------------------------------------------------------------

SYSTEM = CausalGraph.from_string("d -> b; a -> b -> c; a -> e; c -> e")
SDS = np.array([3.0, 0.2, 1.0, 0.5, 2.0])


def test_a_system_with_unequal_noises_is_found_where_its_order_is_known():
    frame, weights = drawn(SYSTEM, 5000, 0, SDS)
    order = SYSTEM.topological_order
    found = acyclic_weights(frame, knowledge=BackgroundKnowledge(tiers=[[node] for node in order]))
    assert found.graph == SYSTEM
    np.testing.assert_allclose(found.weights, weights, atol=0.1)
    np.testing.assert_allclose(np.sqrt(found.noise_variances), SDS, rtol=0.05)
    assert (found.cpdag.undirected, found.notes) == ((), ())
    assert list(found.weights.index) == list(found.weights.columns) == list(SYSTEM.nodes)


def test_v_structures_tell_the_order():
    graph = CausalGraph.from_string("c -> d; a -> c; b -> c; e -> d")
    frame, weights = drawn(graph, 3000, 1, np.array([0.8, 0.3, 1.0, 2.0, 1.5]))
    found = acyclic_weights(frame)
    assert found.graph == graph
    assert found.notes == ()
    np.testing.assert_allclose(found.weights, weights, atol=0.15)


def test_units_and_the_variances_that_go_with_them_change_nothing():
    frame, _ = drawn(SYSTEM, 5000, 0, SDS)
    units = np.array([1e-6, 40.0, 1e4, 0.3, 1.0])
    found, scaled = acyclic_weights(frame), acyclic_weights(frame * units + 7)
    assert found.cpdag == scaled.cpdag
    assert found.graph == scaled.graph
    np.testing.assert_allclose(scaled.weights, found.weights.to_numpy() * units / units[:, None], atol=1e-9, rtol=1e-6)
    np.testing.assert_allclose(scaled.noise_variances, found.noise_variances * units**2, rtol=1e-6)


def test_of_what_the_data_leave_open_the_earlier_column_is_the_cause():
    frame, _ = drawn(CausalGraph.from_string("x -> y -> z"), 3000, 5)
    for columns in (["x", "y", "z"], ["z", "y", "x"]):
        found = acyclic_weights(frame[columns])
        assert found.graph == CausalGraph.from_string(" -> ".join(columns))
        assert found.cpdag.undirected == tuple(found.graph.edges)
        assert found.notes[0].startswith(f"the data fit either direction of {columns[0]} - y, y - {columns[2]} equally")
    known = acyclic_weights(frame, knowledge=BackgroundKnowledge(required=[("y", "x")]))
    assert known.graph == CausalGraph(("x", "y", "z"), (("y", "x"), ("y", "z")))
    assert known.cpdag.directed == (("y", "x"),)


def test_two_columns_are_no_tie():
    for size in (0.3, 0.6, 0.95):
        noise = np.random.default_rng(2).standard_normal((2000, 2))
        frame = pd.DataFrame({"b": noise[:, 0], "a": size * noise[:, 0] + np.sqrt(1 - size**2) * noise[:, 1]})
        assert acyclic_weights(frame).graph.edges == (("b", "a"),)
        assert acyclic_weights(frame[["a", "b"]]).graph.edges == (("a", "b"),)


@settings(max_examples=20)
@given(graphs(most=6), st.integers(0, 999), st.integers(0, 3))
def test_the_result_is_a_dag_of_its_class_fitted_by_least_squares(graph, seed, confounded):
    frame, _ = drawn(graph, 60, seed)
    draw = np.random.default_rng(seed)
    mixed = frame + confounded * draw.standard_normal((60, 1)) * draw.standard_normal(len(graph))  # no graph fits these
    found = acyclic_weights(mixed, 0.02)
    assert found.graph in set(found.cpdag.to_dags())
    assert found.cpdag == CPDAG.from_dag(found.graph)
    assert ((found.weights.to_numpy() != 0) <= found.graph.adjacency).all()
    residual = (mixed - mixed.mean()).to_numpy() @ (np.eye(len(graph)) - found.weights.to_numpy())
    for j, node in enumerate(graph.nodes):
        for parent in found.graph.parents(node):
            assert abs(np.corrcoef(residual[:, j], mixed[parent])[0, 1]) < 1e-8
    np.testing.assert_allclose(residual.var(axis=0), found.noise_variances, rtol=1e-9)


def test_random_systems_are_found_about_as_well_as_by_pc():
    f1 = []
    for seed in range(5):
        system = datasets.random_system(10, 2.0, seed=seed)
        frame = system.to_frame(system.sample(1000, generator=seed))
        f1.append([adjacency_scores(g, system.graph).f1 for g in (acyclic_weights(frame).cpdag, pc(frame))])
    ours, theirs = np.mean(f1, axis=0)
    assert ours > max(0.85, theirs - 0.08)


def test_knowledge_is_kept():
    frame = pd.DataFrame(np.random.default_rng(0).standard_normal((500, 3)), columns=["a", "b", "c"])
    assert acyclic_weights(frame).graph.edges == ()
    assert str(acyclic_weights(frame)) == "AcyclicWeights: no edges"
    assert acyclic_weights(frame, knowledge=BackgroundKnowledge(required=[("c", "a")])).graph.edges == (("c", "a"),)
    frame["b"] += frame["a"]
    forbidden = BackgroundKnowledge(forbidden=[("a", "b")])
    assert acyclic_weights(frame, knowledge=forbidden).graph.edges == (("b", "a"),)
    neither = BackgroundKnowledge(forbidden=[("a", "b"), ("b", "a")])
    assert acyclic_weights(frame, knowledge=neither).graph.edges == ()


def test_weak_edges_go():
    frame, _ = drawn(CausalGraph.from_string("a -> b"), 2000, 0)
    assert acyclic_weights(frame).graph.edges
    assert not acyclic_weights(frame, threshold=1.0).graph.edges
    assert not acyclic_weights(frame, sparsity=2.0).graph.edges


def test_text_tells_edges_weights_and_notes():
    frame, _ = drawn(CausalGraph.from_string("a -> b"), 2000, 0)
    found = acyclic_weights(frame)
    edge, note = str(found).splitlines()
    assert edge == f"AcyclicWeights: a -> b ({found.weights.loc['a', 'b']:.3g})"
    assert note.strip() == found.notes[0]


def test_one_column_has_no_edges():
    found = acyclic_weights(pd.DataFrame({"a": [1.0, 2.0, 4.0]}))
    assert found.graph == CausalGraph(("a",))
    assert found.noise_variances["a"] == pytest.approx(14 / 9)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"d": lambda f: f["a"] + f["b"]}, {}, "columns 'a', 'b', 'd' are linear combinations of each other"),
        ({"b": lambda f: 2 * f["a"] - 1}, {}, "columns 'a' and 'b' are copies"),
        ({"b": "x"}, {}, "column 'b' holds categories, and linear weights need numbers"),
        ({"b": 1.0}, {}, "column 'b' is constant"),
        ({}, {"sparsity": -0.1}, "sparsity is -0.1: give a number, at least 0"),
        ({}, {"threshold": np.nan}, "threshold is nan"),
        ({}, {"knowledge": BackgroundKnowledge(required=[("a", "q")])}, "the background knowledge names 'q'"),
    ],
)
def test_what_it_cant_learn_from_is_refused(change, options, message):
    frame = pd.DataFrame(np.random.default_rng(0).standard_normal((50, 3)), columns=["a", "b", "c"]).assign(**change)
    with pytest.raises(ValueError, match=message):
        acyclic_weights(frame, **options)


def test_a_path_that_was_cut_short_warns(monkeypatch):
    frame, _ = drawn(SYSTEM, 500, 0)
    monkeypatch.setattr(central_path, "STEPS", 2)
    with pytest.warns(UserWarning, match="stopped before its weights settled") as found:
        acyclic_weights(frame)
    assert found[0].filename == __file__
