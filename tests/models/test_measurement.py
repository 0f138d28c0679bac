from __future__ import annotations

import numpy as np
import pytest
import torch

from latentcause import MultiDomainData
from latentcause.datasets.interventional import random_orthonormal
from latentcause.models.measurement import LatentMoments, Measurement, known_mixing
from latentcause.models.subspace import Subspace, project

PRIOR = np.array([[4.0, 1.5, 0.0], [1.5, 2.0, -0.8], [0.0, -0.8, 1.0]])


def simulated(columns: str, n: int = 4000, d_x: int = 9, seed: int = 0) -> tuple[MultiDomainData, np.ndarray]:
    """Gaussian latents of covariance PRIOR, measured with noise of variance 0.5 through loadings of the given form."""
    rng = np.random.default_rng(seed)
    loadings = random_orthonormal(d_x, 3, rng)
    if columns == "orthogonal":
        loadings = loadings * [0.5, 1.0, 2.0]
    elif columns == "psd":
        loadings = rng.normal(size=(d_x, 3))
        loadings /= np.linalg.norm(loadings, axis=0)
    z = rng.multivariate_normal(np.zeros(3), PRIOR, n)
    x = z @ loadings.T + np.sqrt(0.5) * rng.normal(size=(n, d_x))
    return MultiDomainData(x, ["all"] * n, {"all": []}), loadings


def posterior(
    measurement: Measurement, coordinates: torch.Tensor, prior: np.ndarray
) -> tuple[torch.Tensor, torch.Tensor]:
    """Exact posterior means and covariance of z ~ N(0, prior)."""
    noise = measurement.noise
    noise = torch.diag(noise) if noise.ndim == 1 else noise
    gain = torch.from_numpy(prior) @ torch.linalg.inv(torch.from_numpy(prior) + noise)
    covariance = torch.from_numpy(prior) - gain @ torch.from_numpy(prior)
    return measurement.unmix(coordinates) @ gain.T, covariance.expand(len(coordinates), 3, 3)


def expected_log_likelihood(measurement: Measurement, subspace: Subspace, moments: LatentMoments) -> float:
    """E log N(x; A z, sigma^2 I) summed over the samples, from the posterior's moments."""
    n, (d_x, _) = len(subspace.coordinates), subspace.basis.shape
    G, variance = measurement.mixing, measurement.noise_variance
    residual = n * subspace.power - 2 * float((moments.cross * G).sum()) + float((G.T @ G * moments.second).sum())
    return -0.5 * (n * d_x * np.log(2 * np.pi * variance) + residual / variance)


def start(columns: str, subspace: Subspace, seed: int) -> Measurement:
    rng = np.random.default_rng(seed)
    mixing = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    if columns == "orthogonal":
        mixing = mixing * rng.uniform(0.5, 2.0, 3)
    elif columns == "psd":
        mixing = mixing + 0.3 * rng.normal(size=(3, 3))
        mixing /= np.linalg.norm(mixing, axis=0)
    return Measurement(torch.from_numpy(mixing), subspace.residual_variance(), columns)


@pytest.mark.parametrize("columns", ["orthonormal", "orthogonal", "psd"])
@pytest.mark.parametrize("seed", range(3))
def test_every_m_step_raises_the_expected_log_likelihood(columns, seed):
    data, _ = simulated(columns, n=500)
    subspace = Subspace.principal(data, 3)
    coordinates = torch.from_numpy(subspace.coordinates)
    measurement = start(columns, subspace, seed)
    for _ in range(10):
        moments = LatentMoments.of(coordinates, *posterior(measurement, coordinates, PRIOR))
        before = expected_log_likelihood(measurement, subspace, moments)
        for learned in ({"learn_noise": False}, {"learn_noise": True}):
            updated = measurement.step(subspace, coordinates, moments, learn_loadings=True, **learned)
            after = expected_log_likelihood(updated, subspace, moments)
            assert after > before - 1e-7 * abs(before)
        measurement = updated


@pytest.mark.parametrize("columns", ["orthonormal", "orthogonal"])
def test_the_m_step_is_a_maximum(columns):
    data, _ = simulated(columns, n=500)
    subspace = Subspace.principal(data, 3)
    coordinates = torch.from_numpy(subspace.coordinates)
    moments = LatentMoments.of(coordinates, *posterior(start(columns, subspace, 0), coordinates, PRIOR))
    found = start(columns, subspace, 0)
    for _ in range(60):  # the alternation of directions and lengths settles
        found = found.step(subspace, coordinates, moments, learn_loadings=True, learn_noise=True)
    best = expected_log_likelihood(found, subspace, moments)
    rng = np.random.default_rng(1)
    for _ in range(50):
        skew = 0.01 * rng.normal(size=(3, 3))
        rotated = torch.matrix_exp(torch.from_numpy(skew - skew.T)) @ found.mixing
        if columns == "orthogonal":
            rotated = rotated * torch.from_numpy(np.exp(0.01 * rng.normal(size=3)))
        for other in (
            Measurement(rotated, found.noise_variance, columns),
            Measurement(found.mixing, found.noise_variance * float(np.exp(0.01 * rng.normal())), columns),
        ):
            assert expected_log_likelihood(other, subspace, moments) < best + 1e-9 * abs(best)


@pytest.mark.parametrize("columns", ["orthonormal", "orthogonal", "psd"])
def test_steps_keep_the_form_of_the_columns_and_do_not_collapse(columns):
    data, loadings = simulated(columns)
    subspace = Subspace.principal(data, 3)
    coordinates = torch.from_numpy(subspace.coordinates)
    # From near the truth, with the prior known, EM stays there: the printed update of D would fall to nothing instead.
    near = subspace.basis.T @ (loadings + 0.05 * np.random.default_rng(2).normal(size=loadings.shape))
    if columns == "orthonormal":
        left, _, right = np.linalg.svd(near)
        near = left @ right
    measurement = Measurement(torch.from_numpy(near), 1.0, columns)
    for _ in range(30):
        moments = LatentMoments.of(coordinates, *posterior(measurement, coordinates, PRIOR))
        measurement = measurement.step(subspace, coordinates, moments, learn_loadings=True, learn_noise=True)
        gram = measurement.mixing.T @ measurement.mixing
        if columns != "psd":
            assert torch.allclose(gram, torch.diag(gram.diagonal()), atol=1e-9)
        if columns != "orthogonal":
            assert torch.allclose(gram.diagonal(), torch.ones(3, dtype=torch.float64))
    found = subspace.basis @ measurement.mixing.numpy()
    assert np.allclose(np.linalg.norm(found, axis=0), np.linalg.norm(loadings, axis=0), rtol=0.1)
    assert np.square(found - loadings).sum() < 0.02 * np.square(loadings).sum()
    assert measurement.noise_variance == pytest.approx(0.5, rel=0.02)


def test_what_is_known_is_kept():
    data, _ = simulated("orthonormal", n=200)
    subspace = Subspace.principal(data, 3)
    coordinates = torch.from_numpy(subspace.coordinates)
    measurement = start("orthonormal", subspace, 0)
    moments = LatentMoments.of(coordinates, *posterior(measurement, coordinates, PRIOR))
    noise_only = measurement.step(subspace, coordinates, moments, learn_loadings=False, learn_noise=True)
    assert torch.equal(noise_only.mixing, measurement.mixing)
    assert noise_only.noise_variance != measurement.noise_variance
    loadings_only = measurement.step(subspace, coordinates, moments, learn_loadings=True, learn_noise=False)
    assert loadings_only.noise_variance == measurement.noise_variance
    assert not torch.equal(loadings_only.mixing, measurement.mixing)


def test_unmixing_inverts_the_mixing_and_its_noise_has_the_stated_covariance():
    mixing = torch.tensor([[1.0, 0.5], [0.2, -0.7]], dtype=torch.float64)
    measurement = Measurement(mixing, 0.3, "psd")
    z = torch.from_numpy(np.random.default_rng(3).normal(size=(5, 2)))
    assert torch.allclose(measurement.unmix(z @ mixing.T), z)
    inverse = torch.linalg.inv(mixing)
    assert torch.allclose(measurement.noise, 0.3 * inverse @ inverse.T)
    assert measurement.metric.ndim == 2
    diagonal = Measurement(torch.diag(torch.tensor([2.0, 0.5], dtype=torch.float64)), 0.3, "orthogonal")
    assert torch.allclose(diagonal.noise, torch.tensor([0.075, 1.2], dtype=torch.float64))


def test_moments_count_variances_and_covariances_alike():
    rng = np.random.default_rng(4)
    coordinates, mean = (torch.from_numpy(rng.normal(size=(6, 2))) for _ in range(2))
    variances = torch.from_numpy(rng.uniform(0.1, 1.0, (6, 2)))
    short = LatentMoments.of(coordinates, mean, variances)
    full = LatentMoments.of(coordinates, mean, torch.diag_embed(variances))
    assert torch.equal(short.cross, full.cross)
    assert torch.allclose(short.second, full.second)
    assert torch.allclose(short.second, mean.T @ mean + torch.diag(variances.sum(0)))


def test_known_loadings_are_a_basis_times_a_mixing():
    loadings = np.random.default_rng(5).normal(size=(7, 3))
    basis, mixing = known_mixing(loadings)
    assert np.allclose(basis.T @ basis, np.eye(3))
    assert np.allclose(basis @ mixing.numpy(), loadings)
    loadings[:, 2] = loadings[:, 0] - 2 * loadings[:, 1]
    with pytest.raises(ValueError, match="the columns of the given loadings are linearly dependent"):
        known_mixing(loadings)
    with pytest.raises(
        ValueError, match=r"unknown columns 'free': choose one of \['orthonormal', 'orthogonal', 'psd'\]"
    ):
        Measurement(mixing, 1.0, "free")


def test_the_subspace_holds_the_signal_and_measures_the_noise():
    data, loadings = simulated("orthonormal", n=20_000)
    subspace = Subspace.principal(data, 3)
    assert np.linalg.svd(subspace.basis.T @ loadings)[1].min() > 0.999
    assert subspace.residual_variance() == pytest.approx(0.5, rel=5 * np.sqrt(2 / (6 * 20_000)))
    x = next(data.batches())[2]
    assert np.allclose(subspace.coordinates, x @ subspace.basis)
    assert subspace.power == pytest.approx(np.square(x).sum(1).mean())
    assert np.allclose(project(data, loadings), x @ loadings)
    with pytest.raises(
        ValueError, match=r"as many measurements as nodes \(9\): give noise_variance, or more measurements"
    ):
        Subspace.principal(data, 9).residual_variance()
