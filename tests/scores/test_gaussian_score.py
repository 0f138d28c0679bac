from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from latentcause.scores.gaussian import DomainGaussianScore, _Moments, checked_rows, inverse_root


def draws(counts: list[int], d: int = 3, seed: int = 0, noise: float = 0.5) -> tuple[Tensor, Tensor, Tensor]:
    """Clean z, noisy y = z + N(0, noise I) and the domain of samples from a different Gaussian in every domain."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(d, d))
    z, domain = [], []
    for e, count in enumerate(counts):
        root = shared + 0.2 * rng.normal(size=(d, d))
        z.append(rng.normal(size=d) + rng.normal(size=(count, d)) @ root)
        domain += [e] * count
    clean = torch.from_numpy(np.concatenate(z))
    return clean, clean + noise**0.5 * torch.from_numpy(rng.normal(size=clean.shape)), torch.tensor(domain)


def test_without_shrinkage_it_is_the_wiener_filter_of_the_sample_moments() -> None:
    _, y, domain = draws([50, 80])
    fit = DomainGaussianScore(shrink=False).fit(y, domain, 2)
    score, jacobian = fit.score_and_jacobian(y, domain)
    for e in range(2):
        rows = domain == e
        precision = torch.linalg.inv(torch.cov(y[rows].T))
        torch.testing.assert_close(score[rows], -(y[rows] - y[rows].mean(0)) @ precision)
        torch.testing.assert_close(jacobian[rows], -precision.expand(int(rows.sum()), 3, 3))


def test_score_is_the_gradient_of_the_log_density() -> None:
    _, y, domain = draws([40, 60])
    fit = DomainGaussianScore().fit(y, domain, 2, 0.5 * torch.eye(3))
    points = y[::7].clone().requires_grad_()
    fit.log_density(points, domain[::7]).sum().backward()
    torch.testing.assert_close(points.grad, fit.score_and_jacobian(y[::7], domain[::7])[0])


def test_log_density_is_normalised() -> None:
    _, y, domain = draws([30, 30], d=1)
    fit = DomainGaussianScore().fit(y, domain, 2)
    grid = torch.linspace(-60, 60, 20001, dtype=torch.float64)[:, None]
    for e in range(2):
        total = torch.trapezoid(fit.log_density(grid, torch.full((20001,), e)).exp(), grid[:, 0])
        assert float(total) == pytest.approx(1, abs=1e-8)


def test_left_out_loss_equals_fitting_without_each_row() -> None:
    _, y, domain = draws([12, 20, 9])
    weights = torch.linspace(0.5, 1.5, len(y), dtype=torch.float64)
    metric = torch.tensor([[2.0, 0.3, 0.0], [0.3, 1.0, 0.1], [0.0, 0.1, 0.5]], dtype=torch.float64)
    moments = _Moments.of(y, domain, 3, weights)
    for kappa, rows in ((2.0, 9.0), (0.0, 0.0)):
        total = 0.0
        for i in range(len(y)):
            kept = torch.arange(len(y)) != i
            without = dataclasses.replace(
                _Moments.of(y[kept], domain[kept], 3, weights[kept]), mean=moments.mean, covariance=moments.covariance
            )
            means, covariances = without.posterior(kappa, rows)
            precision = torch.linalg.inv(covariances[domain[i]])
            score = -precision @ (y[i] - means[domain[i]])
            total += float(weights[i] * (score @ metric @ score - 2 * (metric * precision).sum()))
        expected = total / float(weights.sum())
        assert moments.left_out_loss(kappa, rows, y, domain, weights, metric) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("rows_per_domain", [10, 30, 1000])
def test_shrinkage_lowers_the_error_where_rows_are_few_and_never_costs_any(rows_per_domain: int) -> None:
    ratios = []
    for seed in range(5):
        z, y, domain = draws([rows_per_domain] * 8, d=6, seed=seed, noise=2.0)
        noise = 2.0 * torch.eye(6)
        errors = []
        for shrink in (True, False):
            fit = DomainGaussianScore(shrink=shrink).fit(y, domain, 8, noise)
            errors.append(float((y + 2.0 * fit.score_and_jacobian(y, domain)[0] - z).square().mean()))
        ratios.append(errors[0] / errors[1])
    assert max(ratios) < 1.001
    if rows_per_domain <= 30:
        assert np.mean(ratios) < 0.97


def test_domains_that_differ_and_have_many_rows_are_left_alone() -> None:
    rng = np.random.default_rng(0)
    scales = [0.1, 1.0, 10.0]
    y = torch.from_numpy(np.concatenate([s * rng.normal(size=(2000, 2)) for s in scales]))
    domain = torch.arange(3).repeat_interleave(2000)
    fit = DomainGaussianScore().fit(y, domain, 3)
    sample = DomainGaussianScore(shrink=False).fit(y, domain, 3)
    torch.testing.assert_close(fit.covariances_, sample.covariances_, rtol=0.02, atol=1e-3)


def test_domain_without_rows_takes_the_pooled_values() -> None:
    _, y, domain = draws([40, 40])
    fit = DomainGaussianScore().fit(y, domain * 2, 3)
    torch.testing.assert_close(fit.means_[1], y.mean(0))
    assert fit.prior_rows_ != (0.0, 0.0)


def test_no_covariance_is_below_the_noise() -> None:
    rng = np.random.default_rng(1)
    noise = torch.tensor([[1.0, 0.6], [0.6, 2.0]], dtype=torch.float64)
    y = torch.from_numpy(rng.multivariate_normal([0, 0], noise.numpy(), size=60))
    domain = torch.arange(60) % 2
    fit = DomainGaussianScore().fit(y, domain, 2, noise)
    excess = torch.linalg.eigvalsh(fit.covariances_ - noise)
    assert float(excess.min()) > -1e-12
    plain = DomainGaussianScore().fit(y, domain, 2)
    assert float(torch.linalg.eigvalsh(plain.covariances_ - noise).min()) < -0.01


def test_weights_act_like_repeated_rows() -> None:
    _, y, domain = draws([30, 30])
    weights = torch.ones(60, dtype=torch.float64)
    weights[:5] = 0.0
    fit = DomainGaussianScore().fit(y, domain, 2, weights=weights)
    moments = _Moments.of(y, domain, 2, weights / weights.mean())
    torch.testing.assert_close(moments.means[0], y[5:30].mean(0))
    torch.testing.assert_close(fit.means_, moments.posterior(*fit.prior_rows_)[0])


def test_state_makes_the_same_score() -> None:
    _, y, domain = draws([30, 30])
    fit = DomainGaussianScore().fit(y, domain, 2, 0.5 * torch.eye(3))
    again = DomainGaussianScore.from_state(fit.state())
    for a, b in zip(fit.score_and_jacobian(y, domain), again.score_and_jacobian(y, domain), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(fit.log_density(y, domain), again.log_density(y, domain))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": torch.zeros(5)}, "y must have shape"),
        ({"y": torch.full((6, 2), torch.nan)}, "NaN or infinity"),
        ({"y": torch.ones(6, 2)}, "column 0 of y is constant"),
        ({"domain": torch.zeros(5, dtype=torch.long)}, "domain must hold one whole number per row"),
        ({"domain": torch.full((6,), 2)}, "domain must be from 0 to 1"),
        ({"noise": torch.eye(3)}, "noise must have shape"),
        ({"noise": -torch.eye(2)}, "positive definite"),
        ({"noise": torch.tensor([[1.0, 0.5], [0.0, 1.0]])}, "symmetric"),
        ({"weights": torch.ones(3)}, "weights must have shape"),
        ({"weights": -torch.ones(6)}, "non-negative"),
    ],
)
def test_bad_input_is_named(change: dict[str, Tensor], message: str) -> None:
    good = {"y": torch.from_numpy(np.random.default_rng(0).normal(size=(6, 2))), "domain": torch.arange(6) % 2}
    arguments = {**good, **change}
    with pytest.raises(ValueError, match=message):
        DomainGaussianScore().fit(n_domains=2, **arguments)  # type: ignore[arg-type]


def test_without_shrinkage_a_small_domain_is_refused() -> None:
    _, y, domain = draws([50, 3])
    with pytest.raises(ValueError, match="domain 1 has no more rows than the 3 columns"):
        DomainGaussianScore(shrink=False).fit(y, domain, 2)


def test_unfitted_and_other_errors() -> None:
    with pytest.raises(RuntimeError, match="not fitted yet"):
        DomainGaussianScore().log_density(torch.zeros(1, 1), torch.zeros(1, dtype=torch.long))
    with pytest.raises(ValueError, match="linearly dependent"):
        inverse_root(torch.ones(2, 2, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"y must have shape \(n, 2\)"):
        checked_rows(torch.zeros(1, 3), torch.zeros(1, dtype=torch.long), 1, 2)
