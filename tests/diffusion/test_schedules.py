from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from latentcause.diffusion import Cosine, LinearDDPM, VarianceExploding, VariancePreserving, ZeroTerminal, times

PRESERVING = [
    VariancePreserving(),
    LinearDDPM(),
    Cosine(),
    Cosine(0.008),
    ZeroTerminal(LinearDDPM()),
    ZeroTerminal(VariancePreserving()),
]
ALL = [*PRESERVING, VarianceExploding()]


@pytest.mark.parametrize("schedule", PRESERVING, ids=repr)
@given(t=st.floats(0, 1))
def test_the_variance_is_preserved(schedule, t):
    alpha, sigma = schedule.at(t)
    assert float(alpha**2 + sigma**2) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("schedule", ALL, ids=repr)
def test_the_signal_falls_and_starts_clean(schedule):
    t = torch.linspace(0, 1, 1001, dtype=torch.float64)
    snr = schedule.log_snr(t)
    assert (snr.diff() < 0).all()
    alpha, sigma = schedule.at(0.0)
    assert float(alpha) == pytest.approx(1)
    assert float(sigma) <= 0.01


@pytest.mark.parametrize("schedule", ALL, ids=repr)
def test_drift_and_diffusion_carry_mean_and_variance(schedule):
    # m' = f m and v' = 2 f v + g^2 must give alpha and sigma^2 back (checked by central differences).
    t, h = torch.tensor([0.1234, 0.4562, 0.7773], dtype=torch.float64), 1e-6  # between the kinks
    f, g2 = schedule.drift_and_diffusion(t)
    alpha, sigma = schedule.at(t)
    above, below = schedule.at(t + h), schedule.at(t - h)
    assert torch.allclose((above[0] - below[0]) / (2 * h), f * alpha, rtol=1e-5)
    growth = (above[1] ** 2 - below[1] ** 2) / (2 * h)
    assert torch.allclose(growth, 2 * f * sigma**2 + g2, rtol=1e-5)
    assert (g2 > 0).all()


@pytest.mark.parametrize("schedule", [Cosine(), Cosine(0.008), *PRESERVING[-2:]], ids=repr)
def test_no_signal_is_left_where_promised(schedule):
    alpha, sigma = schedule.at(1.0)
    assert float(alpha) == pytest.approx(0, abs=1e-15)
    assert float(sigma) == pytest.approx(1)


def test_the_published_products_come_out():
    betas = np.linspace(1e-4, 0.02, 1000)
    product = np.cumprod(1 - betas)
    t = torch.arange(1, 1001, dtype=torch.float64) / 1000
    assert np.allclose(LinearDDPM().at(t)[0].numpy() ** 2, product, rtol=1e-10)
    s = 0.008
    t = torch.linspace(0.01, 0.99, 50, dtype=torch.float64)
    f = np.cos((t.numpy() + s) / (1 + s) * math.pi / 2) ** 2
    assert np.allclose(Cosine(s).at(t)[0].numpy() ** 2, f / math.cos(s / (1 + s) * math.pi / 2) ** 2, rtol=1e-10)


def test_small_noise_keeps_its_digits():
    # 1 - alpha^2 would be 0 in float64 here.
    assert float(Cosine().at(1e-9)[1]) == pytest.approx(math.pi / 2 * 1e-9, rel=1e-6)
    assert float(VariancePreserving().at(1e-18)[1]) == pytest.approx((0.1e-18) ** 0.5, rel=1e-6)


def test_a_time_given_as_a_float_keeps_its_digits():
    assert float(Cosine().at(0.1)[1]) == pytest.approx(math.sin(0.05 * math.pi), rel=1e-14)
    assert float(VarianceExploding().at(0.9)[1]) == pytest.approx(0.01 * 5000**0.9, rel=1e-14)


@given(st.integers(1, 50), st.floats(0.5, 3))
def test_times_fall_from_first_to_last(steps, power):
    grid = times(steps, 0.98, 0.01, power)
    assert len(grid) == steps + 1
    assert float(grid[0]) == pytest.approx(0.98)
    assert float(grid[-1]) == pytest.approx(0.01)
    assert (grid.diff() < 0).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: VariancePreserving(2, 1), "beta_min=2"),
        (lambda: LinearDDPM(0), "steps=0"),
        (lambda: Cosine(-1), "offset=-1"),
        (lambda: VarianceExploding(1, 0.5), "sigma_min=1"),
        (lambda: times(0), "steps=0"),
        (lambda: times(3, first=0.5, last=0.6), "last=0.6"),
        (lambda: Cosine().at(1.5), r"times lie in \[0, 1\]"),
    ],
)
def test_what_makes_no_sense_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
