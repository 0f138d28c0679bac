"""g-modeling: latents, loadings and the causal mechanisms themselves, by maximum marginal likelihood."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any, Literal, Self

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from latentcause.data import MultiDomainData
from latentcause.graph import CausalGraph
from latentcause.inference.tree import is_forest
from latentcause.models.anderson import Anderson
from latentcause.models.base import LatentModel
from latentcause.models.expectation import ExactEStep, Expectation, SampledEStep
from latentcause.models.interventional_gaussian import Interventions
from latentcause.models.measurement import Columns, LatentMoments, Measurement
from latentcause.models.packing import Packing
from latentcause.models.starting import Initialisation, starting_point
from latentcause.models.structural_prior import BASELINE, INTERVENED, VARIANCE_FLOOR, StructuralPrior
from latentcause.models.subspace import Subspace, project
from latentcause.progress import progress
from latentcause.scm import AdditiveMechanism, StructuralCausalModel
from latentcause.splines import UniformBSpline
from latentcause.threads import threads_for
from latentcause.training import resolve_device

RANGE = (0.002, 0.998)
"""Quantiles of a coordinate between which its splines stand; mechanisms continue as lines beyond."""

SLACK = 1.0
"""Nats of total log-likelihood that an accelerated step may lose before it is taken back."""

PLAIN = 4
"""Plain EM steps at the beginning of every round."""

PATIENCE = 4
"""Iterations without a rising likelihood that end a round."""

SETTLED = 1e-2
"""Mean relative change of the loadings over the last iterations of a sampled fit, below which it counts as converged."""

BURN_IN_MOVES = 20
"""Chain moves before the first draw of new samples' posteriors."""

MOVES, BURN_IN_SHARE = 3, 0.5
"""Chain moves per sampled E-step, and the share of iterations before their averaging begins."""


class GModeling(LatentModel):
    """Empirical-Bayes g-modeling: an interventional structural causal model as the prior, learned with A and sigma^2.

    Section 6 of Wu, von Kuegelgen and Blei, *Multi-Domain Empirical Bayes for Linearly-Mixed Causal Representations*:
    x = A z + noise, and z_j = m_{j,a_j}(z_pa(j)) + N(0, v_{j,a_j}) with a baseline (a_j = 0) and an intervened (a_j = 1) mechanism
    for every node (Eq. 6.2). EM maximises the marginal likelihood (Eq. 6.1): the E-step is exact, by message passing, where no
    node has two parents, and sampled by Markov chains (stochastic-approximation EM) elsewhere; the M-step refits the
    mechanisms by penalised least squares, A by orthogonal Procrustes, and sigma^2. Exact EM is Anderson-accelerated.

    The paper leaves mechanisms, inference and start open; here they are additive cubic P-splines with smoothing by empirical
    Bayes, and the loadings of the Gaussian interventional likelihood.

    Parameters
    ----------
    graph : CausalGraph
    mechanisms : {"spline", "linear"}
        Form of m as a function of each parent; several parents add up.
    interventions : {"hard", "soft"}
        Whether intervened mechanisms ignore the parents.
    posterior_by : {"auto", "exact", "sampled"}
        E-step; "auto" is exact where that is possible.
    initialisation : {"gaussian", "pca"} or ndarray (d_x, d_z)
    columns : {"orthonormal", "orthogonal", "psd"}
        Form of A; see `latentcause.models.measurement.Measurement`. "psd" makes the noise of the unmixed coordinates correlated,
        so its posteriors are sampled.
    loadings, noise_variance
        Known A (d_x, d_z) or sigma^2, held fixed.
    n_splines : int
        Splines per parent.
    max_iterations : int
    tolerance : float
        Gain in total log-likelihood, in nats, that counts as rising; an exact fit ends when a round of steps has less.
    draws : int
        Draws per sample for the posteriors that a sampled fit reports.
    device : str
    seed : int

    Attributes
    ----------
    latents_, latent_variances_ : ndarray (n, d_z)
    loadings_ : ndarray (d_x, d_z)
    noise_variance_ : float
    scm_ : StructuralCausalModel
        The baseline mechanisms.
    intervened_ : dict from node to AdditiveMechanism
        The intervened mechanisms of the nodes that some domain targets.
    history_ : list of dict
        Log-likelihood per sample, noise variance, and change of the loadings per iteration.
    n_iter_ : int
    converged_ : bool
    unidentified_ : tuple of str

    Examples
    --------
    >>> import latentcause as lc
    >>> sample = lc.datasets.interventional_system(3, seed=0).sample(200, seed=1)
    >>> fit = lc.GModeling(sample.system.graph).fit(sample.data)
    >>> mean, covariance = fit.predict(["z1", "z3"])  # a combination that no domain has shown
    >>> mean.shape, covariance.shape
    ((100,), (100, 100))
    """

    def __init__(
        self,
        graph: CausalGraph,
        *,
        mechanisms: Literal["spline", "linear"] = "spline",
        interventions: Interventions = "hard",
        posterior_by: Literal["auto", "exact", "sampled"] = "auto",
        initialisation: Initialisation = "gaussian",
        columns: Columns = "orthonormal",
        loadings: np.ndarray | None = None,
        noise_variance: float | None = None,
        n_splines: int = 14,
        max_iterations: int = 100,
        tolerance: float = 0.1,
        draws: int = 100,
        device: str = "auto",
        seed: int = 0,
    ) -> None:
        self.graph = graph
        self.mechanisms = mechanisms
        self.interventions = interventions
        self.posterior_by = posterior_by
        self.initialisation = initialisation
        self.columns = columns
        self.loadings = loadings
        self.noise_variance = noise_variance
        self.n_splines = n_splines
        self.max_iterations = max_iterations
        self.tolerance = tolerance
        self.draws = draws
        self.device = device
        self.seed = seed

    def fit(self, data: MultiDomainData) -> Self:
        """Recover latents, mechanisms, and the loadings and noise variance where they are not given.

        Raises
        ------
        ValueError
            For data that `MultiDomainData.validate_for` refuses, parameters out of range, and an exact E-step asked for
            where there is none.
        """
        with threads_for(data.n_samples):
            return self._fit(data)

    def _fit(self, data: MultiDomainData) -> Self:
        if self.draws < 2:
            raise ValueError(f"draws={self.draws} must be at least 2: their spread is the posterior variance")
        if self.max_iterations < 1:
            raise ValueError(f"max_iterations={self.max_iterations} must be at least 1")
        data.validate_for(self.graph)
        indicator = data.indicator(self.graph)
        start = starting_point(data, indicator, self)
        self.unidentified_ = start.unidentified(self.graph)
        always = [node for node, hit in zip(self.graph.nodes, indicator.T, strict=True) if hit.all()]
        if always:
            warnings.warn(
                f"every domain targets {', '.join(always)}, so nothing shows what makes it when left alone: scm_ has its "
                "intervened mechanism there; add a domain that does not target it",
                UserWarning,
                stacklevel=3,
            )
        device = resolve_device(self.device)
        self._measurement = start.measurement.to(device)
        coordinates = torch.from_numpy(start.subspace.coordinates).to(device)
        domain = torch.from_numpy(data.domain_index).to(device)
        exact = self._is_exact(self._measurement)
        self._prior = self._first_prior(self._measurement, coordinates, domain, indicator)
        self.history_: list[dict[str, float]] = []
        self.converged_ = False
        if exact:
            result = self._climb(start.subspace, coordinates, ExactEStep(domain, indicator))
        else:
            result = self._climb_sampled(start.subspace, coordinates, domain, indicator)
        self.n_iter_ = len(self.history_)
        self._publish(start.subspace, result)
        if not self.converged_:
            warnings.warn(
                f"the likelihood was still rising after {self.max_iterations} iterations: raise max_iterations",
                ConvergenceWarning,
                stacklevel=3,
            )
        return self

    def posterior(self, data: MultiDomainData) -> tuple[np.ndarray, np.ndarray]:
        """Posterior means and variances (n, d_z) of new samples, from any domain whose targets the fit has learned.

        Raises
        ------
        ValueError
            If ``data`` has another number of measurements, or targets a node that no domain of the fit targeted.
        """
        with threads_for(data.n_samples):
            return self._posterior(data)

    def _posterior(self, data: MultiDomainData) -> tuple[np.ndarray, np.ndarray]:
        self.check_fitted()
        if data.n_measurements != len(self.loadings_):
            raise ValueError(
                f"the data have {data.n_measurements} measurements, the model was fitted on {len(self.loadings_)}"
            )
        indicator = data.indicator(self.graph)
        for nodes in data.targets.values():
            self._check_learned(nodes)
        device = self._measurement.mixing.device
        u = torch.from_numpy(project(data, np.linalg.pinv(self.loadings_).T)).to(device)
        domain = torch.from_numpy(data.domain_index).to(device)
        if self._is_exact(self._measurement):
            reach = torch.from_numpy(np.stack([self.latents_.min(0), self.latents_.max(0)])).to(device)
            result = ExactEStep(domain, indicator, reach)(self._prior, u, self._measurement.noise)
        else:
            sampler = SampledEStep(domain, indicator, burn_in=1, moves=BURN_IN_MOVES, seed=self.seed)
            sampler(self._prior, u, self._measurement.noise)
            result = sampler.final(self._prior, u, self._measurement.noise, self.draws)
        return result.mean.cpu().numpy(), result.variance.cpu().numpy()

    def scm(self, targets: str | Iterable[str] = ()) -> StructuralCausalModel:
        """The structural causal model of the latents when these nodes are targeted, in any combination.

        Raises
        ------
        ValueError
            For a node that is not in the graph, or that no domain targeted, so that nothing is known of its intervention.
        """
        self.check_fitted()
        nodes = (targets,) if isinstance(targets, str) else tuple(targets)
        self._check_learned(nodes)
        return self.scm_.replace({node: self.intervened_[node] for node in nodes})

    def predict(self, targets: str | Iterable[str] = (), *, draws: int = 100_000) -> tuple[np.ndarray, np.ndarray]:
        """Mean (d_x,) and covariance (d_x, d_x) of the measurements under an intervention, seen or not.

        A E[z] and A Cov[z] A' + sigma^2 I, the moments of z by ``draws`` draws from `scm` with the model's seed.
        """
        z = self.scm(targets).sample(draws, generator=self.seed)
        spread = self.loadings_ @ np.cov(z.T).reshape(len(self.graph), -1) @ self.loadings_.T
        return self.loadings_ @ z.mean(0), spread + self.noise_variance_ * np.eye(len(self.loadings_))

    def fitted_state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """See `LatentModel.fitted_state`."""
        self.check_fitted()
        arrays = {
            "loadings": self.loadings_,
            "mixing": self._measurement.mixing.cpu().numpy(),
            "latents": self.latents_,
            "latent_variances": self.latent_variances_,
        }
        prior_arrays, prior_values = self._prior.state()
        values = {
            "prior": prior_values,
            "noise_variance": self.noise_variance_,
            "history": self.history_,
            "n_iter": self.n_iter_,
            "converged": self.converged_,
            "unidentified": list(self.unidentified_),
        }
        return arrays | prior_arrays, values

    def restore_state(self, arrays: dict[str, np.ndarray], values: dict[str, Any]) -> None:
        """See `LatentModel.restore_state`."""
        self._prior = StructuralPrior.from_state(self.graph, arrays, values["prior"])
        self.loadings_, self.noise_variance_ = arrays["loadings"], float(values["noise_variance"])
        self._measurement = Measurement(torch.from_numpy(arrays["mixing"].copy()), self.noise_variance_, self.columns)
        self.latents_, self.latent_variances_ = arrays["latents"], arrays["latent_variances"]
        self.history_, self.n_iter_ = values["history"], values["n_iter"]
        self.converged_, self.unidentified_ = values["converged"], tuple(values["unidentified"])
        self._publish_mechanisms()

    # --- exact EM ----------------------------------------------------------------------------------------------------

    def _climb(self, subspace: Subspace, coordinates: Tensor, e_step: ExactEStep) -> Expectation:
        """Rounds of a few plain EM steps, which also find the smoothings, and of accelerated ones at these smoothings."""
        best = -np.inf
        with progress("g-modeling", self.max_iterations, "log-likelihood") as report:
            while len(self.history_) < self.max_iterations and not self.converged_:
                for _ in range(min(PLAIN, self.max_iterations - len(self.history_))):
                    self._plain_step(subspace, coordinates, e_step)
                reached, settled = self._accelerate(subspace, coordinates, e_step)
                report(len(self.history_), self.history_[-1]["log_likelihood"])
                self.converged_ = settled and bool(reached < best + self.tolerance)
                best = max(best, reached)
        return self._expect(e_step, coordinates)

    def _plain_step(self, subspace: Subspace, coordinates: Tensor, e_step: ExactEStep, *, smooth: bool = True) -> float:
        """One EM step; returns the log-likelihood before it."""
        expectation = self._expect(e_step, coordinates)
        value = self._log_likelihood(subspace, coordinates, expectation)
        variance = self._measurement.noise_variance
        change = self._maximise(subspace, coordinates, expectation, smooth=smooth)
        self._record(value / len(coordinates), variance, change)
        return value

    def _accelerate(self, subspace: Subspace, coordinates: Tensor, e_step: ExactEStep) -> tuple[float, bool]:
        """Anderson-accelerated EM until the likelihood stops rising; returns it, and whether it did stop before the iterations.

        A step that loses likelihood is replaced by the plain EM step that it came from.
        """
        packing = Packing(self._prior, self._measurement, self.loadings is None, self.noise_variance is None)
        point = packing.pack(self._prior, self._measurement)
        anderson = Anderson(packing.weights(float(coordinates.square().mean()) ** 0.5, len(point)))
        plain = point
        best, risen_at = -np.inf, 0
        for iteration in range(self.max_iterations - len(self.history_)):
            self._measurement = packing.unpack(point, self._prior, self._measurement)
            value = self._plain_step(subspace, coordinates, e_step, smooth=False)
            if value < best - SLACK:
                point = plain
                anderson.forget()
                continue
            if value > best + self.tolerance:
                best, risen_at = value, iteration
            if iteration - risen_at >= PATIENCE:
                return best, True
            plain = packing.pack(self._prior, self._measurement)
            point = anderson.next(point, plain)
        return best, False

    def _log_likelihood(self, subspace: Subspace, coordinates: Tensor, expectation: Expectation) -> float:
        """Sum of log p(x) over the samples: that of the unmixed coordinates, and of the noise outside the subspace."""
        assert expectation.log_likelihood is not None
        n, (d_x, d) = len(coordinates), subspace.basis.shape
        variance = self._measurement.noise_variance
        volume = float(torch.linalg.slogdet(self._measurement.mixing)[1])
        outside = n * subspace.power - float(coordinates.square().sum())
        noise = -0.5 * (n * (d_x - d) * np.log(2 * np.pi * variance) + outside / variance)
        return expectation.log_likelihood - n * volume + noise

    # --- sampled EM --------------------------------------------------------------------------------------------------

    def _climb_sampled(
        self, subspace: Subspace, coordinates: Tensor, domain: Tensor, indicator: np.ndarray
    ) -> Expectation:
        """Stochastic-approximation EM for its full number of iterations, then posteriors under the final model."""
        burn_in = int(BURN_IN_SHARE * self.max_iterations)
        e_step = SampledEStep(domain, indicator, burn_in=burn_in, moves=MOVES, seed=self.seed)
        changes: list[float] = []
        with progress("g-modeling", self.max_iterations, "change of loadings") as report:
            for iteration in range(self.max_iterations):
                variance = self._measurement.noise_variance
                change = self._maximise(subspace, coordinates, self._expect(e_step, coordinates))
                self._record(None, variance, change)
                changes.append(change)
                report(iteration + 1, change)
        self.converged_ = bool(np.mean(changes[-PATIENCE:]) < SETTLED)
        u = self._measurement.unmix(coordinates)
        return e_step.final(self._prior, u, self._measurement.noise, self.draws)

    # --- shared steps ------------------------------------------------------------------------------------------------

    def _expect(self, e_step: ExactEStep | SampledEStep, coordinates: Tensor) -> Expectation:
        return e_step(self._prior, self._measurement.unmix(coordinates), self._measurement.noise)

    def _maximise(
        self, subspace: Subspace, coordinates: Tensor, expectation: Expectation, *, smooth: bool = True
    ) -> float:
        """Refit mechanisms and measurement model; return the change of the loadings."""
        self._prior.maximise(expectation.statistics, smooth=smooth)
        old = self._measurement
        self._measurement = old.step(
            subspace,
            coordinates,
            LatentMoments(coordinates.T @ expectation.mean, expectation.second),
            learn_loadings=self.loadings is None,
            learn_noise=self.noise_variance is None,
        )
        return float(
            torch.linalg.matrix_norm(self._measurement.mixing - old.mixing) / torch.linalg.matrix_norm(old.mixing)
        )

    def _record(self, log_likelihood: float | None, noise_variance: float, change: float) -> None:
        entry = {"noise_variance": float(noise_variance), "change": change}
        self.history_.append(entry if log_likelihood is None else {"log_likelihood": log_likelihood, **entry})

    def _is_exact(self, measurement: Measurement) -> bool:
        possible = is_forest(self.graph) and measurement.noise.ndim == 1 and self.columns != "psd"
        if self.posterior_by not in ("auto", "exact", "sampled"):
            raise ValueError(f"unknown posterior_by {self.posterior_by!r}: choose 'auto', 'exact' or 'sampled'")
        if self.posterior_by == "exact" and not possible:
            raise ValueError(
                "exact posteriors need a graph where no node has two parents, and orthogonal loading columns: use "
                "posterior_by='sampled'"
            )
        return possible and self.posterior_by != "sampled"

    def _first_prior(
        self, measurement: Measurement, coordinates: Tensor, domain: Tensor, indicator: np.ndarray
    ) -> StructuralPrior:
        if self.mechanisms not in ("spline", "linear"):
            raise ValueError(f"unknown mechanisms {self.mechanisms!r}: choose 'spline' or 'linear'")
        u, noise = measurement.unmix(coordinates), measurement.noise
        variances = noise if noise.ndim == 1 else noise.diagonal()
        splines = None
        if self.mechanisms == "spline":
            ends = np.quantile(u.cpu().numpy(), RANGE, axis=0)
            splines = [UniformBSpline(float(low), float(high), self.n_splines) for low, high in ends.T]
        prior = StructuralPrior(
            self.graph, splines, hard=self.interventions == "hard", variance_floor=VARIANCE_FLOOR * variances.cpu()
        )
        prior.start_from(u, domain, indicator, variances)
        return prior

    def _publish(self, subspace: Subspace, result: Expectation) -> None:
        self.loadings_ = subspace.basis @ self._measurement.mixing.cpu().numpy()
        self.noise_variance_ = float(self._measurement.noise_variance)
        self.latents_, self.latent_variances_ = result.mean.cpu().numpy(), result.variance.cpu().numpy()
        self._publish_mechanisms()

    def _publish_mechanisms(self) -> None:
        nodes = list(enumerate(self.graph.nodes))
        self.scm_ = StructuralCausalModel(self.graph, {node: self._prior.mechanism(j, BASELINE) for j, node in nodes})
        self.intervened_: dict[str, AdditiveMechanism] = {
            node: self._prior.mechanism(j, INTERVENED) for j, node in nodes if self._prior.mechanisms[j][INTERVENED]
        }

    def _check_learned(self, nodes: Iterable[str]) -> None:
        for node in nodes:
            if node not in self.graph.nodes:
                raise ValueError(f"target {node!r} is not a node of the graph: its nodes are {list(self.graph.nodes)}")
            if node not in self.intervened_:
                raise ValueError(
                    f"no domain of the fit targeted {node!r}, so what an intervention on it does is unknown; the fit learned "
                    f"interventions on {list(self.intervened_)}"
                )
