"""Mechanisms: how one node of a structural causal model comes about from its parents and its noise."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from latentcause.scm.noise import GaussianNoise, Noise
from latentcause.splines import UniformBSpline


class Mechanism(ABC):
    """How one node comes about: z_j = f_j(z_pa(j), u_j), with noise u_j independent of everything else.

    All mechanisms work on float tensors of any device; columns of ``parents`` follow the graph's order of parents.

    Attributes
    ----------
    noise : Noise
        Distribution of u_j.
    """

    noise: Noise

    @abstractmethod
    def predict(self, parents: Tensor, noise: Tensor) -> Tensor:
        """f_j: values (n,) from parents (n, number of parents) and noise (n,)."""

    @abstractmethod
    def abduct(self, values: Tensor, parents: Tensor) -> Tensor:
        """The noise (n,) that gives ``values`` (n,) at these parents (n, number of parents).

        Raises
        ------
        ValueError
            Where several values of the noise would, so that a counterfactual is not determined.
        """

    @abstractmethod
    def mean(self, parents: Tensor) -> Tensor:
        """E[z_j | parents], where the noise has mean zero: (..., number of parents) -> (...).

        Raises
        ------
        ValueError
            Where it is not known.
        """

    @abstractmethod
    def log_density(self, values: Tensor, parents: Tensor) -> Tensor:
        """log p(values | parents), in nats; ``values`` broadcasts against what ``mean`` returns.

        Raises
        ------
        ValueError
            Where there is no density.
        """

    def counterfactual(self, values: Tensor, before: Tensor, after: Tensor) -> Tensor:
        """What values (n,) at the parents ``before`` would be at the parents ``after``: abduct the noise, then predict.

        Raises
        ------
        ValueError
            As `abduct` does.
        """
        return self.predict(after, self.abduct(values, before))

    def sample(self, parents: Tensor, generator: torch.Generator) -> Tensor:
        """One value per row of ``parents`` (n, number of parents) -> (n,)."""
        return self.predict(parents, self.noise.sample(parents.shape[0], parents, generator))


class AdditiveMechanism(Mechanism):
    """z_j = m_j(z_pa(j)) + u_j. With Gaussian noise, Eq. (3.2) of Wu, von Kuegelgen and Blei.

    The final classes differ in the mean function. Each is a frozen dataclass whose last two fields are

    variance : float
        Of Gaussian noise, in the squared units of the node; where ``noise`` is given, its variance stands here.
    noise : Noise, optional
        The distribution of u_j; by default Gaussian with mean 0 and ``variance``.
    """

    variance: float

    def __post_init__(self) -> None:
        if getattr(self, "noise", None) is None:
            object.__setattr__(self, "noise", GaussianNoise(self.variance))
        else:
            object.__setattr__(self, "variance", self.noise.variance)

    def mean_and_slopes(self, parents: Tensor) -> tuple[Tensor, Tensor]:
        """m_j (n,) at parents (n, p), and its derivatives (n, p) with respect to them."""
        with torch.enable_grad():
            variables = parents.detach().requires_grad_()
            mean = self.mean(variables)
            (slopes,) = torch.autograd.grad(mean.sum(), variables, allow_unused=True)
        return mean.detach(), torch.zeros_like(parents) if slopes is None else slopes

    def predict(self, parents: Tensor, noise: Tensor) -> Tensor:
        """m_j(parents) + noise."""
        return self.mean(parents) + noise

    def abduct(self, values: Tensor, parents: Tensor) -> Tensor:
        """The residual values - m_j(parents)."""
        return values - self.mean(parents)

    def counterfactual(self, values: Tensor, before: Tensor, after: Tensor) -> Tensor:
        """Values + (m_j(after) - m_j(before)); in this order values keep every bit where the mean stays the same."""
        return values + (self.mean(after) - self.mean(before))

    def log_density(self, values: Tensor, parents: Tensor) -> Tensor:
        """Log density of the noise at the residual."""
        return self.noise.log_density(values - self.mean(parents))


@dataclass(frozen=True)
class LinearMechanism(AdditiveMechanism):
    """z_j = intercept + sum_k weights_k z_k + noise. With no weights it is a hard intervention N(intercept, variance).

    Parameters
    ----------
    weights : tuple of float
        One per parent, in the graph's order; a shorter tuple than there are parents is an error, except the empty one,
        which means that the node ignores its parents.
    intercept, variance : float
        In the node's units, and squared units.
    """

    weights: tuple[float, ...] = ()
    intercept: float = 0.0
    variance: float = 1.0
    noise: Noise = None  # type: ignore[assignment]  # set by __post_init__

    def mean(self, parents: Tensor) -> Tensor:
        """Intercept + parents @ weights."""
        if not self.weights:
            return parents.new_full(parents.shape[:-1], self.intercept)
        _check_count("weights", len(self.weights), parents.shape[-1])
        return self.intercept + parents @ parents.new_tensor(self.weights)

    def weights_for(self, n_parents: int) -> tuple[float, ...]:
        """One weight per parent, zeros where the node ignores its parents."""
        if self.weights:
            _check_count("weights", len(self.weights), n_parents)
        return self.weights or (0.0,) * n_parents

    def mean_and_slopes(self, parents: Tensor) -> tuple[Tensor, Tensor]:
        """The mean, and the weights."""
        weights = parents.new_tensor(self.weights_for(parents.shape[-1]))
        return self.mean(parents), weights.expand_as(parents)


@dataclass(frozen=True)
class SplineMechanism(AdditiveMechanism):
    """z_j = intercept + sum_k spline_k(z_k) + noise: an additive model with one cubic spline per parent.

    Parameters
    ----------
    splines : tuple of UniformBSpline
        One per parent, in the graph's order.
    coefficients : tuple of tuple of float
        Those of each spline.
    intercept, variance : float
    """

    splines: tuple[UniformBSpline, ...]
    coefficients: tuple[tuple[float, ...], ...]
    intercept: float = 0.0
    variance: float = 1.0
    noise: Noise = None  # type: ignore[assignment]  # set by __post_init__

    def mean(self, parents: Tensor) -> Tensor:
        """Intercept + sum_k B_k(z_k)' coefficients_k."""
        _check_count("splines", len(self.splines), parents.shape[-1])
        total = parents.new_full(parents.shape[:-1], self.intercept)
        for k, (spline, coefficients) in enumerate(zip(self.splines, self.coefficients, strict=True)):
            first, values, _ = spline.local(parents[..., k])
            near = parents.new_tensor(coefficients)[first[..., None] + torch.arange(4, device=parents.device)]
            total = total + (values * near).sum(-1)
        return total

    def mean_and_slopes(self, parents: Tensor) -> tuple[Tensor, Tensor]:
        """The mean, and the splines' own derivatives."""
        mean, slopes = parents.new_full(parents.shape[:-1], self.intercept), torch.empty_like(parents)
        for k, (spline, coefficients) in enumerate(zip(self.splines, self.coefficients, strict=True)):
            first, values, derivatives = spline.local(parents[..., k])
            near = parents.new_tensor(coefficients)[first[..., None] + torch.arange(4, device=parents.device)]
            mean = mean + (values * near).sum(-1)
            slopes[..., k] = (derivatives * near).sum(-1)
        return mean, slopes


@dataclass(frozen=True)
class FunctionMechanism(AdditiveMechanism):
    """z_j = function(parents) + noise, for a mean function given as code (so it cannot be saved to a file).

    ``function`` takes a tensor (..., number of parents) and returns (...).
    """

    function: Callable[[Tensor], Tensor] = field(repr=False)
    variance: float = 1.0
    noise: Noise = None  # type: ignore[assignment]  # set by __post_init__

    def mean(self, parents: Tensor) -> Tensor:
        """``function(parents)``."""
        return self.function(parents)


@dataclass(frozen=True)
class GeneralMechanism(Mechanism):
    """z_j = function(parents, noise), for any form given as code (so it cannot be saved to a file).

    Parameters
    ----------
    function : callable
        Takes parents (n, number of parents) and noise (n,), returns (n,).
    noise : Noise
    inverse : callable, optional
        Takes values (n,) and parents (n, number of parents), returns the noise (n,) behind them:
        ``inverse(function(p, u), p) == u``. Without it counterfactuals that need this noise are refused.
    """

    function: Callable[[Tensor, Tensor], Tensor] = field(repr=False)
    noise: Noise
    inverse: Callable[[Tensor, Tensor], Tensor] | None = field(default=None, repr=False)

    def predict(self, parents: Tensor, noise: Tensor) -> Tensor:
        """``function(parents, noise)``."""
        return self.function(parents, noise)

    def abduct(self, values: Tensor, parents: Tensor) -> Tensor:
        """``inverse(values, parents)``; refused where no inverse is given."""
        if self.inverse is None:
            raise ValueError(
                "its GeneralMechanism has no inverse, so the noise behind a value is unknown: give one as inverse="
            )
        return self.inverse(values, parents)

    def mean(self, parents: Tensor) -> Tensor:
        """Refused: the mean of an arbitrary function of noise is not known in closed form."""
        raise ValueError("a GeneralMechanism has no mean in closed form: sample it instead")

    def log_density(self, values: Tensor, parents: Tensor) -> Tensor:
        """Refused: it would need the derivative of the inverse."""
        raise ValueError("a GeneralMechanism has no density in closed form: use an additive mechanism")


def _check_count(what: str, count: int, n_parents: int) -> None:
    if count != n_parents:
        raise ValueError(f"a mechanism with {count} {what} on a node with {n_parents} parents: give one per parent")
