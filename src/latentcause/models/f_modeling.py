"""f-modeling: latents by Tweedie's formula from the score of the measurements, without ever modelling their prior."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Literal, Self

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from latentcause.data import MultiDomainData
from latentcause.graph import CausalGraph
from latentcause.models.base import LatentModel
from latentcause.models.interventional_gaussian import Interventions
from latentcause.models.measurement import Columns, LatentMoments, Measurement
from latentcause.models.starting import Initialisation, starting_point
from latentcause.models.subspace import Subspace, project
from latentcause.progress import progress
from latentcause.scores.causal import Visibility
from latentcause.scores.composite import Base, CausalScore, matching_losses
from latentcause.scores.spline import rank_within
from latentcause.scores.tweedie import Posterior, tweedie
from latentcause.threads import threads_for
from latentcause.training import resolve_device

HELD_OUT = 10
"""Every tenth row of a domain is kept out of the score's fit while iterating, to judge when to stop."""

SIGNIFICANT = 2.0
"""Standard errors by which a held-out loss must fall to count as lower: less than that is drift."""


class FModeling(LatentModel):
    """Empirical-Bayes f-modeling with causal score matching (Algorithm 1).

    Wu, von Kuegelgen and Blei, *Multi-Domain Empirical Bayes for Linearly-Mixed Causal Representations*. For x = A z + noise,
    unmixed coordinates u = A^+ x = z + N(0, C) with C = sigma^2 (A'A)^-1 have the posterior moments

        E[z | u] = u + eta C s(u),    Cov[z | u] = C + eta C J(u) C    (Eqs. 4.4 and 4.5),

    where s = grad log f_e(u) is estimated by score matching in every domain e. Iterations alternate the score, these moments,
    and A and sigma^2 (Eqs. 4.7 to 4.9).

    Where this class departs from the paper (its own variant in brackets): the score is each domain's Gaussian score plus a
    spline remainder (``base=None``) over the Markov blanket (``score="parents"``), because the paper's stays biased for nodes
    with children; the loadings start from the Gaussian interventional likelihood (``initialisation="pca"``); D is updated by
    alternating maximisation; x is reduced once to its principal d_z-dimensional subspace; the ridge is cross-validated;
    iterations stop, and go back, when the score-matching loss of held-out rows is lowest, because EM with an approximate
    score drifts off.

    Parameters
    ----------
    graph : CausalGraph
        Of the latent variables.
    score : {"blanket", "parents", "full", "empty"} or None
        What a node's score may see beside itself; None: the base alone.
    base : {"gaussian", "mixture"} or None
        The part of the score that sees every variable. A mixture (of Gaussians, for heavy tails and several modes) takes far longer
        to fit: iterations use a Gaussian base, and the mixture gives the final posteriors.
    initialisation : {"gaussian", "pca"} or ndarray (d_x, d_z)
    columns : {"orthonormal", "orthogonal", "psd"}
        Form of A; see `latentcause.models.measurement.Measurement`.
    interventions : {"hard", "soft"}
        Whether targeted nodes ignore their parents (used by the Gaussian initialisation).
    loadings : ndarray (d_x, d_z), optional
        Known A, held fixed: a known measurement panel, or an oracle.
    noise_variance : float, optional
        Known sigma^2, held fixed.
    damping : float
        eta in [0, 1]; 0 is no shrinkage.
    pooled : bool
        Ignore domains and targets, as the paper's baseline does.
    domain_weights : "equal" or mapping from domain to weight, optional
        Weights of the domains in score matching (appendix C). Default: every sample counts alike.
    n_splines, max_functions : int
        Splines per coordinate, and the basis size from which on a neural score takes over.
    max_iterations, patience : int
        Iterations at most, and how many without a lower held-out loss end the fit.
    tolerance : float
        Relative change of A and sigma^2 that counts as none.
    device : str
        "auto" is CUDA where there is one.
    seed : int

    Attributes
    ----------
    latents_, latent_variances_ : ndarray (n, d_z)
    loadings_ : ndarray (d_x, d_z)
    noise_variance_ : float
    history_ : list of dict
        Per iteration: held-out loss, noise variance, change of the loadings, share of variances raised.
    n_iter_ : int
    converged_ : bool
    unidentified_ : tuple of str
        Nodes that the domains do not identify.

    Examples
    --------
    >>> import latentcause as lc
    >>> sample = lc.datasets.interventional_system(3, seed=0).sample(200, seed=1)
    >>> fit = lc.FModeling(sample.system.graph).fit(sample.data)
    >>> fit.latents_.shape
    (600, 3)
    """

    def __init__(
        self,
        graph: CausalGraph,
        *,
        score: Visibility | None = "blanket",
        base: Base | None = "gaussian",
        initialisation: Initialisation = "gaussian",
        columns: Columns = "orthonormal",
        interventions: Interventions = "hard",
        loadings: np.ndarray | None = None,
        noise_variance: float | None = None,
        damping: float = 1.0,
        pooled: bool = False,
        domain_weights: Literal["equal"] | Mapping[Any, float] | None = None,
        n_splines: int = 6,
        max_functions: int = 4096,
        max_iterations: int = 50,
        patience: int = 3,
        tolerance: float = 1e-4,
        device: str = "auto",
        seed: int = 0,
    ) -> None:
        self.graph = graph
        self.score = score
        self.base = base
        self.initialisation = initialisation
        self.columns = columns
        self.interventions = interventions
        self.loadings = loadings
        self.noise_variance = noise_variance
        self.damping = damping
        self.pooled = pooled
        self.domain_weights = domain_weights
        self.n_splines = n_splines
        self.max_functions = max_functions
        self.max_iterations = max_iterations
        self.patience = patience
        self.tolerance = tolerance
        self.device = device
        self.seed = seed

    def fit(self, data: MultiDomainData) -> Self:
        """Recover the latents behind ``data``, and the loadings and noise variance where they are not given.

        Raises
        ------
        ValueError
            For data that `MultiDomainData.validate_for` refuses, and parameters out of range.
        """
        with threads_for(data.n_samples):
            return self._fit(data)

    def _fit(self, data: MultiDomainData) -> Self:
        if not 0.0 <= self.damping <= 1.0:
            raise ValueError(f"damping={self.damping} must lie in [0, 1]")
        data.validate_for(self.graph)
        seen = data.pooled() if self.pooled else data
        indicator = seen.indicator(self.graph)
        start = starting_point(seen, indicator, self)
        self.unidentified_ = start.unidentified(self.graph)
        self._targets = dict(seen.targets)
        # A mixture takes long to fit: the loadings are found with a Gaussian base, and the mixture gives the final posteriors.
        self._score = self._new_score(indicator, "gaussian" if self.base == "mixture" else self.base)
        device = resolve_device(self.device)
        coordinates = torch.from_numpy(start.subspace.coordinates).to(device)
        domain = torch.from_numpy(seen.domain_index).to(device)
        weights = self._row_weights(seen, device)
        measurement = self._iterate(start.subspace, start.measurement.to(device), coordinates, domain, weights)

        if self.base == "mixture":
            self._score = self._new_score(indicator, self.base, announce=False)
        posterior = self._refit(measurement, coordinates, domain, weights)
        self._measurement = measurement
        self.loadings_ = start.subspace.basis @ measurement.mixing.cpu().numpy()
        self.noise_variance_ = float(measurement.noise_variance)
        self.latents_ = posterior.mean.cpu().numpy()
        self.latent_variances_ = posterior.variance.cpu().numpy()
        return self

    def posterior(self, data: MultiDomainData) -> tuple[np.ndarray, np.ndarray]:
        """Posterior means and variances (n, d_z) of new samples from domains that the fit has seen.

        Raises
        ------
        ValueError
            If ``data`` has another number of measurements, or a domain that the fit did not see under this name.
        """
        with threads_for(data.n_samples):
            return self._posterior(data)

    def _posterior(self, data: MultiDomainData) -> tuple[np.ndarray, np.ndarray]:
        self.check_fitted()
        seen = data.pooled() if self.pooled else data
        if seen.n_measurements != len(self.loadings_):
            raise ValueError(
                f"the data have {seen.n_measurements} measurements, the model was fitted on {len(self.loadings_)}"
            )
        known = {domain: e for e, domain in enumerate(self._targets)}
        foreign = [domain for domain in seen.domains if domain not in known]
        if foreign:
            raise ValueError(f"domain {foreign[0]!r} was not in the fit, which saw {list(known)}: its score is unknown")
        recode = np.array([known[domain] for domain in seen.domains])
        device = self._measurement.mixing.device
        u = torch.from_numpy(project(seen, np.linalg.pinv(self.loadings_).T)).to(device)
        domain = torch.from_numpy(recode[seen.domain_index]).to(device)
        noise = self._measurement.noise
        score, jacobian = self._score.score_and_jacobian(u, domain, full=noise.ndim == 2)
        result = tweedie(u, score, jacobian, noise, self.damping)
        return result.mean.cpu().numpy(), result.variance.cpu().numpy()

    def fitted_state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """See `LatentModel.fitted_state`."""
        self.check_fitted()
        arrays, score = self._score.state()
        arrays |= {
            "loadings": self.loadings_,
            "mixing": self._measurement.mixing.cpu().numpy(),
            "latents": self.latents_,
            "latent_variances": self.latent_variances_,
        }
        values = {
            "score": score,
            "noise_variance": self.noise_variance_,
            "targets": [[domain, list(nodes)] for domain, nodes in self._targets.items()],
            "history": self.history_,
            "n_iter": self.n_iter_,
            "converged": self.converged_,
            "unidentified": list(self.unidentified_),
        }
        return arrays, values

    def restore_state(self, arrays: dict[str, np.ndarray], values: dict[str, Any]) -> None:
        """See `LatentModel.restore_state`."""
        self._targets = {domain: tuple(nodes) for domain, nodes in values["targets"]}
        indicator = np.array([[node in nodes for node in self.graph.nodes] for nodes in self._targets.values()])
        self._score = self._new_score(indicator, self.base, announce=False)
        self._score.restore(arrays, values["score"])
        self.loadings_ = arrays["loadings"]
        self.noise_variance_ = float(values["noise_variance"])
        self._measurement = Measurement(torch.from_numpy(arrays["mixing"].copy()), self.noise_variance_, self.columns)
        self.latents_, self.latent_variances_ = arrays["latents"], arrays["latent_variances"]
        self.history_, self.n_iter_ = values["history"], values["n_iter"]
        self.converged_, self.unidentified_ = values["converged"], tuple(values["unidentified"])

    # --- the algorithm -----------------------------------------------------------------------------------------------

    def _iterate(
        self, subspace: Subspace, measurement: Measurement, coordinates: Tensor, domain: Tensor, weights: Tensor | None
    ) -> Measurement:
        """Alternate score, posterior and M-step; return the measurement model with the lowest held-out loss."""
        self.history_ = []
        learns = self.loadings is None or self.noise_variance is None
        best, best_losses, best_at = measurement, None, -1
        self.converged_ = not learns
        held = _held_out(domain)
        order = torch.argsort(held.to(torch.uint8), stable=True)
        coordinates, domain = coordinates[order], domain[order]
        weights = None if weights is None else weights[order]
        n_fitted = int((~held).sum())
        limit = self.max_iterations if learns else 0
        with progress("f-modeling", limit) as report:
            for iteration in range(limit):
                u = measurement.unmix(coordinates)
                score, jacobian = self._fit_score(measurement, u, domain, weights, n_fitted)
                losses = matching_losses(score[n_fitted:], jacobian[n_fitted:], measurement.metric)
                losses = losses if weights is None else losses * weights[n_fitted:]
                if best_losses is None or _clearly_lower(losses, best_losses):
                    best, best_losses, best_at = measurement, losses, iteration
                posterior = tweedie(u, score, jacobian, measurement.noise, self.damping)
                updated = measurement.step(
                    subspace,
                    coordinates,
                    LatentMoments.of(coordinates, posterior.mean, posterior.covariance),
                    learn_loadings=self.loadings is None,
                    learn_noise=self.noise_variance is None,
                )
                change = _relative_change(measurement, updated)
                self.history_.append(
                    {
                        "held_out_loss": float(losses.mean()),
                        "noise_variance": measurement.noise_variance,
                        "change": change,
                        "raised": posterior.raised / posterior.mean.numel(),
                    }
                )
                report(iteration + 1, self.history_[-1]["held_out_loss"])
                if change < self.tolerance or iteration - best_at >= self.patience:
                    self.converged_ = True
                    break
                measurement = updated
        self.n_iter_ = len(self.history_)
        if not self.converged_:
            warnings.warn(
                f"the held-out loss was still falling after {self.max_iterations} iterations: raise max_iterations",
                ConvergenceWarning,
                stacklevel=4,
            )
        return best

    def _refit(
        self, measurement: Measurement, coordinates: Tensor, domain: Tensor, weights: Tensor | None
    ) -> Posterior:
        """The score from all rows at the chosen loadings, and the posteriors that are reported."""
        u = measurement.unmix(coordinates)
        score, jacobian = self._fit_score(measurement, u, domain, weights, None)
        posterior = tweedie(u, score, jacobian, measurement.noise, self.damping)
        share = posterior.raised / posterior.mean.numel()
        if share > 0.05:
            warnings.warn(
                f"{share:.0%} of the posterior variances came out below zero or nearly so and were raised: the score is too rough "
                "for its data; use fewer splines, a score that sees less, or more samples",
                UserWarning,
                stacklevel=4,
            )
        return posterior

    def _fit_score(
        self, measurement: Measurement, u: Tensor, domain: Tensor, weights: Tensor | None, n_fitted: int | None
    ) -> tuple[Tensor, Tensor]:
        noise = measurement.noise
        correlated = noise.ndim == 2
        return self._score.fit(
            u, domain, noise if correlated else torch.diag(noise), weights, n_fitted, full=correlated
        )

    def _new_score(self, indicator: np.ndarray, base: Base | None, *, announce: bool = True) -> CausalScore:
        with warnings.catch_warnings():
            if not announce:  # the takeover by a neural score was announced before
                warnings.simplefilter("ignore", UserWarning)
            return CausalScore(
                self.graph,
                indicator,
                visibility=self.score,
                base=base,
                n_splines=self.n_splines,
                max_functions=self.max_functions,
                seed=self.seed,
            )

    def _row_weights(self, data: MultiDomainData, device: torch.device) -> Tensor | None:
        """Weights of mean 1 for every row, or None where all count alike."""
        if self.domain_weights is None:
            return None
        counts = np.bincount(data.domain_index, minlength=len(data.domains))
        if isinstance(self.domain_weights, str):
            if self.domain_weights != "equal":
                raise ValueError(f"domain_weights={self.domain_weights!r}: give 'equal' or a weight for every domain")
            of_domain = np.ones(len(counts))
        else:
            missing = [domain for domain in data.domains if domain not in self.domain_weights]
            if missing:
                raise ValueError(f"domain_weights has no entry for domain {missing[0]!r}: give one for every domain")
            of_domain = np.array([float(self.domain_weights[domain]) for domain in data.domains])
            if not (np.isfinite(of_domain).all() and (of_domain >= 0).all() and of_domain.sum() > 0):
                raise ValueError("domain_weights must be non-negative numbers, not all zero")
        rows = (of_domain / of_domain.sum() / counts)[data.domain_index] * len(data.domain_index)
        return torch.from_numpy(rows).to(device)


def _held_out(domain: Tensor) -> Tensor:
    """Every `HELD_OUT`-th row of each domain (n,), whatever the order of the rows."""
    return rank_within(domain) % HELD_OUT == HELD_OUT - 1


def _clearly_lower(new: Tensor, old: Tensor) -> bool:
    """Whether the mean of paired losses fell by more than its sampling error explains."""
    gain = old - new
    return float(gain.mean()) > SIGNIFICANT * float(gain.std()) / len(gain) ** 0.5


def _relative_change(old: Measurement, new: Measurement) -> float:
    loadings = torch.linalg.matrix_norm(new.mixing - old.mixing) / torch.linalg.matrix_norm(old.mixing)
    noise = abs(new.noise_variance - old.noise_variance) / old.noise_variance
    return float(loadings) + noise
