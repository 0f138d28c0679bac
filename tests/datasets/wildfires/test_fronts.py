import numpy as np
import pytest
import torch

from latentcause.datasets import simulate_wildfires
from latentcause.datasets.wildfires import FireSensor, SpreadModel
from latentcause.datasets.wildfires.fronts import DRIVE, FRONT_GRAPH, FRONTS, front_draws, front_windows
from latentcause.datasets.wildfires.symmetry import SYMMETRIES, turn, turn_mask
from latentcause.observation import BernoulliError

SIDE = 18


@pytest.fixture(scope="module", params=[0.0, 1.0], ids=["pixels", "footprints"])
def fires(request):
    """All days with footprints of one pixel, or all with footprints of 2 x 2."""
    sensor = FireSensor(far_share=request.param, cloud_share=0.3)
    return simulate_wildfires(4, (30, 36), 6, seed=5, sensor=sensor, spread=SpreadModel(rate=1.3))


@pytest.fixture(scope="module")
def windows(fires):
    return [window for fire in fires for window in front_windows(fire, SIDE)]


def test_fields_are_todays_drive_and_three_fronts(windows):
    for window in windows:
        z, fire = window.fields(), window.fire
        assert z.shape == (len(FRONT_GRAPH), SIDE, SIDE)
        for k, day in enumerate((window.day - 1, window.day, window.day + 1)):
            np.testing.assert_array_equal(z[len(DRIVE) + k] > 0, window.cut(fire.front[day]))
        drive = fire.spread.drive(fire.series.values[window.day])
        np.testing.assert_array_equal(z[0], window.cut(drive.east))
        assert z[2].min() >= -4


def test_windows_hold_what_is_marked(windows):
    assert len(windows) > 10
    inside = [window.cut(window.fire.series.masks[window.day]).sum() for window in windows]
    everywhere = [window.fire.series.masks[window.day].sum() for window in windows]
    assert sum(inside) > 0.9 * sum(everywhere)
    assert all(window.top % 2 == window.left % 2 == 0 for window in windows)


def test_marks_weigh_fronts_as_the_sensor_does(windows):
    """One burning pixel more or less in a clear footprint changes the likelihood as its chance of detection says."""
    for window in windows[:6]:
        sensor, footprint = window.fire.sensor, window.fire.footprints[window.day]
        chance = sensor.near if footprint == 1 else sensor.far
        observations = window.observations(torch.ones(6))
        for name, found in observations.per_node:
            if name in DRIVE:
                continue
            y = torch.from_numpy(found.values)
            none = found.operator(-torch.ones(SIDE, SIDE, dtype=torch.float64))
            one = none + 2 / footprint**2
            ratio = (found.noise.log_prob(y, one) - found.noise.log_prob(y, none)).exp()
            expected = chance / 1e-3 if isinstance(found.noise, BernoulliError) else 1 - chance
            np.testing.assert_allclose(ratio, expected, rtol=1e-9)


def test_every_clear_cell_is_seen_once(windows):
    for window in windows:
        fire, size = window.fire, window.fire.footprints[window.day] ** 2
        seen = sum(len(found.values) for name, found in window.observations(torch.ones(6)).per_node if name == "today")
        clear = ~window.cut(fire.cloud[window.day])
        assert seen * size == clear.sum()
        drive = [found for name, found in window.observations(torch.ones(6)).per_node if name in DRIVE]
        assert [len(found.values) for found in drive] == [36, 36, 36]


def test_draws_are_all_windows_turned(fires, windows):
    draws = front_draws(fires, SIDE, seed=1)
    assert draws.shape == (len(windows), 6, SIDE, SIDE)
    burning = sorted((draws[:, len(DRIVE) :] > 0).sum((1, 2, 3)).tolist())
    assert burning == sorted(int((window.fields()[len(DRIVE) :] > 0).sum()) for window in windows)
    assert set(draws[:, len(DRIVE) :].unique().tolist()) == {-1.0, 1.0}
    assert FRONT_GRAPH.nodes[len(DRIVE) :] == FRONTS
    assert torch.equal(draws, front_draws(fires, SIDE, seed=1))


@pytest.mark.parametrize("symmetry", range(SYMMETRIES))
def test_the_vector_turns_with_the_map(symmetry):
    """What lies along it from the middle still does so after turning."""
    x = torch.zeros(1, 3, 9, 9)
    x[:, 0], x[:, 1] = 2.0, 1.0  # towards east and north
    x[0, 2, 4 - 1, 4 + 2] = 1.0
    turned = turn(x, symmetry)
    row, column = (turned[0, 2] == 1).nonzero()[0].tolist()
    assert turned[0, :2, 0, 0].tolist() == [column - 4, 4 - row]
    assert torch.equal(turn_mask(x[:, 2], symmetry), turned[:, 2])


@pytest.mark.parametrize("side", [0, 20, 36])
def test_windows_of_other_sizes_are_refused(fires, side):
    with pytest.raises(ValueError, match="multiple of 6"):
        next(front_windows(fires[0], side))
