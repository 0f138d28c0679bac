"""The Hokkaido rasters: as published, on one grid; the ground failure models on their own; files that are wrong."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("rioxarray")

from latentcause.datasets import load_hokkaido
from latentcause.datasets.hokkaido import HokkaidoMaps


@pytest.fixture(scope="module")
def maps(shared_data: Callable[[str], Path]) -> HokkaidoMaps:
    return load_hokkaido(shared_data("hokkaido"))


def test_rasters_are_the_published_ones(maps: HokkaidoMaps) -> None:
    assert dict(maps.rasters.sizes) == {"y": 424, "x": 578}
    assert maps.rasters.rio.crs.to_epsg() == 4326
    assert not any(bool(raster.isnull().any()) for raster in maps.rasters.values())
    np.testing.assert_allclose(maps.rasters.rio.resolution(), [1 / 3600, -1 / 3600], rtol=1e-6)
    assert float(maps.rasters["y"][0]) > float(maps.rasters["y"][-1])


def test_truth_ends_after_column_288(maps: HokkaidoMaps) -> None:
    assert maps.truth.dims == ("y", "x")
    assert bool(maps.truth[:, 289:].isnull().all())
    assert set(np.unique(maps.truth[:, :289])) == {0.0, 1.0}


def test_priors_are_the_rasters_on_their_own_cells(maps: HokkaidoMaps) -> None:
    for hazard, shape in (("landslide", (58, 78)), ("liquefaction", (29, 40))):
        values, operator = maps.prior(hazard)  # type: ignore[arg-type]
        assert values.shape == operator.grid == shape
        raster = maps.rasters[f"prior_{hazard}"].to_numpy()
        least = raster[raster > 0].min()
        assert values.min() == least / 2
        seen = operator(torch.from_numpy(raster)).reshape(shape).numpy()
        values = np.where(values < least, 0.0, values)
        if hazard == "liquefaction":
            np.testing.assert_allclose(seen, values, atol=1e-12)
        else:  # edges run through pixels, each of which has the value of one of its cells
            assert np.abs(seen - values).mean() < 0.05 * values.mean()


def test_observations_keep_every_raster_on_its_own_cells(maps: HokkaidoMaps) -> None:
    observations = maps.observations()
    assert observations.nodes == ("landslide", "liquefaction", "building_damage", "change")
    assert observations.shape == (424, 578)
    assert [len(own.values) for _, own in observations.per_node] == [58 * 78, 29 * 40, 424 * 578, 424 * 578]
    assert observations.grid.crs == "EPSG:4326"
    assert bool(torch.isfinite(observations.log_likelihood(torch.zeros(1, 4, 424, 578, dtype=torch.float64))).all())


def test_unknown_hazard_is_refused(maps: HokkaidoMaps) -> None:
    with pytest.raises(ValueError, match="choose landslide or liquefaction"):
        maps.prior("flood")  # type: ignore[arg-type]


def test_files_that_are_missing_or_changed_are_named(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"damage_proxy_map\.tif"):
        load_hokkaido(tmp_path)
    for file in shared_data("hokkaido").iterdir():
        shutil.copy(file, tmp_path / file.name)
        (tmp_path / file.name).chmod(0o644)
    (tmp_path / "prior_landslide.tif").write_bytes(b"no raster")
    with pytest.raises(ValueError, match=r"prior_landslide\.tif is not the published file"):
        load_hokkaido(tmp_path)
