"""Scores of forecasts against closed forms, exact ranks and sums written out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from latentcause.metrics import (
    coverage,
    crps,
    mean_absolute_percentage_error,
    normalised_rmse,
    pit,
    pit_histogram,
    reliability,
)

values = st.integers(-3, 3).map(float)


def gaussian_crps(mean, sd, y):
    z = (y - mean) / sd
    return sd * (z * (2 * stats.norm.cdf(z) - 1) + 2 * stats.norm.pdf(z) - 1 / np.sqrt(np.pi))


@pytest.mark.parametrize("n", [2, 5, 64])
def test_crps_has_the_mean_of_the_gaussian_closed_form(n):
    rng = np.random.default_rng(n)
    mean, sd, y = 1.5, 2.0, np.repeat([0.0, 1.5, 6.0], 200_000 // n)
    found = crps(mean + sd * rng.standard_normal((n, len(y))), y).reshape(3, -1)
    error = found.std(1) / np.sqrt(found.shape[1])
    np.testing.assert_array_less(np.abs(found.mean(1) - gaussian_crps(mean, sd, np.array([0.0, 1.5, 6.0]))), 4 * error)


@given(
    st.integers(2, 7).flatmap(
        lambda n: st.tuples(arrays(float, (n, 2, 3), elements=values), arrays(float, (2, 3), elements=values))
    )
)
def test_crps_is_the_sum_over_pairs(case):
    x, y = case
    n = len(x)
    pairs = np.abs(x[:, None] - x).sum((0, 1)) / (2 * n * (n - 1))
    np.testing.assert_allclose(crps(x, y), np.abs(x - y).mean(0) - pairs, atol=1e-12)


@given(st.integers(2, 9).flatmap(lambda n: arrays(float, n, elements=values)), st.floats(0.01, 0.99))
def test_coverage_is_the_level_where_each_of_a_sample_is_the_truth_in_turn(sample, level):
    """Draws and truth are then exchangeable, and all orders are there: exactly calibrated, ties included."""
    n = len(sample)
    rest = np.stack([np.delete(sample, i) for i in range(n)], axis=1)
    np.testing.assert_allclose(coverage(rest, sample, [level]), [level], atol=1e-12)
    np.testing.assert_allclose(pit_histogram(rest, sample, 7), np.full(7, 1 / 7), atol=1e-12)


def test_pit_is_the_interval_of_the_rank():
    low, high = pit(np.array([[1.0], [2.0], [2.0], [3.0]]).repeat(4, axis=1), np.array([0.0, 2.0, 2.5, np.nan]))
    np.testing.assert_allclose(low, [0, 0.2, 0.6, np.nan])
    np.testing.assert_allclose(high, [0.2, 0.8, 0.8, np.nan])


@pytest.mark.parametrize(("width", "shift"), [(1.0, 0.0), (0.5, 0.0), (2.0, 0.0), (1.0, 1.0)])
def test_coverage_of_gaussians(width, shift):
    """P(|N(shift, 1)| < 1.645 width), with 199 draws and 40,000 truths."""
    rng = np.random.default_rng(0)
    draws, truth = width * rng.standard_normal((199, 40_000)), shift + rng.standard_normal(40_000)
    limit = width * stats.norm.ppf(0.95)
    covered = stats.norm.cdf(limit - shift) - stats.norm.cdf(-limit - shift)
    np.testing.assert_allclose(coverage(draws, truth, [0.9]), covered, atol=0.01)


def test_histogram_shows_what_is_wrong():
    rng = np.random.default_rng(0)
    draws, truth = rng.standard_normal((63, 20_000)), rng.standard_normal(20_000)
    narrow, biased = pit_histogram(0.5 * draws, truth, 4), pit_histogram(draws - 1, truth, 4)
    assert narrow[0] > 0.3 > 0.2 > narrow[1]
    assert (np.diff(biased) > 0).all()
    assert pit_histogram(draws, truth, 4) == pytest.approx(np.full(4, 0.25), abs=0.015)


def test_unknown_truths_are_left_out():
    x, y = np.random.default_rng(0).standard_normal((20, 6)), np.arange(6) - 2.5
    gaps = np.append(y, [np.nan, np.nan])
    more = np.concatenate([x, np.ones((20, 2))], axis=1)
    np.testing.assert_array_equal(crps(more, gaps), [*crps(x, y), np.nan, np.nan])
    np.testing.assert_array_equal(coverage(more, gaps), coverage(x, y))
    np.testing.assert_array_equal(pit_histogram(more, gaps), pit_histogram(x, y))
    assert normalised_rmse(more[0], gaps) == normalised_rmse(x[0], y)
    assert mean_absolute_percentage_error(more[0], gaps) == mean_absolute_percentage_error(x[0], y)
    assert reliability([0.2, 0.9, 0.5], [0, 1, np.nan]).brier == pytest.approx((0.04 + 0.01) / 2)


def test_errors_of_points():
    assert normalised_rmse([2.0, 2.0, 2.0], [1.0, 2.0, 3.0]) == pytest.approx(1.0)
    assert normalised_rmse([1.0, 2.0, 6.0], [1.0, 2.0, 3.0]) == pytest.approx(np.sqrt(3) / np.sqrt(2 / 3))
    assert mean_absolute_percentage_error([1.1, -1.8], [1.0, -2.0]) == pytest.approx(10.0)


def test_reliability_by_hand():
    found = reliability([0.0, 0.1, 0.1, 0.55, 0.5, 1.0], [0, 0, 1, 1, 0, 1], bins=2)
    np.testing.assert_array_equal(found.edges, [0, 0.5, 1])
    np.testing.assert_array_equal(found.counts, [3, 3])
    np.testing.assert_allclose(found.forecast, [0.2 / 3, 2.05 / 3])
    np.testing.assert_allclose(found.observed, [1 / 3, 2 / 3])
    assert found.calibration_error == pytest.approx(0.5 * (0.8 / 3) + 0.5 * (0.05 / 3))
    assert found.brier == pytest.approx((0.01 + 0.81 + 0.45**2 + 0.25) / 6)
    assert found.base_rate_brier == pytest.approx(0.25)
    empty = reliability([0.05, 0.95], [False, True], bins=3)
    assert np.isnan(empty.observed[1])
    assert empty.calibration_error == pytest.approx(0.05)


def test_probabilities_that_hold_are_reliable():
    rng = np.random.default_rng(0)
    p = rng.random(200_000)
    found = reliability(p, rng.random(200_000) < p)
    assert found.calibration_error < 0.005
    assert found.brier == pytest.approx(1 / 6, abs=2e-3)  # the mean of p (1 - p)
    sure = reliability(np.round(p), rng.random(200_000) < p)
    assert sure.calibration_error == pytest.approx(0.25, abs=5e-3)


# --- bad input -------------------------------------------------------------------------------------------------------


def test_bad_input_is_refused():
    x, y = np.zeros((3, 2)), np.zeros(2)
    with pytest.raises(ValueError, match=r"draws of shape \(3, 2\) for a truth of shape \(3,\)"):
        crps(x, np.zeros(3))
    with pytest.raises(ValueError, match="1 draws: at least 2"):
        crps(x[:1], y)
    with pytest.raises(ValueError, match="1 numbers of the draws are not finite"):
        pit(np.array([[np.inf, 0]]), y)
    with pytest.raises(ValueError, match="a level of 90"):
        coverage(x, y, [90])
    with pytest.raises(ValueError, match="no cell has a known truth"):
        coverage(x, y * np.nan)
    with pytest.raises(ValueError, match="no cell has a known truth"):
        reliability([0.5], [np.nan])
    with pytest.raises(ValueError, match=r"1 probabilities are outside \[0, 1\] \(first: 1.5\)"):
        reliability([0.5, 1.5], [0, 1])
    with pytest.raises(ValueError, match="1 truths are neither 0 nor 1"):
        reliability([0.5, 0.5], [0, 2])
    with pytest.raises(ValueError, match="the truth is the same in all cells"):
        normalised_rmse([1.0, 2.0], [1.0, 1.0])
    with pytest.raises(ValueError, match="the truth is 0 in 1 cells"):
        mean_absolute_percentage_error([1.0, 2.0], [1.0, 0.0])
    with pytest.raises(ValueError, match="predictions of shape"):
        normalised_rmse([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="1 predictions are not finite"):
        normalised_rmse([np.nan, 2.0], [1.0, 1.0])
