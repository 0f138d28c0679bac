"""Logistic regression on what a pixel and its neighbours look like today."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import gaussian_filter
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from latentcause.datasets.wildfires.series import PIXEL, FireSeries
from latentcause.models.baselines.fires.forecaster import FireForecaster

NEAR = (1.0, 2.0, 4.0)
"""Standard deviations, in pixels, of the averages of the mask around a pixel."""

FLOOR = 1e-4
"""Added to them before the logarithm."""

UNBURNABLE = (13, 15, 16, 17)
"""Classes of land cover (IGBP): built-up, ice, barren, water."""

PLAIN = (
    "VIIRS band M11",
    "VIIRS band I2",
    "VIIRS band I1",
    "NDVI",
    "total precipitation",
    "wind speed",
    "maximum temperature",
    "energy release component",
    "specific humidity",
    "slope",
    "pdsi",
)
"""Channels that are features as they are."""


class LogisticFire(FireForecaster):
    """Logistic regression on `local_features`, with all marked pixels, those near a fire, and a share of the others.

    A pixel that is drawn with probability q counts 1 / q times, so that the probabilities stay those of all pixels.

    Parameters
    ----------
    strength : float
        C of `sklearn.linear_model.LogisticRegression`.
    far_share : float
        Of the pixels of which no fire is seen within some 12 pixels.
    seed : int
        Of the draw.

    Attributes
    ----------
    model_ : Pipeline
    means_ : ndarray
        Of the features; they stand in for missing numbers.
    """

    model_: Pipeline
    means_: np.ndarray

    def __init__(self, strength: float = 1.0, far_share: float = 0.02, seed: int = 0) -> None:
        self.strength = strength
        self.far_share = far_share
        self.seed = seed

    def _learn(self, fires: Sequence[FireSeries]) -> None:
        rng = np.random.default_rng(self.seed)
        rows, marks, weights = [], [], []
        for fire in fires:
            features, tomorrow = local_features(fire), fire.masks[1:].ravel()
            widest = features[:, len(NEAR) - 1].ravel()
            near = tomorrow | (widest > np.log(2 * FLOOR))
            kept = near | (rng.random(near.size) < self.far_share)
            rows.append(np.moveaxis(features, 1, -1).reshape(near.size, -1)[kept])
            marks.append(tomorrow[kept])
            weights.append(np.where(near[kept], 1.0, 1 / self.far_share))
        x, weight = np.concatenate(rows), np.concatenate(weights)
        self.means_ = np.nan_to_num(np.nanmean(x, axis=0))
        self.model_ = make_pipeline(StandardScaler(), LogisticRegression(C=self.strength, max_iter=500))
        self.model_.fit(self._complete(x), np.concatenate(marks), logisticregression__sample_weight=weight)

    def _predict(self, fire: FireSeries) -> np.ndarray:
        features = local_features(fire)
        x = np.moveaxis(features, 1, -1).reshape(-1, features.shape[1])
        return self.model_.predict_proba(self._complete(x))[:, 1].reshape(features[:, 0].shape)

    def _complete(self, x: np.ndarray) -> np.ndarray:
        return np.where(np.isnan(x), self.means_, x)


def local_features(fire: FireSeries) -> np.ndarray:
    """Features (days - 1, k, h, w) of every pixel on each day but the last, NaN where a channel has none.

    The logarithms of the mask's averages around the pixel, by Gaussians of 1, 2 and 4 pixels, and of yesterday's by 1; today's,
    yesterday's and earlier marks themselves; how much the fire lies upwind and downhill (the average's gradient along the wind
    and the slope, in units of the average); whether nothing can burn; a number of channels; and the products of the first average
    with the NDVI, the energy release component, the rain and the brightness.
    """
    masks = fire.masks.astype(np.float64)
    today, yesterday = masks[:-1], np.concatenate([np.zeros_like(masks[:1]), masks[:-2]])
    earlier = np.concatenate([np.zeros_like(masks[:1]), np.maximum.accumulate(masks, axis=0)[:-2]])
    around = [_log_average(today, sd) for sd in NEAR]
    middle = gaussian_filter(today, (0, NEAR[1], NEAR[1])) + FLOOR
    down, right = np.gradient(middle, axis=(1, 2))
    towards_east, towards_north = wind(fire)
    upwind = -(right * towards_east - down * towards_north) / middle
    climb_down, climb_right = np.gradient(_channel(fire, "elevation"), PIXEL, axis=(1, 2))
    downhill = -(right * climb_right + down * climb_down) / middle
    plain = {name: _channel(fire, name) for name in PLAIN}
    by = [plain[name] for name in ("NDVI", "energy release component", "total precipitation", "VIIRS band I1")]
    return np.stack(
        [
            *around,
            _log_average(yesterday, NEAR[0]),
            today,
            yesterday,
            earlier,
            upwind,
            downhill,
            unburnable(fire),
            *plain.values(),
            *[around[0] * other for other in by],
        ],
        axis=1,
    )


def wind(fire: FireSeries) -> tuple[np.ndarray, np.ndarray]:
    """Towards east and north, m/s, each (days - 1, h, w)."""
    speed, origin = _channel(fire, "wind speed"), np.deg2rad(_channel(fire, "wind direction"))
    return -speed * np.sin(origin), -speed * np.cos(origin)


def unburnable(fire: FireSeries) -> np.ndarray:
    """1 where the land cover is of a class on which nothing burns, else 0; (days - 1, h, w)."""
    return np.isin(_channel(fire, "land cover"), UNBURNABLE).astype(np.float64)


def _channel(fire: FireSeries, name: str) -> np.ndarray:
    return fire.channel(name)[:-1].astype(np.float64)


def _log_average(masks: np.ndarray, sd: float) -> np.ndarray:
    return np.log(gaussian_filter(masks, (0, sd, sd), truncate=3.0) + FLOOR)
