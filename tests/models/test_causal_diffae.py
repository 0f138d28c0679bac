from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
import torch._dynamo
from sklearn.exceptions import NotFittedError

from image_systems import CHAIN, chain_images, measured, quarters
from latentcause import CausalDiffAE, CausalGraph, LabelledImages, datasets, load, save
from latentcause.models.causal_autoencoder import CausalAutoencoder
from latentcause.models.image_diffusion import ImageDiffusion
from latentcause.scm import LinearMechanism, Shift

BOUNDS = {"ink": (12.0, 28.0), "intensity": (64.0, 255.0)}
QUICK = {"mechanisms": "linear", "channels": (8,), "epochs": 1, "steps": 4, "precision": "float32", "device": "cpu"}
LEARNS = QUICK | {"channels": (16,), "epochs": 12, "learning_rate": 4e-3, "steps": 15}


@pytest.fixture(scope="module")
def digits():
    return datasets.digits(560, seed=0).split(60, seed=1)


@pytest.fixture(scope="module")
def of_digits(digits) -> CausalDiffAE:
    rest, _ = digits
    return CausalDiffAE(rest.graph, bounds=BOUNDS, **LEARNS | {"mechanisms": "spline"}).fit(rest.images)


@pytest.fixture(scope="module")
def of_chain() -> CausalDiffAE:
    return CausalDiffAE(CHAIN, **LEARNS).fit(chain_images(400))


@pytest.fixture(scope="module")
def quick() -> CausalDiffAE:
    return CausalDiffAE(CHAIN, bounds={"a": (0, 100)}, **QUICK).fit(chain_images(80))


HELD_OUT = chain_images(40, seed=9)


def test_counterfactual_digits_come_nearer_to_the_truth_than_the_facts(of_digits, digits):
    _, held = digits
    labels = held.images.labels
    for name, share in (("ink", 0.6), ("intensity", 0.6)):
        do = {name: np.roll(labels[name], 1)}
        true = held.counterfactual(slice(None), do)
        found = of_digits.counterfactual(held.images, do, labels)
        assert found.shape == true.shape
        assert found.dtype == np.float32
        assert np.abs(found - true).mean() < share * np.abs(held.images.pixels - true).mean()


def test_factors_of_counterfactual_digits_are_near_the_true_ones(of_digits, digits):
    _, held = digits
    do = {"ink": np.roll(held.images.labels["ink"], 1)}
    found = of_digits.counterfactual_factors(held.images, do, held.images.labels)
    true = held.counterfactual_factors(slice(None), do)
    assert (found["ink"] - do["ink"]).abs().max() < 1e-3
    assert (found["intensity"] - true["intensity"]).abs().mean() < 8


def test_effects_go_all_the_way_down_the_chain(of_chain):
    x, labels = HELD_OUT.pixels, HELD_OUT.labels
    found = of_chain.counterfactual_factors(x, {"a": Shift(10.0)}, labels) - labels
    np.testing.assert_allclose(found.mean(), [10, 8, -7.2], atol=0.6)
    halfway = of_chain.counterfactual_factors(x, {"b": Shift(10.0)}, labels) - labels
    np.testing.assert_allclose(halfway.mean(), [0, 10, -9], atol=0.6)

    true = labels.assign(a=50.0, b=labels["b"] + 0.8 * (50 - labels["a"]), c=labels["c"] - 0.72 * (50 - labels["a"]))
    image = of_chain.counterfactual(x, {"a": 50.0}, labels)
    missed, before = (measured(picture) - true for picture in (image, x))
    assert (missed.abs().mean() < 0.5 * before.abs().mean()).all()
    assert (
        np.abs(image - quarters(true, x[:, 0, 4:, 4:])).mean()
        < 0.6 * np.abs(x - quarters(true, x[:, 0, 4:, 4:])).mean()
    )


def test_factors_between_do_and_effect_that_are_set_stop_it(of_chain):
    labels = HELD_OUT.labels
    found = of_chain.counterfactual_factors(HELD_OUT, {"a": 50.0, "b": labels["b"].to_numpy()}, labels)
    np.testing.assert_allclose(found["c"], labels["c"], rtol=1e-4)


@pytest.mark.parametrize("told", [True, False])
def test_nothing_done_gives_the_image_back(of_chain, of_digits, digits, told):
    for model, images in ((of_chain, HELD_OUT), (of_digits, digits[1].images)):
        labels = images.labels if told else None
        same = {name: images.labels[name].to_numpy() for name in images.names} if told else {}
        for do in ({}, same):
            missed = np.abs(model.counterfactual(images, do, labels) - images.pixels)
            assert missed.mean() < 3e-4
            assert missed.max() < 3e-3
    again = of_chain.counterfactual(HELD_OUT, {}, HELD_OUT.labels if told else None, guidance=2.0)
    assert np.abs(again - HELD_OUT.pixels).max() < 3e-3


def test_the_encoder_sees_the_factors(of_chain):
    error = (of_chain.encode(HELD_OUT) - HELD_OUT.labels).abs().mean()
    assert (error < 0.3 * HELD_OUT.labels.std()).all()
    from_image = of_chain.counterfactual(HELD_OUT, {"a": 50.0})
    from_labels = of_chain.counterfactual(HELD_OUT, {"a": 50.0}, of_chain.encode(HELD_OUT))
    np.testing.assert_allclose(from_image, from_labels, atol=1e-3)
    assert np.abs(from_image - of_chain.counterfactual(HELD_OUT, {"a": 50.0}, HELD_OUT.labels)).max() > 1e-3


def test_images_are_decoded_from_what_inversion_gives(of_chain):
    noise = of_chain.invert(HELD_OUT, HELD_OUT.labels)
    np.testing.assert_allclose(of_chain.decode(HELD_OUT.labels, noise), HELD_OUT.pixels, atol=1e-3)
    changed = of_chain.counterfactual_factors(HELD_OUT, {"a": 50.0}, HELD_OUT.labels)
    wanted = of_chain.counterfactual(HELD_OUT, {"a": 50.0}, HELD_OUT.labels)
    # An edit does without the errors that the sampler makes on the image's own path.
    assert np.abs(of_chain.decode(changed, noise) - wanted).mean() < 0.2 * np.abs(wanted - HELD_OUT.pixels).mean()


# --- samples and what lies between ----------------------------------------------------------------------------------


def test_samples_have_the_factor_that_do_sets(of_chain):
    images, factors = of_chain.sample(30, {"b": 40.0}, generator=3)
    assert images.shape == (30, 1, 8, 8)
    np.testing.assert_allclose(factors["b"], 40.0, rtol=1e-5)
    assert factors["a"].std() > 5
    np.testing.assert_allclose(factors["c"], 95 - 0.9 * 40, atol=15)
    higher, _ = of_chain.sample(30, {"b": 70.0}, generator=3)
    assert (measured(higher) - measured(images))["b"].mean() > 15
    again, same = of_chain.sample(30, {"b": 40.0}, generator=torch.Generator().manual_seed(3))
    assert np.array_equal(images, again)
    pd.testing.assert_frame_equal(factors, same)


def test_interpolation_ends_are_the_images(of_chain):
    first, last = HELD_OUT.pixels[:3], HELD_OUT.pixels[3:6]
    frames = of_chain.interpolate(first, last, 3)
    assert frames.shape == (3, 3, 1, 8, 8)
    assert np.abs(frames[0] - first).max() < 2e-3
    assert np.abs(frames[-1] - last).max() < 2e-3
    assert np.abs(frames[1] - first).mean() > 0.01


def test_guidance_costs_a_second_pass_only_where_there_is_some(quick, monkeypatch):
    calls: list[bool] = []
    forward = quick.module_.decoder.forward

    def counted(x, t, code=None, withheld=None):
        calls.append(code is None)
        return forward(x, t, code, withheld)

    monkeypatch.setattr(quick.module_.decoder, "forward", counted)
    path = quick.steps + 1
    for guidance in (None, 1.0, 1.5):
        calls.clear()
        quick.counterfactual(HELD_OUT, {"a": 50.0}, guidance=guidance)
        more = len(calls) - 2 * path  # beyond 1, at the first times only
        assert 0 < more < path if guidance == 1.5 else more == 0
        assert not any(calls)
    calls.clear()
    quick.sample(2, generator=0)
    assert calls == [False] * quick.steps
    monkeypatch.setattr(quick, "guidance", 1.5)
    calls.clear()
    quick.sample(2, generator=0)
    assert sorted(calls) == [False] * quick.steps + [True] * quick.steps


def test_guidance_takes_out_what_do_touches_and_not_what_follows(of_chain, monkeypatch):
    asked = []
    edited = ImageDiffusion.edited

    def seen(self, images, told, wanted, without=()):
        asked.append((told, wanted, list(without)))
        return edited(self, images, told, wanted, without)

    monkeypatch.setattr(ImageDiffusion, "edited", seen)
    few = HELD_OUT.subset(slice(4))
    do = {"b": 60.0, "a": 50.0}
    of_chain.counterfactual(few, do, few.labels, guidance={"a": 1.5, "c": 3.0})
    told, wanted, [(without, weight)] = asked.pop()  # c is not done, and b has weight 1
    assert weight == 1.5
    torch.testing.assert_close(without[:, 0], told[:, 0])
    torch.testing.assert_close(without[:, 1:], wanted[:, 1:])
    assert (wanted - told).abs().amin() > 1e-3
    of_chain.counterfactual(few, do, few.labels, guidance=0.5)
    told, wanted, pairs = asked.pop()
    for column, (without, weight) in zip((1, 0), pairs, strict=True):
        assert weight == 0.5
        others = [j for j in range(3) if j != column]
        torch.testing.assert_close(without[:, column], told[:, column])
        torch.testing.assert_close(without[:, others], wanted[:, others])
    for same in ({"a": 1.0}, {"c": 3.0}, {}):
        of_chain.counterfactual(few, {"a": 50.0}, few.labels, guidance=same)
        assert asked.pop()[2] == []
    with pytest.raises(ValueError, match="guidance speaks of 'd', which is no factor: it knows a, b, c"):
        of_chain.counterfactual(few, {"a": 50.0}, guidance={"d": 2.0})
    with pytest.raises(ValueError, match="guidance is nan for a: give a number"):
        of_chain.counterfactual(few, {"a": 50.0}, guidance=float("nan"))


def test_without_its_change_the_last_factor_stays_as_it_is(of_chain):
    last = of_chain.counterfactual(HELD_OUT, {"c": 50.0}, HELD_OUT.labels, guidance=0.0)
    np.testing.assert_allclose(last, HELD_OUT.pixels, atol=1e-5)  # nothing follows from c


def test_samples_and_files_know_guidance_by_factor(quick, tmp_path, monkeypatch):
    plain, _ = quick.sample(3, generator=0)
    monkeypatch.setattr(quick, "guidance", {"a": 1.5})
    np.testing.assert_array_equal(quick.sample(3, generator=0)[0], plain)
    save(quick, tmp_path / "model.safetensors")
    assert load(tmp_path / "model.safetensors").guidance == {"a": 1.5}


# --- what is refused, what is warned of ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("do", "message"),
    [
        ({"d": 1.0}, "do\\(\\) names 'd', which is not a node of the graph"),
        ({"a": 100.0}, r"do\(a\) is not strictly inside its bounds \(0.0, 100.0\)"),
        ({"a": -1.0}, r"do\(a\) is not strictly inside its bounds"),
        ({"a": Shift(1000.0)}, r"do\(a\) is not strictly inside its bounds"),
        ({"b": "high"}, r"do\(b\) is 'high', but the values of 'b' are numbers"),
        ({"b": None}, r"do\(b\) is not finite"),
        ({"b": [1.0, 2.0]}, r"do\(b\) has shape \(2,\): give one number, or one for each of the 40 rows"),
        ({"b": np.zeros((40, 1))}, r"do\(b\) has shape \(40, 1\)"),
        ({"b": LinearMechanism((0.5,))}, r"do\(b\) is a mechanism"),
    ],
)
def test_interventions_that_cant_be_are_refused(quick, do, message):
    with pytest.raises(ValueError, match=message):
        quick.counterfactual(HELD_OUT, do)


def test_do_far_outside_the_labels_warns_where_it_was_asked(quick):
    with pytest.warns(UserWarning, match=r"do\(b = 300\) lies far outside the labels seen, [\d.]+ to [\d.]+") as found:
        quick.counterfactual(HELD_OUT, {"b": 300.0})
    assert found[0].filename == __file__
    with pytest.warns(UserWarning, match=r"do\(b = ") as found:
        quick.counterfactual_factors(HELD_OUT, {"b": Shift(-200.0)})
    assert found[0].filename == __file__
    with pytest.warns(UserWarning, match=r"do\(c = -90\)") as found:
        quick.sample(2, {"c": -90.0}, generator=0)
    assert found[0].filename == __file__


def test_a_shift_of_a_factor_with_bounds_is_by_its_own_units(quick):
    labels = HELD_OUT.labels
    found = quick.counterfactual_factors(HELD_OUT, {"a": Shift(5.0)}, labels)
    np.testing.assert_allclose(found["a"], labels["a"] + 5, rtol=1e-4)
    with pytest.raises(ValueError, match=r"do\(a\) shifts a factor with bounds, which needs its factual value"):
        quick.sample(3, {"a": Shift(5.0)}, generator=0)


def test_a_shift_below_a_factor_that_is_set_needs_no_bounds():
    model = CausalDiffAE(CHAIN, bounds={"b": (0, 100)}, **QUICK).fit(chain_images(80))
    with pytest.raises(ValueError, match=r"do\(b\) shifts a factor with bounds"):
        model.counterfactual(HELD_OUT, {"a": 40.0, "b": Shift(5.0)})


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (HELD_OUT.labels[["a", "b"]], "the data lack column 'c'"),
        (HELD_OUT.labels[:3], "3 rows of labels for 40 images"),
        (HELD_OUT.labels.assign(b=np.nan), "missing or infinite values in column 'b'"),
        (
            HELD_OUT.labels.assign(a=100.0),
            r"the label of 'a' in row 0 is 100, not strictly inside its bounds \(0, 100\)",
        ),
    ],
)
def test_labels_that_do_not_fit_are_refused(quick, labels, message):
    with pytest.raises(ValueError, match=message):
        quick.counterfactual(HELD_OUT, {"b": 50.0}, labels)


def test_images_of_another_size_are_refused(quick):
    with pytest.raises(ValueError, match="images of 1 x 8 x 10, but the model was fitted to 1 x 8 x 8"):
        quick.encode(np.zeros((2, 1, 8, 10)))
    with pytest.raises(ValueError, match="n is 0: give the number of images"):
        quick.sample(0, generator=0)


def test_a_fit_refuses_what_it_cant_learn_from():
    images = chain_images(20)
    odd = LabelledImages(np.zeros((20, 1, 9, 8)), images.labels)
    with pytest.raises(ValueError, match="images of 9 x 8 can't be halved"):
        CausalDiffAE(CHAIN, **QUICK).fit(odd)
    with pytest.raises(ValueError, match="node 'd' of the graph has no label column"):
        CausalDiffAE(CausalGraph.from_string("a -> b -> c -> d"), **QUICK).fit(images)
    with pytest.raises(ValueError, match="label column 'c' is no node of the graph"):
        CausalDiffAE(CausalGraph.from_string("a -> b"), **QUICK).fit(images)


def test_a_model_that_is_not_fitted_says_so():
    for ask in ("encode", "invert"):
        with pytest.raises(NotFittedError, match="this CausalDiffAE is not fitted yet"):
            getattr(CausalDiffAE(CHAIN), ask)(HELD_OUT)
    with pytest.raises(NotFittedError, match="this CausalDiffAE is not fitted yet"):
        CausalDiffAE(CHAIN).sample(1, generator=0)


# --- categories, few labels ------------------------------------------------------------------------------------------


def lit_images(n: int = 300, seed: int = 0) -> LabelledImages:
    """Quarter a is brighter where it is lit (a root), and so is b; c is whether a is above 50 (a leaf)."""
    draw = np.random.default_rng(seed)
    lit = draw.random(n) < 0.5
    a = 35 + 30 * lit + 4 * draw.standard_normal(n)
    high = a + 8 * draw.standard_normal(n) > 50
    looks = pd.DataFrame({"a": a, "b": np.where(lit, 90.0, 10.0), "c": np.where(high, 90.0, 10.0)})
    return LabelledImages(quarters(looks, np.full((n, 4, 4), 0.5)), {"lit": lit, "a": a, "high": high})


@pytest.fixture(scope="module")
def of_lit() -> CausalDiffAE:
    return CausalDiffAE(CausalGraph.from_string("lit -> a -> high"), **LEARNS | {"epochs": 10}).fit(lit_images())


def test_categories_are_read_off_images(of_lit):
    held = lit_images(60, seed=9)
    found = of_lit.encode(held)
    assert found.dtypes.astype(str).tolist() == ["bool", "float64", "bool"]
    for name in ("lit", "high"):
        assert (found[name] == held.labels[name]).mean() > 0.95


def test_a_category_at_the_root_moves_what_depends_on_it(of_lit):
    held = lit_images(60, seed=9)
    labels = held.labels
    do = {"lit": ~labels["lit"].to_numpy(), "high": labels["high"].to_numpy()}
    found = of_lit.counterfactual_factors(held, do, labels)
    assert (found["lit"] == do["lit"]).all()
    np.testing.assert_allclose(found["a"] - labels["a"], np.where(labels["lit"], -30, 30), atol=2)
    image = of_lit.counterfactual(held, do, labels)
    moved = measured(image) - measured(held.pixels)
    assert (np.sign(moved["b"]) == np.where(labels["lit"], -1, 1)).mean() > 0.9
    one = of_lit.counterfactual_factors(held, {"lit": True, "high": False}, labels)
    assert one["lit"].all()
    assert not one["high"].any()


def test_a_category_at_a_leaf_can_be_set_but_not_followed(of_lit):
    held = lit_images(10, seed=9)
    found = of_lit.counterfactual_factors(held, {"high": True}, held.labels)
    pd.testing.assert_frame_equal(found[["lit", "a"]], held.labels[["lit", "a"]], rtol=1e-5)
    with pytest.raises(ValueError, match="counterfactual of node 'high' is not determined"):
        of_lit.counterfactual(held, {"a": 60.0})
    with pytest.raises(ValueError, match=r"do\(high\) is 'yes', which is no level"):
        of_lit.counterfactual(held, {"high": "yes"})
    with pytest.raises(ValueError, match=r"do\(high\) is a shift, but 'high' is a category"):
        of_lit.counterfactual(held, {"high": Shift(1)})


def test_categories_are_drawn_along_the_graph(of_lit):
    _, factors = of_lit.sample(20, {"lit": True, "a": 75.0}, generator=0)
    assert factors["lit"].all()
    assert factors["high"].mean() > 0.8


def test_a_category_between_two_images_switches_once(of_lit, monkeypatch):
    held = lit_images(60, seed=9)
    codes = []
    decoded = of_lit._decoded
    monkeypatch.setattr(
        of_lit, "_decoded", lambda factors, noise, guidance: codes.append(factors) or decoded(factors, noise, guidance)
    )
    off, on = (held.pixels[held.labels["lit"].to_numpy() == lit][:1] for lit in (False, True))
    of_lit.interpolate(off, on, 6)
    assert [float(factors[0, 0]) for factors in codes] == [0, 0, 0, 1, 1, 1]


def test_a_third_of_the_labels_is_enough_to_learn_from():
    full = chain_images(400)
    labels = full.labels
    labels.loc[np.random.default_rng(5).random(400) > 0.3] = np.nan
    few = LabelledImages(full.pixels, labels, few_labels=True)
    model = CausalDiffAE(CHAIN, **LEARNS | {"epochs": 5}).fit(few)
    error = (model.encode(HELD_OUT) - HELD_OUT.labels).abs().mean()
    assert (error < 0.4 * HELD_OUT.labels.std()).all()
    found = model.counterfactual_factors(HELD_OUT, {"a": Shift(10.0)}, HELD_OUT.labels) - HELD_OUT.labels
    np.testing.assert_allclose(found.mean(), [10, 8, -7.2], atol=1.0)


# --- the same again --------------------------------------------------------------------------------------------------


def answers(model: CausalDiffAE) -> list[np.ndarray]:
    return [
        model.encode(HELD_OUT).to_numpy(),
        model.counterfactual(HELD_OUT, {"a": 50.0}),
        model.sample(3, {"b": 50.0}, generator=1)[0],
    ]


def test_a_file_gives_the_same_model(quick, of_lit, tmp_path):
    save(quick, tmp_path / "chain.safetensors")
    back = load(tmp_path / "chain.safetensors")
    assert all(np.array_equal(a, b) for a, b in zip(answers(back), answers(quick), strict=True))
    assert (back.history_, back.converged_) == (quick.history_, quick.converged_)
    with pytest.raises(ValueError, match="not strictly inside its bounds"):
        back.counterfactual(HELD_OUT, {"a": 101.0})

    save(of_lit, tmp_path / "lit.safetensors")
    held = lit_images(5, seed=9)
    pd.testing.assert_frame_equal(load(tmp_path / "lit.safetensors").encode(held), of_lit.encode(held))


def test_the_seed_decides_the_result(quick):
    settings = {"bounds": {"a": (0, 100)}, **QUICK}
    torch.rand(5, generator=torch.Generator().manual_seed(0))
    again = CausalDiffAE(CHAIN, **settings).fit(chain_images(80))
    other = CausalDiffAE(CHAIN, **settings, seed=1).fit(chain_images(80))
    assert all(np.array_equal(a, b) for a, b in zip(answers(again), answers(quick), strict=True))
    assert not np.array_equal(answers(other)[0], answers(quick)[0])


def test_training_that_was_cut_off_goes_on_to_the_same_result(tmp_path, monkeypatch):
    settings = QUICK | {"epochs": 2}
    whole = CausalDiffAE(CHAIN, **settings).fit(chain_images(80))
    loss, calls = CausalAutoencoder.loss, []

    def cut_off(module, batch):
        calls.append(1)
        if len(calls) == 5:  # of 3 batches an epoch
            raise KeyboardInterrupt
        return loss(module, batch)

    monkeypatch.setattr(CausalAutoencoder, "loss", cut_off)
    with pytest.raises(KeyboardInterrupt):
        CausalDiffAE(CHAIN, **settings).fit(chain_images(80), checkpoint=tmp_path / "run.pt")
    resumed = CausalDiffAE(CHAIN, **settings).fit(chain_images(80), checkpoint=tmp_path / "run.pt")
    assert len(calls) == 5 + 3  # the second epoch only
    assert all(np.array_equal(a, b) for a, b in zip(answers(resumed), answers(whole), strict=True))
    assert resumed.history_ == whole.history_
