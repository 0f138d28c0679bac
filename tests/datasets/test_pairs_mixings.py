"""Mixings: one-to-one, well conditioned, and as linear as they say."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from latentcause.datasets import PairSystem, pair_system
from latentcause.datasets.pairs.mixings import (
    SLOPE,
    STRETCH,
    FlowMixing,
    LinearMixing,
    NetworkMixing,
    PairMixing,
)

WORST_CONDITION = {"rotation": 1 + 1e-6, "linear": 60.0, "mlp": 100.0, "flow": 100.0}


@pytest.fixture(params=[(5, None), (5, 12), (15, None)], ids=["5", "5-in-12", "15"], scope="module")
def sizes(request: pytest.FixtureRequest) -> tuple[int, int | None]:
    nodes, observed = request.param
    return nodes, observed


@pytest.mark.parametrize("mixing", get_args(PairMixing))
def test_jacobians_have_full_rank_and_sane_condition_numbers(sizes: tuple[int, int | None], mixing: PairMixing) -> None:
    nodes, observed = sizes
    for seed in range(3):
        system = pair_system(nodes, seed=seed, mixing=mixing, observed=observed)
        z = system.draw(200, seed=1).factors_before.to_numpy()
        assert system.mix(z).shape == (200, observed or nodes)
        steps = 1e-5 * np.eye(nodes)
        jacobian = np.stack([(system.mix(z + step) - system.mix(z - step)) / 2e-5 for step in steps], axis=-1)
        values = np.linalg.svd(jacobian, compute_uv=False)
        assert (values[:, 0] / values[:, -1]).max() < WORST_CONDITION[mixing]
        if observed is None:
            assert len(set(np.sign(np.linalg.det(jacobian)))) == 1  # it folds nowhere


@pytest.mark.parametrize("mixing", ["mlp", "flow"])
def test_nonlinear_mixings_can_be_undone_and_are_not_linear(sizes: tuple[int, int | None], mixing: PairMixing) -> None:
    nodes, observed = sizes
    system = pair_system(nodes, seed=4, mixing=mixing, observed=observed, standardised=True)
    z = system.draw(2000, seed=1).factors_before.to_numpy()
    x = system.mix(z)
    np.testing.assert_allclose(undone(system, x), z, rtol=0, atol=1e-8)
    table = np.column_stack([x, np.ones(len(x))])
    left = z - table @ np.linalg.lstsq(table, z, rcond=None)[0]
    assert left.var() > 0.01  # of 1
    assert np.abs(x).max() < 100


def undone(system: PairSystem, x: np.ndarray) -> np.ndarray:
    """z (n, d) of x (n, m), layer by layer, backwards."""
    h, mixing = x, system.mixing
    if isinstance(mixing, NetworkMixing):
        for layer in range(len(mixing.weights) - 1, -1, -1):
            h = np.linalg.solve(mixing.weights[layer], (h - mixing.shifts[layer]).T).T
            h = leaky_undone(h) if layer else h
    else:
        assert isinstance(mixing, FlowMixing)
        half = x.shape[1] // 2
        for k in range(len(mixing.rotations) - 1, -1, -1):
            a, b = h[:, :half], h[:, half:]
            b = (b - mixing.shifts[k](a)) * np.exp(-STRETCH * np.tanh(mixing.scales[k](a)))
            h = np.hstack([a, b]) @ mixing.rotations[k]
    z = np.linalg.lstsq(mixing.embed, h.T, rcond=None)[0].T
    np.testing.assert_allclose(z @ mixing.embed.T, h, rtol=0, atol=1e-8)
    return z


def leaky_undone(values: np.ndarray) -> np.ndarray:
    """By halving: the unit rises between slopes 0.2 and 1."""
    low, high = np.full(values.shape, -1e3), np.full(values.shape, 1e3)
    for _ in range(70):
        middle = (low + high) / 2
        above = SLOPE * middle + (1 - SLOPE) * np.logaddexp(0, middle) > values
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return low


def test_linear_mixings_are_what_they_are_called() -> None:
    for seed in range(5):
        rotation = pair_system(5, seed=seed).mixing
        assert isinstance(rotation, LinearMixing)
        np.testing.assert_allclose(rotation.matrix.T @ rotation.matrix, np.eye(5), atol=1e-12)
        assert np.linalg.det(rotation.matrix) == pytest.approx(1)
        wide = pair_system(5, seed=seed, observed=8).mixing
        assert isinstance(wide, LinearMixing)
        np.testing.assert_allclose(wide.matrix.T @ wide.matrix, np.eye(5), atol=1e-12)
        spread = pair_system(5, seed=seed, mixing="linear").mixing
        assert isinstance(spread, LinearMixing)
        lengths = np.sort(np.linalg.norm(spread.matrix, axis=0))
        np.testing.assert_allclose(lengths, np.geomspace(1, 20, 5))
