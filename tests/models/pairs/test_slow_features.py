from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtri
from scipy.stats import ortho_group, spearmanr

from latentcause.models.pairs.slow_features import RIDGE, along_curve, slow_features

N = 20_000


def test_what_stays_is_found_in_order_and_with_its_share_of_the_variance():
    rng = np.random.default_rng(0)
    sources = rng.standard_normal((N, 4)) * [1.0, 2.0, 0.5, 1.0]
    drawn = rng.standard_normal((N, 4)) * [1.0, 2.0, 0.5, 1.0]
    share = np.array([0.0, 0.2, 1.0, 0.5])  # of the variance, that is drawn anew
    after = np.sqrt(1 - share) * sources + np.sqrt(share) * drawn
    mix = ortho_group.rvs(4, random_state=1)
    features, changes = sources @ mix, (after - sources) @ mix
    values, combinations = slow_features(features, changes, 3)
    variance = np.array([1.0, 4.0, 0.25, 1.0])
    expected = 2 * (1 - np.sqrt(1 - share)) + RIDGE / variance  # of E df^2 / var f
    np.testing.assert_allclose(values, np.sort(expected)[:3], atol=0.03)
    found = features @ combinations
    np.testing.assert_allclose(np.cov(found.T), np.eye(3), atol=1e-3)
    for k, j in enumerate((0, 1, 3)):
        assert abs(np.corrcoef(found[:, k], sources[:, j])[0, 1]) > 0.99


def test_no_more_combinations_than_features():
    rng = np.random.default_rng(0)
    values, combinations = slow_features(rng.standard_normal((50, 2)), rng.standard_normal((50, 2)), 5)
    assert len(values) == 2
    assert combinations.shape == (2, 2)


@pytest.mark.parametrize("kind", ["line", "horseshoe", "spiral", "in parts"])
def test_points_are_numbered_along_their_curve(kind):
    rng = np.random.default_rng(0)
    s = np.sort(rng.uniform(0, 1, 400))
    points = {
        "line": np.stack([s, 2 * s, 0 * s], axis=1),
        "horseshoe": np.stack([np.cos(5 * s), np.sin(5 * s), 0 * s], axis=1),
        "spiral": np.stack([np.cos(12 * s), np.sin(12 * s), 2 * s], axis=1),
        "in parts": np.stack([s + 3 * (s > 0.5), 0 * s, 0 * s], axis=1),
    }[kind]
    order = rng.permutation(len(s))
    found = along_curve(points[order])
    assert abs(spearmanr(found, s[order]).statistic) > 0.999
    np.testing.assert_allclose(np.sort(found), ndtri((np.arange(400) + 0.5) / 400))
