"""Correlated errors, dense and sparse, against dense algebra."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse

from latentcause.observation import CorrelatedError

LAGS = np.abs(np.subtract.outer(np.arange(7), np.arange(7)))
COVARIANCE = 2.0 * np.where(LAGS > 2, 0.0, np.array([1.0, 0.48, 0.15] + [0.0] * 4)[LAGS])


@pytest.fixture(params=[np.asarray, sparse.csr_matrix], ids=["dense", "sparse"])
def error(request: pytest.FixtureRequest) -> CorrelatedError:
    return CorrelatedError(request.param(COVARIANCE))


def test_density_and_its_derivatives(error: CorrelatedError) -> None:
    rng = np.random.default_rng(0)
    y, seen = torch.as_tensor(rng.standard_normal(7)), torch.as_tensor(rng.standard_normal((3, 7))).requires_grad_()
    exact = torch.distributions.MultivariateNormal(y, torch.as_tensor(COVARIANCE)).log_prob(seen)
    found = error.log_prob(y, seen).sum(-1)
    torch.testing.assert_close(found, exact)
    (slope,) = torch.autograd.grad(found.sum(), seen, create_graph=True)
    torch.testing.assert_close(slope, torch.autograd.grad(exact.sum(), seen)[0])
    (second,) = torch.autograd.grad(slope[:, 0].sum(), seen)
    torch.testing.assert_close(second, torch.as_tensor(-np.linalg.inv(COVARIANCE)[0]).expand(3, 7))


def test_products_sites_and_draws(error: CorrelatedError) -> None:
    v = torch.as_tensor(np.random.default_rng(0).standard_normal((3, 7)))
    torch.testing.assert_close(error.noise_times(v), v @ torch.as_tensor(COVARIANCE))
    torch.testing.assert_close(error.noise_times(v.float()), (v @ torch.as_tensor(COVARIANCE)).float())
    value, variance = error.sites(v[0], v, v.square())
    torch.testing.assert_close(value, v[0].expand(3, 7))
    torch.testing.assert_close(variance, torch.full((3, 7), 2.0, dtype=torch.float64))
    draws = error.sample(torch.ones(200_000, 7, dtype=torch.float64), torch.Generator().manual_seed(0)).numpy()
    np.testing.assert_allclose(draws.mean(0), 1, atol=0.02)
    np.testing.assert_allclose(np.cov(draws.T), COVARIANCE, atol=0.03)


def test_rows_are_the_marginal(error: CorrelatedError) -> None:
    keep = np.array([True, False, True, True, False, False, True])
    part = error.rows(keep)
    v = torch.ones(4, dtype=torch.float64)
    torch.testing.assert_close(part.noise_times(v), torch.as_tensor(COVARIANCE[keep][:, keep].sum(1)))
    part.check_size(4)
    with pytest.raises(ValueError, match="of 4 cells for 5 values"):
        part.check_size(5)


def test_kernels_of_distance() -> None:
    centres = np.stack(np.meshgrid(np.arange(5.0), np.arange(4.0)), -1).reshape(-1, 2)
    distances = np.linalg.norm(centres[:, None] - centres, axis=-1)

    def spherical(d: np.ndarray) -> np.ndarray:
        return 0.3 * np.where(d < 2.5, 1 - 1.5 * d / 2.5 + 0.5 * (d / 2.5) ** 3, 0.0)

    v = torch.as_tensor(np.random.default_rng(0).standard_normal((2, 20)))
    for error in (
        CorrelatedError.from_kernel(spherical, centres),
        CorrelatedError.from_kernel(spherical, centres, 2.5),
    ):
        torch.testing.assert_close(error.noise_times(v), v @ torch.as_tensor(spherical(distances)))
    assert sparse.issparse(error.covariance)
    line = CorrelatedError.from_kernel(lambda d: np.exp(-d), np.arange(3.0))
    np.testing.assert_allclose(line.covariance, np.exp(-LAGS[:3, :3]))


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.ones((2, 3)), "give \\(m, m\\)"),
        (np.array([[1.0, np.nan], [np.nan, 1.0]]), "NaN or infinite"),
        (np.array([[1.0, 0.0], [0.0, 0.0]]), r"1 values are not positive \(first: 0\)"),
        (np.array([[1.0, 0.5], [0.2, 1.0]]), "not symmetric"),
        (np.array([[1.0, 2.0], [2.0, 1.0]]), "not positive definite"),
    ],
)
@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix], ids=["dense", "sparse"])
def test_bad_covariances_are_refused(kind: Callable[[Any], Any], matrix: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CorrelatedError(kind(matrix)).log_prob(torch.zeros(2), torch.zeros(2))
