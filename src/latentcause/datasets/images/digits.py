"""Factors of handwritten digits that scikit-learn brings with it: nothing to download, and drawn in no time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch

from latentcause.data.labelled_images import checked_pixels
from latentcause.datasets.images.factor_images import FactorImages
from latentcause.graph import CausalGraph
from latentcause.scm import GaussianNoise, GeneralMechanism, StructuralCausalModel

INKS, INTENSITIES = (12.0, 28.0), (64.0, 255.0)
HALVINGS = 24


def digits(n: int = 1797, *, seed: int) -> FactorImages:
    """n different digits (n, 1, 8, 8) with strokes of known weight and brightness: ink -> intensity.

    Factors: ``ink``, the sum of all pixels over the brightest one, in pixels (thick strokes have much of it); ``intensity``, the
    brightest pixel, in grey levels 0 to 255. An image is the digit d raised to the power that gives the ink, times the
    intensity: x = intensity / 255 d^g. Both are read off any image exactly (`measure_digits`).

    Raises
    ------
    ValueError
        Where n is not 1 to 1797.
    """
    from sklearn.datasets import load_digits

    pictures = load_digits().images
    if not 0 < n <= len(pictures):
        raise ValueError(f"n={n} digits: there are 1 to {len(pictures)}")
    chosen = pictures[np.random.default_rng(seed).permutation(len(pictures))[:n]]
    return FactorImages.draw(digits_scm(), _smooth(chosen), render_digits, measure_digits, seed=seed)


def digits_scm() -> StructuralCausalModel:
    """ink = 12 + 16 sigmoid(e1), e1 ~ N(0, 1); intensity = 64 + 191 sigmoid((ink - 20) / 2 + e2), e2 ~ N(0, 0.5^2)."""
    low, high = INKS
    dark, bright = INTENSITIES
    return StructuralCausalModel(
        CausalGraph.from_edges([("ink", "intensity")]),
        {
            "ink": GeneralMechanism(
                lambda parents, noise: low + (high - low) * torch.sigmoid(noise),
                GaussianNoise(1.0),
                lambda values, parents: torch.logit((values - low) / (high - low)),
            ),
            "intensity": GeneralMechanism(
                lambda parents, noise: dark + (bright - dark) * torch.sigmoid((parents[:, 0] - 20) / 2 + noise),
                GaussianNoise(0.25),
                lambda values, parents: torch.logit((values - dark) / (bright - dark)) - (parents[:, 0] - 20) / 2,
            ),
        },
    )


def render_digits(base: np.ndarray, factors: pd.DataFrame) -> np.ndarray:
    """Digits (n, 8, 8) with the factors ``ink`` and ``intensity``: float32 images (n, 1, 8, 8).

    Raises
    ------
    ValueError
        For an intensity outside 0 to 255, or ink that no power of the digit gives (10 to 40 pixels are always possible).
    """
    ink, level = factors["ink"].to_numpy()[:, None, None], factors["intensity"].to_numpy()[:, None, None]
    if not ((level >= 0) & (level <= 255)).all():
        raise ValueError("intensity must be a number of grey levels from 0 to 255")
    low, high = np.full(ink.shape, -4.0), np.full(ink.shape, 4.0)
    for _ in range(HALVINGS):  # ink falls as the power 2^exponent rises
        middle = (low + high) / 2
        too_much = (base ** np.exp2(middle)).sum(axis=(1, 2), keepdims=True) > ink
        low, high = np.where(too_much, middle, low), np.where(too_much, high, middle)
    picture = base ** np.exp2(low)
    missed = np.abs(picture.sum(axis=(1, 2), keepdims=True) - ink).reshape(-1)
    if missed.max() > 1e-3:
        row = int(missed.argmax())
        raise ValueError(f"ink={ink.reshape(-1)[row]:g} (row {row}) is out of reach of that digit: give about 10 to 40")
    return (picture * (level / 255)).astype(np.float32)[:, None]


def measure_digits(images: Any) -> pd.DataFrame:
    """Measured ``ink`` (0 where the image is black) and ``intensity`` of images (n, 1, h, w)."""
    pixels = checked_pixels(images).reshape(len(images), -1).astype(np.float64)
    brightest = pixels.max(axis=1)
    ink = np.divide(pixels.sum(axis=1), brightest, out=np.zeros(len(pixels)), where=brightest > 0)
    return pd.DataFrame({"ink": ink, "intensity": 255 * brightest})


def _smooth(pictures: np.ndarray) -> np.ndarray:
    """The digits (n, 8, 8) with a little of their neighbours in every pixel, brightest pixel 1: no pixel is quite black."""
    from scipy.ndimage import gaussian_filter

    smooth = gaussian_filter(pictures, (0, 0.6, 0.6)) + 0.01
    return smooth / smooth.max(axis=(1, 2), keepdims=True)
