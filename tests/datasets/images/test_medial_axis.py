"""Distances against SciPy's, and what a medial axis must keep: parts, holes, and one pixel's width."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from latentcause.datasets.images.medial_axis import medial_axis, squared_distances

EIGHT = np.ones((3, 3))

masks = hnp.arrays(bool, st.tuples(st.integers(1, 3), st.integers(2, 25), st.integers(2, 25)), fill=st.just(True))


def blobs(seed: int, n: int = 6, size: int = 60) -> np.ndarray:
    """Smooth random shapes with holes, in the middle of their images."""
    noise = np.random.default_rng(seed).standard_normal((n, size, size))
    shapes = ndimage.gaussian_filter(noise, (0, 3, 3)) > 0.02
    shapes[:, :4] = shapes[:, -4:] = shapes[:, :, :4] = shapes[:, :, -4:] = False
    return shapes


@given(masks)
def test_distances_are_exact(mask: np.ndarray) -> None:
    mask[:, 0, 0] = False
    exact = np.stack([ndimage.distance_transform_edt(image) ** 2 for image in mask])
    np.testing.assert_array_equal(squared_distances(mask), np.rint(exact))


@given(st.integers(0, 20), st.integers(1, 8))
def test_distances_are_exact_up_to_the_farthest_asked_for(seed: int, farthest: int) -> None:
    mask = ~blobs(seed, n=2)
    exact = np.stack([ndimage.distance_transform_edt(image) ** 2 for image in mask])
    found = squared_distances(mask, farthest)
    near = exact <= farthest**2
    np.testing.assert_array_equal(found[near], np.rint(exact[near]))
    assert (found[~near] > farthest**2).all()


def test_medial_axis_keeps_parts_and_holes_and_is_thin() -> None:
    mask = blobs(1)
    axis = medial_axis(squared_distances(mask))
    assert not (axis & ~mask).any()
    for before, after in zip(mask, axis, strict=True):
        assert ndimage.label(before, EIGHT)[1] == ndimage.label(after, EIGHT)[1]
        assert ndimage.label(~before)[1] == ndimage.label(~after)[1]
        squares = after[:-1, :-1] & after[1:, :-1] & after[:-1, 1:] & after[1:, 1:]
        assert squares.sum() <= 0.01 * after.sum()


def test_images_of_a_stack_do_not_touch_each_other() -> None:
    squared = squared_distances(blobs(2))
    together = medial_axis(squared)
    alone = np.concatenate([medial_axis(squared[k : k + 1]) for k in range(len(squared))])
    np.testing.assert_array_equal(together, alone)


def test_medial_axis_of_a_bar_is_its_middle_line() -> None:
    mask = np.zeros((1, 21, 60), dtype=bool)
    mask[0, 6:15, 5:55] = True
    axis = medial_axis(squared_distances(mask))[0]
    np.testing.assert_array_equal(np.flatnonzero(axis[:, 30]), [10])
    assert axis[10, 12:48].all()
