from __future__ import annotations

import numpy as np
import pytest
import torch
import torch._dynamo  # (the first optimiser loads it, and it sets an environment variable)
from torch import Tensor

from latentcause.models.pairs.coordinates import (
    CHANGES,
    FAINTEST,
    FREE,
    JITTER,
    STRAIGHT,
    UNIT,
    Coordinates,
    neighbours,
)
from latentcause.training import Recipe, seeded, train

R, M, TOTAL = 6, 2, 1000
SPREAD = torch.tensor([4.0, 3.0, 2.0, 1.0, 0.5, 0.1], dtype=torch.float64)


def coordinates(progress: float = 0.0, total: int = TOTAL) -> Coordinates:
    with seeded(0):
        made = Coordinates(SPREAD, M, 32, 2, total)
    made.seen += progress * total
    return made


def sheet(n: int, seed: int) -> Tensor:
    """Standardised points of a bent sheet in six directions."""
    a, b = np.random.default_rng(seed).uniform(-1.5, 1.5, (2, n))
    v = np.stack([np.sin(a), np.cos(2 * a) + 0.3 * b, b, np.sin(2 * b), a * b, np.cos(a + b)], axis=1)
    return torch.from_numpy((v - v.mean(0)) / v.std(0)).float()


@pytest.mark.parametrize("progress", [0.0, 0.4, 1.0])
def test_the_loss_is_what_it_says(progress):
    made = coordinates(progress)
    v, after, near, near_after = (sheet(5, seed) for seed in range(4))
    jitter = torch.randn((10, M), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = made.loss((v, after, near, near_after, jitter))
        u = made(torch.cat([v, after]))
        back = made.decode(u + JITTER * u.std(0) * jitter)
        beside = made(torch.cat([near, near_after]))
    weight = (SPREAD / SPREAD.sum()).float()
    for k in range(5):
        error = sum(((back[i] - x) ** 2 * weight).sum() for i, x in ((k, v[k]), (5 + k, after[k])))
        moved, seen = after[k] - v[k], back[5 + k] - back[k]
        wrong = ((seen - moved) ** 2 * weight).sum() / ((moved**2 * weight).sum() + FAINTEST)
        length = sum((((u[i] - beside[i]) ** 2) / u.var(0)).sum() for i in (k, 5 + k)) / 2
        unit = (u.var(0).log() ** 2).sum()
        expected = error / 2 + CHANGES * wrong + STRAIGHT * (FREE / STRAIGHT) ** progress * length + UNIT * unit
        assert float(found[k]) == pytest.approx(float(expected), rel=1e-4)


def test_a_sheet_is_flattened_and_comes_back():
    v, after = sheet(2000, 1), sheet(2000, 2)
    made = coordinates(total=40 * 2000)
    near = neighbours(torch.cat([v, after]), SPREAD).chunk(2)
    recipe = Recipe(40, 200, 5e-3, schedule="cosine", held_out=0.0)
    train(made, made.loss, (v, after, *near), recipe, seed=0, draw=made.draw, device="cpu")
    weight = made.weight
    held = sheet(1000, 3)
    with torch.no_grad():
        before = made.decode(made(held))
        made.standardise(v)
        u, back = made(held), made.decode(made(held))
        whole = made(v)
    torch.testing.assert_close(back, before, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(whole.mean(0), torch.zeros(M), rtol=0, atol=1e-3)
    torch.testing.assert_close(torch.cov(whole.T), torch.eye(M), rtol=0, atol=1e-3)
    error = ((back - held).square() @ weight).mean() / (held.square() @ weight).mean()
    two = torch.linalg.svd(held * weight.sqrt(), full_matrices=False).S.square()
    assert error < 0.02 < 0.1 * float(two[M:].sum() / two.sum())  # far below two principal directions
    assert u.shape == (1000, M)


def test_neighbours_are_near_and_others():
    v = sheet(500, 0)
    near = neighbours(v, SPREAD)
    root = (SPREAD / SPREAD.sum()).sqrt().float()
    distance = torch.cdist(v * root, v * root)
    found = ((v - near) * root).norm(dim=1)
    ranked = distance.sort(dim=1).values
    assert (found > 0).all()
    torch.testing.assert_close(found, ranked[torch.arange(500), 1 + torch.arange(500) % 4], rtol=1e-3, atol=1e-3)
