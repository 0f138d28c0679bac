"""Strokes of known width and grey level are measured and set as asked."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentcause.datasets.images import strokes


def ring(radius: float, width: float, level: float = 1.0, size: int = 28) -> np.ndarray:
    """A ring with a smooth outline, drawn exactly: its thickness is its width, everywhere."""
    step = (np.arange(size) + 0.5) - size / 2
    distance = np.abs(np.hypot(step[:, None], step) - radius)
    return (level * np.clip(width / 2 - distance + 0.5, 0, 1))[None].astype(np.float32)


@pytest.mark.parametrize("width", [2.0, 3.0, 4.5, 6.0])
def test_thickness_of_a_ring_is_its_width(width: float) -> None:
    assert strokes.thickness(ring(8.0, width))[0] == pytest.approx(width, abs=0.12)


def test_rings_take_the_thickness_asked_for() -> None:
    """A threshold on a grid of eighths of a pixel misses a few rings by more than the others, so the whole spread is tested."""
    rng = np.random.default_rng(0)
    widths, wanted = rng.uniform(2, 5, 60), rng.uniform(2, 6, 60)
    drawn = strokes.set_thickness(np.concatenate([ring(8.0, width) for width in widths]), wanted)
    missed = np.abs(strokes.thickness(drawn) - wanted)
    assert missed.mean() < 0.06
    assert np.quantile(missed, 0.95) < 0.13
    assert missed.max() < 0.3
    exact = np.concatenate([ring(8.0, width) for width in wanted])
    assert np.abs(drawn - exact).mean(axis=(1, 2)).max() < 0.02
    assert drawn.min() >= 0
    assert drawn.max() <= 1


def test_thickness_does_not_depend_on_brightness_or_on_the_other_images() -> None:
    images = np.concatenate([ring(8.0, w, level) for w in (2.0, 4.0) for level in (1.0, 0.3)])
    together = strokes.thickness(images)
    np.testing.assert_allclose(together[[0, 2]], together[[1, 3]], atol=0.02)
    np.testing.assert_array_equal(together, np.concatenate([strokes.thickness(image[None]) for image in images]))
    grown = strokes.set_thickness(images, [3.0, 3.0, 5.0, 2.0])
    alone = [strokes.set_thickness(x[None], [t]) for x, t in zip(images, (3.0, 3.0, 5.0, 2.0), strict=True)]
    np.testing.assert_allclose(grown, np.concatenate(alone), atol=1e-5)


def test_intensity_is_the_median_of_the_bright_half() -> None:
    image = np.zeros((1, 1, 4, 4), dtype=np.float32)
    image[0, 0, 0] = [0.9, 0.8, 0.6, 0.4]  # upper half of the range: 0.45 and more
    assert strokes.intensity(image)[0] == pytest.approx(0.8 * 255)
    image[0, 0, 1, 0] = 0.5
    assert strokes.intensity(image)[0] == pytest.approx(0.7 * 255)


@given(st.floats(1, 230), st.floats(0.1, 1))
def test_intensity_is_set_exactly_where_nothing_is_cut(wanted: float, level: float) -> None:
    drawn = strokes.set_intensity(ring(8.0, 3.0, level), wanted)
    assert strokes.intensity(drawn)[0] == pytest.approx(wanted, rel=1e-5)


def test_images_without_strokes() -> None:
    blank = np.full((2, 1, 12, 12), 0.4, dtype=np.float32)
    np.testing.assert_array_equal(strokes.thickness(blank), 0)
    np.testing.assert_allclose(strokes.intensity(blank), 0.4 * 255, rtol=1e-6)
    with pytest.raises(ValueError, match="image 0 has no contrast"):
        strokes.set_thickness(blank, 2.0)
    with pytest.raises(ValueError, match="image 0 is black"):
        strokes.set_intensity(0 * blank, 2.0)


def test_a_stroke_shrunk_below_what_it_has_leaves_a_trace() -> None:
    drawn = strokes.set_thickness(ring(8.0, 4.0), 0.05)
    assert drawn.max() > 0


@pytest.mark.parametrize("target", [0.0, -1.0, np.nan, np.inf])
def test_impossible_targets_are_refused(target: float) -> None:
    with pytest.raises(ValueError, match="thickness must be a positive number"):
        strokes.set_thickness(ring(8.0, 3.0), target)
    if target != 0:
        with pytest.raises(ValueError, match="intensity must be"):
            strokes.set_intensity(ring(8.0, 3.0), target)


def test_colour_is_refused() -> None:
    with pytest.raises(ValueError, match="3 channels"):
        strokes.thickness(np.zeros((1, 3, 8, 8)))
