"""A loaded SVGDM draws what the saved one drew."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import xarray as xr
from sklearn.exceptions import NotFittedError

import latentcause as lc
from latentcause.datasets import nonlinear_three, three_fields
from latentcause.fields import GaussianFields
from latentcause.observation import FunctionOperator, Grid, Observation

SYSTEM = three_fields((16,))
TRUTH, OBSERVATIONS = SYSTEM.observe("LPO", torch.Generator().manual_seed(0))
SMALL = {"draws": 256, "epochs": 1, "channels": 4, "blocks": 1, "steps": 6, "device": "cpu"}


def saved_and_loaded(model: lc.SVGDM, folder: Path) -> lc.SVGDM:
    lc.save(model, folder / "model.safetensors")
    again = lc.load(folder / "model.safetensors")
    assert isinstance(again, lc.SVGDM)
    return again


def assert_draws_agree(one: lc.SVGDM, other: lc.SVGDM, observations: lc.GriddedObservations | None = None) -> None:
    first, second = (model.sample_posterior(3, generator=0, observations=observations) for model in (one, other))
    xr.testing.assert_identical(first, second)


@pytest.mark.parametrize("scores", ["exact", "gaussian", "learned"])
@pytest.mark.parametrize("form", ["dense", "torus", "reflected"])
def test_there_and_back(scores: str, form: str, tmp_path: Path) -> None:
    model = lc.SVGDM(SYSTEM.graph, SYSTEM.fields, scores=scores, form=form, **SMALL).fit(OBSERVATIONS)
    again = saved_and_loaded(model, tmp_path)
    assert again.history_ == model.history_
    assert_draws_agree(again, model)
    other = SYSTEM.observe("child", torch.Generator().manual_seed(1))[1]
    assert_draws_agree(again, model, other)


def test_gaussian_fields_come_back_and_can_be_fitted_again(tmp_path: Path) -> None:
    model = lc.SVGDM(SYSTEM.graph, SYSTEM.fields, scores="exact", **SMALL).fit(OBSERVATIONS)
    again = saved_and_loaded(model, tmp_path)
    assert isinstance(again.prior, GaussianFields)
    torch.testing.assert_close(again.prior.covariance(), SYSTEM.fields.covariance(), atol=0, rtol=0)
    assert_draws_agree(again.fit(OBSERVATIONS), model)


def test_grid_and_coordinate_system_come_back(tmp_path: Path) -> None:
    grid = Grid((torch.linspace(160, 0, 17).numpy(),), ("northing",), "EPSG:32654")
    observations = lc.GriddedObservations(SYSTEM.graph, grid, {"z3": Observation(TRUTH[2], noise=0.1)})
    again = saved_and_loaded(lc.SVGDM(SYSTEM.graph, SYSTEM.fields, scores="exact", **SMALL).fit(observations), tmp_path)
    found = again.sample_posterior(1, generator=0)
    assert found.attrs == {"crs": "EPSG:32654"}
    assert found["northing"].to_numpy()[0] == 155


@pytest.mark.parametrize("kind", ["code", "draws"])
def test_a_prior_that_no_file_can_hold_is_asked_for_again(kind: str, tmp_path: Path) -> None:
    fields = nonlinear_three((16,)).fields
    prior = fields if kind == "code" else fields.sample(256, torch.Generator().manual_seed(0))
    model = lc.SVGDM(SYSTEM.graph, prior, **SMALL).fit(OBSERVATIONS)
    again = saved_and_loaded(model, tmp_path)
    assert_draws_agree(again, model)
    with pytest.raises(ValueError, match=r"holds no prior: set model\.prior before another fit"):
        again.fit(OBSERVATIONS)


def test_observations_that_no_file_can_hold_are_asked_for_again(tmp_path: Path) -> None:
    squares = Observation(TRUTH[0].square(), FunctionOperator(torch.square, (16,)), noise=0.5)
    observations = lc.GriddedObservations(SYSTEM.graph, (16,), {"z1": squares})
    again = saved_and_loaded(lc.SVGDM(SYSTEM.graph, SYSTEM.fields, scores="exact", **SMALL).fit(observations), tmp_path)
    with pytest.raises(ValueError, match="holds no observations: give observations="):
        again.sample_posterior(1, generator=0)
    assert again.sample_posterior(1, generator=0, observations=OBSERVATIONS).sizes["sample"] == 1
    twice = saved_and_loaded(again, tmp_path)
    assert twice.observations_ is None


def test_what_is_not_fitted_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(NotFittedError, match="call fit"):
        lc.save(lc.SVGDM(SYSTEM.graph, SYSTEM.fields), tmp_path / "model.safetensors")
    assert not list(tmp_path.iterdir())
