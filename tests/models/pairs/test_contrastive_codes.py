from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch._dynamo  # (the first optimiser loads it, and it sets an environment variable)
from scipy.special import logsumexp
from torch import Tensor

import latentcause.models.pairs.contrastive_codes as module
from latentcause.models.pairs.contrastive_codes import (
    FREEDOM,
    NUMBERS,
    ContrastiveCode,
    hypotheses_of,
    told_apart,
)
from latentcause.training import seeded

pytestmark = pytest.mark.usefixtures("quick_contrast")


def rows(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def curves(n: int, seed: int) -> tuple[Tensor, Tensor, np.ndarray]:
    """Pairs of points on a bent sheet in five directions, on which one of two places at a time, or none, is drawn anew."""
    rng = np.random.default_rng(seed)
    place, fresh = rng.uniform(-1.5, 1.5, (2, n, 2))
    target = rng.integers(3, size=n)
    hit = target[:, None] == np.arange(2)

    def seen(p: np.ndarray) -> Tensor:
        a, b = p.T
        v = np.stack([np.sin(2 * a), np.cos(2 * a), np.sin(1.5 * b), np.cos(1.5 * b), a + b], axis=1)
        return torch.from_numpy(v).float()

    return seen(place), seen(np.where(hit, fresh, place)), target


@pytest.mark.parametrize("k", [0, 2])
@pytest.mark.parametrize("alike", [0.0, 1.0])
def test_the_loss_is_that_of_finding_the_other_half(k, alike):
    n, group = 12, torch.tensor([[3, 1, 4, 9, 5, 2]])
    v, after, codes, codes_after = (
        rows(n, 4),
        rows(n, 4, seed=1),
        rows(n, k, NUMBERS, seed=2),
        rows(n, k, NUMBERS, seed=3),
    )
    log_tau = rows(k, NUMBERS, seed=4)
    with seeded(0):
        code = ContrastiveCode(v, after, codes, codes_after, log_tau, hypotheses_of(k + 1, 1))
    with torch.no_grad():
        code.log_tau.fill_(math.log(0.4) / module.FASTER)
        found = float(code.loss((group, torch.tensor([alike])))[0])
        g, g_after = code(v).numpy(), code(after).numpy()
    assert float(code.tau.detach()) == pytest.approx(0.4)
    chosen, tau = group[0].numpy(), log_tau.exp().numpy()
    middle = codes_after[group[0]].flatten(1).median(0).values * alike
    score = np.zeros((6, 6))
    for i, a in enumerate(chosen):
        for j, b in enumerate(chosen):
            moved = [(codes_after[b, q] - codes[a, q]).numpy() / tau[q] for q in range(k)] + [
                np.array([(g_after[b] - g[a]) / 0.4])
            ]
            stays = np.array([-(FREEDOM + 1) / 2 * np.log1p(part**2 / FREEDOM).sum() for part in moved])
            told = torch.cat([codes_after[b].flatten(), torch.tensor([g_after[b]]), middle])
            bias = code.bias(told).detach().numpy()
            terms = [bias[0] + stays.sum()] + [bias[1 + q] + stays.sum() - stays[q] for q in range(k + 1)]
            score[i, j] = logsumexp(terms)
    expected = np.mean(logsumexp(score, axis=1) - np.diag(score))
    assert found == pytest.approx(expected, rel=1e-4)


def test_hypotheses_of_one_or_two_at_once():
    assert hypotheses_of(2, 1).tolist() == [[0, 0], [1, 0], [0, 1]]
    assert hypotheses_of(3, 2).tolist()[4:] == [[1, 1, 0], [1, 0, 1], [0, 1, 1]]


def test_groups_hold_pairs_whose_codes_are_alike_and_some_at_random():
    codes = rows(2000, 2)
    groups, alike = module._groups(codes, 100, 0)
    assert groups.shape == (100, module.GROUP)
    assert all(len(set(group.tolist())) == module.GROUP for group in groups)
    ranks = (codes.argsort(0).argsort(0) / 2000)[groups]
    spread = ranks.std(1).mean(1)
    assert (spread[alike == 1] < 0.15).all()
    assert (spread[alike == 0] > 0.25).all()
    assert 0.7 < float(alike.mean()) < 0.9
    assert module._groups(codes[:, :0], 5, 0)[1].tolist() == [0] * 5


def test_latents_are_told_apart_without_labels():
    v, after, target = curves(1500, 0)
    changed, stays = told_apart(v, after, 2, 1, seed=0, device="cpu", checkpoint=None)
    assert changed.shape == stays.shape == (1500, 2)
    assert not (changed & stays).any()
    share = np.array([[changed[target == j, k].float().mean() for k in range(2)] for j in range(3)])
    own = share[:2].argmax(axis=1)
    assert sorted(own) == [0, 1]
    assert (share[[0, 1], own] > 0.8).all()
    assert (share[[1, 0], own] < 0.02).all()
    assert (share[2] == 0).all()
    kept = np.array([[stays[target == j, k].float().mean() for k in range(2)] for j in range(3)])
    assert (kept[[0, 1], own] < 0.15).all()
    assert (kept[[1, 0], own] > 0.7).all()


def test_where_everything_changes_nothing_is_told_apart():
    changed, stays = told_apart(rows(500, 4), rows(500, 4, seed=1), 2, 1, seed=0, device="cpu", checkpoint=None)
    assert changed.shape == stays.shape == (500, 0)


def test_what_was_cut_off_goes_on_to_the_same_end(tmp_path, monkeypatch):
    v, after, _ = curves(600, 0)
    monkeypatch.setattr(module, "STEPS", 100)
    told = {"most": 1, "at_once": 1, "seed": 0, "device": "cpu"}
    whole = told_apart(v, after, **told, checkpoint=None)
    loss, calls = ContrastiveCode.loss, []

    def cut_off(code, batch):
        calls.append(1)
        if len(calls) == 26:
            raise KeyboardInterrupt
        return loss(code, batch)

    monkeypatch.setattr(ContrastiveCode, "loss", cut_off)
    with pytest.raises(KeyboardInterrupt):
        told_apart(v, after, **told, checkpoint=tmp_path / "run.contrast.pt")
    assert [file.name for file in tmp_path.iterdir()] == ["run.contrast1.pt"]
    resumed = told_apart(v, after, **told, checkpoint=tmp_path / "run.contrast.pt")
    assert all(torch.equal(a, b) for a, b in zip(whole, resumed, strict=True))
    with pytest.raises(ValueError, match=r"run\.contrast1\.pt is of another training"):
        told_apart(v, after + 1, **told, checkpoint=tmp_path / "run.contrast.pt")
