"""The free numbers in the code of a factor: by themselves, and in the answers of a CausalDiffAE with wide blocks."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from image_systems import CHAIN, chain_images
from latentcause import CausalDiffAE, CausalGraph, LabelledImages, load, save
from latentcause.models.causal_autoencoder import CausalAutoencoder
from latentcause.models.factor_code import FactorCode
from latentcause.models.factor_model import FactorModel
from latentcause.models.free_code import FreeCode
from latentcause.models.image_diffusion import draw_noising, velocity_loss
from latentcause.scm import Shift
from latentcause.training import seeded

QUICK = {"mechanisms": "linear", "channels": (8,), "epochs": 1, "steps": 4, "precision": "float32", "device": "cpu"}
HELD_OUT = chain_images(20, seed=9)
X, LABELS = HELD_OUT.pixels, HELD_OUT.labels


@pytest.fixture(scope="module")
def wide() -> CausalDiffAE:
    """Blocks of three, in which the decoder is told so much by free numbers that no answer leaves them out."""
    model = CausalDiffAE(CHAIN, block_size=3, **QUICK | {"steps": 15}).fit(chain_images(80))
    with torch.no_grad():
        model.module_.encoder.head[-1].weight[6:12] *= 100
        model.module_.decoder.conditioner.code[0].weight[:, 3:] *= 10
    return model


def code_of(*names: str, **levels: tuple[str, ...]) -> FactorCode:
    d = len(names)
    return FactorCode(names, {}, levels, (0.0,) * d, (1.0,) * d, (0.0,) * d, (1.0,) * d)


# --- the numbers themselves ------------------------------------------------------------------------------------------


def test_numbers_have_blocks_and_categories_none():
    free = FreeCode(code_of("ink", "shape", "angle", shape=("a", "b")), 3)
    assert free.owners == ("ink", "ink", "angle", "angle")
    assert free.columns == ("ink_1", "ink_2", "angle_1", "angle_2")
    assert free.size == 4
    alone = FreeCode(free.code, 1)
    assert (alone.owners, alone.columns, alone.size) == ((), (), 0)


def test_the_divergence_is_that_of_normal_distributions():
    free, outputs = FreeCode(code_of("a", "b"), 3), torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    posterior = torch.distributions.Normal(outputs[:, :4], (0.5 * outputs[:, 4:]).exp())
    expected = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(free.divergence(outputs), expected)
    assert torch.equal(free.divergence(torch.zeros(2, 8)), torch.zeros(2))


def test_draws_have_the_posterior_s_mean_and_variance():
    free, outputs = FreeCode(code_of("a"), 2), torch.tensor([[1.5, -2.0]]).expand(40000, 2)
    drawn = free.draw(outputs, torch.randn(40000, 1, generator=torch.Generator().manual_seed(0)))
    assert float(drawn.mean()) == pytest.approx(1.5, abs=0.01)
    assert float(drawn.var()) == pytest.approx(np.exp(-2.0), rel=0.03)
    assert torch.equal(free.mean(outputs), outputs[:, :1])


def test_do_replaces_the_blocks_of_the_factors_that_it_moves():
    free = FreeCode(code_of("a", "b"), 3)
    moved = torch.tensor([[True, True], [False, True]])
    after = free.after(torch.ones(2, 4), {"a"}, moved)
    assert after.tolist() == [[0, 0, 1, 1], [1, 1, 1, 1]]
    assert free.after(torch.ones(2, 4), {"a", "b"}, moved).tolist() == [[0, 0, 0, 0], [1, 1, 0, 0]]
    assert FreeCode(free.code, 1).after(torch.ones(2, 0), {"a"}, moved).shape == (2, 0)


@pytest.mark.parametrize("size", [0, -1, 1.5, "2", True])
def test_a_block_size_that_is_none_is_refused(size):
    with pytest.raises(ValueError, match=r"block_size is .*: give a whole number"):
        CausalDiffAE(CHAIN, block_size=size, **QUICK).fit(chain_images(20))


def test_a_factor_with_the_name_of_a_free_number_is_refused():
    with pytest.raises(ValueError, match="'a_1' is a factor, and the name of a free number of another"):
        FreeCode(code_of("a", "a_1"), 2)


# --- in the networks -------------------------------------------------------------------------------------------------


def test_a_block_of_one_is_the_code_without_blocks():
    images = chain_images(16)
    factors = FactorModel.fit(images, CHAIN, None, "linear")
    settings = {"kl_weight": 0.005, "prior_sd": 0.03, "p_unconditional": 0.1, "labels_told": False}
    with seeded(0):
        module = CausalAutoencoder(factors, 1, (8,), block_size=1, **settings)
    assert module.encoder.head[-1].out_features == 6
    assert module.decoder.conditioner.code[0].in_features == 3
    batch = (torch.from_numpy(images.pixels.copy()), factors.noise_of(images), torch.ones(16))

    first, second = (torch.Generator().manual_seed(1) for _ in range(2))
    draws = module.draw(batch, first)
    t, noise = draw_noising(batch[0], second)
    of_factors = torch.randn(16, 3, generator=second)
    withheld = torch.rand(16, generator=second) < 0.1
    assert all(torch.equal(a, b) for a, b in zip(draws, (t, noise, of_factors, withheld), strict=True))
    assert torch.equal(first.get_state(), second.get_state())

    outputs = module.encoder(batch[0])
    told = factors.code.told(factors.solved(module.posterior.draw(outputs, batch[1], of_factors)))
    error = velocity_loss(module.decoder, batch[0], told, t, noise, withheld)
    expected = error + 0.005 * module.posterior.divergence(outputs, batch[1], module.noise_variance)
    assert torch.equal(module.loss((*batch, *draws)), expected)


def test_labels_are_told_to_the_decoder_where_there_are_any():
    images = chain_images(16)
    factors = FactorModel.fit(images, CHAIN, None, "linear")
    with seeded(0):
        module = CausalAutoencoder(
            factors, 1, (8,), block_size=1, kl_weight=0.0, prior_sd=0.03, p_unconditional=0.1, labels_told=True
        )
    labels = factors.noise_of(images)
    labels[::2] = torch.nan
    batch = (torch.from_numpy(images.pixels.copy()), labels, torch.ones(16))
    draws = module.draw(batch, torch.Generator().manual_seed(1))
    drawn = module.posterior.draw(module.encoder(batch[0]), labels, draws[2])
    drawn[1::2] = labels[1::2]
    t, noise, _, withheld = draws
    expected = velocity_loss(module.decoder, batch[0], module.told(factors.solved(drawn)), t, noise, withheld)
    torch.testing.assert_close(module.loss((*batch, *draws)), expected)


def test_wide_blocks_are_told_and_cost_their_divergence():
    images = chain_images(16)
    factors = FactorModel.fit(images, CHAIN, None, "linear")
    settings = {"prior_sd": 0.03, "p_unconditional": 0.1, "block_size": 4, "labels_told": False}
    with seeded(0):
        module, heavier = (CausalAutoencoder(factors, 1, (8,), kl_weight=weight, **settings) for weight in (0.0, 2.0))
    heavier.load_state_dict(module.state_dict())
    assert module.encoder.head[-1].out_features == 6 + 2 * 9
    assert module.decoder.conditioner.code[0].in_features == 3 + 9
    batch = (torch.from_numpy(images.pixels.copy()), factors.noise_of(images), torch.ones(16))
    draws = module.draw(batch, torch.Generator().manual_seed(1))
    outputs = module.encoder(batch[0])
    divergence = module.posterior.divergence(outputs[:, :6], batch[1], module.noise_variance)
    divergence = divergence + module.free.divergence(outputs[:, 6:])
    torch.testing.assert_close(heavier.loss((*batch, *draws)) - module.loss((*batch, *draws)), 2 * divergence)
    assert torch.equal(module.told(torch.ones(2, 12)), torch.ones(2, 12))


# --- in answers ------------------------------------------------------------------------------------------------------


def test_encode_gives_the_factors_or_the_whole_code(wide):
    assert list(wide.encode(X)) == ["a", "b", "c"]
    whole = wide.encode(X, blocks=True)
    assert list(whole) == ["a", "a_1", "a_2", "b", "b_1", "b_2", "c", "c_1", "c_2"]
    pd.testing.assert_frame_equal(whole[["a", "b", "c"]], wide.encode(X))
    assert (whole[["a_1", "b_2", "c_1"]].std() > 0.1).all()


@pytest.mark.parametrize("told", [True, False])
def test_nothing_done_gives_the_image_back(wide, told):
    labels = LABELS if told else None
    same = {name: (LABELS if told else wide.encode(X))[name].to_numpy() for name in LABELS}
    for do in ({}, same, {"a": same["a"]}, {"b": Shift(0.0)}):
        assert np.abs(wide.counterfactual(X, do, labels) - X).max() < 1e-3


def test_do_sets_free_numbers_of_its_factor_alone_to_0(wide, monkeypatch):
    codes = []
    told = CausalAutoencoder.told
    monkeypatch.setattr(CausalAutoencoder, "told", lambda module, code: codes.append(code) or told(module, code))
    half = np.where(np.arange(20) < 10, 50.0, LABELS["b"])
    wide.counterfactual(X, {"b": half}, LABELS)
    free = wide.encode(X, blocks=True)[[f"{name}_{k}" for name in "abc" for k in (1, 2)]].to_numpy()
    after = free.copy()
    after[:10, 2:4] = 0
    reference, answered = codes
    for code, expected in ((reference, free), (answered, after)):
        np.testing.assert_allclose(code[:, 3:].numpy(), expected, rtol=1e-5, atol=1e-5)


def test_images_are_decoded_from_the_whole_code(wide):
    code = wide.encode(X, blocks=True)
    noise = wide.invert(X)
    np.testing.assert_allclose(wide.invert(X, code), noise, atol=1e-3)
    np.testing.assert_allclose(wide.decode(code, noise), X, atol=1e-3)
    changed = wide.counterfactual_factors(X, {"a": 50.0}).join(code.drop(columns=["a", "b", "c"]))
    changed[["a_1", "a_2"]] = 0.0
    np.testing.assert_allclose(wide.decode(changed, noise), wide.counterfactual(X, {"a": 50.0}), atol=1e-3)
    kept = changed.assign(a_1=code["a_1"], a_2=code["a_2"])
    assert np.abs(wide.decode(kept, noise) - wide.decode(changed, noise)).max() > 5e-3
    for ask in (lambda: wide.decode(LABELS, noise), lambda: wide.invert(X, LABELS)):
        with pytest.raises(ValueError, match="the data lack column 'a_1'"):
            ask()


def test_samples_draw_free_numbers_but_those_that_do_sets(wide, monkeypatch):
    codes = []
    told = CausalAutoencoder.told
    monkeypatch.setattr(CausalAutoencoder, "told", lambda module, code: codes.append(code) or told(module, code))
    _, factors = wide.sample(200, {"b": 50.0}, generator=0)
    assert list(factors) == ["a", "b", "c"]
    free = codes[0][:, 3:]
    assert (free[:, 2:4] == 0).all()
    np.testing.assert_allclose(free[:, [0, 1, 4, 5]].std(0), 1, atol=0.15)


def test_interpolation_ends_are_the_images(wide):
    frames = wide.interpolate(X[:3], X[3:6], 3)
    for frame, images in ((frames[0], X[:3]), (frames[-1], X[3:6])):
        assert np.abs(frame - images).max() < 5e-3


def test_a_file_gives_the_same_model(wide, tmp_path):
    save(wide, tmp_path / "wide.safetensors")
    back = load(tmp_path / "wide.safetensors")
    assert back.block_size == 3
    pd.testing.assert_frame_equal(back.encode(X, blocks=True), wide.encode(X, blocks=True))
    assert np.array_equal(back.counterfactual(X, {"a": 50.0}), wide.counterfactual(X, {"a": 50.0}))


def test_categories_keep_their_code():
    draw = np.random.default_rng(0)
    high = draw.random(40) < 0.5
    images = LabelledImages(draw.random((40, 1, 8, 8)), {"high": high, "a": high + draw.standard_normal(40)})
    model = CausalDiffAE(CausalGraph.from_string("high -> a"), block_size=2, **QUICK).fit(images)
    assert list(model.encode(images, blocks=True)) == ["high", "a", "a_1"]
    assert model.module_.decoder.conditioner.code[0].in_features == 2 + 1 + 1
    changed = model.counterfactual(images, {"high": ~high}, images.labels)
    assert changed.shape == images.pixels.shape
