"""What is done to measurements before a fit, remembered so that new data can be treated alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

import numpy as np

from latentcause.data.labels import listing
from latentcause.data.multi_domain import MultiDomainData

Transform = Literal["none", "arcsinh", "log1p"]


@dataclass(frozen=True)
class Preparation:
    """t(x) or (t(x) - centre) / scale, column by column, with t(x) = x, arcsinh(x / cofactor) or log(1 + x).

    Attributes
    ----------
    measurements : tuple of str
        The columns, in the order that the model knows them by.
    transform : {"none", "arcsinh", "log1p"}
        arcsinh is the usual scale of flow and mass cytometry, log1p that of counts.
    cofactor : float
        Where arcsinh turns from linear to logarithmic, in the units of x.
    centre, scale : tuple of float, or None
        Mean and standard deviation of every transformed column over the rows of the fit; None: not standardised.
    """

    measurements: tuple[str, ...]
    transform: Transform = "none"
    cofactor: float = 5.0
    centre: tuple[float, ...] | None = None
    scale: tuple[float, ...] | None = None

    @classmethod
    def learn(cls, data: MultiDomainData, transform: Transform, cofactor: float, standardise: bool) -> Self:
        """Find centre and scale on these data.

        Raises
        ------
        ValueError
            For an unknown transform, a cofactor that is not positive, values that it cannot take, and constant columns
            that are to be standardised.
        """
        if transform not in get_args(Transform):
            raise ValueError(f"unknown transform {transform!r}: choose one of {', '.join(get_args(Transform))}")
        if not 0 < cofactor < np.inf:
            raise ValueError(f"cofactor={cofactor} must be a positive number")
        plain = cls(data.measurements, transform, cofactor)
        if not standardise:
            return plain
        moments = plain.apply(data).moments
        mean = moments.count @ moments.mean / moments.count.sum()
        sd = np.sqrt(np.maximum(np.diag(moments.second) - mean**2, 0.0))
        constant = [name for name, s, m in zip(data.measurements, sd, mean, strict=True) if s <= 1e-7 * abs(m)]
        if constant:
            raise ValueError(f"constant column {listing(constant)} can't be standardised: leave it out")
        return cls(data.measurements, transform, cofactor, tuple(mean.tolist()), tuple(sd.tolist()))

    def apply(self, data: MultiDomainData) -> MultiDomainData:
        """The data as the model is to see them; their measurements must be these, in this order."""
        return data if self.is_identity else data.mapped(self._prepare)

    @property
    def is_identity(self) -> bool:
        """Whether x is left as it is."""
        return self.transform == "none" and self.centre is None

    def to_dict(self) -> dict[str, Any]:
        """As values that JSON can hold."""
        return {**vars(self), "measurements": list(self.measurements)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """What ``to_dict`` gave."""
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**fields)

    def _prepare(self, x: np.ndarray) -> np.ndarray:
        if self.transform == "arcsinh":
            x = np.arcsinh(x / self.cofactor)
        elif self.transform == "log1p":
            low = [name for name, value in zip(self.measurements, x.min(axis=0), strict=True) if value <= -1]
            if low:
                raise ValueError(f"column {listing(low)} holds values of -1 or less, which log1p can't take")
            x = np.log1p(x)
        return x if self.centre is None else (x - np.array(self.centre)) / np.array(self.scale)
