from __future__ import annotations

import math
from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
import torch
import torch._dynamo  # (the first optimiser loads it, and it sets an environment variable)
from torch import Tensor, nn

from latentcause.models.pairs.single_changes import (
    COARSEST,
    CORRELATED,
    FINEST,
    LEAST_CHANGED,
    PEAKED,
    SETTLED,
    SPREAD,
    SingleChanges,
)
from latentcause.training import Recipe, seeded, train

M, N, TOTAL = 3, 4000, 1000
SINGLE = np.vstack([np.zeros((1, M)), np.eye(M)])
BOTH = np.vstack([SINGLE, [np.eye(M)[i] + np.eye(M)[j] for i, j in combinations(range(M), 2)]])
Encode = Callable[[Tensor, Tensor], Tensor]


def as_they_are(x: Tensor, t: Tensor) -> Tensor:
    return x


def changes(progress: float, hypotheses: np.ndarray = SINGLE, encode: Encode = as_they_are) -> SingleChanges:
    """The loss of codes, so far through a training of 1000 pairs."""
    made = SingleChanges(nn.Identity(), encode, torch.from_numpy(hypotheses), TOTAL)
    made.seen += progress * TOTAL
    return made


def mean_loss(made: SingleChanges, before: np.ndarray, after: np.ndarray, known: np.ndarray | None = None) -> float:
    told = np.full(len(before), -1) if known is None else known
    first, second = (torch.from_numpy(part).float() for part in (before, after))
    return made.loss((first, second, torch.from_numpy(told), torch.zeros(len(before)))).mean().item()


def pairs_of_codes(seed: int = 0, n: int = N) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Independent Gaussian codes, of which one or none changes; and which."""
    rng = np.random.default_rng(seed)
    before, hit = rng.standard_normal((n, M)), rng.integers(0, M + 1, n)
    return before, np.where(np.eye(M + 1)[hit][:, 1:] > 0, rng.standard_normal((n, M)), before), hit


def rotation(angle: float) -> np.ndarray:
    """About (1, 1, 1): 2/3 pi would only permute the codes."""
    own = (1 + 2 * math.cos(angle)) / 3
    others = [(1 - math.cos(angle)) / 3 + sign * math.sin(angle) / math.sqrt(3) for sign in (-1, 1)]
    return np.array([np.roll([own, *others], i) for i in range(M)])


# --- the loss --------------------------------------------------------------------------------------------------------


def by_hand(
    before: np.ndarray, after: np.ndarray, known: np.ndarray, hypotheses: np.ndarray, progress: float
) -> list[float]:
    """The loss, pair by pair and code by code."""
    n, m = before.shape
    size = math.exp(math.log(COARSEST) + min(1.0, progress / SETTLED) * (math.log(FINEST) - math.log(COARSEST)))
    means = [sum(before[:, i]) / n for i in range(m)]
    sds = [math.sqrt(sum((before[:, i] - means[i]) ** 2) / n) for i in range(m)]
    counts = [[0.0] * m for _ in range(n)]
    for k in range(n):
        for i in range(m):
            d = (after[k, i] - before[k, i]) / sds[i]
            counts[k][i] = d**2 / (d**2 + size**2)
    over_batch = 0.0
    for i in range(m):
        over_batch -= SPREAD * math.log(max(LEAST_CHANGED, sum(row[i] for row in counts) / n))
        over_batch += PEAKED * max(0.0, sum(((before[:, i] - means[i]) / sds[i]) ** 4) / n - 3)
        for j in range(m):
            if i != j:
                shared = sum((before[:, i] - means[i]) * (before[:, j] - means[j])) / n / (sds[i] * sds[j])
                over_batch += CORRELATED * shared**2
    losses = []
    for k in range(n):
        explained = [sum(c for c, hit in zip(counts[k], row, strict=True) if hit) for row in hypotheses]
        best = max(explained) if known[k] < 0 else explained[known[k]]
        losses.append(sum(counts[k]) - best + over_batch)
    return losses


@pytest.mark.parametrize("progress", [0.0, 0.35, 0.7, 1.0])
@pytest.mark.parametrize("hypotheses", [SINGLE, BOTH], ids=["one", "up to two"])
@pytest.mark.parametrize("known", [[-1] * 6, [-1, 0, 2, -1, 3, 1], [0] * 6], ids=["unknown", "some known", "none"])
def test_the_loss_is_what_it_says(progress, hypotheses, known):
    rng = np.random.default_rng(1)
    before = rng.standard_normal((6, M)) * (1, 2, 3) + rng.standard_normal((6, 1))
    before[0, 1] += 15  # above the fourth moment of a Gaussian
    after = before + rng.standard_normal((6, M)) * rng.integers(0, 2, (6, M))
    if len(hypotheses) > M + 1 and max(known) > 0:
        known = [*known[:5], 5]  # z0 and z2
    told = np.array(known)
    made = changes(progress, hypotheses)
    rows = (torch.from_numpy(before), torch.from_numpy(after), torch.from_numpy(told), torch.zeros(6))
    expected = by_hand(before, after, told, hypotheses, progress)
    np.testing.assert_allclose(
        made.loss(tuple(r.float() if r.is_floating_point() else r for r in rows)), expected, 1e-4
    )


def test_a_known_target_costs_what_moves_beside_it():
    before, after, hit = pairs_of_codes()
    made = changes(1.0)
    right, unknown = mean_loss(made, before, after, hit), mean_loss(made, before, after)
    assert right == pytest.approx(unknown, abs=1e-5)  # the most that moved is what was hit
    wrong = np.where(hit > 0, hit % M + 1, 0)
    assert mean_loss(made, before, after, wrong) > right + 0.6  # three in four pairs have a change, all of it beside
    assert mean_loss(made, before, after, np.zeros_like(hit)) > right + 0.6


def test_two_changes_are_free_where_two_may_be_hit_at_once():
    before, after, _ = pairs_of_codes()
    after[:, :2] = np.random.default_rng(5).standard_normal((N, 2))  # the third changes beside them in some pairs
    one, two = changes(1.0), changes(1.0, BOTH)
    assert mean_loss(one, before, after) > mean_loss(two, before, after) + 0.8


@pytest.mark.parametrize("known", [[-1] * 6, [-1, 0, 2, -1, 3, 1]], ids=["unknown", "some known"])
def test_what_changes_beside_the_target_is_the_loss_without_its_terms_over_the_batch(known, monkeypatch):
    rng = np.random.default_rng(2)
    before = rng.standard_normal((6, M))
    after = before + rng.standard_normal((6, M)) * rng.integers(0, 2, (6, M))
    made, times = changes(0.0), []  # by the finest measure, however far the training is
    made.encode = lambda x, t: times.append(t) or x
    rows = (torch.from_numpy(before).float(), torch.from_numpy(after).float(), torch.tensor(known))
    for weight in ("SPREAD", "PEAKED", "CORRELATED"):
        monkeypatch.setitem(globals(), weight, 0.0)
    expected = np.mean(by_hand(before, after, np.array(known), SINGLE, 1.0)) / (M - 1)
    assert made.beside(rows) == pytest.approx(expected, rel=1e-4)
    assert torch.equal(times[0], torch.full((12,), 0.5))


def test_a_single_code_has_nothing_beside_it():
    made = SingleChanges(nn.Identity(), as_they_are, torch.tensor([[0.0], [1.0]]), TOTAL)
    x = torch.linspace(-1, 1, 9)[:, None]
    assert made.beside((x, x + 1, torch.full((9,), -1))) == 0


# --- what it prefers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("progress", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("angle", [-1.0, 0.5, 0.8, 1.3])
def test_codes_that_change_one_at_a_time_cost_least(progress, angle):
    before, after, hit = pairs_of_codes()
    made, turn = changes(progress), rotation(angle)
    own, turned = (mean_loss(made, *parts) for parts in ((before, after), (before @ turn, after @ turn)))
    assert turned > own + 0.05
    assert mean_loss(made, before @ turn, after @ turn, hit) > mean_loss(made, before, after, hit) + 0.05


def test_small_changes_count_in_the_end():
    before, after, _ = pairs_of_codes()
    leak = after + 0.3 * (after - before)[:, [1, 2, 0]]  # every change moves another code by a third as much
    gap = [mean_loss(made, before, leak) - mean_loss(made, before, after) for made in (changes(0.0), changes(0.7))]
    assert 0 < 3 * gap[0] < gap[1]
    assert mean_loss(changes(0.7), before, leak) == mean_loss(changes(1.0), before, leak)


@pytest.mark.parametrize("progress", [0.0, 1.0])
def test_shift_and_scale_of_codes_play_no_part(progress):
    before, after, hit = pairs_of_codes()
    shift, scale = np.array([5.0, -1.0, 0.0]), np.array([0.01, -3.0, 40.0])
    made = changes(progress)
    for known in (None, hit):
        there = mean_loss(made, before * scale + shift, after * scale + shift, known)
        assert there == pytest.approx(mean_loss(made, before, after, known), abs=1e-3)


def idle(before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The third code is replaced by one that never changes."""
    still = np.random.default_rng(7).standard_normal(N)
    return np.column_stack([before[:, :2], still]), np.column_stack([after[:, :2], still])


def spiky(before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return before**3, after**3


def twins(before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return before[:, [0, 1, 1]], after[:, [0, 1, 1]]


@pytest.mark.parametrize(
    ("replaced", "weight", "price"),
    [(idle, "SPREAD", 0.5), (spiky, "PEAKED", 3.0), (twins, "CORRELATED", 0.15)],
    ids=["never changes", "spiky", "two equal ones"],
)
def test_codes_that_change_rarely_or_together_have_their_price(replaced, weight, price, monkeypatch):
    """Each is charged by a term of its own: without it, it costs less by that much."""
    before, after, _ = pairs_of_codes()
    made, others = changes(1.0), replaced(before, after)
    charged = mean_loss(made, *others) - mean_loss(made, before, after)
    monkeypatch.setattr(f"latentcause.models.pairs.single_changes.{weight}", 0.0)
    free = mean_loss(made, *others) - mean_loss(made, before, after)
    assert charged > 0
    assert charged - free > price


# --- training --------------------------------------------------------------------------------------------------------


def test_pairs_are_counted_and_each_has_a_time():
    made = changes(0.0)
    rows = (torch.zeros(200, M), torch.zeros(200, M), torch.full((200,), -1))
    (times,) = made.draw(rows, torch.Generator().manual_seed(0))
    (again,) = made.draw(rows, torch.Generator().manual_seed(0))
    assert made.seen == 400
    assert times.shape == (200,)
    assert torch.equal(times, again)
    assert 0 <= times.min() < 0.05
    assert 0.95 < times.max() <= 1


def test_both_halves_of_a_pair_are_encoded_at_its_time():
    asked = []

    def encode(x: Tensor, t: Tensor) -> Tensor:
        asked.append((x, t))
        return x + t[:, None] * x.square()

    before, after, _ = (torch.from_numpy(part) for part in pairs_of_codes(n=50))
    made, times, known = changes(1.0, encode=encode), torch.linspace(0, 1, 50), torch.full((50,), -1)
    found = made.loss((before.float(), after.float(), known, times))
    ((x, t),) = asked
    assert torch.equal(x, torch.cat([before, after]).float())
    assert torch.equal(t, torch.cat([times, times]))
    first, second = (part + times[:, None] * part.square() for part in (before.float(), after.float()))
    torch.testing.assert_close(found, changes(1.0).loss((first, second, known, times)))


@pytest.mark.parametrize("rows", [1, 2])
def test_the_last_rows_of_a_pass_may_be_few(rows):
    before, after, _ = (torch.from_numpy(part[:rows]).float() for part in pairs_of_codes())
    first, second = before.requires_grad_(), (after + 1).requires_grad_()
    loss = changes(1.0).loss((first, second, torch.full((rows,), -1), torch.zeros(rows)))
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert torch.isfinite(first.grad).all()
    assert torch.isfinite(second.grad).all()


def test_a_turned_encoder_learns_to_turn_back():
    before, after, _ = pairs_of_codes()
    turn = rotation(0.8)
    with seeded(0):
        encoder = nn.Linear(M, M, bias=False)
    with torch.no_grad():
        encoder.weight.copy_(torch.eye(M))
    x, x_after = (torch.from_numpy(part @ turn).float() for part in (before, after))
    made = SingleChanges(encoder, lambda x, t: encoder(x), torch.from_numpy(SINGLE), 20 * N)
    recipe = Recipe(20, 256, 1e-2, schedule="cosine", held_out=0.0)
    train(made, made.loss, (x, x_after, torch.full((N,), -1)), recipe, seed=0, draw=made.draw, device="cpu")
    found = np.abs(encoder.weight.detach().numpy() @ turn.T)  # to be a permutation, up to scales
    assert np.abs(turn).max() < 0.8
    largest = np.sort(found / np.linalg.norm(found, axis=1, keepdims=True), axis=1)
    assert largest[:, -1].min() > 0.99
    assert sorted(found.argmax(axis=1)) == list(range(M))
