"""Causes of change: contexts that are blind, densities that are densities, and chances that come true on simulated maps."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from scipy import ndimage
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score

import latentcause as lc
from latentcause import training
from latentcause.fields import Matern
from latentcause.models.change_classes import ChangeClasses
from latentcause.models.class_dependence import fit_length
from latentcause.models.map_context import context_features
from latentcause.models.noisy_or import NoisyOr
from latentcause.observation import (
    BernoulliError,
    Component,
    Grid,
    MixtureEmission,
    Observation,
    block_mean,
    gaussian_blur,
)
from latentcause.training import Recipe, seeded
from latentcause.writing import write_atomically

SHAPE = (80, 96)
GRAPH = lc.CausalGraph.from_string("slide -> change; quicksand -> change")
EMISSION = MixtureEmission(Component("normal", 3.0, 1.0), Component("normal", 0.0, 1.0))


def earthquake(seed: int = 0) -> tuple[dict[str, np.ndarray], lc.GriddedObservations]:
    """Slides in the north, quicksand in the south, patches of other change, speckle that neighbours share; true presences."""
    generator = torch.Generator().manual_seed(seed)
    slopes, sands, other = Matern(9.0).sample(3, SHAPE, generator).numpy()
    north = np.zeros(SHAPE)
    north[: SHAPE[0] // 2] = 1
    truth = {"slide": slopes > np.where(north == 1, 0.9, 3.0), "quicksand": sands > np.where(north == 1, 3.0, 1.3)}
    caused = truth["slide"] | truth["quicksand"]
    level = np.where(caused, 3.2, np.where(other > 0.8, 1.2, 0.0))
    speckle = ndimage.gaussian_filter(torch.randn(SHAPE, generator=generator).double().numpy(), 0.6)
    change = level + 0.7 * speckle / speckle.std()
    operator = block_mean(SHAPE, 8)
    priors = {"slide": 0.005 + 0.02 * north, "quicksand": 0.03 - 0.025 * north}
    observations: dict[str, Observation] = {
        node: Observation(operator(torch.from_numpy(chance)), operator, BernoulliError())
        for node, chance in priors.items()
    }
    observations["change"] = Observation(change, noise=EMISSION)
    return truth | {"change": caused}, lc.GriddedObservations(GRAPH, SHAPE, observations)


def model(**settings: Any) -> lc.CausesOfChange:
    return lc.CausesOfChange(GRAPH, **{"folds": 2, "epochs": 30, "batch_size": 256, "components": 1} | settings)


@pytest.fixture(scope="module")
def fitted() -> tuple[dict[str, np.ndarray], lc.CausesOfChange]:
    truth, observations = earthquake()
    return truth, model().fit(observations)


# --- contexts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [(20, 20), (3, 41), (0, 4)])
def test_features_do_not_see_the_hidden_squares(place: tuple[int, int]) -> None:
    z = np.random.default_rng(0).normal(size=(40, 44))
    row, column = place
    changed, step = z.copy(), -7 if column > 20 else 7
    changed[max(row - 2, 0) : row + 3, column - 2 : column + 3] += 9.0
    before, after = context_features(z, 5), context_features(changed, 5)
    np.testing.assert_allclose(before[row, column], after[row, column], atol=1e-9)
    assert np.abs(before - after)[row, column + step].max() > 0.05
    hidden = [context_features(image, 5, (0, -step))[row, column + step] for image in (z, changed)]
    np.testing.assert_allclose(*hidden, atol=1e-9)


def test_features_turn_with_the_map() -> None:
    z = np.random.default_rng(0).normal(size=(36, 36))
    np.testing.assert_allclose(context_features(np.rot90(z), 5), np.rot90(context_features(z, 5)), atol=1e-9)


# --- densities and attribution ---------------------------------------------------------------------------------------


def test_class_densities_integrate_to_one() -> None:
    with seeded(0):
        classes = ChangeClasses(4, torch.randn(500, 1), 8, 2).double()
    axis = torch.linspace(-12, 12, 961, dtype=torch.float64)
    with torch.no_grad():
        total = classes.log_density(axis[:, None]).exp().sum(0) * 0.025
        x = torch.zeros(961, 4, dtype=torch.float64)
        mixed = (-classes.loss((x, axis[:, None]))).exp().sum() * 0.025
    torch.testing.assert_close(total, torch.ones(3, dtype=torch.float64), atol=1e-6, rtol=0)
    assert float(mixed) == pytest.approx(1, abs=1e-6)


def test_noisy_or_learns_scale_and_offset_of_the_prior_maps() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(-3, 1.5, size=(2, 200_000))
    x[1, :100_000] = -np.inf
    true = NoisyOr(np.array([0.5, -1.0]), np.array([0.8, 0.4]))
    shares = -np.expm1(np.log1p(-true.chances(x)).sum(0))
    found = NoisyOr.fit(shares, x)
    np.testing.assert_allclose(found.offsets, true.offsets, atol=1e-3)
    np.testing.assert_allclose(found.slopes, true.slopes, atol=1e-3)
    given = found.given_any(x)
    assert np.all(given[1, :100_000] == 0)
    np.testing.assert_allclose(given[0, :100_000], 1)
    assert np.all(given.sum(0) >= 1 - 1e-12)
    assert np.all(found.given_any(np.full((2, 1), -np.inf)) == 0)


@pytest.mark.parametrize("length", [3.0, 6.0])
def test_length_of_the_dependence_is_found(length: float) -> None:
    generator = torch.Generator().manual_seed(0)
    u = Matern(length).sample(1, (128, 128), generator)[0]
    inner = ((u > 0.5).double() + (u > 1.2).double()) * 3 + 0.5 * torch.randn(u.shape, generator=generator).double()
    with seeded(0):
        classes = ChangeClasses(1, inner.reshape(-1, 1).float(), 4, 1)
    with torch.no_grad():
        classes.level.copy_(torch.tensor([[0.0], [3.0], [6.0]]))
        classes.log_sd.fill_(np.log(0.5))
    recipe = Recipe(3, 1024, 1e-2, schedule="cosine", held_out=0.0)
    found = fit_length(classes, inner.float(), lambda step: torch.zeros(inner.numel(), 1), 5, recipe, 0)
    assert found == pytest.approx(length, rel=0.2)


# --- the model -------------------------------------------------------------------------------------------------------


def test_chances_come_true(fitted: tuple[dict[str, np.ndarray], lc.CausesOfChange]) -> None:
    truth, found = fitted
    chances = found.probabilities()
    for node in ("change", "slide", "quicksand"):
        p, y = chances[node].to_numpy().ravel(), truth[node].ravel()
        assert p.mean() == pytest.approx(y.mean(), rel=0.25)
        bins = np.minimum((10 * p).astype(int), 9)
        gaps = [abs(p[bins == b].mean() - y[bins == b].mean()) * (bins == b).mean() for b in np.unique(bins)]
        assert sum(gaps) < 0.05
    smooth = ndimage.gaussian_filter(dict(found.observations_.per_node)["change"].values.reshape(SHAPE), 1.5)
    ours = roc_auc_score(truth["slide"].ravel(), chances["slide"].to_numpy().ravel())
    assert ours > roc_auc_score(truth["slide"].ravel(), smooth.ravel())
    assert ours > 0.97


def test_draws_agree_with_the_chances_and_hang_together(
    fitted: tuple[dict[str, np.ndarray], lc.CausesOfChange],
) -> None:
    _, found = fitted
    draws, chances = found.sample_posterior(200, generator=0), found.probabilities()
    assert draws["slide"].dims == ("sample", *chances["slide"].dims)
    gap = draws["slide"].mean("sample") - chances["slide"]
    assert float((gap**2).mean()) < 1.5 * float((chances["slide"] * (1 - chances["slide"])).mean()) / 200
    caused = draws["change"] == 2
    assert bool(((draws["slide"] == 1) | (draws["quicksand"] == 1)).equals(caused))
    unsure = abs(chances["change"] - 0.5) < 0.3
    left, right = caused.to_numpy()[:, :, :-1], caused.to_numpy()[:, :, 1:]
    both = (unsure.to_numpy()[:, :-1] & unsure.to_numpy()[:, 1:])[None]
    assert np.corrcoef(left[both.repeat(200, 0)], right[both.repeat(200, 0)])[0, 1] > 0.3


def test_a_cause_is_absent_where_its_chance_is_zero() -> None:
    _, observations = earthquake()
    south = np.arange(SHAPE[0])[:, None] >= SHAPE[0] // 2
    sand = Observation(np.where(south, 0.03, 0.0) * np.ones(SHAPE), noise=BernoulliError())
    slide = Observation(np.where(south, 0.0, 0.02) * (np.arange(SHAPE[1]) >= 8), noise=BernoulliError())
    own = dict(observations.per_node) | {"quicksand": sand, "slide": slide}
    found = model(epochs=2, batch_size=1024).fit(lc.GriddedObservations(GRAPH, SHAPE, own))
    north_west = {"y": slice(0, SHAPE[0] // 2), "x": slice(0, 8)}
    for maps in (found.probabilities(), found.sample_posterior(4, generator=0)):
        assert float(maps["quicksand"].isel(y=north_west["y"]).max()) == 0
        assert float(maps["slide"].isel(y=slice(SHAPE[0] // 2, None)).max()) == 0
    assert float(found.probabilities()["change"].isel(north_west).max()) == 0
    np.testing.assert_allclose(found.classes_.sum(0), 1, atol=1e-9)


def interrupted(number: int, save: int) -> Callable[[Path], AbstractContextManager[Path]]:
    """As `write_atomically`, but Ctrl-C comes instead of that save of that fold."""
    saves = 0

    def write(path: Path) -> AbstractContextManager[Path]:
        nonlocal saves
        if path.name == f"fit.{number}":
            saves += 1
            if saves == save:
                raise KeyboardInterrupt
        return write_atomically(path)

    return write


def test_same_seed_and_a_fit_that_was_stopped_within_a_fold_give_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, observations = earthquake(1)
    quick = {"epochs": 3, "batch_size": 1024}
    whole = model(**quick).fit(observations)
    with monkeypatch.context() as patched:
        patched.setattr(training, "write_atomically", interrupted(1, 3))
        with pytest.raises(KeyboardInterrupt):
            model(**quick).fit(observations, checkpoint=tmp_path / "fit")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fit.0", "fit.1"]
    again = model(**quick).fit(observations, checkpoint=tmp_path / "fit")
    np.testing.assert_array_equal(whole.classes_, again.classes_)
    assert np.isfinite(whole.held_out_)
    assert len(whole.histories_) == 2
    assert (whole.length_, whole.held_out_, whole.histories_) == (again.length_, again.held_out_, again.histories_)


# --- files -----------------------------------------------------------------------------------------------------------


def test_a_loaded_model_gives_the_same_answers(
    fitted: tuple[dict[str, np.ndarray], lc.CausesOfChange], tmp_path: Path
) -> None:
    _, found = fitted
    lc.save(found, tmp_path / "slides.safetensors")
    again = lc.load(tmp_path / "slides.safetensors")
    assert isinstance(again, lc.CausesOfChange)
    assert again.get_params()["folds"] == 2
    assert again.graph == found.graph
    xr.testing.assert_identical(again.probabilities(), found.probabilities())
    xr.testing.assert_identical(again.sample_posterior(3, generator=0), found.sample_posterior(3, generator=0))
    assert (again.held_out_, again.histories_) == (found.held_out_, found.histories_)


def test_coordinates_of_other_grids_and_blurred_sensors_come_back(tmp_path: Path) -> None:
    """Kinds of cells that the other maps do not have: of a grid of its own with a coordinate system, and after a blur."""
    _, observations = earthquake()
    grid = Grid.from_centres({"y": 43 - 0.01 * np.arange(SHAPE[0]), "x": 141 + 0.01 * np.arange(SHAPE[1])}, "EPSG:4326")
    own = dict(observations.per_node)
    operator = block_mean(SHAPE, 8) @ gaussian_blur(SHAPE, 1.0)
    own["slide"] = Observation(own["slide"].values, operator, BernoulliError(), "slides.tif, band 2")
    seen = lc.GriddedObservations(GRAPH, grid, own)
    found = model(epochs=1, batch_size=2048).fit(seen)
    lc.save(found, tmp_path / "slides.safetensors")
    again = lc.load(tmp_path / "slides.safetensors")
    xr.testing.assert_identical(again.probabilities(), found.probabilities())
    assert again.probabilities().attrs == {"crs": "EPSG:4326"}
    assert dict(again.observations_.per_node)["slide"].name == "slides.tif, band 2"


def test_files_that_do_not_hold_a_fitted_model(
    fitted: tuple[dict[str, np.ndarray], lc.CausesOfChange], tmp_path: Path
) -> None:
    path = tmp_path / "slides.safetensors"
    with pytest.raises(NotFittedError, match="this CausesOfChange is not fitted yet: call fit"):
        lc.save(model(), path)
    assert not list(tmp_path.iterdir())
    lc.save(fitted[1], path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"slides\.safetensors is cut short or damaged"):
        lc.load(path)
    path.write_bytes(whole.replace(b'"version":"1"', b'"version":"9"'))
    with pytest.raises(ValueError, match=r"slides\.safetensors has format 9, this latentcause reads 1"):
        lc.load(path)


def replaced(**changes: Any) -> lc.GriddedObservations:
    _, observations = earthquake()
    own = dict(observations.per_node) | changes
    return lc.GriddedObservations(GRAPH, SHAPE, own)


def test_what_does_not_fit_is_refused() -> None:
    own = dict(replaced().per_node)
    change = own["change"].values.reshape(SHAPE)
    change[3, 3] = np.nan
    chain = lc.CausalGraph.from_string("slide -> quicksand -> change")
    with pytest.raises(NotFittedError, match="call fit"):
        model().sample_posterior(1, generator=0)
    with pytest.raises(ValueError, match="one effect, with all other nodes as its causes"):
        lc.CausesOfChange(chain).fit(lc.GriddedObservations(chain, SHAPE, own))
    with pytest.raises(ValueError, match="1 of 7680 are missing"):
        model().fit(replaced(change=Observation(change, noise=EMISSION)))
    with pytest.raises(ValueError, match="MixtureEmission of two components of one family"):
        model().fit(replaced(change=Observation(np.ones(SHAPE), noise=1.0)))
    with pytest.raises(ValueError, match=r"'slide': its chances are 0\.1 everywhere"):
        model().fit(replaced(slide=Observation(np.full(SHAPE, 0.1), noise=BernoulliError())))
    with pytest.raises(ValueError, match="'slide': give chances seen through"):
        model().fit(replaced(slide=Observation(np.ones(SHAPE), noise=0.5)))
    with pytest.raises(ValueError, match="odd numbers of pixels"):
        model(window=4).fit(replaced())
    with pytest.raises(ValueError, match="folds=1"):
        model(folds=1).fit(replaced())
    with pytest.raises(ValueError, match="too small for a hole of 25 pixels"):
        model(hole=25).fit(replaced())
