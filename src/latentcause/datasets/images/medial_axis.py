"""Exact distances to the background and medial axes, of whole stacks of binary images at once."""

from __future__ import annotations

from functools import cache

import numpy as np

FARTHEST = 181  # its square is the largest that int16 holds


def squared_distances(mask: np.ndarray, farthest: int = FARTHEST) -> np.ndarray:
    """Squared Euclidean distance, in pixels, of every true pixel to the nearest false one of its image; 0 at false ones.

    Exact up to the distance ``farthest``; what lies farther has some value above its square. Columns first, then rows
    (Saito and Toriwaki, Pattern Recognition 27, 1994), each as a minimum over shifted copies of the stack.

    Parameters
    ----------
    mask : ndarray (n, h, w), bool
    farthest : int
        At most 181.

    Returns
    -------
    ndarray (n, h, w), int16
    """
    along = np.ascontiguousarray(mask.transpose(2, 0, 1)).astype(np.int16) * np.int16(FARTHEST)
    width = len(along)
    for j in range(1, width):
        np.minimum(along[j], along[j - 1] + 1, out=along[j])
    for j in range(width - 2, -1, -1):
        np.minimum(along[j], along[j + 1] + 1, out=along[j])
    rows = np.ascontiguousarray((along * along).transpose(2, 1, 0))
    nearest = rows.copy()
    shift = 1
    while shift <= farthest and shift < len(rows) and shift * shift < nearest.max():
        square = np.int16(shift * shift)
        moved = np.minimum(rows, np.int16(np.iinfo(np.int16).max - square)) + square
        np.minimum(nearest[shift:], moved[:-shift], out=nearest[shift:])
        np.minimum(nearest[:-shift], moved[shift:], out=nearest[:-shift])
        shift += 1
    return nearest.transpose(1, 0, 2)


def medial_axis(squared: np.ndarray) -> np.ndarray:
    """The medial axis of every image: bool (n, h, w), of the squared distances (n, h, w) to the background.

    Pixels are looked at once each, nearest to the background first, and go unless they hold two parts together or end a
    line. Pixels of one distance are taken in four turns, by the parity of row and column, so that no two neighbours go
    at once, and all images of the stack share every turn.
    """
    n, h, w = squared.shape
    framed = np.zeros((n, h + 2, w + 2), dtype=np.int16)
    framed[:, 1:-1, 1:-1] = squared
    here = (framed > 0).astype(np.uint8).reshape(-1)
    pixels = np.flatnonzero(here)
    row, column = np.divmod(pixels, w + 2)
    turn = framed.reshape(-1)[pixels].astype(np.int32) * 4 + (row & 1) * 2 + (column & 1)
    order = np.argsort(turn, kind="stable")
    pixels, turn = pixels[order], turn[order]
    steps = np.array([dy * (w + 2) + dx for dy, dx in _RING])[:, None]
    stays = _stays()
    for together in np.split(pixels, np.flatnonzero(np.diff(turn)) + 1):
        ring = np.packbits(here.take(together + steps), axis=0, bitorder="little")[0]
        here[together] = stays.take(ring)
    return here.reshape(n, h + 2, w + 2)[:, 1:-1, 1:-1].astype(bool)


_RING = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))


@cache
def _stays() -> np.ndarray:
    """For each of the 256 neighbourhoods, bit k for neighbour k of the ring: 1 if the pixel in the middle must stay.

    It may go if it has two neighbours or more and they hang together (as 8-neighbours) without it.
    """
    stays = np.ones(256, dtype=np.uint8)
    for code in range(256):
        left = {_RING[k] for k in range(8) if code >> k & 1}
        if len(left) < 2:
            continue
        reached = [left.pop()]
        for y, x in reached:
            near = {other for other in left if max(abs(other[0] - y), abs(other[1] - x)) == 1}
            left -= near
            reached.extend(near)
        stays[code] = bool(left)
    return stays
