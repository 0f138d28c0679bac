from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import BSpline

from latentcause.splines import UniformBSpline

bases = st.builds(
    lambda low, width, count: UniformBSpline(low, low + width, count),
    st.floats(-50, 50),
    st.floats(0.1, 100),
    st.integers(4, 15),
)
positions = st.lists(st.floats(-1.5, 2.5), min_size=1, max_size=20)  # shares of the interval: outside it too


def points(basis: UniformBSpline, shares: list[float]) -> torch.Tensor:
    return basis.low + torch.tensor(shares, dtype=torch.float64) * (basis.high - basis.low)


@pytest.mark.parametrize("count", [4, 5, 6, 14])
def test_inside_they_are_the_b_splines_of_scipy(count):
    basis = UniformBSpline(-1.5, 2.0, count)
    knots = basis.low + basis.step * np.arange(-3, count + 1)
    x = np.linspace(-1.5, 2.0, 71)
    dense = basis.design(torch.from_numpy(x)).numpy()
    for k in range(count):
        reference = BSpline.basis_element(knots[k : k + 5], extrapolate=False)
        assert np.allclose(dense[:, k], np.nan_to_num(reference(x)), atol=1e-12), k


@given(bases, positions)
def test_they_sum_to_one_everywhere_and_their_derivatives_to_zero(basis, shares):
    _, values, derivatives = basis.local(points(basis, shares))
    assert torch.allclose(values.sum(1), torch.ones(len(shares), dtype=torch.float64), atol=1e-9)
    assert torch.allclose(derivatives.sum(1) * basis.step, torch.zeros(len(shares), dtype=torch.float64), atol=1e-9)


@given(bases, positions, st.integers(0, 2**32))
def test_derivatives_are_those_of_finite_differences(basis, shares, seed):
    coefficients = torch.from_numpy(np.random.default_rng(seed).normal(size=basis.count))
    x = points(basis, shares)
    h = 1e-5 * basis.step
    first, _, derivatives = basis.local(x)
    slope = (derivatives * coefficients[first[:, None] + torch.arange(4)]).sum(1)
    secant = (basis.design(x + h) @ coefficients - basis.design(x - h) @ coefficients) / (2 * h)
    assert torch.allclose(slope * basis.step, secant * basis.step, atol=1e-4)


@given(bases, st.floats(0.0, 3.0), st.floats(0.0, 3.0), st.integers(0, 2**32))
def test_tails_are_straight_lines_that_continue_value_and_slope(basis, near, far, seed):
    coefficients = torch.from_numpy(np.random.default_rng(seed).normal(size=basis.count))
    width = basis.high - basis.low
    for end, sign in ((basis.low, -1.0), (basis.high, 1.0)):
        x = torch.tensor([end, end + sign * near * width, end + sign * far * width], dtype=torch.float64)
        _, _, derivatives = basis.local(x)
        assert torch.allclose(derivatives, derivatives[:1].expand(3, -1), atol=1e-9 / basis.step)
        value = basis.design(x) @ coefficients
        first = basis.local(x)[0]
        slope = (derivatives[0] * coefficients[first[0] : first[0] + 4]).sum()
        assert torch.allclose(value, value[0] + slope * (x - end), atol=1e-8)


@given(bases, positions)
def test_local_and_dense_forms_agree(basis, shares):
    x = points(basis, shares)
    first, values, _ = basis.local(x)
    assert int(first.min()) >= 0
    assert int(first.max()) <= basis.count - 4
    dense = basis.design(x)
    assert dense.shape == (len(x), basis.count)
    assert torch.equal(dense.gather(1, first[:, None] + torch.arange(4)), values)
    assert torch.allclose(dense.sum(1), values.sum(1))


@given(bases, positions)
def test_polynomial_pieces_are_the_same_functions(basis, shares):
    x = points(basis, shares)
    piece, place = basis.locate(x)
    first, polynomials = basis.pieces()
    assert int(piece.min()) >= 0
    assert int(piece.max()) < basis.n_pieces == len(polynomials)
    powers = place[:, None] ** torch.arange(4)
    values = (polynomials[piece] * powers[:, None, :]).sum(2)
    dense = torch.zeros(len(x), basis.count, dtype=torch.float64)
    dense.scatter_(1, first[piece][:, None] + torch.arange(4), values)
    assert torch.allclose(dense, basis.design(x), atol=1e-8)


@given(bases, positions, st.floats(-3, 3), st.floats(-3, 3))
def test_lines_are_reproduced_and_cost_no_roughness(basis, shares, intercept, slope):
    centres = basis.low + basis.step * (torch.arange(basis.count, dtype=torch.float64) - 1)
    coefficients = intercept + slope * centres
    x = points(basis, shares)
    scale = 1.0 + float(coefficients.abs().max())
    assert torch.allclose(basis.design(x) @ coefficients, intercept + slope * x, atol=1e-9 * scale)
    assert abs(float(coefficients @ basis.roughness() @ coefficients)) < 1e-9 * scale**2


@given(bases)
def test_roughness_is_symmetric_and_positive_off_the_lines(basis):
    roughness = basis.roughness()
    eigenvalues = torch.linalg.eigvalsh(roughness)
    assert torch.equal(roughness, roughness.T)
    assert (eigenvalues[:2].abs() < 1e-9).all()
    assert (eigenvalues[2:] > 1e-6).all()


def test_a_basis_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match="at least 4 functions, not 3"):
        UniformBSpline(0.0, 1.0, 3)
    with pytest.raises(ValueError, match=r"interval \[1.0, 1.0\] of a spline basis is empty: is the column constant"):
        UniformBSpline(1.0, 1.0, 6)
    with pytest.raises(ValueError, match="is empty"):
        UniformBSpline(float("nan"), 1.0, 6)
