"""Noise schedules: how much of the data and how much noise is left at each time."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor


class Schedule(ABC):
    """x_t = alpha(t) x_0 + sigma(t) eps with eps ~ N(0, I), for times t in [0, 1]; t = 0 is (nearly) clean, t = 1 noise.

    As a stochastic differential equation, dx = f(t) x dt + g(t) dw with f = (log alpha)' and g^2 = (sigma^2)' - 2 f sigma^2
    (Kingma et al., Variational diffusion models, 2021, appendix A). All values are float64.
    """

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        """What is left of the data, in the shape of ``t`` (float64)."""

    @abstractmethod
    def sigma(self, t: Tensor) -> Tensor:
        """Standard deviation of the noise, in the shape of ``t`` (float64)."""

    def at(self, t: Tensor | float) -> tuple[Tensor, Tensor]:
        """(alpha, sigma) at t, which is checked.

        Raises
        ------
        ValueError
            For a time outside [0, 1].
        """
        times = _checked_times(t)
        return self.alpha(times), self.sigma(times)

    def drift_and_diffusion(self, t: Tensor | float) -> tuple[Tensor, Tensor]:
        """(f(t), g(t)^2) of the stochastic differential equation; not finite where alpha is 0."""
        times = _checked_times(t).clone().requires_grad_()
        with torch.enable_grad():
            log_alpha, variance = self.alpha(times).log(), self.sigma(times).square()
            (f,) = torch.autograd.grad(log_alpha.sum(), times, retain_graph=True)
            (growth,) = torch.autograd.grad(variance.sum(), times)
        return f, growth - 2 * f * variance.detach()

    def log_snr(self, t: Tensor | float) -> Tensor:
        """log(alpha^2 / sigma^2)."""
        alpha, sigma = self.at(t)
        return 2 * (alpha.log() - sigma.log())


@dataclass(frozen=True)
class VariancePreserving(Schedule):
    """The SDE limit of DDPM: beta(t) from ``beta_min`` to ``beta_max``, alpha^2 = exp(-int beta), sigma^2 = 1 - alpha^2.

    Song et al., Score-based generative modeling through stochastic differential equations, 2021, Eqs. (32) and (33).
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self) -> None:
        if not 0 < self.beta_min <= self.beta_max < math.inf:
            raise ValueError(f"beta_min={self.beta_min}, beta_max={self.beta_max}: give 0 < beta_min <= beta_max")

    def alpha(self, t: Tensor) -> Tensor:
        """exp(-int_0^t beta / 2)."""
        return (-0.5 * self._integral(t)).exp()

    def sigma(self, t: Tensor) -> Tensor:
        """Sqrt(1 - alpha^2)."""
        return (-torch.expm1(-self._integral(t))).sqrt()

    def _integral(self, t: Tensor) -> Tensor:
        return self.beta_min * t + 0.5 * (self.beta_max - self.beta_min) * t.square()


@dataclass(frozen=True)
class LinearDDPM(Schedule):
    """The linear schedule of DDPM: beta_k linear in k = 1 ... steps, alpha(k / steps)^2 = prod_{i <= k} (1 - beta_i).

    Ho, Jain and Abbeel, Denoising diffusion probabilistic models, 2020, section 4. Between the steps log alpha is linear in t.
    """

    steps: int = 1000
    first: float = 1e-4
    last: float = 0.02

    def __post_init__(self) -> None:
        if self.steps < 1 or not 0 < self.first <= self.last < 1:
            raise ValueError(
                f"steps={self.steps}, first={self.first}, last={self.last}: give steps >= 1 and 0 < first <= last < 1"
            )

    def alpha(self, t: Tensor) -> Tensor:
        """Square root of the interpolated product."""
        return (0.5 * self._log_product(t)).exp()

    def sigma(self, t: Tensor) -> Tensor:
        """Sqrt(1 - alpha^2)."""
        return (-torch.expm1(self._log_product(t))).sqrt()

    def _log_product(self, t: Tensor) -> Tensor:
        betas = torch.linspace(self.first, self.last, self.steps, dtype=t.dtype, device=t.device)
        table = torch.cat([t.new_zeros(1), torch.log1p(-betas).cumsum(0)])
        below = (t.detach() * self.steps).floor().long().clamp(0, self.steps - 1)
        return table[below] + (t * self.steps - below) * (table[below + 1] - table[below])


@dataclass(frozen=True)
class Cosine(Schedule):
    """alpha^2 = cos^2((t + s) / (1 + s) pi / 2) / cos^2(s / (1 + s) pi / 2), sigma^2 = 1 - alpha^2; no signal at t = 1.

    Nichol and Dhariwal, Improved denoising diffusion probabilistic models, 2021, Eq. (17). With the default ``offset`` s = 0
    it is alpha = cos(pi t / 2), sigma = sin(pi t / 2).
    """

    offset: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.offset < math.inf:
            raise ValueError(f"offset={self.offset}: give a number of at least 0, such as 0.008")

    def alpha(self, t: Tensor) -> Tensor:
        """The ratio of cosines, exactly 0 at t = 1."""
        angle = (1 - t) / (1 + self.offset) * (math.pi / 2)  # cos(a) = sin(pi / 2 - a), which is exact near t = 1
        return torch.sin(angle) / math.cos(self._start)

    def sigma(self, t: Tensor) -> Tensor:
        """Sqrt(1 - alpha^2), from a difference of angles, which is exact near t = 0."""
        # cos^2(a) - cos^2(b) = sin(b - a) sin(b + a)
        moved = t / (1 + self.offset) * (math.pi / 2)
        return (torch.sin(moved) * torch.sin(moved + 2 * self._start)).sqrt() / math.cos(self._start)

    @property
    def _start(self) -> float:
        return self.offset / (1 + self.offset) * math.pi / 2


@dataclass(frozen=True)
class VarianceExploding(Schedule):
    """alpha = 1 and sigma(t) = sigma_min (sigma_max / sigma_min)^t (Song et al. 2021, Eq. 31)."""

    sigma_min: float = 0.01
    sigma_max: float = 50.0

    def __post_init__(self) -> None:
        if not 0 < self.sigma_min < self.sigma_max < math.inf:
            raise ValueError(f"sigma_min={self.sigma_min}, sigma_max={self.sigma_max}: give 0 < sigma_min < sigma_max")

    def alpha(self, t: Tensor) -> Tensor:
        """1."""
        return torch.ones_like(t) + 0 * t

    def sigma(self, t: Tensor) -> Tensor:
        """Geometric in t."""
        return self.sigma_min * (t * math.log(self.sigma_max / self.sigma_min)).exp()


@dataclass(frozen=True)
class ZeroTerminal(Schedule):
    """Another variance-preserving schedule, shifted so that no signal is left at t = 1.

    alpha is moved linearly so that alpha(1) = 0 while alpha(0) stays (Lin et al., Common diffusion noise schedules and
    sample steps are flawed, 2024, Algorithm 1). Predict data or velocity with it: the noise says nothing at t = 1.
    """

    base: Schedule

    def alpha(self, t: Tensor) -> Tensor:
        """alpha_0 (alpha - alpha_1) / (alpha_0 - alpha_1) of the base schedule."""
        first, last = self.base.alpha(torch.zeros_like(t)), self.base.alpha(torch.ones_like(t))
        return first * (self.base.alpha(t) - last) / (first - last)

    def sigma(self, t: Tensor) -> Tensor:
        """Sqrt(1 - alpha^2)."""
        alpha = self.alpha(t)
        return ((1 - alpha) * (1 + alpha)).clamp(min=0).sqrt()


def times(steps: int, first: float = 1.0, last: float = 0.0, power: float = 1.0) -> Tensor:
    """steps + 1 falling times t_k = last + (first - last) (1 - k / steps)^power; a larger power crowds them near ``last``.

    Raises
    ------
    ValueError
        For less than one step, a power that is not positive, or times not within 0 <= last < first <= 1.
    """
    if steps < 1 or not power > 0 or not 0 <= last < first <= 1:
        raise ValueError(
            f"steps={steps}, first={first}, last={last}, power={power}: give steps >= 1, power > 0, 0 <= last < first <= 1"
        )
    return last + (first - last) * torch.linspace(1, 0, steps + 1, dtype=torch.float64) ** power


def _checked_times(t: Tensor | float) -> Tensor:
    times = torch.as_tensor(t, dtype=torch.float64)  # at once: a float would become float32 first
    if not ((times >= 0) & (times <= 1)).all():
        raise ValueError(f"times lie in [0, 1], not at {float(times.flatten()[0])}: 0 is clean, 1 is noise")
    return times
