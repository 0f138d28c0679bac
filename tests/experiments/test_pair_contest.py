"""Rows of the contest that see images in a way of their own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.decomposition import PCA

from latentcause.experiments import image_vae, pair_contest
from latentcause.experiments.image_vae import ImageVAE
from latentcause.experiments.pair_contest import ON_CODES, run

CASE = {"images": "pendulum", "size": 16, "pairs": 300, "model": {"steps": 12}}


@pytest.fixture(scope="module")
def blobs() -> np.ndarray:
    """Images (1000, 1, 16, 16) of a spot that moves in both directions."""
    across, down = np.random.default_rng(0).uniform(3, 12, size=(2, 1000, 1, 1))
    places = np.arange(16)
    squares = (places - across) ** 2 + (places[:, None] - down) ** 2
    return np.exp(-squares / 4)[:, None].astype(np.float32)


def test_a_vae_tells_more_of_images_than_as_many_directions(blobs: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_vae, "RECIPE", replace(image_vae.RECIPE, batch_size=32, max_epochs=12))
    train, held = blobs[:800], blobs[800:]
    vae = ImageVAE.fit(train, seed=1)
    codes = vae.encode(held)
    few = PCA(codes.shape[1], random_state=0).fit(train.reshape(800, -1))
    flat = held.reshape(200, -1)
    linear = few.inverse_transform(few.transform(flat))
    assert ((vae.reconstruct(held) - held) ** 2).mean() < 0.5 * ((linear - flat) ** 2).mean()
    assert codes.shape[1] < 5  # the place is two numbers


def test_the_same_seed_gives_the_same_codes(blobs: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_vae, "RECIPE", replace(image_vae.RECIPE, max_epochs=1))
    first, again, other = (ImageVAE.fit(blobs[:200], seed=seed).posterior(blobs[:9])[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


@pytest.mark.parametrize("method", [*ON_CODES, "FastICA"])
def test_images_are_reduced_first(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_vae, "RECIPE", replace(image_vae.RECIPE, batch_size=32, max_epochs=8))
    monkeypatch.setattr(pair_contest, "DCI_ROWS", 200)
    row = run(CASE, method, 3)
    assert 0 <= row["D"] <= 1
    if method in ON_CODES:
        assert 0 <= row["target_accuracy"] <= 1
        assert row["counterfactual_r2"] is None


def test_codes_are_of_images_alone() -> None:
    with pytest.raises(ValueError, match="takes images"):
        run({"nodes": 3, "pairs": 300}, *ON_CODES, 0)
