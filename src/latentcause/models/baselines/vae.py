"""Variational autoencoders: the rows of section 6 that fit an explicit prior p(z | a) by amortised inference.

The classes share one implementation; they differ in their prior (``latentcause.models.baselines.prior``) and in
whether the encoder sees the targets a. They maximise the evidence lower bound below Eq. (6.1) of Wu, von Kuegelgen and
Blei with a diagonal Gaussian q(z | x, a), by minibatches, from probabilistic PCA with its axes turned at random. Where
the decoder is linear its columns are reported with unit norm (the scale of the orthonormal model) and latents in units
of x; the latents of the other decoder are in the units of the prior.

Only the SCM prior knows which latent is which. The others recover latents at best up to signs and a permutation, and
matching them to nodes belongs to evaluation (``latentcause.metrics``).
"""

from __future__ import annotations

import warnings
from typing import Any, Literal, final

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor, nn

from latentcause.data import MultiDomainData
from latentcause.graph import CausalGraph
from latentcause.models.base import LatentModel
from latentcause.models.baselines.amortised import AmortisedNetwork
from latentcause.models.baselines.prior import (
    DomainGaussian,
    FactorisedExponential,
    InterventionalSCM,
    StandardNormal,
)
from latentcause.models.interventional_gaussian import DomainMoments, InterventionalGaussian
from latentcause.models.subspace import Subspace, project
from latentcause.training import Recipe, resolve_device, seeded, train

EVALUATION_ROWS = 16384
_ARRAYS = ("latents_", "latent_variances_", "basis_", "spread_", "indicators_", "latent_scales_")
_VALUES = ("noise_variance_", "history_", "converged_", "n_iter_", "unit_", "left_out_")


def _store(
    self: Any,
    graph: CausalGraph,
    *,
    decoder: Literal["linear", "mlp"] = "linear",
    hidden: int = 64,
    rank: int | None = None,
    max_epochs: int = 300,
    batch_size: int = 256,
    learning_rate: float = 3e-3,
    device: str = "auto",
    seed: int = 0,
) -> None:
    """Store the settings."""
    self.graph = graph
    self.decoder = decoder
    self.hidden = hidden
    self.rank = rank
    self.max_epochs = max_epochs
    self.batch_size = batch_size
    self.learning_rate = learning_rate
    self.device = device
    self.seed = seed


def _fit(self: Any, data: MultiDomainData) -> Any:
    """Fit to the data, read in one pass after its moments; only the principal coordinates stay in memory.

    Raises ``ValueError`` for data that cannot carry the latents (also d_x = d_z). Warns where the held-out bound was
    still rising after ``max_epochs``.
    """
    if self.decoder not in ("linear", "mlp"):
        raise ValueError(f'decoder must be "linear" or "mlp", not {self.decoder!r}')
    data.validate_for(self.graph)
    d = len(self.graph.nodes)
    subspace, noise = _compress(data, d, self.rank, self.decoder)
    energy = np.square(subspace.coordinates).mean(axis=0)
    self.unit_ = float(np.sqrt(energy[:d].mean()))
    self.left_out_ = max(subspace.power - energy.sum(), 0.0) / self.unit_**2
    self.basis_, self.spread_ = subspace.basis, np.sqrt(energy) / self.unit_
    targeted = data.indicator(self.graph)
    self.indicators_ = np.unique(targeted, axis=0)
    self.network_ = _network(self)
    coordinates, noise = subspace.coordinates / self.unit_, noise / self.unit_**2
    self.network_.start_at(torch.from_numpy(self._start(data, coordinates[:, :d], noise)).float(), noise)

    c = torch.from_numpy(coordinates.astype(np.float32))
    indicator = torch.from_numpy(targeted[data.domain_index].astype(np.float32))
    result = train(
        self.network_,
        self.network_.negative_elbo,
        (c, indicator),
        Recipe(self.max_epochs, self.batch_size, self.learning_rate),
        seed=self.seed,
        draw=self.network_.draw,
        device=self.device,
        label=type(self).__name__,
    )
    self.history_ = [
        {"epoch": e["epoch"], "train_elbo": -e["train_loss"], "held_out_elbo": -e["held_out_loss"]}
        for e in result.history
    ]
    self.converged_, self.n_iter_ = result.converged, len(result.history)
    if not self.converged_:
        warnings.warn(
            f"{type(self).__name__}: the bound was still rising after {self.max_epochs} epochs; raise max_epochs",
            ConvergenceWarning,
            stacklevel=2,
        )
    self.noise_variance_ = float(self.network_.log_noise.detach().double().exp()) * self.unit_**2
    norms = np.ones(d)
    if self.decoder == "linear":
        norms = torch.linalg.vector_norm(self.network_.decoder_skip.weight.detach().double(), dim=0).cpu().numpy()
    self.latent_scales_ = norms * self.unit_ if self.decoder == "linear" else norms
    self.latents_, self.latent_variances_ = _encode(self, subspace.coordinates, indicator)
    return self


def _posterior(self: Any, data: MultiDomainData) -> tuple[np.ndarray, np.ndarray]:
    """The encoder's means and variances (n, d_z) for ``data``.

    For targets that no domain had in the fit the encoder extrapolates; that is a warning.
    """
    self.check_fitted()
    expected, found = len(self.basis_), data.n_measurements
    if found != expected:
        raise ValueError(f"this {type(self).__name__} was fitted to {expected} measurements, the data have {found}")
    targeted = data.indicator(self.graph)
    if self.network_.conditional:
        known = (targeted[:, None] == self.indicators_).all(axis=2).any(axis=1)
        new = [domain for domain, seen in zip(data.domains, known, strict=True) if not seen]
        if new:
            warnings.warn(
                f"the targets of domain {', '.join(map(repr, new))} were not in the data of the fit: the encoder "
                "extrapolates, and its posteriors there may be far off",
                UserWarning,
                stacklevel=2,
            )
    indicator = torch.from_numpy(targeted[data.domain_index].astype(np.float32))
    return _encode(self, project(data, self.basis_), indicator)


def _fitted_state(self: Any) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """What fitting learned: arrays by name, and values that JSON can hold."""
    self.check_fitted()
    arrays = {name: getattr(self, name) for name in _ARRAYS}
    weights = {f"network.{name}": value.cpu().numpy() for name, value in self.network_.state_dict().items()}
    return arrays | weights, {name: getattr(self, name) for name in _VALUES}


def _restore_state(self: Any, arrays: dict[str, np.ndarray], values: dict[str, Any]) -> None:
    """Set the fitted attributes from what ``fitted_state`` gave."""
    for name in _ARRAYS:
        setattr(self, name, arrays[name])
    for name in _VALUES:
        setattr(self, name, values[name])
    self.network_ = _network(self)
    prefix = "network."
    weights = {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}
    try:
        self.network_.load_state_dict({name: torch.from_numpy(np.array(a)) for name, a in weights.items()})
    except RuntimeError as error:
        raise ValueError(f"these weights do not fit the settings of this {type(self).__name__}: {error}") from None


def _loadings(self: Any) -> np.ndarray:
    """The measurement matrix A (d_x, d_z) with columns of unit norm; there is none with ``decoder="mlp"``."""
    self.check_fitted()
    if self.decoder != "linear":
        raise AttributeError('decoder="mlp" is not linear: it has no loadings_; fit with decoder="linear" to get them')
    weight = self.network_.decoder_skip.weight.detach().double().cpu().numpy()
    return self.basis_ @ (weight / np.linalg.norm(weight, axis=0))


def _compress(data: MultiDomainData, d: int, rank: int | None, decoder: str) -> tuple[Subspace, float]:
    """The principal coordinates that the networks work on, and the noise variance outside the first d of them."""
    default = max(2 * d, 16) if decoder == "linear" else 256
    wanted = default if rank is None else rank
    if wanted < d:
        raise ValueError(f"rank={rank} is below the {d} nodes of the graph: the encoder would not see all latents")
    found = Subspace.principal(data, min(wanted, data.n_measurements))
    energy = np.square(found.coordinates).mean(axis=0)
    kept = max(d, int((energy > 1e-10 * energy[0]).sum()))
    signal = Subspace(found.basis[:, :d], found.coordinates[:, :d], found.power)
    # A floor for noise-free data, where the logarithm of the variance would have no starting value.
    noise = max(signal.residual_variance(), 1e-8 * found.power)
    return Subspace(found.basis[:, :kept], found.coordinates[:, :kept], found.power), noise


def _network(model: Any) -> AmortisedNetwork:
    """The untrained network for the fitted sizes, its weights drawn from the seed."""
    with seeded(model.seed):
        return AmortisedNetwork(
            model._prior(torch.from_numpy(model.indicators_.astype(np.float32))),
            torch.from_numpy(model.spread_.astype(np.float32)),
            len(model.graph.nodes),
            len(model.basis_),
            model.unit_,
            model.left_out_,
            conditional=model._conditional,
            linear=model.decoder == "linear",
            hidden=model.hidden,
        )


def _random_axes(self: Any, data: MultiDomainData, coordinates: np.ndarray, noise: float) -> np.ndarray:
    """Probabilistic PCA's loadings (d, d) of the leading coordinates, with the latents' axes turned at random."""
    signal = np.clip(np.square(coordinates).mean(axis=0) - noise, noise, None)
    normals = np.random.default_rng(self.seed).standard_normal((len(signal), len(signal)))
    return np.sqrt(signal)[:, None] * np.linalg.qr(normals)[0]


def _encode(model: Any, coordinates: np.ndarray, indicator: Tensor) -> tuple[np.ndarray, np.ndarray]:
    device = resolve_device(model.device)
    model.network_.to(device)
    c = torch.from_numpy((coordinates / model.unit_).astype(np.float32))
    batches = zip(c.split(EVALUATION_ROWS), indicator.split(EVALUATION_ROWS), strict=True)
    with torch.no_grad():
        parts = [model.network_.encode(rows.to(device), a.to(device)) for rows, a in batches]
    mean, log_variance = (torch.cat(part).double().cpu().numpy() for part in zip(*parts, strict=True))
    return mean * model.latent_scales_, np.exp(log_variance) * model.latent_scales_**2


@final
class VAE(LatentModel):
    """z ~ N(0, I) in every domain; neither prior nor encoder sees the targets (Kingma and Welling 2014).

    With the linear decoder the best bound is the likelihood of probabilistic PCA, reached on its axes.

    Parameters
    ----------
    graph : CausalGraph
        Gives the number and names of the latents.
    decoder : {"linear", "mlp"}
        x = A z + noise, which gives ``loadings_``; or a network f(z) + noise, which does not.
    hidden : int
        Width of the hidden layers.
    rank : int, optional
        How many principal coordinates of x the networks work on. Default: max(2 d_z, 16) for the linear decoder, 256
        for the other (or d_x, where that is less).
    max_epochs, batch_size, learning_rate, device
        Passed to ``latentcause.training.train``.
    seed : int
        Seed of starting weights, shuffling and sampling.

    Attributes
    ----------
    history_ : list of dict
        ``epoch``, ``train_elbo`` and ``held_out_elbo``: bounds in nats per sample, of x in its own units.
    """

    __init__ = _store
    fit = _fit
    posterior = _posterior
    fitted_state = _fitted_state
    restore_state = _restore_state
    loadings_ = property(_loadings)
    _start = _random_axes
    _conditional = False

    def _prior(self, indicators: Tensor) -> nn.Module:
        return StandardNormal()


@final
class ConditionalVAE(LatentModel):
    """z | a ~ N(mu_a, Sigma_a), free for every set of targets a; the encoder sees a (Sohn, Lee and Yan 2015).

    No structure ties the domains, so nothing but the diagonal form of q settles the latents' axes: with the linear
    decoder they are recovered up to an invertible linear map. Parameters and attributes are those of ``VAE``.
    """

    __init__ = _store
    fit = _fit
    posterior = _posterior
    fitted_state = _fitted_state
    restore_state = _restore_state
    loadings_ = property(_loadings)
    _start = _random_axes
    _conditional = True

    def _prior(self, indicators: Tensor) -> nn.Module:
        return DomainGaussian(indicators)


@final
class IVAE(LatentModel):
    """z_j | a independent, Gaussian, natural parameters from a network on a (Khemakhem et al. 2020, Eq. 7).

    Latents that are dependent given a, as causally linked ones are, break its assumption. Where it holds and domains
    vary enough, latents are recovered up to scale and permutation. Parameters and attributes are those of ``VAE``.
    """

    __init__ = _store
    fit = _fit
    posterior = _posterior
    fitted_state = _fitted_state
    restore_state = _restore_state
    loadings_ = property(_loadings)
    _start = _random_axes
    _conditional = True

    def _prior(self, indicators: Tensor) -> nn.Module:
        return FactorisedExponential(len(self.graph.nodes), self.hidden)


@final
class SCMVAE(LatentModel):
    """z_j | z_pa(j), a_j by neural Gaussian mechanisms along the known graph, baseline and intervened: Eq. (6.2).

    The prior's part of the bound is estimated at the reparametrised sample. Latents come in the order of the nodes.
    Parameters and attributes are those of ``VAE``, and:

    Parameters
    ----------
    interventions : {"hard", "soft"}
        Whether the intervened mechanism of a node ignores its parents.
    init : {"gaussian", "random"}
        Start at the loadings of largest Gaussian interventional likelihood, or at random axes of the principal
        subspace. From the latter most runs end in a poor optimum, in which latents of several nodes are mixed.
    """

    def __init__(
        self,
        graph: CausalGraph,
        *,
        interventions: Literal["hard", "soft"] = "hard",
        init: Literal["gaussian", "random"] = "gaussian",
        decoder: Literal["linear", "mlp"] = "linear",
        hidden: int = 64,
        rank: int | None = None,
        max_epochs: int = 300,
        batch_size: int = 256,
        learning_rate: float = 3e-3,
        device: str = "auto",
        seed: int = 0,
    ) -> None:
        self.interventions = interventions
        self.init = init
        _store(
            self,
            graph,
            decoder=decoder,
            hidden=hidden,
            rank=rank,
            max_epochs=max_epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            device=device,
            seed=seed,
        )

    fit = _fit
    posterior = _posterior
    fitted_state = _fitted_state
    restore_state = _restore_state
    loadings_ = property(_loadings)
    _conditional = True

    def _prior(self, indicators: Tensor) -> nn.Module:
        if self.interventions not in ("hard", "soft"):
            raise ValueError(f'interventions must be "hard" or "soft", not {self.interventions!r}')
        parents = torch.from_numpy(self.graph.adjacency.T.astype(np.float32))
        return InterventionalSCM(parents, self.interventions == "hard", self.hidden)

    def _start(self, data: MultiDomainData, coordinates: np.ndarray, noise: float) -> np.ndarray:
        if self.init == "random":
            return _random_axes(self, data, coordinates, noise)
        if self.init != "gaussian":
            raise ValueError(f'init must be "gaussian" or "random", not {self.init!r}')
        moments = DomainMoments.of(coordinates, data.domain_index, len(data.domains))
        indicator = data.indicator(self.graph)
        likelihood = InterventionalGaussian(self.graph, indicator, moments, noise, interventions=self.interventions)
        axes = likelihood.fit(seed=self.seed).mixing
        power = np.square(coordinates @ np.linalg.inv(axes).T).mean(axis=0)
        return axes * np.sqrt(np.clip(power - noise, noise, None))
