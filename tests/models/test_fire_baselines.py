import dataclasses

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from sklearn.exceptions import NotFittedError
from sklearn.metrics import average_precision_score

from latentcause.datasets import simulate_wildfires
from latentcause.datasets.wildfires import CHANNELS, SpreadModel
from latentcause.models.baselines.fires import FireUNet, LogisticFire, PersistentFire
from latentcause.models.baselines.fires.logistic import NEAR, local_features

METHODS = [PersistentFire(), LogisticFire(), FireUNet((8, 16), epochs=12, device="cpu")]


@pytest.fixture(scope="module")
def fires():
    return [fire.series for fire in simulate_wildfires(24, (32, 32), 8, seed=11, spread=SpreadModel(rate=1.2))]


@pytest.fixture(scope="module")
def scores(fires):
    """Of forecasts of fires that were not learned from, and their mean over all pixels."""
    found = {}
    for method in METHODS:
        p = np.stack([method.fit(fires[:16]).predict_proba(fire) for fire in fires[16:]])
        marks = np.stack([fire.masks[1:] for fire in fires[16:]])
        assert p.shape == marks.shape
        assert ((p > 0) & (p < 1)).all()
        found[type(method)] = average_precision_score(marks.ravel(), p.ravel()), p.mean(), marks.mean()
    return found


def test_methods_forecast_better_the_more_they_look_at(scores):
    persistent, logistic, network = (scores[type(method)][0] for method in METHODS)
    assert persistent > 3 * scores[PersistentFire][2]
    assert logistic > 1.3 * persistent
    assert network > persistent


def test_forecasts_are_probabilities_of_all_pixels(scores):
    for _, forecast, rate in scores.values():
        assert 0.4 < forecast / rate < 2.5


def test_persistence_counts(fires):
    method = PersistentFire().fit(fires[:4])
    today = np.stack([fire.masks[:-1] for fire in fires[:4]])
    tomorrow = np.stack([fire.masks[1:] for fire in fires[:4]])
    assert method.stays_ == pytest.approx((today & tomorrow).sum() / today.sum())
    assert method.appears_ == pytest.approx((~today & tomorrow).sum() / (~today).sum())
    assert method.rate_ == pytest.approx(tomorrow.mean())


def test_features_know_where_the_wind_and_the_slope_drive_a_fire(fires):
    values = np.zeros((2, 23, 32, 32), dtype=np.float32)
    values[0, -1, 16, 16] = 10
    values[:, CHANNELS.index("wind speed")], values[:, CHANNELS.index("wind direction")] = 5, 180  # towards north
    values[:, CHANNELS.index("elevation")] = 50 * np.arange(32)  # higher in the east
    features = local_features(dataclasses.replace(fires[0], dates=fires[0].dates[:2], values=values))[0]
    expected = gaussian_filter(values[0, -1] / 10.0, NEAR[0], truncate=3.0)
    np.testing.assert_allclose(np.exp(features[0]) - 1e-4, expected, atol=1e-12)
    upwind, downhill = features[7], features[8]
    assert upwind[14, 16] > 0 > upwind[18, 16]
    assert downhill[16, 18] > 0 > downhill[16, 14]


def test_missing_numbers_are_borne(fires):
    values = fires[20].values.copy()
    values[:, CHANNELS.index("NDVI"), :5] = np.nan
    for method in METHODS[1:]:
        assert np.isfinite(method.fit(fires[:2]).predict_proba(dataclasses.replace(fires[20], values=values))).all()


def test_impossible_requests_are_refused(fires):
    one_day = dataclasses.replace(fires[0], dates=fires[0].dates[:1], values=fires[0].values[:1])
    quiet = dataclasses.replace(fires[0], values=np.zeros_like(fires[0].values))
    with pytest.raises(ValueError, match="no fires"):
        PersistentFire().fit([])
    with pytest.raises(ValueError, match="one day only"):
        PersistentFire().fit([one_day])
    with pytest.raises(ValueError, match="nothing to learn from"):
        LogisticFire().fit([quiet])
    with pytest.raises(NotFittedError, match="PersistentFire is not fitted"):
        PersistentFire().predict_proba(fires[0])
    with pytest.raises(ValueError, match="no next day"):
        PersistentFire().fit(fires[:1]).predict_proba(one_day)
