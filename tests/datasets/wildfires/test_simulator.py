from itertools import product

import numpy as np
import pytest

from latentcause.datasets import simulate_wildfires
from latentcause.datasets.wildfires import CHANNELS, FireSensor, SpreadModel, filtered_fronts, ignitions

PERFECT = FireSensor(near=1.0, far_share=0.0, cloud_share=1e-9)


@pytest.fixture(scope="module")
def fires():
    return simulate_wildfires(20, (32, 32), 8, seed=1)


def test_the_same_seed_gives_the_same_fires(fires):
    again = simulate_wildfires(2, (32, 32), 8, seed=1)
    for fire, other in zip(fires, again, strict=False):
        np.testing.assert_array_equal(fire.series.values, other.series.values)
        np.testing.assert_array_equal(fire.front, other.front)
    assert not np.array_equal(fires[0].series.values, fires[1].series.values)


def test_maps_are_complete_and_fires_rare(fires):
    values = np.stack([fire.series.values for fire in fires])
    assert values.shape == (20, 8, 23, 32, 32)
    assert np.isfinite(values).all()
    for name in ("wind direction", "aspect", "forecast wind direction"):
        direction = values[:, :, CHANNELS.index(name)]
        assert (direction >= 0).all()
        assert (direction <= 360).all()
    front = np.stack([fire.front for fire in fires])
    assert 0.001 < front.mean() < 0.03  # of maps a quarter of the default's size
    assert (front[:, 0].sum((1, 2)) >= 9).all()


def test_burned_pixels_do_not_burn_again(fires):
    for fire in fires:
        ended = fire.reached[:-1] & ~fire.front[:-1]
        assert not (ended & fire.front[1:]).any()


def test_fires_come_as_often_as_the_mechanism_says(fires):
    p = np.concatenate([fire.tomorrow().ravel() for fire in fires])
    burns = np.concatenate([fire.front[1:].ravel() for fire in fires])
    for low, high in ((0.0, 0.1), (0.1, 0.3), (0.3, 1.0)):
        chosen = (p > low) & (p <= high)
        error = np.sqrt((p * (1 - p))[chosen].sum())
        assert abs(burns[chosen].sum() - p[chosen].sum()) < 4 * error


def test_the_chance_of_catching_fire_is_that_of_the_formula(fires):
    """Pixel after pixel, as the docstring of SpreadModel has it."""
    model, maps = SpreadModel(), fires[0].series.values[0]
    front = np.zeros((1, 32, 32), dtype=bool)
    front[0, 10, 12] = front[0, 11, 14] = True
    reached = front.copy()
    reached[0, 12, 12] = True
    p = model.next_day(front, reached, maps)[0]
    drive = model.drive(maps)
    norm = sum(np.exp(-np.hypot(a, b)) for a, b in product(range(-4, 5), repeat=2) if 0 < np.hypot(a, b) <= 4)
    for row, column in ((9, 12), (13, 15), (10, 13), (30, 2)):
        hazard = 2 * model.embers * np.exp(drive.potential[row, column])
        for from_row, from_column in ((10, 12), (11, 14)):
            down, right = row - from_row, column - from_column
            length = np.hypot(down, right)
            if length <= 4:
                push = (drive.east[row, column] * right - drive.north[row, column] * down) / length
                hazard += np.exp(drive.potential[row, column] + push - length) / norm
        assert p[row, column] == pytest.approx(1 - np.exp(-hazard), rel=1e-9)
    assert p[12, 12] == 0
    rain = maps[CHANNELS.index("total precipitation"), 0, 0]
    assert p[10, 12] == pytest.approx(0.4 * np.exp(-rain / 2))


def test_wind_and_slope_push_the_fire():
    model, maps = SpreadModel(), np.zeros((23, 32, 32), dtype=np.float32)
    maps[CHANNELS.index("NDVI")], maps[CHANNELS.index("energy release component")] = 4500, 60
    front = np.zeros((1, 32, 32), dtype=bool)
    front[0, 16, 16] = True
    calm = model.next_day(front, front, maps)[0]
    assert calm[15, 16] == pytest.approx(calm[16, 17])
    maps[CHANNELS.index("wind speed")], maps[CHANNELS.index("wind direction")] = 8, 270  # from the west
    windy = model.next_day(front, front, maps)[0]
    assert windy[16, 17] > 4 * windy[16, 15]
    assert windy[16, 17] > calm[16, 17]
    maps[CHANNELS.index("wind speed")] = 0
    maps[CHANNELS.index("elevation")] = -60 * np.arange(32)[:, None]  # higher in the north
    uphill = model.next_day(front, front, maps)[0]
    assert uphill[15, 16] > 2 * uphill[17, 16]


@pytest.mark.parametrize("footprint", [1, 2])
def test_sensor_agrees_with_all_fronts_and_masks_counted(footprint):
    """P(mask), P(front | mask) and P(marked) on 2 x 2 pixels, one of them under cloud where the footprint is 1."""
    rng, sensor = np.random.default_rng(0), FireSensor(near=0.7, far=0.5, far_share=0.4, cloud_share=0.1)
    p = np.array([[0.2, 0.6], [0.05, 0.9]])
    cloud = np.array([[False, footprint == 1], [False, False]])
    chance = sensor.chance(cloud, footprint)
    fronts = np.array(list(product([False, True], repeat=4))).reshape(-1, 2, 2)
    prior = np.where(fronts, p, 1 - p).prod((1, 2))
    mask = np.ones((2, 2), dtype=bool) if footprint == 2 else np.array([[True, False], [False, True]])
    seen = chance * fronts
    if footprint == 2:
        likelihood = 1 - (1 - seen).prod((1, 2))
    else:
        likelihood = np.where(mask, seen, 1 - seen).prod((1, 2))
    evidence = (prior * likelihood).sum()
    assert np.exp(sensor.log_likelihood(mask, p[None], cloud, footprint))[0] == pytest.approx(evidence)
    posterior = np.einsum("f,fij->ij", prior * likelihood, fronts) / evidence
    draws = sensor.front_given(mask, np.broadcast_to(p, (40_000, 2, 2)), cloud, footprint, rng)
    np.testing.assert_allclose(draws.mean(0), posterior, atol=0.012)
    masks = np.stack([sensor.detect(draws[k], cloud, footprint, rng) for k in range(200)])
    assert (masks <= (draws[:200] if footprint == 1 else draws[:200].any((1, 2), keepdims=True))).all()
    marked = sensor.mark_probability(p)
    far = 1 - (1 - 0.5 * p).prod()
    np.testing.assert_allclose(marked, 0.9 * (0.6 * 0.7 * p + 0.4 * far))


def test_filter_of_a_perfect_sensor_is_the_truth():
    fire = simulate_wildfires(1, (16, 16), 5, seed=3, sensor=PERFECT)[0]
    found = filtered_fronts(fire, 20)
    np.testing.assert_array_equal(found.today, fire.front)
    np.testing.assert_allclose(found.tomorrow, fire.tomorrow())


def test_filter_is_calibrated_and_as_sharp_as_masks_allow(fires):
    found = [filtered_fronts(fire, 64, seed=4) for fire in fires[:8]]
    today = np.concatenate([part.today.ravel() for part in found])
    front = np.concatenate([fire.front.ravel() for fire in fires[:8]])
    assert today.sum() == pytest.approx(front.sum(), rel=0.15)
    brier = np.square(today - front).mean()
    masks = np.concatenate([fire.series.masks.ravel() for fire in fires[:8]])
    assert brier < 0.7 * np.square(masks.astype(float) - front).mean()


def test_impossible_requests_are_refused(fires):
    with pytest.raises(ValueError, match="0 fires"):
        simulate_wildfires(0, seed=0)
    with pytest.raises(ValueError, match="two even numbers"):
        simulate_wildfires(1, (33, 32), seed=0)
    with pytest.raises(ValueError, match="1 particles"):
        filtered_fronts(fires[0], 1)


def test_ignitions_lie_in_the_middle():
    starts = ignitions((16, 20), (1, 2))
    assert starts.shape == (2 * 8 * 10, 16, 20)
    assert sorted(set(starts.sum((1, 2)).tolist())) == [9, 21]
