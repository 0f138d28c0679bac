"""Tomorrow is as today."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from latentcause.datasets.wildfires.series import FireSeries
from latentcause.models.baselines.fires.forecaster import FireForecaster


class PersistentFire(FireForecaster):
    """Two probabilities: that of a mark where there is one today, and that where there is none.

    Attributes
    ----------
    stays_, appears_ : float
        Their shares among the training fires.
    """

    stays_: float
    appears_: float

    def _learn(self, fires: Sequence[FireSeries]) -> None:
        today = np.concatenate([fire.masks[:-1].ravel() for fire in fires])
        tomorrow = np.concatenate([fire.masks[1:].ravel() for fire in fires])
        self.stays_ = float(tomorrow[today].mean()) if today.any() else self.rate_
        self.appears_ = float(tomorrow[~today].mean())

    def _predict(self, fire: FireSeries) -> np.ndarray:
        return np.where(fire.masks[:-1], self.stays_, self.appears_)
