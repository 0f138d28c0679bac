"""Thickness and intensity of the strokes of an image: measure them, and set them.

Definitions of Morpho-MNIST (Castro, Tan, Kainz, Konukoglu and Glocker, JMLR 20(178), 2019, sections 2.1 and 2.2) and of Pawlowski,
Castro and Glocker (NeurIPS 2020, appendix A.1).
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from latentcause.data.labelled_images import checked_pixels
from latentcause.datasets.images.medial_axis import medial_axis, squared_distances

MEASURING_SCALE = 8
"""Upscaling at which thickness is measured."""
SETTING_SCALE = 4
"""Upscaling at which thickness is set."""
CORRECTIONS = 2
"""How often `set_thickness` measures what it made and corrects the radius."""
BLOCK = 2**19  # pixels worked on at a time, after upscaling: they stay in the processor's cache


def thickness(images: Any, scale: int = MEASURING_SCALE) -> np.ndarray:
    """Mean thickness (n,) of the strokes, in pixels: twice the mean distance to the background along the medial axis.

    The image is upscaled (cubic spline, then a Gaussian of scale / 3) and cut half-way between its darkest and its
    brightest pixel. An image without contrast has thickness 0.

    Parameters
    ----------
    images : array (n, 1, h, w) or (n, h, w)
        Bright strokes on a dark ground; floats in [0, 1] or uint8.
    scale : int
        Upscaling factor.

    Raises
    ------
    ValueError
        For images that `LabelledImages` would refuse, or of more than one channel.
    """
    pixels = _one_channel(images)
    return np.concatenate([_thickness(pixels[block], scale) for block in _blocks(pixels, scale)])


def intensity(images: Any) -> np.ndarray:
    """Intensity (n,) in grey levels 0 to 255: the median of the pixels that lie in the upper half of the image's range."""
    pixels = _one_channel(images).reshape(len(images), -1)
    low, high = pixels.min(axis=1), pixels.max(axis=1)
    bright = (pixels >= ((low + high) / 2)[:, None]).sum(axis=1)
    descending = -np.sort(-pixels, axis=1)
    rows = np.arange(len(pixels))
    return 127.5 * (descending[rows, (bright - 1) // 2].astype(np.float64) + descending[rows, bright // 2])


def set_thickness(images: Any, target: Any) -> np.ndarray:
    """The same strokes grown or shrunk evenly until their thickness is ``target`` (n,) pixels; full contrast.

    Where the distance to the old outline is at most (target - thickness) / 2, there is ink. Growing changes the medial
    axis, so the radius is corrected by what the result measures, by at most one pixel, and the best of the tries is kept. Published
    images come from dilation and erosion by disks without a correction.

    Returns
    -------
    ndarray, float32, in the shape of ``images``

    Raises
    ------
    ValueError
        For targets that are not positive numbers, one per image, and for images without contrast.
    """
    pixels = _one_channel(images)
    wanted = np.broadcast_to(np.asarray(target, dtype=np.float64), (len(pixels),))
    if not (np.isfinite(wanted).all() and (wanted > 0).all()):
        raise ValueError("thickness must be a positive number of pixels for every image")
    flat = pixels.max(axis=(1, 2)) == pixels.min(axis=(1, 2))
    if flat.any():
        raise ValueError(f"image {flat.argmax()} has no contrast, so it has no strokes to grow or shrink")
    parts = [_set_thickness(pixels[block], wanted[block]) for block in _blocks(pixels, SETTING_SCALE)]
    return np.concatenate(parts).reshape(np.shape(images))


def set_intensity(images: Any, target: Any) -> np.ndarray:
    """The images times one factor each, so that their intensity is ``target`` (n,) grey levels; values above 1 are cut.

    Returns
    -------
    ndarray, float32, in the shape of ``images``

    Raises
    ------
    ValueError
        For targets outside 0 to 255, and for black images.
    """
    pixels = checked_pixels(images)
    wanted = np.broadcast_to(np.asarray(target, dtype=np.float64), (len(pixels),))
    if not ((wanted >= 0) & (wanted <= 255)).all():
        raise ValueError("intensity must be a number of grey levels from 0 to 255 for every image")
    now = intensity(pixels)
    if not now.all():
        raise ValueError(f"image {int((now == 0).argmax())} is black: no factor makes it brighter")
    factor = (wanted / now).astype(np.float32)
    return np.minimum(pixels * factor[:, None, None, None], np.float32(1)).reshape(np.shape(images))


def redraw(images: Any, thickness: Any, intensity: Any) -> np.ndarray:
    """`set_thickness`, then `set_intensity`."""
    return set_intensity(set_thickness(images, thickness), intensity)


def _one_channel(images: Any) -> np.ndarray:
    pixels = checked_pixels(images)
    if pixels.shape[1] != 1:
        raise ValueError(f"images have {pixels.shape[1]} channels: strokes are measured on grey images, of one channel")
    return pixels[:, 0]


def _blocks(pixels: np.ndarray, scale: int) -> list[slice]:
    size = max(1, BLOCK // (pixels[0].size * scale**2))
    return [slice(start, start + size) for start in range(0, len(pixels), size)]


def _thickness(pixels: np.ndarray, scale: int) -> np.ndarray:
    mask = _strokes(pixels, scale)
    return _thickness_from(squared_distances(mask), scale) * (pixels.max(axis=(1, 2)) > pixels.min(axis=(1, 2)))


def _strokes(pixels: np.ndarray, scale: int) -> np.ndarray:
    """Where the upscaled images are brighter than half-way through their range: bool (n, scale h, scale w)."""
    h, w = pixels.shape[1:]
    large = _resized(pixels, _upscaling(h, scale), _upscaling(w, scale))
    return large >= (large.min(axis=(1, 2), keepdims=True) + large.max(axis=(1, 2), keepdims=True)) / 2


def _resized(pixels: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """rows @ image @ columns' for every image (n, h, w), as two products of matrices for the whole stack."""
    n, h, w = pixels.shape
    tall = (pixels.transpose(0, 2, 1).reshape(-1, h) @ np.ascontiguousarray(rows.T)).reshape(n, w, len(rows))
    wide = tall.transpose(0, 2, 1).reshape(-1, w) @ np.ascontiguousarray(columns.T)
    return wide.reshape(n, len(rows), len(columns))


def _thickness_from(squared: np.ndarray, scale: int) -> np.ndarray:
    axis = medial_axis(squared)
    total = np.sqrt(squared, where=axis, out=np.zeros(squared.shape)).sum(axis=(1, 2))
    return 2 * total / axis.sum(axis=(1, 2)) / scale


def _set_thickness(pixels: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Render at radii r = (wanted - thickness) / 2, then at radii corrected along the secant."""
    scale = SETTING_SCALE
    down = [_downscaling(size, scale) for size in pixels.shape[1:]]
    mask = _strokes(pixels, scale)
    inside = squared_distances(mask)
    start = (wanted - _thickness_from(inside, scale)) / 2 * scale
    reach = int(np.clip(np.ceil(start.max()) + scale + 1, 1, 180))
    outside = squared_distances(~mask, reach)
    depth = np.where(mask, np.sqrt(inside, dtype=np.float32) - 0.5, 0.5 - np.sqrt(outside, dtype=np.float32))
    least = 0.5 - depth.max(axis=(1, 2))  # at this radius one large pixel is left

    def drawn(radius: np.ndarray) -> np.ndarray:
        ink = np.clip(depth + (radius + 0.5).astype(np.float32)[:, None, None], 0, 1)  # outlines half covered
        return np.clip(_resized(ink, *down), 0, 1)

    radius = np.maximum(start, least)
    best, best_error, slope = radius, np.full(len(radius), np.inf), np.ones(len(radius))
    last_radius, last_error = radius, np.zeros(len(radius))
    for attempt in range(CORRECTIONS + 1):
        error = _thickness(drawn(radius), scale) - wanted
        better = np.abs(error) < best_error
        best, best_error = np.where(better, radius, best), np.where(better, np.abs(error), best_error)
        if attempt == CORRECTIONS:
            break
        if attempt:
            moved = (radius - last_radius) * 2 / scale
            slope = np.clip(np.divide(error - last_error, moved, out=slope, where=np.abs(moved) > 1e-6), 0.5, 2)
        last_radius, last_error = radius, error
        radius = np.clip(radius - error / slope / 2 * scale, start - scale, start + scale)
        radius = np.maximum(radius, least)
    return drawn(best)


@cache
def _upscaling(size: int, scale: int) -> np.ndarray:
    """The matrix (scale * size, size) of cubic-spline interpolation followed by a Gaussian of scale / 3."""
    from scipy import ndimage

    large = ndimage.zoom(np.eye(size), (scale, 1), order=3, mode="mirror", grid_mode=True)
    return ndimage.gaussian_filter1d(large, scale / 3, axis=0, mode="mirror").astype(np.float32)


@cache
def _downscaling(size: int, scale: int) -> np.ndarray:
    """The matrix (size, scale * size) of a Gaussian of scale / 3 followed by cubic-spline interpolation."""
    from scipy import ndimage

    smooth = ndimage.gaussian_filter1d(np.eye(scale * size), scale / 3, axis=0, mode="mirror")
    return ndimage.zoom(smooth, (1 / scale, 1), order=3, mode="mirror", grid_mode=True).astype(np.float32)
