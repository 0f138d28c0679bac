"""A sensor that detects fires, misses some, sees nothing through clouds, and on some days sees coarsely."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FOOTPRINT = 2
"""Pixels along a side of what is seen at once at the edge of the swath."""


@dataclass(frozen=True)
class FireSensor:
    """Marks pixels as burning, in footprints of 1 pixel, or of 2 x 2 on days at the edge of the swath.

    A burning pixel that no cloud hides is detected with a chance that depends on the footprint, independently; a footprint
    is marked as a whole where a fire is detected in any of its pixels. There are no false alarms. As with VIIRS, whose pixels
    of 375 m grow to twice that off nadir (Schroeder et al., Remote Sensing of Environment 143, 2014).

    Attributes
    ----------
    near, far : float
        Chance of detection in footprints of 1 pixel, and of 2 x 2.
    far_share : float
        Of the days.
    cloud_share : float
        Of the pixels, over all days, before clouds are widened to whole footprints; a day's share has a beta distribution.
    """

    near: float = 0.75
    far: float = 0.6
    far_share: float = 0.35
    cloud_share: float = 0.2

    def chance(self, cloud: np.ndarray, footprint: int) -> np.ndarray:
        """Of detection (h, w) in a pixel that burns."""
        return np.where(cloud, 0.0, self.near if footprint == 1 else self.far)

    def detect(self, front: np.ndarray, cloud: np.ndarray, footprint: int, rng: np.random.Generator) -> np.ndarray:
        """The mask (h, w) of a front (h, w)."""
        found = front & (rng.random(front.shape) < self.chance(cloud, footprint))
        return _spread_out(np.asarray(_blocks(found, footprint).any(-1)), footprint)

    def log_likelihood(self, mask: np.ndarray, p: np.ndarray, cloud: np.ndarray, footprint: int) -> np.ndarray:
        """log P(mask), (n,), where pixels burn independently with the probabilities p (n, h, w)."""
        marked = _blocks(mask, footprint).all(-1)
        with np.errstate(divide="ignore"):  # what can't happen has a log probability of minus infinity
            missed = np.log1p(-_blocks(p * self.chance(cloud, footprint), footprint)).sum(-1)
            found = np.log(-np.expm1(missed))
        return np.where(marked, found, missed).sum((-2, -1))

    def front_given(
        self, mask: np.ndarray, p: np.ndarray, cloud: np.ndarray, footprint: int, rng: np.random.Generator
    ) -> np.ndarray:
        """A draw (n, h, w) of the fronts whose pixels burn with the probabilities p (n, h, w), given the mask (h, w).

        Detections first: in a marked footprint the k-th pixel is the first that is detected with the chance q_k / (1 -
        prod_{l >= k} (1 - q_l)), q = p x chance; then the pixels that were not detected.
        """
        chance = self.chance(cloud, footprint)
        q = _blocks(p * chance, footprint)
        wanted = np.broadcast_to(_blocks(mask, footprint).all(-1), q.shape[:-1])
        found = np.zeros(q.shape, dtype=bool)
        for k in range(q.shape[-1]):
            rest = 1 - np.prod(1 - q[..., k:], axis=-1)
            first = np.divide(q[..., k], rest, out=np.zeros_like(rest), where=rest > 0)
            now = np.where(found.any(-1), q[..., k], first)
            found[..., k] = wanted & (rng.random(now.shape) < now)
        unseen = p * (1 - chance) / np.maximum(1 - p * chance, np.finfo(float).tiny)
        return _pixels(found, footprint) | (rng.random(p.shape) < unseen)

    def mark_probability(self, p: np.ndarray) -> np.ndarray:
        """P(marked) (..., h, w) on a day of unknown clouds and footprint, pixels burning independently with probability p."""
        far = _spread_out(1 - np.prod(1 - _blocks(self.far * p, FOOTPRINT), axis=-1), FOOTPRINT)
        return (1 - self.cloud_share) * ((1 - self.far_share) * self.near * p + self.far_share * far)


def _blocks(pixels: np.ndarray, footprint: int) -> np.ndarray:
    """(..., h, w) as (..., h / f, w / f, f f)."""
    *front, height, width = pixels.shape
    cut = pixels.reshape(*front, height // footprint, footprint, width // footprint, footprint)
    return np.moveaxis(cut, -3, -2).reshape(*front, height // footprint, width // footprint, footprint**2)


def _pixels(blocks: np.ndarray, footprint: int) -> np.ndarray:
    """The inverse of `_blocks`."""
    *front, rows, columns, _ = blocks.shape
    cut = np.moveaxis(blocks.reshape(*front, rows, columns, footprint, footprint), -2, -3)
    return cut.reshape(*front, rows * footprint, columns * footprint)


def _spread_out(cells: np.ndarray, footprint: int) -> np.ndarray:
    """Every pixel the value of its footprint."""
    return cells.repeat(footprint, -2).repeat(footprint, -1)
