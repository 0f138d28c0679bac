from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from latentcause.scores.gaussian import DomainGaussianScore
from latentcause.scores.mixture import DomainMixtureScore, _folds, _minimise_on_simplex, _Pool, _subset
from latentcause.scores.mixture_em import (
    DomainComponents,
    Mixture,
    Rows,
    SharedComponents,
    quadratic_features,
    raise_eigenvalues,
    unpack,
)

NOISE = 0.5


def clusters(n: int = 600, d: int = 2, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Clean z around two centres whose shares differ between two domains, y = z + N(0, NOISE I), and the domain."""
    rng = np.random.default_rng(seed)
    domain = torch.arange(n) % 2
    side = rng.random(n) < np.where(domain.numpy() == 0, 0.7, 0.2)
    z = torch.from_numpy(np.where(side, 2.5, -2.5)[:, None] * np.ones(d) + 0.3 * rng.normal(size=(n, d)))
    return z, z + NOISE**0.5 * torch.from_numpy(rng.normal(size=(n, d))), domain


def two_components(d: int = 2) -> Mixture:
    rng = np.random.default_rng(3)
    roots = torch.from_numpy(rng.normal(size=(2, 2, d, d)))
    covariances = roots @ roots.mT + torch.eye(d, dtype=torch.float64)
    weights = torch.tensor([[0.3, 0.7], [0.9, 0.1]], dtype=torch.float64)
    return Mixture(weights.log(), torch.from_numpy(2 * rng.normal(size=(2, 2, d))), covariances)


def reference_log_density(mixture: Mixture, y: Tensor, domain: Tensor) -> Tensor:
    parts = torch.distributions.MultivariateNormal(mixture.means[domain], mixture.covariances[domain])
    return (mixture.log_weights[domain] + parts.log_prob(y[:, None])).logsumexp(1)


def test_features_and_coefficients_give_the_density() -> None:
    mixture = two_components()
    y, domain = torch.randn(20, 2, generator=torch.Generator().manual_seed(0)).double(), torch.arange(20) % 2
    logs = torch.einsum("np,nkp->nk", quadratic_features(y), mixture.coefficients()[domain])
    torch.testing.assert_close(logs.logsumexp(1), reference_log_density(mixture, y, domain))
    count, first, second = unpack(quadratic_features(y).sum(0), 2)
    assert float(count) == 20
    torch.testing.assert_close(first, y.sum(0))
    torch.testing.assert_close(second, y.T @ y)


def test_score_and_jacobian_of_known_components_match_autograd() -> None:
    mixture = two_components()
    pool = _Pool.of([mixture], torch.ones(1, dtype=torch.float64))
    y, domain = 2 * torch.randn(12, 2, generator=torch.Generator().manual_seed(1)).double(), torch.arange(12) % 2
    score, jacobian = pool.score_and_jacobian(y, domain)
    for i in range(len(y)):

        def log_density(point: Tensor, e: Tensor = domain[i : i + 1]) -> Tensor:
            return reference_log_density(mixture, point[None], e)[0]

        torch.testing.assert_close(score[i], torch.autograd.functional.jacobian(log_density, y[i]))
        torch.testing.assert_close(jacobian[i], torch.autograd.functional.hessian(log_density, y[i]))


def test_pool_averages_the_scores_of_its_members() -> None:
    first = two_components()
    second = Mixture(first.log_weights.flip(1), first.means + 1, 2 * first.covariances)
    shares = torch.tensor([0.25, 0.75], dtype=torch.float64)
    y, domain = torch.randn(12, 2, generator=torch.Generator().manual_seed(1)).double(), torch.arange(12) % 2
    both = _Pool.of([first, second], shares).score_and_jacobian(y, domain)
    one = torch.ones(1, dtype=torch.float64)
    alone = [_Pool.of([member], one).score_and_jacobian(y, domain) for member in (first, second)]
    for k in range(2):
        torch.testing.assert_close(both[k], 0.25 * alone[0][k] + 0.75 * alone[1][k])


def test_fitted_jacobian_matches_finite_differences_and_score_the_gradient() -> None:
    _, y, domain = clusters()
    noise = NOISE * torch.tensor([[1.0, 0.3], [0.3, 2.0]], dtype=torch.float64)
    fit = DomainMixtureScore((1, 2), (1.0,), folds=2).fit(y, domain, 2, noise)
    points, of = y[:10], domain[:10]
    score, jacobian = fit.score_and_jacobian(points, of)
    for k in range(2):
        step = torch.zeros(2, dtype=torch.float64)
        step[k] = 1e-5
        ahead, behind = (fit.score_and_jacobian(points + sign * step, of)[0] for sign in (1, -1))
        torch.testing.assert_close(jacobian[:, :, k], (ahead - behind) / 2e-5, rtol=1e-6, atol=1e-8)
        slope = (fit.log_density(points + step, of) - fit.log_density(points - step, of)) / 2e-5
        torch.testing.assert_close(score[:, k], slope, rtol=1e-6, atol=1e-8)


def test_one_component_per_domain_is_the_gaussian_score() -> None:
    _, y, domain = clusters()
    noise = NOISE * torch.eye(2, dtype=torch.float64)
    member = SharedComponents(1, 5, 0.0).fit(Rows.sort(y, domain, 2, y.new_ones(len(y)), NOISE), seed=0)[0]
    own = DomainComponents(1e-9, 20, 0.0).fit(Rows.sort(y, domain, 2, y.new_ones(len(y)), NOISE), member)[0]
    sample = DomainGaussianScore(shrink=False).fit(y, domain, 2, noise)
    torch.testing.assert_close(own.means[:, 0], sample.means_)
    n = torch.bincount(domain)[:, None, None]
    torch.testing.assert_close(own.covariances[:, 0], sample.covariances_ * (n - 1) / n)


def test_em_raises_the_penalised_likelihood_in_every_step() -> None:
    _, y, domain = clusters()
    rows = Rows.sort(y, domain, 2, torch.linspace(0.5, 1.5, len(y), dtype=torch.float64), 0.4)
    shared, history = SharedComponents(5, 40, 0.0).fit(rows, seed=0)
    assert len(history) > 5
    assert min(np.diff(history)[:-1]) >= 0  # only the last step may be rounding, which is what stops EM
    own_history = DomainComponents(3.0, 40, 0.0).fit(rows, shared)[1]
    assert len(own_history) > 5
    assert min(np.diff(own_history)[:-1]) >= 0
    assert own_history[-1] > own_history[0]


def test_em_finds_two_known_clusters() -> None:
    _, y, domain = clusters(4000)
    mixture = SharedComponents(2, 100, 1e-9).fit(Rows.sort(y, domain, 2, y.new_ones(4000), NOISE), seed=0)[0]
    high = int(mixture.means[0, :, 0].argmax())
    torch.testing.assert_close(mixture.means[0, high], torch.full((2,), 2.5).double(), atol=0.1, rtol=0)
    expected = (0.09 + NOISE) * torch.eye(2, dtype=torch.float64)
    torch.testing.assert_close(mixture.covariances[0, high], expected, atol=0.05, rtol=0)
    torch.testing.assert_close(mixture.log_weights.exp()[:, high], torch.tensor([0.7, 0.2]).double(), atol=0.03, rtol=0)


def test_strength_moves_domains_between_the_shared_components_and_their_own() -> None:
    _, y, domain = clusters()
    rows = Rows.sort(y, domain, 2, y.new_ones(len(y)), NOISE)
    shared = SharedComponents(2, 50, 1e-9).fit(rows, seed=0)[0]
    firm = DomainComponents(1e9, 10, 0.0).fit(rows, shared)[0]
    torch.testing.assert_close(firm.means, shared.means.expand(2, -1, -1), atol=1e-5, rtol=0)
    torch.testing.assert_close(firm.covariances, shared.covariances.expand(2, -1, -1, -1), atol=1e-5, rtol=0)
    distances = [
        float((DomainComponents(s, 10, 0.0).fit(rows, shared)[0].means - shared.means).abs().sum())
        for s in (1.0, 100.0)
    ]
    assert distances[0] > 1.5 * distances[1] > 0


def test_posterior_moments_equal_numerical_integration() -> None:
    """With z from two known normals, the Tweedie moments from the pool are those of Bayes' rule on a grid."""
    weights, centres, variances = np.array([0.4, 0.6]), np.array([-1.0, 2.0]), np.array([0.2, 0.7])
    mixture = Mixture(
        torch.tensor(weights).log()[None],
        torch.tensor(centres)[None, :, None],
        torch.tensor(variances + NOISE)[None, :, None, None],
    )
    y = torch.linspace(-3, 4, 9, dtype=torch.float64)[:, None]
    pool = _Pool.of([mixture], torch.ones(1, dtype=torch.float64))
    score, jacobian = pool.score_and_jacobian(y, torch.zeros(9, dtype=torch.long))
    z = np.linspace(-12, 12, 40001)
    prior = (weights * np.exp(-0.5 * (z[:, None] - centres) ** 2 / variances) / np.sqrt(variances)).sum(1)
    for i, value in enumerate(y[:, 0].tolist()):
        table = prior * np.exp(-0.5 * (value - z) ** 2 / NOISE)
        mean = (table @ z) / table.sum()
        variance = (table @ (z - mean) ** 2) / table.sum()
        assert value + NOISE * float(score[i]) == pytest.approx(mean, abs=1e-9)
        assert NOISE + NOISE**2 * float(jacobian[i]) == pytest.approx(variance, abs=1e-9)


def test_beats_the_wiener_filter_on_clusters_and_the_gaussian_where_all_is_gaussian_is_kept() -> None:
    z, y, domain = clusters(1500, seed=2)
    noise = NOISE * torch.eye(2, dtype=torch.float64)

    def error(score: DomainMixtureScore | DomainGaussianScore, z: Tensor, y: Tensor) -> float:
        fitted = score.fit(y, domain, 2, noise)
        return float((y + NOISE * fitted.score_and_jacobian(y, domain)[0] - z).square().mean())

    settings: dict[str, Any] = {"components": (1, 2, 6), "strengths": (1.0, 30.0), "folds": 3}
    assert error(DomainMixtureScore(**settings), z, y) < 0.6 * error(DomainGaussianScore(), z, y)
    rng = np.random.default_rng(0)
    z = torch.from_numpy(rng.normal(size=(1500, 2)) @ np.array([[1.0, 0.8], [0.0, 0.5]]))
    y = z + NOISE**0.5 * torch.from_numpy(rng.normal(size=(1500, 2)))
    assert error(DomainMixtureScore(**settings), z, y) < 1.02 * error(DomainGaussianScore(), z, y)


def test_posterior_covariances_are_positive_everywhere() -> None:
    _, y, domain = clusters()
    noise = NOISE * torch.eye(2, dtype=torch.float64)
    fit = DomainMixtureScore((1, 4), (1.0,), folds=2).fit(y, domain, 2, noise)
    far = torch.cat([y, 20 * y])
    jacobian = fit.score_and_jacobian(far, domain.repeat(2))[1]
    assert float(torch.linalg.eigvalsh(noise + NOISE**2 * jacobian).min()) > -1e-9


def test_scores_follow_a_change_of_coordinates() -> None:
    _, y, domain = clusters()
    move = torch.tensor([[2.0, 0.4], [0.0, 0.5]], dtype=torch.float64)
    noise = NOISE * torch.eye(2, dtype=torch.float64)
    plain = DomainMixtureScore((1, 2), (1.0,), folds=2).fit(y, domain, 2, noise)
    moved = DomainMixtureScore((1, 2), (1.0,), folds=2).fit(y @ move.T + 3, domain, 2, move @ noise @ move.T)
    expected = plain.score_and_jacobian(y, domain)[0] @ torch.linalg.inv(move)
    found = moved.score_and_jacobian(y @ move.T + 3, domain)[0]
    # The members are the same; their weights may differ, as errors are measured in other coordinates.
    assert float((found - expected).square().mean() / expected.square().mean()) < 0.01


def test_same_seed_same_score_and_unknown_noise() -> None:
    _, y, domain = clusters()
    first, second = (DomainMixtureScore((1, 3), (5.0,), folds=2).fit(y, domain, 2) for _ in range(2))
    assert torch.equal(first.log_density(y, domain), second.log_density(y, domain))
    gaussian = DomainGaussianScore().fit(y, domain, 2)
    assert float(first.log_density(y, domain).mean()) > float(gaussian.log_density(y, domain).mean()) + 0.1


def test_state_makes_the_same_score() -> None:
    _, y, domain = clusters()
    fit = DomainMixtureScore((1, 2), (1.0, 10.0), folds=2).fit(y, domain, 2, NOISE * torch.eye(2))
    again = DomainMixtureScore.from_state(fit.state())
    assert again.members_ == fit.members_
    for a, b in zip(fit.score_and_jacobian(y, domain), again.score_and_jacobian(y, domain), strict=True):
        assert torch.equal(a, b)


def test_small_and_empty_domains_fall_back_on_the_shared_components() -> None:
    _, y, domain = clusters()
    domain = domain.clone()
    domain[0] = 2
    fit = DomainMixtureScore((1, 2), (1.0,), folds=2).fit(y, domain, 4, NOISE * torch.eye(2))
    for e in (2, 3):
        score, jacobian = fit.score_and_jacobian(y, torch.full_like(domain, e))
        assert score.isfinite().all()
        assert jacobian.isfinite().all()
        assert float(score.norm(dim=1).max()) < 50


def test_components_that_the_rows_cannot_carry_are_left_out() -> None:
    _, y, domain = clusters(100)
    fit = DomainMixtureScore((1, 4, 50), (1.0,), folds=2).fit(y, domain, 2)
    assert [k for k, _ in fit.members_] == [1, 4]


def test_weights_of_members_minimise_a_known_quadratic() -> None:
    gram = np.diag([1.0, 2.0, 4.0])
    np.testing.assert_allclose(_minimise_on_simplex(gram, np.zeros(3)), np.array([4, 2, 1]) / 7, atol=1e-6)
    np.testing.assert_allclose(_minimise_on_simplex(gram, np.array([0.0, 0.0, -50.0])), [0, 0, 1], atol=1e-6)


def test_eigenvalues_below_the_floor_are_raised_to_it() -> None:
    vectors = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0)).double())[0]
    matrix = vectors @ torch.diag(torch.tensor([0.2, 1.5, 3.0]).double()) @ vectors.T
    values = torch.linalg.eigvalsh(raise_eigenvalues(matrix, 1.0))
    torch.testing.assert_close(values, torch.tensor([1.0, 1.5, 3.0]).double())
    torch.testing.assert_close(raise_eigenvalues(matrix, 0.1), matrix)


def test_subset_keeps_small_domains_whole_and_weighs_back() -> None:
    domain = torch.tensor([0] * 1000 + [1] * 30 + [2] * 500)
    rows, weights = _subset(domain, torch.ones(1530), 330, np.random.default_rng(0))
    assert torch.bincount(domain[rows]).tolist() == [150, 30, 150]
    mass = torch.bincount(domain[rows], weights=weights) / weights.sum()
    torch.testing.assert_close(mass, torch.bincount(domain) / 1530, check_dtype=False)
    assert len(_subset(domain, torch.ones(1530), 2000, np.random.default_rng(0))[0]) == 1530


def test_folds_are_spread_over_every_domain() -> None:
    domain = torch.tensor([0] * 50 + [1] * 7)
    fold = _folds(domain, 5, np.random.default_rng(0))
    assert torch.bincount(fold[:50]).tolist() == [10] * 5
    assert max(torch.bincount(fold[50:], minlength=5)) == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"components": ()}, "components must be"),
        ({"components": (0, 2)}, "components must be"),
        ({"strengths": (0.0,)}, "strengths must be positive"),
        ({"folds": 1}, "folds must be at least 2"),
    ],
)
def test_bad_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DomainMixtureScore(**settings)


def test_bad_input_is_named() -> None:
    _, y, domain = clusters(20)
    with pytest.raises(ValueError, match="4 rows are fewer than the 5 folds"):
        DomainMixtureScore().fit(y[:4], domain[:4], 2)
    with pytest.raises(ValueError, match="20 rows are too few for 30 components"):
        DomainMixtureScore((30,)).fit(y, domain, 2)
    with pytest.raises(ValueError, match="linearly dependent"):
        DomainMixtureScore().fit(y[:, [0, 0]], domain, 2)
    with pytest.raises(ValueError, match="domain must be from 0 to 0"):
        DomainMixtureScore().fit(y, domain, 1)
    with pytest.raises(RuntimeError, match="not fitted yet"):
        DomainMixtureScore().score_and_jacobian(y, domain)
