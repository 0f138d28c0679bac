from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import norm

from latentcause.models.pairs.changes import ChangeMixture

NARROW, WIDE, SHARES = np.array([0.1, 0.2, 0.05]), np.array([1.5, 2.0, 1.0]), np.array([0.1, 0.3, 0.4, 0.2])
SINGLE = np.vstack([np.zeros((1, 3)), np.eye(3)])
BOTH = np.vstack([SINGLE, [np.eye(3)[i] + np.eye(3)[j] for i, j in combinations(range(3), 2)]])


def moves(n: int, hypotheses: np.ndarray = SINGLE, shares: np.ndarray = SHARES, seed: int = 0):
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(hypotheses), n, p=shares)
    return np.where(hypotheses[chosen] > 0, WIDE, NARROW) * rng.standard_normal((n, 3)), chosen


def test_probabilities_are_bayes_rule():
    mixture, (moved, _) = ChangeMixture(SINGLE, NARROW, WIDE, SHARES), moves(50)
    joint = np.array(
        [
            [
                share * np.prod([norm(0, WIDE[i] if h[i] else NARROW[i]).pdf(row[i]) for i in range(3)])
                for h, share in zip(SINGLE, SHARES, strict=True)
            ]
            for row in moved
        ]
    )
    np.testing.assert_allclose(mixture.probabilities(moved), joint / joint.sum(axis=1, keepdims=True), rtol=1e-9)
    assert mixture.mean_log_density(moved) == pytest.approx(np.log(joint.sum(axis=1)).mean())


@pytest.mark.parametrize("hypotheses", [SINGLE, BOTH], ids=["one", "up to two"])
def test_a_known_mixture_is_found(hypotheses):
    shares = SHARES if len(hypotheses) == 4 else np.array([0.1, 0.2, 0.2, 0.2, 0.1, 0.1, 0.1])
    moved, chosen = moves(20_000, hypotheses, shares)
    found = ChangeMixture.fit(moved, hypotheses)
    np.testing.assert_allclose(found.narrow, NARROW, rtol=0.03)
    np.testing.assert_allclose(found.wide, WIDE, rtol=0.03)
    np.testing.assert_allclose(found.shares, shares, atol=0.015)
    assert found.shares.sum() == pytest.approx(1)
    exact = ChangeMixture(hypotheses, NARROW, WIDE, shares).probabilities(moved)
    probabilities = found.probabilities(moved)
    assert np.abs(probabilities - exact).mean() < 0.005
    # What is said with some confidence is right as often.
    sure = (probabilities > 0.6) & (probabilities < 0.9)
    right = np.arange(len(hypotheses)) == chosen[:, None]
    assert right[sure].mean() == pytest.approx(probabilities[sure].mean(), abs=0.05)


def test_units_of_codes_play_no_part():
    moved, _ = moves(2000)
    scale = np.array([0.1, 1.0, 10.0])
    plain, scaled = ChangeMixture.fit(moved, SINGLE), ChangeMixture.fit(moved * scale, SINGLE)
    np.testing.assert_allclose(scaled.narrow, plain.narrow * scale, rtol=1e-6)
    np.testing.assert_allclose(scaled.probabilities(moved * scale), plain.probabilities(moved), atol=1e-6)


def test_moves_without_any_error_are_told_apart_for_certain():
    moved, chosen = moves(3000)
    moved = np.where(SINGLE[chosen] > 0, moved, 0.0)
    found = ChangeMixture.fit(moved, SINGLE)
    np.testing.assert_array_equal(found.probabilities(moved).argmax(axis=1), chosen)
    np.testing.assert_allclose(found.shares, np.bincount(chosen) / 3000, atol=1e-4)


@pytest.mark.parametrize("rounding", [0.0, 1e-7])
def test_a_latent_that_never_moves_has_no_share(rounding):
    moved, chosen = moves(3000, shares=np.array([0.3, 0.3, 0.4, 0.0]))
    moved = np.where(SINGLE[chosen] > 0, moved, rounding * np.random.default_rng(1).standard_normal(moved.shape))
    found = ChangeMixture.fit(moved, SINGLE)
    assert found.shares[3] < 1e-9
    np.testing.assert_array_equal(found.probabilities(moved).argmax(axis=1), chosen)


def test_wrong_pairs_do_not_blur_the_rest():
    moved, chosen = moves(10_000)
    wrong = np.random.default_rng(1).random(10_000) < 0.05
    moved[wrong] = 2 * np.random.default_rng(2).standard_normal((wrong.sum(), 3))
    found = ChangeMixture.fit(moved, SINGLE)
    np.testing.assert_allclose(found.narrow, NARROW, rtol=0.1)
    exact = ChangeMixture(SINGLE, NARROW, WIDE, SHARES)
    right, best = ((mixture.probabilities(moved).argmax(axis=1) == chosen)[~wrong].mean() for mixture in (found, exact))
    assert right > best - 0.01
    assert found.hypotheses.shape == (4, 3)


def test_few_moves_and_moves_of_one_latent():
    one = np.array([[0.0], [1.0], [0.01], [-2.0], [0.0], [0.02]])
    found = ChangeMixture.fit(one, np.array([[0.0], [1.0]]))
    assert (found.probabilities(one)[:, 1] > 0.5).tolist() == [False, True, False, True, False, False]
    still = ChangeMixture.fit(np.zeros((5, 3)), SINGLE)
    np.testing.assert_allclose(still.probabilities(np.zeros((5, 3)))[:, 0], 1)


def test_latents_that_leak_are_not_taken_for_wrong_pairs():
    moved, chosen = moves(3000)
    leak = 0.02 * (np.ones((3, 3)) - np.eye(3)) + np.eye(3)
    moved = np.where(SINGLE[chosen] > 0, moved, 0.0) @ leak  # pairs without intervention do not move at all
    found = ChangeMixture.fit(moved, SINGLE).probabilities(moved).argmax(axis=1)
    assert (found == chosen).mean() > 0.9
