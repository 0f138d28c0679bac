from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from latentcause.scm import MonotoneSpline


def random_link(seed: int) -> MonotoneSpline:
    """Knots and slopes over several orders of magnitude."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(2, 12))
    knots = rng.normal() + np.cumsum(10.0 ** rng.uniform(-2, 1, count))
    return MonotoneSpline(knots, 10.0 ** rng.uniform(-2, 2, count), float(rng.normal()))


def points(link: MonotoneSpline, seed: int) -> torch.Tensor:
    """Values within the knots, at them, and beyond."""
    rng = np.random.default_rng(seed)
    low, high = link.knots[0], link.knots[-1]
    return torch.from_numpy(np.sort(np.concatenate([link.knots, rng.uniform(2 * low - high, 2 * high - low, 50)])))


@given(st.integers(0, 2**32 - 1))
def test_it_increases_and_its_inverse_is_exact(seed):
    link = random_link(seed)
    z = points(link, seed + 1)
    y = link.inverse(z)
    assert (torch.diff(y)[torch.diff(z) > 1e-9] > 0).all()
    assert torch.allclose(link(y), z, rtol=1e-10, atol=1e-10)
    assert torch.allclose(link.inverse(link(y)), y, rtol=1e-10, atol=1e-10 * float(y.abs().max()))


@given(st.integers(0, 2**32 - 1))
def test_the_slope_is_the_derivative_of_the_inverse(seed):
    link = random_link(seed)
    z = points(link, seed + 1).requires_grad_()
    (slope,) = torch.autograd.grad(link.inverse(z).sum(), z)
    assert torch.allclose(link.log_slope(z).exp(), slope, rtol=1e-8)
    y = link.inverse(z).detach().requires_grad_()
    (forward,) = torch.autograd.grad(link(y).sum(), y)
    smooth = ~torch.isin(z, torch.from_numpy(link.knots))  # rounding may put a knot's y in the piece beside it
    assert torch.allclose((forward * slope)[smooth], torch.ones(int(smooth.sum()), dtype=y.dtype), rtol=1e-5)


def test_two_equal_slopes_are_a_line():
    link = MonotoneSpline(np.array([0.0, 1.0]), np.array([2.0, 2.0]), 3.0)
    z = torch.linspace(-4, 4, 9)
    assert torch.allclose(link.inverse(z), 3 + 2 * z)
    assert torch.allclose(link(3 + 2 * z), z)
    assert repr(link) == "MonotoneSpline(2 knots from 0 to 1)"


@pytest.mark.parametrize(
    ("knots", "slopes", "message"),
    [
        ([0.0], [1.0], "give two or more of each"),
        ([0.0, 1.0], [1.0], "give two or more of each"),
        ([0.0, 0.0], [1.0, 1.0], "knots of a monotone spline must increase"),
        ([0.0, 1.0], [1.0, 0.0], "slopes of a monotone spline must be positive"),
        ([0.0, 1.0], [1.0, np.nan], "slopes of a monotone spline must be positive"),
    ],
)
def test_what_is_not_monotone_is_refused(knots, slopes, message):
    with pytest.raises(ValueError, match=message):
        MonotoneSpline(np.array(knots), np.array(slopes))
