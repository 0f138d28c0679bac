"""Distances between graphs: against definitions, brute force, linear systems, and published properties."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from itertools import combinations

import networkx as nx
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from graph_strategies import graphs
from latentcause.discovery.cpdag import CPDAG
from latentcause.discovery.pag import PAG
from latentcause.graph import CausalGraph
from latentcause.metrics import (
    adjacency_scores,
    arrowhead_scores,
    graph_errors,
    structural_hamming_distance,
    structural_intervention_distance,
)

SEEDS = st.integers(0, 2**32 - 1)


@st.composite
def graphs_on(draw: st.DrawFn, nodes: tuple[str, ...]) -> CausalGraph:
    order = draw(st.permutations(nodes))
    return CausalGraph(nodes, tuple(edge for edge in combinations(order, 2) if draw(st.booleans())))


@st.composite
def several(draw: st.DrawFn, number: int, most: int = 6) -> list[CausalGraph]:
    nodes = tuple("abcdefg"[: draw(st.integers(1, most))])
    return [draw(graphs_on(nodes)) for _ in range(number)]


def maybe_class(graph: CausalGraph, is_class: bool) -> CausalGraph | CPDAG:
    return CPDAG.from_dag(graph) if is_class else graph


# --- structural Hamming distance -------------------------------------------------------------------------------------


def test_hamming_distance_by_hand() -> None:
    truth = CausalGraph.from_string("a -> b -> c; d")
    assert structural_hamming_distance(CausalGraph.from_string("a -> b; c -> b; d"), truth) == 1
    assert structural_hamming_distance(CausalGraph.from_string("a -> b; c -> b; d"), truth, reversal=2) == 2
    assert structural_hamming_distance(CausalGraph.from_string("d -> a; b; c"), truth) == 3
    assert structural_hamming_distance(CPDAG.from_dag(truth), truth) == 2  # a - b - c
    assert structural_hamming_distance(CPDAG.from_dag(truth), truth, reversal=2) == 2
    collider = CausalGraph.from_string("a -> b; c -> b; d")
    assert structural_hamming_distance(CPDAG.from_dag(collider), CPDAG.from_dag(truth)) == 2


@given(several(3), st.tuples(st.booleans(), st.booleans(), st.booleans()))
def test_hamming_distance_is_a_metric(three: list[CausalGraph], kinds: tuple[bool, bool, bool]) -> None:
    a, b, c = (maybe_class(graph, kind) for graph, kind in zip(three, kinds, strict=True))
    distance = structural_hamming_distance
    assert distance(a, b) == distance(b, a)
    assert distance(a, b, 2) == distance(b, a, 2) >= distance(a, b)
    assert distance(a, a) == 0
    assert (distance(a, b) == 0) == np.array_equal(a.adjacency, b.adjacency)
    assert distance(a, c) <= distance(a, b) + distance(b, c)


@given(several(2))
def test_hamming_distance_of_two_dags_counts_entries_when_reversals_count_twice(two: list[CausalGraph]) -> None:
    assert structural_hamming_distance(*two, reversal=2) == np.abs(two[0].adjacency - two[1].adjacency).sum()


@given(several(2), st.booleans(), st.data())
def test_no_figure_depends_on_the_order_or_the_names_of_the_nodes(
    two: list[CausalGraph], is_class: bool, data: st.DataObject
) -> None:
    truth, dag = two
    estimate = maybe_class(dag, is_class)
    expected = graph_errors(estimate, truth)
    shuffled = CausalGraph(tuple(data.draw(st.permutations(dag.nodes))), dag.edges)
    assert str(graph_errors(maybe_class(shuffled, is_class), truth)) == str(expected)
    new = dict(zip(truth.nodes, data.draw(st.permutations("pqrstuv"[: len(truth)])), strict=True))
    renamed = [CausalGraph([new[n] for n in g.nodes], [(new[a], new[b]) for a, b in g.edges]) for g in two]
    assert str(graph_errors(maybe_class(renamed[1], is_class), renamed[0])) == str(expected)


# --- structural intervention distance --------------------------------------------------------------------------------


def wrong_pairs_of_a_linear_system(estimate: CausalGraph, truth: CausalGraph, seed: int) -> int:
    """Compare p(x_j | do(x_i)) by adjustment with the true one in a linear-Gaussian system with random weights."""
    rng = np.random.default_rng(seed)
    d = len(truth)
    weights = truth.adjacency * rng.uniform(0.5, 1.5, (d, d)) * rng.choice([-1, 1], (d, d))
    total = np.linalg.inv(np.eye(d) - weights)  # [i, j]: effect of x_i on x_j
    covariance = total.T @ np.diag(rng.uniform(0.5, 1.5, d)) @ total
    guess = estimate.adjacency[np.ix_(*[[estimate.index(node) for node in truth.nodes]] * 2)]
    wrong = 0
    for i in range(d):
        above = [int(k) for k in np.flatnonzero(guess[:, i])]
        inside = [i, *above]
        for j in set(range(d)) - {i}:
            if j in above:
                effect = 0.0
            else:
                effect = np.linalg.solve(covariance[np.ix_(inside, inside)], covariance[inside, j])[0]
            wrong += abs(effect - total[i, j]) > 1e-7
    return wrong


def wrong_pairs_by_criterion(estimate: CausalGraph, truth: CausalGraph) -> int:
    """The adjustment criterion with d-separation in the proper back-door graph (van der Zander et al. 2014)."""
    digraph, wrong = truth.to_networkx(), 0
    for i in truth.nodes:
        above = set(estimate.parents(i))
        for j in set(truth.nodes) - {i}:
            if j in above:
                wrong += j in truth.descendants(i)
                continue
            on_way = {w for w in truth.descendants(i) if w == j or j in truth.descendants(w)}
            forbidden = on_way | {n for w in on_way for n in truth.descendants(w)}
            back_door = digraph.copy()
            back_door.remove_edges_from([(i, w) for w in on_way if digraph.has_edge(i, w)])
            wrong += bool(forbidden & above) or not nx.is_d_separator(back_door, {i}, {j}, above)
    return wrong


@given(several(2))
def test_intervention_distance_is_the_count_of_invalid_adjustments(two: list[CausalGraph]) -> None:
    truth, estimate = two
    assert structural_intervention_distance(estimate, truth) == wrong_pairs_by_criterion(estimate, truth)


@given(several(2, most=5), SEEDS)
def test_intervention_distance_is_the_count_of_false_effects_in_a_linear_system(
    two: list[CausalGraph], seed: int
) -> None:
    truth, estimate = two
    assert structural_intervention_distance(estimate, truth) == wrong_pairs_of_a_linear_system(estimate, truth, seed)


@given(graphs(most=7))
def test_intervention_distance_to_itself_and_to_a_complete_graph_in_its_order_is_zero(graph: CausalGraph) -> None:
    assert structural_intervention_distance(graph, graph) == 0
    assert structural_intervention_distance(graph.complete(), graph) == 0


@given(graphs(most=7))
def test_empty_graph_gets_every_effect_and_every_confounded_pair_wrong(graph: CausalGraph) -> None:
    empty = CausalGraph(graph.nodes)
    above = {node: {*graph.ancestors(node), node} for node in graph.nodes}
    confounded = 0  # without adjustment a pair is right where no back-door path is open: no shared ancestor before i
    for i in graph.nodes:
        for j in set(graph.nodes) - {i}:
            cut = graph.to_networkx()
            cut.remove_edges_from([(i, w) for w in graph.children(i) if w in above[j]])
            confounded += not nx.is_d_separator(cut, {i}, {j}, set())
    assert structural_intervention_distance(empty, graph) == confounded
    assert structural_intervention_distance(graph, empty) == 0  # too many edges spoil nothing


def test_intervention_distance_of_the_published_example() -> None:
    """Peters and Buehlmann, Example 1: X1, X2 -> Y1, Y2, Y3; one more edge X1 -> X2 costs nothing, one reversed much."""
    effects = "x1 -> y1; x1 -> y2; x1 -> y3; x2 -> y1; x2 -> y2; x2 -> y3"
    truth = CausalGraph.from_string(f"x1 -> x2; {effects}")
    missing_y = CausalGraph.from_string(f"x1 -> x2; {effects}; y1 -> y2")
    reversed_x = CausalGraph.from_string(f"x2 -> x1; {effects}")
    assert structural_hamming_distance(missing_y, truth) == structural_hamming_distance(reversed_x, truth) == 1
    assert structural_intervention_distance(missing_y, truth) == 0
    assert structural_intervention_distance(reversed_x, truth) == 8


@given(several(2))
def test_bounds_for_a_class_are_the_extremes_over_its_members(two: list[CausalGraph]) -> None:
    truth, dag = two
    estimate = CPDAG.from_dag(dag)
    distances = [structural_intervention_distance(member, truth) for member in estimate.to_dags()]
    assert structural_intervention_distance(estimate, truth) == (min(distances), max(distances))


@given(several(2), st.data())
def test_bounds_hold_for_a_class_that_knowledge_has_narrowed(two: list[CausalGraph], data: st.DataObject) -> None:
    truth, dag = two
    estimate = CPDAG.from_dag(dag)
    assume(estimate.undirected)
    a, b = data.draw(st.sampled_from(estimate.undirected))
    members = [member for member in estimate.to_dags() if (a, b) in member.edges]
    shared = np.max([member.adjacency for member in members], axis=0)
    narrowed = CPDAG.from_adjacency(shared, dag.nodes)
    assert len(list(narrowed.to_dags())) == len(members)
    distances = [structural_intervention_distance(member, truth) for member in members]
    assert structural_intervention_distance(narrowed, truth) == (min(distances), max(distances))


def test_bounds_for_a_class_too_large_to_list() -> None:
    nodes = tuple(f"v{i}" for i in range(9))
    full = CausalGraph(nodes, tuple(combinations(nodes, 2)))  # 9! members
    assert structural_intervention_distance(CPDAG.from_dag(full), full) == (0, 9 * 8)
    stars = CausalGraph.from_edges([(f"h{k}", f"h{k}l{i}") for k in range(8) for i in range(7)])  # 8 ** 8 members
    low, high = structural_intervention_distance(CPDAG.from_dag(stars), stars)
    one = CausalGraph.from_edges([("h0", f"h0l{i}") for i in range(7)])
    each = [structural_intervention_distance(member, one) for member in CPDAG.from_dag(one).to_dags()]
    assert (low, high) == (0, 8 * max(each))


# --- precision, recall, F1 -------------------------------------------------------------------------------------------


def test_scores_by_hand() -> None:
    truth = CausalGraph.from_string("a -> b -> c; d -> c")
    estimate = CausalGraph.from_string("b -> a; b -> c; a -> c; d")
    found = adjacency_scores(estimate, truth)
    assert (found.precision, found.recall, found.f1) == pytest.approx((2 / 3, 2 / 3, 2 / 3))
    found = arrowhead_scores(estimate, truth)
    assert (found.precision, found.recall, found.f1) == pytest.approx((1 / 3, 1 / 3, 1 / 3))
    found = arrowhead_scores(estimate, CPDAG.from_dag(truth))  # a - b; b -> c; d -> c
    assert (found.precision, found.recall, found.f1) == pytest.approx((1 / 3, 1 / 2, 2 / 5))


def test_a_ratio_of_nothing_is_nan() -> None:
    empty, truth = CausalGraph(("a", "b")), CausalGraph.chain(2)
    found = adjacency_scores(CausalGraph(truth.nodes), truth)
    assert math.isnan(found.precision)
    assert (found.recall, found.f1) == (0.0, 0.0)
    found = arrowhead_scores(truth, CPDAG.from_dag(truth))
    assert math.isnan(found.recall)
    assert (found.precision, found.f1) == (0.0, 0.0)
    assert math.isnan(adjacency_scores(empty, empty).f1)


@given(several(2))
def test_scores_agree_with_sets(two: list[CausalGraph]) -> None:
    truth, estimate = two
    pairs = [{frozenset(edge) for edge in graph.edges} for graph in two]
    hits = len(pairs[0] & pairs[1])
    found = adjacency_scores(estimate, truth)
    assert found.precision * len(pairs[1]) == pytest.approx(hits) or not pairs[1]
    assert found.recall * len(pairs[0]) == pytest.approx(hits) or not pairs[0]
    hits = len(set(truth.edges) & set(estimate.edges))
    arrows = arrowhead_scores(estimate, truth)
    assert arrows.f1 * (len(truth.edges) + len(estimate.edges)) == pytest.approx(2 * hits) or not pairs[0] | pairs[1]


# --- all at once -----------------------------------------------------------------------------------------------------


def test_graph_errors_collects_every_figure() -> None:
    truth = CausalGraph.from_string("a -> b -> c")
    errors = graph_errors(CausalGraph.from_string("a -> b; c -> b"), truth)
    assert (errors.shd1, errors.shd2, errors.sid) == (1, 2, 3)
    assert str(errors) == (
        "SHD 1 (reversals twice: 2), SID 3\n"
        "adjacencies: precision 1.00, recall 1.00, F1 1.00\n"
        "arrowheads: precision 0.50, recall 0.50, F1 0.50"
    )
    assert json.loads(json.dumps(errors.as_dict()))["sid_low"] == 3
    chain = graph_errors(CPDAG.from_dag(truth), truth)
    assert chain.sid == (0, 6)
    assert "SID 0 to 6" in str(chain)
    assert (chain.as_dict()["sid_low"], chain.as_dict()["sid_high"]) == (0, 6)
    assert graph_errors(truth, CPDAG.from_dag(truth)).sid is None
    assert "SID undefined" in str(graph_errors(truth, CPDAG.from_dag(truth)))


def test_a_pag_is_compared_by_adjacencies_only() -> None:
    truth = CausalGraph.from_string("a -> b -> c")
    pag = PAG(("c", "b", "a"), [("a", "circle", "circle", "b"), ("a", "circle", "arrow", "c")])
    errors = graph_errors(pag, truth)
    assert errors.adjacency.precision == errors.adjacency.recall == 0.5
    assert errors.shd1 is errors.shd2 is errors.sid is errors.arrowhead is None
    assert errors.as_dict()["arrowhead_f1"] is None
    assert str(errors).startswith("SHD undefined")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: structural_hamming_distance(CausalGraph.chain(2), CausalGraph.chain(3)),
            ValueError,
            "the estimate has no node 'z3'",
        ),
        (
            lambda: structural_intervention_distance(CausalGraph.chain(3), CausalGraph.chain(2)),
            ValueError,
            "the truth has no node 'z3'",
        ),
        (
            lambda: structural_hamming_distance(CausalGraph.chain(2), CausalGraph.chain(2), reversal=3),
            ValueError,
            "reversal is 3",
        ),
        (
            lambda: structural_intervention_distance(PAG(("z1", "z2")), CausalGraph.chain(2)),
            TypeError,
            "not defined for a PAG: with latent confounders",
        ),
        (
            lambda: structural_intervention_distance(CausalGraph.chain(2), CPDAG.from_dag(CausalGraph.chain(2))),
            TypeError,
            "the truth is a CPDAG, but the intervention distance needs a DAG",
        ),
        (
            lambda: structural_hamming_distance(PAG(("z1", "z2")), CausalGraph.chain(2)),
            TypeError,
            "the structural Hamming distance is not defined for a PAG",
        ),
        (
            lambda: arrowhead_scores(CausalGraph.chain(2), PAG(("z1", "z2"))),
            TypeError,
            "a count of right arrowheads is not defined for a PAG",
        ),
        (lambda: adjacency_scores(np.eye(2), CausalGraph.chain(2)), TypeError, "ndarray is no graph to compare"),
        (
            lambda: structural_intervention_distance(
                CPDAG(("a", "b", "c", "d"), (), (("a", "b"), ("b", "c"), ("c", "d"), ("a", "d"))),
                CausalGraph.from_string("a -> b; c; d"),
            ),
            ValueError,
            "it is no class of DAGs",
        ),
    ],
)
def test_bad_input_is_refused_by_name(call: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as raised:
        call()
    assert message in str(raised.value)
