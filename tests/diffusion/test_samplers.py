"""Samplers against exact Gaussian diffusions: order of convergence, variances, inversion."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from latentcause.diffusion import (
    DDIM,
    DDPM,
    Cosine,
    DPMSolver,
    EulerMaruyama,
    GaussianDenoiser,
    Heun,
    LinearDDPM,
    PredictorCorrector,
    VarianceExploding,
    VariancePreserving,
    ZeroTerminal,
    log_likelihood,
    times,
)

MEAN = torch.tensor([1.0, -2.0], dtype=torch.float64)
COVARIANCE = torch.tensor([[1.0, 0.6], [0.6, 0.5]], dtype=torch.float64)


def exact(schedule=None) -> GaussianDenoiser:
    return GaussianDenoiser(MEAN, COVARIANCE, schedule or VariancePreserving())


def start(n: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def one_dimensional(variance: float, schedule) -> GaussianDenoiser:
    return GaussianDenoiser(
        torch.zeros(1, dtype=torch.float64), torch.full((1, 1), variance, dtype=torch.float64), schedule
    )


def order_of(errors: dict[int, float]) -> float:
    """Slope of log error against log step size."""
    steps = np.log(list(errors))
    return -float(np.polyfit(steps, np.log(list(errors.values())), 1)[0])


# --- deterministic samplers ------------------------------------------------------------------------------------------


def flow_solver(denoiser) -> DPMSolver:
    return DPMSolver(denoiser, 0.0)


@pytest.mark.parametrize(("sampler", "order"), [(DDIM, 1), (Heun, 2), (flow_solver, 2)])
@pytest.mark.parametrize("schedule", [VariancePreserving(), Cosine(), VarianceExploding(0.01, 20)], ids=repr)
def test_the_order_on_the_probability_flow_is_that_of_theory(sampler, order, schedule):
    denoiser = exact(schedule)
    x = 3 * start(50)
    truth = denoiser.flow(x, 0.9, 0.1)
    errors = {}
    for steps in (40, 80, 160, 320):
        found = sampler(denoiser)(x, times(steps, 0.9, 0.1))
        errors[steps] = float((found - truth).norm())
    assert order_of(errors) == pytest.approx(order, abs=0.15)


@pytest.mark.parametrize("schedule", [Cosine(), ZeroTerminal(LinearDDPM()), LinearDDPM()], ids=repr)
@pytest.mark.parametrize("sampler", [DDIM, Heun, flow_solver])
def test_deterministic_samplers_reach_the_data_from_pure_noise(sampler, schedule):
    found = sampler(exact(schedule))(start(20_000), 100)
    assert torch.allclose(found.mean(0), MEAN, atol=0.03)
    assert torch.allclose(torch.cov(found.T), COVARIANCE, atol=0.04)


# --- inversion -------------------------------------------------------------------------------------------------------


def test_inversion_then_sampling_returns_the_input():
    sampler = DDIM(exact(Cosine()))
    x, grid = MEAN + start(200) @ torch.linalg.cholesky(COVARIANCE).T, times(25, 0.98, 0.01, 1.5)
    errors = [float((sampler(sampler.invert(x, grid, k), grid) - x).abs().max()) for k in (0, 1, 3, 6, 12)]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 0.05
    assert errors[2] < 1e-3  # plain iteration: 1.0
    assert errors[-1] < 1e-9


def test_rows_are_inverted_independently_of_each_other():
    sampler, x, grid = DDIM(exact(Cosine())), MEAN + start(20), times(10, 0.98, 0.01)
    together, alone = sampler.invert(x, grid), sampler.invert(x[3:4], grid)
    assert torch.allclose(together[3:4], alone, atol=1e-12)


def test_inversion_finds_the_noise_that_was_used():
    sampler, grid = DDIM(exact(Cosine())), times(50, 0.98, 0.0)
    noise = start(100)
    back = sampler.invert(sampler(noise, grid), grid, 30)
    assert torch.allclose(back, noise, atol=1e-6)


def test_inversion_agrees_with_the_flow_as_steps_grow():
    denoiser, errors = exact(Cosine()), {}
    x = MEAN + start(50)
    for steps in (50, 100, 200):
        found = DDIM(denoiser).invert(x, times(steps, 0.9, 0.1), 20)
        errors[steps] = float((found - denoiser.flow(x, 0.1, 0.9)).norm())
    assert order_of(errors) == pytest.approx(1, abs=0.15)


# --- stochastic samplers ---------------------------------------------------------------------------------------------


def variance_after(sampler, grid: torch.Tensor, variance: float) -> float:
    """Exact variance of a sampler's output in one dimension: each step is x -> A x + b z, read off two steps with one z."""
    zero = torch.zeros(1, 1, dtype=torch.float64)
    z = float(torch.randn(1, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    for t, s in pairwise(grid.tolist()):
        at_zero, at_one = (float(sampler.step(x, t, s, torch.Generator().manual_seed(0))) for x in (zero, zero + 1))
        variance = (at_one - at_zero) ** 2 * variance + (at_zero / z) ** 2
    return variance


def test_euler_maruyama_has_weak_order_one():
    schedule, v = VariancePreserving(), 0.3
    denoiser, errors = one_dimensional(v, schedule), {}
    levels = {t: schedule.at(t) for t in (0.8, 0.1)}
    before, truth = (float(a**2 * v + s**2) for a, s in levels.values())
    for steps in (100, 200, 400, 800):
        errors[steps] = abs(variance_after(EulerMaruyama(denoiser), times(steps, 0.8, 0.1), before) - truth)
    assert order_of(errors) == pytest.approx(1, abs=0.1)


def test_euler_maruyama_has_strong_order_one():
    """Against the exact solution along the same Brownian path: x is Gaussian given the path, its noise being additive."""
    schedule, denoiser = VarianceExploding(0.1, 5), one_dimensional(0.5, VarianceExploding(0.1, 5))
    finest = 4096
    increments = torch.randn(finest, 400, generator=torch.Generator().manual_seed(0), dtype=torch.float64) / math.sqrt(
        finest
    )
    x = 5 * torch.randn(400, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def along_the_path(steps: int) -> torch.Tensor:
        moved, here = increments.reshape(steps, -1, 400).sum(1), x
        for k in range(steps):
            t, s = 1 - k / steps, 1 - (k + 1) / steps
            _, g2 = schedule.drift_and_diffusion(t)
            here = here + (t - s) * g2 * denoiser(here, t).to("score") + g2.sqrt() * moved[k][:, None]
        return here

    truth, errors = along_the_path(finest), {}
    for steps in (32, 64, 128, 256):
        errors[steps] = float((along_the_path(steps) - truth).square().mean().sqrt())
    assert order_of(errors) == pytest.approx(1, abs=0.15)
    # The class takes the same step.
    t, s, z = 0.5, 0.4, torch.Generator().manual_seed(3)
    _, g2 = schedule.drift_and_diffusion(t)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(3), dtype=x.dtype)
    by_hand = x + (t - s) * g2 * denoiser(x, t).to("score") + (g2 * (t - s)).sqrt() * noise
    assert torch.allclose(EulerMaruyama(denoiser).step(x, t, s, z), by_hand)


def variance_of_many(sampler, grid: torch.Tensor, variance: float, monkeypatch) -> float:
    """As `variance_after`, of a sampler with a memory: row 0 starts at 1 without noise, row k has noise 1 in step k alone."""
    rows = torch.eye(len(grid), 1, dtype=torch.float64)
    draws = iter(torch.eye(len(grid), dtype=torch.float64)[1:, :, None])
    monkeypatch.setattr("latentcause.diffusion.samplers._noise", lambda x, generator: next(draws))
    found = sampler(rows, grid).square()
    return float(variance * found[0] + found[1:].sum())


@pytest.mark.parametrize("eta", [1.0, 2.0, 4.0])  # at 0.5 the error changes its sign on the way
def test_the_multistep_solver_keeps_variances_to_second_order(eta, monkeypatch):
    schedule, v = VariancePreserving(), 0.3
    denoiser, errors = one_dimensional(v, schedule), {}
    before, truth = (float(a**2 * v + s**2) for a, s in (schedule.at(t) for t in (0.8, 0.1)))
    for steps in (100, 200, 400, 800):
        found = variance_of_many(DPMSolver(denoiser, eta), times(steps, 0.8, 0.1), before, monkeypatch)
        errors[steps] = abs(found - truth)
    assert order_of(errors) == pytest.approx(2, abs=0.25)


@pytest.mark.parametrize("v", [0.01, 0.3, 1.5])
@pytest.mark.parametrize("eta", [1.0, 4.0])
def test_at_three_fifths_of_the_curvature_variances_are_right_to_third_order(eta, v, monkeypatch):
    schedule = Cosine()
    denoiser = one_dimensional(v, schedule)
    before, truth = (float(a**2 * v + s**2) for a, s in (schedule.at(t) for t in (0.99, 0.002)))
    errors: dict[float, dict[int, float]] = {0.0: {}, 0.6: {}, 1.0: {}}
    for steps in (48, 96, 192):
        ends = schedule.log_snr(torch.tensor([0.99, 0.002])) / 2
        even = ends[0] + (ends[1] - ends[0]) * torch.linspace(0, 1, steps + 1, dtype=torch.float64)
        grid = (-even).exp().atan() * 2 / math.pi
        for curvature, found in errors.items():
            solver = DPMSolver(denoiser, eta, curvature)
            found[steps] = variance_of_many(solver, grid, before, monkeypatch) / truth - 1
    assert abs(errors[0.6][48]) < 0.003
    assert errors[0.0][48] > 4 * abs(errors[0.6][48]) < -2 * errors[1.0][48]
    assert order_of({steps: abs(error) for steps, error in errors[0.0].items()}) == pytest.approx(2, abs=0.25)
    assert abs(errors[0.6][192]) < abs(errors[0.6][48]) / 30


def test_the_multistep_solver_forgets_the_run_before():
    sampler, x, grid = DPMSolver(exact(Cosine())), start(5), times(8, 1.0, 0.2)
    first, second = (sampler(x, grid, torch.Generator().manual_seed(0)) for _ in range(2))
    assert torch.equal(first, second)
    # A step that goes on from no other is one of DDPM's family: exact for one point.
    t, s = 0.6, 0.5
    one_point = one_dimensional(1e-12, Cosine())
    plain = DPMSolver(one_point).step(x[:, :1], t, s, torch.Generator().manual_seed(0))
    assert torch.allclose(plain, DDIM(one_point, 1.0).step(x[:, :1], t, s, torch.Generator().manual_seed(0)))


@pytest.mark.parametrize(("variance", "kind"), [(1.0, "forward"), (1e-12, "posterior")])
def test_ddpm_is_exact_at_any_number_of_steps_for_the_data_its_variance_is_made_for(variance, kind):
    denoiser = one_dimensional(variance, Cosine())
    for steps in (2, 5, 50):
        found = variance_after(DDPM(denoiser, kind), times(steps, 1.0, 0.05), 1.0)
        alpha, sigma = Cosine().at(0.05)
        assert found == pytest.approx(float(alpha**2 * variance + sigma**2), rel=1e-9)


def test_few_steps_of_ddpm_are_too_narrow_or_too_wide():
    v, schedule = 0.25, VariancePreserving()
    denoiser = one_dimensional(v, schedule)
    alpha, sigma = schedule.at(0.02)
    truth = float(alpha**2 * v + sigma**2)
    narrow, wide = (
        variance_after(DDPM(denoiser, kind), times(10, 1.0, 0.02), 1.0) for kind in ("posterior", "forward")
    )
    assert narrow < 0.97 * truth
    assert wide > 1.03 * truth
    errors = {n: abs(variance_after(DDPM(denoiser), times(n, 1.0, 0.02), 1.0) - truth) for n in (100, 200, 400, 800)}
    assert order_of(errors) == pytest.approx(1, abs=0.15)


def test_ddim_with_eta_one_is_ddpm():
    denoiser, x = exact(LinearDDPM()), start(10)
    for t, s in ((0.9, 0.7), (0.3, 0.1), (0.1, 0.0)):
        a, b = (
            sampler.step(x, t, s, torch.Generator().manual_seed(0)) for sampler in (DDIM(denoiser, 1.0), DDPM(denoiser))
        )
        assert torch.allclose(a, b)


@pytest.mark.parametrize("eta", [0.5, 1.0, 1.5, 3.0])
def test_ddim_has_the_right_variance_for_one_point_whatever_its_eta(eta):
    found = variance_after(DDIM(one_dimensional(1e-12, Cosine()), eta), times(3, 1.0, 0.3), 1.0)
    assert found == pytest.approx(float(Cosine().at(0.3)[1] ** 2), rel=1e-6)


def test_the_corrector_pulls_towards_the_right_variance():
    v, schedule = 0.25, VariancePreserving()
    denoiser = one_dimensional(v, schedule)
    alpha, sigma = schedule.at(0.02)
    truth = float(alpha**2 * v + sigma**2)
    grid = times(20, 1.0, 0.02, 2.0)
    plain = abs(variance_after(DDPM(denoiser), grid, 1.0) - truth)
    x = torch.randn(200_000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    corrected = PredictorCorrector(DDPM(denoiser), 5, 0.3)(x, grid, torch.Generator().manual_seed(1))
    assert abs(float(corrected.var()) - truth) < 0.5 * plain


@pytest.mark.parametrize(
    "make",
    [
        DDPM,
        lambda d: DDIM(d, 0.5),
        lambda d: DDIM(d, 1.0),
        EulerMaruyama,
        DPMSolver,
        lambda d: DPMSolver(d, 3.0),
        lambda d: PredictorCorrector(EulerMaruyama(d)),
    ],
)
def test_stochastic_samplers_reach_the_data(make):
    generator = torch.Generator().manual_seed(0)
    sampler = make(exact(VariancePreserving()))
    found = sampler(sampler.start((20_000, 2), generator, MEAN), times(300, 1.0, 1e-3, 2.0), generator)
    assert torch.allclose(found.mean(0), MEAN, atol=0.05)
    assert torch.allclose(torch.cov(found.T), COVARIANCE, atol=0.05)


def test_the_same_seed_gives_the_same_draw():
    sampler = DDPM(exact())
    draws = [sampler(start(5), 10, torch.Generator().manual_seed(7)) for _ in range(2)]
    assert torch.equal(*draws)


def test_noise_to_start_from_has_the_schedules_size():
    sampler = DDPM(exact(VarianceExploding(0.01, 50)))
    noise = sampler.start((10_000, 2), torch.Generator().manual_seed(0), MEAN)
    assert noise.dtype == torch.float64
    assert float(noise.std()) == pytest.approx(50, rel=0.03)


# --- likelihood ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", [VariancePreserving(), Cosine(), VarianceExploding(0.001, 200)], ids=repr)
def test_the_log_likelihood_is_that_of_the_flow_to_the_prior(schedule):
    denoiser, x = exact(schedule), MEAN + start(20)
    found = log_likelihood(denoiser, x, steps=200, first=1e-3, last=0.9)
    alpha, sigma = schedule.at(0.9)
    carried = denoiser.flow(x, 1e-3, 0.9)
    images = denoiser.flow(torch.eye(2, dtype=torch.float64), 1e-3, 0.9) - denoiser.flow(0 * MEAN[None], 1e-3, 0.9)
    prior = torch.distributions.Normal(0, (alpha**2 + sigma**2).sqrt())
    truth = prior.log_prob(carried).sum(1) + torch.linalg.slogdet(images)[1]
    assert torch.allclose(found, truth, atol=1e-4)


def test_with_no_signal_left_the_log_likelihood_is_the_datas_own():
    x = MEAN + start(20) @ torch.linalg.cholesky(COVARIANCE).T
    truth = torch.distributions.MultivariateNormal(MEAN, COVARIANCE).log_prob(x)
    assert torch.allclose(log_likelihood(exact(Cosine()), x, steps=200), truth, atol=2e-3)


def test_one_probe_is_exact_where_the_dimensions_do_not_mix_and_unbiased_where_they_do():
    x = MEAN + start(3)
    apart = GaussianDenoiser(MEAN, COVARIANCE.diagonal().diag(), Cosine())
    drawn = log_likelihood(apart, x, steps=20, probes=1, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(drawn, log_likelihood(apart, x, steps=20))
    mixed, generator = exact(Cosine()), torch.Generator().manual_seed(1)
    draws = torch.stack([log_likelihood(mixed, x, steps=10, probes=1, generator=generator) for _ in range(100)])
    error = draws.std(0) / 10
    assert (error > 0.02).all()  # the probes do differ
    assert ((draws.mean(0) - log_likelihood(mixed, x, steps=10)).abs() < 4 * error).all()


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: DDIM(exact(), -1), "eta=-1"),
        (lambda: DPMSolver(exact(), -1), "eta=-1"),
        (lambda: DPMSolver(exact(), 1.0, 2.0), "curvature=2.0"),
        (lambda: DDPM(exact(), "large"), "unknown variance 'large'"),
        (lambda: DDPM(exact())(start(2), 3), "give a generator"),
        (lambda: DDIM(exact())(start(2), torch.tensor([0.1, 0.5])), "falling times"),
        (lambda: DDIM(exact()).invert(start(2), torch.tensor([0.1, 0.5])), "falling times"),
        (lambda: DDIM(exact(), 0.5).invert(start(2), 5), "can't be undone"),
        (lambda: DDIM(exact(Cosine())).invert(start(2), 5), "no signal is left at t = 1.0"),
        (lambda: PredictorCorrector(DDPM(exact()), 0), "corrections=0"),
        (lambda: log_likelihood(exact(), start(2), first=0.0), "no noise is left"),
        (lambda: log_likelihood(exact(), start(2), first=0.5, last=0.4), "must be before"),
        (lambda: log_likelihood(exact(), start(2), probes=2), "give a generator"),
    ],
)
def test_what_cannot_be_done_is_refused(ask, message):
    with pytest.raises(ValueError, match=message):
        ask()
