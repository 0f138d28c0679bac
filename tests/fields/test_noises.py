"""Heavy-tailed and skewed noise: density, mean, variance and skewness as stated."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import stats

from latentcause.fields import GammaNoise, PixelNoise, SkewNormalNoise, StudentNoise


def skew_normal(slant: float, variance: float) -> stats.rv_continuous:
    mean, variance_of_standard = (float(value) for value in stats.skewnorm(slant).stats("mv"))
    scale = math.sqrt(variance / variance_of_standard)
    return stats.skewnorm(slant, loc=-mean * scale, scale=scale)


LAWS: list[tuple[PixelNoise, object]] = [
    (StudentNoise(9.5, 2.0), stats.t(9.5, scale=math.sqrt(2.0 * 7.5 / 9.5))),
    (SkewNormalNoise(4.0, 0.5), skew_normal(4.0, 0.5)),
    (SkewNormalNoise(-1.0), skew_normal(-1.0, 1.0)),
    (GammaNoise(2.0, 3.0), stats.gamma(2.0, loc=-2 * math.sqrt(1.5), scale=math.sqrt(1.5))),
    (GammaNoise(0.7, 1.0), stats.gamma(0.7, loc=-math.sqrt(0.7), scale=math.sqrt(1 / 0.7))),
]
every_law = pytest.mark.parametrize(("noise", "law"), LAWS, ids=[repr(noise) for noise, _ in LAWS])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@every_law
def test_the_law_has_mean_zero_and_the_variance(noise: PixelNoise, law: stats.rv_continuous) -> None:
    mean, variance = law.stats("mv")
    assert abs(mean) < 1e-12
    assert float(variance) == pytest.approx(noise.variance, rel=1e-12)


@every_law
def test_density_is_that_of_the_law(noise: PixelNoise, law: stats.rv_continuous) -> None:
    x = torch.linspace(-9, 9, 41, dtype=torch.float64)
    single = noise.log_density(x[:, None], (1,))
    np.testing.assert_allclose(single, law.logpdf(x.numpy()), rtol=1e-9, atol=1e-11)
    fields = noise.sample(6, (3, 4), generator()).reshape(2, 3, 3, 4)
    expected = law.logpdf(fields.numpy()).sum((-1, -2))
    np.testing.assert_allclose(noise.log_density(fields, (3, 4)), expected, rtol=1e-9)


@every_law
def test_draws_follow_the_law(noise: PixelNoise, law: stats.rv_continuous) -> None:
    draws = noise.sample(2000, (2, 5), generator())
    assert draws.shape == (2000, 2, 5)
    assert stats.kstest(draws.flatten().numpy(), law.cdf).pvalue > 1e-3
    kurtosis = float(law.stats("k")) + 3
    assert abs(draws.mean()) < 5 * math.sqrt(noise.variance / draws.numel())
    assert abs(draws.var() / noise.variance - 1) < 5 * math.sqrt((kurtosis - 1) / draws.numel())
    assert torch.equal(draws, noise.sample(2000, (2, 5), generator()))
    assert not torch.equal(draws, noise.sample(2000, (2, 5), generator(1)))


@every_law
def test_gradients_of_the_density(noise: PixelNoise, law: stats.rv_continuous) -> None:
    x = (noise.sample(1, (6,), generator()) * 0.5).requires_grad_()
    assert torch.autograd.gradcheck(lambda values: noise.log_density(values, (6,)), x)
    outside = torch.ones(
        1, dtype=torch.float64, requires_grad=True
    )  # left out, it would come from global random numbers
    assert torch.autograd.gradgradcheck(lambda values: noise.log_density(values, (6,)), x, outside)


def test_beyond_the_bound_of_a_gamma_there_is_nothing() -> None:
    x = torch.tensor([-5.0, 0.0], dtype=torch.float64, requires_grad=True)
    density = GammaNoise(2.0).log_density(x[:, None], (1,))
    assert density[0] == -math.inf
    density[1].backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StudentNoise(2.0), "degrees=2.0 of StudentNoise: give a number above 2"),
        (lambda: StudentNoise(5.0, 0.0), "variance=0.0 of StudentNoise"),
        (lambda: SkewNormalNoise(math.inf), "slant=inf"),
        (lambda: GammaNoise(0.0), "concentration=0.0"),
        (lambda: GammaNoise(1.0, math.nan), "variance=nan of GammaNoise"),
    ],
)
def test_bad_noise_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
