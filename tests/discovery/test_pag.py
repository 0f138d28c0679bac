"""PAG: marks, kin, text, picture; bad input."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentcause.discovery.cpdag import Separation
from latentcause.discovery.pag import MARKS, PAG

TEXTBOOK = PAG(
    ("x", "y", "z", "w", "lone"),
    [
        ("x", "circle", "arrow", "z"),
        ("z", "arrow", "arrow", "y"),
        ("w", "arrow", "tail", "z"),
        ("x", "circle", "circle", "y"),
    ],
)


@st.composite
def pags(draw: st.DrawFn) -> PAG:
    nodes = tuple("abcdef"[: draw(st.integers(1, 6))])
    edges = [
        (a, *marks, b)
        for i, a in enumerate(nodes)
        for b in nodes[i + 1 :]
        if (marks := draw(st.sampled_from([None, *product(MARKS, repeat=2)]))) is not None
    ]
    return PAG(nodes, edges)


def test_marks_are_read_at_the_second_name() -> None:
    assert TEXTBOOK.mark("x", "z") == "arrow"
    assert TEXTBOOK.mark("z", "x") == "circle"
    assert TEXTBOOK.mark("w", "z") == "tail"
    assert TEXTBOOK.mark("z", "w") == "arrow"
    assert TEXTBOOK.mark("x", "w") is None
    assert TEXTBOOK.adjacent("z") == ("x", "y", "w")
    assert TEXTBOOK.adjacent("lone") == ()
    assert TEXTBOOK.skeleton == {frozenset(pair) for pair in ("xz", "zy", "zw", "xy")}
    assert TEXTBOOK.confounded == (("y", "z"),)
    assert len(TEXTBOOK) == 5
    assert "w" in TEXTBOOK
    assert "q" not in TEXTBOOK


def test_causes_follow_marks() -> None:
    assert TEXTBOOK.definite_causes("w") == ("z",)
    assert TEXTBOOK.possible_causes("w") == ("x", "y", "z")  # y o-o x o-> z -> w
    assert TEXTBOOK.definite_causes("z") == ()
    assert TEXTBOOK.possible_causes("lone") == ()


def test_text_writes_every_kind_of_edge_from_its_tail() -> None:
    assert str(TEXTBOOK) == "x o-o y; x o-> z; y <-> z; z -> w; lone"
    assert str(PAG(("a", "b"), [("a", "circle", "tail", "b")])) == "b -o a"
    assert str(PAG(("a", "b"), [("a", "tail", "tail", "b")])) == "a - b"
    assert str(PAG(("a", "b"), [("a", "arrow", "circle", "b")])) == "b o-> a"
    assert repr(PAG(("a",))) == "PAG(a)"


def test_dot_has_the_mark_of_each_end() -> None:
    dot = TEXTBOOK.to_dot()
    assert '"x" -> "z" [dir=both, arrowtail=odot, arrowhead=normal];' in dot
    assert '"z" -> "w" [dir=both, arrowtail=none, arrowhead=normal];' in dot
    assert dot.count("->") == 4
    assert '  "lone";' in dot


def test_picture_shows_nodes_and_marks() -> None:
    ax = TEXTBOOK.plot(highlight=["x"])
    assert [text.get_text() for text in ax.texts if text.get_text()] == list(TEXTBOOK.nodes)
    assert sum(not text.get_text() for text in ax.texts) == 7  # eight ends less the tail
    ax.figure.canvas.draw()


@given(pags(), st.data())
def test_equality_does_not_depend_on_how_edges_are_written(pag: PAG, data: st.DataObject) -> None:
    turned = [edge if data.draw(st.booleans()) else edge[::-1] for edge in pag.edges]
    twin = PAG(pag.nodes, data.draw(st.permutations(turned)), {frozenset("ab"): Separation((), 0.5)})
    assert twin == pag
    assert copy.deepcopy(twin) == pag == pickle.loads(pickle.dumps(twin))
    assert copy.deepcopy(twin).separations == twin.separations
    assert twin.separations[frozenset("ab")].p_value == 0.5
    for a, at_a, at_b, b in pag.edges:
        assert (pag.mark(b, a), pag.mark(a, b)) == (at_a, at_b)


@given(pags())
def test_definite_causes_are_possible_causes(pag: PAG) -> None:
    for node in pag.nodes:
        assert set(pag.definite_causes(node)) <= set(pag.possible_causes(node)) <= set(pag.nodes) - {node}


def test_a_pag_cannot_be_changed() -> None:
    with pytest.raises(AttributeError, match="edges"):
        TEXTBOOK.edges = ()  # type: ignore[misc]
    with pytest.raises(TypeError, match="item assignment"):
        TEXTBOOK.separations[frozenset("xw")] = Separation((), 1.0)  # type: ignore[index]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PAG(("a", "a")), "node 'a' is given twice"),
        (lambda: PAG(("a", "b"), [("a", "b")]), "('a', 'b') is no edge: give (a, mark at a, mark at b, b)"),
        (lambda: PAG(("a", "b"), [("a", "tail", "arrow", "c")]), "unknown node 'c'"),
        (lambda: PAG(("a", "b"), [("a", "tail", "arrow", "a")]), "joins a node to itself"),
        (lambda: PAG(("a", "b"), [("a", "tail", "head", "b")]), "the mark 'head': marks are tail, arrow, circle"),
        (
            lambda: PAG(("a", "b"), [("a", "tail", "arrow", "b"), ("b", "tail", "arrow", "a")]),
            "a and b are joined by two edges",
        ),
        (lambda: TEXTBOOK.mark("x", "q"), "unknown node 'q': the graph has x, y, z, w, lone"),
        (lambda: TEXTBOOK.plot(highlight=["q"]), "unknown node 'q'"),
    ],
)
def test_bad_input_is_refused_by_name(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError) as error:
        make()
    assert message in str(error.value)
