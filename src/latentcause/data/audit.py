"""The checks of the measured values that need one pass over all rows."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Sequence

import numpy as np

from latentcause.data.labels import listing


class Audit:
    """Looks at x batch by batch for NaN and infinity, constant columns and identical domains."""

    def __init__(self, names: Sequence[str], domains: Sequence[Hashable]) -> None:
        self.names = names
        self.domains = domains
        self.low = np.full(len(names), np.inf)
        self.high = np.full(len(names), -np.inf)
        self.bad_count = np.zeros(len(names), dtype=np.int64)
        self.bad_first = np.full(len(names), -1, dtype=np.int64)
        self.fingerprint = np.zeros(len(domains), dtype=np.uint64)
        self.count = np.zeros(len(domains), dtype=np.int64)

    @property
    def finite(self) -> bool:
        """Whether every value seen so far is finite."""
        return not self.bad_count.any()

    def add(self, start: int, x: np.ndarray, domain: np.ndarray) -> None:
        """Look at a batch x (m, d_x), float64 and C-contiguous, whose first row is row ``start`` of the data."""
        finite = np.isfinite(x)
        if not finite.all():
            bad = ~finite
            new = bad.any(axis=0) & (self.bad_first < 0)
            self.bad_first[new] = start + bad[:, new].argmax(axis=0)
            self.bad_count += bad.sum(axis=0)
        if self.finite:
            np.minimum(self.low, x.min(axis=0), out=self.low)
            np.maximum(self.high, x.max(axis=0), out=self.high)
            np.add.at(self.fingerprint, domain, _row_fingerprints(x))
            self.count += np.bincount(domain, minlength=len(self.domains))

    def finish(self) -> None:
        """Raise a ValueError for what no model can use; warn of constant columns."""
        self._refuse_non_finite()
        self._refuse_identical_domains()
        constant = [name for name, same in zip(self.names, self.low == self.high, strict=True) if same]
        if constant and self.count.sum() > 1:
            warnings.warn(
                f"constant column {listing(constant)}: it carries no information about the latents; "
                "leave it out unless the model needs it",
                UserWarning,
                stacklevel=4,
            )

    def _refuse_non_finite(self) -> None:
        if self.finite:
            return
        columns = np.flatnonzero(self.bad_count)
        shown = [
            f"{self.names[j]!r} ({self.bad_count[j]} values, first in row {self.bad_first[j]})" for j in columns[:5]
        ]
        more = f" and {len(columns) - 5} more columns" if len(columns) > 5 else ""
        raise ValueError(
            f"NaN or infinity in column {', '.join(shown)}{more}: "
            "remove those rows or fill the values in before fitting (rows count from 0)"
        )

    def _refuse_identical_domains(self) -> None:
        seen: dict[tuple[int, int], Hashable] = {}
        for label, count, fingerprint in zip(self.domains, self.count, self.fingerprint, strict=True):
            twin = seen.setdefault((int(count), int(fingerprint)), label)
            if twin is not label:
                raise ValueError(
                    f"domains {twin!r} and {label!r} hold identical rows: one is a copy of the other, remove it"
                )


def _row_fingerprints(x: np.ndarray) -> np.ndarray:
    """A 64-bit hash of each row: sums of it over rows do not depend on the rows' order or on how batches are cut."""
    bits = (x + 0.0).view(np.uint64)  # + 0.0 turns -0.0 into 0.0, which compares equal
    bits ^= bits >> np.uint64(32)
    weights = _mixed(np.arange(1, x.shape[1] + 1, dtype=np.uint64)) | np.uint64(1)
    return _mixed(bits @ weights)


def _mixed(values: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014), on arrays of uint64."""
    values = values * np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
