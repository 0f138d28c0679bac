"""The pictures show what they are given, on the axes that they are given."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_hex

from latentcause import plots
from latentcause.data import MultiDomainData
from latentcause.graph import CausalGraph
from latentcause.scm import FunctionMechanism, LinearMechanism, StructuralCausalModel

GRAPH = CausalGraph.from_string("a -> c; b -> c")
NODES = GRAPH.nodes


@pytest.fixture
def data() -> MultiDomainData:
    x = np.random.default_rng(0).normal(size=(60, 4))
    return MultiDomainData(x, np.repeat(["plain", "hit"], 30), {"plain": [], "hit": ["b"]})


@pytest.fixture
def scm() -> StructuralCausalModel:
    root = LinearMechanism((), 0.0, 1.0)
    return StructuralCausalModel(GRAPH, {"a": root, "b": root, "c": LinearMechanism((2.0, 10.0), 1.0, 4.0)})


def test_graph_colours_targeted_nodes_only() -> None:
    def fills(targets: object) -> list[str]:
        return [to_hex(circle.get_facecolor()[0]) for circle in plots.graph(GRAPH, targets).collections]

    plain = fills(())
    assert len(set(plain)) == 1
    from_domains, from_nodes = fills({"d1": ("b",), "d2": ()}), fills(["b"])
    assert from_domains == from_nodes
    assert [now != before for now, before in zip(from_domains, plain, strict=True)] == [n == "b" for n in NODES]
    with pytest.raises(ValueError, match="unknown node 'q'"):
        plots.graph(GRAPH, ["q"])


def test_latents_by_domain_has_a_panel_a_node_and_a_row_a_domain(data: MultiDomainData) -> None:
    latents = np.random.default_rng(1).normal(size=(60, 3))
    figure = plots.latents_by_domain(latents, data, GRAPH, np.full((60, 3), 0.04), unidentified=["c"])
    shown = [ax for ax in figure.axes if ax.get_visible()]
    assert [ax.get_title() for ax in shown] == ["a", "c (not identified)", "b"]
    assert [tick.get_text() for tick in shown[0].get_yticklabels()] == ["plain", "hit"]
    colours = [[to_hex(patch.get_facecolor()) for patch in ax.patches] for ax in shown]
    assert colours == [[plots.BASE] * 2, [plots.BASE] * 2, [plots.BASE, plots.TARGETED]]
    heights = shown[0].patches[0].get_data().values
    assert heights.max() == pytest.approx(0.85)  # domain 0 stands on 0, at its fullest bin 0.85 high
    figure.canvas.draw()
    with pytest.raises(ValueError, match=r"latents has shape \(60, 2\), where \(60, 3\)"):
        plots.latents_by_domain(latents[:, :2], data, GRAPH)


def test_recovery_shows_the_same_samples_true_and_recovered() -> None:
    truth = np.random.default_rng(2).normal(size=(50, 3))
    figure = plots.recovery(2 * truth, truth, NODES, np.full((50, 3), 0.1), points=20, seed=3)
    for j, ax in enumerate(figure.axes):
        points = np.asarray(ax.collections[-1].get_offsets())
        assert len(points) == 20
        np.testing.assert_allclose(points[:, 1], 2 * points[:, 0])
        assert set(points[:, 0]) <= set(truth[:, j])
        assert ax.get_title() == f"{NODES[j]}: r = 1.000"


def test_loadings_are_shown_as_they_are_on_a_symmetric_scale() -> None:
    matrix = np.arange(12.0).reshape(4, 3) - 3
    ax = plots.loadings(matrix, NODES, ["w", "x", "y", "z"])
    (image,) = ax.images
    np.testing.assert_array_equal(image.get_array(), matrix.T)
    assert image.get_clim() == (-8.0, 8.0)
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["w", "x", "y", "z"]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == list(NODES)
    with pytest.raises(ValueError, match=r"loadings has shape \(4, 2\)"):
        plots.loadings(matrix[:, :2], NODES)


def test_history_draws_the_quantity_asked_for() -> None:
    entries = [{"epoch": 1, "held_out_elbo": 3.0, "noise": 0.5}, {"epoch": 2, "held_out_elbo": 2.0, "noise": 0.4}]
    ax = plots.history(entries)
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), [3.0, 2.0])
    assert ax.get_ylabel() == "held out elbo"
    assert plots.history(entries, "noise", ax) is ax
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), [0.5, 0.4])
    with pytest.raises(ValueError, match="holds no 'loss': choose one of"):
        plots.history(entries, "loss")
    with pytest.raises(ValueError, match="no history"):
        plots.history([])


def test_mechanism_draws_mean_and_noise_at_the_median_of_the_other_parents(scm: StructuralCausalModel) -> None:
    latents = np.random.default_rng(4).uniform(-1, 3, size=(4001, 3))
    middle = np.median(latents[:, NODES.index("b")])
    truth = FunctionMechanism(lambda parents: parents[..., 0].square())
    ax = plots.mechanism(scm, "c", "a", latents, LinearMechanism((), 7.0, 1.0), truth)
    base, intervened, true = ax.lines
    x = base.get_xdata()
    np.testing.assert_allclose(base.get_ydata(), 1 + 2 * x + 10 * middle)
    np.testing.assert_allclose(intervened.get_ydata(), 7.0)
    np.testing.assert_allclose(true.get_ydata(), x**2)
    band = ax.collections[0].get_paths()[0].get_extents()
    assert band.y0 == pytest.approx(base.get_ydata().min() - 2)  # one standard deviation
    low, high = np.quantile(latents[:, NODES.index("a")], [0.005, 0.995])
    assert x.min() < low < high < x.max()
    assert (
        ax.patches[0].get_extents().width
        < ax.transData.transform((x.max(), 0))[0] - ax.transData.transform((x.min(), 0))[0]
    )
    with pytest.raises(ValueError, match="'b' is not a parent of 'a'"):
        plots.mechanism(scm, "a", "b", latents)


def test_mechanisms_has_a_panel_an_edge(scm: StructuralCausalModel) -> None:
    latents = np.random.default_rng(5).normal(size=(50, 3))
    figure = plots.mechanisms(scm, {}, latents, truth=scm)
    assert [(ax.get_xlabel(), ax.get_ylabel()) for ax in figure.axes] == list(GRAPH.edges)
    lonely = StructuralCausalModel(CausalGraph.chain(1), {"z1": LinearMechanism()})
    with pytest.raises(ValueError, match="no edges"):
        plots.mechanisms(lonely, {}, latents[:, :1])


def test_comparison_shows_medians_quartiles_and_the_limit() -> None:
    ax = plots.comparison({"good": [1.0, 2.0, 9.0], "bad": [5.0, 5.0, 5.0]}, limit=0.5)
    assert [bar.get_width() for bar in ax.patches] == [2.0, 5.0]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["good", "bad"]
    (whiskers,) = [c for c in ax.collections if hasattr(c, "get_segments")]
    np.testing.assert_allclose(whiskers.get_segments()[0][:, 0], [1.5, 5.5])
    assert any(list(line.get_xdata()) == [0.5, 0.5] for line in ax.lines)


def test_scaling_shows_the_median_of_the_runs_that_there_are() -> None:
    runs = np.array([[1.0, 4.0], [2.0, np.nan], [9.0, 6.0]])
    ax = plots.scaling([10, 20], {"method": runs}, "samples")
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [2.0, 5.0])
    assert ax.get_xlabel() == "samples"
    log = plots.scaling([10, 20], {"method": runs}, "samples", logarithmic="xy")
    assert (log.get_xscale(), log.get_yscale(), ax.get_xscale()) == ("log", "log", "linear")
    assert [tick.get_text() for tick in log.get_xticklabels()] == ["10", "20"]
    with pytest.raises(ValueError, match="has shape"):
        plots.scaling([10], {"method": runs}, "samples")
