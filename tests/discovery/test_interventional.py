"""Graphs from several domains: the population, samples, unknown targets, the Sachs cells, and bad input."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import latentcause as lc
from graph_strategies import graphs
from latentcause.data import MultiDomainData
from latentcause.datasets import load_sachs
from latentcause.discovery import CPDAG, from_domains, interventional_cpdag, pc
from latentcause.discovery.interventional import _evidence, _neighbour_sets, _oriented
from latentcause.discovery.invariance import DomainMoments, WithinDomains, invariance
from latentcause.graph import CausalGraph
from linear_systems import LinearSystem, distance, population, random_graph

KINDS = ("soft", "hard", "shift", "variance")


def single_targets(graph: CausalGraph) -> dict[str, tuple[str, ...]]:
    return {"observed": (), **{f"on {node}": (node,) for node in graph.nodes}}


def sampled(
    graph: CausalGraph, targets: dict[str, tuple[str, ...]], n: int, kind: str, seed: int
) -> tuple[pd.DataFrame, np.ndarray]:
    rng = np.random.default_rng(seed)
    system = LinearSystem.draw(graph, rng)
    rows = [system.under(nodes, kind, rng).sample(n, rng) for nodes in targets.values()]
    return pd.DataFrame(np.concatenate(rows), columns=list(graph.nodes)), np.repeat(list(targets), n)


# --- what can be known ---------------------------------------------------------------------------------------------------


def equivalence_key(graph: CausalGraph, contexts: Iterable[frozenset[str]]) -> tuple[object, ...]:
    """Skeleton and v-structures of the graph with one more node per context (Yang et al. 2018, Theorem 3.9)."""
    parents = {node: set(graph.parents(node)) for node in graph.nodes}
    for number, nodes in enumerate(contexts):
        for node in nodes:
            parents[node].add(f"context {number}")
    joined = {frozenset((p, node)) for node, above in parents.items() for p in above}
    colliders = {
        (node, frozenset(pair))
        for node, above in parents.items()
        for pair in combinations(sorted(above), 2)
        if frozenset(pair) not in joined
    }
    return frozenset(joined), frozenset(colliders)


def by_enumeration(graph: CausalGraph, contexts: list[frozenset[str]]) -> np.ndarray:
    """The union of all DAGs on the skeleton that are equivalent to the graph."""
    wanted, union = equivalence_key(graph, contexts), np.zeros_like(graph.adjacency)
    for turned in product((False, True), repeat=len(graph.edges)):
        edges = [edge[::-1] if turn else edge for edge, turn in zip(graph.edges, turned, strict=True)]
        try:
            other = CausalGraph(graph.nodes, tuple(edges))
        except ValueError:
            continue
        if equivalence_key(other, contexts) == wanted:
            union |= other.adjacency
    return union


@given(graphs(least=2, most=5), st.data())
def test_interventional_class_is_that_of_the_augmented_graph(graph: CausalGraph, data: st.DataObject) -> None:
    one = st.lists(st.sampled_from(graph.nodes), unique=True, min_size=1, max_size=len(graph))
    targets = data.draw(st.lists(one, max_size=3))
    found = interventional_cpdag(graph, [(), *targets])
    np.testing.assert_array_equal(found.adjacency, by_enumeration(graph, [frozenset(nodes) for nodes in targets]))
    assert interventional_cpdag(graph, {"observed": (), **{str(i): t for i, t in enumerate(targets)}}) == found


def test_without_an_observational_domain_pairs_of_domains_are_compared() -> None:
    graph = CausalGraph.from_string("a -> b -> c")
    assert interventional_cpdag(graph, [("a",), ("b",)]) == CPDAG(graph.nodes, [("b", "c")], [("a", "b")])
    assert interventional_cpdag(graph, [("a",), ("a",)]) == CPDAG(graph.nodes, graph.edges)
    assert interventional_cpdag(graph, [()]) == CPDAG.from_dag(graph)
    with pytest.raises(ValueError, match="unknown node 'd'"):
        interventional_cpdag(graph, [("d",)])


def test_population_gives_the_interventional_class_of_200_random_graphs() -> None:
    for seed in range(200):
        rng = np.random.default_rng(seed)
        graph = random_graph(int(rng.integers(3, 9)), rng.uniform(1, 3), rng)
        system = LinearSystem.draw(graph, rng)
        extra = [tuple(rng.choice(graph.nodes, rng.integers(1, 3), replace=False)) for _ in range(rng.integers(1, 5))]
        targets = [(), *extra]
        moments = population([system.under(nodes, KINDS[seed % 4], rng) for nodes in targets])
        hit = np.array([[node in nodes for node in graph.nodes] for nodes in targets])
        start = CPDAG.from_dag(graph)
        evidence = _evidence(moments, _neighbour_sets(start, None), hit, 0.01)
        found = _oriented(start, evidence, nearest=False)
        assert found == interventional_cpdag(graph, targets), f"graph {seed}"
        assert found.conflicts == ()


# --- the tests -----------------------------------------------------------------------------------------------------------


def test_invariance_p_values_are_uniform_under_the_hypothesis() -> None:
    rng = np.random.default_rng(0)
    sets = np.array([[1, 2]])
    domain = np.repeat([0, 1, 2], [30, 20, 40])
    p_values = []
    for _ in range(400):
        x = rng.normal(size=(90, 2)) * np.array([1, 3, 0.5])[domain, None] + domain[:, None]
        y = x @ [1.0, -2.0] + 3 + rng.normal(size=90)
        moments = DomainMoments.of_rows(np.column_stack([y, x]), domain, ("y", "a", "b"))
        p_values.append(invariance(moments, 0, sets)[0][0])
    assert stats.kstest(p_values, "uniform").pvalue > 0.01


def test_invariance_equals_chow_and_bartlett_by_least_squares() -> None:
    rng = np.random.default_rng(1)
    values, domain = rng.normal(size=(60, 3)), np.repeat([0, 1], [25, 35])
    values[:, 0] += values[:, 1] * (1 + domain)

    def residuals(rows: np.ndarray) -> np.ndarray:
        x = np.column_stack([np.ones(rows.sum()), values[rows, 1]])
        return values[rows, 0] - x @ np.linalg.lstsq(x, values[rows, 0], rcond=None)[0]

    parts = [residuals(domain == e) for e in (0, 1)]
    rss = [part @ part for part in parts]
    whole = residuals(np.ones(60, dtype=bool))
    chow = (whole @ whole - sum(rss)) / 2 / (sum(rss) / 56)
    s2 = np.array(rss) / [23, 33]
    bartlett = 56 * np.log(sum(rss) / 56) - [23, 33] @ np.log(s2)
    bartlett /= 1 + (1 / 23 + 1 / 33 - 1 / 56) / 3
    both = stats.combine_pvalues([stats.f.sf(chow, 2, 56), stats.chi2.sf(bartlett, 1)])
    gap = (60 * np.log(whole @ whole / 60) - 25 * np.log(rss[0] / 25) - 35 * np.log(rss[1] / 35)) / 120
    p, gaps = invariance(DomainMoments.of_rows(values, domain, ("y", "a", "b")), 0, np.array([[1]]))
    np.testing.assert_allclose([p[0], gaps[0]], [both.pvalue, gap], rtol=1e-8)


def test_independence_within_domains_is_not_fooled_by_shifts() -> None:
    rng = np.random.default_rng(2)
    domain = np.repeat(np.arange(4), 100)
    x, y = rng.normal(size=(2, 400)) + 3 * domain
    turned = y + x * np.array([1, -1, 1, -1])[domain]
    moments = DomainMoments.of_rows(np.column_stack([x, y, turned]), domain, ("x", "y", "turned"))
    test = WithinDomains(moments)
    assert test.p_value("x", "y") > 0.01
    assert test.p_value("x", "turned") < 1e-20  # correlations of opposite signs in the domains


# --- samples -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "most"), [(200, 2.0), (1000, 0.5)])
def test_beats_pc_on_samples_with_one_domain_per_node(n: int, most: float) -> None:
    ours, pooled, observed = [], [], []
    for seed in range(8):
        graph = random_graph(8, 2, np.random.default_rng(seed))
        targets = single_targets(graph)
        frame, domain = sampled(graph, targets, n, KINDS[seed % 2], seed)
        true = interventional_cpdag(graph, targets).adjacency
        ours.append(distance(from_domains(frame, domain, targets).cpdag.adjacency, true))
        pooled.append(distance(pc(frame).adjacency, true))
        observed.append(distance(pc(frame[domain == "observed"]).adjacency, true))
    assert np.mean(ours) <= most
    assert np.mean(ours) < 0.4 * min(np.mean(pooled), np.mean(observed))


def test_unknown_targets_are_found_and_the_graph_with_them() -> None:
    wrong, shd = 0, []
    for seed in range(6):
        graph = random_graph(6, 2, np.random.default_rng(seed))
        targets = single_targets(graph)
        frame, domain = sampled(graph, targets, 1000, "soft", seed)
        result = from_domains(frame, domain)
        assert result.reference == "observed"
        wrong += sum(result.targets[name] != nodes for name, nodes in targets.items())
        shd.append(distance(result.cpdag.adjacency, interventional_cpdag(graph, targets).adjacency))
    assert wrong <= 4  # of 42 domains; some changes are small
    assert np.mean(shd) <= 0.5


def test_result_does_not_depend_on_the_order_of_columns_domains_or_rows() -> None:
    graph = random_graph(6, 2.5, np.random.default_rng(3))
    targets = single_targets(graph)
    frame, domain = sampled(graph, targets, 60, "soft", 3)
    first = from_domains(frame, domain, targets)
    rng = np.random.default_rng(0)
    for _ in range(5):
        rows = rng.permutation(len(frame))
        columns = list(rng.permutation(graph.nodes))
        other = from_domains(frame.iloc[rows][columns], domain[rows], targets)
        assert set(other.cpdag.directed) == set(first.cpdag.directed)
        assert other.cpdag.skeleton == first.cpdag.skeleton
        pd.testing.assert_frame_equal(other.changes.loc[first.changes.index, first.changes.columns], first.changes)


def test_a_variable_held_fixed_by_an_intervention_is_no_obstacle() -> None:
    rng = np.random.default_rng(4)
    a = np.r_[rng.normal(size=300), np.full(300, 2.0)]
    b = a + rng.normal(size=600)
    result = from_domains(
        np.column_stack([a, b, b + rng.normal(size=600)]),
        np.repeat(["free", "do(x0 = 2)"], 300),
        {"free": [], "do(x0 = 2)": "x0"},
    )
    assert result.cpdag.directed == (("x0", "x1"), ("x1", "x2"))


def test_start_gives_the_skeleton_and_yields_its_arrows_to_invariance() -> None:
    graph = CausalGraph.from_string("x -> y; y -> z")
    targets = {"observed": (), "on x": ("x",)}
    frame, domain = sampled(graph, targets, 2000, "soft", 5)
    start = CPDAG(("z", "y", "x"), [("y", "x"), ("z", "y")])
    result = from_domains(frame, domain, targets, start=start)
    assert result.cpdag == CPDAG(graph.nodes, graph.edges)
    assert any("y -> x was dropped" in sentence for sentence in result.cpdag.conflicts)
    row = result.evidence.query("node == 'y' and neighbour == 'x'").iloc[0]
    assert row["arrow"] == ("x", "y")
    assert row["p_with"] > 0.01 >= row["p_without"]


def test_multi_domain_data_bring_their_domains_and_targets() -> None:
    graph = CausalGraph.from_string("x -> y; y -> z")
    targets = {"observed": (), "on x": ("x",)}
    frame, domain = sampled(graph, targets, 500, "soft", 6)
    result = lc.discovery.from_domains(MultiDomainData(frame, domain, targets))
    assert result.cpdag == from_domains(frame, domain, targets).cpdag
    assert result.cpdag.directed == graph.edges
    assert repr(result) == (
        "DomainsResult: x -> y; y -> z\n  targets (given, alpha 0.01)\n    observed: none\n    on x: x"
    )
    with pytest.raises(ValueError, match="brings its own domains"):
        from_domains(MultiDomainData(frame, domain, targets), domain)


def test_sachs_cells_nearest_sets_turn_most_edges_rightly(shared_data: Callable[[str], Path]) -> None:
    cells = load_sachs(shared_data("sachs"))
    start = CPDAG.from_dag(cells.graph)
    strict = from_domains(cells.data(), start=start)
    assert not strict.cpdag.directed  # no mechanism is linear and untouched in all the conditions that do not target it
    nearest = from_domains(cells.data(), start=start, nearest=True)
    right = len(set(nearest.cpdag.directed) & set(cells.graph.edges))
    assert right >= 10
    assert right > 2 * (len(nearest.cpdag.directed) - right)
    assert nearest.targets == cells.targets


# --- bad input -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def small() -> tuple[pd.DataFrame, np.ndarray]:
    return pd.DataFrame(np.random.default_rng(0).normal(size=(40, 3)), columns=["a", "b", "c"]), np.repeat(
        ["u", "v"], 20
    )


def test_bad_input_is_named(small: tuple[pd.DataFrame, np.ndarray]) -> None:
    frame, domain = small
    hole = frame.mask((frame.index.to_numpy()[:, None] == 7) & (frame.columns == "b"))
    cases = [
        ((frame, np.repeat("u", 40)), {}, "all rows are of domain 'u'"),
        ((frame,), {}, "domain is missing"),
        ((frame, domain, {"u": [], "v": ["d"]}), {}, "target 'd' of domain 'v' is not a column"),
        ((frame, domain, {"u": []}), {}, "no targets entry for domain 'v'"),
        ((frame, np.repeat(["u", "v"], [36, 4])), {}, "domain 'v' has 4 rows for 3 columns: give at least 5"),
        ((frame, domain[:-1]), {}, "39 labels but x has 40 rows"),
        ((hole, domain), {}, "missing or infinite values in column 'b' .*row 7"),
        ((frame.assign(c=1.0), domain), {}, "column 'c' is constant"),
        ((frame.assign(c="text"), domain), {}, "'c' holds categories"),
        ((frame, domain), {"alpha": 1.0}, "alpha is 1.0"),
        ((frame, domain), {"max_parents": 0}, "max_parents is 0"),
        ((frame, domain), {"reference": "w"}, "reference 'w' is no domain"),
        ((frame, domain, {"u": [], "v": "a"}), {"reference": "u"}, "targets are given"),
        ((frame, domain), {"start": CPDAG(("a", "b"), [("a", "b")])}, "start has the nodes 'a', 'b'"),
    ]
    for arguments, options, message in cases:
        with pytest.raises(ValueError, match=message):
            from_domains(*arguments, **options)


def test_a_node_with_too_many_neighbours_asks_for_a_limit() -> None:
    values = np.random.default_rng(0).normal(size=(100, 20))
    start = CPDAG(tuple(f"x{j}" for j in range(20)), [], [("x0", f"x{j}") for j in range(1, 20)])
    domain = np.repeat([0, 1], 50)
    with pytest.raises(ValueError, match=r"'x0' has 19 neighbours, which make 524288 sets.*max_parents"):
        from_domains(values, domain, {0: [], 1: ["x1"]}, start=start)
    assert from_domains(values, domain, {0: [], 1: ["x1"]}, start=start, max_parents=2).cpdag.skeleton == start.skeleton
