"""Likelihoods: how far the value of a cell strays from what its operator sees."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

LEAST_GAIN = 1e-6
"""A site keeps at least this share of the cavity's precision, so that its variance stays positive and finite."""


class Likelihood(ABC):
    """p(y | seen) of m cells, where ``seen`` (..., m) is what an operator sees of the field and y (m,) was measured.

    Attributes
    ----------
    is_gaussian : bool
        Whether p is Gaussian in ``seen``: then ``target`` and ``noise_variance`` say all.
    """

    is_gaussian = False

    @abstractmethod
    def log_prob(self, y: Tensor, seen: Tensor) -> Tensor:
        """log p(y | seen), (..., m)."""

    @abstractmethod
    def sample(self, seen: Tensor, generator: torch.Generator) -> Tensor:
        """A draw of y for each ``seen``."""

    def tilted(self, y: Tensor, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance (..., m) of ``seen`` under the tilted density N(seen; mean, variance) p(y | seen) / Z, cell by cell."""
        gain = variance / (variance + self.noise_variance(mean))
        return mean + gain * (self.target(y) - mean), variance * (1 - gain)

    def sites(self, y: Tensor, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        """The Gaussian observation (value, variance), each (..., m), that moment-matches p(y | seen) in its surroundings.

        With the cavity N(mean, variance) of ``seen`` it has the mean and variance of the tilted density (Minka, Expectation
        propagation for approximate Bayesian inference, 2001, section 3.2). Where the tilted density is as wide as the cavity
        or wider, the site's variance is 1e6 times the cavity's and its value the one that gives the tilted mean. Gaussian
        errors are their own sites: (``target``, ``noise_variance``).
        """
        if self.is_gaussian:
            return self.target(y).to(mean).expand_as(mean), self.noise_variance(mean).expand_as(mean)
        m, v = mean.double(), variance.double()
        new_mean, new_variance = self.tilted(y, m, v)
        precision = torch.maximum(1 / new_variance - 1 / v, LEAST_GAIN / v)
        value = new_mean + (new_mean - m) / (v * precision)
        return value.to(mean), (1 / precision).to(variance)

    def check_size(self, m: int) -> None:
        """Refuse parameters per cell for another number of cells than m.

        Raises
        ------
        ValueError
            Says how many there are.
        """
        if m < 1:
            raise ValueError("an observation needs at least one cell")

    def check(self, y: np.ndarray) -> None:
        """Refuse values (m,) that p can't have produced.

        Raises
        ------
        ValueError
            Says which, and what would fix it.
        """
        if not np.isfinite(y).all():
            raise ValueError(f"{np.isinf(y).sum()} values are infinite: mark missing cells with NaN")

    def target(self, y: Tensor) -> Tensor:
        """The value on the scale of ``seen``: of a Gaussian p the y in N(y; seen, R), of any other y as it is."""
        return y

    def noise_variance(self, like: Tensor) -> Tensor:
        """The diagonal of R, one number or (m,), of the dtype and on the device of ``like``.

        Raises
        ------
        ValueError
            Where p is not Gaussian.
        """
        raise ValueError(
            f"{type(self).__name__} is not Gaussian in what is seen: it has sites, but no variance of its own"
        )

    def noise_times(self, v: Tensor) -> Tensor:
        """R v for v (..., m).

        Raises
        ------
        ValueError
            Where p is not Gaussian.
        """
        return self.noise_variance(v) * v

    def rows(self, keep: np.ndarray) -> Likelihood:
        """The likelihood of some cells only: a mask or cell numbers."""
        return self


@dataclass(frozen=True, eq=False)
class GaussianError(Likelihood):
    """y = seen + e, e ~ N(0, sd^2) independently.

    Parameters
    ----------
    sd : float or array of one per cell
        In the units of y. It may be NaN where the value is missing.

    Raises
    ------
    ValueError
        For a standard deviation that is zero, negative or infinite.
    """

    sd: Any
    is_gaussian = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "sd", positive(self.sd, "standard deviation"))

    def log_prob(self, y: Tensor, seen: Tensor) -> Tensor:
        """-(y - seen)^2 / (2 sd^2) - log(sd sqrt(2 pi))."""
        sd = self.sd.to(seen)
        return -0.5 * ((y - seen) / sd).square() - sd.log() - 0.5 * math.log(2 * math.pi)

    def sample(self, seen: Tensor, generator: torch.Generator) -> Tensor:
        """Seen + sd e."""
        return seen + self.sd.to(seen) * noise_like(seen, generator)

    def noise_variance(self, like: Tensor) -> Tensor:
        """sd^2, one number or (m,), of the dtype and on the device of ``like``."""
        return self.sd.to(like).square()

    def check(self, y: np.ndarray) -> None:
        """Refuse infinite values, and missing standard deviations."""
        super().check(y)
        check_complete(self.sd, "standard deviation")

    def check_size(self, m: int) -> None:
        """Refuse a number of standard deviations other than the number of values."""
        check_per_cell(self.sd, m, "standard deviation")

    def rows(self, keep: np.ndarray) -> Self:
        """The errors of some cells only."""
        return type(self)(per_cell_rows(self.sd, keep))


@dataclass(frozen=True, eq=False)
class LogNormalError(Likelihood):
    """log y = seen + e, e ~ N(0, sd^2) independently: y is positive and errs by a factor.

    Parameters
    ----------
    sd : float or array of one per cell
        Of log y, without unit. It may be NaN where the value is missing.

    Raises
    ------
    ValueError
        For a standard deviation that is zero, negative or infinite.
    """

    sd: Any
    is_gaussian = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "sd", positive(self.sd, "standard deviation"))

    def log_prob(self, y: Tensor, seen: Tensor) -> Tensor:
        """-(log y - seen)^2 / (2 sd^2) - log(y sd sqrt(2 pi))."""
        return GaussianError(self.sd).log_prob(y.log(), seen) - y.log()

    def sample(self, seen: Tensor, generator: torch.Generator) -> Tensor:
        """exp(seen + sd e)."""
        return GaussianError(self.sd).sample(seen, generator).exp()

    def target(self, y: Tensor) -> Tensor:
        """log y."""
        return y.log()

    def noise_variance(self, like: Tensor) -> Tensor:
        """sd^2, one number or (m,), of the dtype and on the device of ``like``."""
        return self.sd.to(like).square()

    def check(self, y: np.ndarray) -> None:
        """Refuse values that are not positive, and missing standard deviations."""
        super().check(y)
        refuse(y <= 0, y, "not positive", "a log-normal value is")
        check_complete(self.sd, "standard deviation")

    def check_size(self, m: int) -> None:
        """Refuse a number of standard deviations other than the number of values."""
        check_per_cell(self.sd, m, "standard deviation")

    def rows(self, keep: np.ndarray) -> Self:
        """The errors of some cells only."""
        return type(self)(per_cell_rows(self.sd, keep))


def positive(value: Any, what: str) -> Tensor:
    """As float64 tensor, () or flat; refuses zeros, negative and infinite numbers. NaN may stand in for a missing cell."""
    array = value.detach().cpu().numpy() if isinstance(value, Tensor) else value
    tensor = torch.as_tensor(np.array(array, dtype=np.float64))
    tensor = tensor.flatten() if tensor.ndim else tensor
    wrong = torch.logical_not(tensor.isnan() | (tensor > 0) & tensor.isfinite())
    wrong = wrong | tensor.isnan() if not tensor.ndim else wrong
    if wrong.any() or not tensor.numel():
        first = int(wrong.flatten().int().argmax())
        found = float(tensor.flatten()[first])
        where = f" in {int(wrong.sum())} cells (first: cell {first})" if tensor.ndim else ""
        raise ValueError(f"a noise {what} of {found:g}{where}: give positive numbers")
    return tensor


def check_per_cell(value: Tensor, m: int, what: str) -> None:
    """Refuse a tensor that is neither one number nor m of them."""
    if value.ndim and len(value) != m:
        raise ValueError(f"{len(value)} noise {what}s for {m} values: give one number, or one per value")


def check_complete(value: Tensor, what: str) -> None:
    """Refuse NaN among the numbers of the cells that have values."""
    if value.isnan().any():
        first = int(value.isnan().flatten().int().argmax())
        raise ValueError(
            f"the noise {what} is missing (NaN) where a value is not (first: cell {first} of those with values)"
        )


def per_cell_rows(value: Tensor, keep: np.ndarray) -> Tensor:
    """One number as it is, or those of some cells."""
    return value[torch.as_tensor(keep)] if value.ndim else value


def noise_like(like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal numbers of that shape, drawn on the generator's device."""
    return torch.randn(like.shape, generator=generator, dtype=like.dtype, device=generator.device).to(like.device)


def refuse(wrong: np.ndarray, y: np.ndarray, what: str, cure: str) -> None:
    """A ValueError that counts the wrong values and names the first of them."""
    if wrong.any():
        raise ValueError(f"{wrong.sum()} values are {what} (first: {y[wrong.argmax()]:g}): {cure}")
