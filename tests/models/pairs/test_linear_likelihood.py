from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from latentcause.models.pairs.linear_likelihood import LEAST, LinearPairLikelihood

M = 3
HYPOTHESES = torch.cat([torch.zeros(1, M), torch.eye(M)])
N = 400_000


@pytest.fixture
def known_system() -> LinearPairLikelihood:
    rng = np.random.default_rng(0)
    made = LinearPairLikelihood(torch.from_numpy(rng.standard_normal((M, M))), HYPOTHESES, 1)
    with torch.no_grad():
        made.solution.copy_(torch.tensor([[1.2, 0.0, 0.0], [0.7, 0.8, 0.0], [-0.5, 0.4, 1.0]]))
        made.shares.copy_(torch.tensor([0.1, 0.4, 0.2, 0.3]).log())
    made.seen.fill_(1)  # hypotheses are cold
    return made


@torch.no_grad()
def drawn(system: LinearPairLikelihood, n: int) -> tuple[Tensor, Tensor]:
    """Pairs (n, 2m) and hypotheses (n,) of the mechanism itself: noises kept, one variable set to fresh noise."""
    g = torch.Generator().manual_seed(1)
    h = torch.multinomial(system.shares.softmax(0), n, replacement=True, generator=g)
    e = torch.randn((n, M), generator=g, dtype=torch.float64)
    after, fresh = e.clone(), torch.randn(n, generator=g, dtype=torch.float64)
    for i in range(M):
        hit, row = h == i + 1, system.solution[i]
        rest = e[hit] @ row - row[i] * e[hit, i]
        after[hit, i] = (fresh[hit] - rest) / row[i]
    errors = torch.randn((n, 2, M), generator=g, dtype=torch.float64) @ torch.linalg.cholesky(system.error).T
    return torch.cat([e @ system.mixing.T + errors[:, 0], after @ system.mixing.T + errors[:, 1]], dim=1), h


def test_covariances_are_those_of_draws(known_system: LinearPairLikelihood) -> None:
    both, h = drawn(known_system, N)
    for k, covariance in enumerate(known_system.covariances().detach()):
        np.testing.assert_allclose(both[h == k].T.cov(), covariance, atol=0.04 * float(covariance.abs().max()))


def test_the_loss_is_the_density_of_the_mixture(known_system: LinearPairLikelihood) -> None:
    both, h = drawn(known_system, 50)
    shares = known_system.shares.detach().softmax(0)
    laws = [
        torch.distributions.MultivariateNormal(torch.zeros(2 * M, dtype=torch.float64), covariance)
        for covariance in known_system.covariances().detach()
    ]
    joint = torch.stack([law.log_prob(both) for law in laws], dim=1) + shares.log()
    unknown = torch.full((50,), -1)
    np.testing.assert_allclose(known_system.loss((both, unknown)).detach(), -joint.logsumexp(1))
    told = known_system.loss((both, h)).detach()
    np.testing.assert_allclose(told, -joint.gather(1, h[:, None])[:, 0])


def test_the_gradient_is_that_of_the_loss(known_system: LinearPairLikelihood) -> None:
    both, h = drawn(known_system, 300)
    known = torch.where(torch.arange(300) % 5 == 0, h, -1)
    value, gradient, posterior = known_system._gradient(both, known)
    loss = known_system.loss((both, known)).mean()
    found = torch.autograd.grad(loss, list(known_system.parameters()))
    np.testing.assert_allclose(gradient, -torch.cat([part.flatten() for part in found]), atol=1e-12)
    assert value == pytest.approx(-float(loss.detach()))
    np.testing.assert_allclose(posterior.sum(1), 1)


def test_the_information_is_the_mean_square_of_gradients(known_system: LinearPairLikelihood) -> None:
    both, _ = drawn(known_system, 40)
    unknown = torch.full((1,), -1)
    scores = torch.stack([known_system._gradient(row[None], unknown)[1] for row in both])
    posterior = known_system._gradient(both, torch.full((40,), -1))[2]
    np.testing.assert_allclose(known_system._information(both, posterior), scores.T @ scores / 40, atol=1e-10)


def test_scoring_reaches_the_truth_and_knows_its_error(known_system: LinearPairLikelihood) -> None:
    both, h = drawn(known_system, 40_000)
    unknown, truth = torch.full_like(h, -1), known_system.solution.detach().clone()
    at_truth = float(known_system.loss((both, unknown)).mean().detach())
    start = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for part in known_system.parameters():
            part += 0.1 * torch.randn(part.shape, generator=start, dtype=torch.float64)
    covariance, settled = known_system.maximise(both, unknown)
    assert settled
    reached = float(known_system.loss((both, unknown)).mean().detach())
    assert at_truth - 1e-2 < reached < at_truth
    # 2 (log-likelihood ratio) is chi-square with 24 degrees of freedom: 6 of L, 9 of A, 9 of T, 3 of shares less what is open
    assert 2 * len(both) * (at_truth - reached) < 60
    error = (known_system.solution.detach() - truth).flatten()
    scaled = error / covariance.diagonal().sqrt()
    assert scaled.abs().max() < 4
    assert covariance.diagonal().sqrt().max() < 0.1


def test_exact_pairs_have_the_least_error(known_system: LinearPairLikelihood) -> None:
    with torch.no_grad():
        known_system.factor.zero_()
    np.testing.assert_allclose(known_system.error.detach(), LEAST**2 * np.eye(M))
    both, h = drawn(known_system, 2000)
    assert torch.isfinite(known_system.loss((both, h))).all()
    before = nn.utils.parameters_to_vector(known_system.parameters()).detach().clone()
    assert not known_system._go(torch.full_like(before, torch.inf), 0.0, both, h)
    np.testing.assert_array_equal(nn.utils.parameters_to_vector(known_system.parameters()).detach(), before)
