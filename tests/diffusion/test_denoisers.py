from __future__ import annotations

from itertools import product

import pytest
import torch

from latentcause.diffusion import (
    Cosine,
    GaussianDenoiser,
    GuidedDenoiser,
    NetworkDenoiser,
    Prediction,
    VarianceExploding,
    VariancePreserving,
    denoising_loss,
    draw_times,
    loss_weight,
    noised,
)

KINDS = ("noise", "data", "velocity", "score")
MEAN = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
ROOT = torch.tensor([[1.0, 0.0, 0.0], [0.8, 0.5, 0.0], [-0.3, 0.4, 0.2]], dtype=torch.float64)
COVARIANCE = ROOT @ ROOT.T


def rows(n: int, seed: int) -> torch.Tensor:
    draws = torch.randn(n, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return MEAN + draws @ ROOT.T


@pytest.mark.parametrize(("kind", "schedule"), list(product(KINDS, [Cosine(), VarianceExploding()])), ids=str)
def test_the_four_forms_say_the_same(kind, schedule):
    exact = GaussianDenoiser(MEAN, COVARIANCE, schedule)
    x, t = rows(5, 0), 0.3
    truth = exact(x, t)
    found = Prediction.of(truth.to(kind), kind, x, truth.alpha, truth.sigma)
    assert torch.allclose(found.data, truth.data)
    assert torch.allclose(found.noise, truth.noise)
    assert torch.allclose(truth.alpha * truth.data + truth.sigma * truth.noise, x)


def test_the_exact_score_is_the_gradient_of_the_log_density():
    schedule = VariancePreserving()
    x = rows(4, 1).requires_grad_()
    alpha, sigma = schedule.at(0.4)
    density = torch.distributions.MultivariateNormal(
        alpha * MEAN, alpha**2 * COVARIANCE + sigma**2 * torch.eye(3, dtype=torch.float64)
    )
    (gradient,) = torch.autograd.grad(density.log_prob(x).sum(), x)
    assert torch.allclose(GaussianDenoiser(MEAN, COVARIANCE, schedule)(x.detach(), 0.4).to("score"), gradient)


def test_the_exact_denoiser_is_the_conditional_mean():
    schedule = Cosine()
    x = rows(200_000, 2)
    x_t, _, _, _ = noised(x, torch.full((len(x),), 0.5), schedule, torch.Generator().manual_seed(3))
    left = x - GaussianDenoiser(MEAN, COVARIANCE, schedule)(x_t, 0.5).data
    # What is left is uncorrelated with what was seen.
    assert left.mean(0).abs().max() < 0.01
    assert (left.T @ x_t / len(x)).abs().max() < 0.02


def test_the_flow_keeps_the_marginals():
    exact = GaussianDenoiser(MEAN, COVARIANCE, Cosine())
    x = rows(50_000, 4)
    alpha, sigma = exact.schedule.at(0.6)
    moved = exact.flow(x, 0.0, 0.6)
    assert torch.allclose(
        torch.cov(moved.T), alpha**2 * COVARIANCE + sigma**2 * torch.eye(3, dtype=torch.float64), atol=0.03
    )
    assert torch.allclose(exact.flow(moved, 0.6, 0.0), x)


def test_times_may_differ_by_row():
    exact = GaussianDenoiser(MEAN, COVARIANCE, Cosine())
    x, t = rows(3, 5), torch.tensor([0.1, 0.5, 0.9])
    together = exact(x, t).data
    for i in range(3):
        assert torch.allclose(together[i], exact(x[i : i + 1], float(t[i])).data[0], atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_is_read_in_its_own_form(kind):
    exact = GaussianDenoiser(MEAN, COVARIANCE, Cosine())
    learned = NetworkDenoiser(lambda x, t: exact(x, t).to(kind), Cosine(), kind)
    x = rows(4, 6)
    assert torch.allclose(learned(x, 0.3).data, exact(x, 0.3).data)


def test_guidance_is_off_at_one_and_amplifies_beyond():
    near, far = (GaussianDenoiser(MEAN + shift, COVARIANCE, Cosine()) for shift in (0.0, 2.0))
    x = rows(4, 7)
    for weight in (0.0, 0.5, 1.0, 1.5):
        mixed = GuidedDenoiser(far, near, weight)(x, 0.4)
        expected = (1 - weight) * near(x, 0.4).noise + weight * far(x, 0.4).noise
        assert torch.allclose(mixed.noise, expected)
        assert torch.allclose(mixed.alpha * mixed.data + mixed.sigma * mixed.noise, x)
    never = NetworkDenoiser(lambda x, t: pytest.fail("the second pass is not needed"), Cosine())
    assert torch.equal(GuidedDenoiser(near, never, 1.0)(x, 0.4).data, near(x, 0.4).data)
    with pytest.raises(ValueError, match="different schedules"):
        GuidedDenoiser(near, GaussianDenoiser(MEAN, COVARIANCE, Cosine(0.008)), 2.0)


def test_unknown_kinds_are_refused():
    x = rows(2, 8)
    found = GaussianDenoiser(MEAN, COVARIANCE, Cosine())(x, 0.5)
    with pytest.raises(ValueError, match="unknown kind of prediction 'x'"):
        found.to("x")
    with pytest.raises(ValueError, match="unknown kind of prediction 'x'"):
        Prediction.of(x, "x", x, found.alpha, found.sigma)


@pytest.mark.parametrize("kind", KINDS)
def test_the_weights_make_all_kinds_the_same_loss(kind):
    # An error of the data of size d costs the same whatever form the network speaks.
    schedule, t = VariancePreserving(), torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64)
    x, off = rows(3, 9), rows(3, 10)
    x_t, noise, alpha, sigma = noised(x, t, schedule, torch.Generator().manual_seed(0))
    wrong = Prediction.of(x + off, "data", x_t, alpha, sigma).to(kind)
    loss = denoising_loss(wrong, kind, x, noise, alpha, sigma)
    error = off.square().mean(1)
    snr = schedule.log_snr(t).exp()
    assert torch.allclose(loss_weight("min-snr", kind, schedule, t) * loss, snr.clamp(max=5) * error, rtol=1e-6)
    slope = -(schedule.log_snr(t + 1e-6) - schedule.log_snr(t - 1e-6)) / 2e-6
    assert torch.allclose(loss_weight("likelihood", kind, schedule, t) * loss, 0.5 * slope * snr * error, rtol=1e-6)
    assert (loss_weight("uniform", kind, schedule, t) == 1).all()


def test_the_likelihood_weighting_bounds_the_entropy():
    # For the exact denoiser of N(m, C), the weighted loss integrates to the negative log-likelihood up to constants:
    # 0.5 int (-log SNR)' E|eps - eps_hat|^2 dt differs between two covariances as the exact entropies do.
    schedule = VariancePreserving()
    t = torch.linspace(1e-4, 1, 20_001, dtype=torch.float64)
    alpha, sigma = schedule.at(t)
    totals = []
    for variance in (0.5, 2.0):
        error = (alpha**2 * variance) / (alpha**2 * variance + sigma**2)  # E (eps - eps_hat)^2 in one dimension
        weight = loss_weight("likelihood", "noise", schedule, t)
        totals.append(float(torch.trapezoid(weight * error, t)))
    assert totals[1] - totals[0] == pytest.approx(0.5 * torch.tensor(4.0).log().item(), abs=0.01)


def test_an_unknown_weighting_is_refused():
    with pytest.raises(ValueError, match="unknown weighting 'x'"):
        loss_weight("x", "noise", Cosine(), torch.tensor([0.5]))


def test_times_are_spread_evenly_and_uniform():
    like = torch.empty(0)
    drawn = draw_times(100, torch.Generator().manual_seed(0), like, 0.2, 0.8)
    cells = ((drawn - 0.2) / 0.6 * 100).floor()
    assert len(cells.unique()) == 100
    means = torch.stack([draw_times(5, torch.Generator().manual_seed(s), like).sort().values for s in range(4000)])
    assert torch.allclose(means.mean(0), torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9], dtype=torch.float64), atol=0.01)
