"""First and second moments of the measurements, summed batch by batch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array


@dataclass(frozen=True)
class Moments:
    """What closed-form fits need of x, in the measurements' own units.

    Attributes
    ----------
    count : ndarray of shape (D,), int64
        Samples in each domain.
    mean : ndarray of shape (D, d_x)
        Mean of x in each domain.
    second : ndarray of shape (d_x, d_x)
        Uncentred second moment over all rows, (1 / n) sum_i x_i x_i'.
    """

    count: np.ndarray
    mean: np.ndarray
    second: np.ndarray


class MomentSums:
    """Running sums in float64; memory is that of one batch and one d_x by d_x matrix."""

    def __init__(self, n_domains: int, n_measurements: int) -> None:
        self.count = np.zeros(n_domains, dtype=np.int64)
        self.total = np.zeros((n_domains, n_measurements))
        self.square = np.zeros((n_measurements, n_measurements))

    def add(self, x: np.ndarray, domain: np.ndarray) -> None:
        """Add a batch x (m, d_x) whose rows belong to the domains ``domain`` (m,)."""
        rows = np.arange(len(x))
        member = csr_array((np.ones(len(x)), (domain, rows)), shape=(len(self.count), len(x)))
        self.count += np.bincount(domain, minlength=len(self.count))
        self.total += member @ x
        self.square += x.T @ x

    def result(self) -> Moments:
        """The moments of everything added."""
        moments = Moments(self.count, self.total / self.count[:, None], self.square / self.count.sum())
        for array in (moments.count, moments.mean, moments.second):
            array.flags.writeable = False
        return moments
