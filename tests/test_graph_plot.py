"""The picture of a causal graph."""

from __future__ import annotations

import numpy as np
from hypothesis import given

from graph_strategies import graphs
from latentcause.graph import CausalGraph
from latentcause.graph_plot import layout


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
