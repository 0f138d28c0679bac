from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from latentcause.models.pairs.coordinates import Coordinates
from latentcause.models.pairs.decoders import SIGMA_MAX, SIGMA_MIN
from latentcause.models.pairs.flow_codes import FlowEncoder, late_part
from latentcause.models.pairs.networks import (
    COLDEST,
    FULL,
    HARD,
    LIKELIEST,
    PROJECTED,
    SURELY,
    UNINFORMED_SD,
    PairNetworks,
    new_encoder,
)
from latentcause.networks.coupling_flow import CouplingFlow
from latentcause.training import seeded

M, SIZE, N = 3, 4, 6
SINGLE = np.vstack([np.zeros((1, M)), np.eye(M)])
BOTH = np.vstack([SINGLE, [np.eye(M)[i] + np.eye(M)[j] for i, j in combinations(range(M), 2)]])
PLAIN, COLD, WITH_SOLUTIONS, LAST = 0.05, 0.2, 0.5, 0.8  # shares of the training, one for each phase
UNKNOWN = torch.full((N,), -1)


def networks(progress: float, hypotheses: np.ndarray = SINGLE, settled: bool = False, **settings: Any) -> PairNetworks:
    """Networks with all parameters drawn anew, so far through a training of 1000 pairs."""
    made_of: dict[str, Any] = {
        "decoder": "gaussian",
        "code": "finite",
        "guidance": "head",
        "sees_others": True,
        "paired": True,
    } | settings
    with seeded(0):
        encoder = new_encoder(SIZE, M, 8, 2, made_of["code"])
        made = PairNetworks(
            encoder, SIZE, M, width=8, depth=2, hypotheses=torch.from_numpy(hypotheses), total=1000, **made_of
        )
        for value in made.parameters():
            torch.nn.init.normal_(value, std=0.4)
        made.log_sd.data.mul_(0.5)  # well inside its bounds
    made.seen += 1000 * progress
    made.settled = settled
    return made.eval()


def batch(made: PairNetworks, known: Tensor = UNKNOWN) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    x, after = torch.randn((2, N, SIZE), generator=generator)
    rows = (x, after, known)
    return (*rows, *made.draw(rows, generator))


@torch.no_grad()
def by_hand(made: PairNetworks, rows: tuple[Tensor, ...], progress: float) -> np.ndarray:
    """The loss of a Gaussian decoder, pair by pair and hypothesis by hypothesis, in NumPy; networks are only evaluated."""
    x, after, known, noise, noise_after = (part.double().numpy() for part in rows[:5])
    log_sd = made.log_sd.double().numpy()
    sd, decoder_sd = np.exp(log_sd), made.decoder.log_sd.double().exp().numpy()
    a, b, c = made.odds.double().numpy()
    hypotheses = made.hypotheses.double().numpy()

    def encoded(row: np.ndarray) -> np.ndarray:
        return made.encode(torch.tensor(row[None]).float())[0].double().numpy()

    def surprise(row: np.ndarray, code: np.ndarray) -> float:
        mean = made.decoder.head(torch.tensor(code[None]).float())[0].double().numpy()
        return float((0.5 * ((row - mean) / decoder_sd) ** 2 + np.log(decoder_sd)).sum())

    def divergence(mean: np.ndarray, spread: np.ndarray) -> np.ndarray:
        return -0.5 + 0.5 * (mean**2 + spread**2) - np.log(spread)

    def intervened(i: int, code: np.ndarray) -> float:
        """-log p(e~_i | e~_-i)."""
        if progress < FULL and not made.settled:
            return 0.5 * (code[i] / UNINFORMED_SD) ** 2 + math.log(UNINFORMED_SD) + 0.5 * math.log(2 * math.pi)
        z, log_slope = (part[0, i].double().item() for part in made.solutions(torch.tensor(code[None]).float()))
        return 0.5 * z**2 - log_slope + 0.5 * math.log(2 * math.pi)

    costs, odds = np.zeros((len(x), len(hypotheses))), np.zeros((len(x), len(hypotheses)))
    plain = np.zeros(len(x))
    for n in range(len(x)):
        mean, mean_after = encoded(x[n]), encoded(after[n])
        first, second = mean + sd * noise[n], mean_after + sd * noise_after[n]
        plain[n] = surprise(x[n], first) + surprise(after[n], second)
        plain[n] += divergence(mean, sd).sum() + divergence(mean_after, sd).sum()
        for k, hypothesis in enumerate(hypotheses):
            code, code_after = np.empty(M), np.empty(M)
            for j in range(M):
                if hypothesis[j]:
                    code[j], code_after[j] = first[j], second[j]
                else:
                    code[j] = code_after[j] = (mean[j] + mean_after[j]) / 2 + sd[j] / math.sqrt(2) * noise[n, j]
            cost = surprise(x[n], code) + surprise(after[n], code_after)
            for j in range(M):
                if hypothesis[j]:
                    entropy = log_sd[j] + 0.5 * math.log(2 * math.pi * math.e)
                    cost += divergence(mean[j], sd[j]) + intervened(j, code_after) - entropy
                    size = abs(mean_after[j] - mean[j])
                    odds[n, k] += a + math.exp(b) * size + math.log1p(math.exp(c)) * size**2
                else:
                    cost += divergence((mean[j] + mean_after[j]) / 2, sd[j] / math.sqrt(2))
            costs[n, k] = cost
    if progress < PROJECTED:
        return plain
    if progress < FULL and not made.settled:
        odds *= COLDEST ** ((FULL - progress) / (FULL - PROJECTED))
    posterior = np.exp(odds - odds.max(axis=1, keepdims=True))
    posterior /= posterior.sum(axis=1, keepdims=True)
    posterior[known >= 0] = np.eye(len(hypotheses))[known[known >= 0].astype(int)]
    if progress >= HARD:
        return costs[np.arange(len(x)), posterior.argmax(axis=1)]
    mean_posterior = posterior.mean(axis=0)
    if progress >= FULL or made.settled:  # the likeliest alone are looked at
        most = SURELY if made.settled else LIKELIEST
        least = np.sort(posterior, axis=1)[:, -min(most, len(hypotheses))]
        posterior = np.where(posterior >= least[:, None], posterior, 0)
        posterior /= posterior.sum(axis=1, keepdims=True)
    entropy = -(posterior * np.log(np.maximum(posterior, 1e-300))).sum(axis=1)
    return (posterior * costs).sum(axis=1) - entropy + (mean_posterior * np.log(mean_posterior + 1e-9)).sum()


@pytest.mark.parametrize("progress", [PLAIN, COLD, WITH_SOLUTIONS, LAST])
@pytest.mark.parametrize("hypotheses", [SINGLE, BOTH], ids=["one", "up to two"])
@pytest.mark.parametrize("told", [False, True])
@pytest.mark.parametrize("settled", [False, True], ids=["anew", "settled"])
def test_the_loss_is_what_it_says(progress, hypotheses, told, settled):
    made = networks(progress, hypotheses, settled)
    known = torch.tensor([-1, 0, 2, -1, 3, len(hypotheses) - 1]) if told else UNKNOWN
    rows = batch(made, known)
    torch.testing.assert_close(
        made.loss(rows).double(), torch.from_numpy(by_hand(made, rows, progress)), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("settled", [False, True], ids=["anew", "settled"])
def test_phases_begin_where_they_should(settled):
    values = {}
    for progress in (0.0, 0.0999, 0.1001, 0.2999, 0.3001, 0.6499, 0.6501, 1.0):
        made = networks(progress, settled=settled)
        values[progress] = made.loss(batch(made)).mean().item()
    assert values[0.0] == values[0.0999] != values[0.1001]
    if settled:  # cold at once, and with solution functions
        assert values[0.1001] == values[0.2999] == values[0.3001]
    assert (values[0.2999] == values[0.3001]) == settled
    assert values[0.3001] == values[0.6499] != values[0.6501] == values[1.0]


@pytest.mark.parametrize(
    ("decoder", "code"), [("gaussian", "finite"), ("diffusion", "finite"), ("diffusion", "trajectory")]
)
def test_codes_of_a_flow_are_kept_and_all_else_learns(decoder, code):
    for progress in (PLAIN, COLD, WITH_SOLUTIONS, LAST):
        made = networks(progress, decoder=decoder, code=code)
        with seeded(0):
            coordinates = Coordinates(torch.ones(SIZE), M, 1, 8, 1)
            late = late_part(SIZE, M, 8, 1) if code == "trajectory" else None
            made.take(FlowEncoder(coordinates, CouplingFlow(M, 2, 8), late), made.solutions)
        made.loss(batch(made)).sum().backward()
        kept = {name for name, value in made.named_parameters() if value.grad is None or not value.grad.any()}
        taken = ("encoder.flow.", "encoder.coordinates.", "decoder.head.", "solutions.")
        frozen = {name for name, _ in made.named_parameters() if name.startswith(taken)}
        assert frozen <= kept
        assert "log_sd" not in kept
        assert "decoder.log_sd" not in kept
        assert late is None or "encoder.late.last.weight" not in kept


def test_pairs_are_counted_while_training_only():
    made = networks(0.0)
    batch(made)
    assert made.seen == 0
    made.train()
    rows = batch(made)
    made.loss(rows)
    assert made.seen == N


def test_known_targets_decide_the_hypothesis():
    made = networks(WITH_SOLUTIONS)
    losses = [made.loss(batch(made, torch.full((N,), k))) for k in range(4)]
    assert len({tuple(loss.tolist()) for loss in losses}) == 4
    made.odds.data[0] = 1e3  # the odds have no say
    assert torch.equal(made.loss(batch(made, torch.full((N,), 1))), losses[1])
    losses[1].sum().backward()
    assert made.odds.grad is None or not made.odds.grad.any()


def test_unpaired_halves_are_each_on_their_own():
    made = networks(LAST, paired=False)
    torch.testing.assert_close(made.loss(batch(made)), networks(PLAIN).loss(batch(made)))


def test_without_context_an_intervened_latent_ignores_the_others():
    made = networks(WITH_SOLUTIONS, sees_others=False)
    noise = torch.randn((5, M), generator=torch.Generator().manual_seed(0))
    moved = noise + torch.tensor([0.0, 1.0, 2.0])
    assert torch.equal(made.solutions(noise)[0][:, 0], made.solutions(moved)[0][:, 0])


def test_odds_grow_with_the_moves_of_what_is_hit():
    made = networks(0.0, BOTH)
    moved = torch.tensor([[0.0, 0.5, -2.0]])
    odds = made.log_odds(moved)[0]
    assert odds[0] == 0
    torch.testing.assert_close(odds[6], odds[2] + odds[3])
    assert odds[1] < odds[2] < odds[3]
    assert torch.equal(made.log_odds(-moved), made.log_odds(moved))


@pytest.mark.parametrize("log_sd", [-9.0, 3.0])
def test_sds_beyond_their_bounds_gain_nothing(log_sd):
    """A bound that only the sd feels, and not its entropy, would have the loss fall for ever."""
    made = networks(WITH_SOLUTIONS)
    made.log_sd.data.fill_(log_sd)
    at_bound = made.loss(batch(made))
    at_bound.sum().backward()
    assert not made.log_sd.grad.any()
    made.log_sd.data.fill_(2 * log_sd)
    assert torch.equal(made.loss(batch(made)), at_bound)


# --- with a diffusion ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("guidance", ["head", "diffusion"])
@pytest.mark.parametrize("progress", [PLAIN, COLD, WITH_SOLUTIONS, LAST])
def test_codes_learn_through_the_head_until_the_last_phase(guidance, progress):
    made = networks(progress, decoder="diffusion", guidance=guidance)
    made.decoder.last.weight.data.zero_()
    made.decoder.last.bias.data.zero_()
    rows = batch(made)
    made.loss(rows).sum().backward()
    felt = [value.grad.clone() for value in made.encoder.parameters()]
    made.zero_grad()
    with torch.no_grad():  # another network F: the codes feel it if they learn through it
        made.decoder.last.weight.normal_(generator=torch.Generator().manual_seed(0))
    made.loss(rows).sum().backward()
    same = all(torch.allclose(a, b.grad, atol=1e-5) for a, b in zip(felt, made.encoder.parameters(), strict=True))
    assert same == (guidance == "head" and progress < HARD)
    assert made.decoder.last.weight.grad.any()


def test_the_trajectory_is_encoded_at_the_time_of_its_noise_level():
    made = networks(PLAIN, decoder="diffusion", code="trajectory")
    rows, seen = batch(made), []
    encode = made.encode
    made.encode = lambda x, t: seen.append(t) or encode(x, t)
    made.loss(rows)
    levels = (rows[5] - math.log(SIGMA_MIN)) / math.log(SIGMA_MAX / SIGMA_MIN)
    assert torch.equal(seen[0], seen[1])
    torch.testing.assert_close(seen[0], levels)
    assert 0 <= levels.min() <= levels.max() <= 1
    x = rows[0]
    assert not torch.equal(encode(x, 0.1), encode(x, 0.9))
    assert torch.equal(encode(x, torch.full((N,), 0.1)), encode(x, 0.1))


@pytest.mark.parametrize("code", ["finite", "trajectory"])
def test_encoders_start_as_rotations(code):
    for size, m in ((4, 3), (3, 3), (2, 4)):
        with seeded(0):
            made = new_encoder(size, m, 4, 1, code)
        times = made.skip.weight[:, size:]
        assert times.shape == (m, 2 * (code == "trajectory"))
        assert not times.any()  # at first the time plays no part
        values = torch.linalg.svdvals(made.skip.weight[:, :size])
        torch.testing.assert_close(values, torch.ones(min(size, m)))
        x = torch.randn((5, size + times.shape[1]), generator=torch.Generator().manual_seed(0))
        assert torch.equal(made(x), made.skip(x))
        assert not made(torch.zeros_like(x)).any()
