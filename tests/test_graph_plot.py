"""The picture of a causal graph."""

from __future__ import annotations

import numpy as np
from hypothesis import given

from graph_strategies import graphs
from latentcause.graph import CausalGraph
from latentcause.graph_plot import HEADS, draw_mixed, layout


@given(graphs())
def test_layout_runs_left_to_right_and_nothing_overlaps(graph: CausalGraph) -> None:
    places, routes = layout(graph)
    assert tuple(places) == graph.nodes
    for (cause, effect), route in routes.items():
        assert route[0] == places[cause]
        assert route[-1] == places[effect]
        assert [x for x, _ in route] == list(np.arange(places[cause][0], places[effect][0] + 1))
    stops = [*places.values(), *(point for route in routes.values() for point in route[1:-1])]
    assert len(set(stops)) == len(stops)


def test_plot_shows_every_node_and_edge() -> None:
    graph = CausalGraph.from_string("a -> b -> c; a -> c; d")
    ax = graph.plot()
    texts = [text for text in ax.texts if text.get_text()]
    assert [text.get_text() for text in texts] == ["a", "b", "c", "d"]
    assert len(ax.texts) - len(texts) == 3  # one arrow an edge
    ax.figure.canvas.draw()
    assert CausalGraph.from_string("$x").plot(ax) is ax


MIXED = [
    ("a", "tail", "arrow", "b"),
    ("c", "circle", "circle", "b"),
    ("c", "arrow", "arrow", "d"),
    ("e", "tail", "tail", "a"),
]


def test_mixed_edges_show_one_mark_an_end() -> None:
    ax = draw_mixed(("a", "b", "c", "d", "e"), MIXED, highlight=("a",))
    heads = [text.arrow_patch.get_arrowstyle() for text in ax.texts if not text.get_text()]
    rings = [head for head in heads if head is HEADS["circle"]["arrowstyle"]]
    assert len(heads) == 5  # b; c and b; c and d
    assert len(rings) == 2
    ax.figure.canvas.draw()
    xs = {text.get_text(): text.get_position()[0] for text in ax.texts if text.get_text()}
    assert xs["a"] < xs["b"]


def test_a_mixed_edge_keeps_its_marks_at_their_ends_whichever_way_it_is_laid_out() -> None:
    for edge in (("a", "tail", "circle", "b"), ("b", "circle", "tail", "a")):
        ax = draw_mixed(("a", "b"), [edge])
        place = {text.get_text(): text.get_position() for text in ax.texts if text.get_text()}
        (ring,) = [text for text in ax.texts if not text.get_text()]
        assert ring.xy == place["b"]


def test_directed_edges_in_a_cycle_are_drawn_on_a_circle() -> None:
    cycle = [("a", "tail", "arrow", "b"), ("b", "tail", "arrow", "c"), ("c", "tail", "arrow", "a")]
    ax = draw_mixed(("a", "b", "c"), cycle)
    places = np.array([text.get_position() for text in ax.texts if text.get_text()])
    assert np.allclose(np.linalg.norm(places, axis=1), np.linalg.norm(places[0]))
    assert np.allclose(np.linalg.norm(places[0] - places[1]), 1)
    assert len(ax.texts) == 6
    ax.figure.canvas.draw()
