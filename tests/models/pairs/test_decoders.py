from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from latentcause.diffusion import DDIM, GaussianDenoiser
from latentcause.models.pairs.decoders import SCHEDULE, SIGMA_MAX, SIGMA_MIN, DiffusionDecoder, GaussianDecoder
from latentcause.training import seeded

LOW, HIGH = math.log(SIGMA_MIN), math.log(SIGMA_MAX)
LOG_SD = torch.tensor([-1.5, -0.3, 0.4])


def decoder(kind: type = DiffusionDecoder, awake: bool = False):
    """Of 3 numbers and 2 latents, with a head that bends and unequal sds; F is zero unless ``awake``."""
    with seeded(0):
        made = kind(3, 2, 16, 2)
        torch.nn.init.normal_(made.head.last.weight)
        if awake:
            torch.nn.init.normal_(made.last.weight, std=0.3)
    with torch.no_grad():
        made.log_sd.copy_(LOG_SD)
    return made


def normal(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def gaussian(made, x: Tensor, code: Tensor) -> Tensor:
    """-log N(x; g, diag(sd^2)), from torch."""
    return -torch.distributions.Normal(made.head(code), LOG_SD.exp()).log_prob(x).sum(-1)


@torch.no_grad()
def averaged(made: DiffusionDecoder, x: Tensor, code: Tensor, draws: int, seed: int = 3) -> Tensor:
    """Mean cost (n, 2): and its standard error, over levels and noise."""
    generator = torch.Generator().manual_seed(seed)
    costs = torch.stack(
        [
            made.cost(x[k].expand(draws, -1), code[k].expand(1, draws, -1), levels, noise)[0]
            for k in range(len(x))
            for levels, noise in [(made.levels(draws, generator), torch.randn((draws, 3), generator=generator))]
        ]
    )
    return torch.stack([costs.mean(1), costs.std(1) / math.sqrt(draws)], dim=1)


def test_the_gaussian_cost_is_a_log_density():
    made, x, code = decoder(GaussianDecoder), normal(7, 3), normal(4, 7, 2, seed=2)
    cost = made.cost(x, code, torch.zeros(7), torch.zeros(7, 0))
    assert cost.shape == (4, 7)
    torch.testing.assert_close(cost + 1.5 * math.log(2 * math.pi), gaussian(made, x, code))
    torch.testing.assert_close(made.head_cost(x, code), cost)


def test_without_its_network_the_diffusion_costs_what_the_gaussian_does():
    """With F = 0, s = sigma^2 and a residual d, E|D - x|^2 / s = s d^2 / (r^2 + s)^2 + r^4 / (r^2 + s)^2.

    Over d log sigma = ds / 2s it has the primitive -d^2 / 2 (r^2 + s) + [log(s / (r^2 + s)) + r^2 / (r^2 + s)] / 2: between
    wide ends d^2 / 2 r^2 + log r and a constant (the I-MMSE identity).
    """
    made, x, code = decoder(), normal(6, 3), normal(6, 2, seed=2)
    r2, low, high = (2 * LOG_SD).exp().double(), SIGMA_MIN**2, SIGMA_MAX**2
    with torch.no_grad():
        d2 = (x - made.head(code)).double().square()
        own = gaussian(made, x, code).double()

    def primitive(s: float) -> Tensor:
        return -d2 / 2 / (r2 + s) + (math.log(s) - (r2 + s).log() + r2 / (r2 + s)) / 2

    exact = (primitive(high) - primitive(low)).sum(-1)
    found = averaged(made, x, code, 60_000)
    assert ((found[:, 0] - exact).abs() < 4.5 * found[:, 1]).all()
    assert (found[:, 1] < 0.05 * exact).all()
    # Between rows it differs from the Gaussian by what lies beyond the ends alone.
    torch.testing.assert_close(exact - exact[0], own - own[0], atol=0.25, rtol=0.05)


def test_it_is_the_exact_denoiser_of_a_gaussian():
    made, code, x_t = decoder(), normal(5, 2), normal(5, 3)
    with torch.no_grad():
        for t in (0.0, 0.3, 0.8, 1.0):
            found = made.denoiser(code)(x_t, t)
            for k in range(5):
                exact = GaussianDenoiser(made.head(code[k]).double(), (2 * LOG_SD).exp().diag().double(), SCHEDULE)
                torch.testing.assert_close(
                    found.data[k].double(), exact(x_t[k : k + 1].double(), t).data[0], atol=1e-5, rtol=1e-5
                )


def test_samples_follow_the_head():
    made, code = decoder(), normal(1, 2).expand(4000, 2)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        sampler = DDIM(made.denoiser(code), eta=1.0)
        drawn = sampler(sampler.start((4000, 3), generator), 60, generator)
        head = made.head(code[:1])[0]
    assert ((drawn.mean(0) - head).abs() < 5 * LOG_SD.exp() / math.sqrt(4000) + 0.03).all()
    torch.testing.assert_close(drawn.std(0).float(), LOG_SD.exp(), rtol=0.08, atol=0)


@pytest.mark.parametrize("log_sd", [-6.0, -1.0, 3.0])
def test_weights_are_one_over_the_density_of_levels(log_sd):
    made = decoder()
    with torch.no_grad():
        made.log_sd.fill_(log_sd)
    levels = made.levels(200_000, torch.Generator().manual_seed(0)).double()
    weight = made.weight(levels)
    assert levels.min() >= LOW - 1e-5
    assert levels.max() <= HIGH + 1e-5
    assert float(weight.mean()) == pytest.approx(HIGH - LOW, rel=1e-3)
    assert float((weight * levels.sin()).mean()) == pytest.approx(math.cos(LOW) - math.cos(HIGH), abs=1e-2)
    grid = torch.linspace(LOW, HIGH, 20_001, dtype=torch.float64)
    assert float(torch.trapezoid(1 / made.weight(grid), grid)) == pytest.approx(1, abs=1e-4)
    share = (levels < grid[7000]).double().mean()
    assert float(torch.trapezoid(1 / made.weight(grid[:7001]), grid[:7001])) == pytest.approx(float(share), abs=1e-3)


def test_levels_are_spread_evenly_and_come_in_no_order():
    made = decoder()
    levels = made.levels(1000, torch.Generator().manual_seed(0))
    again = made.levels(1000, torch.Generator().manual_seed(1))
    assert (levels.sort().values - again.sort().values).abs().max() < 0.2
    assert abs(torch.corrcoef(torch.stack([levels, torch.arange(1000.0)]))[0, 1]) < 0.1
    assert made.levels(1, torch.Generator().manual_seed(0)).shape == (1,)


def test_the_cost_of_a_network_does_not_depend_on_where_levels_are_drawn():
    made, x, code = decoder(awake=True), normal(2, 3), normal(2, 2, seed=2)
    drawn = averaged(made, x, code, 60_000)
    n, generator = 60_000, torch.Generator().manual_seed(7)
    with torch.no_grad():
        levels = LOW + (HIGH - LOW) * torch.rand(n, generator=generator)
        for k in range(2):
            cost = made.cost(
                x[k].expand(n, -1), code[k].expand(1, n, -1), levels, torch.randn((n, 3), generator=generator)
            )[0]
            plain = cost / made.weight(levels) * (HIGH - LOW)
            error = math.hypot(float(plain.std()) / math.sqrt(n), float(drawn[k, 1]))
            assert abs(float(plain.mean() - drawn[k, 0])) < 4.5 * error


def test_every_hypothesis_is_scored_as_it_would_be_alone():
    made, x, codes = decoder(awake=True), normal(5, 3), normal(4, 5, 2, seed=2)
    levels, noise = made.levels(5, torch.Generator().manual_seed(0)), normal(5, 3, seed=3)
    together = made.cost(x, codes, levels, noise)
    for k in range(4):
        torch.testing.assert_close(together[k], made.cost(x, codes[k : k + 1], levels, noise)[0])


def test_what_learns_beside_the_head_leaves_it_alone():
    made, x, code = decoder(awake=True), normal(5, 3), normal(1, 5, 2, seed=2).requires_grad_()
    levels, noise = made.levels(5, torch.Generator().manual_seed(0)), normal(5, 3, seed=3)
    beside = made.cost_beside(x, code, levels, noise)
    torch.testing.assert_close(beside, made.cost(x, code, levels, noise))
    beside.sum().backward()
    assert code.grad is None
    assert made.log_sd.grad is None
    assert all(value.grad is None for value in made.head.parameters())
    assert made.last.weight.grad.abs().sum() > 0
    made.cost(x, code, levels, noise).sum().backward()
    assert code.grad.abs().sum() > 0
    assert made.head.last.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("kind", [GaussianDecoder, DiffusionDecoder])
@torch.no_grad()
def test_draws_have_the_moments_of_the_head_where_that_is_exact(kind):
    made, code = decoder(kind), normal(1, 2, seed=2).expand(20_000, 2)
    drawn = made.draw(code, torch.Generator().manual_seed(0))
    mean, sd = made.head(code[:1])[0], LOG_SD.exp()
    assert ((drawn.mean(0) - mean).abs() < 4 * sd / 20_000**0.5).all()
    torch.testing.assert_close(drawn.std(0), sd, rtol=0.03, atol=0)
    assert torch.equal(drawn, made.draw(code, torch.Generator().manual_seed(0)))
    assert not torch.equal(drawn, made.draw(code, torch.Generator().manual_seed(1)))
