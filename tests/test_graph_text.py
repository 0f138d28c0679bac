"""The one-line string, DOT and CSV: there and back, what other programs write, and bad text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given

from graph_strategies import ANY_NAME, graphs
from latentcause.graph import CausalGraph


@pytest.mark.parametrize("suffix", [".csv", ".dot", ".gv", ".txt", ".CSV"])
def test_files_keep_the_graph_and_leave_nothing_beside_it(suffix: str, tmp_path: Path) -> None:
    @given(graphs(ANY_NAME))
    def check(graph: CausalGraph) -> None:
        path = tmp_path / f"graph{suffix}"
        graph.to_file(path)
        assert CausalGraph.from_file(path) == graph
        assert list(tmp_path.iterdir()) == [path]

    check()


def test_string_form_is_short_and_names_a_lone_node_only_where_needed() -> None:
    assert str(CausalGraph.chain(3)) == "z1 -> z2; z2 -> z3"
    assert str(CausalGraph(("a", "b", "c", "d"), (("a", "c"), ("b", "c")))) == "a; b; a -> c; b -> c; d"
    assert repr(CausalGraph.chain(2)) == "CausalGraph.from_string('z1 -> z2')"


def test_string_form_reads_chains_lines_and_quotes() -> None:
    graph = CausalGraph.from_string(' a->b -> "c; \\"d\\"" ;;\n p-ERK total -> b\n')
    assert graph.nodes == ("a", "b", 'c; "d"', "p-ERK total")
    assert graph.edges == (("a", "b"), ("b", 'c; "d"'), ("p-ERK total", "b"))


def test_dot_reads_what_other_programs_write() -> None:
    text = """
    // drawn by hand
    # a preprocessor line
    strict digraph "my graph" {
      rankdir=LR; node [shape=circle, color="#aa0000"]; edge [weight=.5] graph [label="a -> b"]
      a [label="the {first}" pos="1,2!"];
      a -> b -> "quoted \\"name\\"" [w=1][h=-2.5]
      a -> b; /* twice is once in a strict graph */
      subgraph cluster_0 { label=x; c; d }
      {c d} -> {e; f:port:n}
      7 -> edge_case
    }
    """
    graph = CausalGraph.from_dot(text)
    assert graph.nodes == ("a", "b", 'quoted "name"', "c", "d", "e", "f", "7", "edge_case")
    expected = "a>b b>q c>e c>f d>e d>f 7>edge_case".replace("q", 'quoted_"name"').split()
    assert {f"{cause}>{effect}".replace(" ", "_") for cause, effect in graph.edges} == set(expected)


def test_dot_is_read_from_a_path_given_as_text(tmp_path: Path) -> None:
    path = tmp_path / "graph.dot"
    path.write_text("digraph { a -> b }")
    assert CausalGraph.from_dot(str(path)) == CausalGraph.from_dot(path) == CausalGraph.from_string("a -> b")


def test_csv_finds_its_columns_among_others(tmp_path: Path) -> None:
    path = tmp_path / "edges.csv"
    path.write_text("\ufeffeffect, strength, cause\nb, 0.3, a\n\n, , c\n", encoding="utf-8")
    assert CausalGraph.from_csv(path) == CausalGraph(("a", "b", "c"), (("a", "b"),))


def test_published_protein_network_is_read(shared_data: Callable[[str], Path]) -> None:
    graph = CausalGraph.from_file(shared_data("sachs/edges.csv"))
    assert len(graph) == 11
    assert len(graph.edges) == 17
    assert graph.parents("Erk") == ("PKA", "Mek")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a -> b -> c -> a", "cycle: a -> b -> c -> a"),
        ("x -> a; a -> b; b -> a", "cycle: a -> b -> a"),
        ("a -> a", "self-loop a -> a"),
        ("a -> b; a -> b", "edge a -> b is given twice"),
        ("a <- b", "'a <- b' as one node"),
        ("a -- b", "'a -- b' as one node"),
        ("a, b -> c", "'a, b' as one node"),
        ("a ->", "'a ->'"),
        ("-> a", "'-> a'"),
        ("a -> -> b", "'a -> -> b'"),
        ('a "b"', "'a \"b\"'"),
        ('a; "b -> c', "'\"b -> c' as a graph: a double quote"),
        ('"" -> a', "'' is no name"),
        (" ; ", "at least one node"),
    ],
)
def test_bad_strings_are_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError) as error:
        CausalGraph.from_string(text)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("graph { a -- b }", "line 1, at 'graph': a directed graph starts with 'digraph'"),
        ("digraph {\n a -- b }", "line 2, at '--': a name is missing; '--' joins an undirected edge"),
        ("digraph { a -> }", "at '}': a name is missing"),
        ("digraph { a -> b", "at its end: a name is missing"),
        ("digraph { a [label=<b>] }", "HTML labels are not read"),
        ("digraph { a [label=] }", "at ']': a name is missing"),
        ("digraph { a -> b } c", "at 'c': nothing may follow"),
        ("digraph { a -> b! }", "at '! }': no such sign"),
        ("digraph x y { a }", "at 'y': '{' is missing"),
        ("digraph { a -> b; a -> b }", "edge a -> b is given twice"),
        ("digraph { {a b} -> {b c} }", "self-loop b -> b"),
        ("digraph { a -> b -> a }", "cycle: a -> b -> a"),
    ],
)
def test_bad_dot_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError) as error:
        CausalGraph.from_dot(text)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'cause' is not in []"),
        ("from,to\na,b\n", "'cause' is not in ['from', 'to']"),
        ("cause,effect\na,b,c\n", "line 2 has 3 cells, the header 2: 'a,b,c'"),
        ("cause,effect\n,b\n", "line 2 has no cause"),
        ("cause,effect\na,b\na,b\n", "edge a -> b is given twice"),
        ("cause,effect\n", "at least one node"),
    ],
)
def test_bad_csv_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "edges.csv"
    path.write_text(text)
    with pytest.raises(ValueError) as error:
        CausalGraph.from_csv(path)
    assert message in str(error.value)


def test_failed_write_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "graph.csv").mkdir()
    with pytest.raises(OSError):
        CausalGraph.chain(2).to_csv(tmp_path / "graph.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["graph.csv"]
