"""The pictures show what they are given."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from latentcause import pair_plots
from latentcause.graph import CausalGraph


def test_moves_has_a_panel_a_latent_and_parts_its_own_pairs_from_the_others() -> None:
    moved = pd.DataFrame({"z0": [2.0, 0.01, 0.0, -2.0], "z1": [0.01, 1.0, 0.0, 1.0]})
    figure = pair_plots.moves(moved, ["z0", "z1", "none", "z0;z1"])
    assert [ax.get_title() for ax in figure.axes] == ["z0", "z1"]
    others, own = figure.axes[0].patches
    for patch, values in ((others, [0.01, 2e-6]), (own, [2.0, 2.0])):
        counts, edges, _ = patch.get_data()
        expected = np.histogram(values, bins=edges)[0]
        assert expected.sum() == 2
        np.testing.assert_array_equal(counts, expected / expected.max())


def test_moves_refuses_targets_of_other_pairs() -> None:
    with pytest.raises(ValueError, match="1 targets for 2 pairs"):
        pair_plots.moves(pd.DataFrame({"z0": [1.0, 2.0]}), ["z0"])


def test_weighted_graph_writes_each_weight_beside_its_edge() -> None:
    graph = CausalGraph.from_string("a -> b; b -> c; a -> c")
    ax = pair_plots.weighted_graph(graph, {("a", "b"): -0.5, ("b", "c"): 1.25})
    places = {text.get_text(): np.array(text.get_position()) for text in ax.texts if text.get_text()}
    nodes = [places[name] for name in graph.nodes]
    assert set(places) == {*graph.nodes, "-0.5", "1.2"}
    for label, (start, end) in {"-0.5": (0, 1), "1.2": (1, 2)}.items():
        share = (places[label] - nodes[start]) @ (nodes[end] - nodes[start]) / ((nodes[end] - nodes[start]) ** 2).sum()
        assert 0.2 < share < 0.6
    with pytest.raises(ValueError, match="no edge c -> a"):
        pair_plots.weighted_graph(graph, {("c", "a"): 1.0})
