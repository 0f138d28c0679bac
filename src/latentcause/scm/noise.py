"""Noise of a mechanism: what a node's value owes to nothing else in the graph."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


class Noise(ABC):
    """A distribution on the real line from which one independent value is drawn per sample."""

    @property
    @abstractmethod
    def mean(self) -> float:
        """Mean, in the units of the values."""

    @property
    @abstractmethod
    def variance(self) -> float:
        """Variance, in the squared units of the values."""

    @abstractmethod
    def sample(self, n: int, like: Tensor, generator: torch.Generator) -> Tensor:
        """n independent values (n,), of the dtype and on the device of ``like``."""

    @abstractmethod
    def log_density(self, values: Tensor) -> Tensor:
        """Log density at each value, in nats, in the shape of ``values``.

        Raises
        ------
        ValueError
            Where the distribution has no density.
        """


@dataclass(frozen=True)
class GaussianNoise(Noise):
    """u ~ N(0, variance).

    Raises
    ------
    ValueError
        If the variance is not a finite number of at least 0.
    """

    variance: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.variance < math.inf:
            raise ValueError(f"the noise variance is {self.variance}: give a finite number of at least 0")

    @property
    def mean(self) -> float:
        """Zero."""
        return 0.0

    def sample(self, n: int, like: Tensor, generator: torch.Generator) -> Tensor:
        """Sqrt(variance) times n standard normal values."""
        draws = torch.randn(n, generator=generator, dtype=like.dtype, device=like.device)
        return draws.mul_(self.variance**0.5)

    def log_density(self, values: Tensor) -> Tensor:
        """-(u^2 / variance + log(2 pi variance)) / 2; refused where the variance is 0."""
        if self.variance == 0:
            raise ValueError("Gaussian noise of variance 0 has no density: give a positive variance")
        return -0.5 * (values.square() / self.variance + math.log(2 * math.pi * self.variance))


@dataclass(frozen=True)
class UniformNoise(Noise):
    """u ~ U[0, 1): what a category is drawn from, by the inverse of its distribution function."""

    @property
    def mean(self) -> float:
        """One half."""
        return 0.5

    @property
    def variance(self) -> float:
        """1 / 12."""
        return 1 / 12

    def sample(self, n: int, like: Tensor, generator: torch.Generator) -> Tensor:
        """n values in [0, 1)."""
        return torch.rand(n, generator=generator, dtype=like.dtype, device=like.device)

    def log_density(self, values: Tensor) -> Tensor:
        """Zero within [0, 1], minus infinity outside."""
        return torch.where((values >= 0) & (values <= 1), 0.0, -math.inf).to(values)


@dataclass(frozen=True, eq=False)
class EmpiricalNoise(Noise):
    """One of the given values, each as likely: the residuals of a fit, drawn with replacement. It has no density.

    Parameters
    ----------
    values : ndarray (m,)
        Finite; at least one.

    Raises
    ------
    ValueError
        If ``values`` is empty, not one-dimensional or not finite.
    """

    values: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", _checked_values(self.values))

    @property
    def mean(self) -> float:
        """Mean of the values."""
        return float(self.values.mean())

    @property
    def variance(self) -> float:
        """Mean squared deviation of the values."""
        return float(self.values.var())

    def sample(self, n: int, like: Tensor, generator: torch.Generator) -> Tensor:
        """n of the values, with replacement."""
        return _resampled(self.values, n, like, generator)

    def log_density(self, values: Tensor) -> Tensor:
        """Refused: single points have no density."""
        raise ValueError('empirical noise has no density: fit with noise="gaussian" or noise="kernel" to get one')

    def __repr__(self) -> str:
        return f"EmpiricalNoise({len(self.values)} values, variance {self.variance:.4g})"


@dataclass(frozen=True, eq=False)
class KernelNoise(Noise):
    """A Gaussian kernel density estimate: one of the values plus N(0, bandwidth^2).

    Parameters
    ----------
    values : ndarray (m,)
        Finite; at least one.
    bandwidth : float
        Positive, in the units of the values. Left out, it is Silverman's rule of thumb,
        0.9 min(standard deviation, interquartile range / 1.349) m^(-1/5) (Silverman 1986, Eq. 3.31).

    Raises
    ------
    ValueError
        If ``values`` is empty, not one-dimensional, not finite or (where no bandwidth is given) constant; or if the
        bandwidth is not positive.
    """

    values: np.ndarray
    bandwidth: float = math.nan

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", np.sort(_checked_values(self.values)))
        if math.isnan(self.bandwidth):
            object.__setattr__(self, "bandwidth", _silverman(self.values))
        if not 0 < self.bandwidth < math.inf:
            raise ValueError(
                f"the bandwidth is {self.bandwidth}: give a positive number, or noise that is not constant"
            )

    @property
    def mean(self) -> float:
        """Mean of the values."""
        return float(self.values.mean())

    @property
    def variance(self) -> float:
        """Mean squared deviation of the values, plus bandwidth^2."""
        return float(self.values.var()) + self.bandwidth**2

    def sample(self, n: int, like: Tensor, generator: torch.Generator) -> Tensor:
        """n of the values, with replacement, each with its own Gaussian step."""
        steps = torch.randn(n, generator=generator, dtype=like.dtype, device=like.device)
        return _resampled(self.values, n, like, generator).add_(steps, alpha=self.bandwidth)

    def log_density(self, values: Tensor) -> Tensor:
        """Log of the mean over the m values of N(u; value, bandwidth^2)."""
        centres = torch.from_numpy(self.values).to(values)
        constant = math.log(len(centres) * self.bandwidth) + 0.5 * math.log(2 * math.pi)
        parts = []
        for block in values.reshape(-1).split(max(1, 4_000_000 // len(centres))):  # 32 MB at a time
            distance = (block[:, None] - centres) / self.bandwidth
            parts.append(torch.logsumexp(-0.5 * distance.square(), dim=1))
        return (torch.cat(parts) - constant).reshape(values.shape) if parts else torch.zeros_like(values)

    def __repr__(self) -> str:
        return f"KernelNoise({len(self.values)} values, bandwidth {self.bandwidth:.4g})"


def _checked_values(values: np.ndarray) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not len(array):
        raise ValueError(f"noise values have shape {array.shape}: give a vector of at least one value")
    if not np.isfinite(array).all():
        raise ValueError(f"noise value {int(np.flatnonzero(~np.isfinite(array))[0])} is not finite: leave it out")
    return array


def _resampled(values: np.ndarray, n: int, like: Tensor, generator: torch.Generator) -> Tensor:
    """n of the values, with replacement: the places are 32 random bits times the count, without the last 32 bits.

    Twice as fast as torch.randint; the chances of values differ by less than count / 2^32 (Lemire 2019, section 4).
    """
    seed = int(torch.randint(2**62, (1,), generator=generator, device=generator.device))
    bits = np.random.SFC64(seed).random_raw((n + 1) // 2).view(np.uint32)[:n]
    places = (bits.astype(np.uint64) * np.uint64(len(values))) >> np.uint64(32)
    return torch.from_numpy(values.take(places.view(np.int64), mode="clip")).to(like)


def _silverman(values: np.ndarray) -> float:
    quartiles = np.subtract(*np.quantile(values, [0.75, 0.25])) / 1.349
    spread = min(values.std(), quartiles) if quartiles > 0 else values.std()
    return 0.9 * float(spread) * len(values) ** -0.2
