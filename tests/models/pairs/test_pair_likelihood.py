from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
import torch
import torch._dynamo  # (the first optimiser loads it, and it sets an environment variable)
from scipy.stats import norm, t
from torch import Tensor

from latentcause.models.pairs.pair_likelihood import FREEDOM, NARROWED, WIDEST, PairLikelihood
from latentcause.models.pairs.solution_functions import SolutionFunctions
from latentcause.networks.coupling_flow import CouplingFlow
from latentcause.training import Recipe, seeded, train

M, TOTAL = 3, 1000
SINGLE = np.vstack([np.zeros((1, M)), np.eye(M)])
BOTH = np.vstack([SINGLE, [np.eye(M)[i] + np.eye(M)[j] for i, j in combinations(range(M), 2)]])


def likelihood(progress: float = 1.0, hypotheses: np.ndarray = SINGLE, seed: int = 0) -> PairLikelihood:
    """Of a flow, solution functions, shares and widths that all do something."""
    with seeded(seed):
        made = PairLikelihood(
            CouplingFlow(M, 3, 8), SolutionFunctions(M, 8), torch.from_numpy(hypotheses), TOTAL
        ).double()
        for parameter in made.parameters():
            torch.nn.init.normal_(parameter, std=0.4)
    made.hypotheses = made.hypotheses.double()
    made.seen += progress * TOTAL
    return made


def rows(n: int = 7, seed: int = 1) -> tuple[Tensor, Tensor]:
    both = torch.randn((2, n, M), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return both[0], both[1]


@pytest.mark.parametrize("progress", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("hypotheses", [SINGLE, BOTH], ids=["one", "up to two"])
def test_the_loss_is_the_density_by_hand(progress, hypotheses):
    made, (u, after) = likelihood(progress, hypotheses), rows()
    known = torch.tensor([-1, 0, 1, 2, 3, -1, -1])
    with torch.no_grad():
        found = made.loss((u, after, known))
        (e, volume), (e_after, volume_after) = made.flow(u), made.flow(after)
        z, log_slope = made.solutions(e_after)
        width = made.log_tau.exp() + WIDEST * max(0.0, 1 - progress / NARROWED) ** 2
        shares = made.shares.softmax(0)
    for k in range(len(u)):
        terms = []
        for h, hit in enumerate(hypotheses):
            if known[k] not in (-1, h):
                continue
            term = math.log(shares[h])
            for j in range(M):
                if hit[j]:
                    term += norm.logpdf(float(z[k, j])) + float(log_slope[k, j])
                else:
                    term += t.logpdf(float(e_after[k, j] - e[k, j]), FREEDOM, scale=float(width[j]))
            terms.append(term)
        expected = np.logaddexp.reduce(terms) + norm.logpdf(e[k].numpy()).sum() + float(volume[k] + volume_after[k])
        assert float(found[k]) == pytest.approx(-expected, rel=1e-9, abs=1e-9)


def test_the_density_of_what_follows_integrates_to_one():
    """Over e~, for one pair of codes before: mixture, widths and solution functions are normalised together."""
    made = likelihood()
    first = rows(1)[0]
    with torch.no_grad():
        width = made.log_tau.exp()
        draws = torch.distributions.StudentT(1.0, scale=3 * torch.ones(M, dtype=torch.float64))
        with seeded(0):
            e_after = first + draws.sample((400_000,))
        weight = made.by_hypothesis(first.expand_as(e_after), e_after).logsumexp(1) - draws.log_prob(
            e_after - first
        ).sum(1)
    assert (width > 0.1).all()  # else the sum over draws would not settle
    estimate, error = weight.exp().mean(), weight.exp().std() / math.sqrt(len(weight))
    assert error < 0.05
    assert abs(float(estimate) - 1) < 4 * error


def test_pairs_are_counted():
    made = likelihood(0.0)
    assert made.draw((*rows(5), torch.full((5,), -1)), torch.Generator()) == ()
    assert float(made.seen) == 5


def drawn(n: int, seed: int) -> tuple[Tensor, Tensor, np.ndarray]:
    """Coordinates that are bent mixtures of independent noises, one of which an intervention draws anew; and which."""
    rng = np.random.default_rng(seed)
    hit = rng.integers(0, M + 1, n)
    e = rng.standard_normal((n, M))
    after = np.where(np.eye(M + 1)[hit][:, 1:] > 0, rng.standard_normal((n, M)), e)
    turn = np.linalg.qr(np.random.default_rng(5).normal(size=(M, M)))[0]

    def mixed(code: np.ndarray) -> Tensor:
        bent = code @ turn
        bent[:, 1] += 0.5 * np.tanh(2 * bent[:, 0])
        bent[:, 2] += 0.4 * bent[:, 1] ** 2
        return torch.from_numpy(bent @ turn.T).float()

    return mixed(e), mixed(after), hit


@pytest.mark.parametrize("seed", [0, 1])
def test_targets_are_found_without_labels_wherever_it_starts(seed):
    """Hypotheses name the noises up to their order; what moves little beside the errors is taken for none."""
    u, after, _ = drawn(2500, seed=2)
    with seeded(seed):
        made = PairLikelihood(CouplingFlow(M, 6, 24), SolutionFunctions(M, 8), torch.from_numpy(SINGLE), 40 * 2500)
    recipe = Recipe(40, 250, 1e-2, schedule="cosine", warm_up=0.1, held_out=0.0, clip_norm=20.0)
    train(made, made.loss, (u, after, torch.full((2500,), -1)), recipe, seed=seed, draw=made.draw, device="cpu")
    u, after, hit = drawn(3000, seed=3)
    with torch.no_grad():
        found = made.by_hypothesis(made.flow(u)[0], made.flow(after)[0]).argmax(1).numpy()
    counts = np.zeros((M + 1, M + 1))
    np.add.at(counts, (hit, found), 1)
    assert counts[0, 0] > 0.98 * counts[0].sum()
    own = counts[1:, 1:].argmax(axis=1)
    assert sorted(own) == list(range(M))
    assert counts[np.arange(1, M + 1), 1 + own].sum() > 0.85 * counts[1:].sum()
