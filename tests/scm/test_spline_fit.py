from __future__ import annotations

import numpy as np
import pytest
import torch

from latentcause.scm.fitting import splines
from latentcause.scm.fitting.linear import fit as fit_linear
from latentcause.scm.fitting.table import Table
from latentcause.scm.mechanisms import SplineMechanism


def fitted(parents: np.ndarray, values: np.ndarray, noise: str = "gaussian") -> SplineMechanism:
    columns = tuple("abcdef"[: parents.shape[1]])
    mechanism = splines.fit([Table("z", parents, values, columns)], noise, 0)["z"]
    assert isinstance(mechanism, SplineMechanism)
    return mechanism


def at(mechanism: SplineMechanism, parents: np.ndarray) -> np.ndarray:
    return mechanism.mean(torch.from_numpy(parents)).numpy()


def test_a_linear_function_is_recovered_also_beyond_the_data():
    rng = np.random.default_rng(0)
    parents = np.column_stack([rng.normal(size=200), rng.integers(0, 2, 200), 1e4 + rng.gamma(2.0, size=200)])
    weights = np.array([2.0, -1.0, 0.5])
    mechanism = fitted(parents, parents @ weights + 3.0)
    asked = np.column_stack([rng.normal(0, 5, 50), rng.integers(0, 2, 50), 1e4 + rng.normal(0, 20, 50)])
    assert np.allclose(at(mechanism, asked), asked @ weights + 3.0, rtol=0, atol=1e-6)
    assert mechanism.variance < 1e-12


def test_smoothing_is_close_to_the_best_of_all():
    """Error within a quarter of what the true curve would choose, over signals from a line to a fast wave."""
    for curve in (lambda x: 0.5 * x, lambda x: np.sin(x), lambda x: np.sin(3 * x), lambda x: np.exp(-8 * x**2)):
        errors, best = [], []
        for seed in range(12):
            rng = np.random.default_rng(seed)
            parents = rng.uniform(-2, 2, size=(400, 1))
            values = curve(parents[:, 0]) + 0.3 * rng.normal(size=400)
            design = splines.AdditiveDesign.of(parents)
            gram, moment = design.columns.T @ design.columns, design.columns.T @ (values - values.mean())
            truth = curve(parents[:, 0])
            by_smoothing = []
            for smoothing in 10.0 ** np.arange(-4, 9, 0.25):
                weights = np.linalg.solve(gram + smoothing * design.penalties[0], moment)
                by_smoothing.append(np.square(design.columns @ weights + values.mean() - truth).mean())
            best.append(min(by_smoothing))
            errors.append(np.square(at(fitted(parents, values), parents) - truth).mean())
        assert np.mean(errors) < 1.25 * np.mean(best) + 1e-4


def test_restricted_likelihood_is_at_its_maximum():
    """The smoothing that comes out beats its neighbours, by the criterion computed from its definition."""
    rng = np.random.default_rng(3)
    parents = rng.normal(size=(150, 1))
    values = np.sin(2 * parents[:, 0]) + 0.4 * rng.normal(size=150)
    design = splines.AdditiveDesign.of(parents)
    gram, penalty, moment = design.columns.T @ design.columns, design.penalties[0], design.columns.T @ values
    rank = np.linalg.matrix_rank(penalty)
    centred = values - values.mean()

    def criterion(smoothing: float) -> float:
        weights = np.linalg.solve(gram + smoothing * penalty, moment)
        residuals = centred - design.columns @ weights
        total = residuals @ residuals + smoothing * weights @ penalty @ weights
        free = len(values) - 1 - (len(gram) - rank)
        return free * np.log(total) + np.linalg.slogdet(gram + smoothing * penalty)[1] - rank * np.log(smoothing)

    inverse = splines.smoothed(design, values).inverse
    found = float(np.trace((np.linalg.inv(inverse) - gram) @ penalty) / np.trace(penalty @ penalty))
    grid = 10.0 ** np.linspace(-6, 8, 561)
    best = grid[np.argmin([criterion(smoothing) for smoothing in grid])]
    assert np.log10(found) == pytest.approx(np.log10(best), abs=0.1)


def test_an_additive_model_separates_its_parents_and_indicators_are_lines():
    rng = np.random.default_rng(1)
    parents = np.column_stack([rng.normal(size=(3000, 2)), rng.integers(0, 2, 3000)])
    values = np.sin(2 * parents[:, 0]) + parents[:, 1] ** 2 / 2 + 1.5 * parents[:, 2] + 0.2 * rng.normal(size=3000)
    mechanism = fitted(parents, values)
    indicator = np.zeros((2, 3))
    indicator[1, 2] = 1.0
    assert np.diff(at(mechanism, indicator)) == pytest.approx(1.5, abs=0.05)
    assert mechanism.variance == pytest.approx(0.04, rel=0.1)
    x = np.linspace(-2, 2, 41)
    wave = at(mechanism, np.column_stack([x, 0 * x, 0 * x]))
    assert np.abs(wave - wave.mean() - (np.sin(2 * x) - np.sin(2 * x).mean())).max() < 0.1


def test_a_parent_with_a_few_values_and_one_without_effect():
    rng = np.random.default_rng(2)
    parents = np.column_stack([rng.integers(0, 3, 900), rng.normal(size=900)]).astype(float)
    values = np.array([0.0, 2.0, -1.0])[parents[:, 0].astype(int)] + 0.1 * rng.normal(size=900)
    means = at(fitted(parents, values), np.column_stack([[0.0, 1.0, 2.0], np.zeros(3)]))
    assert np.abs(means - [0.0, 2.0, -1.0]).max() < 0.05


def test_constant_nodes_and_refusals():
    rng = np.random.default_rng(4)
    parents = rng.normal(size=(50, 2))
    assert np.allclose(at(fitted(parents, np.full(50, 7.0)), parents), 7.0)
    parents[:, 1] = 2 * parents[:, 0]
    for fit in (splines.fit, fit_linear):
        with pytest.raises(ValueError, match=r"the parents \['a', 'b'\] of node 'z' are collinear"):
            fit([Table("z", parents, parents[:, 0], ("a", "b"))], "gaussian", 0)
