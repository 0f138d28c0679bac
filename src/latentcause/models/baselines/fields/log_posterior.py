"""The log density of fields and observations, in coordinates in which the posterior is nearly N(0, I)."""

from __future__ import annotations

from types import ModuleType
from typing import Protocol

import torch
from torch import Tensor

from latentcause.data.gridded_observations import GriddedObservations

DRAWS_PER_NUMBER = 20  # from the prior, for its moments


class DensityPrior(Protocol):
    """`latentcause.fields.StructuralFields`, or another prior that knows its density."""

    def sample(self, n: int, generator: torch.Generator) -> Tensor: ...  # noqa: D102

    def log_density(self, z: Tensor) -> Tensor: ...  # noqa: D102


class LogPosterior:
    """log p(z) + log p(y | z) up to a constant, at z = mean + L u.

    Mean and covariance L L' are those of draws from the prior, conditioned on the observations as if they were Gaussian where
    these are linear and Gaussian themselves: a chain in u needs some ten steps where one in z needs a thousand.

    Parameters
    ----------
    prior : StructuralFields, or other object with ``sample`` and ``log_density``
    observations : GriddedObservations
    seed : int

    Raises
    ------
    ValueError
        For a prior without a density, and one of another shape than the observations.
    """

    def __init__(self, prior: DensityPrior, observations: GriddedObservations, seed: int) -> None:
        if not hasattr(prior, "log_density"):
            raise ValueError(f"the prior is a {type(prior).__name__}, which knows no density: give StructuralFields")
        self.prior, self.observations = prior, observations.to("cpu", torch.float64)
        self.shape = (len(observations.nodes), *observations.shape)
        generator = torch.Generator().manual_seed(seed)
        z = prior.sample(DRAWS_PER_NUMBER * torch.Size(self.shape).numel(), generator).double()
        if tuple(z.shape[1:]) != self.shape:
            raise ValueError(
                f"the prior's fields have the shape {tuple(z.shape[1:])}, the observations are of {self.shape}"
            )
        flat = z.flatten(1)
        self.mean, covariance = flat.mean(0), torch.cov(flat.mT)
        seen = self.observations
        if seen.is_linear and seen.is_gaussian:
            unit = torch.eye(len(seen.values), dtype=torch.float64)
            operator = seen.adjoint(unit).flatten(1)
            gain = torch.linalg.solve(
                operator @ covariance @ operator.mT + seen.noise_times(unit), operator @ covariance
            ).mT
            self.mean = self.mean + gain @ (seen.values - operator @ self.mean)
            covariance = covariance - gain @ operator @ covariance
            covariance = 0.5 * (covariance + covariance.mT)
        self.factor = torch.linalg.cholesky(covariance + 1e-9 * flat.var(0).mean() * torch.eye(flat.shape[1]))

    @property
    def size(self) -> int:
        """Numbers in u."""
        return len(self.mean)

    def fields(self, u: Tensor) -> Tensor:
        """z (n, d, *shape) of u (n, size)."""
        return (self.mean + u @ self.factor.mT).reshape(-1, *self.shape)

    def start(self, generator: torch.Generator) -> Tensor:
        """u (size,) of positive density: a standard normal draw, or that of a draw from the prior, where noises are bounded."""
        u = torch.randn(self.size, generator=generator, dtype=torch.float64)
        if torch.isfinite(self(u[None])).all():
            return u
        z = self.prior.sample(1, generator).double().flatten()
        return torch.linalg.solve_triangular(self.factor, (z - self.mean)[:, None], upper=False)[:, 0]

    def __call__(self, u: Tensor) -> Tensor:
        """(n,) of u (n, size)."""
        z = self.fields(u)
        return self.prior.log_density(z) + self.observations.log_likelihood(z)


def pyro() -> ModuleType:
    """Pyro, or a word on how to get it."""
    try:
        import pyro
    except ImportError as error:
        raise ImportError('this baseline runs on Pyro: pip install "latentcause[bench]"') from error
    module: ModuleType = pyro
    return module
