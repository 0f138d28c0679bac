"""How far images are from other images: pixel by pixel, and in structure. One number per image."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from latentcause.data.labelled_images import checked_pixels

WINDOW, WINDOW_SD = 11, 1.5  # pixels; of the Gaussian window of `ssim`
K1, K2 = 0.01, 0.03
ROUNDING_VARIANCE = 1 / (12 * 255**2)
"""Of rounding to 8 bits: the smallest squared error that `psnr` tells from none."""


def l1_error(images: Any, truth: Any) -> np.ndarray:
    """Mean of ``|x - y|`` over pixels and channels, (n,), of images (n, c, h, w) in [0, 1]; 0 is perfect.

    Raises
    ------
    ValueError
        For images of unequal shape, and what `LabelledImages` refuses.
    """
    x, y = _pair(images, truth)
    return np.abs(x - y).mean(axis=(1, 2, 3), dtype=np.float64)


def psnr(images: Any, truth: Any) -> np.ndarray:
    """Peak signal to noise ratio -10 log10(mean (x - y)^2), (n,), in decibels, of images (n, c, h, w) in [0, 1].

    The squared error counts as at least 1 / (12 255^2), that of rounding to 8 bits: equal images have 58.9 dB.

    Raises
    ------
    ValueError
        For images of unequal shape, and what `LabelledImages` refuses.
    """
    x, y = _pair(images, truth)
    error = np.square(x - y).mean(axis=(1, 2, 3), dtype=np.float64)
    return -10 * np.log10(np.maximum(error, ROUNDING_VARIANCE))


def ssim(images: Any, truth: Any) -> np.ndarray:
    """Structural similarity (n,) of images (n, c, h, w) in [0, 1]; 1 is perfect.

    The mean over channels and over all windows that lie inside the image of

        (2 m_x m_y + C1)(2 s_xy + C2) / ((m_x^2 + m_y^2 + C1)(s_x^2 + s_y^2 + C2)),

    with means m, variances s^2 and covariance s_xy weighted by a Gaussian of standard deviation 1.5 in windows of 11 x 11,
    C1 = 0.01^2 and C2 = 0.03^2 (Wang, Bovik, Sheikh and Simoncelli, Image quality assessment, 2004, Eq. 13 and section III C).

    Raises
    ------
    ValueError
        For images smaller than a window or of unequal shape, and what `LabelledImages` refuses.
    """
    x, y = (part.astype(np.float64) for part in _pair(images, truth))
    if not holds_window(x):
        raise ValueError(
            f"images of {x.shape[2]} x {x.shape[3]} hold no window of {WINDOW} x {WINDOW}: SSIM needs larger"
        )
    mean_x, mean_y = _windowed(x), _windowed(y)
    var_x, var_y = _windowed(x * x) - mean_x**2, _windowed(y * y) - mean_y**2
    covariance = _windowed(x * y) - mean_x * mean_y
    c1, c2 = K1**2, K2**2
    alike = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    similarity = alike / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    return similarity.mean(axis=(1, 2, 3))


def holds_window(images: np.ndarray) -> bool:
    """Whether images (n, c, h, w) are large enough for `ssim`."""
    return min(images.shape[2:]) >= WINDOW


def _windowed(values: np.ndarray) -> np.ndarray:
    """Weighted means over every window that lies inside."""
    half = WINDOW // 2
    means = gaussian_filter(values, (0, 0, WINDOW_SD, WINDOW_SD), radius=(0, 0, half, half))
    inside: np.ndarray = means[:, :, half:-half, half:-half]
    return inside


def _pair(images: Any, truth: Any) -> tuple[np.ndarray, np.ndarray]:
    x, y = checked_pixels(images), checked_pixels(truth)
    if x.shape != y.shape:
        raise ValueError(f"images of shape {x.shape} and {y.shape}: give as many, of one size, to compare")
    return x, y
