"""MorphoMNIST: the published law of the factors, and images that show them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from latentcause.datasets import morphomnist
from latentcause.datasets.images.morphomnist import (
    measure_strokes,
    mnist_digits,
    morphomnist_scm,
    published_factors,
    render_strokes,
)


@pytest.fixture
def folder(shared_data: Callable[[str], Path]) -> Path:
    return shared_data("mnist")


def test_model_has_the_published_law() -> None:
    scm = morphomnist_scm()
    thickness, intensity = scm.sample(20_000, generator=0).T
    assert stats.kstest(thickness - 0.5, stats.gamma(10, scale=0.2).cdf).pvalue > 0.01
    noise = (np.log((intensity - 64) / (255 - intensity)) - 2 * thickness + 5) / 0.5
    assert stats.kstest(noise, stats.norm.cdf).pvalue > 0.01
    assert abs(np.corrcoef(noise, thickness)[0, 1]) < 0.04
    assert scm.mechanisms["thickness"].noise.mean == 2
    assert scm.mechanisms["thickness"].noise.variance == pytest.approx(0.4)


def test_density_of_thickness_is_that_of_a_gamma_variable() -> None:
    import torch

    values = torch.tensor([-0.5, 0.01, 1.0, 2.0, 5.0], dtype=torch.float64)
    found = morphomnist_scm().mechanisms["thickness"].noise.log_density(values)
    np.testing.assert_allclose(found, stats.gamma(10, scale=0.2).logpdf(values), rtol=1e-10)


def test_published_factors_follow_the_model(folder: Path) -> None:
    published = published_factors(folder)
    sampled = morphomnist_scm().sample(60_000, generator=1)
    assert published.shape == (60_000, 2)
    np.testing.assert_allclose(published.mean(), sampled.mean(axis=0), rtol=0.01)
    np.testing.assert_allclose(published.cov(), np.cov(sampled.T), rtol=0.03)


def test_published_factors_are_seen_in_digits_drawn_with_them(folder: Path) -> None:
    rows = np.random.default_rng(5).permutation(60_000)[:150]
    factors = published_factors(folder).iloc[rows]
    images = render_strokes(mnist_digits(folder)[rows], factors)
    error = measure_strokes(images).to_numpy() - factors.to_numpy()
    assert np.abs(error[:, 0]).mean() < 0.07  # px; measured 0.043 on 1,000 images
    assert np.abs(error[:, 1]).max() < 1e-3  # levels


def test_digits_are_different_and_mnist_is_read_rightly(folder: Path) -> None:
    digits = mnist_digits(folder)
    assert digits.shape == (60_000, 28, 28)
    assert digits.dtype == np.uint8
    assert digits[:10].mean() == pytest.approx(31.0, abs=5)
    data = morphomnist(300, seed=2, folder=folder)
    assert len(np.unique(data.base.reshape(300, -1), axis=0)) == 300


def test_drawn_images_are_kept_in_the_cache(folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "drawn"
    first = morphomnist(20, seed=2, folder=folder, cache=cache)
    (file,) = cache.iterdir()
    assert file.name == "morphomnist-1-20-2.npy"
    np.save(file, np.zeros((20, 1, 28, 28), dtype=np.float32))  # what is read now shows that the file is used
    again = morphomnist(20, seed=2, folder=folder, cache=cache)
    assert not again.images.pixels.any()
    np.testing.assert_array_equal(again.images.values, first.images.values)
    np.testing.assert_array_equal(again.counterfactual([3], {}), first.images.pixels[[3]])


def test_several_processes_draw_the_same(folder: Path) -> None:
    two = morphomnist(260, seed=2, folder=folder, n_jobs=2)
    np.testing.assert_array_equal(two.images.pixels, morphomnist(260, seed=2, folder=folder).images.pixels)


def test_bad_input_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="MNIST has 1 to 60000"):
        morphomnist(60_001, seed=0, folder=folder)
    with pytest.raises(FileNotFoundError, match="the mnist data are not in"):
        morphomnist(2, seed=0, folder=tmp_path)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(b"cut short")
    with pytest.raises(ValueError, match="not the published file"):
        morphomnist(2, seed=0, folder=tmp_path)
