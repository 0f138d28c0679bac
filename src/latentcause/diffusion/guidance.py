"""Guidance by observations: what the clean fields were, given noisy ones and what sensors say of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor

from latentcause.diffusion.denoisers import Denoiser, Prediction

Guidance = Literal["gaussian", "plug-in", "anchor"]
Product = Callable[[Tensor], Tensor]
"""v -> M v for a matrix M, row by row."""
MOST_CELLS, MOST_NUMBERS = 512, 5_000_000  # of values whose covariance is held, and of what they see of the fields
EARLY = 0.5  # signal beside noise, alpha / sigma, up to which V is that of the moments
CELLS_A_ROW = 8  # of values, beyond which their covariance costs more than the passes it saves
PROBES = 8  # random signs from which a diagonal is estimated


class Observations(Protocol):
    """What guidance needs to know of observations y of z through A, with noise of covariance R."""

    values: Tensor

    @property
    def is_gaussian(self) -> bool: ...  # noqa: D102

    @property
    def is_linear(self) -> bool: ...  # noqa: D102

    def apply(self, z: Tensor) -> Tensor: ...  # noqa: D102

    def tangent(self, z: Tensor, direction: Tensor) -> Tensor: ...  # noqa: D102

    def pullback(self, z: Tensor | None, v: Tensor) -> Tensor: ...  # noqa: D102

    @property
    def noise_variance(self) -> Tensor: ...  # noqa: D102

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
    - ``anchor``: zhat + lambda(t) (phi(y) - zhat) with phi the pseudo-inverse of A and lambda = alpha^2 / (alpha^2 + sigma^2)
      on the pixels that are seen: the hand-set pull of paper 000, which leaves its schedule open.

    Where y is not Gaussian in what it sees, each value gives way to the Gaussian site that matches the moments of its tilted
    density under N(A zhat, diag(A V A')) (``gaussian`` and ``plug-in``); for operators that are not linear, A is the derivative
    at zhat.

    Parameters
    ----------
    prior : Denoiser
        Of fields (n, d, *shape).
    observations : Observations
    how : {"gaussian", "plug-in", "anchor"}
    moments : Denoiser, optional
        Gaussian, of the same fields. Its V, which is the same for every z_t, preconditions the solver where there are no more
        than 512 values, and 8 a row, all Gaussian; and it stands in for the prior's: in rows where that is no covariance, as
        a network's Jacobian can have a negative direction, in which A V A' + R is nearly 0 and the pull without bound; and at
        early times (alpha < sigma / 2), when z_t says so little of z that V is hardly more than the prior's covariance, while
        sigma^2 / alpha makes much of a Jacobian's errors, and the solver would need many passes.
    passes : int
        Most steps of conjugate gradients for (A V A' + R)^-1. Each costs one product with V.
    tolerance : float
        At which they end: the residual's norm as a share of the right-hand side's, in every row, both in units of the noise.

    Attributes
    ----------
    worst_residual : float
        Largest share of a right-hand side that the solver has left so far.

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
        moments: Denoiser | None = None,
        passes: int = 50,
        tolerance: float = 1e-3,
    ) -> None:
        if how not in get_args(Guidance):
            raise ValueError(f"unknown guidance {how!r}: choose one of {', '.join(get_args(Guidance))}")
        self.prior, self.observations, self.how, self.moments = prior, observations, how, moments
        self.passes, self.tolerance, self.worst_residual = passes, tolerance, 0.0
        self.schedule = prior.schedule
        self._rows = self._refused = 0

    @property
    def refused_share(self) -> float:
        """Share of all rows so far, at all times, where V was no covariance: moments stood in, or without them the pull was cut
        short. 0 before the first row.
        """
        return self._refused / max(1, self._rows)

    def __call__(self, x_t: Tensor, t: Tensor | float) -> Prediction:
        """One pass of the prior's denoiser, and one product with its Jacobian a pass of the solver."""
        if self.how == "anchor":
            found = self.prior(x_t, t)
            phi = self.observations.pseudo_inverse().to(found.data)
            pull = found.alpha.square() / (found.alpha.square() + found.sigma.square())
            data = torch.where(phi.isnan(), found.data, torch.lerp(found.data, phi.nan_to_num(), pull))
        else:
            found, covariance_times = self._linearised(x_t, t)
            data, refused = self._pulled(found.data, covariance_times, self._preconditioner(x_t, t))
            rows = refused.nonzero()[:, 0]
            self._rows, self._refused = self._rows + len(refused), self._refused + len(rows)
            if len(rows) and self.moments is not None:
                when = t[rows] if isinstance(t, Tensor) and t.ndim else t
                instead = self.moments.linearised(x_t[rows], when)[1]
                data[rows] = self._pulled(found.data[rows], instead)[0]
        return Prediction.of(data, "data", x_t, found.alpha, found.sigma)

    def _linearised(self, x_t: Tensor, t: Tensor | float) -> tuple[Prediction, Product]:
        """As of the prior; its V that of the moments at times when nearly all is noise."""
        if self.moments is not None and self.moments is not self.prior:
            alpha, sigma = self.levels(x_t, t)
            if bool((alpha < EARLY * sigma).all()):
                return self.prior(x_t, t), self.moments.linearised(x_t, t)[1]
        return self.prior.linearised(x_t, t)

    def _pulled(
        self, zhat: Tensor, covariance_times: Product, precondition: Product | None = None
    ) -> tuple[Tensor, Tensor]:
        """zhat + V A' (A V A' + R)^-1 (y - A zhat), or with R^-1, and the rows where V is no covariance."""
        seen, y, variance = self.observations.apply(zhat), self.observations.values.to(zhat), None

        def spread(v: Tensor) -> Tensor:
            return covariance_times(self.observations.pullback(zhat, v))

        if not self.observations.is_gaussian:
            own = self._diagonal(lambda v: self.observations.tangent(zhat, spread(v)), seen)
            y, variance = self.observations.sites(seen, own)

        # Solved in units of each cell's noise: sites that say next to nothing have variances a million times those of others,
        # and values as far off, which else would be all that counts.
        unit = (self.observations.noise_variance.to(zhat) if variance is None else variance).sqrt()
        data = moved = zhat

        def scaled_covariance_times(v: Tensor) -> Tensor:
            nonlocal moved
            if self.how == "plug-in":
                return torch.zeros_like(v)
            moved = spread(v / unit)
            return self.observations.tangent(zhat, moved) / unit

        def go_along(step: Tensor) -> None:
            nonlocal data
            data = data + step.reshape(-1, *[1] * (zhat.ndim - 1)) * moved

        weights, left, refused = conjugate_gradients(
            scaled_covariance_times,
            lambda v: self.observations.noise_times(v / unit, variance) / unit,
            (y - seen) / unit,
            self.passes,
            self.tolerance,
            None if precondition is None else lambda v: unit * precondition(unit * v),
            None if self.how == "plug-in" else go_along,
        )
        if not bool(refused.all()):
            self.worst_residual = max(self.worst_residual, float(left[~refused].max()))
        return (zhat + spread(weights / unit) if self.how == "plug-in" else data), refused

    def _preconditioner(self, x_t: Tensor, t: Tensor | float) -> Product | None:
        """v -> (A V A' + R)^-1 v with the V of the moments, where it can be had and is worth it."""
        cells = len(self.observations.values)
        linear = self.observations.is_gaussian and self.observations.is_linear
        if (
            self.moments is None
            or self.how != "gaussian"
            or not linear
            or cells > min(MOST_CELLS, CELLS_A_ROW * len(x_t))
            or torch.as_tensor(t).ndim
        ):
            return None
        unit = torch.eye(cells, dtype=x_t.dtype, device=x_t.device)
        fields = self.observations.pullback(None, unit)
        covariance_times = self.moments.linearised(torch.zeros_like(fields), t)[1]
        seen = self.observations.apply(covariance_times(fields)).double()
        total = 0.5 * (seen + seen.mT) + self.observations.noise_times(unit).double()
        factor, failed = torch.linalg.cholesky_ex(total)
        if int(failed):
            return None
        inverse = torch.cholesky_inverse(factor).to(x_t)
        return lambda v: v @ inverse

    def _diagonal(self, times: Callable[[Tensor], Tensor], like: Tensor) -> Tensor:
        """The diagonal (n, M) of a matrix known by its products, from random signs (Bekas, Kokiopoulou and Saad 2007).

        The signs are the same at every call, so that a sampler sees one smooth denoiser.
        """
        generator = torch.Generator(like.device).manual_seed(0)
        total = torch.zeros_like(like)
        for _ in range(PROBES):
            signs = torch.randint(0, 2, like.shape[1:], generator=generator, device=like.device).to(like) * 2 - 1
            total += signs * times(signs.expand_as(like))
        return (total / PROBES).clamp(min=1e-6)


def conjugate_gradients(
    covariance_times: Product,
    noise_times: Product,
    right: Tensor,
    passes: int,
    tolerance: float,
    precondition: Product | None = None,
    go_along: Callable[[Tensor], None] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Solve (C + R) w = right for every row of right (n, m); C and R symmetric, known by their products.

    Ends when every row's residual is below ``tolerance`` times the norm of its right-hand side, or after ``passes``. A row that
    is solved stays as it is, and so does one that meets a direction in which C is negative, as no covariance is.
    ``precondition`` is the product with a symmetric matrix near (C + R)^-1. ``go_along`` is told the step (n, 1) of each pass
    along the direction last given to ``covariance_times``: what is a linear function of w, and was computed for that direction
    anyway, need not be computed for w once more.

    Returns
    -------
    w : Tensor (n, m)
    left : Tensor (n,)
        Norm of each row's residual as a share of its right-hand side's.
    refused : Tensor of bool (n,)
        Rows where C was negative.
    """
    precondition = precondition or (lambda v: v)
    w, residual = torch.zeros_like(right), right
    direction = precondition(residual)
    first = size = residual.square().sum(1, keepdim=True)
    along = (residual * direction).sum(1, keepdim=True)
    going, refused = size > 0, torch.zeros_like(size, dtype=torch.bool)
    one = torch.ones_like(size)  # divides rows at rest, whose own divisors may be 0 and would make gradients NaN
    for _ in range(passes):
        if not bool(going.any()):
            break
        of_covariance, of_noise = covariance_times(direction), noise_times(direction)
        refused |= going & ((direction * of_covariance).sum(1, keepdim=True) < 0)
        going = going & ~refused
        product = of_covariance + of_noise
        step = torch.where(going, along / (direction * product).sum(1, keepdim=True).where(going, one), 0.0)
        w, residual = w + step * direction, residual - step * product
        if go_along is not None:
            go_along(step)
        improved = precondition(residual)
        before, along = along, (residual * improved).sum(1, keepdim=True)
        direction = torch.where(going, improved + along / before.where(going, one) * direction, 0.0)
        size = residual.square().sum(1, keepdim=True)
        going = going & (size > tolerance**2 * first)
    left = (size / first.where(first > 0, torch.ones_like(first))).detach().sqrt()
    return w, left[:, 0], refused[:, 0]
