"""The one abstract class of forecasts of fire masks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from latentcause.datasets.wildfires.series import FireSeries


class FireForecaster(BaseEstimator, ABC):
    """Learns from whole fires, and says of each day of another where a fire will be detected on the next.

    Attributes
    ----------
    rate_ : float
        Share of the pixels that are marked, over the days of the training fires that have a day before.
    """

    rate_: float

    def fit(self, fires: Sequence[FireSeries]) -> Self:
        """Learn from these fires; those to be judged by must be others, since days of one fire are alike.

        Raises
        ------
        ValueError
            For no fires, a fire of one day, and fires without any detection after their first day.
        """
        if not fires:
            raise ValueError("there are no fires to learn from")
        short = [fire.name for fire in fires if len(fire.dates) < 2]
        if short:
            raise ValueError(f"fire {short[0]!r} has one day only: leave it out")
        marked = sum(int(fire.masks[1:].sum()) for fire in fires)
        if not marked:
            raise ValueError("no fire is detected after a first day: there is nothing to learn from")
        self.rate_ = marked / sum(fire.masks[1:].size for fire in fires)
        self._learn(fires)
        return self

    def predict_proba(self, fire: FireSeries) -> np.ndarray:
        """P(detected on the next day | days up to this one), (days - 1, h, w), for each day but the last.

        Raises
        ------
        ValueError
            For a fire of one day.
        NotFittedError
            Before `fit`.
        """
        if not hasattr(self, "rate_"):
            raise NotFittedError(f"this {type(self).__name__} is not fitted yet: call fit(fires) first")
        if len(fire.dates) < 2:
            raise ValueError(f"fire {fire.name!r} has one day only: there is no next day")
        return self._predict(fire)

    @abstractmethod
    def _learn(self, fires: Sequence[FireSeries]) -> None:
        """Set what the forecasts need."""

    @abstractmethod
    def _predict(self, fire: FireSeries) -> np.ndarray:
        """The forecasts (days - 1, h, w)."""
