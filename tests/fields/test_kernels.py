"""Kernels: closed forms, positive definite, draws with the covariance they state, spectra of both boundaries."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.fft
import torch
from torch import Tensor

from latentcause.fields import Kernel, Matern, SquaredExponential, White, circulant
from latentcause.fields.circulant import draw_stationary

KERNELS = [
    Matern(3.0, 0.7, 0.5),
    Matern(6.0),
    Matern(2.0, 0.4, 2.5),
    Matern(2.5, 1.3, 1.1),
    SquaredExponential(1.5, 2.0),
    White(0.3),
]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def distances(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_matern_has_its_three_closed_forms() -> None:
    r = distances(0.0, 0.5, 2.0, 9.0)
    x = r / 2.5
    expected = {
        0.5: torch.exp(-x),
        1.5: (1 + math.sqrt(3) * x) * torch.exp(-math.sqrt(3) * x),
        2.5: (1 + math.sqrt(5) * x + 5 * x.square() / 3) * torch.exp(-math.sqrt(5) * x),
    }
    for smoothness, values in expected.items():
        torch.testing.assert_close(Matern(2.5, 1.0, smoothness).correlation(r), values, rtol=1e-13, atol=0)


def test_matern_of_any_smoothness_joins_the_closed_forms() -> None:
    r = distances(0.0, 1e-9, 0.01, 0.5, 2.0, 9.0, 60.0)
    for smoothness in (0.5, 1.5, 2.5):
        near, exact = Matern(2.5, 1.0, smoothness + 1e-9), Matern(2.5, 1.0, smoothness)
        torch.testing.assert_close(near.correlation(r), exact.correlation(r), rtol=1e-6, atol=1e-9)
    smooth = Matern(2.5, 1.0, 20.0).correlation(r)
    torch.testing.assert_close(smooth, SquaredExponential(2.5, 1.0, 0.0).correlation(r), rtol=0, atol=0.01)


def test_matern_is_finite_far_away() -> None:
    assert Matern(0.1, 1.0, 1.1).correlation(distances(1e4)).item() == 0


@pytest.mark.parametrize("kernel", KERNELS, ids=repr)
@pytest.mark.parametrize("shape", [(30,), (5, 7), (1, 4), (1,)])
def test_covariance_is_the_kernel_of_the_distance_and_positive_definite(kernel: Kernel, shape: tuple[int, ...]) -> None:
    covariance = kernel.covariance(shape)
    points = torch.cartesian_prod(*[torch.arange(n, dtype=torch.float64) for n in shape]).reshape(-1, len(shape))
    expected = kernel.variance * kernel.correlation(
        torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
    )
    torch.testing.assert_close(covariance, expected, rtol=1e-12, atol=1e-14)
    assert torch.linalg.eigvalsh(covariance).min() > 0
    torch.testing.assert_close(kernel.precision(shape) @ covariance, torch.eye(len(points)).double(), rtol=0, atol=1e-6)


def assert_covariance_of_draws(draws: Tensor, expected: Tensor) -> None:
    """Every entry within 6 of its Monte-Carlo standard errors: Var[mean of x y] = (C_ii C_jj + C_ij^2) / n for mean 0."""
    found = draws.mT @ draws / len(draws)
    variances = expected.diagonal()
    error = ((variances[:, None] * variances + expected.square()) / len(draws)).sqrt()
    assert ((found - expected).abs() / error).max() < 6


@pytest.mark.parametrize("kernel", KERNELS, ids=repr)
@pytest.mark.parametrize("shape", [(24,), (4, 6)])
def test_draws_have_the_covariance(kernel: Kernel, shape: tuple[int, ...]) -> None:
    draws = kernel.sample(4000, shape, generator())
    assert draws.shape == (4000, *shape)
    assert draws.dtype == torch.float64
    assert_covariance_of_draws(draws.flatten(1), kernel.covariance(shape))
    rough, fine = draws.flatten(1).mean(0), math.sqrt(kernel.variance / 4000)
    assert rough.abs().max() < 6 * fine


@pytest.mark.parametrize(
    ("kernel", "shape"),
    [(kernel, shape) for kernel in KERNELS for shape in [(24,), (4, 6), (1, 9)]]
    + [(kernel, (24,)) for kernel in (Matern(40.0), SquaredExponential(12.0))],
    ids=repr,
)
def test_draws_by_circulant_embedding_have_the_covariance(kernel: Kernel, shape: tuple[int, ...]) -> None:
    draws = draw_stationary(kernel, 4000, shape, generator(1))
    assert_covariance_of_draws(draws.flatten(1), kernel.covariance(shape))


def test_large_draws_are_made_by_embedding_and_have_the_variance() -> None:
    draws = Matern(3.0, 2.0).sample(40, (60, 50), generator())
    assert draws.shape == (40, 60, 50)
    torch.testing.assert_close(draws, draw_stationary(Matern(3.0, 2.0), 40, (60, 50), generator()))
    lag = (draws[:, 1:] * draws[:, :-1]).mean()
    expected = 2 * Matern(3.0).correlation(distances(1.0))[0]
    # about 3000 pixels / (2 pi l^2 = 57) independent patches a draw, 40 draws: a standard error of 3%
    assert abs(draws.square().mean() / 2 - 1) < 0.15
    assert abs(lag / expected - 1) < 0.15


def test_a_length_beyond_any_torus_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(circulant, "_LARGEST_TORUS", 1000)
    with pytest.raises(ValueError, match="too long for draws on shape"):
        draw_stationary(Matern(300.0), 1, (40,), generator())


@pytest.mark.parametrize("kernel", KERNELS, ids=repr)
@pytest.mark.parametrize("shape", [(30,), (6, 5)])
def test_density_is_that_of_the_multivariate_normal(kernel: Kernel, shape: tuple[int, ...]) -> None:
    values = kernel.sample(6, shape, generator()).reshape(2, 3, *shape)
    pixels = math.prod(shape)
    normal = torch.distributions.MultivariateNormal(torch.zeros(pixels).double(), kernel.covariance(shape))
    expected = normal.log_prob(values.flatten(2))
    torch.testing.assert_close(kernel.log_density(values, shape), expected, rtol=1e-8, atol=1e-8)
    assert kernel.log_density(values.float(), shape).dtype == torch.float32


def test_a_singular_covariance_has_no_density_but_draws() -> None:
    kernel = SquaredExponential(20.0, 1.0, 0.0)
    with pytest.raises(ValueError, match="singular in float64"):
        kernel.log_density(torch.zeros(50).double(), (50,))
    assert kernel.sample(3, (50,), generator()).isfinite().all()


@pytest.mark.parametrize("kernel", KERNELS, ids=repr)
@pytest.mark.parametrize("shape", [(30,), (8, 5), (1, 6)])
def test_reflected_spectrum_is_the_variance_of_the_cosines(kernel: Kernel, shape: tuple[int, ...]) -> None:
    covariance = kernel.covariance(shape).numpy()
    axes = np.eye(len(covariance)).reshape(-1, *shape)
    cosines = scipy.fft.dctn(axes, axes=range(1, 1 + len(shape)), norm="ortho").reshape(len(covariance), -1)
    expected = np.einsum("pk,pq,qk->k", cosines, covariance, cosines).reshape(shape)
    np.testing.assert_allclose(kernel.reflected_spectrum(shape), expected, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("kernel", KERNELS, ids=repr)
@pytest.mark.parametrize("shape", [(40,), (32, 30)])
def test_torus_spectrum_sums_the_covariance_over_copies(kernel: Kernel, shape: tuple[int, ...]) -> None:
    spectrum = kernel.torus_spectrum(shape)
    assert spectrum.min() > 0
    covariance = torch.fft.ifftn(spectrum).real
    axes = [torch.arange(n, dtype=torch.float64) for n in shape]
    total = torch.zeros(shape, dtype=torch.float64)
    for copy in torch.cartesian_prod(*[torch.arange(-8, 9)] * len(shape)).reshape(-1, len(shape)):
        moved = [axis + m * n for axis, m, n in zip(axes, copy, shape, strict=True)]
        squares = torch.meshgrid(*[axis.square() for axis in moved], indexing="ij")
        total += kernel.variance * kernel.correlation(torch.stack(squares).sum(0).sqrt())
    torch.testing.assert_close(covariance, total, rtol=1e-9, atol=1e-11)


def test_spectrum_of_a_length_far_above_the_grid() -> None:
    spectrum = Matern(200.0).torus_spectrum((16,))
    assert spectrum.min() > 0
    assert spectrum.isfinite().all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Matern(0.0), "length=0.0 of a Matern kernel"),
        (lambda: Matern(1.0, -1.0), "variance=-1.0"),
        (lambda: Matern(1.0, 1.0, math.inf), "smoothness=inf"),
        (lambda: Matern(1.0, 1.0, 21.0), "give at most 20"),
        (lambda: SquaredExponential(math.nan), "length=nan"),
        (lambda: SquaredExponential(1.0, 1.0, 1.0), "nugget=1.0"),
        (lambda: White(0.0), "variance=0.0 of a White kernel"),
        (lambda: White().covariance((100, 100)), "dense covariance of 10000 pixels"),
    ],
)
def test_bad_kernels_are_refused(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]


def test_seeds_reproduce() -> None:
    for shape in ((20,), (40, 40)):
        first, second, other = (Matern(2.0).sample(3, shape, generator(seed)) for seed in (5, 5, 6))
        assert torch.equal(first, second)
        assert not torch.equal(first, other)
