"""Tests that share a regression."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


def sharing(keys: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Each distinct row of ``keys`` (m, k), and the positions of the tests whose row it is."""
    if not len(keys):
        return
    distinct, group = np.unique(keys, axis=0, return_inverse=True)
    order = np.argsort(group.ravel(), kind="stable")
    bounds = np.searchsorted(group.ravel()[order], np.arange(1, len(distinct)))
    yield from zip(distinct, np.split(order, bounds), strict=True)
