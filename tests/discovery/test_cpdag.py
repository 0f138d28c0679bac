from __future__ import annotations

from copy import deepcopy
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graph_strategies import graphs
from latentcause import CPDAG, CausalGraph
from latentcause.discovery import DSeparation, pc


@given(graphs(most=5))
def test_members_are_all_different_and_have_the_same_class(graph):
    cpdag = CPDAG.from_dag(graph)
    members = list(cpdag.to_dags())
    assert graph in members
    assert len(set(members)) == len(members)
    for member in members:
        assert CPDAG.from_dag(member) == cpdag
    assert cpdag.consistent_extension() in members


@given(graphs(most=6), st.randoms(use_true_random=False))
def test_nothing_depends_on_the_order_of_the_nodes(graph, random):
    nodes = list(graph.nodes)
    random.shuffle(nodes)
    other = CPDAG.from_dag(CausalGraph(tuple(nodes), graph.edges))
    first = CPDAG.from_dag(graph)
    assert set(other.directed) == set(first.directed)
    assert other.skeleton == first.skeleton
    assert set(other.consistent_extension().edges) == set(first.consistent_extension().edges)


@given(graphs(most=6))
def test_kin_agree_with_the_edges(graph):
    cpdag = CPDAG.from_dag(graph)
    for node in cpdag.nodes:
        assert (
            set(cpdag.adjacent(node))
            == {
                *cpdag.parents(node),
                *cpdag.children(node),
                *cpdag.neighbours(node),
            }
            == {*graph.parents(node), *graph.children(node)}
        )
        assert all((parent, node) in cpdag.directed for parent in cpdag.parents(node))
    assert np.array_equal(CPDAG.from_adjacency(cpdag.adjacency, cpdag.nodes).adjacency, cpdag.adjacency)


def test_a_complete_graph_has_a_factorial_of_members():
    complete = CausalGraph.chain(5).complete()
    assert len(list(CPDAG.from_dag(complete).to_dags())) == 120


def test_a_chain_has_as_many_members_as_nodes():
    members = list(CPDAG.from_dag(CausalGraph.chain(6)).to_dags())
    assert len(members) == 6


def test_text_and_dot():
    cpdag = CPDAG(("a", "b", "c", "d"), (("a", "b"),), (("c", "b"),))
    assert str(cpdag) == "a -> b; b - c; d"
    assert repr(cpdag) == "CPDAG(a -> b; b - c; d)"
    assert '"b" -> "c" [dir=none];' in cpdag.to_dot()
    assert '"a" -> "b";' in cpdag.to_dot()
    assert len(cpdag) == 4
    assert "a" in cpdag


def test_the_picture_has_an_arrow_only_where_the_direction_is_known():
    axes = CPDAG(("a", "b", "c"), (("a", "b"),), (("b", "c"),)).plot()
    assert {text.get_text() for text in axes.texts} >= {"a", "b", "c"}
    heads = [text for text in axes.texts if getattr(text, "arrow_patch", None) is not None]
    assert len(heads) == 1
    plt.close(axes.figure)


def test_a_graph_that_is_no_class_says_so():
    square = CPDAG(tuple("abcd"), (), tuple(pairwise("abcda")))
    for ask in (square.consistent_extension, lambda: list(square.to_dags())):
        with pytest.raises(ValueError, match="no class of DAGs"):
            ask()


@pytest.mark.parametrize(
    ("directed", "undirected", "message"),
    [
        ((("a", "b"), ("b", "c"), ("c", "a")), (), "cycle"),
        ((("a", "b"),), (("b", "a"),), "joined by an arrow and by an undirected edge"),
        ((), (("a", "b"), ("b", "a")), "given twice"),
        ((), (("a", "x"),), "unknown node 'x'"),
        ((), (("a", "a"),), "self-loop"),
    ],
)
def test_bad_edges_are_refused(directed, undirected, message):
    with pytest.raises(ValueError, match=message):
        CPDAG(("a", "b", "c"), directed, undirected)


def test_an_unknown_node_is_named():
    with pytest.raises(ValueError, match="unknown node 'z'"):
        CPDAG.from_dag(CausalGraph.chain(2)).parents("z")


def test_copies_are_whole():
    found = pc(DSeparation(CausalGraph.chain(3)))
    copied = deepcopy(found)
    assert copied == found
    assert copied.separations == found.separations


def test_a_matrix_of_the_wrong_shape_is_refused():
    with pytest.raises(ValueError, match=r"shape \(2, 2\) for 3 nodes"):
        CPDAG.from_adjacency(np.zeros((2, 2)), ["a", "b", "c"])
