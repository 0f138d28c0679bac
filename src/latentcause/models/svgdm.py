"""SVGDM: the joint posterior of causally linked fields, from observations of different resolution, noise and coverage."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from torch import Tensor

from latentcause.data.gridded_observations import GriddedObservations
from latentcause.diffusion import DPMSolver, Guidance, ObservedDenoiser, times
from latentcause.fields import Form, GaussianFields, JointGaussian, Sees, gaussian_denoiser
from latentcause.graph import CausalGraph
from latentcause.models import svgdm_files
from latentcause.models.error_budget import error_budget, flow_density
from latentcause.models.field_draws import Prior, further_draws, training_draws
from latentcause.models.field_prior import fitted_prior
from latentcause.models.field_scores import SCHEDULE, FieldScores, LearnedDenoiser, learned_scores
from latentcause.models.site_rounds import learn_from_sites
from latentcause.posteriors import from_draws
from latentcause.threads import threads_for
from latentcause.training import resolve_device

if TYPE_CHECKING:
    import pandas as pd
    import xarray

FIRST, LAST, POWER = 0.99, 0.002, 2.5  # times of sampling: crowded where fields are nearly clean
CURVATURE = 0.6  # of the solver, which keeps variances right
DENSE_ROWS = 512  # fields of at most so many nodes x pixels have a full covariance by default
SOLVED, UNSOLVED = 0.005, 0.01  # residuals of the observations' pull: asked for, and worth a warning
REFUSED = 0.01  # share of steps without a covariance of their own that is worth a warning
NUMBERS_AT_ONCE = 4_000_000  # of all fields of the draws that are sampled together, times the channels of a network


class SVGDM(BaseEstimator):
    """Posterior samples of the fields z_1 ... z_d of a causal system, each seen by sensors of its own, or by none.

    Scores of the fields under noise, grad log p_t(z_t), are learned once from draws of the prior; a diffusion then runs from
    noise to fields, its drift changed by the observations (`ObservedDenoiser`). No observation is brought to another
    resolution: each enters through its own operator. After paper 000 (Causal score conditioning for multi-resolution latent
    systems, ICLR 2026), with these differences: a node's score sees its Markov blanket, since with the parents alone (its
    Theorem 2) the posterior of every node with children is wrong; the pull of the observations is the Gaussian one instead of
    a schedule set by hand; and steps (`DPMSolver`) keep variances within 1 % at the default number of them (Gaussian fields).

    Parameters
    ----------
    graph : CausalGraph
    prior : GaussianFields, StructuralFields, other object with ``sample(n, generator)``, or array of draws (n, d, *shape)
        Of the clean fields, nodes in the order of the graph.
    scores : {"learned", "gaussian", "exact"}
        ``learned``: the draws' Gaussian moments, and a network for what they leave. ``gaussian``: the moments alone.
        ``exact``: the moments of `GaussianFields` in closed form.
    form : {"auto", "dense", "reflected", "torus", "sites"}
        Of the Gaussian moments, see `JointGaussian`. ``auto``: dense for at most 512 nodes x pixels, else reflected. Give
        ``sites`` for vectors of independent sites.
    sees : {"blanket", "parents", "all"}
        Which other nodes the score of a node may see.
    guidance : {"gaussian", "plug-in", "anchor"}
        How observations pull, see `ObservedDenoiser`.
    steps : int
        Of the sampler.
    rounds : int
        Of expectation maximisation, where the prior is not known. One of `GaussianFields` is fitted: its weights, intercepts,
        variances and lengths become, round by round, those that make posterior samples of these observations most likely
        (`latentcause.fields.fitted_fields`). What the observations do not show, such as the length of a field seen in coarse
        blocks only, stays near where it started. Rounds are accelerated where that makes the observations likelier, and
        end early once none does (up to 1024 values, linear and Gaussian). Any other prior of ``sites`` is but a start: scores
        are learned anew from posterior samples of the observed sites, of which there should be many (`learn_from_sites`).
    eta : float
        Noise of the sampler: 0 is the probability flow, 1 the paper's reverse SDE. More forgets more of the errors that
        guidance makes at early times, where the fields are not Gaussian; it needs more steps from about 8 on.
    draws : int
        From the prior, to learn from, where it is no array.
    epochs, batch_size, learning_rate, channels, blocks : training and size of the networks, see `FieldNetwork`
    device : str
    seed : int
        Of draws and training.

    Attributes
    ----------
    observations_ : GriddedObservations or None
        None after `latentcause.load` where a file can't hold them, because one is a function of the field.
    joint_ : JointGaussian
    scores_ : FieldScores or None
    history_ : list of dict
        Losses after each epoch. The networks start from the moments alone, and the best weights are kept.

    Notes
    -----
    What answers to the three terms of the paper's loss, lambda_1 L_DSM + lambda_2 L_causal + lambda_3 L_VI:

    - L_DSM (Proposition 2) is the loss of `FieldScores`, for the scores grad_i log p_t(z_i, z_S), S the nodes that node i sees.
    - L_causal (Proposition 1, Theorem 3) is in it: such a score is the marginal term grad_i log p_t(z_i) plus the term of causal
      consistency grad_i log p_t(z_S | z_i). The paper takes the latter for Gaussian around Tweedie's estimate, regularised where
      it is not; learned as one function with the first it need not be, and no weight stands between the two. For Gaussian
      fields both ways are the same, and the moments give it in closed form. ``sees="parents"`` is the paper's S.
    - L_VI (section 3) is raised by ``rounds``: q(z | y) follows from scores and observations and has no parameters of its own, and
      given its draws the numbers of the mechanisms that maximise the bound are those of `fitted_fields`. So in each round scores
      come first and causal parameters after, and networks are trained on draws of the last prior. `elbo` gives the bound.
      Of ``sites`` whose prior is of another kind, the M step learns the scores themselves from those draws.

    Examples
    --------
    >>> import torch, latentcause as lc
    >>> system = lc.datasets.three_fields()
    >>> truth, observations = system.observe("LFO", torch.Generator().manual_seed(0))
    >>> model = lc.SVGDM(system.graph, system.fields, scores="exact").fit(observations)
    >>> posterior = model.sample_posterior(64, generator=torch.Generator().manual_seed(1))
    >>> posterior["z3"].mean("sample").shape
    (32,)
    """

    def __init__(
        self,
        graph: CausalGraph,
        prior: Prior | Tensor | np.ndarray,
        *,
        scores: Literal["learned", "gaussian", "exact"] = "learned",
        form: Form | Literal["auto"] = "auto",
        sees: Sees = "blanket",
        guidance: Guidance = "gaussian",
        steps: int = 48,
        eta: float = 4.0,
        rounds: int = 0,
        draws: int = 8192,
        epochs: int = 20,
        batch_size: int = 128,
        learning_rate: float = 2e-3,
        channels: int = 24,
        blocks: int = 3,
        device: str = "auto",
        seed: int = 0,
    ) -> None:
        self.graph = graph
        self.prior = prior
        self.scores = scores
        self.form = form
        self.sees = sees
        self.guidance = guidance
        self.steps = steps
        self.eta = eta
        self.rounds = rounds
        self.draws = draws
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.channels = channels
        self.blocks = blocks
        self.device = device
        self.seed = seed

    def fit(
        self, observations: GriddedObservations, *, checkpoint: Path | None = None, log: Path | None = None
    ) -> Self:
        """Learn the scores of the prior, for these observations and any others of the same fields.

        Parameters
        ----------
        observations : GriddedObservations
        checkpoint : Path, optional
            File from which an interrupted training goes on, to the same result; rounds keep theirs beside it, in files of
            its name and ``.rounds`` or the number of a round.
        log : Path, optional
            Folder for the losses, see `latentcause.training.train`.

        Raises
        ------
        ValueError
            Where observations, graph and prior do not belong together, for draws that are not finite or too few, for an
            unknown option, for ``scores="exact"``, or ``rounds`` of what is not ``sites``, with a prior that is not
            `GaussianFields`, and for a checkpoint that is damaged or of another fit.
        """
        observations.validate_for(self.graph)
        if self.scores not in ("learned", "gaussian", "exact"):
            raise ValueError(f"unknown scores {self.scores!r}: choose learned, gaussian or exact")
        self.scores_: FieldScores | None = None
        self.history_: list[dict[str, float]] = []
        self.prior_ = self.prior
        by_site = self.form == "sites" and self.scores != "exact" and not isinstance(self.prior, GaussianFields)
        if self.rounds and by_site:
            learn_from_sites(self, observations, checkpoint, log)
            return self
        if self.rounds:
            self.prior_ = fitted_prior(self, observations, checkpoint)
        if self.scores == "exact":
            if not isinstance(self.prior_, GaussianFields):
                raise ValueError('scores="exact" needs GaussianFields as the prior: learn them from draws instead')
            self.joint_ = self.prior_.joint(self.form_of(observations))
            self._check_shape(self.joint_.mean.shape, observations)
        else:
            z = training_draws(self)
            self._check_shape(z.shape[1:], observations)
            self.joint_ = JointGaussian.from_samples(z, self.form_of(observations))
            if self.scores == "learned":
                self.scores_, self.history_ = learned_scores(self, z, checkpoint, log)
        self.observations_: GriddedObservations | None = observations
        return self

    @torch.no_grad()
    def sample_posterior(
        self, n: int, *, generator: torch.Generator | int, observations: GriddedObservations | None = None
    ) -> xarray.Dataset:
        """n draws of all fields given the observations.

        Parameters
        ----------
        n : int
        generator : torch.Generator or int
        observations : GriddedObservations, optional
            Others of the same fields than those of `fit`.

        Returns
        -------
        xarray.Dataset
            A variable for each node, of dimensions ``sample`` and those of the grid, in the units of the prior.

        Raises
        ------
        ValueError
            For n below 1, and observations of other nodes or another shape.
        """
        if n < 1:
            raise ValueError(f"n is {n}: give the number of samples to draw")
        observations = self.chosen(observations)
        z, denoiser = self.sampled(n, self._generator(generator), observations)
        if (left := denoiser.worst_residual) > UNSOLVED:
            cause = "the scores are too rough, or the observations too many and precise; compare with scores='gaussian'"
            if self.sees == "parents":
                cause = "scores that see parents alone make no covariance to solve with; use sees='blanket'"
            said = f"the pull of the observations was solved to {left:.1%} only: {cause}"
            warnings.warn(said, UserWarning, stacklevel=2)
        if (share := denoiser.refused_share) > REFUSED:
            warnings.warn(
                f"in {share:.1%} of the samples' steps the learned scores gave the fields a negative variance, and that of "
                "Gaussian fields weighed them against the observations instead, so that samples may lie off: learn from more "
                "draws or epochs, and compare with scores='gaussian'",
                UserWarning,
                stacklevel=2,
            )
        return from_draws(z.numpy(), self.graph.nodes, observations.grid)

    @torch.no_grad()
    def error_budget(self, n: int = 256, *, generator: torch.Generator | int) -> pd.DataFrame:
        """What the posterior's errors are made of, as estimated from n draws: the five kinds of paper 000, section 4.

        - ``discretisation``: distance between paths of N and of 2 N steps along the same noise, in sd of the samples, which
          bounds what the distributions differ by from above;
        - ``score``: of the estimates E[z | z_t], in sd of what they leave open: the share of their residuals that can be
          predicted on further draws of the prior by regression, a lower bound;
        - ``local Gaussian``: the same of the guided estimates E[z | z_t, y], for observations simulated from draws; what
          exceeds the line before comes of taking z given z_t for Gaussian;
        - ``Tweedie``: mean share by which Cov[z | z_t], from the derivative of the estimates, misses their squared errors;
        - ``entropy``: of log q(z | y) by one random sign per draw, as in `elbo`. It is no error of the samples.

        Estimates are looked at on five levels of noise. An error of d sd in a mean costs d^2 / 2 nats of divergence, one of a
        share r in a variance r^2 / 4: the column ``nats per coordinate`` compares them, roughly; ``knob`` says which
        argument lowers it.

        Raises
        ------
        ValueError
            For n below 16, and a prior that draws can't be taken from.
        """
        if n < 16:
            raise ValueError(f"n is {n}: give at least 16 draws")
        return error_budget(self, n, self._generator(generator))

    @torch.no_grad()
    def elbo(
        self, n: int = 16, *, generator: torch.Generator | int, probes: int = 4, steps: int = 50
    ) -> tuple[float, float]:
        """Evidence lower bound on log p(y) in nats, and its standard error: E_q[log p(y | z) + log p(z) - log q(z)].

        Over n samples z of the posterior q = q(z | y). Both log p(z) and log q(z) are those of probability flows, with
        Hutchinson's estimate of the divergence (paper 000, section 3.4, whose authors estimate the entropy by kernels). Where
        the scores and the guidance are exact it is log p(y) itself.

        Raises
        ------
        ValueError
            For n below 2.
        """
        if n < 2:
            raise ValueError(f"n is {n}: give at least 2 samples")
        generator = self._generator(generator)
        guided, observations = self.denoiser(), self.chosen()
        z = self.solver(guided)(self.start(n, generator), self.clock(), generator)
        flows = [flow_density(denoiser, z, generator, steps, probes) for denoiser in (guided.prior, guided)]
        terms = observations.to(z.device, z.dtype).log_likelihood(z) + flows[0] - flows[1]
        return float(terms.mean()), float(terms.std() / n**0.5)

    def chosen(self, observations: GriddedObservations | None = None) -> GriddedObservations:
        """Those given, or else those of the fit, where they fit the model."""
        self.check_fitted()
        chosen = self.observations_ if observations is None else observations
        if chosen is None:
            raise ValueError("this model was loaded from a file that holds no observations: give observations=...")
        chosen.validate_for(self.graph)
        self._check_shape(self.joint_.mean.shape, chosen)
        return chosen

    def clock(self) -> Tensor:
        """The falling times of the sampler."""
        return times(self.steps, FIRST, LAST, POWER)

    def solver(self, denoiser: ObservedDenoiser) -> DPMSolver:
        """The sampler of a denoiser of this model."""
        return DPMSolver(denoiser, self.eta, CURVATURE)

    def start(self, n: int, generator: torch.Generator, observations: GriddedObservations | None = None) -> Tensor:
        """Fields (n, d, *shape) at the first of the times: noise around the observations brought to the grid."""
        dtype, device = self._kind
        found = self.chosen(observations).pseudo_inverse()
        mean = torch.where(found.isnan(), self.joint_.mean.to(found), found).to(device, dtype)
        alpha, sigma = SCHEDULE.at(self.clock()[0])
        noise = torch.randn((n, *mean.shape), generator=generator, dtype=dtype, device=device)
        return alpha.to(noise) * mean + sigma.to(noise) * noise

    @torch.no_grad()
    def sampled(
        self, n: int, generator: torch.Generator, observations: GriddedObservations
    ) -> tuple[Tensor, ObservedDenoiser]:
        """Posterior draws (n, d, *shape) on the CPU, and the denoiser behind them, which tells how its pull was solved."""
        denoiser, clock, start = self.denoiser(observations), self.clock(), self.start(n, generator, observations)
        width = 1 if self.scores_ is None else self.channels
        rows = max(1, NUMBERS_AT_ONCE // (width * self.joint_.mean.numel()))
        with threads_for(0):
            sampler = self.solver(denoiser)
            parts = [sampler(part, clock, generator).cpu() for part in start.split(rows)]
        return torch.cat(parts), denoiser

    def form_of(self, observations: GriddedObservations) -> Form:
        """Of the Gaussian moments of the fields that are observed."""
        if self.form != "auto":
            return self.form
        return "dense" if math.prod(observations.shape) * len(self.graph) <= DENSE_ROWS else "reflected"

    def prior_draws(self, n: int, generator: torch.Generator) -> Tensor:
        """Draws (n, d, *shape) of the prior, of the precision and on the device of the model; of an array, rows of it."""
        dtype, device = self._kind
        return further_draws(self, n, generator).to(device, dtype)

    def denoiser(self, observations: GriddedObservations | None = None) -> ObservedDenoiser:
        """E[z | z_t, y], for samplers of one's own: fields (n, d, *shape), float32 with networks and float64 without."""
        dtype, device = self._kind
        observations = self.chosen(observations).to(device, dtype)
        moments = gaussian_denoiser(self.joint_.to(device, dtype), self.graph, self.sees, SCHEDULE)
        if self.scores_ is None:
            return ObservedDenoiser(moments, observations, self.guidance, moments=moments, tolerance=SOLVED)
        prior = LearnedDenoiser(self.scores_.to(device))
        return ObservedDenoiser(prior, observations, self.guidance, moments=moments, tolerance=SOLVED)

    def fitted_state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """What `latentcause.save` writes: moments, networks, observations, and a prior of `GaussianFields`.

        A prior that is code or draws is not kept: the loaded model samples posteriors, and needs a ``prior`` to be fitted again.
        """
        self.check_fitted()
        return svgdm_files.state(self)

    def restore_state(self, arrays: dict[str, np.ndarray], values: dict[str, Any]) -> None:
        """Set the fitted attributes from what ``fitted_state`` gave."""
        svgdm_files.restore(self, arrays, values)

    def check_fitted(self) -> None:
        """Raise one clear error where ``fit`` has not run yet."""
        if not hasattr(self, "observations_"):
            raise NotFittedError("this SVGDM is not fitted yet: call fit(observations) first")

    # --- inside ------------------------------------------------------------------------------------------------------

    @property
    def _kind(self) -> tuple[torch.dtype, torch.device]:
        return (torch.float64 if self.scores_ is None else torch.float32), resolve_device(self.device)

    def _generator(self, generator: torch.Generator | int) -> torch.Generator:
        """On the model's device."""
        _, device = self._kind
        if not isinstance(generator, torch.Generator):
            return torch.Generator(device).manual_seed(generator)
        if generator.device.type == device.type:
            return generator
        seed = torch.randint(2**62, (), generator=generator, device=generator.device)
        return torch.Generator(device).manual_seed(int(seed))

    def _check_shape(self, shape: tuple[int, ...], observations: GriddedObservations) -> None:
        wanted = (len(self.graph), *observations.shape)
        if tuple(shape) != wanted:
            raise ValueError(f"the prior's fields have the shape {tuple(shape)}, the observations are of {wanted}")
