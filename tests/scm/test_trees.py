from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.ensemble import HistGradientBoostingRegressor

from latentcause.scm import TreeMechanism
from latentcause.scm.fitting import boosted
from latentcause.scm.fitting.table import Table


def rough(parents: np.ndarray) -> np.ndarray:
    """A function with steps, curves and an interaction of all parents."""
    return np.where(parents[:, 0] > 0.3, 2.0, 0.0) + np.sin(2 * parents).sum(axis=1) + parents.prod(axis=1)


def rows(n: int, p: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    parents = rng.normal(size=(n, p))
    return parents, rough(parents) + 0.3 * rng.normal(size=n)


@pytest.mark.parametrize("p", [1, 2, 3, 5])
@pytest.mark.parametrize("leaves", [2, 8, 31])
def test_boxes_predict_as_the_regressor_does(p, leaves):
    parents, values = rows(600, p, seed=p)
    regressor = HistGradientBoostingRegressor(max_iter=40, max_leaf_nodes=leaves, random_state=0).fit(parents, values)
    mechanism = TreeMechanism(*boosted.boxes_of(regressor))
    some, _ = rows(3000, p, seed=10 + p)
    edges = np.column_stack([np.resize(np.append(t, 0.0), 700) for t in mechanism.thresholds])  # a threshold goes left
    for asked in (some, 100 * some, edges):
        assert np.abs(mechanism.mean(torch.from_numpy(asked)).numpy() - regressor.predict(asked)).max() < 1e-12


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(0, 40))
def test_the_mean_is_the_sum_of_the_boxes_around_a_point(seed, p, n_boxes):
    rng = np.random.default_rng(seed)
    thresholds = tuple(np.sort(rng.normal(size=rng.integers(0, 6))) for _ in range(p))
    cells = np.array([len(edges) + 1 for edges in thresholds])
    first = rng.integers(0, cells, size=(n_boxes, p))
    boxes = np.stack([first, rng.integers(first + 1, cells + 1)], axis=1)
    values = rng.normal(size=n_boxes) * 10.0 ** rng.integers(-3, 4)
    mechanism = TreeMechanism(thresholds, boxes, values, intercept=0.5)
    points = rng.normal(size=(7, 3, p))
    low = np.stack([np.concatenate([[-np.inf], e])[boxes[:, 0, k]] for k, e in enumerate(thresholds)], axis=1)
    high = np.stack([np.concatenate([e, [np.inf]])[boxes[:, 1, k] - 1] for k, e in enumerate(thresholds)], axis=1)
    inside = ((low < points[..., None, :]) & (points[..., None, :] <= high)).all(axis=-1)
    expected = 0.5 + inside @ values
    assert np.allclose(
        mechanism.mean(torch.from_numpy(points)).numpy(), expected, rtol=0, atol=1e-12 * abs(values).sum()
    )


def test_a_fit_gives_the_settings_of_the_regressor_and_centred_noise():
    parents, values = rows(800, 2, seed=0)
    mechanism = boosted.fit([Table("z", parents, values, ("a", "b"))], "gaussian", 3)["z"]
    regressor = HistGradientBoostingRegressor(**boosted.SETTINGS, random_state=3).fit(parents, values)
    residuals = values - regressor.predict(parents)
    predicted = mechanism.mean(torch.from_numpy(parents)).numpy()
    assert np.allclose(predicted, regressor.predict(parents) + residuals.mean(), atol=1e-12)
    assert mechanism.variance == pytest.approx(residuals.var())
    assert abs((values - predicted).mean()) < 1e-12


def test_slopes_are_zero_and_single_precision_stays():
    parents, values = rows(300, 2, seed=1)
    mechanism = boosted.fit([Table("z", parents, values, ("a", "b"))], "gaussian", 0)["z"]
    mean, slopes = mechanism.mean_and_slopes(torch.from_numpy(parents).float())
    assert mean.dtype == slopes.dtype == torch.float32
    assert not slopes.any()
    assert (
        np.abs(mean.numpy() - mechanism.mean(torch.from_numpy(parents.astype(np.float32).astype(float))).numpy()).max()
        < 1e-5
    )
    assert repr(mechanism).startswith(f"TreeMechanism({len(mechanism.values)} boxes of 2 parents")


def test_what_does_not_fit_is_refused():
    edges, values = (np.array([0.0]),), np.ones(1)
    with pytest.raises(ValueError, match=r"boxes have shape \(2, 2, 1\) with 1 values and thresholds of 1 parents"):
        TreeMechanism(edges, np.array([[[0], [1]], [[1], [2]]]), values)
    for box in ([[1], [1]], [[0], [3]], [[-1], [1]]):
        with pytest.raises(ValueError, match=r"a box is empty or reaches beyond the \(2,\) cells"):
            TreeMechanism(edges, np.array([box]), values)
    with pytest.raises(ValueError, match="trees of 1 parents on a node with 2 parents"):
        TreeMechanism(edges, np.array([[[0], [1]]]), values).mean(torch.zeros(3, 2))
