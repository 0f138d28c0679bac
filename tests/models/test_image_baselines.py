from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
import torch._dynamo
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from image_systems import CHAIN, chain_images, measured, quarters
from latentcause import CausalDiffAE, LabelledImages, load, save
from latentcause.io import REGISTRY
from latentcause.models.baselines.images import CausalVAE, ConditionalDiffusion, DiffAE, Factual, PixelScaling
from latentcause.models.image_model import ImageModel
from latentcause.scm import Shift

DIFFUSION = {
    "channels": (16,),
    "epochs": 10,
    "learning_rate": 4e-3,
    "steps": 15,
    "precision": "float32",
    "device": "cpu",
}
MODELS = {
    "Factual": Factual(CHAIN),
    "PixelScaling": PixelScaling(CHAIN, "b", mechanisms="linear", bounds={"c": (0, 120)}),
    "CausalVAE": CausalVAE(CHAIN, mechanisms="linear", epochs=10, learning_rate=4e-3, device="cpu"),
    "ConditionalDiffusion": ConditionalDiffusion(CHAIN, mechanisms="linear", **DIFFUSION),
    "DiffAE": DiffAE(CHAIN, code_size=8, **DIFFUSION | {"epochs": 24}),
}
WITHOUT_ENCODER = ("Factual", "PixelScaling", "ConditionalDiffusion")
HELD_OUT = chain_images(40, seed=9)
X, LABELS = HELD_OUT.pixels, HELD_OUT.labels


@pytest.fixture(scope="module")
def fits() -> dict[str, ImageModel]:
    return {}


@pytest.fixture(params=MODELS)
def model(request, fits) -> ImageModel:
    return fitted(request.param, fits)


def fitted(name: str, fits: dict[str, ImageModel]) -> ImageModel:
    if name not in fits:
        fits[name] = MODELS[name].fit(chain_images(400))
    return fits[name]


# --- what all of them promise ----------------------------------------------------------------------------------------


def test_answers_are_images_and_tables_of_factors(model):
    image = model.counterfactual(HELD_OUT, {"a": 50.0}, LABELS)
    assert image.shape == X.shape
    assert image.dtype == np.float32
    assert 0 <= image.min() <= image.max() <= 1
    factors = model.counterfactual_factors(X, {"a": 50.0}, LABELS)
    assert list(factors) == ["a", "b", "c"]
    assert len(factors) == len(X)
    assert np.array_equal(image, model.counterfactual(X, {"a": 50.0}, LABELS))


def test_nothing_done_gives_the_image_or_its_reconstruction_back(model):
    allowed = 0.06 if isinstance(model, CausalVAE) else 1e-3
    assert np.abs(model.counterfactual(X, {}, LABELS) - X).mean() < allowed
    np.testing.assert_allclose(model.counterfactual_factors(X, {}, LABELS), LABELS, rtol=1e-4)


def test_a_file_gives_the_same_model(model, tmp_path):
    save(model, tmp_path / "model.safetensors")
    back = load(tmp_path / "model.safetensors")
    assert type(back) is type(model)
    assert (back.history_, back.converged_) == (model.history_, model.converged_)
    for do in ({"a": 50.0}, {"b": Shift(-5.0)}):
        assert np.array_equal(back.counterfactual(X, do, LABELS), model.counterfactual(X, do, LABELS))
        pd.testing.assert_frame_equal(
            back.counterfactual_factors(X, do, LABELS), model.counterfactual_factors(X, do, LABELS)
        )


def test_every_model_of_images_can_be_saved():
    for kind in (CausalDiffAE, *map(type, MODELS.values())):
        assert issubclass(kind, ImageModel)
        assert kind.__name__ in REGISTRY


def test_what_cant_be_asked_is_refused(model):
    for do, message in (({"d": 1.0}, "'d', which is not a node"), ({"b": "high"}, "give a number")):
        with pytest.raises(ValueError, match=message):
            model.counterfactual(X, do, LABELS)
    with pytest.raises(ValueError, match="images of 1 x 8 x 10, but the model was fitted to 1 x 8 x 8"):
        model.counterfactual(np.zeros((2, 1, 8, 10)), {"a": 50.0}, LABELS[:2])
    with pytest.raises(ValueError, match="the data lack column 'c'"):
        model.counterfactual_factors(X, {"a": 50.0}, LABELS[["a", "b"]])
    with pytest.raises(NotFittedError, match=f"this {type(model).__name__} is not fitted yet"):
        clone(model).counterfactual(X, {"a": 50.0}, LABELS)


@pytest.mark.parametrize("name", WITHOUT_ENCODER)
def test_without_an_encoder_labels_are_needed(name, fits):
    model = fitted(name, fits)
    for ask in (lambda: model.encode(X), lambda: model.counterfactual_factors(X, {"a": 50.0})):
        with pytest.raises(
            ValueError, match=f"{name} has no encoder, so it can't tell the factors of images: give lab"
        ):
            ask()
    if name != "Factual":
        with pytest.raises(ValueError, match=f"{name} has no encoder"):
            model.counterfactual(X, {"a": 50.0})


@pytest.mark.parametrize("name", ["CausalVAE", "ConditionalDiffusion", "DiffAE"])
def test_the_seed_decides_the_result(name):
    settings = {"epochs": 1, "channels": (8, 8) if name == "CausalVAE" else (8,)}
    first, again, other = (
        clone(MODELS[name]).set_params(**settings, seed=seed).fit(chain_images(60)) for seed in (0, 0, 1)
    )
    wanted = first.counterfactual(X, {"a": 50.0}, LABELS)
    assert np.array_equal(again.counterfactual(X, {"a": 50.0}, LABELS), wanted)
    assert not np.array_equal(other.counterfactual(X, {"a": 50.0}, LABELS), wanted)


# --- what each of them does ------------------------------------------------------------------------------------------

SET_A = LABELS.assign(a=50.0, b=LABELS["b"] + 0.8 * (50 - LABELS["a"]), c=LABELS["c"] - 0.72 * (50 - LABELS["a"]))


@pytest.mark.parametrize(("name", "told"), [("CausalVAE", True), ("CausalVAE", False), ("ConditionalDiffusion", True)])
def test_causal_models_move_the_whole_chain(name, told, fits):
    model = fitted(name, fits)
    labels = LABELS if told else None
    factors = model.counterfactual_factors(X, {"a": 50.0}, labels)
    assert ((factors - SET_A).abs().mean() < 4).all()
    image = measured(model.counterfactual(X, {"a": 50.0}, labels))
    assert ((image - SET_A).abs().mean() < 0.6 * (measured(X) - SET_A).abs().mean()).all()


def test_diff_ae_changes_what_is_set_and_says_so(fits):
    model = fitted("DiffAE", fits)
    assert ((model.encode(X) - LABELS).abs().mean() < 0.6 * LABELS.std()).all()
    pd.testing.assert_frame_equal(
        model.counterfactual_factors(X, {"a": 50.0}, LABELS), LABELS.assign(a=50.0), rtol=1e-5
    )
    image = measured(model.counterfactual(X, {"a": 50.0}, LABELS))
    assert (image["a"] - 50).abs().mean() < 0.8 * (measured(X)["a"] - 50).abs().mean()


def test_a_step_of_diff_ae_changes_what_the_regression_says_by_that_much(fits):
    model = fitted("DiffAE", fits)
    codes = model._codes(torch.from_numpy(X.copy()))
    change = torch.zeros(len(X), 3)
    change[:, 0], change[:, 2] = 0.5, -1.0
    for columns in ([True, False, True], [True, False, False]):
        chosen = torch.tensor(columns)
        moved = (model.module_.moved(codes, change, chosen) - codes) @ model.module_.weights
        torch.testing.assert_close(moved[:, chosen], change[:, chosen], rtol=1e-3, atol=1e-3)


def test_diff_ae_sets_categories():
    labels = LABELS.assign(bright=LABELS["a"] > 50).drop(columns="b")
    graph = type(CHAIN).from_string("a -> bright; c")
    model = clone(MODELS["DiffAE"]).set_params(graph=graph, epochs=2).fit(LabelledImages(X, labels))
    assert model.encode(X)["bright"].dtype == bool
    assert model.counterfactual_factors(X, {"bright": True}, labels)["bright"].all()
    codes = model._codes(torch.from_numpy(X.copy()))
    change = torch.tensor([[0.0, 1.0, -1.0, 0.0]]).expand(len(X), 4)
    moved = (
        model.module_.moved(codes, change, torch.tensor([False, True, True, False])) - codes
    ) @ model.module_.weights
    torch.testing.assert_close(moved[:, 1:3], change[:, 1:3], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["CausalVAE", "ConditionalDiffusion"])
def test_samples_have_the_factor_that_do_sets(name, fits):
    model = fitted(name, fits)
    low, factors = model.sample(30, {"b": 30.0}, generator=1)
    high, _ = model.sample(30, {"b": 70.0}, generator=1)
    assert low.shape == (30, 1, 8, 8)
    np.testing.assert_allclose(factors["b"], 30.0, rtol=1e-5)
    assert factors["a"].std() > 5
    moved = measured(high) - measured(low)
    assert moved["b"].mean() > 15
    assert moved["c"].mean() < -5


@pytest.mark.parametrize("name", ["CausalVAE", "ConditionalDiffusion", "DiffAE"])
def test_images_without_labels_are_allowed(name):
    full = chain_images(100)
    labels = full.labels
    labels.loc[np.arange(100) % 2 == 0] = np.nan
    few = LabelledImages(full.pixels, labels, few_labels=True)
    model = clone(MODELS[name]).set_params(epochs=1).fit(few)
    found = model.counterfactual(X, {"a": 50.0}, LABELS)
    assert np.isfinite(found).all()
    assert np.abs(found - X).max() > 0


def test_the_factual_stays(fits):
    model = fitted("Factual", fits)
    assert np.array_equal(model.counterfactual(X, {"a": 50.0}), X)
    pd.testing.assert_frame_equal(model.counterfactual_factors(X, {"a": 50.0}, LABELS), LABELS, rtol=1e-5)


def test_pixel_scaling_multiplies_by_the_ratio_of_the_factor(fits):
    model = fitted("PixelScaling", fits)
    changed = model.counterfactual_factors(X, {"a": 50.0}, LABELS)
    ratio = (changed["b"] / LABELS["b"]).to_numpy()[:, None, None, None]
    np.testing.assert_allclose(model.counterfactual(X, {"a": 50.0}, LABELS), (X * ratio).clip(0, 1), rtol=1e-4)
    np.testing.assert_allclose(changed["b"], SET_A["b"], atol=2)
    # Right where the factor is all that the image shows.
    even = LabelledImages(quarters(LABELS.assign(a=LABELS["b"], c=LABELS["b"]), 0 * X[:, 0, 4:, 4:]), LABELS)
    exact = quarters(LABELS.assign(a=40.0, b=40.0, c=40.0), 0 * X[:, 0, 4:, 4:])
    np.testing.assert_allclose(model.counterfactual(even, {"b": 40.0}, LABELS), exact, atol=1e-5)


def test_pixel_scaling_refuses_factors_that_are_no_brightness(fits):
    images = chain_images(30)
    labels = images.labels
    with pytest.raises(ValueError, match="factor='d' is not a node of the graph"):
        PixelScaling(CHAIN, "d").fit(images)
    with pytest.raises(ValueError, match="factor='b' is a category"):
        PixelScaling(CHAIN, "b").fit(LabelledImages(images.pixels, labels.assign(b=np.arange(30) % 2 == 0)))
    with pytest.raises(ValueError, match=r"the label of 'b' in row 0 is -.*: pixels are scaled by a positive factor"):
        PixelScaling(CHAIN, "b").fit(LabelledImages(images.pixels, labels.assign(b=-labels["b"])))
    with pytest.raises(ValueError, match="the label of 'b' in row 0 is 0: pixels are scaled by a positive factor"):
        fitted("PixelScaling", fits).counterfactual(X, {"a": 50.0}, LABELS.assign(b=0.0))


def test_causal_vae_takes_images_of_any_size():
    images = LabelledImages(np.pad(X, ((0, 0), (0, 0), (0, 1), (0, 3))), LABELS)
    model = clone(MODELS["CausalVAE"]).set_params(epochs=1).fit(images)
    assert model.counterfactual(images, {"a": 50.0}).shape == (40, 1, 9, 11)
    with pytest.raises(ValueError, match="images of 9 x 11 can't be halved"):
        clone(MODELS["ConditionalDiffusion"]).fit(images)
