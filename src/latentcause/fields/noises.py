"""Noise of independent pixels that is not Gaussian: heavy tails and skew, with mean 0 and the variance stated."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


class PixelNoise(ABC):
    """A field of independent pixels, each sqrt(variance) times a draw from a law of mean 0 and variance 1.

    It has the methods ``sample`` and ``log_density`` of a `Kernel`, so either is the noise of a node of `StructuralFields`.

    Attributes
    ----------
    variance : float
        Of every pixel.
    """

    variance: float

    @abstractmethod
    def _draws(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Draws of the law, float64."""

    @abstractmethod
    def _log_density(self, x: Tensor) -> Tensor:
        """Log density of the law at each x, in nats."""

    def sample(self, n: int, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """n draws (n, *shape), float64, on the generator's device."""
        seed = int(torch.randint(2**62, (1,), generator=generator, device=generator.device))
        draws = torch.from_numpy(self._draws(np.random.Generator(np.random.PCG64(seed)), (n, *shape)))
        return math.sqrt(self.variance) * draws.to(generator.device)

    def log_density(self, values: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Log density in nats of each field: (..., *shape) -> (...), differentiable."""
        pixels = self._log_density(values / math.sqrt(self.variance)) - 0.5 * math.log(self.variance)
        return pixels.flatten(values.ndim - len(shape)).sum(-1)


@dataclass(frozen=True)
class StudentNoise(PixelNoise):
    """Heavy tails: Student's t with ``degrees`` of freedom, scaled by sqrt((degrees - 2) / degrees) to variance 1.

    Parameters
    ----------
    degrees : float
        Above 2. Kurtosis exists above 4: it is 3 + 6 / (degrees - 4).
    variance : float

    Raises
    ------
    ValueError
        If degrees is not above 2, or the variance is not positive and finite.
    """

    degrees: float
    variance: float = 1.0

    def __post_init__(self) -> None:
        _check_variance(self)
        if not 2 < self.degrees < math.inf:
            raise ValueError(f"degrees={self.degrees} of StudentNoise: give a number above 2, or there is no variance")

    def _draws(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return math.sqrt((self.degrees - 2) / self.degrees) * rng.standard_t(self.degrees, shape)

    def _log_density(self, x: Tensor) -> Tensor:
        degrees = self.degrees
        constant = math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2) - 0.5 * math.log(math.pi * (degrees - 2))
        return constant - (degrees + 1) / 2 * torch.log1p(x.square() / (degrees - 2))


@dataclass(frozen=True)
class SkewNormalNoise(PixelNoise):
    """Mild skew with normal tails: density 2 phi(u) Phi(slant u) (Azzalini 1985), moved and scaled to mean 0 and variance 1.

    Skewness is (4 - pi) / 2 m^3 / (1 - m^2)^(3/2) with m = sqrt(2 / pi) slant / sqrt(1 + slant^2): below 0.995.

    Parameters
    ----------
    slant : float
        Positive for a long tail to the right.
    variance : float

    Raises
    ------
    ValueError
        If the slant is not finite, or the variance is not positive and finite.
    """

    slant: float
    variance: float = 1.0

    def __post_init__(self) -> None:
        _check_variance(self)
        if not math.isfinite(self.slant):
            raise ValueError(f"slant={self.slant} of SkewNormalNoise: give a finite number")

    def _draws(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        lean, (mean, sd) = self.slant / math.hypot(1, self.slant), self._moments()
        u = lean * np.abs(rng.standard_normal(shape)) + math.sqrt(1 - lean**2) * rng.standard_normal(shape)
        return (u - mean) / sd

    def _log_density(self, x: Tensor) -> Tensor:
        mean, sd = self._moments()
        u = mean + sd * x
        return math.log(sd) + 0.5 * math.log(2 / math.pi) - 0.5 * u.square() + torch.special.log_ndtr(self.slant * u)

    def _moments(self) -> tuple[float, float]:
        mean = math.sqrt(2 / math.pi) * self.slant / math.hypot(1, self.slant)
        return mean, math.sqrt(1 - mean**2)


@dataclass(frozen=True)
class GammaNoise(PixelNoise):
    """Strong skew, with a hard lower bound: (g - k) / sqrt(k) for g ~ Gamma(k, 1); skewness 2 / sqrt(k).

    Below -sqrt(k variance) the density is 0, so samplers that follow gradients need draws that stay above it.

    Parameters
    ----------
    concentration : float
        k; above 1 the density is 0 at the bound, and differentiable within it.
    variance : float

    Raises
    ------
    ValueError
        If the concentration or the variance is not positive and finite.
    """

    concentration: float
    variance: float = 1.0

    def __post_init__(self) -> None:
        _check_variance(self)
        if not 0 < self.concentration < math.inf:
            raise ValueError(f"concentration={self.concentration} of GammaNoise: give a positive finite number")

    def _draws(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return (rng.standard_gamma(self.concentration, shape) - self.concentration) / math.sqrt(self.concentration)

    def _log_density(self, x: Tensor) -> Tensor:
        k = self.concentration
        g = k + math.sqrt(k) * x
        inside = torch.where(g > 0, g, 1.0)  # so that gradients outside are 0, not NaN
        density = 0.5 * math.log(k) - math.lgamma(k) + (k - 1) * inside.log() - inside
        return torch.where(g > 0, density, -math.inf)


def _check_variance(noise: PixelNoise) -> None:
    if not 0 < noise.variance < math.inf:
        raise ValueError(f"variance={noise.variance} of {type(noise).__name__}: give a positive finite number")
