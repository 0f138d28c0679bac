from __future__ import annotations

import numpy as np
import pytest
import torch

from latentcause.scores.tweedie import SMALLEST_SHARE, tweedie

PRIOR = torch.tensor([[2.0, 0.8, -0.3], [0.8, 1.5, 0.4], [-0.3, 0.4, 0.7]], dtype=torch.float64)
MEAN = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
ROOT = torch.tensor([[0.9, 0.0, 0.0], [0.4, 0.7, 0.0], [-0.2, 0.3, 0.5]], dtype=torch.float64)
NOISES = {"independent": torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64), "correlated": ROOT @ ROOT.T}


def gaussian(noise: torch.Tensor, n: int = 20) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Points, the score of N(MEAN, PRIOR + noise) there, its Jacobian, and the whole noise covariance."""
    covariance = noise if noise.ndim == 2 else torch.diag(noise)
    u = torch.from_numpy(np.random.default_rng(0).normal(scale=2.0, size=(n, 3)))
    precision = torch.linalg.inv(PRIOR + covariance)
    return u, -(u - MEAN) @ precision, -precision.expand(n, 3, 3), covariance


@pytest.mark.parametrize("name", NOISES)
def test_for_a_gaussian_it_is_the_exact_posterior(name):
    noise = NOISES[name]
    u, score, jacobian, covariance = gaussian(noise)
    result = tweedie(u, score, jacobian if noise.ndim == 2 else jacobian.diagonal(dim1=1, dim2=2), noise)
    gain = PRIOR @ torch.linalg.inv(PRIOR + covariance)
    exact = PRIOR - gain @ PRIOR
    assert torch.allclose(result.mean, MEAN + (u - MEAN) @ gain.T, atol=1e-12)
    assert torch.allclose(result.variance, exact.diagonal().expand(20, 3), atol=1e-12)
    if noise.ndim == 2:
        assert torch.allclose(result.covariance, exact.expand(20, 3, 3), atol=1e-12)
    assert result.raised == 0


def test_the_matrix_formula_holds_the_diagonal_one():
    noise = NOISES["independent"]
    u, score, jacobian, covariance = gaussian(noise)
    short = tweedie(u, score, jacobian.diagonal(dim1=1, dim2=2), noise, damping=0.7)
    full = tweedie(u, score, jacobian, covariance, damping=0.7)
    assert torch.allclose(short.mean, full.mean)
    assert torch.allclose(short.variance, full.variance)


@pytest.mark.parametrize("name", NOISES)
def test_damping_zero_is_no_shrinkage_and_the_noise_as_its_variance(name):
    noise = NOISES[name]
    u, score, jacobian, covariance = gaussian(noise)
    result = tweedie(u, score, jacobian if noise.ndim == 2 else jacobian.diagonal(dim1=1, dim2=2), noise, damping=0.0)
    assert torch.equal(result.mean, u)
    assert torch.allclose(result.variance, covariance.diagonal().expand(20, 3))


@pytest.mark.parametrize("damping", [0.25, 0.5])
def test_damping_goes_part_of_the_way(damping):
    u, score, jacobian, _ = gaussian(NOISES["correlated"])
    none, part, whole = (tweedie(u, score, jacobian, NOISES["correlated"], eta) for eta in (0.0, damping, 1.0))
    assert torch.allclose(part.mean, torch.lerp(none.mean, whole.mean, damping))
    assert torch.allclose(part.covariance, torch.lerp(none.covariance, whole.covariance, damping))


def test_variances_that_the_score_makes_too_small_are_raised_and_counted():
    noise = torch.tensor([1.0, 2.0], dtype=torch.float64)
    slopes = torch.tensor([[-0.5, -0.4], [-1.5, -0.1], [-0.9995, -3.0]], dtype=torch.float64)
    result = tweedie(torch.zeros(3, 2, dtype=torch.float64), torch.zeros(3, 2, dtype=torch.float64), slopes, noise)
    assert result.raised == 3
    floor = SMALLEST_SHARE * noise
    expected = torch.stack([torch.tensor([0.5, 0.4]), torch.tensor([floor[0], 1.6]), floor])
    assert torch.allclose(result.variance, expected.double())


def test_covariances_are_raised_along_their_eigenvectors():
    noise = torch.eye(2, dtype=torch.float64)
    direction = torch.tensor([0.6, 0.8], dtype=torch.float64)
    jacobian = -2.0 * torch.outer(direction, direction)[None]
    zeros = torch.zeros(1, 2, dtype=torch.float64)
    result = tweedie(zeros, zeros, jacobian, noise)
    assert result.raised == 1
    values, vectors = torch.linalg.eigh(result.covariance[0])
    assert torch.allclose(values, torch.tensor([SMALLEST_SHARE, 1.0], dtype=torch.float64))
    assert float((vectors[:, 0] @ direction).abs()) == pytest.approx(1.0)


def test_a_jacobian_that_is_not_symmetric_counts_by_its_symmetric_part():
    u, score, jacobian, covariance = gaussian(NOISES["correlated"])
    twist = torch.zeros(3, 3, dtype=torch.float64)
    twist[0, 1], twist[1, 0] = 0.2, -0.2
    plain, twisted = (tweedie(u, score, jacobian + extra, covariance) for extra in (0.0, twist))
    assert torch.allclose(plain.covariance, twisted.covariance)
    assert torch.allclose(twisted.covariance, twisted.covariance.mT)
