"""Forecasts of simulated fires, on few fires and without the learning that takes minutes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from latentcause.datasets import simulate_wildfires
from latentcause.datasets.wildfires.fronts import FRONT_GRAPH
from latentcause.experiments import fire_forecasts
from latentcause.experiments.fire_forecasts import FireSettings
from latentcause.models.baselines.fires import PersistentFire
from latentcause.observation import Grid
from latentcause.posteriors import from_draws


def test_masks_are_forecast_by_methods_and_limits(monkeypatch):
    monkeypatch.delitem(fire_forecasts.FORECASTERS, "U-Net")
    monkeypatch.setattr(fire_forecasts, "PARTICLES", 16)
    rows = list(fire_forecasts.fire_rows(FireSettings(fires=8, windows=0), seed=1))
    assert [row["method"] for row in rows] == ["persistence", "logistic", "filter", "true front"]
    ap = {row["method"]: row["ap"] for row in rows}
    assert max(ap, key=lambda name: ap[name]) == "true front"
    assert all(0 < row["f1"] < 1 and 0 < row["prevalence"] < 0.02 for row in rows)
    assert fire_forecasts.fire_table(rows)[1][-1][:2] == ["mask", "true front"]


def test_threshold_comes_from_the_first_set():
    truth = [[np.array([0, 0, 1, 1])], [np.array([0, 1, 1, 0])]]
    p = [[np.array([0.1, 0.4, 0.5, 0.9])], [np.array([0.1, 0.45, 0.6, 0.55])]]
    found = fire_forecasts.judged(p, truth)
    assert found["f1"] == pytest.approx(2 * 1 / (2 + 2))  # 0.6 and 0.55 are at 0.5 or above
    assert found["ap"] == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert found["prevalence"] == 0.5


def test_samples_that_are_the_truth_forecast_as_the_truth_does(monkeypatch):
    monkeypatch.setattr(fire_forecasts, "PARTICLES", 16)
    fires = simulate_wildfires(3, (36, 36), 5, seed=4)
    window = fire_forecasts.one_window_each(fires, 0)[0]

    class Knowing:
        def sample_posterior(self, n, generator, observations):
            z = window.fields().expand(n, -1, -1, -1)
            return from_draws(z.numpy(), FRONT_GRAPH.nodes, Grid.of_shape(z.shape[2:]))

    methods = {"persistence": PersistentFire().fit([fire.series for fire in fires])}
    found = fire_forecasts.window_forecasts(Knowing(), methods, window, torch.ones(6), 3, 0)
    front = window.cut(window.fire.front[window.day])
    np.testing.assert_array_equal(found["today"]["SVGDM"], front)
    np.testing.assert_array_equal(found["tomorrow"]["SVGDM"], window.cut(window.fire.front[window.day + 1]))
    mechanism, limit = found["tomorrow"]["SVGDM, mechanism"], found["tomorrow"]["true front"]
    np.testing.assert_allclose(mechanism[front], limit[front])
    assert set(found["tomorrow"]) == {"persistence", "SVGDM", "SVGDM, mechanism", "filter", "true front"}
