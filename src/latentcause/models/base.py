"""The one abstract class of the estimators: what every model that recovers latent variables offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from latentcause.data import MultiDomainData
from latentcause.graph import CausalGraph


class LatentModel(BaseEstimator, ABC):
    """Recovers latent variables from multi-domain measurements.

    Constructors only store their arguments (scikit-learn's rule, so ``get_params``, ``clone`` and ``repr`` work);
    ``fit`` returns ``self`` and sets the attributes below.

    Attributes
    ----------
    latents_ : ndarray of shape (n, d_z)
        Posterior mean of each sample's latent variables; columns in ``graph.nodes`` order.
    latent_variances_ : ndarray of shape (n, d_z)
        Posterior variances, in the squared units of the latents.
    loadings_ : ndarray of shape (d_x, d_z)
        The measurement matrix A of x = A z + noise (absent where the decoder is not linear).
    noise_variance_ : float
        Variance sigma^2 of the measurement noise.
    """

    graph: CausalGraph

    @abstractmethod
    def fit(self, data: MultiDomainData) -> Self:
        """Fit the model to the data and return it."""

    @abstractmethod
    def posterior(self, data: MultiDomainData) -> tuple[np.ndarray, np.ndarray]:
        """Posterior means and variances, each (n, d_z), of the latents behind ``data``."""

    @abstractmethod
    def fitted_state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """What fitting learned: arrays by name, and values that JSON can hold. ``latentcause.save`` writes both."""

    @abstractmethod
    def restore_state(self, arrays: dict[str, np.ndarray], values: dict[str, Any]) -> None:
        """Set the fitted attributes from what ``fitted_state`` gave."""

    def transform(self, data: MultiDomainData) -> np.ndarray:
        """Posterior means (n, d_z) of the latents behind ``data``; columns in ``graph.nodes`` order."""
        return self.posterior(data)[0]

    def check_fitted(self) -> None:
        """Raise one clear error where ``fit`` has not run yet."""
        if not hasattr(self, "noise_variance_"):
            raise NotFittedError(f"this {type(self).__name__} is not fitted yet: call fit(data) first")
