"""Multimodal autoencoders as posteriors of fields: one latent vector shared by all nodes, whose observations are its views."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any, Self, final

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from torch import Tensor

from latentcause.data.gridded_observations import GriddedObservations
from latentcause.graph import CausalGraph
from latentcause.models.baselines.fields.shared_latent_network import SharedLatentNetwork, Subset
from latentcause.posteriors import from_draws
from latentcause.threads import threads_for
from latentcause.training import Recipe, resolve_device, seeded, train

if TYPE_CHECKING:
    import xarray

ROWS_AT_ONCE = 4096
MOST_VIEWS = 8  # of MoPoE


class SharedLatent(ABC, BaseEstimator):
    """Posterior of fields through one latent vector u that knows nothing of the graph: `JMVAE`, `MMVAE` and `MoPoE`.

    Fields are drawn from the prior and observed by the sensors of the observations given to ``fit``; what the sensors of one
    node say is one view. Encoders of the views and a decoder of all fields at full resolution are trained on these pairs by
    the bound of `SharedLatentNetwork`. A posterior is drawn from the views that are present: u from q(u | views), then the fields
    from N(f(u), s^2), with noise that is independent between pixels.

    What it costs to take linked fields for views of one vector is seen beside `SVGDM`, which is trained on the same draws.

    Parameters
    ----------
    graph : CausalGraph
        Names the nodes; its edges are not used.
    prior : GaussianFields, StructuralFields, other object with ``sample(n, generator)``, or array of draws (n, d, *shape)
        Of the clean fields, nodes in the order of the graph.
    latents, hidden : int
        Length of u, and width of the networks.
    draws : int
        From the prior, to learn from, where it is no array.
    epochs, batch_size, learning_rate : training
    device : str
    seed : int

    Attributes
    ----------
    views_ : tuple of str
        Nodes that were observed, in the order of the encoders.
    network_ : SharedLatentNetwork
    history_ : list of dict
        ``epoch``, ``train_elbo`` and ``held_out_elbo``: bounds on log p(z), in nats per draw of all fields.
    observations_ : GriddedObservations
    """

    def __init__(
        self,
        graph: CausalGraph,
        prior: Any,
        *,
        latents: int = 32,
        hidden: int = 128,
        draws: int = 8192,
        epochs: int = 30,
        batch_size: int = 128,
        learning_rate: float = 1e-3,
        device: str = "auto",
        seed: int = 0,
    ) -> None:
        self.graph = graph
        self.prior = prior
        self.latents = latents
        self.hidden = hidden
        self.draws = draws
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.device = device
        self.seed = seed

    @abstractmethod
    def _trained(self, views: int) -> list[Subset]:
        """The components of q in training, where all views are present."""

    @abstractmethod
    def _given(self, present: Subset) -> list[Subset]:
        """The components of q for the views that are present."""

    def _options(self) -> dict[str, Any]:
        """Further arguments of the network."""
        return {}

    def fit(self, observations: GriddedObservations) -> Self:
        """Learn encoders of what these sensors say, whatever their values, and the decoder.

        Raises
        ------
        ValueError
            Where observations, graph and prior do not belong together, for draws that are not finite, and for as many latents as
            there are not pixels or draws.
        """
        observations.validate_for(self.graph)
        z = self._drawn()
        wanted = (len(self.graph), *observations.shape)
        if tuple(z.shape[1:]) != wanted:
            raise ValueError(
                f"the prior's fields have the shape {tuple(z.shape[1:])}, the observations are of {wanted}"
            )
        if not z.isfinite().all():
            raise ValueError(f"{int((~z.isfinite()).sum())} numbers of the prior's draws are not finite")
        if not 1 <= self.latents <= min(len(z), math.prod(wanted)):
            raise ValueError(
                f"latents is {self.latents}: give 1 to {min(len(z), math.prod(wanted))}, as there are {len(z)} draws of "
                f"{math.prod(wanted)} numbers"
            )
        self.views_ = tuple(dict.fromkeys(node for node, _ in observations.per_node))
        views = simulated_views(observations, z, torch.Generator().manual_seed(self.seed))
        flat = z.flatten(1)
        self._level, self._unit = flat.mean(0), _per_pixel(z.std(dim=(0, *range(2, z.ndim))), z)
        self._view_moments = [(view.mean(0), view.std(0).clamp(min=1e-12)) for view in views]
        rows = (((flat - self._level) / self._unit).float(), *self._scaled(views))
        with seeded(self.seed):
            cells, subsets = [view.shape[1] for view in views], self._trained(len(views))
            self.network_ = SharedLatentNetwork(
                cells, flat.shape[1], self.latents, self.hidden, subsets, **self._options()
            )
        recipe = Recipe(
            self.epochs, self.batch_size, self.learning_rate, schedule="cosine", average=0.99, clip_norm=10.0
        )
        with threads_for(0):
            self.network_.start_at(rows[0], rows[1:])
            result = train(
                self.network_,
                self.network_.negative_elbo,
                rows,
                recipe,
                seed=self.seed,
                draw=self.network_.draw,
                device=self.device,
                label=type(self).__name__,
            )
        self.network_.eval().requires_grad_(False)
        scale = float(self._unit.log().sum())
        self.history_ = [
            {"epoch": e["epoch"], "train_elbo": -e["train_loss"] - scale, "held_out_elbo": -e["held_out_loss"] - scale}
            for e in result.history
        ]
        self.observations_ = observations
        return self

    @torch.no_grad()
    def sample_posterior(
        self, n: int, *, generator: torch.Generator | int, observations: GriddedObservations | None = None
    ) -> xarray.Dataset:
        """n draws of all fields given the views that are present, as `SVGDM.sample_posterior` gives them.

        Parameters
        ----------
        n : int
        generator : torch.Generator or int
        observations : GriddedObservations, optional
            Others by the same sensors than those of `fit`; nodes may be missing.

        Raises
        ------
        ValueError
            For n below 1, and observations of other nodes or by other sensors.
        """
        if not hasattr(self, "observations_"):
            raise NotFittedError(f"this {type(self).__name__} is not fitted yet: call fit(observations) first")
        if n < 1:
            raise ValueError(f"n is {n}: give the number of samples to draw")
        observations = self.observations_ if observations is None else observations
        generator = generator if isinstance(generator, torch.Generator) else torch.Generator().manual_seed(generator)
        device, network = resolve_device(self.device), self.network_.to(resolve_device(self.device))
        views, present = self._present(observations)
        components = [
            network.posterior(subset, [v if v is None else v.to(device) for v in views]) for subset in present
        ]
        which = torch.randint(len(components), (n,), generator=generator, device=generator.device).cpu()
        mean = torch.cat([q.mean for q in components]).cpu()[which]
        sd = torch.cat([q.precision.rsqrt() for q in components]).cpu()[which]
        u = mean + sd * _normal(sd, generator)
        parts = [network.decode(part.to(device)).cpu() for part in u.split(ROWS_AT_ONCE)]
        z = torch.cat(parts)
        z = z + (0.5 * network.log_noise.cpu()).exp() * _normal(z, generator)
        fields = (self._level + self._unit * z.double()).float().reshape(n, len(self.graph), *observations.shape)
        return from_draws(fields.numpy(), self.graph.nodes, observations.grid)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _drawn(self) -> Tensor:
        if isinstance(self.prior, (np.ndarray, Tensor)):
            return torch.as_tensor(self.prior, dtype=torch.float64)
        if not hasattr(self.prior, "sample"):
            raise ValueError(f"the prior is a {type(self.prior).__name__}: give fields to draw from, or draws")
        return torch.as_tensor(self.prior.sample(self.draws, torch.Generator().manual_seed(self.seed))).double()

    def _scaled(self, views: Sequence[Tensor]) -> list[Tensor]:
        """Views with columns of mean 0 and variance 1 over the draws of the prior."""
        return [((view - m) / s).float() for view, (m, s) in zip(views, self._view_moments, strict=True)]

    def _present(self, observations: GriddedObservations) -> tuple[list[Tensor | None], list[Subset]]:
        """The views, None where one is missing, and the components of q."""
        observations.validate_for(self.graph)
        self._check_sensors(observations)
        found = dict(zip(_nodes(observations), _split(observations, observations.values[None]), strict=True))
        views: list[Tensor | None] = []
        for node, (m, s) in zip(self.views_, self._view_moments, strict=True):
            views.append(((found[node] - m) / s).float() if node in found else None)
        return views, self._given(tuple(v for v, view in enumerate(views) if view is not None))

    def _check_sensors(self, observations: GriddedObservations) -> None:
        """The same sensors say the same of the same field, noise included; others do not."""
        if observations.shape != self.observations_.shape:
            raise ValueError(
                f"the model is of fields {self.observations_.shape}, the observations of {observations.shape}"
            )
        field = torch.randn(observations.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        known, found = (_readings(each, field) for each in (self.observations_, observations))
        for node, reading in found.items():
            if node not in known:
                raise ValueError(f"node {node!r} was not observed in the fit: fit again, or leave it out")
            if len(reading) != len(known[node]) or not torch.allclose(reading, known[node]):
                raise ValueError(
                    f"node {node!r} is observed by other sensors than in the fit, which the encoder does not know: fit again"
                )


@final
class JMVAE(SharedLatent):
    """`SharedLatent` with an encoder that sees all views together, and single ones drawn to it for when views are missing.

    Suzuki, Nakayama and Matsuo, Joint multimodal learning with deep generative models, 2016 (JMVAE-kl, eq. 8). Where some of
    three or more views are missing, q(u | those present) is the product of the prior and of what each single encoder adds to it.

    Parameters
    ----------
    pull : float
        alpha, the weight of sum_v KL(q(u | all views) || q(u | view v)). Others as in `SharedLatent`.
    """

    def __init__(
        self,
        graph: CausalGraph,
        prior: Any,
        *,
        pull: float = 0.1,
        latents: int = 32,
        hidden: int = 128,
        draws: int = 8192,
        epochs: int = 30,
        batch_size: int = 128,
        learning_rate: float = 1e-3,
        device: str = "auto",
        seed: int = 0,
    ) -> None:
        super().__init__(
            graph,
            prior,
            latents=latents,
            hidden=hidden,
            draws=draws,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            device=device,
            seed=seed,
        )
        self.pull = pull

    def _trained(self, views: int) -> list[Subset]:
        return [tuple(range(views))]

    def _given(self, present: Subset) -> list[Subset]:
        return [present]

    def _options(self) -> dict[str, Any]:
        if not self.pull > 0:
            raise ValueError(f"pull is {self.pull}: give a positive number, or encoders of single views learn nothing")
        return {"joint": True, "pull": self.pull}


@final
class MMVAE(SharedLatent):
    """`SharedLatent` with q(u | views) = 1 / M sum_v q(u | view v): each view alone must tell all fields.

    Shi, Siddharth, Paige and Torr, Variational mixture-of-experts autoencoders for multi-modal deep generative models, 2019,
    with Gaussian experts and one draw from each (their stratified bound). A posterior mixes the views that are present.
    """

    def _trained(self, views: int) -> list[Subset]:
        return [(v,) for v in range(views)]

    def _given(self, present: Subset) -> list[Subset]:
        return [(v,) for v in present]


@final
class MoPoE(SharedLatent):
    """`SharedLatent` with q(u | views) the mean, over all subsets of views but the empty one, of the products of their experts.

    Sutter, Daunhawer and Vogt, Generalized multimodal ELBO, 2021 (MoPoE-VAE). The product of the views that are present is
    what a posterior is drawn from. The subsets are 2^M - 1 and training grows with that, so that M is at most 8.
    """

    def _trained(self, views: int) -> list[Subset]:
        if views > MOST_VIEWS:
            raise ValueError(
                f"{views} observed nodes have {2**views - 1} subsets: MoPoE takes {MOST_VIEWS} views at most"
            )
        return [s for size in range(1, views + 1) for s in combinations(range(views), size)]

    def _given(self, present: Subset) -> list[Subset]:
        return [present]


def simulated_views(observations: GriddedObservations, z: Tensor, generator: torch.Generator) -> list[Tensor]:
    """What the sensors of each observed node would say of fields z (n, d, *shape): (n, m_v), Gaussian values as they are meant."""
    parts: dict[str, list[Tensor]] = {}
    for node, o in observations.per_node:
        assert o.operator is not None  # every one in use has an operator
        seen = o.operator(z[:, observations.nodes.index(node)])
        parts.setdefault(node, []).append(o.noise.target(o.noise.sample(seen, generator)))
    return [torch.cat(own, -1) for own in parts.values()]


def _readings(observations: GriddedObservations, field: Tensor) -> dict[str, Tensor]:
    """What each node's sensors say of one field, with noise that only depends on the node's own."""
    found = {}
    for node in _nodes(observations):
        own = GriddedObservations(
            observations.nodes, observations.grid, {node: [o for name, o in observations.per_node if name == node]}
        )
        z = field.expand(1, len(observations.nodes), *field.shape)
        found[node] = simulated_views(own, z, torch.Generator().manual_seed(0))[0][0]
    return found


def _nodes(observations: GriddedObservations) -> list[str]:
    return list(dict.fromkeys(node for node, _ in observations.per_node))


def _split(observations: GriddedObservations, values: Tensor) -> list[Tensor]:
    """The values (n, M) of each observed node, on the CPU in float64."""
    sizes = [sum(len(o.values) for name, o in observations.per_node if name == node) for node in _nodes(observations)]
    return list(torch.split(values.cpu().double(), sizes, dim=-1))


def _per_pixel(of_node: Tensor, z: Tensor) -> Tensor:
    """One number per node (d,), repeated for its pixels: (d * pixels,)."""
    return of_node.clamp(min=1e-12).repeat_interleave(math.prod(z.shape[2:]))


def _normal(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator, dtype=like.dtype, device=generator.device).cpu()
