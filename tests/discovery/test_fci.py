"""FCI: against the true PAG by brute force, on known examples, on data, with knowledge; bad input."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ancestral_oracle import true_pag
from latentcause.discovery import PAG, BackgroundKnowledge, DSeparation, FisherZ, IndependenceTest, fci
from latentcause.discovery.skeleton import find_skeleton
from latentcause.graph import CausalGraph


@st.composite
def hidden_graphs(draw: st.DrawFn, measured: int = 4, hidden: int = 2) -> tuple[CausalGraph, set[str]]:
    """A graph over some measured and hidden nodes in any order."""
    latent = {f"h{i}" for i in range(draw(st.integers(0, hidden)))}
    nodes = (*"abcdefgh"[: draw(st.integers(2, measured))], *sorted(latent))
    order = draw(st.permutations(nodes))
    return CausalGraph(nodes, tuple(edge for edge in combinations(order, 2) if draw(st.booleans()))), latent


def oracle(text: str) -> DSeparation:
    """The graph of a text; nodes whose names start with h are hidden."""
    graph = CausalGraph.from_string(text)
    return DSeparation(graph, latent=[node for node in graph.nodes if node.startswith("h")])


def linear_data(graph: CausalGraph, n: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    d = len(graph)
    weights = graph.adjacency * rng.uniform(0.6, 1.2, (d, d)) * rng.choice([-1, 1], (d, d))
    values = rng.standard_normal((n, d)) @ np.linalg.inv(np.eye(d) - weights)
    return pd.DataFrame(values, columns=list(graph.nodes))


def unsound_marks(pag: PAG, graph: CausalGraph) -> list[str]:
    """Tails at nodes that are no ancestors, and arrowheads at ancestors."""
    found = []
    for a, at_a, at_b, b in pag.edges:
        for end, mark, other in ((a, at_a, b), (b, at_b, a)):
            if (mark == "tail") > (end in graph.ancestors(other)) or (mark == "arrow") > (
                end not in graph.ancestors(other)
            ):
                found.append(f"{mark} at {end} of {end}, {other}")
    return found


# --- with the oracle -------------------------------------------------------------------------------------------------


@given(hidden_graphs())
@settings(max_examples=100)
def test_oracle_gives_the_true_pag(problem: tuple[CausalGraph, set[str]]) -> None:
    graph, latent = problem
    found = fci(DSeparation(graph, latent))
    assert found == true_pag(graph, latent)
    assert not found.conflicts


@pytest.mark.parametrize("seed", range(6))
def test_oracle_gives_the_true_pag_of_five_measured_nodes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    order = rng.permutation(7)
    matrix = np.triu(rng.random((7, 7)) < 0.4, 1).astype(int)[np.ix_(order, order)]
    graph = CausalGraph.from_adjacency(matrix, list("abcdefg"))
    assert fci(DSeparation(graph, "fg")) == true_pag(graph, {"f", "g"})


@given(hidden_graphs(measured=8, hidden=3), st.data())
def test_marks_of_larger_graphs_are_sound_and_do_not_depend_on_the_order(
    problem: tuple[CausalGraph, set[str]], data: st.DataObject
) -> None:
    graph, latent = problem
    found = fci(DSeparation(graph, latent))
    assert not unsound_marks(found, graph)
    assert not found.conflicts
    for ends, separation in found.separations.items():
        assert graph.d_separated(*sorted(ends), separation.given)
    shuffled = CausalGraph(tuple(data.draw(st.permutations(graph.nodes))), graph.edges)
    again = fci(DSeparation(shuffled, latent))
    assert PAG(found.nodes, again.edges) == found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x -> y", "x o-o y"),
        ("x -> z; y -> z; z -> w", "x o-> z; y o-> z; z -> w"),
        ("h1 -> x; h1 -> y", "x o-o y"),  # nothing tells a hidden cause from an arrow between two
        ("u -> x; v -> y; h -> x; h -> y", "u o-> x; x <-> y; v o-> y"),  # the textbook latent confounder
        ("u -> x; x -> y; h -> x; h -> y", "u o-o x; u o-o y; x o-o y"),  # u, x, h, y: an inducing path
        ("a -> b; c -> b; b -> d; c -> e; d -> e; h -> b; h -> d", None),
    ],
)
def test_small_examples(text: str, expected: str | None) -> None:
    test = oracle(text)
    found = fci(test)
    assert found == true_pag(test.graph, {node for node in test.graph.nodes if node.startswith("h")})
    assert expected is None or set(str(found).split("; ")) == set(expected.split("; "))


def test_a_discriminating_path_orients_its_end() -> None:
    """Rule 4: b is discriminated by (d, a, b, c); with a -> c, b -> c as chain, and with b <-> c as collider."""
    chain = fci(oracle("d -> a; h1 -> a; h1 -> b; a -> c; b -> c"))
    assert (chain.mark("b", "c"), chain.mark("c", "b")) == ("arrow", "tail")
    collider = fci(oracle("d -> a; h1 -> a; h1 -> b; a -> c; h2 -> b; h2 -> c"))
    assert (collider.mark("b", "c"), collider.mark("c", "b")) == ("arrow", "arrow")


def test_conditions_beyond_the_neighbours_are_asked() -> None:
    test = oracle("f -> c; e -> c; a -> b -> d; h0 -> a; h0 -> f; h1 -> c; h1 -> e; h2 -> d; h2 -> f; h3 -> b; h3 -> c")
    skeleton = find_skeleton(test, 0.5)
    c, d = (test.nodes.index(name) for name in "cd")
    assert skeleton.adjacent[c, d]
    found = fci(test)
    assert found.mark("c", "d") is None
    assert found.separations[frozenset("cd")].given == ("f", "a", "b")
    assert not unsound_marks(found, test.graph)
    assert fci(test, max_given=2).mark("c", "d") is not None


# --- with data -------------------------------------------------------------------------------------------------------


def test_data_show_the_latent_confounder() -> None:
    graph = CausalGraph.from_string("u -> x; v -> y; h -> x; h -> y")
    for seed in range(5):
        found = fci(linear_data(graph, 20_000, seed)[["u", "v", "x", "y"]], alpha=0.001)
        assert str(found) == "u o-> x; v o-> y; x <-> y"
        assert found.confounded == (("x", "y"),)


def test_removed_edges_have_their_separation_and_others_their_p_value() -> None:
    graph = CausalGraph.from_string("u -> x; v -> y; h -> x; h -> y; y -> w")
    data = linear_data(graph, 2000, seed=1).drop(columns="h")
    found = fci(data, alpha=0.01)
    test = FisherZ(data)
    assert len(found.separations) + len(found.edges) == 10
    for ends, separation in found.separations.items():
        assert separation.p_value > 0.01
        assert separation.p_value == pytest.approx(test.p_value(*sorted(ends), separation.given), abs=1e-12)
    for ends in found.skeleton:
        assert found.p_values[ends] <= 0.01


def test_the_order_of_columns_plays_no_part() -> None:
    rng = np.random.default_rng(0)
    order = rng.permutation(9)
    matrix = np.triu(rng.random((9, 9)) < 0.35, 1).astype(int)[np.ix_(order, order)]
    data = linear_data(CausalGraph.from_adjacency(matrix), 300, seed=0).drop(columns=["z3", "z6"])
    first = fci(data, alpha=0.05)
    for _ in range(10):
        again = fci(data[rng.permutation(data.columns)], alpha=0.05)
        assert PAG(first.nodes, again.edges) == first
        assert again.separations == first.separations


class Hearsay(IndependenceTest):
    """p-value 1 for what is said, with any condition that is said for the pair."""

    def __init__(self, nodes: str, said: dict[str, str]) -> None:
        self.nodes = tuple(nodes)
        self.said = {frozenset(pair): set(given) for pair, given in said.items()}

    def p_values(self, x: np.ndarray, y: np.ndarray, given: np.ndarray) -> np.ndarray:
        names = np.array(self.nodes)
        asked = [(frozenset((names[i], names[j])), set(names[s])) for i, j, s in zip(x, y, given, strict=True)]
        return np.array([float(self.said.get(pair) == condition) for pair, condition in asked])


def test_contradicting_tests_are_told_and_keep_circles() -> None:
    """a -> b <- x and d -> c <- y, but neither b nor c a collider on b - c: rule 1 would turn that edge both ways."""
    found = fci(
        Hearsay(
            "axbcdy",
            {"ax": "", "dy": "", "ac": "b", "xc": "b", "bd": "c", "by": "c"}
            | dict.fromkeys(("ad", "ay", "xd", "xy"), ""),
        )
    )
    assert str(found) == "a o-> b; x o-> b; b o-o c; d o-> c; y o-> c"
    assert found.conflicts == ("the edge between b and c keeps its circles: the rules contradict each other there",)


# --- with knowledge --------------------------------------------------------------------------------------------------


def test_knowledge_speaks_of_causes() -> None:
    test = oracle("x -> y")
    assert str(fci(test, knowledge=BackgroundKnowledge(tiers=[["x"], ["y"]]))) == "x o-> y"
    assert str(fci(test, knowledge=BackgroundKnowledge(forbidden=[("x", "y")]))) == "y o-> x"
    assert str(fci(test, knowledge=BackgroundKnowledge(required=[("x", "y")]))) == "x -> y"
    assert str(fci(test, knowledge=BackgroundKnowledge(forbidden=[("x", "y"), ("y", "x")]))) == "x <-> y"
    independent = oracle("x; y")
    assert str(fci(independent, knowledge=BackgroundKnowledge(forbidden=[("x", "y")]))) == "x; y"
    assert str(fci(independent, knowledge=BackgroundKnowledge(required=[("x", "y")]))) == "x -> y"


@given(hidden_graphs(measured=6), st.data())
def test_true_knowledge_adds_only_true_marks(problem: tuple[CausalGraph, set[str]], data: st.DataObject) -> None:
    graph, latent = problem
    measured = [node for node in graph.topological_order if node not in latent]
    cut = data.draw(st.integers(0, len(measured)))
    test = DSeparation(graph, latent)
    without = fci(test)
    found = fci(test, knowledge=BackgroundKnowledge(tiers=[measured[:cut], measured[cut:]]))
    assert found.skeleton == without.skeleton
    assert not unsound_marks(found, graph)
    assert not found.conflicts
    for a, at_a, at_b, b in without.edges:
        assert at_a in ("circle", found.mark(b, a))
        assert at_b in ("circle", found.mark(a, b))


def test_a_collider_against_knowledge_is_dropped_and_told() -> None:
    found = fci(oracle("x -> z; y -> z"), knowledge=BackgroundKnowledge(required=[("z", "x")]))
    assert found.mark("x", "z") == "tail"
    assert found.conflicts == ("x *-> z <-* y was dropped: it contradicts background knowledge",)


# --- bad input -------------------------------------------------------------------------------------------------------

GOOD = np.random.default_rng(0).standard_normal((50, 3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fci(GOOD, alpha=0), "alpha is 0: give a level between 0 and 1"),
        (lambda: fci(GOOD, max_given=-1), "max_given is -1"),
        (lambda: fci(GOOD * [1, 0, 1]), "column 'x1' is constant"),
        (lambda: fci(GOOD[:2]), "2 rows for 3 columns"),
        (lambda: fci(np.where(GOOD > 2, np.nan, GOOD)), "x"),
        (lambda: fci(GOOD, knowledge=BackgroundKnowledge(required=[("x0", "q")])), "names 'q', which the data lack"),
    ],
)
def test_bad_input_is_refused_by_name(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError) as error:
        call()
    assert message in str(error.value)
