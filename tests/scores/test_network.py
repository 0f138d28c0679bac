from __future__ import annotations

import numpy as np
import pytest
import torch
import torch._dynamo  # the first optimiser loads it, and it sets an environment variable
from sklearn.exceptions import ConvergenceWarning

from latentcause.scores.network import NetworkScore

FULL = np.ones((2, 2), dtype=bool)
FAST = {"hidden": 16, "device": "cpu"}


def two_humps(n: int, seed: int) -> np.ndarray:
    """y_1 from an even mixture of N(-2, 1) and N(2, 1), y_2 = sin(y_1) + N(0, 0.5^2) noise, in units far from 1."""
    rng = np.random.default_rng(seed)
    first = rng.choice([-2.0, 2.0], n) + rng.standard_normal(n)
    return np.column_stack([100 + 10 * first, 0.1 * (np.sin(first) + 0.5 * rng.standard_normal(n))])


def two_humps_score(y: np.ndarray) -> np.ndarray:
    """The true gradient of log p."""
    first, residual = (y[:, 0] - 100) / 10, y[:, 1] / 0.1 - np.sin((y[:, 0] - 100) / 10)
    on_first = -first + 2 * np.tanh(2 * first) + residual / 0.25 * np.cos(first)
    return np.column_stack([on_first / 10, -residual / 0.25 / 0.1])


@pytest.mark.parametrize("loss", ["implicit", "sliced"])
def test_gaussian_score_is_recovered(loss):
    rng = np.random.default_rng(0)
    mean, factor = np.array([5.0, -1.0, 0.0]), np.array([[2.0, 0, 0], [1.0, 0.5, 0], [-0.3, 0.2, 1.0]])
    y = mean + rng.standard_normal((4000, 3)) @ factor.T
    precision = np.linalg.inv(factor @ factor.T)
    score = NetworkScore(np.ones((3, 3)), loss=loss, **FAST).fit(y)
    found, derivative = score.score_and_derivative(y)
    truth = -(y - mean) @ precision
    assert np.mean((found - truth) ** 2) < 0.01 * np.mean(truth**2)
    assert np.allclose(derivative.mean(axis=0), -precision.diagonal(), rtol=0.06)
    assert score.converged_


@pytest.mark.parametrize("loss", ["implicit", "sliced"])
def test_nonlinear_score_is_recovered(loss):
    y, fresh = two_humps(6000, seed=1), two_humps(2000, seed=2)
    found = NetworkScore(FULL, hidden=32, loss=loss, device="cpu").fit(y).score(fresh)
    truth = two_humps_score(fresh)
    linear = -(fresh - y.mean(axis=0)) @ np.linalg.inv(np.cov(y.T))
    error = np.mean((found - truth) ** 2, axis=0) / np.mean(truth**2, axis=0)
    linear_error = np.mean((linear - truth) ** 2, axis=0) / np.mean(truth**2, axis=0)
    assert (error < [0.12, 0.04]).all()
    assert (linear_error > [0.6, 0.2]).all()  # so the networks do more than the linear start


def test_derivative_agrees_with_finite_differences():
    y = two_humps(2000, seed=3)
    context = np.random.default_rng(4).integers(0, 2, (2000, 2)).astype(float)
    with pytest.warns(ConvergenceWarning, match="after 15 epochs; raise max_epochs"):
        score = NetworkScore(FULL, np.ones((2, 2)), max_epochs=15, **FAST).fit(y, context)
    assert not score.converged_
    assert score.score_and_derivative(y, context)[1].std(axis=0).min() > 0  # the networks have left the linear start
    _, derivative = score.score_and_derivative(y[:20], context[:20])
    for j, unit in enumerate(y.std(axis=0)):
        step = np.zeros(2)
        step[j] = 0.02 * unit
        ahead, behind = score.score(y[:20] + step, context[:20]), score.score(y[:20] - step, context[:20])
        slope = (ahead - behind)[:, j] / (2 * step[j])
        assert np.allclose(derivative[:, j], slope, rtol=0.02, atol=1e-3 * np.abs(slope).max())


def test_invisible_inputs_have_no_effect_at_all():
    y = np.random.default_rng(5).standard_normal((2000, 3)) @ np.array([[1, 0.8, 0.3], [0, 1, 0.5], [0, 0, 1]])
    context = (y > 0).astype(float)
    visible = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 1]], dtype=bool)
    seen = np.eye(3, dtype=bool)
    with pytest.warns(ConvergenceWarning):
        score = NetworkScore(visible, seen, max_epochs=10, **FAST).fit(y, context)
    base, slope = score.score_and_derivative(y, context)
    assert slope.std(axis=0).min() > 0  # the networks have left the linear start
    for i in range(3):
        moved, flipped = y.copy(), context.copy()
        moved[:, i] += 1.0
        flipped[:, i] = 1 - flipped[:, i]
        assert np.array_equal((score.score(moved, context) != base).any(axis=0), visible[:, i])
        assert np.array_equal((score.score(y, flipped) != base).any(axis=0), seen[:, i])


def test_context_shifts_the_score():
    rng = np.random.default_rng(6)
    on = rng.integers(0, 2, (4000, 1)).astype(float)
    y = 3 * on + np.where(on, 0.5, 1.0) * rng.standard_normal((4000, 1))
    score = NetworkScore(np.ones((1, 1)), np.ones((1, 1)), **FAST).fit(y, on)
    truth = np.where(on, -(y - 3) / 0.25, -y)
    assert np.mean((score.score(y, on) - truth) ** 2) < 0.05 * np.mean(truth**2)


def test_remainder_on_top_of_a_base_score():
    y, fresh = two_humps(6000, seed=7), two_humps(2000, seed=8)
    mean, precision = y.mean(axis=0), np.linalg.inv(np.cov(y.T))
    score = NetworkScore(FULL, hidden=32, device="cpu").fit(y, base=-(y - mean) @ precision)
    found, truth = score.score(fresh) - (fresh - mean) @ precision, two_humps_score(fresh)
    assert (np.mean((found - truth) ** 2, axis=0) < [0.12, 0.04] * np.mean(truth**2, axis=0)).all()


def test_weights_count_rows():
    rng = np.random.default_rng(9)
    low, high = rng.standard_normal((1500, 1)), 4 + rng.standard_normal((1500, 1))
    weights = np.repeat([1.0, 0.0], 1500)
    score = NetworkScore(np.ones((1, 1)), **FAST).fit(np.vstack([low, high]), weights=weights)
    assert np.mean((score.score(low) + low) ** 2) < 0.03


def test_same_seed_same_score_and_the_global_random_state_stays():
    y = two_humps(2000, seed=10)
    before = torch.get_rng_state()
    fits = []
    for seed in (1, 1, 2):
        with pytest.warns(ConvergenceWarning):
            fits.append(NetworkScore(FULL, max_epochs=8, loss="sliced", seed=seed, **FAST).fit(y).score(y))
    assert np.array_equal(fits[0], fits[1])
    assert not np.array_equal(fits[0], fits[2])
    assert torch.equal(before, torch.get_rng_state())


def test_torch_input_gives_the_same_numbers():
    y = two_humps(300, seed=11)
    with pytest.warns(ConvergenceWarning):
        score = NetworkScore(FULL, max_epochs=2, **FAST).fit(torch.from_numpy(y))
    found = score.score(torch.from_numpy(y))
    assert found.dtype == np.float64
    assert np.array_equal(found, score.score(y))


def test_bad_input_is_refused():
    y = two_humps(50, seed=12)
    with pytest.raises(ValueError, match="True diagonal"):
        NetworkScore([[True, True], [True, False]])
    with pytest.raises(ValueError, match="one row for each of the 2 variables"):
        NetworkScore(FULL, np.ones((3, 1)))
    with pytest.raises(ValueError, match='"implicit" or "sliced"'):
        NetworkScore(FULL, loss="denoising")
    score = NetworkScore(FULL, np.ones((2, 1)))
    with pytest.raises(RuntimeError, match="not fitted"):
        score.score(y, y[:, :1])
    with pytest.raises(ValueError, match="pass context"):
        score.fit(y)
    with pytest.raises(ValueError, match=r"context must have shape \(50, 1\)"):
        score.fit(y, y)
    with pytest.raises(ValueError, match=r"y must have shape \(n, 2\)"):
        score.fit(y[:, :1], y[:, :1])
    with pytest.raises(ValueError, match="y holds NaN"):
        score.fit(np.where(y > 100, np.nan, y), y[:, :1])
    with pytest.raises(ValueError, match="weights must be non-negative"):
        score.fit(y, y[:, :1], weights=-np.ones(50))
    with pytest.raises(ValueError, match="column 1 of y is constant"):
        score.fit(np.column_stack([y[:, 0], np.ones(50)]), y[:, :1])
