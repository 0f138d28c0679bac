"""``latentcause posterior`` with causes of change: maps of probabilities from one map of change and coarse maps of chances."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

import latentcause as lc
from latentcause import training
from latentcause.cli import app
from latentcause.commands.posterior_config import read_config
from latentcause.commands.posterior_problem import read_problem
from latentcause.data.rasters import write_geotiff
from latentcause.observation import Grid, block_mean
from latentcause.writing import write_atomically

pytest.importorskip("rioxarray")
rasterio = pytest.importorskip("rasterio")
pytest.importorskip("h5netcdf")

SHAPE = (44, 52)
EXAMPLE = Path(__file__).resolve().parents[2] / "experiments" / "hokkaido.yaml"
SETTINGS: dict[str, Any] = {
    "graph": "slide -> change; flood -> change",
    "grid": "change.tif",
    "observations": {
        "slide": [
            {
                "file": "slide.tif",
                "operator": {"kind": "blocks", "ratio": 8, "offset": [4, 2], "partial": True, "value": "centre"},
                "lowest": 0.01,
                "noise": "bernoulli",
            }
        ],
        "flood": [{"file": "flood.tif", "operator": "pixels", "scale": 0.01, "noise": "bernoulli"}],
        "change": [
            {
                "file": "change.tif",
                "operator": "pixels",
                "noise": {
                    "kind": "mixture",
                    "one": {"family": "normal", "mean": 3, "sd": 1},
                    "zero": {"family": "normal", "mean": 0, "sd": 1},
                },
            }
        ],
    },
    "causes": {"folds": 2, "epochs": 3, "width": 8},
    "thresholds": {"slide": 0.5},
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rng = tmp_path_factory.mktemp("causes"), np.random.default_rng(0)
    steep = np.zeros(SHAPE)
    steep[4:28, 2:34] = 1
    slid = steep * (np.kron(rng.random((11, 13)), np.ones((4, 4))) < 0.5)
    grid = Grid.from_centres({"y": 43.0 - 0.01 * np.arange(44), "x": 141.0 + 0.01 * np.arange(52)}, "EPSG:4326")
    maps = {"slide": 0.3 * steep, "flood": np.where(steep == 0, rng.random(SHAPE) < 0.5, 0) * 4.0}
    for name, values in {**maps, "change": rng.normal(size=SHAPE) + 4 * slid}.items():
        write_geotiff(folder / f"{name}.tif", {name: values}, grid)
    (folder / "config.yaml").write_text(yaml.safe_dump(SETTINGS))
    done = run(folder / "config.yaml", "--data", folder, "--samples", 4, "--out", folder / "out")
    assert done.exit_code == 0, done.output
    return folder


def run(*args: object) -> Any:
    return CliRunner().invoke(app, ["posterior", *(str(arg) for arg in args)])


def band(path: Path) -> np.ndarray:
    with rasterio.open(path) as file:
        return file.read(1)


def test_maps_are_probabilities_in_the_right_place(home: Path) -> None:
    mean, sd, above = (band(home / "out" / f"slide_{kind}.tif") for kind in ("mean", "sd", "exceedance"))
    assert mean.shape == SHAPE
    assert 0 <= mean.min() < 0.2 < 0.5 < mean.max() <= 1
    np.testing.assert_allclose(sd, np.sqrt(mean * (1 - mean)), atol=1e-6)
    np.testing.assert_array_equal(above, mean)
    with rasterio.open(home / "out" / "slide_mean.tif") as made, rasterio.open(home / "change.tif") as given:
        assert made.crs == given.crs
        assert made.transform.almost_equals(given.transform)
    names = {path.name for path in (home / "out").iterdir() if not path.name.startswith(".")}
    assert {"report.html", "summary.json", "flood_mean.tif", "change_sd.tif", "model.safetensors"} <= names


def test_the_saved_model_gives_the_same_maps(home: Path) -> None:
    model = lc.load(home / "out" / "model.safetensors")
    assert isinstance(model, lc.CausesOfChange)
    chances = model.probabilities()["slide"].to_numpy().clip(0, 1).astype(np.float32)
    np.testing.assert_array_equal(chances, band(home / "out" / "slide_mean.tif"))


def test_a_run_that_was_stopped_goes_on_to_the_same_result(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped in the second fold, and then between the fit and the samples."""
    parts = home / "again.unfinished"
    args = (home / "config.yaml", "--data", home, "--samples", 4, "--out", home / "again")
    epochs = 0

    def stop_in_the_second_fold(path: Path) -> AbstractContextManager[Path]:
        nonlocal epochs
        if path.name == "classes.pt.1":
            epochs += 1
            if epochs == 2:
                raise KeyboardInterrupt
        return write_atomically(path)

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(training, "write_atomically", stop_in_the_second_fold)
        assert run(*args).exit_code == 130
    assert {path.name for path in parts.iterdir()} == {"settings.txt", "classes.pt.0", "classes.pt.1"}
    with monkeypatch.context() as patched:
        patched.setattr(lc.CausesOfChange, "sample_posterior", stop)
        assert run(*args).exit_code == 130
    with monkeypatch.context() as patched:
        patched.setattr(lc.CausesOfChange, "fit", stop)
        done = run(*args)
    assert done.exit_code == 0, done.output
    for path in (home / "out").glob("*.tif"):
        assert path.read_bytes() == (home / "again" / path.name).read_bytes()


def test_chances_are_scaled_bounded_and_read_at_the_centres_of_blocks(home: Path) -> None:
    problem = read_problem(read_config(home / "config.yaml"), home)
    assert problem.prior is None
    (slide,) = (seen for node, seen in problem.observations.per_node if node == "slide")
    assert len(slide.values) == block_mean(SHAPE, 8, (4, 2), partial=True).size
    assert set(np.round(np.asarray(slide.values), 6)) == {0.01, 0.3}
    (flood,) = (seen for node, seen in problem.observations.per_node if node == "flood")
    assert set(np.round(np.asarray(flood.values), 6)) == {0.0, 0.04}


def test_a_model_is_a_prior_or_causes(tmp_path: Path) -> None:
    for causes, prior in ((None, None), ({}, {"nodes": {"a": {"length": 2}}})):
        found = {key: value for key, value in SETTINGS.items() if key != "causes"}
        found |= {} if causes is None else {"causes": causes, "prior": prior}
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(found))
        done = run(tmp_path / "config.yaml", "--data", tmp_path, "--out", tmp_path / "out")
        assert done.exit_code != 0
        assert "give either prior, for linked fields, or causes" in " ".join(done.stderr.split())


def test_the_example_is_the_loaders_problem(shared_data) -> None:
    folder = shared_data("hokkaido/damage_proxy_map.tif").parent
    problem = read_problem(read_config(EXAMPLE), folder)
    wanted = lc.datasets.load_hokkaido(folder).observations()
    assert set(problem.graph.edges) == {(cause, "change") for cause in wanted.nodes if cause != "change"}
    assert problem.observations.shape == wanted.shape
    found = dict(problem.observations.per_node)
    for node, given in wanted.per_node:
        own, other = np.asarray(found[node].values), np.asarray(given.values)
        np.testing.assert_allclose(own, other, rtol=0.05, atol=2e-5)
