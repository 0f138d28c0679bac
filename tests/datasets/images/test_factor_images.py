"""What all sets of factor images share: the axioms of counterfactuals hold of the true ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import latentcause.datasets
from latentcause.datasets import FactorImages, digits, morphomnist, pendulum

ACTIONS = {
    "digits": ({"ink": 22.0}, {"intensity": 150.0}),
    "pendulum": ({"angle": 10.0}, {"light": 12.0}, {"shadow_length": 6.0}, {"shadow_position": 9.0}),
    "morphomnist": ({"thickness": 3.0}, {"intensity": 150.0}),
}
TOLERANCE = {"ink": 1e-4, "angle": 0.25, "thickness": 0.25}
SETS = ["digits", "pendulum", "morphomnist"]


@pytest.fixture(params=SETS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def data(name: str, shared_data: Callable[[str], Path]) -> FactorImages:
    if name == "digits":
        return digits(40, seed=1)
    if name == "pendulum":
        return pendulum(40, seed=1)
    return morphomnist(40, seed=1, folder=shared_data("mnist"))


def test_labels_belong_to_the_graph_and_stand_beside_the_images(data: FactorImages) -> None:
    data.images.validate_for(data.graph)
    assert data.images.names == data.graph.nodes
    assert len(data) == len(data.base) == 40
    assert str(data.graph) in repr(data)


def test_doing_nothing_changes_nothing(data: FactorImages) -> None:
    rows = np.arange(5, 15)
    np.testing.assert_array_equal(data.counterfactual(rows, {}), data.images.pixels[rows])
    own = {node: data.images.labels[node].to_numpy()[rows] for node in data.graph.nodes}
    np.testing.assert_allclose(data.counterfactual(rows, own), data.images.pixels[rows], atol=1e-6)


def test_what_is_done_is_seen_in_the_image_and_effects_follow(data: FactorImages, name: str) -> None:
    rows = np.arange(len(data))
    for do in ACTIONS[name]:
        factors = data.counterfactual_factors(rows, do)
        ((node, value),) = do.items()
        np.testing.assert_array_equal(factors[node], value)
        seen = data.measure(data.counterfactual(rows, do))
        assert np.median(np.abs(seen[node] - value)) < TOLERANCE.get(node, 0.1)
        for other in data.graph.nodes:
            moved = np.abs(factors[other] - data.images.labels[other]) > 1e-9
            assert moved.any() == (other == node or other in data.graph.descendants(node)), other


def test_undoing_gives_the_image_back(data: FactorImages, name: str) -> None:
    rows = np.arange(10)
    for do in ACTIONS[name]:
        (node,) = do
        changed = data.counterfactual_factors(rows, do)
        back = data.scm.counterfactual(changed, {node: data.images.labels[node].to_numpy()[rows]})
        np.testing.assert_allclose(data.render(data.base[rows], back), data.images.pixels[rows], atol=1e-4)


def test_parts_keep_their_answers(data: FactorImages, name: str) -> None:
    rest, held = data.split(0.25, seed=4)
    assert len(rest) == 30
    rows = [int(np.flatnonzero((data.images.values == row).all(axis=1))[0]) for row in held.images.values]
    do = ACTIONS[name][0]
    np.testing.assert_array_equal(held.counterfactual(slice(None), do), data.counterfactual(rows, do))
    np.testing.assert_array_equal(held.subset([3]).images.pixels[0], data.images.pixels[rows[3]])


def test_one_value_per_row(data: FactorImages, name: str) -> None:
    ((node, value),) = ACTIONS[name][0].items()
    values = np.array([value, 1.05 * value])
    both = data.counterfactual([7, 8], {node: values})
    np.testing.assert_allclose(both[1], data.counterfactual([8], {node: values[1]})[0], atol=1e-6)
    with pytest.raises(ValueError, match="2 rows"):
        data.counterfactual([7, 8], {node: np.ones(3)})
    with pytest.raises(ValueError, match="not a node"):
        data.counterfactual([0], {"colour": 1.0})


def test_the_seed_fixes_everything(name: str, data: FactorImages, shared_data: Callable[[str], Path]) -> None:
    make = getattr(latentcause.datasets, name)
    where = {"folder": shared_data("mnist")} if name == "morphomnist" else {}
    np.testing.assert_array_equal(make(40, seed=1, **where).images.pixels, data.images.pixels)
    assert not np.array_equal(make(40, seed=2, **where).images.pixels, data.images.pixels)
