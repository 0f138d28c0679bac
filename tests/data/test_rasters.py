"""Rasters: values and grids survive files; each keeps its own grid; the wrong ones are refused by name."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

import latentcause as lc
from latentcause.data.rasters import Raster, read_raster, write_geotiff, write_netcdf
from latentcause.observation import BernoulliError, GaussianError, Grid, gaussian_blur

pytest.importorskip("rioxarray")
rasterio = pytest.importorskip("rasterio")
pytest.importorskip("h5netcdf")

UTM = "EPSG:32654"
FINE = Grid((np.linspace(4_700_080.0, 4_700_000.0, 9), np.linspace(500_000.0, 500_120.0, 13)), ("y", "x"), UTM)
COARSE = Grid((np.linspace(4_700_075.0, 4_700_015.0, 5), np.linspace(500_000.0, 500_120.0, 5)), ("y", "x"), UTM)
GRAPH = lc.CausalGraph.from_string("rain -> flood")


def field(grid: Grid, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(grid.shape)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """A fine GeoTIFF with two bands and a missing cell, a coarse NetCDF file."""
    paths = {"fine": tmp_path / "fine.tif", "coarse": tmp_path / "coarse.nc"}
    mean = field(FINE)
    mean[2, 3] = np.nan
    write_geotiff(paths["fine"], {"mean": mean, "share": np.full(FINE.shape, 0.25)}, FINE)
    write_netcdf(paths["coarse"], xr.Dataset({"depth": (("y", "x"), field(COARSE, 1))}), COARSE)
    return paths


def test_geotiff_and_back(files: dict[str, Path]) -> None:
    values, grid = read_raster(files["fine"], 1)
    expected = field(FINE).astype(np.float32)
    expected[2, 3] = np.nan
    np.testing.assert_array_equal(values, expected)
    assert grid.crs == UTM
    np.testing.assert_allclose(grid.edges[0], FINE.edges[0])
    np.testing.assert_allclose(grid.edges[1], FINE.edges[1])
    with rasterio.open(files["fine"]) as file:
        assert file.descriptions == ("mean", "share")
        assert file.res == (10.0, 10.0)
        assert file.crs.to_epsg() == 32654


def test_netcdf_and_back(files: dict[str, Path], tmp_path: Path) -> None:
    values, grid = read_raster(files["coarse"])
    np.testing.assert_array_equal(values, field(COARSE, 1))
    assert grid.crs == UTM
    np.testing.assert_allclose(grid.edges[0], COARSE.edges[0])
    samples = xr.Dataset({"z": (("sample", "node", "x"), np.ones((2, 1, 3)))}, coords={"node": ["rain"]})
    write_netcdf(tmp_path / "line.nc", samples, Grid.of_shape((3,)))
    with warnings.catch_warnings(), xr.open_dataset(tmp_path / "line.nc", engine="h5netcdf") as found:
        assert found.z.dims == ("sample", "node", "x")
        np.testing.assert_array_equal(found.x, [0.5, 1.5, 2.5])


def test_scale_offset_and_no_data_of_a_file(tmp_path: Path) -> None:
    profile = {"driver": "GTiff", "height": 2, "width": 2, "count": 1, "dtype": "int16", "crs": UTM, "nodata": -9}
    with rasterio.open(tmp_path / "a.tif", "w", transform=rasterio.Affine(10, 0, 0, 0, -10, 20), **profile) as file:
        file.write(np.array([[[1, 2], [-9, 4]]], dtype=np.int16))
        file.scales, file.offsets = (0.5,), (10.0,)
    values, grid = read_raster(tmp_path / "a.tif")
    np.testing.assert_array_equal(values, [[10.5, 11.0], [np.nan, 12.0]])
    np.testing.assert_array_equal(grid.edges[0], [20, 10, 0])


def test_each_raster_keeps_its_grid(files: dict[str, Path]) -> None:
    observations = lc.GriddedObservations.from_rasters(
        GRAPH,
        {
            "rain": [Raster(files["fine"], 0.1, band=1), Raster(files["fine"], BernoulliError(), band=2)],
            "flood": Raster(files["coarse"], GaussianError(np.full(16, 0.2)), operator=gaussian_blur(FINE.shape, 1)),
        },
    )
    assert observations.shape == FINE.shape
    assert observations.grid.crs == UTM
    assert [len(observation.values) for _, observation in observations.per_node] == [95, 96, 16]
    z = torch.as_tensor(field(FINE, 2)).expand(1, 2, *FINE.shape)
    blurred = gaussian_blur(FINE.shape, 1)(z[0, 0]).reshape(FINE.shape).numpy()
    rows = (
        np.repeat(blurred, 2, axis=0)[1:13].reshape(4, 3, 4, 3).mean((1, 3))
    )  # 15 m cells from 5 m below the top edge
    assert rows.shape == COARSE.shape
    np.testing.assert_allclose(observations.apply(z)[0, -16:].numpy(), rows.ravel())
    assert "fine.tif, band 2, 96 cells" in repr(observations)


def test_grid_of_a_file_or_given(files: dict[str, Path]) -> None:
    coarse = Raster(files["coarse"], 0.1)
    for grid in (files["fine"], FINE):
        assert lc.GriddedObservations.from_rasters(GRAPH, {"flood": coarse}, grid=grid).shape == FINE.shape
    dropped = lc.GriddedObservations.from_rasters(
        GRAPH, {"flood": Raster(files["fine"], 0.1, band=2)}, grid=files["coarse"], outside="drop"
    )
    assert len(dropped.values) == 5 * 12  # the field ends amid the first and the last but one row of the fine cells


def test_xarray_without_files() -> None:
    array = xr.DataArray(
        [[1.0], [np.nan], [3.0]], coords={"lat": [3.0, 2.0, 1.0], "band": [7]}, dims=("lat", "band"), name="r"
    )
    observations = lc.GriddedObservations.from_rasters(["a"], {"a": Raster(array, 0.1)})
    assert observations.values.tolist() == [1.0, 3.0]
    assert observations.grid.dims == ("lat",)
    assert observations.grid.crs is None
    bare = xr.DataArray(np.ones((2, 2)), dims=("y", "x"), name="bare")
    with pytest.raises(ValueError, match="dimension y, x of the array has no coordinate"):
        lc.GriddedObservations.from_rasters(["a"], {"a": Raster(bare, 0.1)})


def other_system(path: Path) -> None:
    degrees = Grid((np.linspace(43, 42, 9), np.linspace(141, 142, 13)), ("y", "x"), "EPSG:4326")
    write_geotiff(path, {"a": field(degrees)}, degrees)


def elsewhere(path: Path) -> None:
    far = Grid((FINE.edges[0] + 1e5, FINE.edges[1]), ("y", "x"), UTM)
    write_geotiff(path, {"a": field(far)}, far)


def shifted(path: Path) -> None:
    by_half = Grid((FINE.edges[0] + 5, FINE.edges[1]), ("y", "x"), UTM)
    write_geotiff(path, {"a": field(by_half)}, by_half)


def empty(path: Path) -> None:
    write_geotiff(path, {"a": np.full(FINE.shape, np.nan)}, FINE)


def rotated(path: Path) -> None:
    profile = {"driver": "GTiff", "height": 2, "width": 2, "count": 1, "dtype": "float32", "crs": UTM}
    with rasterio.open(path, "w", transform=rasterio.Affine.rotation(30), **profile) as file:
        file.write(np.ones((1, 2, 2), dtype=np.float32))


def no_system(path: Path) -> None:
    bare = Grid(FINE.edges, ("y", "x"))
    write_geotiff(path, {"a": field(bare)}, bare)


def two_bands(path: Path) -> None:
    write_geotiff(path, {"a": field(FINE), "b": field(FINE)}, FINE)


def negative(path: Path) -> None:
    write_geotiff(path, {"a": np.full(FINE.shape, -0.5)}, FINE)


@pytest.mark.parametrize(
    ("make", "given", "message"),
    [
        (other_system, {}, r"bad.tif \(EPSG:4326\) and fine.tif \(EPSG:32654\) have incompatible coordinate systems"),
        (no_system, {}, r"bad.tif \(no coordinate system\) and fine.tif \(EPSG:32654\)"),
        (elsewhere, {}, "node 'flood', bad.tif: none of its cells lies within the field"),
        (shifted, {}, "node 'flood', bad.tif: 12 of 96 cells lie outside the field"),
        (empty, {}, "node 'flood', bad.tif: all 96 cells are missing"),
        (rotated, {}, "bad.tif has rows that do not run along its axes"),
        (two_bands, {}, "bad.tif has 2 bands: name one of them"),
        (two_bands, {"band": 3}, "bad.tif has no band 3: its bands are numbered 1 to 2"),
        (two_bands, {"band": "a"}, "bad.tif has no band 'a'"),
        (
            negative,
            {"band": 1, "noise": BernoulliError()},
            r"node 'flood', bad.tif, band 1: 96 values are outside \[0, 1\]",
        ),
        (two_bands, {"band": 1, "noise": 0.0}, "node 'flood', bad.tif, band 1: a noise standard deviation of 0"),
        (lambda path: path.write_text("no raster"), {}, "bad.tif can't be read as a raster"),
    ],
)
def test_bad_rasters_are_refused_by_name(
    make: Callable[[Path], Any], given: dict[str, Any], message: str, tmp_path: Path, files: dict[str, Path]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        make(tmp_path / "bad.tif")
    with pytest.raises(ValueError, match=message):
        lc.GriddedObservations.from_rasters(
            GRAPH,
            {"flood": Raster(tmp_path / "bad.tif", **{"noise": 0.1, **given})},
            grid=files["fine"],
        )


def test_rasters_on_two_systems_name_both(files: dict[str, Path], tmp_path: Path) -> None:
    other_system(tmp_path / "degrees.tif")
    with pytest.raises(ValueError, match=r"degrees.tif \(EPSG:4326\) and coarse.nc \(EPSG:32654\)"):
        lc.GriddedObservations.from_rasters(
            GRAPH, {"rain": Raster(files["coarse"], 0.1), "flood": Raster(tmp_path / "degrees.tif", 0.1)}
        )


def test_files_that_are_not_there_or_have_no_such_variable(files: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no raster .*none.tif"):
        read_raster(tmp_path / "none.tif")
    with pytest.raises(ValueError, match=r"coarse.nc has no variable 'height': it has depth"):
        read_raster(files["coarse"], "height")
    (tmp_path / "bad.nc").write_text("no raster")
    with pytest.raises(ValueError, match=r"bad.nc can't be read as NetCDF 4"):
        read_raster(tmp_path / "bad.nc")


def test_what_can_not_be_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"map 'a' has shape \(2, 2\), its grid \(8, 12\)"):
        write_geotiff(tmp_path / "a.tif", {"a": np.ones((2, 2))}, FINE)
    with pytest.raises(ValueError, match="a grid of 1 axes goes to NetCDF"):
        write_geotiff(tmp_path / "a.tif", {"a": np.ones(3)}, Grid.of_shape((3,)))
    uneven = Grid(([0.0, 1.0, 3.0], [0.0, 1.0, 2.0]))
    with pytest.raises(ValueError, match="the cells along 'y' differ in size"):
        write_geotiff(tmp_path / "a.tif", {"a": np.ones((2, 2))}, uneven)
    with pytest.raises(ValueError, match="the dataset has no cells along 'y', its grid 2"):
        write_netcdf(tmp_path / "a.nc", xr.Dataset(), uneven)
    assert not list(tmp_path.iterdir())


def test_rasters_of_an_earthquake(shared_data: Callable[[str], Path]) -> None:
    with_truth = shared_data("hokkaido/damage_proxy_map.tif")
    observations = lc.GriddedObservations.from_rasters(
        lc.CausalGraph.from_string("landslide -> damage"),
        {
            "damage": Raster(with_truth, 0.1),
            "landslide": Raster(shared_data("hokkaido/prior_landslide.tif"), BernoulliError()),
        },
    )
    assert observations.shape == (424, 578)
    assert len(observations.values) == 2 * 424 * 578
    truth, _ = read_raster(shared_data("hokkaido/landslide_truth_west.tif"))
    assert np.isnan(truth).mean() == pytest.approx(0.5)
    assert set(np.unique(truth[~np.isnan(truth)])) == {0.0, 1.0}
