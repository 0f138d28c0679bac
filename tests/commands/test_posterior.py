"""``latentcause posterior``: maps that are the exact posterior's, in the right place; runs that were stopped go on."""

from __future__ import annotations

import copy
import html
import json
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
import yaml
from typer.testing import CliRunner

import latentcause as lc
from latentcause.cli import app
from latentcause.commands.posterior_config import read_config
from latentcause.commands.posterior_problem import read_problem
from latentcause.commands.posterior_report import prior_rows
from latentcause.datasets import hazard_fields, simulate_hazards
from latentcause.fields import log_evidence

pytest.importorskip("rioxarray")
rasterio = pytest.importorskip("rasterio")
pytest.importorskip("h5netcdf")

EXAMPLE = Path(__file__).resolve().parents[2] / "experiments" / "hazards.yaml"
SHAPE = (12, 12)
NODES = ("shaking", "landslide", "liquefaction", "damage")


def run(*args: object) -> Any:
    return CliRunner().invoke(app, [str(arg) for arg in args])


def settings(**changed: Any) -> dict[str, Any]:
    """The worked example, with some sections changed."""
    return yaml.safe_load(EXAMPLE.read_text()) | changed


def two_fields(**changed: Any) -> dict[str, Any]:
    """A smaller config on the same rasters."""
    whole = settings()
    kept = {"graph": "shaking -> damage", "grid": "damage.tif"}
    kept["observations"] = {node: whole["observations"][node][:1] for node in ("shaking", "damage")}
    nodes = {node: whole["prior"]["nodes"][node] for node in ("shaking", "damage")}
    return kept | {"prior": {"nodes": nodes, "weights": {"shaking -> damage": 1.7}}} | changed


def written(folder: Path, found: dict[str, Any], name: str = "config.yaml") -> Path:
    (folder / name).write_text(yaml.safe_dump(found, sort_keys=False))
    return folder / name


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The simulated rasters, and what the command made of them with exact scores."""
    folder = tmp_path_factory.mktemp("hazards")
    simulate_hazards(folder, SHAPE, seed=2)
    config = written(folder, settings(sampler={"form": "dense", "steps": 32}, check={"samples": 4}))
    done = run("posterior", config, "--data", folder, "--samples", 16, "--netcdf", "--out", folder / "out")
    assert done.exit_code == 0, done.output
    (folder / "stdout.txt").write_text(done.stdout)
    return folder


def band(path: Path) -> np.ndarray:
    with rasterio.open(path) as file:
        return file.read(1)


# --- the example -----------------------------------------------------------------------------------------------------


def test_everything_is_written_and_nothing_else(home: Path) -> None:
    names = {path.name for path in (home / "out").iterdir() if not path.name.startswith(".")}
    maps = {f"{node}_{kind}.tif" for node in NODES for kind in ("mean", "sd", "exceedance")}
    assert names == maps | {"posterior.nc", "model.safetensors", "summary.json", "report.html", "figures"}
    assert {path.stem for path in (home / "out" / "figures").iterdir()} == {"maps", "calibration", "graph"}
    assert not (home / "out.unfinished").exists()


def test_maps_lie_where_the_rasters_lie(home: Path) -> None:
    with rasterio.open(home / "damage.tif") as given:
        for path in (home / "out").glob("*.tif"):
            with rasterio.open(path) as file:
                assert (file.crs, file.transform, file.shape) == (given.crs, given.transform, given.shape)
                assert file.crs.to_epsg() == 32654
                assert file.descriptions == (path.stem.split("_")[1],)


def test_maps_are_those_of_the_exact_posterior(home: Path) -> None:
    problem = read_problem(read_config(EXAMPLE), home)
    mean, covariance = problem.prior.posterior(problem.observations)
    sd = covariance.diagonal().sqrt().reshape(mean.shape)
    ratios = []
    for i, node in enumerate(problem.graph.nodes):
        off = (band(home / "out" / f"{node}_mean.tif") - mean[i].numpy()) / sd[i].numpy()
        assert np.sqrt(np.square(off).mean()) < 0.34  # of 16 samples 0.25
        ratios.append(np.square(band(home / "out" / f"{node}_sd.tif") / sd[i].numpy()).mean())
    assert np.mean(ratios) == pytest.approx(1, abs=0.25)


def test_samples_give_the_maps(home: Path) -> None:
    with warnings.catch_warnings(), xr.open_dataset(home / "out" / "posterior.nc", engine="h5netcdf") as found:
        assert found.sizes["sample"] == 16
        for node, threshold in settings()["thresholds"].items():
            draws = found[node].to_numpy()
            np.testing.assert_allclose(band(home / "out" / f"{node}_mean.tif"), draws.mean(0), rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(band(home / "out" / f"{node}_exceedance.tif"), (draws > threshold).mean(0))
        assert len(np.unique(draws[:, 0, 0])) == 16


def test_what_is_printed_is_in_the_summary(home: Path) -> None:
    said, printed = json.loads((home / "out" / "summary.json").read_text()), (home / "stdout.txt").read_text()
    cells = {row["node"]: int(row["values"]) for row in said["nodes"]}
    assert list(cells) == list(lc.CausalGraph.from_string(settings()["graph"]).nodes)
    withheld = {row["withheld"]: int(row["cells"]) for row in said["withheld"]}
    assert set(withheld) == {
        "shaking: shaking.tif",
        "shaking: stations.csv, band pga",
        "landslide: landslide.tif",
        "damage: damage.tif",
    }
    assert all(f"{label} " in printed for label in withheld)
    assert 0.04 < withheld["damage: damage.tif"] / cells["damage"] < 0.15
    assert said["seed"] == 0
    assert said["settings"]["sampler"]["form"] == "dense"


def test_the_saved_model_draws_more(home: Path) -> None:
    model = lc.load(home / "out" / "model.safetensors")
    assert model.sample_posterior(1, generator=0)["damage"].shape == (1, *SHAPE)


def test_the_prior_of_the_example_is_that_of_the_simulation(home: Path) -> None:
    prior, truth = read_problem(read_config(EXAMPLE), home).prior, hazard_fields(SHAPE)
    assert prior.kernels == truth.kernels
    assert prior.weights == truth.weights
    assert prior.intercepts == pytest.approx(truth.intercepts)


# --- runs that were stopped ------------------------------------------------------------------------------------------


def stop_after(monkeypatch: pytest.MonkeyPatch, calls: int) -> list[int]:
    """Ctrl-C in the call after that many; the list counts calls."""
    counted: list[int] = []
    plain = lc.SVGDM.sample_posterior

    def sample(self: lc.SVGDM, n: int, **others: Any) -> Any:
        if len(counted) == calls:
            raise KeyboardInterrupt
        counted.append(n)
        return plain(self, n, **others)

    monkeypatch.setattr(lc.SVGDM, "sample_posterior", sample)
    return counted


def test_a_run_that_was_stopped_goes_on_to_the_same_result(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampler = {"scores": "learned", "form": "torus", "steps": 3, "draws": 40, "epochs": 1, "device": "cpu"}
    config = written(tmp_path, two_fields(sampler=sampler, check={"samples": 3}))
    args = ("posterior", config, "--data", home, "--samples", 10, "--out")
    whole = run(*args, tmp_path / "whole")
    assert whole.exit_code == 0, whole.output
    with monkeypatch.context() as patched:
        assert stop_after(patched, 1) == []
        assert run(*args, tmp_path / "parts").exit_code == 130
    assert not (tmp_path / "parts").exists()
    assert sorted(path.name for path in (tmp_path / "parts.unfinished").glob("*.nc")) == ["posterior_0000_8.nc"]
    with monkeypatch.context() as patched:
        counted = stop_after(patched, 99)
        patched.setattr(lc.SVGDM, "fit", None)
        done = run(*args, tmp_path / "parts")
        assert done.exit_code == 0, done.output
        assert counted == [2, 3]
    assert "going on from" in done.stdout
    assert not (tmp_path / "parts.unfinished").exists()
    for path in (tmp_path / "whole").glob("*.tif"):
        assert path.read_bytes() == (tmp_path / "parts" / path.name).read_bytes()
    ours, theirs = (json.loads((tmp_path / name / "summary.json").read_text()) for name in ("whole", "parts"))
    assert ours["withheld"] == theirs["withheld"]


def test_other_settings_begin_anew(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = written(tmp_path, two_fields(sampler={"form": "torus", "steps": 3}, check={"share": 0}))
    args = ("posterior", config, "--data", home, "--samples", 9, "--out", tmp_path / "out")
    with monkeypatch.context() as patched:
        stop_after(patched, 1)
        run(*args)
    counted = stop_after(monkeypatch, 99)
    done = run(*args, "--seed", 1)
    assert done.exit_code == 0, done.output
    assert counted == [8, 1]
    assert "going on" not in done.stdout
    assert "withheld" not in done.stdout


def test_nothing_is_left_of_a_run_that_fails_at_the_start(home: Path, tmp_path: Path) -> None:
    sampler = {"scores": "learned", "form": "dense", "draws": 3}
    done = run("posterior", written(tmp_path, settings(sampler=sampler)), "--data", home, "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert "too few for form 'dense'" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_a_quick_look_says_so(home: Path, tmp_path: Path) -> None:
    config = written(tmp_path, two_fields(sampler={"form": "torus", "steps": 4}))
    done = run("posterior", config, "--data", home, "--quick", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "8 samples of 2 fields" in done.stdout
    assert "A quick look" in (tmp_path / "out" / "report.html").read_text()


def test_a_prior_is_fitted_to_the_observations(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped between the fit and the samples too; what is told is the prior that samples were drawn with."""
    config = written(
        tmp_path, two_fields(sampler={"form": "dense", "steps": 4, "rounds": 3, "eta": 1}, check={"share": 0})
    )
    args = ("posterior", config, "--data", home, "--samples", 2, "--out", tmp_path / "out")
    with monkeypatch.context() as patched:
        stop_after(patched, 0)
        assert run(*args).exit_code == 130
    with monkeypatch.context() as patched:
        patched.setattr(lc.SVGDM, "fit", None)
        done = run(*args)
    assert done.exit_code == 0, done.output
    problem, model = read_problem(read_config(config), home), lc.load(tmp_path / "out" / "model.safetensors")
    assert model.eta == 1
    before, after = (
        log_evidence(prior.joint("dense"), problem.observations) for prior in (problem.prior, model.prior_)
    )
    assert after > before + 1
    said = json.loads((tmp_path / "out" / "summary.json").read_text())["prior"]
    assert said == prior_rows(model.prior_)
    assert said["weights"] != [["shaking -> damage", "1.7"]]
    report = (tmp_path / "out" / "report.html").read_text()
    assert "in 3 rounds at most" in report
    assert said["nodes"][1][1] in html.unescape(report)


# --- bad input -------------------------------------------------------------------------------------------------------


def change(*place: str | int, to: Any) -> Callable[[dict[str, Any]], None]:
    def at(found: dict[str, Any]) -> None:
        inner: Any = found
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = to

    return at


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (change("priors", to=1), "config.yaml: unknown key 'priors': use graph, observations"),
        (change("sampler", to={"step": 9}), "config.yaml: sampler: unknown key 'step': use scores, form"),
        (change("observations", "damage", 0, "bands", to=1), "observations.damage.0: unknown key 'bands'"),
        (change("observations", "damage", 0, "noise", to=0), "observations.damage.0.noise.* greater than 0, not 0"),
        (
            change("observations", "damage", 0, "noise", to=-0.1),
            "observations.damage.0.noise.* greater than 0, not -0.1",
        ),
        (change("observations", "damage", 0, "noise", to=".inf"), "observations.damage.0.noise: unknown kind '.inf'"),
        (change("observations", "damage", 0, "noise", to=float("inf")), "damage.tif.*noise.sd: .* deviation of inf"),
        (
            change("graph", to="shaking -> damage; landslide; liquefaction; hail"),
            "node 'hail' is not observed and has no",
        ),
        (change("observations", "damage", 0, "noise", to={"kind": "normal"}), "noise: unknown kind 'normal': use"),
        (change("observations", "damage", 0, "noise", to={"kind": "mixture"}), "noise.one: is needed"),
        (change("observations", "damage", 0, "operator", to="block"), "operator: unknown kind 'block': use 'area'"),
        (change("sampler", to={"rounds": -1}), "sampler.rounds: .* greater than or equal to 0, not -1"),
        (
            change("observations", "damage", 0, "noise", to={"kind": "correlated", "sd": 1, "reach": 0.5}),
            "noise.reach: .* greater than 1, not 0.5",
        ),
        (change("check", to={"share": 1.5}), "check.share: input should be less than 1, not 1.5"),
        (change("graph", to=[["a", "b", "c"]]), r"graph: \['a', 'b', 'c'\] is no edge"),
        (change("graph", to="a -> b; b -> a"), "graph: .*cycle"),
        (change("graph", to="absent.dot"), "graph: .*absent.dot"),
        (change("observations", "rain", to=[]), "observations: 'rain' is no node of the graph"),
        (change("thresholds", "rain", to=1), "thresholds: 'rain' is no node of the graph"),
        (
            change("observations", "damage", 0, "file", to="absent.tif"),
            "observations.damage.0: .*no raster .*absent.tif",
        ),
        (change("observations", "damage", 0, "band", to=2), "observations.damage.0: damage.tif has no band 2"),
        (change("observations", "shaking", 1, "band", to="pgv"), "stations.csv has no column 'pgv' .*'pga'"),
        (change("observations", "damage", 0, "noise", to={"kind": "bernoulli"}), r"damage.* outside \[0, 1\]"),
        (
            change("observations", "damage", 0, "transform", to="logit"),
            r"damage.0 \(damage.tif\): transform: .* no logit",
        ),
        (change("observations", "landslide", 0, "operator", to="pixels"), "landslide.tif.*are not the pixels"),
        (change("grid", to="shaking.nc"), "grid: there is no raster .*shaking.nc"),
        (change("grid", to={"west": 1}), "grid.east: is needed"),
        (
            change(
                "grid", to={"west": 0, "east": 1, "south": 0, "north": 1, "rows": 2, "columns": 2, "crs": "EPSG:4326"}
            ),
            "grid: .*incompatible coordinate systems",
        ),
        (
            change(
                "grid", to={"west": 0, "east": 9, "south": 0, "north": 9, "rows": 2, "columns": 2, "crs": "EPSG:32654"}
            ),
            r"observations.shaking.0 \(shaking.tif\): none of its cells lies within the field",
        ),
        (
            change("prior", "weights", "damage -> shaking", to=1),
            "prior: weights: 'damage -> shaking' is not in the graph",
        ),
        (change("prior", "weights", to={}), "prior: weights: 'shaking -> landslide' is missing"),
        (change("prior", "nodes", "rain", to={"length": 2}), "prior: nodes: 'rain' is not in the graph"),
        (change("prior", "nodes", "damage", to={"length": -2}), "prior.nodes.damage.length: .* greater than 0"),
        (change("prior", "nodes", "damage", to={"kernel": "white", "length": 2}), "a white kernel has no length"),
        (change("prior", "nodes", "damage", to={}), "a matern kernel needs a length"),
    ],
)
def test_bad_settings_are_one_line_that_names_them(
    edit: Callable[[dict[str, Any]], None], message: str, home: Path, tmp_path: Path
) -> None:
    found = copy.deepcopy(settings())
    edit(found)
    done = run("posterior", written(tmp_path, found), "--data", home, "--out", tmp_path / "out")
    assert done.exit_code == 2, done.output
    assert re.search(message, done.stderr), done.stderr
    assert done.stderr.count("error: ") == 1
    assert len(done.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_bad_arguments(home: Path, tmp_path: Path) -> None:
    config = written(tmp_path, settings())
    for args, message in (
        ((tmp_path / "no.yaml", "--data", home), "there is no config"),
        ((config, "--data", tmp_path / "none"), "there is no folder"),
        ((config, "--data", home, "--samples", 1), "--samples 1: error bars need two or more"),
        ((written(tmp_path, [], "list.yaml"), "--data", home), "list.yaml must hold a mapping"),
    ):
        done = run("posterior", *args, "--out", tmp_path / "out")
        assert done.exit_code == 2, done.output
        assert message in done.stderr
    (tmp_path / "twice.yaml").write_text("graph: a -> b\ngraph: b -> a\n")
    done = run("posterior", tmp_path / "twice.yaml", "--data", home, "--out", tmp_path / "out")
    assert "the key 'graph' stands twice" in done.stderr
    (tmp_path / "out.unfinished").mkdir()
    done = run("posterior", config, "--data", home, "--out", tmp_path / "out")
    assert "latentcause did not make it" in done.stderr
    assert torch.is_grad_enabled()
