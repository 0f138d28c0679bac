"""Denoisers: what the clean data were, given noisy ones; and the forms in which that can be said."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from latentcause.diffusion.schedules import Schedule

Kind = Literal["noise", "data", "velocity", "score"]


@dataclass(frozen=True)
class Prediction:
    """E[x_0 | x_t] and what follows from it; all of the shape of x_t.

    With x_t = alpha x_0 + sigma eps, r^2 = alpha^2 + sigma^2: velocity v = (alpha eps - sigma x_0) / r (Salimans and Ho 2022,
    where r = 1), score = -eps / sigma (Tweedie's formula: Robbins 1956, Efron 2011).

    Attributes
    ----------
    data, noise : Tensor
        E[x_0 | x_t] and E[eps | x_t].
    alpha, sigma : Tensor
        At t, in a shape that broadcasts against x_t.
    """

    data: Tensor
    noise: Tensor
    alpha: Tensor
    sigma: Tensor

    @classmethod
    def of(cls, output: Tensor, kind: Kind, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Prediction:
        """From any of the four forms. Where alpha is 0, "noise" and "score" say nothing of the data: they become infinite.

        Raises
        ------
        ValueError
            For an unknown kind.
        """
        r2 = alpha.square() + sigma.square()
        match kind:
            case "noise":
                return cls((x_t - sigma * output) / alpha, output, alpha, sigma)
            case "data":
                return cls(output, (x_t - alpha * output) / sigma, alpha, sigma)
            case "velocity":
                root = r2.sqrt()
                data, noise = (alpha * x_t - root * sigma * output) / r2, (sigma * x_t + root * alpha * output) / r2
                return cls(data, noise, alpha, sigma)
            case "score":
                return cls((x_t + sigma.square() * output) / alpha, -sigma * output, alpha, sigma)
        raise ValueError(f"unknown kind of prediction {kind!r}: choose one of {', '.join(get_args(Kind))}")

    def to(self, kind: Kind) -> Tensor:
        """The prediction in another form.

        Raises
        ------
        ValueError
            For an unknown kind.
        """
        match kind:
            case "noise":
                return self.noise
            case "data":
                return self.data
            case "velocity":
                return (self.alpha * self.noise - self.sigma * self.data) / (
                    self.alpha.square() + self.sigma.square()
                ).sqrt()
            case "score":
                return -self.noise / self.sigma
        raise ValueError(f"unknown kind of prediction {kind!r}: choose one of {', '.join(get_args(Kind))}")


class Denoiser(ABC):
    """Says what the clean data were.

    Attributes
    ----------
    schedule : Schedule
    """

    schedule: Schedule

    @abstractmethod
    def __call__(self, x_t: Tensor, t: Tensor | float) -> Prediction:
        """The prediction for x_t (n, ...) at one time, or at one time per row (n,)."""

    def linearised(self, x_t: Tensor, t: Tensor | float) -> tuple[Prediction, Callable[[Tensor], Tensor]]:
        """The prediction, and v -> Cov[x_0 | x_t] v for v of the shape of x_t.

        Cov[x_0 | x_t] = (sigma^2 / alpha) d E[x_0 | x_t] / d x_t (Tweedie's formula of second order), which is symmetric for an
        exact denoiser; here by one backward pass for each v.
        """
        with torch.enable_grad():
            x = x_t.detach().requires_grad_()
            found = self(x, t)

        def covariance_times(v: Tensor) -> Tensor:
            (product,) = torch.autograd.grad(found.data, x, v, retain_graph=True)
            return found.sigma.square() / found.alpha * product

        return Prediction(found.data.detach(), found.noise.detach(), found.alpha, found.sigma), covariance_times

    def levels(self, x_t: Tensor, t: Tensor | float) -> tuple[Tensor, Tensor]:
        """(alpha, sigma) at t, of the dtype and on the device of x_t, in a shape that broadcasts against it."""
        alpha, sigma = self.schedule.at(t)
        shape = (-1, *[1] * (x_t.ndim - 1)) if alpha.ndim else ()
        return alpha.to(x_t).reshape(shape), sigma.to(x_t).reshape(shape)


class NetworkDenoiser(Denoiser):
    """A network that predicts in one of four forms.

    Parameters
    ----------
    network : callable
        network(x_t, t) with t (n,) gives an output of the shape of x_t. What it is conditioned on, it holds itself.
    schedule : Schedule
    kind : {"velocity", "noise", "data", "score"}
        What the output means.
    """

    def __init__(
        self, network: Callable[[Tensor, Tensor], Tensor], schedule: Schedule, kind: Kind = "velocity"
    ) -> None:
        self.network, self.schedule, self.kind = network, schedule, kind

    def __call__(self, x_t: Tensor, t: Tensor | float) -> Prediction:
        """One pass of the network."""
        alpha, sigma = self.levels(x_t, t)
        rows = torch.as_tensor(t, dtype=x_t.dtype, device=x_t.device).expand(len(x_t))
        return Prediction.of(self.network(x_t, rows), self.kind, x_t, alpha, sigma)


class GuidedDenoiser(Denoiser):
    """Classifier-free guidance: eps = (1 - w) eps_unconditional + w eps_conditional (Ho and Salimans 2022, Eq. 6).

    w = 1 is the conditional denoiser and costs no second pass; w = 0 the unconditional one; w > 1 amplifies the condition.
    (Their w is this w less 1.)

    Parameters
    ----------
    conditional, unconditional : Denoiser
        With the same schedule.
    weight : float
    """

    def __init__(self, conditional: Denoiser, unconditional: Denoiser, weight: float) -> None:
        if conditional.schedule != unconditional.schedule:
            raise ValueError("the two denoisers have different schedules: guidance mixes predictions at the same noise")
        self.conditional, self.unconditional, self.weight = conditional, unconditional, weight
        self.schedule = conditional.schedule

    def __call__(self, x_t: Tensor, t: Tensor | float) -> Prediction:
        """The mixture; data and noise mix alike, being tied by x_t."""
        if self.weight == 1:
            return self.conditional(x_t, t)
        if self.weight == 0:
            return self.unconditional(x_t, t)
        with_, without = self.conditional(x_t, t), self.unconditional(x_t, t)
        data, noise = (
            torch.lerp(b, a, self.weight) for a, b in ((with_.data, without.data), (with_.noise, without.noise))
        )
        return Prediction(data, noise, with_.alpha, with_.sigma)


class GaussianDenoiser(Denoiser):
    """The exact denoiser of data that are N(mean, covariance): the yardstick of samplers.

    E[x_0 | x_t] = mean + alpha C (alpha^2 C + sigma^2 I)^-1 (x_t - alpha mean).

    Parameters
    ----------
    mean : Tensor (d,)
    covariance : Tensor (d, d)
        Symmetric, positive semi-definite.
    schedule : Schedule
    """

    def __init__(self, mean: Tensor, covariance: Tensor, schedule: Schedule) -> None:
        self.mean, self.schedule = mean, schedule
        self.variances, self.axes = torch.linalg.eigh(covariance)

    def __call__(self, x_t: Tensor, t: Tensor | float) -> Prediction:
        """Row by row, in the eigenvectors of the covariance; x_t is (n, d)."""
        alpha, sigma = self.levels(x_t, t)
        offset = (x_t - alpha * self.mean) @ self.axes
        total = alpha.square() * self.variances + sigma.square()
        data = self.mean + (alpha * self.variances / total * offset) @ self.axes.T
        return Prediction(data, (sigma / total * offset) @ self.axes.T, alpha, sigma)

    def flow(self, x_t: Tensor, t: float, s: float) -> Tensor:
        """Where the probability flow carries x_t (n, d) from time t to time s, exactly."""
        (alpha_t, sigma_t), (alpha_s, sigma_s) = self.levels(x_t, t), self.levels(x_t, s)
        before, after = (
            alpha.square() * self.variances + sigma.square()
            for alpha, sigma in ((alpha_t, sigma_t), (alpha_s, sigma_s))
        )
        offset = (x_t - alpha_t * self.mean) @ self.axes
        return alpha_s * self.mean + ((after / before).sqrt() * offset) @ self.axes.T
