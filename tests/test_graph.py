"""CausalGraph: kin, surgery and d-separation against independent oracles; conversions; bad input."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graph_strategies import ANY_NAME, graphs, graphs_and_sets
from latentcause.graph import CausalGraph


def separated_by_moralisation(graph: CausalGraph, x: set[str], y: set[str], condition: set[str]) -> bool:
    """Lauritzen's criterion, from the edges alone: cut the moral graph of the ancestral set at ``condition``."""
    ancestral = x | y | condition
    while parents := {cause for cause, effect in graph.edges if effect in ancestral} - ancestral:
        ancestral |= parents
    joined = {frozenset(edge) for edge in graph.edges if set(edge) <= ancestral}
    for node in ancestral:
        into = [cause for cause, effect in graph.edges if effect == node and cause in ancestral]
        joined |= {frozenset((a, b)) for a in into for b in into if a != b}
    reached = set(x)
    while more := {n for pair in joined if pair & reached for n in pair} - reached - condition:
        reached |= more
    return not reached & y


# --- kin, order, surgery, separation ---------------------------------------------------------------------------------


def test_kin_of_a_small_graph() -> None:
    graph = CausalGraph.from_string("a -> c; b -> c; c -> d; e -> d; f")
    assert graph.nodes == ("a", "c", "b", "d", "e", "f")
    assert graph.parents("c") == ("a", "b")
    assert graph.children("c") == ("d",)
    assert graph.coparents("c") == ("e",)
    assert graph.markov_blanket("c") == ("a", "b", "d", "e")
    assert graph.ancestors("d") == ("a", "c", "b", "e")
    assert graph.descendants("a") == ("c", "d")
    assert graph.markov_blanket("f") == graph.ancestors("f") == ()
    assert graph.topological_order == ("a", "b", "c", "e", "d", "f")
    assert graph.index("b") == 2
    assert "b" in graph
    assert "z" not in graph
    assert len(graph) == 6


@given(graphs())
def test_kin_agrees_with_reachability_by_matrix_powers(graph: CausalGraph) -> None:
    one_step = graph.adjacency.astype(bool)
    reach = np.linalg.matrix_power(graph.adjacency + np.eye(len(graph), dtype=int), len(graph)).astype(bool)
    np.fill_diagonal(reach, False)
    for i, node in enumerate(graph.nodes):
        assert graph.parents(node) == tuple(np.array(graph.nodes)[one_step[:, i]])
        assert graph.children(node) == tuple(np.array(graph.nodes)[one_step[i]])
        assert graph.ancestors(node) == tuple(np.array(graph.nodes)[reach[:, i]])
        assert graph.descendants(node) == tuple(np.array(graph.nodes)[reach[i]])
        shares_child = (one_step[i] & one_step).any(axis=1)
        shares_child[i] = False
        assert graph.coparents(node) == tuple(np.array(graph.nodes)[shares_child])


@given(graphs())
def test_topological_order_puts_causes_first(graph: CausalGraph) -> None:
    order = graph.topological_order
    assert sorted(order) == sorted(graph.nodes)
    assert all(order.index(cause) < order.index(effect) for cause, effect in graph.edges)


@given(graphs(), st.data())
def test_do_removes_exactly_the_incoming_edges(graph: CausalGraph, data: st.DataObject) -> None:
    targets = data.draw(st.lists(st.sampled_from(graph.nodes), unique=True))
    after = graph.do(targets)
    assert after.nodes == graph.nodes
    assert set(graph.edges) - set(after.edges) == {edge for edge in graph.edges if edge[1] in targets}
    assert set(after.edges) <= set(graph.edges)
    assert all(after.parents(target) == () for target in targets)


@given(graphs_and_sets())
def test_d_separation_agrees_with_moralisation_and_networkx(
    problem: tuple[CausalGraph, set[str], set[str], set[str]],
) -> None:
    graph, x, y, condition = problem
    answer = graph.d_separated(x, y, condition)
    assert answer == separated_by_moralisation(graph, x, y, condition)
    assert answer == nx.is_d_separator(graph.to_networkx(), x, y, condition)
    assert answer == graph.d_separated(y, x, condition)


@given(graphs(least=2))
def test_blanket_separates_a_node_from_all_others_and_no_smaller_set_does(graph: CausalGraph) -> None:
    for node in graph.nodes:
        blanket = graph.markov_blanket(node)
        if others := set(graph.nodes) - {node, *blanket}:
            assert graph.d_separated(node, others, blanket)
        for member in blanket:
            rest = set(blanket) - {member}
            assert not graph.d_separated(node, {member} | others, rest)


def test_collider_opens_when_it_or_its_descendant_is_given() -> None:
    graph = CausalGraph.from_string("a -> c; b -> c; c -> d")
    assert graph.d_separated("a", "b")
    assert not graph.d_separated("a", "b", "c")
    assert not graph.d_separated("a", "b", given=["d"])
    assert graph.d_separated(["a", "b"], "d", "c")


@given(graphs())
def test_complete_joins_every_pair_in_the_topological_order(graph: CausalGraph) -> None:
    full = graph.complete()
    assert full.nodes == graph.nodes
    assert full.topological_order == graph.topological_order
    assert set(graph.edges) <= set(full.edges)
    assert len(full.edges) == len(graph) * (len(graph) - 1) // 2


@given(graphs(), st.data())
def test_subgraph_is_the_block_of_the_adjacency_matrix(graph: CausalGraph, data: st.DataObject) -> None:
    kept = data.draw(st.lists(st.sampled_from(graph.nodes), min_size=1, unique=True))
    rows = [graph.index(node) for node in kept]
    sub = graph.subgraph(kept)
    assert sub.nodes == tuple(kept)
    assert np.array_equal(sub.adjacency, graph.adjacency[np.ix_(rows, rows)])


# --- equality and immutability ---------------------------------------------------------------------------------------


@given(graphs(), st.data())
def test_equality_and_hash_do_not_depend_on_the_order_of_edges(graph: CausalGraph, data: st.DataObject) -> None:
    twin = CausalGraph(graph.nodes, tuple(data.draw(st.permutations(graph.edges))))
    assert twin == graph
    assert hash(twin) == hash(graph)
    assert {graph: "found"}[twin] == "found"
    assert copy.deepcopy(graph) == graph == pickle.loads(pickle.dumps(graph))
    if graph.edges:
        assert CausalGraph(graph.nodes, graph.edges[1:]) != graph
    if len(graph) > 1:
        assert CausalGraph(graph.nodes[::-1], graph.edges) != graph


def test_a_graph_cannot_be_changed() -> None:
    graph = CausalGraph.chain(3)
    with pytest.raises(AttributeError, match="nodes"):
        graph.nodes = ("a",)  # type: ignore[misc]
    with pytest.raises(ValueError, match="read-only"):
        graph.adjacency[0, 2] = 1
    graph.to_adjacency()[0, 2] = 1
    graph.to_networkx().add_edge("z1", "z3")
    graph.to_edges().append(("z1", "z3"))
    assert graph == CausalGraph.from_string("z1 -> z2 -> z3")


# --- there and back --------------------------------------------------------------------------------------------------


@given(graphs(ANY_NAME))
def test_round_trips_keep_the_graph(graph: CausalGraph) -> None:
    assert CausalGraph.from_string(str(graph)) == graph
    assert eval(repr(graph), {"CausalGraph": CausalGraph}) == graph
    assert CausalGraph.from_dot(graph.to_dot()) == graph
    assert CausalGraph.from_networkx(graph.to_networkx()) == graph
    assert CausalGraph.from_adjacency(graph.to_adjacency(), graph.nodes) == graph
    assert CausalGraph.from_edges(graph.to_edges(), graph.nodes) == graph


def test_edges_put_nodes_in_order_of_appearance() -> None:
    assert CausalGraph.from_edges([("b", "a"), ("b", "c")]).nodes == ("b", "a", "c")
    assert CausalGraph.from_edges(np.array([["b", "a"]])).nodes == ("b", "a")
    assert CausalGraph.from_adjacency(np.array([[False, True], [False, False]])) == CausalGraph.chain(2)


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CausalGraph(("a", "b", "a")), "node 'a' is given twice"),
        (lambda: CausalGraph("abc"), "the single text 'abc'"),
        (
            lambda: CausalGraph(
                ("a", "b "),
            ),
            "'b ' is no name",
        ),
        (lambda: CausalGraph(("a\nb",)), "'a\\nb' is no name"),
        (lambda: CausalGraph((1, 2)), "1 is no name"),
        (lambda: CausalGraph(("a",), (("a", "b"),)), "edge a -> b has the unknown node 'b': the nodes are a"),
        (lambda: CausalGraph.from_edges(["ab"]), "'ab' is no edge"),
        (lambda: CausalGraph.from_edges([("a", "b", "c")]), "('a', 'b', 'c') is no edge"),
        (lambda: CausalGraph.from_edges([7]), "7 is no edge"),
        (lambda: CausalGraph.from_edges([(1, 2)]), "1 is no name"),
        (lambda: CausalGraph.chain(0), "at least one node"),
        (lambda: CausalGraph.chain(3).parents("z9"), "unknown node 'z9': the graph has z1, z2, z3"),
        (lambda: CausalGraph.chain(30).index("z0"), "z20, ... (30 in all)"),
        (lambda: CausalGraph.chain(3).do(["z1", "y"]), "unknown node 'y'"),
        (lambda: CausalGraph.chain(3).subgraph("z1 z2"), "unknown node 'z1 z2'"),
        (lambda: CausalGraph.chain(3).subgraph(["z1", "z1"]), "node 'z1' is given twice"),
        (lambda: CausalGraph.chain(3).d_separated("z1", "z1"), "'z1' is in both x and y"),
        (lambda: CausalGraph.chain(3).d_separated("z1", "z2", "z2"), "'z2' is in both y and given"),
        (lambda: CausalGraph.chain(3).d_separated("z1", []), "at least one node each"),
        (lambda: CausalGraph.chain(3).d_separated("z1", "q"), "unknown node 'q'"),
        (lambda: CausalGraph.from_networkx(nx.Graph([("a", "b")])), "undirected"),
        (lambda: CausalGraph.from_networkx(nx.DiGraph([(1, 2)])), "1 is no name"),
        (lambda: CausalGraph.from_networkx(nx.MultiDiGraph([("a", "b")] * 2)), "edge a -> b is given twice"),
        (lambda: CausalGraph.from_adjacency(np.ones((2, 3))), "square, not of shape (2, 3)"),
        (lambda: CausalGraph.from_adjacency(np.ones((2, 2))), "self-loop z1 -> z1"),
        (lambda: CausalGraph.from_adjacency([[0, 1], [0, 0]], ["a"]), "1 nodes for an adjacency matrix"),
        (
            lambda: CausalGraph.from_adjacency([[0, 0.5], [0, 0]]),
            "entry [0, 1] of the adjacency matrix (z1 -> z2) is 0.5",
        ),
        (lambda: CausalGraph.from_adjacency([[0, np.nan], [0, 0]]), "(z1 -> z2) is nan"),
        (lambda: CausalGraph.from_file("graph.json"), "'graph.json' has the suffix '.json'"),
        (lambda: CausalGraph.chain(2).to_file("graph"), "'graph' has the suffix ''"),
    ],
)
def test_bad_input_is_refused_by_name(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError) as error:
        make()
    assert message in str(error.value)
