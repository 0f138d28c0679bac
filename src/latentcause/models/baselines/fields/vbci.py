"""VBCI: which hazards are present in every pixel, from prior maps and one map of damage."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from latentcause.data.gridded_observations import GriddedObservations
from latentcause.data.labels import listing
from latentcause.graph import CausalGraph
from latentcause.models.baselines.fields.hazard_network import HazardNetwork, HazardWeights
from latentcause.observation import BernoulliError, LinearOperator, LogNormalError, Observation
from latentcause.posteriors import from_draws
from latentcause.progress import progress

if TYPE_CHECKING:
    import xarray

STEEPEST_PRIOR = 6.0  # log odds of prior maps are cut off here, as the authors do
AT_ONCE = 2**20  # draws of pixels


class VBCI(BaseEstimator):
    """Variational Bayesian causal inference of binary hazards, pixel by pixel (Xu, Dimasaka, Wald and Noh 2022).

    S. Xu et al., Seismic multi-hazard and impact estimation via causal inference from satellite imagery, Nature Communications
    13, 7793. Landslides and liquefaction, whose prior maps give log odds alpha, make building damage more likely, and all
    raise a damage proxy y: see `HazardNetwork` for the model. Mean-field updates of all pixels take turns with the weights
    that are best for them, until the evidence bound stays. Where this differs from the authors' code:

    - updates use all pixels, and weights are the exact optimum of each turn, instead of stochastic gradient steps: the bound
      never falls;
    - the Gaussian leak of each hazard is its intercept alone: the authors' bound, - log(1 + exp(a + w^2 / 2)), is largest where
      the weight w of the leak's disturbance is 0;
    - no pixel is declared beforehand to have one hazard only, and no penalty forbids two;
    - prior maps hold chances: `GroundFailure` turns the areas of the ground failure models into them, with the authors' formulas,
      and `area_of_chance` turns the posterior back.

    It knows no neighbours: a pixel is inferred from its own values alone.

    Parameters
    ----------
    graph : CausalGraph
        One node without children is the proxy; nodes without parents have prior maps; the others are hazards that follow from
        their parents.
    where : mapping from hazard to bool array (*shape), optional
        Where it is possible at all, such as building damage where there is a building; everywhere if not given.
    max_rounds : int
    tolerance : float
        The rounds end when one gains less, in nats per pixel.

    Attributes
    ----------
    probabilities_ : xarray.Dataset
        q: the posterior probability of each hazard in every pixel.
    weights_ : HazardWeights
    bounds_ : list of float
        On log p(y), in nats, before the first and after each round.
    observations_ : GriddedObservations

    Examples
    --------
    >>> import numpy as np, latentcause as lc
    >>> from latentcause.models.baselines.fields import VBCI
    >>> from latentcause.observation import BernoulliError, LogNormalError, Observation
    >>> rng = np.random.default_rng(0)
    >>> chance = rng.uniform(0.05, 0.6, 2000)
    >>> proxy = np.exp(1.5 * (rng.random(2000) < chance) + 0.3 * rng.normal(size=2000))
    >>> graph = lc.CausalGraph.from_string("landslide -> proxy")
    >>> seen = {"landslide": Observation(chance, noise=BernoulliError()), "proxy": Observation(proxy, noise=LogNormalError(1))}
    >>> model = VBCI(graph).fit(lc.GriddedObservations(graph, (2000,), seen))
    >>> round(model.weights_.effect["landslide", "proxy"], 1)
    1.5
    """

    def __init__(
        self,
        graph: CausalGraph,
        *,
        where: Mapping[str, Any] | None = None,
        max_rounds: int = 500,
        tolerance: float = 1e-6,
    ) -> None:
        self.graph = graph
        self.where = where
        self.max_rounds = max_rounds
        self.tolerance = tolerance

    def fit(self, observations: GriddedObservations) -> Self:
        """Find weights and probabilities together.

        Parameters
        ----------
        observations : GriddedObservations
            Of the proxy: values of single pixels with a `LogNormalError`, whose deviation is learned; pixels may be missing. Of
            each root: chances in [0, 1] through a linear operator, with a `BernoulliError`, whose slope and offset are learned. A
            pixel takes the mean of the chances of the cells that see it, by their shares of it. As with the authors, log odds are
            cut off at -6 and 6, and where all prior maps are 0 (water) nothing is possible.

        Raises
        ------
        ValueError
            For a graph without one proxy or without a root, observations that are missing, of other nodes or of another kind, a
            root's pixel that no cell sees or that is possible nowhere, and masks of another shape or node.
        """
        observations.validate_for(self.graph)
        if self.max_rounds < 1:
            raise ValueError(f"max_rounds is {self.max_rounds}: give at least 1")
        self._network = self._built(observations)
        weights, q = self._network.start()
        self.bounds_ = [self._network.bound(weights, q)]
        with progress("VBCI", self.max_rounds, "bound") as report:
            for number in range(1, self.max_rounds + 1):
                q = self._network.updated_chances(weights, q)
                weights = self._network.updated_weights(weights, q)
                self.bounds_.append(self._network.bound(weights, q))
                report(number, self.bounds_[-1])
                if self.bounds_[-1] - self.bounds_[-2] < self.tolerance * q.shape[1]:
                    break
        self.weights_: HazardWeights = weights
        maps = q.reshape(1, len(q), *observations.shape)
        self.probabilities_ = from_draws(maps, self._network.hazards, observations.grid).isel(sample=0, drop=True)
        self.observations_ = observations
        return self

    def sample_posterior(self, n: int, *, generator: torch.Generator | int) -> xarray.Dataset:
        """n draws of q: maps of 0 and 1 for each hazard, and of the proxy its median without noise, exp(w_y + sum w_hy z_h).

        Raises
        ------
        ValueError
            For n below 1.
        """
        if not hasattr(self, "observations_"):
            raise NotFittedError("this VBCI is not fitted yet: call fit(observations) first")
        if n < 1:
            raise ValueError(f"n is {n}: give the number of samples to draw")
        generator = generator if isinstance(generator, torch.Generator) else torch.Generator().manual_seed(generator)
        network, weights, shape = self._network, self.weights_, self.observations_.shape
        log_y = np.full((n, *shape), weights.intercept[network.map_name])
        drawn: dict[str, np.ndarray] = {}
        for h in network.hazards:
            chance = torch.from_numpy(self.probabilities_[h].to_numpy())
            rows = max(1, AT_ONCE // math.prod(shape))
            parts = [
                torch.rand((min(rows, n - first), *shape), generator=generator, dtype=chance.dtype) < chance
                for first in range(0, n, rows)
            ]
            drawn[h] = torch.cat(parts).numpy().astype(np.float32)
            if h in network.shows:
                log_y += weights.effect[h, network.map_name] * drawn[h]
        drawn[network.map_name] = np.exp(log_y).astype(np.float32)
        return from_draws(
            np.stack([drawn[node] for node in self.graph.nodes], 1), self.graph.nodes, self.observations_.grid
        )

    # --- inside ------------------------------------------------------------------------------------------------------

    def _built(self, observations: GriddedObservations) -> HazardNetwork:
        graph = self.graph
        ends = [node for node in graph.nodes if not graph.children(node)]
        if len(ends) != 1 or not graph.parents(ends[0]):
            raise ValueError(f"the graph ends in {listing(ends)}: give one proxy that all hazards lead to")
        proxy = ends[0]
        hazards = [node for node in graph.topological_order if node != proxy]
        unknown = [node for node in self.where or {} if node not in hazards]
        if unknown:
            raise ValueError(f"where names {listing(unknown)}, no hazard of the graph (hazards: {listing(hazards)})")
        pixels = math.prod(observations.shape)
        possible = np.stack([self._possible(h, observations.shape) for h in hazards])
        log_odds, anything = {}, np.zeros(pixels, dtype=bool)
        for h in hazards:
            if graph.parents(h):
                if any(name == h for name, _ in observations.per_node):
                    raise ValueError(f"node {h!r} has parents and an observation: only roots have prior maps")
                continue
            chance = _chances(h, _only(observations, h), pixels)
            if not chance.any():
                raise ValueError(f"node {h!r}: its prior map is 0 everywhere: leave it out")
            anything |= chance > 0
            clipped = np.clip(chance, 1e-12, 1 - 1e-12)
            log_odds[h] = np.clip(np.log(clipped / (1 - clipped)), -STEEPEST_PRIOR, STEEPEST_PRIOR)
        possible &= anything
        if not possible.any(1).all():
            raise ValueError(f"node {hazards[possible.any(1).argmin()]!r} is possible only where all prior maps are 0")
        return HazardNetwork(
            {h: graph.parents(h) for h in hazards},
            tuple(h for h in hazards if h in graph.parents(proxy)),
            proxy,
            log_odds,
            possible,
            _log_values(proxy, _only(observations, proxy), pixels),
        )

    def _possible(self, h: str, shape: tuple[int, ...]) -> np.ndarray:
        mask = np.asarray((self.where or {}).get(h, np.ones(shape, dtype=bool)))
        if mask.shape != shape or mask.dtype != bool:
            raise ValueError(
                f"where[{h!r}] has shape {mask.shape} and type {mask.dtype}: give bool of the fields' shape {shape}"
            )
        if not mask.any():
            raise ValueError(f"where[{h!r}] is true in no pixel: leave the hazard out")
        return mask.ravel()


def _only(observations: GriddedObservations, node: str) -> Observation:
    own = [observation for name, observation in observations.per_node if name == node]
    if len(own) != 1:
        raise ValueError(f"node {node!r} has {len(own)} observations: it needs one")
    return own[0]


def _chances(node: str, own: Observation, pixels: int) -> np.ndarray:
    """The prior map in every pixel (pixels,)."""
    if not isinstance(own.noise, BernoulliError) or not isinstance(own.operator, LinearOperator):
        raise ValueError(f"node {node!r}: give chances seen through a linear operator, with a BernoulliError")
    shares = own.operator.adjoint(torch.ones(own.operator.size, dtype=torch.float64)).numpy().ravel()
    total = own.operator.adjoint(torch.as_tensor(own.values, dtype=torch.float64)).numpy().ravel()
    if (shares <= 0).any():
        raise ValueError(
            f"node {node!r}: no cell of its prior map sees {(shares <= 0).sum()} of {pixels} pixels: cut the fields to the map"
        )
    return total / shares


def _log_values(node: str, own: Observation, pixels: int) -> np.ndarray:
    """log y in every pixel (pixels,), NaN where it was not seen."""
    if not isinstance(own.noise, LogNormalError) or not isinstance(own.operator, LinearOperator):
        raise ValueError(f"node {node!r}: give values of single pixels with a LogNormalError")
    matrix = sparse.csr_matrix(own.operator.matrix)
    if (np.diff(matrix.indptr) != 1).any() or (matrix.data != 1).any() or len(set(matrix.indices)) < matrix.shape[0]:
        raise ValueError(f"node {node!r}: each value must be that of one pixel, not a mean over several")
    log_y = np.full(pixels, np.nan)
    log_y[matrix.indices] = np.log(own.values)
    if not np.nanstd(log_y) > 0:
        raise ValueError(f"node {node!r}: all its values are the same, so that they show no hazard")
    return log_y
