from __future__ import annotations

import numpy as np
import pytest
import torch

from latentcause import CausalGraph
from latentcause.scores.causal import NodeView, node_views
from latentcause.scores.spline import FEW, RIDGES, SplineScore, rank_within
from latentcause.splines import UniformBSpline

COLLIDER = CausalGraph.from_edges([("a", "c"), ("b", "c"), ("c", "d")], nodes=list("abcd"))
FLAGS = np.array([[0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]], dtype=bool)


def sample(n: int, d: int, seed: int, n_domains: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Skewed, dependent points (n, d) and their domains."""
    rng = np.random.default_rng(seed)
    u = rng.normal(size=(n, d)) + 0.5 * np.roll(rng.gumbel(size=(n, d)), 1, axis=1)
    return torch.from_numpy(u), torch.from_numpy(rng.integers(0, n_domains, n))


def bases(u: torch.Tensor, count: int) -> list[UniformBSpline]:
    """Splines over the middle of the points, so that some lie on the straight tails."""
    ends = np.quantile(u.numpy(), [0.02, 0.98], axis=0).T
    return [UniformBSpline(float(low), float(high), count) for low, high in ends]


def fitted(visibility: str, count: int, ridge: float | None, seed: int = 0, n: int = 600, **fit) -> tuple:
    u, domain = sample(n, 4, seed)
    score = SplineScore(node_views(COLLIDER, visibility), bases(u, count), FLAGS)
    if ridge is not None:
        score.ridges = [[ridge] * len(row) for row in score.ridges]
    base = (
        torch.from_numpy(np.random.default_rng(seed + 1).normal(size=u.shape)) if fit.pop("with_base", True) else None
    )
    values = score.fit(u, domain, base, **fit)
    return score, u, domain, base, values


def dense_design(score: SplineScore, columns: tuple[int, ...], u: torch.Tensor, slope_of: int | None) -> torch.Tensor:
    """Every tensor-product function at u, or its derivative along one of the columns, without any local support."""
    total = torch.ones(len(u), 1, dtype=u.dtype)
    for k, column in enumerate(columns):
        spline = score.splines[column]
        piece = spline.design(u[:, column])
        if k == slope_of:
            first, _, slopes = spline.local(u[:, column])
            piece = torch.zeros_like(piece).scatter_(1, first[:, None] + torch.arange(4), slopes)
        total = (total[:, :, None] * piece[:, None, :]).flatten(1)
    return total


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("with_base", [False, True])
@pytest.mark.parametrize(("visibility", "count"), [("blanket", 5), ("parents", 6), ("empty", 9), ("full", 5)])
def test_coefficients_solve_the_dense_normal_equations(visibility, count, with_base, weighted):
    weights = torch.from_numpy(np.random.default_rng(2).uniform(0.1, 3.0, 600)) if weighted else None
    score, u, domain, base, _ = fitted(visibility, count, 0.01, with_base=with_base, weights=weights)
    for v, view in enumerate(score.views):
        states = score.states[v][domain]
        phi, psi = (dense_design(score, view.columns, u, k) for k in (None, 0))
        w = torch.ones(len(u), dtype=u.dtype) if weights is None else weights
        for state in range(int(states.max()) + 1):
            rows = states == state
            gram = phi[rows].T @ (w[rows, None] * phi[rows])
            pull = psi[rows].T @ w[rows]
            if base is not None:
                pull = pull + phi[rows].T @ (w[rows] * base[rows, view.columns[0]])
            touched = gram.diagonal() > 1e-12 * gram.diagonal().max()
            unit = gram.diagonal()[touched].mean()
            solved = touched if len(gram) > FEW else torch.ones_like(touched)  # large bases leave out the rest
            damped = gram[solved][:, solved] + 0.01 * unit * torch.eye(int(solved.sum()), dtype=u.dtype)
            found = score.coefficients[v][state]
            assert torch.allclose(found[solved], -torch.linalg.solve(damped, pull[solved]), atol=1e-9, rtol=1e-9)
            assert not found[~solved].any()


def test_values_and_derivatives_are_those_of_the_dense_design():
    score, u, domain, _, (values, slopes) = fitted("blanket", 5, 0.1)
    new, new_domain = sample(200, 4, seed=9)
    new_values, jacobian = score.score_and_jacobian(new, new_domain, full=True)
    for points, labels, value, slope in (
        (u, domain, values, slopes),
        (new, new_domain, new_values, jacobian.diagonal(dim1=1, dim2=2)),
    ):
        for v, view in enumerate(score.views):
            theta = score.coefficients[v][score.states[v][labels]]
            j = view.columns[0]
            assert torch.allclose(
                value[:, j], (dense_design(score, view.columns, points, None) * theta).sum(1), atol=1e-9
            )
            assert torch.allclose(slope[:, j], (dense_design(score, view.columns, points, 0) * theta).sum(1), atol=1e-9)


def test_the_whole_jacobian_is_that_of_finite_differences():
    score, u, domain, _, _ = fitted("blanket", 4, 0.1)
    u, domain = u[:40], domain[:40]
    _, jacobian = score.score_and_jacobian(u, domain, full=True)
    diagonal = score.score_and_jacobian(u, domain)[1]
    assert torch.allclose(jacobian.diagonal(dim1=1, dim2=2), diagonal, atol=1e-12)
    h = 1e-6
    for k in range(4):
        step = torch.zeros(4, dtype=torch.float64)
        step[k] = h
        above, below = (score.score_and_jacobian(u + sign * step, domain)[0] for sign in (1, -1))
        assert torch.allclose(jacobian[:, :, k], (above - below) / (2 * h), atol=1e-6)
    hidden = [k for k in range(4) if k not in score.views[0].columns]
    assert hidden == [3]  # d is no part of the blanket of a
    assert not jacobian[:, 0, hidden].any()


def test_integer_weights_are_repeated_rows():
    counts = torch.from_numpy(np.random.default_rng(3).integers(0, 4, 600))
    score, u, domain, base, _ = fitted("parents", 6, 0.01, weights=counts.double())
    repeated = SplineScore(score.views, score.splines, FLAGS)
    repeated.ridges = score.ridges
    repeated.fit(*(a.repeat_interleave(counts, 0) for a in (u, domain, base)))
    for a, b in zip(score.coefficients, repeated.coefficients, strict=True):
        assert torch.allclose(a, b, atol=1e-9)


def test_only_the_first_rows_are_fitted_where_asked():
    part, u, domain, base, (values, _) = fitted("parents", 6, 0.01, n_fitted=400)
    first = SplineScore(part.views, part.splines, FLAGS)
    first.ridges = part.ridges
    first.fit(u[:400], domain[:400], base[:400])
    for a, b in zip(part.coefficients, first.coefficients, strict=True):
        assert torch.allclose(a, b, atol=1e-12)
    assert values.shape == u.shape
    assert torch.allclose(values[400:], first.score_and_jacobian(u[400:], domain[400:])[0], atol=1e-12)


def test_on_many_gaussian_samples_it_is_the_gaussian_score():
    rng = np.random.default_rng(4)
    root = np.array([[1.5, 0, 0], [0.8, 1.0, 0], [0.3, -0.6, 0.7]])
    shifts = np.array([[0.0, 0, 0], [2.0, -1.0, 1.0]])
    domain = np.repeat([0, 1], 30_000)
    u = torch.from_numpy(rng.normal(size=(60_000, 3)) @ root.T + shifts[domain])
    views = [NodeView((j, *[k for k in range(3) if k != j]), (0, 1, 2)) for j in range(3)]  # all see all
    splines = [
        UniformBSpline(float(low), float(high), 5) for low, high in np.quantile(u.numpy(), [0.002, 0.998], axis=0).T
    ]
    score = SplineScore(views, splines, np.array([[0, 0, 0], [1, 0, 0]], dtype=bool))
    labels = torch.from_numpy(domain)
    values, slopes = score.fit(u, labels, None)
    precision = np.linalg.inv(root @ root.T)
    exact = -torch.from_numpy((u.numpy() - shifts[domain]) @ precision)
    error = (values - exact).square().sum(1).mean() / exact.square().sum(1).mean()
    assert error < 0.01
    assert torch.allclose(slopes.mean(0), -torch.from_numpy(precision.diagonal().copy()), rtol=0.05)


def test_a_remainder_on_the_true_score_is_nearly_nothing():
    rng = np.random.default_rng(5)
    u = torch.from_numpy(rng.normal(size=(3000, 2)))
    views = [NodeView((0, 1), (0,)), NodeView((1, 0), (1,))]
    score = SplineScore(views, bases(u, 6), np.zeros((1, 2), dtype=bool))
    values, slopes = score.fit(u, torch.zeros(3000, dtype=torch.long), -u)
    assert float(values.square().mean()) < 0.01
    assert float(slopes.square().mean()) < 0.05


def test_a_true_remainder_is_found():
    # Half the mass at -2 and half at 2: the Gaussian score is far off, splines on top of it are not.
    rng = np.random.default_rng(6)
    u = torch.from_numpy(rng.choice([-2.0, 2.0], 5000) + rng.normal(size=5000))[:, None]
    score = SplineScore([NodeView((0,), (0,))], bases(u, 12), np.zeros((1, 1), dtype=bool))
    base = -u / 5
    remainder, _ = score.fit(u, torch.zeros(5000, dtype=torch.long), base)
    exact = -u + 2 * torch.tanh(2 * u)
    assert float((base - exact).square().mean()) > 0.5
    assert float((base + remainder - exact).square().mean()) < 0.03


def test_states_are_fitted_from_their_own_domains_only():
    score, u, domain, base, _ = fitted("parents", 6, 0.01)
    other = u.clone()
    other[domain == 1] = other[domain == 1] * 3 + 1  # the only domain that targets a
    changed = SplineScore(score.views, score.splines, FLAGS)
    changed.ridges = score.ridges
    changed.fit(other, domain, base)
    of_a, of_b = 0, 1
    quiet, touched = (int(score.states[of_a][e]) for e in (0, 1))
    assert torch.equal(changed.coefficients[of_a][quiet], score.coefficients[of_a][quiet])
    assert not torch.allclose(changed.coefficients[of_a][touched], score.coefficients[of_a][touched], atol=0.1)
    assert not torch.allclose(changed.coefficients[of_b][0], score.coefficients[of_b][0], atol=1e-3)


def test_ridges_are_chosen_once_from_the_candidates_and_kept():
    score, u, domain, base, _ = fitted("parents", 6, None)
    chosen = [list(row) for row in score.ridges]
    assert all(ridge in RIDGES for row in chosen for ridge in row)
    score.fit(5 * u, domain, base)
    assert score.ridges == chosen


def test_any_order_of_the_rows_leaves_every_state_in_every_fold():
    # Three domains in turn: cut by row numbers alone, all rows of a domain would fall in one fold.
    rng = np.random.default_rng(7)
    centres = np.array([-2.0, 2.0])
    u = torch.from_numpy(rng.choice(centres, 3000) + 0.5 * rng.normal(size=3000))[:, None]
    graph, flags = CausalGraph.chain(1), np.array([[False], [True], [False]])
    ridges = []
    for domain in (torch.arange(3000) % 3, torch.arange(3000) // 1000):
        score = SplineScore(node_views(graph, "empty"), bases(u, 8), flags)
        score.fit(u, domain, None)
        ridges.append(score.ridges[0])
    assert max(ridges[0] + ridges[1]) <= 1e-1
    rank = rank_within(torch.tensor([1, 0, 1, 1, 0, 2]))
    assert rank.tolist() == [0, 0, 1, 2, 1, 0]


def test_few_samples_in_a_large_basis_touch_few_functions_and_still_fit():
    score, *_, (values, _) = fitted("full", 5, None, n=60)
    assert score.bases[3].size == 5**4
    assert torch.isfinite(values).all()
    far = torch.full((1, 4), 50.0, dtype=torch.float64)
    assert torch.isfinite(score.score_and_jacobian(far, torch.zeros(1, dtype=torch.long))[0]).all()
