from __future__ import annotations

import numpy as np
import pytest
import torch

from latentcause import CausalGraph, StructuralCausalModel
from latentcause.inference.chains import TARGET_ACCEPTANCE, PosteriorChains, everywhere
from latentcause.scm import FunctionMechanism, LinearMechanism

B = np.array([[0, 0, 0, 0], [0.9, 0, 0, 0], [-0.7, 0, 0, 0], [0, 0.8, 0.6, 0]])
INTERCEPTS, VARIANCES = np.array([1.0, 0.0, -2.0, 0.5]), np.array([2.0, 0.1, 1.0, 0.4])
ROOT = np.array([[1.0, 0, 0, 0], [0.5, 0.8, 0, 0], [-0.3, 0.2, 1.2, 0], [0.4, -0.4, 0.1, 0.6]])
NOISE = ROOT @ ROOT.T  # correlated

DIAMOND = StructuralCausalModel(
    CausalGraph.from_string("a -> b; a -> c; b -> d; c -> d"),
    {
        "a": LinearMechanism((), 1.0, 2.0),
        "b": LinearMechanism((0.9,), 0.0, 0.1),
        "c": LinearMechanism((-0.7,), -2.0, 1.0),
        "d": LinearMechanism((0.8, 0.6), 0.5, 0.4),
    },
)


def chains_of(u: torch.Tensor, seed: int) -> PosteriorChains:
    return PosteriorChains(u, torch.Generator().manual_seed(seed))


def closed_form(u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    response = np.linalg.inv(np.eye(4) - B)
    mean, prior = response @ INTERCEPTS, response @ np.diag(VARIANCES) @ response.T
    gain = prior @ np.linalg.inv(prior + NOISE)
    return mean + (u - mean) @ gain.T, prior - gain @ prior


def test_chains_on_a_diamond_with_correlated_noise_reach_the_gaussian_posterior():
    # 4,000 chains of one measurement each: independent draws from one posterior, so the errors are those of plain Monte Carlo.
    n = 4000
    row = np.array([2.0, 0.5, -3.0, 1.5])
    u, precision = torch.from_numpy(np.tile(row, (n, 1))), torch.from_numpy(np.linalg.inv(NOISE))
    chains = chains_of(u, seed=1)
    chains.advance(everywhere(DIAMOND, len(u)), u, precision, moves=25)
    z = chains.advance(everywhere(DIAMOND, len(u)), u, precision, moves=1, adapt=False).numpy()
    mean, covariance = closed_form(row)
    spread = covariance.diagonal()
    assert (np.abs(z.mean(0) - mean) < 4.5 * np.sqrt(spread / n)).all()
    error = np.sqrt((np.outer(spread, spread) + covariance**2) / n)
    assert (np.abs(np.cov(z.T) - covariance) < 4.5 * error).all()


def test_every_row_has_its_own_posterior():
    rows = np.random.default_rng(2).normal(scale=3.0, size=(12, 4))
    u = torch.from_numpy(np.repeat(rows, 200, axis=0))
    chains = chains_of(u, seed=3)
    z = chains.advance(everywhere(DIAMOND, len(u)), u, torch.from_numpy(np.linalg.inv(NOISE)), moves=60).numpy()
    found = z.reshape(12, 200, 4).mean(1)
    mean, covariance = closed_form(rows)
    assert (np.abs(found - mean) < 4.5 * np.sqrt(covariance.diagonal() / 200)).all()
    assert np.abs(found - rows).max() > 2.0  # far from where the chains began


def test_a_nonlinear_mechanism_is_followed():
    scm = StructuralCausalModel(
        CausalGraph.chain(2),
        {"z1": LinearMechanism((), 0.0, 4.0), "z2": FunctionMechanism(lambda p: 3 * torch.tanh(p[..., 0]), 0.5)},
    )
    n = 4000
    row = np.array([0.3, 2.5])
    u = torch.from_numpy(np.tile(row, (n, 1)))
    chains = chains_of(u, seed=4)
    z = chains.advance(everywhere(scm, len(u)), u, torch.eye(2, dtype=torch.float64), moves=30).numpy()
    first, second = (points.ravel() for points in np.meshgrid(np.linspace(-9, 9, 361), np.linspace(-9, 9, 361)))
    energy = first**2 / 8 + (second - 3 * np.tanh(first)) ** 2 + ((first - row[0]) ** 2 + (second - row[1]) ** 2) / 2
    weight = np.exp(-energy)
    weight /= weight.sum()
    mean = np.array([weight @ first, weight @ second])
    variance = np.array([weight @ first**2, weight @ second**2]) - mean**2
    assert (np.abs(z.mean(0) - mean) < 4.5 * np.sqrt(variance / n)).all()
    assert np.allclose(z.var(0), variance, rtol=0.15)


def test_steps_adapt_to_the_wanted_acceptance_and_then_stay():
    u = torch.from_numpy(np.random.default_rng(5).normal(scale=2.0, size=(500, 4)))
    precision = torch.from_numpy(np.linalg.inv(NOISE))
    chains = chains_of(u, seed=6)
    chains.advance(everywhere(DIAMOND, len(u)), u, precision, moves=40)
    step = chains.step_size
    accepted = []
    for _ in range(20):
        before = chains.z
        chains.advance(everywhere(DIAMOND, len(u)), u, precision, moves=1, adapt=False)
        accepted.append(float((chains.z != before).any(1).double().mean()))
    assert np.mean(accepted) == pytest.approx(TARGET_ACCEPTANCE, abs=0.1)
    assert chains.step_size == step


def test_the_same_seed_gives_the_same_chains():
    u = torch.from_numpy(np.random.default_rng(7).normal(size=(5, 4)))
    precision = torch.eye(4, dtype=torch.float64)
    first, second, other = (
        chains_of(u, seed).advance(everywhere(DIAMOND, len(u)), u, precision, moves=3) for seed in (8, 8, 9)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
