"""Likelihoods: densities that integrate to one, draws that follow them, sites against dense quadrature."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from latentcause.observation import (
    BernoulliError,
    Component,
    GaussianError,
    Likelihood,
    LogNormalError,
    MixtureEmission,
)
from latentcause.observation.logistic import sigmoid_moments

MIXTURES = [
    MixtureEmission(Component("normal", 2.0, 0.5), Component("normal", 0.0, 1.5)),
    MixtureEmission(Component("log-normal", 0.5, 0.4), Component("log-normal", -0.5, 0.6)),
    MixtureEmission(Component("logit-normal", 1.0, 0.7), Component("logit-normal", -1.5, 1.0)),
]
KINDS: list[tuple[Likelihood, list[float]]] = [
    (GaussianError(0.7), [-1.0, 0.3]),
    (LogNormalError(0.7), [0.2, 3.0]),
    (BernoulliError(), [0.0, 1.0, 0.3]),
    (BernoulliError(slope=-2.5, offset=1.0), [0.0, 1.0, 0.8]),
    (MIXTURES[0], [-1.0, 2.5]),
    (MIXTURES[1], [0.3, 1.8]),
    (MIXTURES[2], [0.1, 0.85]),
]


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def tilted_by_brute_force(kind: Likelihood, y: float, mean: float, variance: float) -> tuple[float, float]:
    x = torch.linspace(-25, 25, 400_001, dtype=torch.float64) * math.sqrt(variance) + mean
    log_weight = kind.log_prob(tensor(y), x[:, None])[:, 0] - 0.5 * (x - mean).square() / variance
    weight = torch.softmax(log_weight, 0)
    new_mean = (weight * x).sum()
    return float(new_mean), float((weight * (x - new_mean).square()).sum())


@pytest.mark.parametrize(("kind", "values"), KINDS, ids=lambda part: type(part).__name__)
@pytest.mark.parametrize(("mean", "variance"), [(0.3, 0.02), (-1.5, 1.0), (4.0, 9.0), (-20.0, 30.0)])
def test_sites_have_the_moments_of_the_tilted_density(
    kind: Likelihood, values: list[float], mean: float, variance: float
) -> None:
    for y in values:
        expected = tilted_by_brute_force(kind, y, mean, variance)
        found = kind.tilted(tensor(y), tensor(mean), tensor(variance))
        assert [float(part) for part in found] == pytest.approx(expected, rel=1e-6, abs=1e-9)
        value, noise = (float(part) for part in kind.sites(tensor(y), tensor(mean), tensor(variance)))
        assert noise > 0
        gain = variance / (variance + noise)
        assert mean + gain * (value - mean) == pytest.approx(expected[0], rel=1e-6, abs=1e-7)
        if expected[1] < 0.999 * variance:
            assert variance * (1 - gain) == pytest.approx(expected[1], rel=1e-6)


def test_a_mixture_that_widens_the_cavity_keeps_a_positive_site() -> None:
    value, noise = MIXTURES[0].sites(tensor(2.0), tensor(-4.0), tensor(4.0))
    new_mean, new_variance = MIXTURES[0].tilted(tensor(2.0), tensor(-4.0), tensor(4.0))
    assert new_variance > 4.0
    assert float(noise) == pytest.approx(4e6)
    assert float(-4 + 4 / (4 + noise) * (value + 4)) == pytest.approx(float(new_mean), abs=1e-6)


@given(st.floats(-60, 60), st.floats(1e-4, 2e3), st.floats(0, 1))
def test_sigmoid_moments(mean: float, variance: float, y: float) -> None:
    x = torch.linspace(-1, 1, 200_001, dtype=torch.float64) * (12 * math.sqrt(variance) + variance) + mean
    log_weight = BernoulliError().log_prob(tensor(y), x) - 0.5 * (x - mean).square() / variance
    weight = torch.softmax(log_weight, 0)
    log_z = torch.logsumexp(log_weight, 0) + (x[1] - x[0]).log() - 0.5 * math.log(2 * math.pi * variance)
    expected = (weight * x).sum(), (weight * (x - (weight * x).sum()).square()).sum()
    found = sigmoid_moments(tensor(y), tensor(mean), tensor(variance))
    assert float(found[0]) == pytest.approx(float(log_z), rel=1e-6, abs=1e-6)
    assert float(found[1]) == pytest.approx(float(expected[0]), abs=1e-6 * math.sqrt(variance) + 1e-9 * abs(mean))
    assert float(found[2]) == pytest.approx(float(expected[1]), rel=1e-5)


def test_sites_of_many_cells_are_those_of_each() -> None:
    rng = np.random.default_rng(0)
    y, mean, variance = (torch.as_tensor(rng.random((3, 50))) * scale for scale in (1.0, 4.0, 400.0))
    value, noise = BernoulliError().sites(y, mean, variance)
    for i in (0, 17, 49):
        one = BernoulliError().sites(y[:, i], mean[:, i], variance[:, i])
        torch.testing.assert_close(one[0], value[:, i], rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(one[1], noise[:, i], rtol=1e-6, atol=1e-6)
    single = BernoulliError().sites(y.float(), mean.float(), variance.float())
    assert single[0].dtype == single[1].dtype == torch.float32


@pytest.mark.parametrize(
    ("kind", "low", "high"),
    [
        (GaussianError(0.7), -9.0, 11.0),
        (LogNormalError(0.5), 1e-6, 80.0),
        (MIXTURES[0], -14.0, 14.0),
        (MIXTURES[1], 1e-6, 40.0),
        (MIXTURES[2], 1e-9, 1 - 1e-9),
    ],
    ids=lambda part: type(part).__name__,
)
def test_densities_integrate_to_one_and_draws_follow_them(kind: Likelihood, low: float, high: float) -> None:
    y = torch.linspace(low, high, 1_000_001, dtype=torch.float64)
    density = kind.log_prob(y, torch.full_like(y, 0.8)).exp()
    assert float(torch.trapezoid(density, y)) == pytest.approx(1, abs=1e-5)
    draws = kind.sample(torch.full((20_000,), 0.8, dtype=torch.float64), torch.Generator().manual_seed(0)).sort().values
    cumulative = torch.cumulative_trapezoid(density, y)[torch.searchsorted(y, draws).clamp(1, len(y) - 1) - 1]
    ranks = (torch.arange(len(draws)) + 0.5) / len(draws)
    assert float((cumulative - ranks).abs().max()) < 1.63 / math.sqrt(len(draws))  # Kolmogorov-Smirnov, 1%


def test_bernoulli_probabilities() -> None:
    kind, seen = BernoulliError(slope=2.0, offset=-1.0), tensor(0.8)
    probability = 1 / (1 + math.exp(-0.6))
    assert float(kind.log_prob(tensor(1.0), seen).exp()) == pytest.approx(probability)
    assert float(kind.log_prob(tensor(0.0), seen).exp()) == pytest.approx(1 - probability)
    draws = kind.sample(seen.expand(40_000), torch.Generator().manual_seed(0))
    assert set(draws.unique().tolist()) == {0.0, 1.0}
    assert float(draws.mean()) == pytest.approx(probability, abs=0.01)


def test_errors_per_cell_and_their_rows() -> None:
    noise = GaussianError(np.array([0.1, np.nan, 0.3]))
    kept = noise.rows(np.array([True, False, True]))
    kept.check(np.zeros(2))
    torch.testing.assert_close(kept.noise_variance(torch.zeros(2)), torch.tensor([0.01, 0.09]))
    torch.testing.assert_close(kept.noise_times(torch.ones(4, 2)), torch.tensor([0.01, 0.09]).expand(4, 2))
    with pytest.raises(ValueError, match=r"deviation is missing \(NaN\) where a value is not \(first: cell 1"):
        noise.check(np.zeros(3))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GaussianError(0.0), "standard deviation of 0: give positive"),
        (lambda: GaussianError(-1), "standard deviation of -1"),
        (lambda: GaussianError(math.nan), "standard deviation of nan"),
        (lambda: GaussianError(np.array([1.0, 0.0, -2.0])), r"of 0 in 2 cells \(first: cell 1\)"),
        (lambda: LogNormalError(math.inf), "standard deviation of inf"),
        (lambda: GaussianError(np.ones(3)).check_size(4), "3 noise standard deviations for 4 values"),
        (lambda: GaussianError(1.0).check(np.array([1.0, np.inf])), "1 values are infinite"),
        (lambda: LogNormalError(1.0).check(np.array([1.0, 0.0])), r"1 values are not positive \(first: 0\)"),
        (lambda: BernoulliError().check(np.array([0.2, 1.2, -0.1])), r"2 values are outside \[0, 1\] \(first: 1.2\)"),
        (lambda: BernoulliError(slope=0), "a slope other than 0"),
        (lambda: BernoulliError(offset=math.nan), "finite numbers"),
        (lambda: MIXTURES[1].check(np.array([-1.0])), "not positive"),
        (lambda: MIXTURES[2].check(np.array([1.0])), r"outside \(0, 1\)"),
        (lambda: Component("gamma", 0, 1), "unknown family 'gamma'"),  # type: ignore[arg-type]
        (lambda: Component("normal", 0, 0), "positive standard deviation"),
        (lambda: BernoulliError().noise_variance(torch.ones(1)), "BernoulliError is not Gaussian"),
    ],
)
def test_bad_input_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
