"""Samplers: from noise to data and back, one step at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from latentcause.diffusion.denoisers import Denoiser
from latentcause.diffusion.schedules import times as falling_times
from latentcause.progress import progress

MEMORY = 3  # passes that the acceleration of an inversion looks back on


class Sampler(ABC):
    """Carries x_t to an earlier time s < t; going from t = 1 to t = 0 in steps draws from the data's distribution.

    Attributes
    ----------
    denoiser : Denoiser
    """

    denoiser: Denoiser

    @abstractmethod
    def step(self, x_t: Tensor, t: float, s: float, generator: torch.Generator | None = None) -> Tensor:
        """x_s from x_t, both (n, ...); ``generator`` is the source of what noise the step adds."""

    def __call__(
        self, x: Tensor, times: Tensor | int, generator: torch.Generator | None = None, label: str = "sampling"
    ) -> Tensor:
        """All steps of ``times`` (falling; or a number of equal steps from 1 to 0), starting from x at the first of them.

        Raises
        ------
        ValueError
            For times that do not fall, or a sampler that adds noise without a generator.
        """
        grid = _checked_grid(times)
        with progress(label, len(grid) - 1, "time") as report:
            for number, (t, s) in enumerate(pairwise(grid)):
                x = self.step(x, t, s, generator)
                report(number + 1, s)
        return x

    def start(self, shape: tuple[int, ...], generator: torch.Generator, like: Tensor | None = None) -> Tensor:
        """Noise N(0, sigma(1)^2) of this shape, to start from at t = 1, of dtype and device of ``like``."""
        like = torch.empty(0) if like is None else like
        _, sigma = self.denoiser.levels(like, 1.0)
        return sigma * torch.randn(shape, generator=generator, dtype=like.dtype, device=like.device)

    def _levels(self, x: Tensor, t: float, s: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return *self.denoiser.levels(x, t), *self.denoiser.levels(x, s)


class DDIM(Sampler):
    """x_s = alpha_s x_0 + sqrt(sigma_s^2 - eta^2 tau^2) eps + eta tau z, with the denoiser's x_0 and eps.

    tau^2 = sigma_s^2 (1 - (alpha_t sigma_s / (alpha_s sigma_t))^2) is the variance of x_s given x_t and x_0. With eta = 0 the
    steps are deterministic, of first order in d(sigma / alpha) on the probability flow, and can be inverted; eta = 1 is the
    ancestral sampler of DDPM with its smaller variance (Song, Meng and Ermon, Denoising diffusion implicit models, 2021,
    Eqs. 12 and 16).

    Parameters
    ----------
    denoiser : Denoiser
    eta : float
        At least 0.
    """

    def __init__(self, denoiser: Denoiser, eta: float = 0.0) -> None:
        if not eta >= 0:
            raise ValueError(f"eta={eta}: give a number of at least 0")
        self.denoiser, self.eta = denoiser, eta

    def step(self, x_t: Tensor, t: float, s: float, generator: torch.Generator | None = None) -> Tensor:
        """One step; t = 1 may have no signal, s = 0 no noise."""
        alpha_t, sigma_t, alpha_s, sigma_s = self._levels(x_t, t, s)
        found = self.denoiser(x_t, t)
        if self.eta == 0:
            return alpha_s * found.data + sigma_s * found.noise
        tau = sigma_s * (1 - (alpha_t * sigma_s / (alpha_s * sigma_t)).square()).clamp(min=0).sqrt()
        added = torch.minimum(self.eta * tau, sigma_s)  # an eta beyond 1 can't add more noise than there is at s
        kept = (sigma_s.square() - added.square()).sqrt()
        return alpha_s * found.data + kept * found.noise + added * _noise(x_t, generator)

    def invert(self, x: Tensor, times: Tensor | int, refinements: int = 3, label: str = "inverting") -> Tensor:
        """The x_t from which the steps (eta = 0) along ``times`` lead to x: the noise that belongs to an image.

        Each step is solved for its starting point, the fixed point of x_t = (alpha_t / alpha_s)(x_s - sigma_s eps(x_t)) +
        sigma_t eps(x_t), so that going back returns x. Plain iteration contracts slowly where the noise grows much in a
        step. So it starts from the noise found in the step before, which changes little along the flow, and goes on by
        Anderson's acceleration, row by row: each gains a digit or so.

        Parameters
        ----------
        x : Tensor (n, ...)
            At the last of the times.
        times : Tensor or int
            Falling, as for sampling; the first with some signal left (alpha > 0).
        refinements : int
            Passes of the denoiser for each step beyond the first; with 0 it is the usual, inexact recipe.

        Raises
        ------
        ValueError
            For eta > 0, which has no inverse, times that do not fall, or no signal at the first of them.
        """
        if self.eta > 0:
            raise ValueError(f"eta={self.eta} adds noise, which can't be undone: invert with eta=0")
        grid = _checked_grid(times)
        if not float(self.denoiser.schedule.at(grid[0])[0]) > 0:
            raise ValueError(f"no signal is left at t = {grid[0]}: invert up to an earlier time, such as 0.98")
        noise = torch.zeros_like(x)
        with progress(label, len(grid) - 1, "time") as report:
            for number, (t, s) in enumerate(zip(grid[-2::-1], grid[:0:-1], strict=True)):
                x, noise = self._inverted_step(x, t, s, noise, refinements)
                report(number + 1, t)
        return x

    def _inverted_step(self, x_s: Tensor, t: float, s: float, noise: Tensor, refinements: int) -> tuple[Tensor, Tensor]:
        """x_t, and the noise last found in it; the noise given is a first guess."""
        alpha_t, sigma_t, alpha_s, sigma_s = self._levels(x_s, t, s)
        scaled = alpha_t / alpha_s * x_s
        noise_change = sigma_t - alpha_t / alpha_s * sigma_s
        found = noise

        def reached(x_t: Tensor) -> Tensor:
            nonlocal found
            found = self.denoiser(x_t, t).noise
            return scaled + noise_change * found

        return _fixed_point(reached, scaled + noise_change * noise, refinements + 1), found


class DDPM(Sampler):
    """The ancestral sampler: x_s from q(x_s | x_t, x_0) at the denoiser's x_0, with variance of either kind.

    Ho, Jain and Abbeel 2020, Eqs. (6), (7) and (11) and section 3.2. ``"posterior"``, the variance tau^2 of `DDIM` with
    eta = 1, is right where the data are one point; ``"forward"``, sigma_t^2 - (alpha_t / alpha_s)^2 sigma_s^2, where they are
    standard normal; in between, few steps draw too narrow or too wide.

    Parameters
    ----------
    denoiser : Denoiser
    variance : {"posterior", "forward"}
    """

    def __init__(self, denoiser: Denoiser, variance: str = "posterior") -> None:
        if variance not in ("posterior", "forward"):
            raise ValueError(f"unknown variance {variance!r}: choose posterior or forward")
        self.denoiser, self.variance = denoiser, variance

    def step(self, x_t: Tensor, t: float, s: float, generator: torch.Generator | None = None) -> Tensor:
        """One draw; the step to no noise at all adds none."""
        alpha_t, sigma_t, alpha_s, sigma_s = self._levels(x_t, t, s)
        ratio = alpha_t / alpha_s
        forward = (sigma_t.square() - (ratio * sigma_s).square()).clamp(min=0)
        mean = (ratio * sigma_s.square() * x_t + alpha_s * forward * self.denoiser(x_t, t).data) / sigma_t.square()
        share = sigma_s.square() / sigma_t.square() if self.variance == "posterior" else (sigma_s > 0).to(forward)
        return mean + (forward * share).sqrt() * _noise(x_t, generator)


class EulerMaruyama(Sampler):
    """The reverse SDE, dx = (f x - g^2 score) dt + g dw (Anderson 1982), by Euler's method.

    Of strong and weak order 1, its noise being additive. Needs signal at every time, so a first time below 1 where
    alpha(1) = 0; the last may be 0 only where sigma(0) > 0.
    """

    def __init__(self, denoiser: Denoiser) -> None:
        self.denoiser = denoiser

    def step(self, x_t: Tensor, t: float, s: float, generator: torch.Generator | None = None) -> Tensor:
        """One step of length t - s."""
        f, g2 = (value.to(x_t) for value in self.denoiser.schedule.drift_and_diffusion(t))
        drift = f * x_t - g2 * self.denoiser(x_t, t).to("score")
        return x_t - (t - s) * drift + (g2 * (t - s)).sqrt() * _noise(x_t, generator)


class DPMSolver(Sampler):
    """Second-order multistep solver of the reverse SDE, its noise and its return to the data scaled together by ``eta``.

    With lambda = log(alpha / sigma), h = lambda_s - lambda_t and a = 1 + eta, a step is

        x_s = (sigma_s / sigma_t) exp(-eta h) x_t + alpha_s (1 - exp(-a h)) D + sigma_s sqrt(1 - exp(-2 eta h)) z,

    exact for a D that does not change, and D = x_0 + (x_0 - x_0') h / (2 h') extrapolates the denoiser's x_0 by that of the
    step before. For every eta the diffusion has the same densities at all times: eta = 0 is the probability flow
    (DPM-Solver++(2M); Lu et al., DPM-Solver++: fast solver for guided sampling, 2022, Algorithm 2), eta = 1 the reverse SDE
    (their SDE-DPM-Solver++(2M)), and more is a flow with more Langevin steps (tau^2 in Xue et al., SA-Solver, 2023, Eq. 7):
    these forget the errors of earlier times, such as those of an approximate guidance. One pass of the denoiser a step; the
    first step, steps of other rows than the one before, and those from no signal or to no noise are of first order.

    With ``curvature`` c, D has c times the next term of the extrapolation as well, c dd (h^2 / 3 + h h' / 2) for the second
    divided difference dd of x_0 in lambda over three steps. c = 1 is the third order of Adams and Bashforth on the flow. Noise
    is another matter: what it adds within a step acts on x_0 only from the next, and variances come out too large by a share
    that grows with h^2 (1 + eta), and with c = 1 too small. At c = 3 / 5, where equal steps weigh the last three x_0 by 7/4,
    -1 and 1/4, that error vanishes for Gaussian data, whatever their variance and eta: what is left is of third order.

    Parameters
    ----------
    denoiser : Denoiser
    eta : float
        At least 0.
    curvature : float
        Within [0, 1].
    """

    def __init__(self, denoiser: Denoiser, eta: float = 1.0, curvature: float = 0.0) -> None:
        if not eta >= 0:
            raise ValueError(f"eta={eta}: give a number of at least 0")
        if not 0 <= curvature <= 1:
            raise ValueError(f"curvature={curvature}: give a number within [0, 1]")
        self.denoiser, self.eta, self.curvature = denoiser, eta, curvature
        self._before: list[tuple[float, Tensor, Tensor]] = []

    def __call__(
        self, x: Tensor, times: Tensor | int, generator: torch.Generator | None = None, label: str = "sampling"
    ) -> Tensor:
        """As for every sampler; what earlier calls left behind is forgotten."""
        self._before = []
        return super().__call__(x, times, generator, label)

    def step(self, x_t: Tensor, t: float, s: float, generator: torch.Generator | None = None) -> Tensor:
        """One step; it remembers its estimate for steps that go on from s."""
        mean, sd = self.moments(x_t, t, s)
        return mean if self.eta == 0 else mean + sd * _noise(x_t, generator)

    def moments(self, x_t: Tensor, t: float, s: float) -> tuple[Tensor, Tensor]:
        """Mean of x_s given x_t, of the shape of x_t, and its standard deviation, a number; remembers as `step` does."""
        alpha_t, sigma_t, alpha_s, sigma_s = self._levels(x_t, t, s)
        h = (alpha_s.log() - sigma_s.log()) - (alpha_t.log() - sigma_t.log())
        data = self.denoiser(x_t, t).data
        if self._before and (self._before[-1][0] != t or self._before[-1][1].shape != x_t.shape):
            self._before = []
        towards = self._extrapolated(data, h) if h.isfinite() else data
        self._before = [*self._before[-1:], (s, data, h)]
        if self.eta == 0:
            return sigma_s / sigma_t * x_t + alpha_s * (1 - (-h).exp()) * towards, torch.zeros_like(sigma_s)
        kept = (-self.eta * h).exp()
        mean = sigma_s / sigma_t * kept * x_t + alpha_s * (1 - kept * (-h).exp()) * towards
        return mean, sigma_s * (1 - kept.square()).sqrt()

    def _extrapolated(self, data: Tensor, h: Tensor) -> Tensor:
        """The mean of x_0 over the next step h, by those of up to two steps before."""
        if not self._before:
            return data
        _, last, h_last = self._before[-1]
        slope = (data - last) / h_last
        towards = data + slope * (h / 2)
        if self.curvature == 0 or len(self._before) < 2:
            return towards
        _, earlier, h_earlier = self._before[-2]
        bend = (slope - (last - earlier) / h_earlier) / (h_last + h_earlier)
        return towards + self.curvature * (h * (h / 3 + h_last / 2)) * bend


class Heun(Sampler):
    """The probability flow d(x / alpha) = eps d(sigma / alpha) by Heun's method, of second order.

    Karras et al., Elucidating the design space of diffusion-based generative models, 2022, Algorithm 1 without churn. In this
    variable the flow is nearly straight and has no singularity. Two passes of the denoiser a step; a step from no signal or
    to no noise is one of DDIM.
    """

    def __init__(self, denoiser: Denoiser) -> None:
        self.denoiser = denoiser

    def step(self, x_t: Tensor, t: float, s: float, generator: torch.Generator | None = None) -> Tensor:
        """A step of DDIM, and its correction by the noise found at its end."""
        alpha_t, sigma_t, alpha_s, sigma_s = self._levels(x_t, t, s)
        found = self.denoiser(x_t, t)
        x_s = alpha_s * found.data + sigma_s * found.noise
        if not (float(alpha_t) > 0 and float(sigma_s) > 0):
            return x_s
        noise = 0.5 * (found.noise + self.denoiser(x_s, s).noise)
        return alpha_s / alpha_t * (x_t - sigma_t * noise) + sigma_s * noise


class PredictorCorrector(Sampler):
    """Steps of another sampler, each followed by Langevin steps x <- x + h score + sqrt(2 h) z at the new time.

    Song et al. 2021, Algorithm 1. Their step size, from the norms of score and noise, is in expectation h = 2 (r sigma)^2 with
    their signal-to-noise ratio r; that is used here, so that rows do not depend on each other.

    Parameters
    ----------
    predictor : Sampler
    corrections : int
        Langevin steps after each step.
    ratio : float
        r; positive.
    """

    def __init__(self, predictor: Sampler, corrections: int = 1, ratio: float = 0.16) -> None:
        if corrections < 1 or not ratio > 0:
            raise ValueError(f"corrections={corrections}, ratio={ratio}: give at least 1, and a positive number")
        self.predictor, self.corrections, self.ratio = predictor, corrections, ratio
        self.denoiser = predictor.denoiser

    def step(self, x_t: Tensor, t: float, s: float, generator: torch.Generator | None = None) -> Tensor:
        """One step and its corrections; none where no noise is left."""
        x_s = self.predictor.step(x_t, t, s, generator)
        _, sigma = self.denoiser.levels(x_s, s)
        if not float(sigma) > 0:
            return x_s
        size = 2 * (self.ratio * sigma).square()
        for _ in range(self.corrections):
            x_s = x_s + size * self.denoiser(x_s, s).to("score") + (2 * size).sqrt() * _noise(x_s, generator)
        return x_s


def _fixed_point(function: Callable[[Tensor], Tensor], x: Tensor, passes: int) -> Tensor:
    """Solve x = function(x) for every row by Anderson's method (Walker and Ni 2011, Eq. 2.2) over the last MEMORY passes."""
    values: list[Tensor] = []
    residuals: list[Tensor] = []
    for _ in range(passes):
        value = function(x)
        values, residuals = (
            [*values, value.flatten(1)][-MEMORY - 1 :],
            [*residuals, (value - x).flatten(1)][-MEMORY - 1 :],
        )
        x = value
        if len(values) > 1:
            changes = torch.stack([after - before for before, after in pairwise(residuals)], dim=2)
            gram = changes.mT @ changes
            ridge = 1e-6 * gram.diagonal(dim1=1, dim2=2).sum(1) + torch.finfo(x.dtype).tiny
            gram = gram + ridge[:, None, None] * torch.eye(gram.shape[1], dtype=x.dtype, device=x.device)
            weights = torch.linalg.solve(gram, changes.mT @ residuals[-1][:, :, None])
            moves = torch.stack([after - before for before, after in pairwise(values)], dim=2)
            x = (values[-1] - (moves @ weights)[:, :, 0]).reshape(x.shape)
    return x


def _checked_grid(times: Tensor | int) -> list[float]:
    grid: list[float] = (falling_times(times) if isinstance(times, int) else times).tolist()
    if len(grid) < 2 or any(s >= t for t, s in pairwise(grid)):
        raise ValueError(f"sampling runs from noise to data: give falling times, not {grid[:4]}...")
    return grid


def _noise(x: Tensor, generator: torch.Generator | None) -> Tensor:
    if generator is None:
        raise ValueError("this sampler adds noise: give a generator (torch.Generator().manual_seed(0), say)")
    return torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
