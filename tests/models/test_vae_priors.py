from __future__ import annotations

import pytest
import torch
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from latentcause.models.baselines.prior import DomainGaussian, FactorisedExponential, InterventionalSCM, StandardNormal
from latentcause.training import seeded

N, D = 6, 3


@pytest.fixture
def posterior() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(N, D, generator=generator), torch.randn(N, D, generator=generator)


def indicators() -> torch.Tensor:
    return torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 1]]).repeat(2, 1)


def scramble(module: torch.nn.Module, size: float = 0.5) -> None:
    """Random weights in place of the starting ones, which are mostly zeros."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in module.parameters():
            weight.copy_(size * torch.randn(weight.shape, generator=generator))


def divergence(prior: torch.nn.Module, mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return prior(mean, log_variance, mean, indicators())


def test_standard_normal(posterior):
    mean, log_variance = posterior
    exact = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, 1.0)).sum(dim=1)
    assert torch.allclose(divergence(StandardNormal(), mean, log_variance), exact, rtol=1e-5)


def test_domain_gaussian(posterior):
    mean, log_variance = posterior
    prior = DomainGaussian(indicators()[[1, 2, 0]])
    assert torch.allclose(
        divergence(prior, mean, log_variance), divergence(StandardNormal(), mean, log_variance), rtol=1e-5
    )
    scramble(prior)
    found = divergence(prior, mean, log_variance)
    for i, a in enumerate(indicators()):
        g = [1, 2, 0].index(i % 3)
        assert torch.equal(prior.indicators[g], a)
        factor = prior.factor[g].detach().tril(-1) + torch.diag(prior.factor[g].detach().diagonal().exp())
        target = MultivariateNormal(prior.centre[g].detach(), precision_matrix=factor.T @ factor)
        exact = kl_divergence(MultivariateNormal(mean[i], torch.diag(log_variance[i].exp())), target)
        assert found[i] == pytest.approx(exact.item(), rel=1e-4)


def test_factorised_exponential(posterior):
    mean, log_variance = posterior
    with seeded(0):
        prior = FactorisedExponential(D, 8)
    assert torch.allclose(
        divergence(prior, mean, log_variance), divergence(StandardNormal(), mean, log_variance), rtol=1e-5
    )
    scramble(prior)
    linear, log_precision = prior.natural(indicators()).detach().chunk(2, dim=1)
    target = Normal(linear / log_precision.exp(), (-0.5 * log_precision).exp())
    exact = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), target).sum(dim=1)
    assert torch.allclose(divergence(prior, mean, log_variance), exact, rtol=1e-4)
    # The natural parameters are those of exp(l1 z + l2 z^2).
    z = torch.tensor([-1.0, 0.0, 2.0])[:, None, None]
    log_density = linear * z - 0.5 * log_precision.exp() * z**2
    offset = target.log_prob(z) - log_density
    assert torch.allclose(offset, offset[:1].expand_as(offset), atol=1e-4)


def scm(hard: bool) -> InterventionalSCM:
    parents = torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 1, 0]])
    with seeded(0):
        prior = InterventionalSCM(parents, hard, 8)
    scramble(prior)
    return prior


@pytest.mark.parametrize("hard", [True, False])
def test_mechanisms_see_parents_only(hard):
    prior, z, a = scm(hard), torch.randn(N, D, generator=torch.Generator().manual_seed(2)), indicators()
    for j in range(D):
        for part in (0, 1):  # mean and log standard deviation
            moving = z.clone().requires_grad_()
            prior.mechanisms(moving, a)[part][:, j].sum().backward()
            seen = moving.grad != 0
            for i in range(N):
                free = not (hard and a[i, j])
                assert seen[i].tolist() == [free and bool(k < j) for k in range(D)]


def test_mechanisms_switch_with_the_own_target_only():
    prior, z = scm(hard=False), torch.randn(1, D, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        base = prior.mechanisms(z, torch.zeros(1, D))[0]
        for j in range(D):
            moved = prior.mechanisms(z, torch.eye(D)[j : j + 1])[0]
            assert (moved != base).squeeze().tolist() == [k == j for k in range(D)]


def test_scm_estimate_is_unbiased_for_a_linear_gaussian_system():
    prior = scm(hard=True)
    with torch.no_grad():
        prior.last.zero_()
        prior.skip[:, :, 1] = 0  # constant variances: the joint prior is Gaussian and the divergence is known
    mean, log_variance = torch.tensor([[0.3, -1.0, 0.5]]), torch.tensor([[-0.5, 0.2, -1.0]])
    a = torch.tensor([[0.0, 1.0, 0.0]])
    picked = [0, D + 1, 2]  # node 2 intervened on
    B = torch.stack([(prior.skip * prior.masks).detach()[p, :, 0] for p in picked])
    centre, log_scale = prior.bias.detach()[picked, 0].unbind(dim=1)
    response = torch.linalg.inv(torch.eye(D) - B)
    target = MultivariateNormal(response @ centre, response @ torch.diag((2 * log_scale).exp()) @ response.T)
    exact = kl_divergence(MultivariateNormal(mean[0], torch.diag(log_variance[0].exp())), target).item()

    draws = 200_000
    noise = torch.randn(draws, D, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        sample = mean + (0.5 * log_variance).exp() * noise
        values = prior(mean.expand(draws, D), log_variance.expand(draws, D), sample, a.expand(draws, D))
    assert values.mean().item() == pytest.approx(exact, abs=5 * values.std().item() / draws**0.5)
