"""Guidance by observations: what the clean fields were, given noisy ones and what sensors say of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor

from latentcause.diffusion.denoisers import Denoiser, Prediction

Guidance = Literal["gaussian", "plug-in", "anchor"]


class Observations(Protocol):
    """What guidance needs to know of observations y of z through A, with noise of covariance R."""

    values: Tensor

    @property
    def is_gaussian(self) -> bool: ...  # noqa: D102

    def apply(self, z: Tensor) -> Tensor: ...  # noqa: D102

    def tangent(self, z: Tensor, direction: Tensor) -> Tensor: ...  # noqa: D102

    def pullback(self, z: Tensor, v: Tensor) -> Tensor: ...  # noqa: D102

    def noise_times(self, v: Tensor, variance: Tensor | None = None) -> Tensor: ...  # noqa: D102

    def sites(self, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]: ...  # noqa: D102

    def pseudo_inverse(self) -> Tensor: ...  # noqa: D102


class ObservedDenoiser(Denoiser):
    """E[z | z_t, y] from a denoiser of the prior and observations y = A z + e, e ~ N(0, R).

    With zhat = E[z | z_t] and V = Cov[z | z_t] of the prior, and J = d zhat / d z_t = (alpha / sigma^2) V, the term of the
    observations in the score at t, as a change of zhat:

    - ``gaussian``: z | z_t taken for N(zhat, V), so that zhat + V A' (A V A' + R)^-1 (y - A zhat). Exact for Gaussian priors
      (moment matching: Rozet et al., Learning diffusion priors from observations by expectation maximization, 2024, Eq. 15).
    - ``plug-in``: zhat taken for z, so that zhat + V A' R^-1 (y - A zhat): the gradient of log p(y | zhat) (Chung et al.,
      Diffusion posterior sampling, 2023). Too sure of the observations wherever V is not small.
    - ``anchor``: zhat + lambda(t) (phi(y) - zhat) with phi the pseudo-inverse of A and lambda = alpha^2 v / (alpha^2 v + sigma^2)
      on the pixels that are seen, v being ``anchor_variance``: the hand-set pull of paper 000, whose schedule it leaves open.

    Where y is not Gaussian in what it sees, each value gives way to the Gaussian site that matches the moments of its tilted
    density under N(A zhat, diag(A V A')) (``gaussian`` and ``plug-in``); for operators that are not linear, A is the derivative
    at zhat.

    Parameters
    ----------
    prior : Denoiser
        Of fields (n, d, *shape).
    observations : Observations
    how : {"gaussian", "plug-in", "anchor"}
    passes : int
        Most steps of conjugate gradients for (A V A' + R)^-1. Each costs one product with V.
    tolerance : float
        At which they end: the residual's norm as a share of the right-hand side's, in every row.
    probes : int
        Random signs from which diag(A V A') is estimated, where a likelihood needs it.
    anchor_variance : float
        v.

    Raises
    ------
    ValueError
        For an unknown kind of guidance.
    """

    def __init__(
        self,
        prior: Denoiser,
        observations: Observations,
        how: Guidance = "gaussian",
        *,
        passes: int = 50,
        tolerance: float = 1e-4,
        probes: int = 8,
        anchor_variance: float = 1.0,
    ) -> None:
        if how not in get_args(Guidance):
            raise ValueError(f"unknown guidance {how!r}: choose one of {', '.join(get_args(Guidance))}")
        self.prior, self.observations, self.how = prior, observations, how
        self.passes, self.tolerance, self.probes, self.anchor_variance = passes, tolerance, probes, anchor_variance
        self.schedule = prior.schedule

    def __call__(self, x_t: Tensor, t: Tensor | float) -> Prediction:
        """One pass of the prior's denoiser, and one product with its Jacobian a pass of the solver."""
        if self.how == "anchor":
            found = self.prior(x_t, t)
            phi = self.observations.pseudo_inverse().to(found.data)
            level = found.alpha.square() * self.anchor_variance
            pull = level / (level + found.sigma.square())
            data = torch.where(phi.isnan(), found.data, torch.lerp(found.data, phi.nan_to_num(), pull))
        else:
            found, covariance_times = self.prior.linearised(x_t, t)
            data = found.data + covariance_times(self._pull(found.data, covariance_times))
        return Prediction.of(data, "data", x_t, found.alpha, found.sigma)

    def _pull(self, zhat: Tensor, covariance_times: Callable[[Tensor], Tensor]) -> Tensor:
        """A' (A V A' + R)^-1 (y - A zhat), or A' R^-1 (y - A zhat)."""
        seen, y, variance = self.observations.apply(zhat), self.observations.values.to(zhat), None

        def seen_covariance_times(v: Tensor) -> Tensor:
            return self.observations.tangent(zhat, covariance_times(self.observations.pullback(zhat, v)))

        if not self.observations.is_gaussian:
            y, variance = self.observations.sites(seen, self._diagonal(seen_covariance_times, seen))

        def total_times(v: Tensor) -> Tensor:
            noise = self.observations.noise_times(v, variance)
            return noise if self.how == "plug-in" else noise + seen_covariance_times(v)

        weights = conjugate_gradients(total_times, y - seen, self.passes, self.tolerance)
        return self.observations.pullback(zhat, weights)

    def _diagonal(self, times: Callable[[Tensor], Tensor], like: Tensor) -> Tensor:
        """The diagonal (n, M) of a matrix known by its products, from random signs (Bekas, Kokiopoulou and Saad 2007).

        The signs are the same at every call, so that a sampler sees one smooth denoiser.
        """
        generator = torch.Generator(like.device).manual_seed(0)
        total = torch.zeros_like(like)
        for _ in range(self.probes):
            signs = torch.randint(0, 2, like.shape[1:], generator=generator, device=like.device).to(like) * 2 - 1
            total += signs * times(signs.expand_as(like))
        return (total / self.probes).clamp(min=1e-6)


def conjugate_gradients(times: Callable[[Tensor], Tensor], right: Tensor, passes: int, tolerance: float) -> Tensor:
    """Solve M w = right for every row of right (n, m), M symmetric and positive definite, known by its products.

    Ends when every row's residual is below ``tolerance`` times the norm of its right-hand side, or after ``passes``. A row that
    is solved, or in whose direction M is not positive (as rounding or a network's Jacobian can make it), stays as it is.
    """
    w, residual = torch.zeros_like(right), right
    direction, size = residual, residual.square().sum(1, keepdim=True)
    enough = tolerance**2 * size
    for _ in range(passes):
        if bool((size <= enough).all()):
            break
        product = times(direction)
        curvature = (direction * product).sum(1, keepdim=True)
        going = (size > enough) & (curvature > 0)
        step = torch.where(going, size / curvature.where(going, torch.ones_like(size)), 0.0)
        w, residual = w + step * direction, residual - step * product
        after = residual.square().sum(1, keepdim=True)
        direction = torch.where(going, residual + after / size * direction, 0.0)
        size = torch.where(going, after, 0.0)
    return w
