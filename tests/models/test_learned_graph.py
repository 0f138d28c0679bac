"""A CausalDiffAE that is given no graph."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from image_systems import chain_factors, chain_images, quarters, textures
from latentcause import CausalDiffAE, CausalGraph, LabelledImages, load, save
from latentcause.models.factor_model import learned_graph
from latentcause.scm import Shift

QUICK = {"mechanisms": "linear", "channels": (8,), "epochs": 1, "steps": 4, "precision": "float32", "device": "cpu"}


def collider_images(n: int, seed: int = 0, few_labels: bool = False) -> LabelledImages:
    """a -> c <- b, columns in the order c, a, b."""
    draw = np.random.default_rng(seed)
    a, b = 50 + 10 * draw.standard_normal((2, n))
    factors = pd.DataFrame({"c": 0.5 * a + 0.4 * b + 3 * draw.standard_normal(n), "a": a, "b": b})
    images = quarters(factors, textures(n, seed))
    if few_labels:
        factors.loc[n // 2 :] = np.nan
    return LabelledImages(images, factors, few_labels=few_labels)


@pytest.fixture(scope="module")
def fitted() -> CausalDiffAE:
    with pytest.warns(
        UserWarning, match="the graph was learned from the labels: c; a -> c; b -> c|a -> c; b -> c"
    ) as found:
        model = CausalDiffAE(**QUICK).fit(collider_images(200))
    assert [w.filename for w in found] == [__file__]
    return model


def test_the_graph_is_learned_from_the_labels(fitted):
    assert fitted.graph is None
    assert fitted.graph_ == CausalGraph(("c", "a", "b"), (("a", "c"), ("b", "c")))
    held = collider_images(10, seed=5)
    assert list(fitted.encode(held)) == ["c", "a", "b"]
    moved = fitted.counterfactual_factors(held, {"a": Shift(10.0)}, held.labels) - held.labels
    np.testing.assert_allclose(moved.mean(), [5, 10, 0], atol=0.6)


def test_a_file_keeps_the_learned_graph(fitted, tmp_path):
    save(fitted, tmp_path / "model.safetensors")
    back = load(tmp_path / "model.safetensors")
    held = collider_images(10, seed=5)
    assert back.graph is None
    assert back.graph_ == fitted.graph_
    pd.testing.assert_frame_equal(back.encode(held), fitted.encode(held))


def test_a_given_graph_is_kept_without_a_warning():
    graph = CausalGraph.from_string("c -> a -> b")
    assert CausalDiffAE(graph, **QUICK).fit(collider_images(40)).graph_ == graph


def test_open_directions_are_told():
    factors = chain_factors(300, 0)
    graph, told = learned_graph(LabelledImages(quarters(factors, textures(300, 0)), factors))
    assert graph == CausalGraph.from_string("a -> b -> c")
    assert told == (
        "the graph was learned from the labels: a -> b; b -> c; the data fit either direction of a - b, b - c equally well: "
        "the order of the columns decided"
    )


def test_labels_of_some_images_are_enough():
    assert learned_graph(collider_images(400, few_labels=True))[0].edges == (("a", "c"), ("b", "c"))


def test_bounds_say_on_which_scale_effects_are_linear():
    draw = np.random.default_rng(0)
    a, b, noise = draw.standard_normal((3, 400))
    labels = {"a": a, "b": b, "c": 1 / (1 + np.exp(-(5 * a + 5 * b + noise)))}
    images = LabelledImages(np.zeros((400, 8, 8)), labels)
    assert learned_graph(images, {"c": (0.0, 1.0)})[0].edges == (("a", "c"), ("b", "c"))


def test_categories_and_constant_labels_are_refused():
    images = chain_images(40)
    sorted_ = LabelledImages(images.pixels, images.labels.assign(kind=np.arange(40) % 2 == 0))
    with pytest.raises(ValueError, match="learned from numbers, but factor 'kind' is a category: give the graph"):
        CausalDiffAE(**QUICK).fit(sorted_)
    constant = LabelledImages(images.pixels, images.labels.assign(b=1.0))
    with pytest.raises(ValueError, match="column 'b' is constant"):
        CausalDiffAE(**QUICK).fit(constant)
