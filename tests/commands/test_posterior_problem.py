"""The observations that a config describes are those made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from latentcause.commands.posterior_config import PosteriorConfig
from latentcause.commands.posterior_problem import files_of, prior_of, read_problem
from latentcause.data.rasters import write_geotiff
from latentcause.fields import Matern, SquaredExponential, White
from latentcause.graph import CausalGraph
from latentcause.observation import (
    BernoulliError,
    CorrelatedError,
    Grid,
    LogNormalError,
    MixtureEmission,
    Observation,
    area_mean,
    block_mean,
    gaussian_blur,
    identity,
    points,
)

pytest.importorskip("rioxarray")
pytest.importorskip("rasterio")

SHAPE, CRS = (8, 12), "EPSG:32654"
FIELD = Grid((np.linspace(800, 0, 9), np.linspace(0, 1200, 13)), ("y", "x"), CRS)
COARSE = Grid((np.linspace(750, 150, 3), np.linspace(0, 1200, 5)), ("y", "x"), CRS)
PRIOR = {"nodes": {"a": {"length": 3}, "b": {"kernel": "white", "variance": 2}}, "weights": {"a -> b": 0.5}}


def values(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.05, 0.95, shape).astype(np.float32).astype(np.float64)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    fine = values(SHAPE)
    fine[1, 2] = np.nan
    write_geotiff(tmp_path / "fine.tif", {"mean": fine, "sd": 0.1 + values(SHAPE, 1)}, FIELD)
    write_geotiff(tmp_path / "coarse.tif", {"mean": values((2, 4), 2)}, COARSE)
    at = pd.DataFrame({"x": [50.0, 620.0, 5000.0], "y": [750.0, 333.0, 10.0], "value": [0.2, 0.4, 0.6]})
    at.assign(sd=[0.1, 0.2, 0.3]).to_csv(tmp_path / "points.csv", index=False)
    return tmp_path


def config(a: list[dict[str, Any]], **others: Any) -> PosteriorConfig:
    found = {"graph": "a -> b", "grid": "fine.tif", "observations": {"a": a}, "prior": PRIOR}
    return PosteriorConfig.model_validate(found | others)


def observed(home: Path, **settings: Any) -> Observation:
    ((node, found),) = read_problem(config([{"noise": 0.5, **settings}]), home).observations.per_node
    assert node == "a"
    return found


def assert_sees(found: Observation, operator: Any, expected: np.ndarray) -> None:
    z = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(found.operator(z), operator(z))
    np.testing.assert_allclose(found.values, expected, rtol=1e-6)


PRESENT = ~np.isnan(np.where(np.arange(96) == 14, np.nan, 0.0))


def test_pixels_with_their_own_noise(home: Path) -> None:
    noise = {"kind": "gaussian", "sd": {"file": "fine.tif", "band": 2}}
    for operator in ("area", "pixels"):
        found = observed(home, file="fine.tif", band=1, operator=operator, noise=noise)
        assert_sees(found, identity(SHAPE).rows(PRESENT), values(SHAPE).ravel()[PRESENT])
        np.testing.assert_allclose(found.noise.sd, (0.1 + values(SHAPE, 1)).ravel()[PRESENT], rtol=1e-6)
    assert files_of(config([{"file": "coarse.tif", "noise": noise}]), home) == [home / "coarse.tif", home / "fine.tif"]


def test_areas_after_a_point_spread_on_the_logit_scale(home: Path) -> None:
    found = observed(home, file="coarse.tif", transform="logit", point_spread=1.5)
    v = values((2, 4), 2).ravel()
    edges = [np.array([0.5, 3.5, 6.5]), np.array([0.0, 3, 6, 9, 12])]
    assert_sees(found, area_mean(SHAPE, edges) @ gaussian_blur(SHAPE, 1.5), np.log(v / (1 - v)))


def test_blocks_take_the_mean_of_what_was_resampled(home: Path) -> None:
    found = observed(home, file="fine.tif", band=2, operator={"kind": "blocks", "ratio": 2.5, "offset": [0.5, 1]})
    sees = block_mean(SHAPE, 2.5, (0.5, 1))
    assert_sees(found, sees, sees(torch.as_tensor(0.1 + values(SHAPE, 1))).numpy())
    with_gap = observed(home, file="fine.tif", band=1, operator={"kind": "blocks", "ratio": 2})
    assert with_gap.operator.size == 4 * 6 - 1


def test_points_inside_the_field(home: Path) -> None:
    noise = {"kind": "log-normal", "sd": {"file": "points.csv", "band": "sd"}}
    found = observed(home, file="points.csv", operator="points", outside="drop", noise=noise)
    assert_sees(found, points(SHAPE, [[0.5, 0.5], [4.67, 6.2]]), np.array([0.2, 0.4]))
    assert isinstance(found.noise, LogNormalError)
    np.testing.assert_allclose(found.noise.sd, [0.1, 0.2])
    logs = observed(home, file="points.csv", operator="points", outside="drop", transform="log")
    np.testing.assert_allclose(logs.values, np.log([0.2, 0.4]))
    with pytest.raises(ValueError, match=r"points.csv\): 1 of 3 points lie outside the field \(first: row 2\)"):
        observed(home, file="points.csv", operator="points")


def test_noise_of_classes(home: Path) -> None:
    yes = observed(home, file="coarse.tif", noise={"kind": "bernoulli", "slope": 2, "offset": -1})
    assert isinstance(yes.noise, BernoulliError)
    assert (yes.noise.slope, yes.noise.offset) == (2, -1)
    one, zero = ({"family": "logit-normal", "mean": mean, "sd": 0.5} for mean in (1, -1))
    mixed = observed(home, file="coarse.tif", noise={"kind": "mixture", "one": one, "zero": zero})
    assert isinstance(mixed.noise, MixtureEmission)
    assert mixed.noise.zero.mean == -1


@pytest.mark.parametrize("settings", [{"file": "coarse.tif"}, {"file": "fine.tif", "band": 1, "operator": "pixels"}])
def test_noise_that_neighbours_share(settings: dict[str, Any], home: Path) -> None:
    found = observed(home, noise={"kind": "correlated", "sd": 0.5, "reach": 2.5}, **settings)
    assert isinstance(found.noise, CorrelatedError)
    whole = (2, 4) if settings["file"] == "coarse.tif" else SHAPE
    at = np.indices(whole).reshape(2, -1).T[PRESENT if whole == SHAPE else slice(None)]
    h = np.linalg.norm(at[:, None] - at, axis=-1) / 2.5
    wanted = 0.25 * np.where(h < 1, 1 - 1.5 * h + 0.5 * h**3, 0)
    assert len(found.values) == len(at)
    np.testing.assert_allclose(found.noise.covariance.toarray(), wanted, atol=1e-12)
    assert np.linalg.eigvalsh(wanted).min() > 0


@pytest.mark.parametrize(
    "graph",
    ["a -> b", [["a", "b"]], "digraph { a -> b }", "graph.dot"],
)
def test_graphs(graph: Any, home: Path) -> None:
    (home / "graph.dot").write_text("digraph { a -> b }")
    settings = config([{"file": "coarse.tif", "noise": 1}], graph=graph)
    assert read_problem(settings, home).graph == CausalGraph.from_edges([("a", "b")])
    assert (home / "graph.dot" in files_of(settings, home)) == (graph == "graph.dot")


def test_grids(home: Path) -> None:
    rasters = [{"file": "coarse.tif", "noise": 1}, {"file": "fine.tif", "band": 1, "noise": 1}]
    assert read_problem(config(rasters, grid=None), home).observations.shape == SHAPE
    given = {"west": 0, "east": 1200, "south": 0, "north": 800, "rows": 4, "columns": 6, "crs": CRS}
    found = read_problem(config(rasters[:1], grid=given), home).observations.grid
    assert found.shape == (4, 6)
    np.testing.assert_allclose(found.edges[0], np.linspace(800, 0, 5))
    dots = [{"file": "points.csv", "operator": "points", "outside": "drop", "noise": 1}]
    with pytest.raises(ValueError, match="grid: there are only points"):
        read_problem(config(dots, grid=None), home)


def test_priors() -> None:
    graph = CausalGraph.from_string("a -> c; b -> c")
    nodes = {
        "a": {"length": 3, "mean": 2, "smoothness": 0.5},
        "b": {"kernel": "squared-exponential", "length": 4, "variance": 0.5, "mean": -1},
        "c": {"kernel": "white", "mean": 5},
    }
    settings = config([], prior={"nodes": nodes, "weights": {"a->c": 3, " b ->  c": 0.5}}).prior
    found = prior_of(settings, graph, (4, 4))
    assert found.kernels == {"a": Matern(3, 1, 0.5), "b": SquaredExponential(4, 0.5), "c": White(1)}
    assert found.weights == {("a", "c"): 3, ("b", "c"): 0.5}
    assert dict(zip(graph.nodes, found.mean[:, 0, 0].tolist(), strict=True)) == pytest.approx({"a": 2, "b": -1, "c": 5})


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"file": "fine.tif"}, r"observations\.a\.0: fine\.tif has 2 bands"),
        ({"file": "coarse.tif", "operator": "pixels"}, r"a\.0 \(coarse\.tif\): its cells are not the pixels"),
        ({"file": "coarse.tif", "operator": {"kind": "blocks", "ratio": 2}}, "are not the pixels"),
        ({"file": "fine.tif", "band": 1, "operator": {"kind": "blocks", "ratio": 99}}, "no whole block"),
        ({"file": "coarse.tif", "noise": {"sd": {"file": "fine.tif", "band": 2}, "kind": "gaussian"}}, "another grid"),
        (
            {
                "file": "fine.tif",
                "band": 1,
                "operator": {"kind": "blocks", "ratio": 2},
                "noise": {"sd": {"file": "fine.tif", "band": 2}, "kind": "gaussian"},
            },
            r"noise\.sd: blocks need one number",
        ),
        ({"file": "coarse.tif", "operator": "points"}, "can't be read as a .csv file|has no column"),
        ({"file": "absent.csv", "operator": "points"}, "there is no table"),
        ({"file": "text.csv", "operator": "points"}, "column 'value' of text.csv does not hold numbers"),
        ({"file": "lonely.csv", "operator": "points"}, "it has no column 'x'"),
        ({"file": "far.csv", "operator": "points"}, "none of its points lies within the field"),
        (
            {
                "file": "points.csv",
                "operator": "points",
                "outside": "drop",
                "noise": {"kind": "correlated", "sd": 1, "reach": 2},
            },
            r"a\.0 \(points\.csv\): noise\.kind: correlated noise is one of a raster's cells",
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_name(settings: dict[str, Any], message: str, home: Path) -> None:
    (home / "text.csv").write_text("x,y,value\n1,1,high\n")
    (home / "lonely.csv").write_text("y,value\n1,1\n")
    (home / "far.csv").write_text("x,y,value\n-1,-1,1\n")
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        observed(home, **settings)


DEGREES = Grid((np.linspace(43, 42, 9), np.linspace(141, 142, 13)), ("y", "x"), "EPSG:4326")
SHIFTED = Grid((FIELD.edges[0] + 50, FIELD.edges[1]), ("y", "x"), CRS)


@pytest.mark.parametrize(
    ("maps", "settings", "message"),
    [
        (
            {"bad": (np.ones(SHAPE), DEGREES)},
            {"file": "bad.tif"},
            r"^grid: bad\.tif \(EPSG:4326\) and fine\.tif \(EPSG:32654\) have incompatible coordinate systems: warp one",
        ),
        (
            {"bad": (np.ones(SHAPE), Grid(FIELD.edges, ("y", "x")))},
            {"file": "bad.tif", "operator": "pixels"},
            r"^grid: bad\.tif \(no coordinate system\) and fine\.tif \(EPSG:32654\)",
        ),
        (
            {"bad": (np.ones(SHAPE), SHIFTED)},
            {"file": "bad.tif", "band": 1},
            r"^observations\.a\.0 \(bad\.tif, band 1\): 12 of 96 cells lie outside the field",
        ),
        (
            {"bad": (np.full(SHAPE, np.nan), FIELD)},
            {"file": "bad.tif", "band": 1},
            r"^observations\.a\.0 \(bad\.tif, band 1\): all 96 cells are missing",
        ),
        (
            {"bad": (np.full(SHAPE, np.nan), FIELD)},
            {"file": "bad.tif", "operator": "pixels"},
            r"^observations: node 'a', bad\.tif: all 96 cells are missing",
        ),
        (
            {"bad": (np.zeros(SHAPE), FIELD)},
            {"file": "fine.tif", "band": 1, "noise": {"kind": "gaussian", "sd": {"file": "bad.tif"}}},
            r"\(fine\.tif, band 1\): noise\.sd, bad\.tif: a noise standard deviation of 0 in 96 cells .*: give positive numbers",
        ),
        (
            {"bad": (np.full(SHAPE, -0.5), FIELD)},
            {"file": "fine.tif", "band": 1, "noise": {"kind": "log-normal", "sd": {"file": "bad.tif"}}},
            r"noise\.sd, bad\.tif: a noise standard deviation of -0\.5 in 96 cells",
        ),
        (
            {"bad": (np.full(SHAPE, np.nan), FIELD)},
            {"file": "fine.tif", "band": 1, "noise": {"kind": "gaussian", "sd": {"file": "bad.tif"}}},
            r"node 'a', fine\.tif, band 1: the noise standard deviation is missing \(NaN\) where a value is not",
        ),
        (
            {"bad": (np.full(SHAPE, 1.5), FIELD)},
            {"file": "bad.tif", "noise": "bernoulli"},
            r"node 'a', bad\.tif: 96 values are outside \[0, 1\]",
        ),
        (
            {"bad": (np.full(SHAPE, 0.6), FIELD)},
            {"file": "bad.tif", "noise": "bernoulli", "operator": "pixels", "scale": 2},
            r"node 'a', bad\.tif: 96 values are outside \[0, 1\]",
        ),
    ],
)
def test_rasters_that_can_not_be_meant_are_named(
    maps: dict[str, tuple[np.ndarray, Grid]], settings: dict[str, Any], message: str, home: Path
) -> None:
    for name, (found, grid) in maps.items():
        write_geotiff(home / f"{name}.tif", {"mean": found}, grid)
    with pytest.raises(ValueError, match=message):
        observed(home, **settings)


def test_points_without_values_and_nodes_without_any_tie_are_named(home: Path) -> None:
    (home / "empty.csv").write_text("x,y,value\n100,100,\n200,300,\n")
    (home / "nothing.csv").write_text("x,y,value\n")
    for file in ("empty.csv", "nothing.csv"):
        with pytest.raises(ValueError, match=rf"{file}.*(all 2 cells are missing|none of its points|not hold numbers)"):
            observed(home, file=file, operator="points")
    with pytest.raises(
        ValueError, match=r"^observations: node 'c' is not observed and has no edge: .* observe it, link it or drop it"
    ):
        read_problem(config([{"file": "coarse.tif", "noise": 1}], graph="a -> b; c"), home)


def test_nodes_that_are_no_file_names_are_refused(home: Path) -> None:
    with pytest.raises(ValueError, match="graph: node 'a/b' can't be part of a file's name"):
        read_problem(config([{"file": "coarse.tif", "noise": 1}], graph=[["a", "a/b"]]), home)
