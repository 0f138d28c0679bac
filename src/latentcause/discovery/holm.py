"""Holm's correction for many tests."""

from __future__ import annotations

import numpy as np


def holm(p_values: np.ndarray, alpha: float) -> np.ndarray:
    """Which hypotheses to reject, bool of the same shape; NaN stands for no hypothesis.

    The probability of any false rejection is at most alpha (S. Holm, Scandinavian Journal of Statistics 6, 1979).
    """
    rejected = np.zeros(p_values.shape, dtype=bool)
    tested = np.flatnonzero(np.isfinite(p_values))
    order = tested[np.argsort(p_values.flat[tested], kind="stable")]
    passed = p_values.flat[order] <= alpha / np.arange(len(order), 0, -1)
    rejected.flat[order[: len(order) if passed.all() else int(passed.argmin())]] = True
    return rejected
