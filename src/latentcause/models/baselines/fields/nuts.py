"""The posterior of linked fields by the no-U-turn sampler."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import torch
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from latentcause.data.gridded_observations import GriddedObservations
from latentcause.graph import CausalGraph
from latentcause.models.baselines.fields.log_posterior import DensityPrior, LogPosterior, pyro
from latentcause.posteriors import from_draws
from latentcause.training import seeded

if TYPE_CHECKING:
    import xarray


class NUTS(BaseEstimator):
    """Draws from p(z | y) for a prior with a density, by the no-U-turn sampler of Pyro: slow, and right where chains mix.

    Hoffman and Gelman, The no-U-turn sampler, 2014. Chains run in the coordinates of `LogPosterior`, and adapt
    a diagonal mass matrix.

    Parameters
    ----------
    graph : CausalGraph
    prior : StructuralFields, or other object with ``sample`` and ``log_density``
    warm_up : int
        Steps of each chain before its draws count.
    chains : int
        One after the other, from starts of their own: the draws of several chains show whether they mix.
    thin : int
        Every so manieth draw is kept.

    Attributes
    ----------
    log_posterior_ : LogPosterior
    observations_ : GriddedObservations
    """

    def __init__(
        self,
        graph: CausalGraph,
        prior: DensityPrior,
        *,
        warm_up: int = 500,
        chains: int = 2,
        thin: int = 1,
        seed: int = 0,
    ) -> None:
        self.graph = graph
        self.prior = prior
        self.warm_up = warm_up
        self.chains = chains
        self.thin = thin
        self.seed = seed

    def fit(self, observations: GriddedObservations) -> Self:
        """Take in the observations; the work is done by `sample_posterior`.

        Raises
        ------
        ValueError
            For observations of other nodes, a prior without a density or of another shape.
        """
        observations.validate_for(self.graph)
        self.log_posterior_ = LogPosterior(self.prior, observations, self.seed)
        self.observations_ = observations
        return self

    def sample_posterior(self, n: int, *, generator: torch.Generator | int) -> xarray.Dataset:
        """n draws, chain after chain, as `SVGDM.sample_posterior` gives them.

        Raises
        ------
        ImportError
            Without Pyro.
        """
        if not hasattr(self, "log_posterior_"):
            raise NotFittedError("this NUTS is not fitted yet: call fit(observations) first")
        pyro()
        from pyro import infer

        target = self.log_posterior_
        generator = generator if isinstance(generator, torch.Generator) else torch.Generator().manual_seed(generator)
        kept = []
        for _ in range(self.chains):
            start = {"u": target.start(generator)}
            kernel = infer.NUTS(potential_fn=lambda at: -target(at["u"][None])[0], full_mass=False)
            each = -(-n // self.chains) * self.thin
            with seeded(int(torch.randint(2**31, (), generator=generator))):
                chain = infer.MCMC(kernel, each, self.warm_up, initial_params=start, disable_progbar=True)
                chain.run()
            kept.append(chain.get_samples()["u"][:: self.thin])
        z = target.fields(torch.cat(kept)[:n])
        return from_draws(z.numpy(), self.graph.nodes, self.observations_.grid)
