"""Pictures of posteriors show the numbers they are made of."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr

from latentcause.metrics import coverage, reliability
from latentcause.posterior_plots import calibration, maps, profiles, reliability_diagram
from latentcause.posteriors import summarise


def drawn(shape: tuple[int, ...] = (6, 8), crs: str | None = None) -> xr.Dataset:
    rng = np.random.default_rng(0)
    dims = ("y", "x")[-len(shape) :]
    coords = {dim: np.arange(size)[:: -1 if dim == "y" else 1] * 10 + 5 for dim, size in zip(dims, shape, strict=True)}
    variables = {node: (("sample", *dims), rng.standard_normal((20, *shape)) + i) for i, node in enumerate("ab")}
    return xr.Dataset(variables, {"sample": np.arange(20), **coords}, attrs={} if crs is None else {"crs": crs})


def test_maps_show_each_kind_of_each_node_in_place() -> None:
    summary = summarise(drawn(), thresholds={"b": 1.0})
    truth = {"a": np.full((6, 8), 5.0)}
    figure = maps(summary, truth)
    shown = {ax.get_title(): ax.images[0] for ax in figure.axes if ax.images and ax.get_title()}
    assert set(shown) == {
        "a: truth",
        "a: mean",
        "a: standard deviation",
        "b: mean",
        "b: standard deviation",
        "b: chance above threshold",
    }
    np.testing.assert_array_equal(shown["b: chance above threshold"].get_array(), summary["b_exceedance"])
    assert shown["b: chance above threshold"].get_clim() == (0, 1)
    assert shown["a: truth"].get_clim() == shown["a: mean"].get_clim()
    assert shown["a: mean"].get_clim()[1] == 5
    assert shown["a: mean"].get_extent() == [0, 80, 0, 60]


def test_maps_in_degrees_are_as_wide_as_they_are_there() -> None:
    pytest.importorskip("rasterio")
    summary = summarise(drawn(crs="EPSG:4326"))
    ax = maps(summary).axes[0]
    assert ax.get_aspect() == pytest.approx(1 / np.cos(np.radians(30)))
    assert maps(summarise(drawn(crs="EPSG:32654"))).axes[0].get_aspect() == 1


def test_maps_without_coordinates_are_in_pixels() -> None:
    assert maps(summarise(drawn().drop_vars(["x", "y"]))).axes[0].images[0].get_extent() == [-0.5, 7.5, 5.5, -0.5]


def test_profiles_along_a_line_and_of_a_map() -> None:
    posterior = drawn()
    line = posterior.isel(y=2)
    figure = profiles(line, {"b": np.zeros(8)}, others={"other": line + 1})
    first, second = figure.axes
    assert len(first.lines) == 2
    assert len(second.lines) == 3
    np.testing.assert_allclose(first.lines[0].get_ydata(), line["a"].mean("sample"))
    assert first.get_ylabel() == "a"
    profiles(drawn((8,)), np.zeros((2, 8)))
    with pytest.raises(ValueError, match=r"the fields have the axes \['y', 'x'\]"):
        profiles(posterior)
    with pytest.raises(ValueError, match="a level of 90"):
        profiles(line, level=90)


def test_calibration_shows_coverage() -> None:
    rng = np.random.default_rng(0)
    draws, truth = rng.standard_normal((50, 300)), rng.standard_normal(300)
    left, right = calibration({"good": (draws, truth), "narrow": (draws / 3, truth)}, bins=5).axes
    assert len(left.patches) == 2
    np.testing.assert_allclose(right.lines[1].get_ydata(), coverage(draws / 3, truth, np.arange(1, 10) / 10))
    assert [text.get_text() for text in right.get_legend().get_texts()] == ["good", "narrow"]


def test_reliability_diagram_leaves_empty_bins_out() -> None:
    found = reliability([0.1, 0.12, 0.9], [0, 1, 1])
    ax = reliability_diagram({"a": found}, plt.subplots()[1])
    np.testing.assert_allclose(ax.lines[1].get_xdata(), [0.11, 0.9])
    np.testing.assert_allclose(ax.lines[1].get_ydata(), [0.5, 1])
    assert "calibration error 0.293" in ax.get_legend().get_texts()[0].get_text()


def test_a_summary_without_maps_is_refused() -> None:
    with pytest.raises(ValueError, match="holds no maps"):
        maps(summarise(drawn((8,))))
