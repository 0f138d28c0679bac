"""Linear baselines that ignore domains and graph: PCA, FastICA and probabilistic PCA of the pooled rows.

All three work on x = A z + noise without an intercept, so moments are taken about zero, and all report loadings with
columns of unit norm, the scale of the paper's orthonormal model (Wu, von Kuegelgen and Blei, Eq. 3.1 and section 7).
They know how many latents there are but not which is which: columns come in the order of explained variance (PCA) or in
no order (FastICA). Even where a method succeeds, its latents are right only up to signs and a permutation; matching
them to nodes needs the true latents and belongs to evaluation (``latentcause.metrics``).
"""

from __future__ import annotations

import warnings
from typing import Any, Self, final

import numpy as np
from sklearn import decomposition
from sklearn.exceptions import ConvergenceWarning

from latentcause.data import MultiDomainData
from latentcause.graph import CausalGraph
from latentcause.models.base import LatentModel
from latentcause.models.subspace import Subspace, project


def _finish(
    model: Any, data: MultiDomainData, loadings: np.ndarray, gain: np.ndarray, variances: np.ndarray, noise: float
) -> None:
    """Set the fitted attributes: latents = gain' x with the same posterior variances (d_z,) in every row."""
    model.loadings_, model.gain_, model.variances_ = loadings, gain, variances
    model.noise_variance_ = noise
    model.history_ = []
    model.latents_, model.latent_variances_ = model.posterior(data)


def _posterior(self: Any, data: MultiDomainData) -> tuple[np.ndarray, np.ndarray]:
    """Estimates (n, d_z) of the latents behind ``data``, and their variances, which are the same in every row."""
    self.check_fitted()
    expected, found = len(self.gain_), data.n_measurements
    if found != expected:
        raise ValueError(f"this {type(self).__name__} was fitted to {expected} measurements, the data have {found}")
    return project(data, self.gain_), np.tile(self.variances_, (data.n_samples, 1))


def _fitted_state(self: Any) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """What fitting learned: arrays by name, and values that JSON can hold."""
    self.check_fitted()
    return {name: getattr(self, name) for name in _ARRAYS}, {name: getattr(self, name) for name in _VALUES}


def _restore_state(self: Any, arrays: dict[str, np.ndarray], values: dict[str, Any]) -> None:
    """Set the fitted attributes from what ``fitted_state`` gave."""
    for name in _ARRAYS:
        setattr(self, name, arrays[name])
    for name in _VALUES:
        setattr(self, name, values[name])


_ARRAYS = ("latents_", "latent_variances_", "loadings_", "gain_", "variances_")
_VALUES = ("noise_variance_", "history_", "converged_", "n_iter_")


@final
class PCA(LatentModel):
    """Principal components: z = W' x, with W the leading eigenvectors of (1/n) sum x x', and no shrinkage.

    The noise variance is the mean of the discarded eigenvalues; it is also the variance of every latent about its
    estimate. This is the PCA row of the paper's section 7. Latents are right at best up to signs and a permutation
    (see the module).

    Parameters
    ----------
    graph : CausalGraph
        Gives the number and names of the latents; its edges are not used.
    seed : int
        Not used: nothing is random here. It is there so that all models are made alike.
    """

    def __init__(self, graph: CausalGraph, seed: int = 0) -> None:
        self.graph = graph
        self.seed = seed

    def fit(self, data: MultiDomainData) -> Self:
        """Fit to the pooled rows. Raises ``ValueError`` for data that cannot carry the latents (also d_x = d_z)."""
        data.validate_for(self.graph)
        subspace = Subspace.principal(data, len(self.graph.nodes))
        noise = subspace.residual_variance()
        self.converged_, self.n_iter_ = True, 1
        _finish(self, data, subspace.basis, subspace.basis, np.full(len(self.graph.nodes), noise), noise)
        return self

    posterior = _posterior
    fitted_state = _fitted_state
    restore_state = _restore_state


@final
class ProbabilisticPCA(LatentModel):
    """Maximum likelihood of z ~ N(0, I), x = A z + noise in closed form (Tipping and Bishop 1999, Eqs. 7 and 8).

    A = W (L - sigma^2 I)^(1/2) with W and L the leading eigenvectors and eigenvalues of (1/n) sum x x' (the model has
    no intercept), and sigma^2 the mean of the other eigenvalues. What is reported has loadings of unit norm instead:
    the same model with loadings W and z_j ~ N(0, l_j - sigma^2). The posterior of z_j is then Gaussian and independent,

        mean (l_j - sigma^2) / l_j  w_j' x,    variance sigma^2 (l_j - sigma^2) / l_j.

    The likelihood does not change under rotations of z, and these axes are right only if the true latents are
    uncorrelated and of different variances; then up to signs and a permutation (see the module).

    Parameters
    ----------
    graph : CausalGraph
        Gives the number and names of the latents; its edges are not used.
    seed : int
        Not used: nothing is random here. It is there so that all models are made alike.
    """

    def __init__(self, graph: CausalGraph, seed: int = 0) -> None:
        self.graph = graph
        self.seed = seed

    def fit(self, data: MultiDomainData) -> Self:
        """Fit to the pooled rows. Raises ``ValueError`` for data that cannot carry the latents (also d_x = d_z)."""
        data.validate_for(self.graph)
        subspace = Subspace.principal(data, len(self.graph.nodes))
        noise = subspace.residual_variance()
        shrinkage = 1.0 - noise / np.square(subspace.coordinates).mean(axis=0)
        self.converged_, self.n_iter_ = True, 1
        _finish(self, data, subspace.basis, subspace.basis * shrinkage, noise * shrinkage, noise)
        return self

    posterior = _posterior
    fitted_state = _fitted_state
    restore_state = _restore_state


@final
class FastICA(LatentModel):
    """Independent components (Hyvarinen 1999; scikit-learn's FastICA, log cosh contrast) of the principal subspace.

    With W the principal basis and M the mixing matrix that FastICA finds for the coordinates W' x, the loadings are
    A = W M with columns scaled to unit norm, and the latents are the least-squares z = (A'A)^-1 A' x, whose variances
    about the truth are sigma^2 diag (A'A)^-1. Independence is asked of the pooled rows, which latents with causal
    links or shared interventions do not meet. Latents are right at best up to signs and a permutation (see the module).

    Parameters
    ----------
    graph : CausalGraph
        Gives the number and names of the latents; its edges are not used.
    max_iterations : int
        Limit of FastICA's iterations.
    seed : int
        Seed of FastICA's starting matrix.
    """

    def __init__(self, graph: CausalGraph, max_iterations: int = 500, seed: int = 0) -> None:
        self.graph = graph
        self.max_iterations = max_iterations
        self.seed = seed

    def fit(self, data: MultiDomainData) -> Self:
        """Fit to the pooled rows. Raises ``ValueError`` for data that cannot carry the latents (also d_x = d_z)."""
        data.validate_for(self.graph)
        subspace = Subspace.principal(data, len(self.graph.nodes))
        noise = subspace.residual_variance()
        ica = decomposition.FastICA(whiten="unit-variance", max_iter=self.max_iterations, random_state=self.seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            ica.fit(subspace.coordinates)
        self.n_iter_ = int(ica.n_iter_)
        self.converged_ = self.n_iter_ < self.max_iterations
        if not self.converged_:
            warnings.warn(
                f"FastICA did not settle within {self.max_iterations} iterations; raise max_iterations, or the data "
                "have no independent non-Gaussian components to find",
                ConvergenceWarning,
                stacklevel=2,
            )
        mixing = ica.mixing_ / np.linalg.norm(ica.mixing_, axis=0)
        unmixing = np.linalg.inv(mixing)
        variances = noise * np.square(unmixing).sum(axis=1)
        _finish(self, data, subspace.basis @ mixing, subspace.basis @ unmixing.T, variances, noise)
        return self

    posterior = _posterior
    fitted_state = _fitted_state
    restore_state = _restore_state
