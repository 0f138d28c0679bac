from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentcause.metrics import (
    align_columns,
    frobenius_error,
    mean_correlation_coefficient,
    relative_mse,
    relative_mse_by_domain,
)


def disguised(seed: int, d: int, *, permute: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """True loadings and latents, and the same with columns in other order and with other signs and sizes."""
    rng = np.random.default_rng(seed)
    loadings, latents = rng.normal(size=(12, d)), rng.normal(size=(50, d)) * rng.uniform(0.5, 3, d)
    order = rng.permutation(d) if permute else np.arange(d)
    factors = rng.choice([-1.0, 1.0], d) * rng.uniform(0.2, 5.0, d)
    return loadings, latents, loadings[:, order] * factors, latents[:, order] / factors


seeds, sizes = st.integers(0, 2**32), st.integers(1, 6)


@given(seeds, sizes)
def test_alignment_undoes_any_signed_permutation_and_scale(seed, d):
    loadings, latents, other_loadings, other_latents = disguised(seed, d, permute=True)
    alignment = align_columns(other_loadings, loadings, "signed-permutation", scale=True)
    assert np.allclose(alignment.loadings(other_loadings), loadings)
    assert np.allclose(alignment.latents(other_latents), latents)
    assert (
        frobenius_error(other_loadings, loadings, "signed-permutation", scale=True) < 1e-20 * np.square(loadings).sum()
    )


@given(seeds, sizes)
def test_signs_alone_keep_the_order_and_the_scale(seed, d):
    loadings, latents, _, _ = disguised(seed, d, permute=False)
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], d)
    alignment = align_columns(loadings * signs, loadings, "sign")
    assert np.array_equal(alignment.order, np.arange(d))
    assert np.array_equal(alignment.factors, signs)
    assert np.array_equal(alignment.latents(latents * signs), latents)
    assert frobenius_error(loadings * signs, loadings) == 0.0


@given(seeds, sizes)
def test_alignment_keeps_the_product_of_loadings_and_latents(seed, d):
    rng = np.random.default_rng(seed)
    loadings, estimate, latents = rng.normal(size=(9, d)), rng.normal(size=(9, d)), rng.normal(size=(30, d))
    alignment = align_columns(estimate, loadings, "signed-permutation", scale=True)
    assert np.allclose(alignment.latents(latents) @ alignment.loadings(estimate).T, latents @ estimate.T)


@given(seeds, st.integers(2, 5))
def test_errors_do_not_change_with_the_estimates_signs_and_order(seed, d):
    rng = np.random.default_rng(seed)
    loadings, estimate = rng.normal(size=(9, d)), rng.normal(size=(9, d))
    order, signs = rng.permutation(d), rng.choice([-1.0, 1.0], d)
    expected = frobenius_error(estimate, loadings, "signed-permutation")
    assert frobenius_error(estimate[:, order] * signs, loadings, "signed-permutation") == pytest.approx(expected)
    assert frobenius_error(estimate * signs, loadings) == pytest.approx(frobenius_error(estimate, loadings))
    # A free matching of unit columns cannot do worse than the one by name.
    unit = [matrix / np.linalg.norm(matrix, axis=0) for matrix in (estimate, loadings)]
    assert frobenius_error(*unit, "signed-permutation") <= frobenius_error(*unit, "sign") + 1e-12


@given(seeds, sizes)
def test_correlation_is_one_for_any_affine_disguise_and_less_otherwise(seed, d):
    rng = np.random.default_rng(seed)
    latents = rng.normal(size=(40, d))
    order, factors, shift = rng.permutation(d), rng.choice([-2.0, 0.3], d), rng.normal(size=d)
    assert mean_correlation_coefficient(latents[:, order] * factors + shift, latents) == pytest.approx(1.0)
    noisy = latents + rng.normal(size=latents.shape)
    value = mean_correlation_coefficient(noisy, latents)
    assert 0.0 <= value < 1.0
    assert mean_correlation_coefficient(noisy[:, order] * factors, latents) == pytest.approx(value)


def test_a_constant_column_counts_as_uncorrelated():
    latents = np.random.default_rng(0).normal(size=(30, 2))
    assert mean_correlation_coefficient(np.column_stack([latents[:, 1], np.ones(30)]), latents) == pytest.approx(0.5)


def test_relative_mse_by_hand():
    truth = np.array([[1.0, 2.0], [0.0, -2.0]])
    estimate = np.array([[1.0, 1.0], [1.0, -2.0]])
    assert relative_mse(estimate, truth) == pytest.approx(2 / 9)
    assert relative_mse(truth, truth) == 0.0
    assert relative_mse(np.zeros_like(truth), truth) == 1.0
    by_domain = relative_mse_by_domain(estimate, truth, ["b", "a"])
    assert by_domain == {"b": pytest.approx(1 / 5), "a": pytest.approx(1 / 4)}
    assert list(by_domain) == ["b", "a"]  # order of first appearance


def test_frobenius_error_by_hand():
    truth = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    estimate = np.array([[-1.0, 0.0], [0.0, 0.5], [0.5, 0.0]])
    assert frobenius_error(estimate, truth) == pytest.approx(0.25 + 0.25)
    swapped = estimate[:, ::-1]
    assert frobenius_error(swapped, truth, "signed-permutation") == pytest.approx(0.5)
    assert frobenius_error(swapped, truth) > 2.0


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match=r"estimate has shape \(4, 2\) and truth \(4, 3\)"):
        relative_mse(np.zeros((4, 2)), np.zeros((4, 3)))
    with pytest.raises(ValueError, match=r"estimate has shape \(4,\)"):
        mean_correlation_coefficient(np.zeros(4), np.zeros(4))
    with pytest.raises(ValueError, match="unknown alignment 'best': choose 'sign' or 'signed-permutation'"):
        align_columns(np.eye(2), np.eye(2), "best")
    with pytest.raises(ValueError, match="3 domain labels for 4 rows"):
        relative_mse_by_domain(np.zeros((4, 2)), np.ones((4, 2)), ["a", "b", "c"])
