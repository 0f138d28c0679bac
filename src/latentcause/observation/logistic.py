"""Likelihoods of classes: y is 0, 1 or a share, or a number whose density depends on a hidden class."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

from latentcause.observation.likelihoods import Likelihood, noise_like, refuse

Family = Literal["normal", "log-normal", "logit-normal"]

REACH, STEP, MOST_NODES, AT_ONCE = 8.6, 0.75, 4096, 2**22
"""Of the quadrature: half its width in standard deviations, its step, most nodes per cell, numbers held at once."""


@dataclass(frozen=True, eq=False)
class BernoulliError(Likelihood):
    """y is 1 with probability s(slope seen + offset), else 0, where s(u) = 1 / (1 + exp(-u)).

    y may be a share between 0 and 1, as a probability map gives it; it counts as that share of a 1 and the rest of a 0:
    log p = y log s(u) + (1 - y) log s(-u).

    Parameters
    ----------
    slope, offset : float or scalar tensor
        Of the log odds u in ``seen``; the slope is not 0.

    Raises
    ------
    ValueError
        For a slope of 0, and numbers that are not finite.
    """

    slope: Any = 1.0
    offset: Any = 0.0

    def __post_init__(self) -> None:
        if not float(self.slope) or not math.isfinite(float(self.slope)) or not math.isfinite(float(self.offset)):
            raise ValueError(f"slope={self.slope}, offset={self.offset}: give finite numbers, and a slope other than 0")

    def log_prob(self, y: Tensor, seen: Tensor) -> Tensor:
        """y u - log(1 + exp(u)), u = slope seen + offset."""
        u = self.slope * seen + self.offset
        return y * u - softplus(u)

    def sample(self, seen: Tensor, generator: torch.Generator) -> Tensor:
        """Zeros and ones."""
        probability = torch.sigmoid(self.slope * seen + self.offset).to(generator.device)
        return torch.bernoulli(probability, generator=generator).to(seen)

    def tilted(self, y: Tensor, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        """By quadrature in double precision: relative errors below 1e-8 while slope^2 variance is below 3e4."""
        slope, offset = float(self.slope), float(self.offset)
        _, u, spread = sigmoid_moments(y, slope * mean.double() + offset, slope**2 * variance.double())
        return (u - offset) / slope, spread / slope**2

    def check(self, y: np.ndarray) -> None:
        """Refuse values outside [0, 1]."""
        super().check(y)
        refuse((y < 0) | (y > 1), y, "outside [0, 1]", "a Bernoulli value is 0, 1 or a probability")


@dataclass(frozen=True)
class Component:
    """The density of y in one class.

    Parameters
    ----------
    family : {"normal", "log-normal", "logit-normal"}
        Whether y, log y or log(y / (1 - y)) is normal.
    mean, sd : float
        Of that normal distribution.

    Raises
    ------
    ValueError
        For another family, a mean that is not finite, and a standard deviation that is not positive.
    """

    family: Family
    mean: float
    sd: float

    def __post_init__(self) -> None:
        if self.family not in get_args(Family):
            raise ValueError(f"unknown family {self.family!r}: choose one of {', '.join(get_args(Family))}")
        if not math.isfinite(self.mean) or not 0 < self.sd < math.inf:
            raise ValueError(f"mean={self.mean}, sd={self.sd}: give a finite mean and a positive standard deviation")

    def log_density(self, y: Tensor) -> Tensor:
        """log p(y), in the shape of y."""
        x, stretch = y, torch.zeros_like(y)
        if self.family == "log-normal":
            x = y.log()
            stretch = x
        elif self.family == "logit-normal":
            x = torch.logit(y)
            stretch = y.log() + torch.log1p(-y)
        return -0.5 * ((x - self.mean) / self.sd).square() - math.log(self.sd * math.sqrt(2 * math.pi)) - stretch

    def sample(self, like: Tensor, generator: torch.Generator) -> Tensor:
        """A draw of y for each element of ``like``."""
        x = self.mean + self.sd * noise_like(like, generator)
        return {"normal": x, "log-normal": x.exp(), "logit-normal": x.sigmoid()}[self.family]

    def check(self, y: np.ndarray) -> None:
        """Refuse values that have no density."""
        if self.family == "log-normal":
            refuse(y <= 0, y, "not positive", "a log-normal value is")
        elif self.family == "logit-normal":
            refuse((y <= 0) | (y >= 1), y, "outside (0, 1)", "a logit-normal value lies inside")


@dataclass(frozen=True)
class MixtureEmission(Likelihood):
    """y comes from one of two densities; ``seen`` is the log odds of the class: p(y | seen) = s(seen) p1(y) + s(-seen) p0(y).

    Parameters
    ----------
    one, zero : Component
        The densities p1 of the class and p0 of the rest.
    """

    one: Component
    zero: Component

    def log_prob(self, y: Tensor, seen: Tensor) -> Tensor:
        """log(s(seen) p1(y) + s(-seen) p0(y))."""
        return torch.logaddexp(logsigmoid(seen) + self.one.log_density(y), logsigmoid(-seen) + self.zero.log_density(y))

    def sample(self, seen: Tensor, generator: torch.Generator) -> Tensor:
        """A class for each ``seen``, then a value."""
        of_class = torch.bernoulli(seen.sigmoid().to(generator.device), generator=generator).to(seen).bool()
        return torch.where(of_class, self.one.sample(seen, generator), self.zero.sample(seen, generator))

    def tilted(self, y: Tensor, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        """The two classes' tilted densities, mixed by their weights; quadrature as for `BernoulliError`."""
        m, v, y = mean.double(), variance.double(), y.double()
        log_one, mean_one, variance_one = sigmoid_moments(torch.ones_like(m), m, v)
        log_zero, mean_zero, variance_zero = sigmoid_moments(torch.zeros_like(m), m, v)
        share = torch.sigmoid(log_one + self.one.log_density(y) - log_zero - self.zero.log_density(y))
        new_mean = share * mean_one + (1 - share) * mean_zero
        between = share * (1 - share) * (mean_one - mean_zero).square()
        return new_mean, share * variance_one + (1 - share) * variance_zero + between

    def check(self, y: np.ndarray) -> None:
        """Refuse values to which a component gives no density."""
        super().check(y)
        self.one.check(y)
        self.zero.check(y)


def sigmoid_moments(y: Tensor, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """log Z, mean and variance of N(u; mean, variance) s(u)^y s(-u)^(1-y) / Z in double precision, for y in [0, 1].

    The trapezoidal rule, whose error falls exponentially for such functions (Trefethen and Weideman, The exponentially
    convergent trapezoidal rule, SIAM Review 2014): s(u)^y s(-u)^(1-y) = exp(y u) s(-u), so that y only moves the Gaussian
    by y variance, and the rest is log-concave with its mode between that mean and one variance below it. Steps are 0.75 of
    min(1, standard deviation) over 8.6 standard deviations to both sides of the mode; where that takes more than 4,096
    nodes (standard deviations above 178) the step is longer.
    """
    y, mean, variance = torch.broadcast_tensors(y.double(), mean.double(), variance.double())
    if not mean.numel():
        return mean, mean, variance
    spread = variance.sqrt()
    nodes = min(MOST_NODES, 2 + math.ceil(2 * REACH * max(1.0, float(spread.max())) / STEP))
    at = torch.linspace(-REACH, REACH, nodes, dtype=torch.float64, device=mean.device)
    flat = [torch.split(part.reshape(-1), max(1, AT_ONCE // nodes)) for part in (mean + y * variance, spread)]
    parts = [_moments_of_chunk(at, moved, width) for moved, width in zip(*flat, strict=True)]
    log_z, new_mean, new_variance = (torch.cat(part).reshape(mean.shape) for part in zip(*parts, strict=True))
    return log_z + y * mean + 0.5 * y.square() * variance, new_mean, new_variance


def _moments_of_chunk(at: Tensor, mean: Tensor, spread: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """log Z, mean and variance of N(u; mean, spread^2) s(-u), each (k,), with nodes at multiples ``at`` of the spread."""
    centre = mean.clamp(min=0.0).minimum((mean - spread.square()).clamp(min=0.0)) + mean.clamp(max=0.0)
    u = centre[:, None] + spread[:, None] * at
    log_weight = -0.5 * ((u - mean[:, None]) / spread[:, None]).square() - softplus(u)
    top = log_weight.amax(dim=1, keepdim=True)
    weight = (log_weight - top).exp()
    total = weight.sum(dim=1)
    new_mean = (weight * u).sum(dim=1) / total
    new_variance = (weight * (u - new_mean[:, None]).square()).sum(dim=1) / total
    step = float(at[1] - at[0]) / math.sqrt(2 * math.pi)
    return (total * step).log() + top[:, 0], new_mean, new_variance
