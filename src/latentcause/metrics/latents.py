"""Errors of recovered latents and loadings, and the alignment that makes them comparable with the truth.

Equation numbers: Wu, von Kuegelgen and Blei, Multi-Domain Empirical Bayes for Linearly-Mixed Causal Representations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.optimize import linear_sum_assignment

Alignment = Literal["sign", "signed-permutation"]


@dataclass(frozen=True)
class ColumnAlignment:
    """Which estimated column stands for which true one, and by what factor: true_j ~ factor_j * estimate[:, order_j]."""

    order: np.ndarray
    factors: np.ndarray

    def latents(self, estimate: np.ndarray) -> np.ndarray:
        """Estimated latents (n, d_z) in the order, sign and scale of the true ones."""
        return estimate[:, self.order] * self.factors

    def loadings(self, estimate: np.ndarray) -> np.ndarray:
        """Estimated loadings (d_x, d_z) to match: scaled inversely, so that A z stays what it was."""
        return estimate[:, self.order] / self.factors


def align_columns(
    estimate: np.ndarray, truth: np.ndarray, how: Alignment = "sign", *, scale: bool = False
) -> ColumnAlignment:
    """Match the columns of estimated loadings (d_x, d_z) to the true ones (appendix A.2).

    Columns of a model that knows its graph carry node names, so ``sign`` is enough; for models that order their
    latents at will, ``signed-permutation`` maximises the sum of absolute cosines (Hungarian algorithm).

    Parameters
    ----------
    estimate, truth : ndarray (d_x, d_z)
        Loadings; or, for models without any, latents (n, d_z) with ``scale=False``.
    how : {"sign", "signed-permutation"}
    scale : bool
        Whether to equalise the column norms too, for systems whose latents have arbitrary units.

    Raises
    ------
    ValueError
        If the shapes differ or ``how`` is unknown.
    """
    _same_shape(estimate, truth)
    if how not in ("sign", "signed-permutation"):
        raise ValueError(f"unknown alignment {how!r}: choose 'sign' or 'signed-permutation'")
    lengths = np.linalg.norm(estimate, axis=0), np.linalg.norm(truth, axis=0)
    tiny = np.finfo(float).tiny
    cosine = (truth.T @ estimate) / np.maximum(np.outer(lengths[1], lengths[0]), tiny)
    order = np.arange(truth.shape[1])
    if how == "signed-permutation":
        order = linear_sum_assignment(-np.abs(cosine))[1]
    signs = np.where(cosine[np.arange(len(order)), order] < 0, -1.0, 1.0)
    ratio = np.maximum(lengths[0][order], tiny) / np.maximum(lengths[1], tiny) if scale else 1.0
    return ColumnAlignment(order, signs * ratio)


def relative_mse(estimate: np.ndarray, truth: np.ndarray) -> float:
    """RelMSE = ``|z_hat - z|^2 / |z|^2`` over all samples and nodes, Eq. (7.2). No unit; 0 is perfect."""
    _same_shape(estimate, truth)
    return float(np.square(estimate - truth).sum() / np.square(truth).sum())


def relative_mse_by_domain(
    estimate: np.ndarray, truth: np.ndarray, domain: Sequence[object] | np.ndarray
) -> dict[object, float]:
    """`relative_mse` of every domain's rows by themselves; ``domain`` holds a label per row."""
    labels = np.asarray(domain)
    if len(labels) != len(truth):
        raise ValueError(f"{len(labels)} domain labels for {len(truth)} rows: give one label per row")
    return {
        label: relative_mse(estimate[labels == label], truth[labels == label])
        for label in dict.fromkeys(labels.tolist())
    }


def frobenius_error(estimate: np.ndarray, truth: np.ndarray, how: Alignment = "sign", *, scale: bool = False) -> float:
    """``|A_hat - A|_F^2`` after `align_columns`, Eq. (7.3)."""
    aligned = align_columns(estimate, truth, how, scale=scale).loadings(estimate)
    return float(np.square(aligned - truth).sum())


def mean_correlation_coefficient(estimate: np.ndarray, truth: np.ndarray) -> float:
    """Mean absolute Pearson correlation of true and estimated latents (n, d_z) under the best matching; 1 is perfect.

    The usual MCC of the identifiability literature (Hyvarinen and Morioka 2016). A constant column counts as 0.
    """
    _same_shape(estimate, truth)
    centred = [a - a.mean(0) for a in (truth, estimate)]
    scale = [np.linalg.norm(a, axis=0) for a in centred]
    product = np.outer(scale[0], scale[1])
    correlation = np.abs(np.divide(centred[0].T @ centred[1], product, out=np.zeros_like(product), where=product > 0))
    rows, columns = linear_sum_assignment(-correlation)
    return float(correlation[rows, columns].mean())


def _same_shape(estimate: np.ndarray, truth: np.ndarray) -> None:
    if estimate.shape != truth.shape or estimate.ndim != 2:
        raise ValueError(
            f"estimate has shape {estimate.shape} and truth {truth.shape}: both must be the same (rows, columns)"
        )
