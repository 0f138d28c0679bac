"""Graphs from pairs before and after an intervention: exact, measured with error, nonlinear, partly targeted; bad input."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graph_strategies import graphs
from latentcause.discovery import from_pairs
from latentcause.graph import CausalGraph
from linear_systems import distance, random_graph


@dataclass
class Pairs:
    """z_j = sum_k w_jk g(z_k) + u_j before; one node (or none) drawn anew from N(0, 1) after, all other u_j kept."""

    graph: CausalGraph
    before: pd.DataFrame
    after: pd.DataFrame
    targets: list[str | None]


def simulated(
    graph: CausalGraph, n: int, seed: int, *, error: float = 0.0, tanh: bool = False, targeted: tuple[str, ...] = ()
) -> Pairs:
    """Weights sign(N)(1 + 0.3 N) and unit noises; errors of measurement with ``error`` sds of each node."""
    rng = np.random.default_rng(seed)
    d = len(graph)
    weights = graph.adjacency * np.sign(rng.standard_normal((d, d))) * (1 + 0.3 * rng.standard_normal((d, d)))
    nodes = np.array([*(targeted or graph.nodes), None])
    targets = nodes[rng.integers(0, len(nodes), n)]
    noise, new = rng.standard_normal((2, n, d))
    both = []
    for intervened in (False, True):
        z = np.zeros((n, d))
        for j in map(graph.index, graph.topological_order):
            cause = 2 * np.tanh(1.5 * z) if tanh else z
            z[:, j] = cause @ weights[:, j] + noise[:, j]
            if intervened:
                z[:, j] = np.where(targets == graph.nodes[j], new[:, j], z[:, j])
        both.append(z)
    sd = both[0].std(axis=0)
    measured = [pd.DataFrame(z + error * sd * rng.standard_normal((n, d)), columns=list(graph.nodes)) for z in both]
    return Pairs(graph, *measured, targets.tolist())


def accuracy(found: tuple[str | None, ...], pairs: Pairs) -> float:
    return float(np.mean([a == b for a, b in zip(found, pairs.targets, strict=True)]))


@pytest.mark.parametrize("n_nodes", [5, 10, 15])
@pytest.mark.parametrize(("error", "least"), [(0.0, 1.0), (0.01, 0.94), (0.05, 0.8)])
def test_linear_systems_are_recovered(n_nodes: int, error: float, least: float) -> None:
    for seed in range(3):
        graph = random_graph(n_nodes, (n_nodes - 1) / 2, np.random.default_rng(seed))
        pairs = simulated(graph, 3000, seed, error=error)
        result = from_pairs(pairs.before, pairs.after)
        assert result.dag() == graph
        assert accuracy(result.targets, pairs) >= least
        assert result.untargeted == ()


def test_nonlinear_systems_are_recovered_with_splines_and_not_with_lines() -> None:
    shd = {"linear": 0, "spline": 0}
    for seed in range(3):
        graph = random_graph(8, 3, np.random.default_rng(seed))
        pairs = simulated(graph, 3000, seed, tanh=True)
        for mechanisms in shd:
            result = from_pairs(pairs.before, pairs.after, mechanisms=mechanisms)
            shd[mechanisms] += distance(result.cpdag.adjacency, graph.adjacency)
    assert shd["spline"] <= 1
    assert shd["linear"] > 5


@settings(max_examples=25)
@given(graphs(least=2, most=6), st.integers(0, 1000))
def test_every_graph_is_recovered_from_exact_pairs(graph: CausalGraph, seed: int) -> None:
    pairs = simulated(graph, 400, seed)
    result = from_pairs(pairs.before, pairs.after, alpha=1e-4)
    assert result.dag() == graph
    assert accuracy(result.targets, pairs) == 1


def test_known_targets_give_the_same_graph() -> None:
    graph = random_graph(8, 3, np.random.default_rng(0))
    pairs = simulated(graph, 2000, 0, error=0.05)
    result = from_pairs(pairs.before, pairs.after, pairs.targets)
    assert result.dag() == graph
    assert list(result.targets) == pairs.targets
    assert set(np.unique(result.probabilities)) == {0, 1}


def test_probabilities_say_how_sure_a_target_is() -> None:
    graph = random_graph(6, 2, np.random.default_rng(1))
    pairs = simulated(graph, 5000, 1, error=0.05)
    result = from_pairs(pairs.before, pairs.after)
    every = result.probabilities.assign(none=1 - result.probabilities.sum(axis=1)).to_numpy()
    hit = np.array([[*graph.nodes, None].index(target) for target in pairs.targets])
    np.testing.assert_allclose(every.sum(axis=1), 1)
    claimed = every.max(axis=1)
    right = every.argmax(axis=1) == hit
    for low, high in ((0.4, 0.6), (0.6, 0.9), (0.9, 1.0)):
        chosen = (claimed >= low) & (claimed <= high)
        assert abs(right[chosen].mean() - claimed[chosen].mean()) < 0.1


def test_p_values_are_uniform_for_missing_edges_measured_with_error() -> None:
    graph = CausalGraph.from_string("a -> b -> c; d")
    p_values = []
    for seed in range(60):
        pairs = simulated(graph, 600, seed, error=0.1)
        result = from_pairs(pairs.before, pairs.after, pairs.targets)
        p_values.append(result.p_values.loc["a", "c"])
        assert result.p_values.loc["b", "c"] < 1e-10
        assert np.isnan(result.p_values.loc["c", "a"])
    assert 0.25 < np.mean(p_values) < 0.75  # without the correction for errors of measurement they are near 0
    assert np.mean(np.array(p_values) < 0.05) < 0.2


def test_one_node_that_is_never_the_target_is_placed_all_the_same() -> None:
    for seed in range(4):
        graph = random_graph(6, 2.5, np.random.default_rng(seed))
        hidden = graph.topological_order[seed]
        pairs = simulated(graph, 3000, seed, targeted=tuple(node for node in graph.nodes if node != hidden))
        result = from_pairs(pairs.before, pairs.after)
        assert result.untargeted == (hidden,)
        assert result.dag() == graph
        assert accuracy(result.targets, pairs) == 1


def test_edges_between_nodes_that_are_never_the_target_stay_open() -> None:
    graph = CausalGraph.from_string("a -> b; c -> d; a -> e")
    pairs = simulated(graph, 3000, 0, targeted=("a", "e"))
    result = from_pairs(pairs.before, pairs.after)
    assert result.untargeted == ("b", "c", "d")
    assert result.cpdag.directed == (("a", "b"), ("a", "e"))
    assert result.cpdag.undirected == (("c", "d"),)
    with pytest.raises(ValueError, match="direction of c - d open, as they never target b, c, d"):
        result.dag()


def test_weak_edges_can_be_left_out_and_units_do_not_matter() -> None:
    graph = random_graph(5, 2, np.random.default_rng(5))
    pairs = simulated(graph, 1000, 5)
    units = np.array([1e-3, 1, 10, 1e4, 5])
    scaled = from_pairs(pairs.before * units + 7, pairs.after * units + 7)
    assert scaled.dag() == from_pairs(pairs.before, pairs.after).dag() == graph
    leak = pairs.before + 0.01 * pairs.before.to_numpy()[:, ::-1], pairs.after + 0.01 * pairs.after.to_numpy()[:, ::-1]
    assert len(from_pairs(*leak).cpdag.directed) > len(graph.edges)
    assert from_pairs(*leak, error=0.05, min_effect=0.1).dag() == graph


def test_columns_of_after_are_matched_by_name_and_arrays_by_place() -> None:
    graph = CausalGraph.from_string("a -> b; c")
    pairs = simulated(graph, 300, 0)
    assert from_pairs(pairs.before, pairs.after[["c", "b", "a"]]).dag() == graph
    result = from_pairs(pairs.before.to_numpy(), pairs.after.to_numpy())
    assert result.dag() == CausalGraph.from_string("x0 -> x1; x2")
    counts = [sum(t == node for t in pairs.targets) for node in ("a", "b", "c", None)]
    shown = "x0 {}, x1 {}, x2 {}, none {}".format(*counts)
    assert repr(result) == f"PairsResult: x0 -> x1; x2\n  targets of 300 pairs: {shown}"


def test_bad_input_is_named() -> None:
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(40, 3)), columns=["a", "b", "c"])
    other = frame + 1.0
    hole = other.mask((frame.index.to_numpy()[:, None] == 7) & (frame.columns == "b"))
    cases = [
        ((frame, other[:-1]), {}, r"before has the shape \(40, 3\), after \(39, 3\)"),
        ((frame, hole), {}, "missing or infinite values in column 'b' .*row 7"),
        ((frame.assign(c=1.0), other), {}, "column 'c' is constant"),
        ((frame, other.assign(c="text")), {}, "'c' of after holds categories"),
        ((frame, other.rename(columns={"c": "d"})), {}, "lack column 'c'"),
        ((frame[:2], other[:2]), {}, "2 rows for 3 columns"),
        ((frame, other, ["a"] * 39), {}, "for each of the 40 pairs"),
        ((frame, other, ["d"] * 40), {}, "target 'd' is not a column"),
        ((frame, other, [None] * 40), {}, "no pair shows an intervention"),
        ((frame, frame), {}, "no pair shows an intervention"),
        ((frame, other), {"alpha": 0.0}, "alpha is 0.0"),
        ((frame, other), {"mechanisms": "trees"}, "unknown mechanisms 'trees'"),
        ((frame, other), {"error": 1.5}, "error is 1.5"),
        ((frame, other), {"min_effect": -1.0}, "min_effect is -1.0"),
    ]
    for arguments, options, message in cases:
        with pytest.raises(ValueError, match=message):
            from_pairs(*arguments, **options)
