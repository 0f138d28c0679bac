"""The posterior of linked fields as one Gaussian, fitted by variational inference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self, get_args

import torch
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from torch import Tensor

from latentcause.data.gridded_observations import GriddedObservations
from latentcause.graph import CausalGraph
from latentcause.models.baselines.fields.log_posterior import DensityPrior, LogPosterior, pyro
from latentcause.posteriors import from_draws
from latentcause.training import seeded

if TYPE_CHECKING:
    import xarray

Family = Literal["mean_field", "full_rank", "black_box"]


class VariationalFields(BaseEstimator):
    """q(z) = N(m, S) that maximises E_q[log p(z, y) - log q(z)], by stochastic gradients through Pyro.

    Parameters
    ----------
    graph : CausalGraph
    prior : StructuralFields, or other object with ``sample`` and ``log_density``
    family : {"mean_field", "full_rank", "black_box"}
        S diagonal or full, with gradients through the draws (Kucukelbir et al., Automatic differentiation variational
        inference, 2017); or diagonal with gradients of log q alone (Ranganath, Gerrish and Blei, Black box variational
        inference, 2014). Diagonal in z.
    steps, learning_rate, particles : int, float, int
        Of Adam; draws of q for each.
    seed : int

    Attributes
    ----------
    log_posterior_ : LogPosterior
    losses_ : list of float
        Negative ELBO of every step.
    observations_ : GriddedObservations
    """

    def __init__(
        self,
        graph: CausalGraph,
        prior: DensityPrior,
        *,
        family: Family = "full_rank",
        steps: int = 3000,
        learning_rate: float = 0.02,
        particles: int = 16,
        seed: int = 0,
    ) -> None:
        self.graph = graph
        self.prior = prior
        self.family = family
        self.steps = steps
        self.learning_rate = learning_rate
        self.particles = particles
        self.seed = seed

    def fit(self, observations: GriddedObservations) -> Self:
        """Fit q to these observations.

        Raises
        ------
        ImportError
            Without Pyro.
        ValueError
            For observations of other nodes, a prior without a density or of another shape, and an unknown family.
        """
        if self.family not in get_args(Family):
            raise ValueError(f"unknown family {self.family!r}: choose one of {', '.join(get_args(Family))}")
        observations.validate_for(self.graph)
        target = LogPosterior(self.prior, observations, self.seed)
        pyro()
        from pyro import clear_param_store, distributions, factor, param, plate, sample
        from pyro.infer import SVI, Trace_ELBO
        from pyro.optim import ClippedAdam

        # Mean-field families are diagonal in z; the full one is at home in the whitened coordinates.
        root = target.factor if self.family == "full_rank" else target.factor.square().sum(1).sqrt().diag()

        def placed(u: Tensor) -> Tensor:
            return (target.mean + u @ root.mT).reshape(-1, *target.shape)

        # Each number is a site of its own for diagonal families: only then do score-function gradients ignore other particles.
        particles, numbers = plate("particles", self.particles, dim=-2), plate("numbers", target.size, dim=-1)
        full, positive = distributions.constraints.lower_cholesky, distributions.constraints.positive

        def guide() -> None:
            m = param("m", lambda: torch.zeros(target.size, dtype=torch.float64))
            if self.family == "full_rank":
                s = param("s", lambda: torch.eye(target.size, dtype=torch.float64), constraint=full)
                with particles:
                    sample("u", distributions.MultivariateNormal(m, scale_tril=s).expand([self.particles, 1]))
            else:
                s = param("s", lambda: torch.ones(target.size, dtype=torch.float64), constraint=positive)
                with particles, numbers:
                    sample("u", distributions.Normal(m, s).has_rsample_(self.family == "mean_field"))

        def model() -> None:
            flat = distributions.Normal(torch.zeros(target.size, dtype=torch.float64), 1.0).mask(False)
            if self.family == "full_rank":
                with particles:
                    u = sample("u", flat.to_event(1))[:, 0]
            else:
                with particles, numbers:
                    u = sample("u", flat)
            with particles:
                z = placed(u)
                factor("joint", (target.prior.log_density(z) + target.observations.log_likelihood(z))[:, None])

        decay = 0.1 ** (1 / self.steps)
        with seeded(self.seed):
            clear_param_store()
            svi = SVI(model, guide, ClippedAdam({"lr": self.learning_rate, "lrd": decay}), Trace_ELBO())
            self.losses_ = [float(svi.step()) / self.particles for _ in range(self.steps)]
            m, s = param("m").detach(), param("s").detach()
            clear_param_store()
        self._place, self._mean, self._root = placed, m, s if s.ndim == 2 else s.diag()
        self.log_posterior_, self.observations_ = target, observations
        return self

    def sample_posterior(self, n: int, *, generator: torch.Generator | int) -> xarray.Dataset:
        """n draws of q, as `SVGDM.sample_posterior` gives them."""
        if not hasattr(self, "log_posterior_"):
            raise NotFittedError("these VariationalFields are not fitted yet: call fit(observations) first")
        generator = generator if isinstance(generator, torch.Generator) else torch.Generator().manual_seed(generator)
        white = torch.randn((n, len(self._mean)), generator=generator, dtype=torch.float64)
        z = self._place(self._mean + white @ self._root.mT)
        return from_draws(z.numpy(), self.graph.nodes, self.observations_.grid)
