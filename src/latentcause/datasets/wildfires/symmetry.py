"""The symmetries of a square, for maps of which two are the parts of a vector."""

from __future__ import annotations

from torch import Tensor

EAST, NORTH = 0, 1
"""Channels of the vector."""

SYMMETRIES = 8


def turn(x: Tensor, symmetry: int) -> Tensor:
    """Square maps (n, k, h, w), rows from north to south, mirrored and transposed; the vector of channels 0 and 1 with them.

    Parameters
    ----------
    x : Tensor
        Channel 0 points east, channel 1 north.
    symmetry : int
        0 to 7: the sum of 1 (mirror left and right), 2 (up and down) and 4 (transpose, last).
    """
    x = turn_mask(x, symmetry).clone()
    if symmetry & 1:
        x[:, EAST] *= -1
    if symmetry & 2:
        x[:, NORTH] *= -1
    if symmetry & 4:  # what went east goes down, which is south
        x[:, [EAST, NORTH]] = -x[:, [NORTH, EAST]]
    return x


def turn_mask(y: Tensor, symmetry: int) -> Tensor:
    """Maps (..., h, w) without a vector among them, turned as by `turn`."""
    y = y.flip(-1) if symmetry & 1 else y
    y = y.flip(-2) if symmetry & 2 else y
    return y.mT if symmetry & 4 else y
