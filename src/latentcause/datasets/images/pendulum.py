"""Pendulum: a ball on a rod, a sun, and the shadow that they cast; drawn here from the geometry.

The scene of Yang, Liu, Chen, Shen, Hao and Wang, CausalVAE: disentangled representation learning via neural structural causal
models, CVPR 2021, section 5.1. Here the whole sun is in the picture, so that its position can be measured.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from latentcause.data.labelled_images import checked_pixels
from latentcause.datasets.images.factor_images import FactorImages
from latentcause.graph import CausalGraph
from latentcause.scm import FunctionMechanism, GeneralMechanism, StructuralCausalModel, UniformNoise

LEFT, BOTTOM, SCENE = -2.0, -1.0, 24.0  # the picture: its lower left corner, its width and height
PIVOT_X, PIVOT_Y = 10.0, 10.5
ROD, REACH = 8.0, 9.5  # from the pivot to the ball's centre, and to the point that casts the end of the shadow
BALL_RADIUS, SUN_RADIUS, SUN_Y, GROUND_Y = 1.5, 2.0, 20.5, -0.5
LINE = 0.8  # thickness of rod and shadow
SMALLEST_SHADOW = 3.0  # the ball's own
ANGLES, LIGHTS = (-40.0, 40.0), (3.0, 17.0)
BALL, SUN, BLACK = (0.7, 0.13, 0.13), (1.0, 0.65, 0.0), (0.0, 0.0, 0.0)
FAINT = 0.1  # coverage of a pixel below which `measure_pendulum` takes it for none
BLOCK = 2**20  # pixels drawn at a time


def pendulum(n: int, size: int = 64, *, seed: int, noise: float = 0.5) -> FactorImages:
    """n colour images (n, 3, size, size) of a pendulum in the sun, with factors from `pendulum_scm`.

    Factors: ``angle`` of the pendulum in degrees, positive to the right; ``light``, the sun's horizontal position;
    ``shadow_length`` and ``shadow_position`` (of its centre), both on the ground. Lengths are in units of the scene, whose picture
    spans -2 to 22 horizontally. ``measure`` is `measure_pendulum`.

    Parameters
    ----------
    n, size, seed : int
    noise : float
        As in `pendulum_scm`.

    Raises
    ------
    ValueError
        For n below 1, images of fewer than 16 pixels a side, or noise outside 0 to 0.5.
    """
    if n < 1 or size < 16:
        raise ValueError(f"{n} images of {size} x {size}: draw at least 1, of at least 16 x 16 pixels")
    render = partial(render_pendulum, size=size)
    return FactorImages.draw(pendulum_scm(noise), np.zeros((n, 0)), render, measure_pendulum, seed=seed)


def pendulum_scm(noise: float = 0.5) -> StructuralCausalModel:
    """angle ~ U(-40, 40), light ~ U(3, 17); the sun is so far away that its rays are parallel.

    With k = (light - 10) / 10, the tangent of the rays' angle to the vertical: the shadow of the rod reaches from 10 - 11 k to
    10 - 11 k + s, s = 9.5 (sin angle + k cos angle). Hence length = max(3, |s|) + e1 and position = 10 - 11 k + s / 2 + e2.

    Parameters
    ----------
    noise : float
        Standard deviation of e1 and e2, the unevenness of the ground. At 0 it is the published scene, in which angle and light
        leave nothing open, so that no data can show what do(shadow_length) looks like.

    Raises
    ------
    ValueError
        For noise outside 0 to 0.5: shadows could get no length.
    """
    if not 0 <= noise <= 0.5:
        raise ValueError(f"noise={noise}: give 0 to 0.5, the shortest shadow being {SMALLEST_SHADOW:g}")
    causes, effects = ("angle", "light"), ("shadow_length", "shadow_position")
    edges = [(cause, effect) for cause in causes for effect in effects]
    graph = CausalGraph.from_edges(edges, nodes=[*causes, *effects])
    return StructuralCausalModel(
        graph,
        {
            "angle": _uniform(*ANGLES),
            "light": _uniform(*LIGHTS),
            "shadow_length": FunctionMechanism(
                lambda parents: _shadow(parents)[1].abs().clamp_min(SMALLEST_SHADOW), noise**2
            ),
            "shadow_position": FunctionMechanism(
                lambda parents: _shadow(parents)[0] + _shadow(parents)[1] / 2, noise**2
            ),
        },
    )


def render_pendulum(base: np.ndarray, factors: pd.DataFrame, size: int = 64) -> np.ndarray:
    """One image for each row of ``factors``: float32 (n, 3, size, size), outlines smooth.

    Parameters
    ----------
    base : ndarray (n, ...)
        Not looked at: nothing but the factors decides on an image.
    factors : DataFrame
        The columns of `pendulum`.
    size : int

    Raises
    ------
    ValueError
        For a shadow of negative length.
    """
    angle, light, length, position = factors[["angle", "light", "shadow_length", "shadow_position"]].to_numpy().T
    if (length < 0).any():
        raise ValueError(f"shadow_length {length.min():g} (row {length.argmin()}): give at least 0")
    images = np.empty((len(factors), 3, size, size), dtype=np.float32)
    step = max(1, BLOCK // size**2)
    for start in range(0, len(images), step):
        part = slice(start, start + step)
        images[part] = _drawn(np.radians(angle[part]), light[part], length[part], position[part], size)
    return images


def measure_pendulum(images: Any) -> pd.DataFrame:
    """The factors of `pendulum` as they are seen in images (n, 3, h, h), drawn or generated.

    Every pixel is unmixed into white and the three colours. Angle and light come from the centres of what is red and orange (NaN
    where there is none), the shadow from the black along the ground: its length is 0, and its position NaN, where there is none.
    Of images drawn at 64 x 64 all are found within 0.1 units and 0.2 degrees, as long as nothing leaves the picture.
    """
    pixels = checked_pixels(images)
    if pixels.shape[1] != 3 or pixels.shape[2] != pixels.shape[3]:
        raise ValueError(f"images have shape {pixels.shape}: pendulums are square, of three channels")
    x, y = _centres(pixels.shape[2])
    colours = 1 - np.array([BALL, SUN, BLACK])
    cover = np.einsum("nchw,ck->knhw", 1 - pixels, np.linalg.inv(colours), optimize=True)
    ball, sun, black = np.where(cover < FAINT, 0, cover)
    shadow = black[:, y < GROUND_Y + LINE].sum(axis=1) * (SCENE / len(x)) / LINE
    ball_x, ball_y = _centre(ball.sum(axis=1), x), _centre(ball.sum(axis=2), y)
    return pd.DataFrame(
        {
            "angle": np.degrees(np.arctan2(ball_x - PIVOT_X, PIVOT_Y - ball_y)),
            "light": _centre(sun.sum(axis=1), x),
            "shadow_length": shadow.sum(axis=1) * (SCENE / len(x)),
            "shadow_position": _centre(shadow, x),
        }
    )


def _uniform(low: float, high: float) -> GeneralMechanism:
    return GeneralMechanism(
        lambda parents, noise: low + (high - low) * noise,
        UniformNoise(),
        lambda values, parents: (values - low) / (high - low),
    )


def _shadow(parents: Tensor) -> tuple[Tensor, Tensor]:
    """Where the pivot's shadow falls, and how far from there that of the rod's end does, of (n, 2) angles and lights."""
    angle, light = torch.deg2rad(parents[..., 0]), parents[..., 1]
    slope = (light - PIVOT_X) / (SUN_Y - PIVOT_Y)
    start = PIVOT_X - (PIVOT_Y - GROUND_Y) * slope
    return start, REACH * (torch.sin(angle) + slope * torch.cos(angle))


def _drawn(angle: np.ndarray, light: np.ndarray, length: np.ndarray, position: np.ndarray, size: int) -> np.ndarray:
    """Rod, ball, sun and shadow, one over the other on white."""
    pixel = SCENE / size
    x, y = (centres.astype(np.float32) for centres in _centres(size))
    x, y = x[None, None, :], y[None, :, None]
    angle, light, length, position = (v.astype(np.float32)[:, None, None] for v in (angle, light, length, position))
    right, down = np.sin(angle), np.cos(angle)
    along = np.clip((x - PIVOT_X) * right + (PIVOT_Y - y) * down, 0, ROD)
    rod = LINE / 2 - np.hypot(x - PIVOT_X - along * right, y - PIVOT_Y + along * down)
    ball = BALL_RADIUS - np.hypot(x - PIVOT_X - ROD * right, y - PIVOT_Y + ROD * down)
    sun = SUN_RADIUS - np.hypot(x - light, y - SUN_Y)
    across = _overlap(x, position - length / 2, position + length / 2, pixel)
    shadow = across * _overlap(y, GROUND_Y - LINE / 2, GROUND_Y + LINE / 2, pixel)
    picture = np.ones((len(angle), 3, size, size), dtype=np.float32)
    depths = ((rod, BLACK), (ball, BALL), (sun, SUN))
    layers = [(np.clip(depth / pixel + 0.5, 0, 1), colour) for depth, colour in depths]
    for cover, colour in (*layers, (shadow, BLACK)):
        picture += cover[:, None] * (np.array(colour, dtype=np.float32)[:, None, None] - picture)
    return np.clip(picture, 0, 1)


def _centres(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Scene coordinates of the pixels' centres: x from the left, and y from the top."""
    steps = (np.arange(size) + 0.5) * (SCENE / size)
    return LEFT + steps, BOTTOM + SCENE - steps


def _overlap(centres: np.ndarray, low: Any, high: Any, pixel: float) -> np.ndarray:
    """Share of each pixel that lies between low and high."""
    covered = np.minimum(centres + pixel / 2, high) - np.maximum(centres - pixel / 2, low)
    return np.clip(covered / pixel, 0, 1)


def _centre(weights: np.ndarray, coordinates: np.ndarray) -> np.ndarray:
    """Weighted mean (n,) of the coordinates (m,) under the weights (n, m); NaN where they are all 0."""
    total = weights.sum(axis=1)
    return np.divide(weights @ coordinates, total, out=np.full(len(total), math.nan), where=total > 0)
