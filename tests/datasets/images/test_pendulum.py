"""The pendulum: shadows obey the geometry, and factors can be read off the picture."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from latentcause.datasets import pendulum
from latentcause.datasets.images.pendulum import LEFT, SCENE, measure_pendulum, pendulum_scm, render_pendulum

FACTORS = ["angle", "light", "shadow_length", "shadow_position"]


def frame(*row: float) -> pd.DataFrame:
    return pd.DataFrame([row], columns=FACTORS)


def test_shadow_of_a_ray_through_pivot_and_rod_end() -> None:
    factors = pendulum(200, 16, seed=0, noise=0.0).images.labels
    angle, sun = np.radians(factors["angle"]), factors["light"]
    ends = []
    for x, y in ((10.0, 10.5), (10 + 9.5 * np.sin(angle), 10.5 - 9.5 * np.cos(angle))):
        direction = (10.0 - sun, 10.5 - 20.5)  # of the ray from the sun through the pivot; all rays are parallel
        ends.append(x + direction[0] * (y + 0.5) / -direction[1])
    np.testing.assert_allclose(factors["shadow_position"], (ends[0] + ends[1]) / 2, atol=1e-9)
    np.testing.assert_allclose(factors["shadow_length"], np.maximum(3, np.abs(ends[0] - ends[1])), atol=1e-9)


def test_noise_has_the_spread_asked_for_and_is_independent() -> None:
    scm = pendulum_scm(noise=0.3)
    rows = scm.sample(4000, generator=0)
    clean = pendulum_scm(noise=0.0).counterfactual(rows, {"angle": rows[:, 0]})
    factual = pendulum_scm(noise=0.0).sample(4000, generator=0)
    np.testing.assert_allclose(rows[:, :2], factual[:, :2])
    noise = rows[:, 2:] - factual[:, 2:]
    np.testing.assert_allclose(noise.std(axis=0), 0.3, rtol=0.06)  # 5 standard errors
    assert abs(np.corrcoef(noise.T)[0, 1]) < 0.08
    np.testing.assert_allclose(clean, rows, atol=1e-9)


@pytest.mark.parametrize(("size", "tolerance"), [(32, 2.5), (64, 1.0), (100, 1.0)])
def test_factors_are_read_off_the_picture(size: int, tolerance: float) -> None:
    data = pendulum(300, size, seed=3)
    assert data.images.pixels.shape == (300, 3, size, size)
    error = (data.measure(data.images.pixels) - data.images.labels).abs().max()
    assert error["angle"] < 0.2 * tolerance
    assert (error.drop("angle") < 0.1 * tolerance).all()


def test_pixels_show_the_scene() -> None:
    image = render_pendulum(np.zeros((1, 0)), frame(0.0, 6.0, 4.0, 15.0), size=96)[0]

    def colour(x: float, y: float) -> list[float]:
        pixel = 96 / SCENE
        return image[:, int((SCENE - 1 - y) * pixel), int((x - LEFT) * pixel)].astype(float).round(2).tolist()

    assert colour(10, 2.5) == [0.7, 0.13, 0.13]
    assert colour(6, 20.5) == [1.0, 0.65, 0.0]
    assert colour(10, 8.0) == [0.0, 0.0, 0.0]
    assert colour(13.2, -0.5) == colour(16.8, -0.5) == [0.0, 0.0, 0.0]
    assert colour(12.5, -0.5) == colour(18, -0.5) == colour(3, 8) == [1.0, 1.0, 1.0]


def test_what_is_not_there_is_not_measured() -> None:
    seen = measure_pendulum(np.ones((1, 3, 32, 32)))
    assert seen["shadow_length"][0] == 0
    assert seen[["angle", "light", "shadow_position"]].isna().all(axis=None)


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shadow_length -1 \(row 0\)"):
        render_pendulum(np.zeros((1, 0)), frame(0.0, 6.0, -1.0, 15.0))
    with pytest.raises(ValueError, match=r"noise=0\.7"):
        pendulum(4, seed=0, noise=0.7)
    with pytest.raises(ValueError, match="at least 16 x 16"):
        pendulum(4, 8, seed=0)
    with pytest.raises(ValueError, match="square, of three channels"):
        measure_pendulum(np.ones((1, 1, 32, 32)))
