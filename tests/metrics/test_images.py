"""Errors of images: closed forms, invariances, and what a window sees."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentcause.metrics import l1_error, psnr, ssim

seeds = st.integers(0, 10_000)


def pictures(seed: int, n: int = 3, channels: int = 1, size: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 1, (n, channels, size, size)).astype(np.float32)


def test_l1_and_psnr_by_hand():
    truth = np.full((2, 1, 4, 4), 0.5, dtype=np.float32)
    images = truth + np.array([0.1, -0.5], dtype=np.float32)[:, None, None, None]
    np.testing.assert_allclose(l1_error(images, truth), [0.1, 0.5], rtol=1e-6)
    np.testing.assert_allclose(psnr(images, truth), [20.0, -10 * np.log10(0.25)], rtol=1e-6)
    images[0, 0, 0, 0] = 0.5
    assert l1_error(images, truth)[0] == pytest.approx(0.1 * 15 / 16, rel=1e-6)


def test_psnr_of_equal_images_is_that_of_rounding_to_eight_bits():
    images = pictures(0, n=50, size=64)
    assert psnr(images, images) == pytest.approx(np.full(50, 10 * np.log10(12 * 255**2)))
    rounded = np.round(255 * images) / 255
    np.testing.assert_allclose(psnr(rounded, images), psnr(images, images), atol=0.2)


@given(seeds, st.sampled_from([1, 3]))
def test_errors_are_symmetric_and_perfect_only_for_equal_images(seed, channels):
    x, y = pictures(seed, channels=channels), pictures(seed + 1, channels=channels)
    for error in (l1_error, psnr, ssim):
        np.testing.assert_allclose(error(x, y), error(y, x), rtol=1e-6)
        assert error(x, y).shape == (3,)
    assert (l1_error(x, x) == 0).all()
    np.testing.assert_allclose(ssim(x, x), 1, rtol=1e-12)
    assert (ssim(x, y) < 0.5).all()


def test_ssim_of_flat_images_is_its_luminance_term():
    x, y = np.full((1, 1, 12, 12), 0.3, dtype=np.float32), np.full((1, 1, 12, 12), 0.7, dtype=np.float32)
    assert ssim(x, y) == pytest.approx((2 * 0.21 + 1e-4) / (0.09 + 0.49 + 1e-4), rel=1e-5)


def test_ssim_of_one_window_is_the_formula_with_gaussian_weights():
    x, y = pictures(3, n=1, size=11), pictures(4, n=1, size=11)
    axis = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    weights = np.outer(axis, axis) / np.outer(axis, axis).sum()
    a, b = x[0, 0].astype(float), y[0, 0].astype(float)
    mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
    var_a, var_b = (weights * (a - mean_a) ** 2).sum(), (weights * (b - mean_b) ** 2).sum()
    covariance = (weights * (a - mean_a) * (b - mean_b)).sum()
    expected = (2 * mean_a * mean_b + 1e-4) * (2 * covariance + 9e-4)
    expected /= (mean_a**2 + mean_b**2 + 1e-4) * (var_a + var_b + 9e-4)
    assert ssim(x, y)[0] == pytest.approx(expected, rel=1e-9)


def test_ssim_sees_structure_where_squared_error_does_not():
    x = 0.25 + 0.5 * pictures(5)
    noise = np.random.default_rng(6).choice([-0.1, 0.1], x.shape).astype(np.float32)
    brighter, noisy = x + np.float32(0.1), x + noise
    np.testing.assert_allclose(psnr(brighter, x), psnr(noisy, x), rtol=1e-5)
    assert (ssim(brighter, x) > ssim(noisy, x) + 0.05).all()
    assert (ssim(1 - x, x) < 0).all()  # the negative: covariance of the other sign


def test_each_image_is_scored_by_itself():
    x, y = pictures(7, n=4), pictures(8, n=4)
    for error in (l1_error, psnr, ssim):
        np.testing.assert_allclose(error(x, y)[2:3], error(x[2:3], y[2:3]), rtol=1e-6)


def test_bad_images_are_refused():
    x = pictures(0)
    with pytest.raises(ValueError, match="to compare"):
        l1_error(x, x[:2])
    with pytest.raises(ValueError, match="NaN"):
        psnr(np.where(x > 0.99, np.nan, x), x)
    with pytest.raises(ValueError, match="8 x 8 hold no window"):
        ssim(x[:, :, :8, :8], x[:, :, :8, :8])
