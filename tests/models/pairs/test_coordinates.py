from __future__ import annotations

import numpy as np
import pytest
import torch
import torch._dynamo  # (the first optimiser loads it, and it sets an environment variable)
from scipy.stats import spearmanr
from torch import Tensor

from latentcause.models.pairs.coordinates import CHANGES, FAINTEST, JITTER, Coordinates
from latentcause.training import Recipe, seeded, train

R, N = 6, 3000
SPREAD = torch.tensor([4.0, 3.0, 2.0, 1.0, 0.5, 0.1], dtype=torch.float64)


def pairs(seed: int, rest: int = 1) -> tuple[Tensor, Tensor, np.ndarray, np.ndarray]:
    """Standardised points of bent sheets before and after one of their places, or none, is drawn anew; places, and which."""
    rng = np.random.default_rng(seed)
    place, fresh = rng.uniform(-1.5, 1.5, (2, N, 2 + rest))
    target = rng.integers(3 + rest, size=N)
    after = np.where(target[:, None] == np.arange(2 + rest), fresh, place)

    def seen(p: np.ndarray) -> np.ndarray:
        a, b, *c = p.T
        third = c[0] + 0.3 * a * b if c else a * b
        return np.stack([np.sin(a), np.cos(1.5 * a), np.sin(b), np.cos(1.5 * b), third, 0.5 * a + b], axis=1)

    before = seen(place)
    scaled = [torch.from_numpy((seen(p) - before.mean(0)) / before.std(0)).float() for p in (place, after)]
    return *scaled, place, target


def found(v: Tensor, after: Tensor, target: np.ndarray, size: int, wrong: int = 0) -> Coordinates | None:
    """Coordinates from what changes the first two places; ``wrong`` pairs in which the first changes are said to keep it."""
    changed = torch.from_numpy(target[:, None] == np.arange(2))
    stays = ~changed
    stays[np.flatnonzero(target == 0)[:wrong], 0] = True
    with seeded(0):
        return Coordinates.of(v, after, SPREAD, changed, stays, size, 32, 2, 0)


@pytest.mark.parametrize("wrong", [0, 5])
def test_coordinates_are_places_of_their_own_and_what_remains(wrong):
    v, after, _, target = pairs(1)
    made = found(v, after, target, 3, wrong)
    assert made is not None
    held, held_after, held_place, held_target = pairs(2)
    with torch.no_grad():
        u, u_after = made(held), made(held_after)
        whole = made(v)
    torch.testing.assert_close(whole.mean(0), torch.zeros(3), rtol=0, atol=1e-3)
    torch.testing.assert_close(whole.std(0), torch.ones(3), rtol=0, atol=1e-3)
    ranks = np.abs(spearmanr(np.hstack([held_place, u])).statistic[:3, 3:])
    assert (np.diag(ranks) > [0.998, 0.998, 0.95]).all()
    assert (ranks - np.diag(np.diag(ranks)) < 0.1).all()
    moved = np.array([np.abs((u_after - u).numpy()[held_target == k]).mean(0) for k in range(4)])
    assert (np.diag(moved) > 0.5).all()
    assert (moved[~np.eye(4, 3, dtype=bool)] < 0.12).all()


def test_two_latents_need_no_others():
    v, after, place, target = pairs(1, rest=0)
    made = found(v, after, target, 2)
    assert made is not None
    assert made.others.shape[1] == 0
    with torch.no_grad():
        ranks = np.abs(spearmanr(np.hstack([place, made(v)])).statistic[:2, 2:])
    assert (np.diag(ranks) > 0.998).all()


def test_where_nothing_stays_there_are_none():
    v, _, _, target = pairs(1)
    after = v[torch.randperm(N, generator=torch.Generator().manual_seed(0))]
    assert found(v, after, target, 3) is None


@pytest.mark.parametrize("told", ["nothing stays", "nothing changes"])
def test_labels_that_leave_nothing_to_learn_from_give_none(told):
    v, after, _, target = pairs(1)
    changed = torch.from_numpy(target[:, None] == np.arange(2))
    stays = ~changed
    (stays if told == "nothing stays" else changed)[:] = False
    with seeded(0):
        assert Coordinates.of(v, after, SPREAD, changed, stays, 3, 32, 2, 0) is None


def test_the_loss_of_the_way_back_is_what_it_says():
    with seeded(0):
        made = Coordinates(SPREAD, 2, 1, 32, 2)
    generator = torch.Generator().manual_seed(0)
    v, after = torch.randn((2, 5, R), generator=generator)
    u, u_after = torch.randn((2, 5, 2), generator=generator)
    (jitter,) = made.draw((v, after, u, u_after), generator)
    with torch.no_grad():
        values = made.loss((v, after, u, u_after, jitter))
        back, back_after = made.decode(u + JITTER * jitter[:, 0]), made.decode(u_after + JITTER * jitter[:, 1])
    weight = (SPREAD / SPREAD.sum()).float()
    for k in range(5):
        error = (((back[k] - v[k]) ** 2 + (back_after[k] - after[k]) ** 2) * weight).sum() / 2
        moved, seen = after[k] - v[k], back_after[k] - back[k]
        wrong = ((seen - moved) ** 2 * weight).sum() / ((moved**2 * weight).sum() + FAINTEST)
        assert float(values[k]) == pytest.approx(float(error + CHANGES * wrong), rel=1e-4)


def test_the_way_back_is_learned():
    v, after, _, target = pairs(1)
    made = found(v, after, target, 3)
    assert made is not None
    with torch.no_grad():
        u, u_after = made(v), made(after)
    recipe = Recipe(40, 250, 5e-3, schedule="cosine", held_out=0.0)
    train(made, made.loss, (v, after, u, u_after), recipe, seed=0, draw=made.draw, device="cpu")
    held = pairs(2)[0]
    with torch.no_grad():
        torch.testing.assert_close(made(v), u)  # learned before, and kept
        error = (made.decode(made(held)) - held).square() @ made.weight
    assert float(error.mean()) < 0.01 * float((held.square() @ made.weight).mean())
