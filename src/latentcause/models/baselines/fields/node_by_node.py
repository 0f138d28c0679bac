"""The posterior of each field by itself, as if nothing linked them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import torch
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from latentcause.data.gridded_observations import GriddedObservations
from latentcause.graph import CausalGraph
from latentcause.models.svgdm import SVGDM

if TYPE_CHECKING:
    import xarray


class NodeByNode(BaseEstimator):
    """Gaussian-process posterior of every node from its own observations alone: kriging, or the Wiener filter.

    Each field has the mean and covariance that the prior gives it; covariances between fields are taken for 0. What `SVGDM`
    gains on this is what the causal edges bring.

    Parameters
    ----------
    graph : CausalGraph
    prior : as for `SVGDM`
    settings : other arguments of `SVGDM`

    Attributes
    ----------
    model_ : SVGDM
        With the moments as above.
    """

    def __init__(self, graph: CausalGraph, prior: Any, settings: dict[str, Any] | None = None) -> None:
        self.graph = graph
        self.prior = prior
        self.settings = settings

    def fit(self, observations: GriddedObservations) -> Self:
        """Learn the moments, and take in the observations; errors are those of `SVGDM.fit`."""
        model = SVGDM(self.graph, self.prior, **{"scores": "gaussian", **(self.settings or {}), "sees": "all"})
        self.model_ = model.fit(observations)
        self.model_.joint_ = self.model_.joint_.unlinked()
        return self

    def sample_posterior(self, n: int, *, generator: torch.Generator | int) -> xarray.Dataset:
        """n draws, as `SVGDM.sample_posterior` gives them."""
        if not hasattr(self, "model_"):
            raise NotFittedError("this NodeByNode is not fitted yet: call fit(observations) first")
        return self.model_.sample_posterior(n, generator=generator)
