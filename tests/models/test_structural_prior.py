from __future__ import annotations

import numpy as np
import pytest
import torch

from latentcause import CausalGraph
from latentcause.models.expectation import ExactEStep, SampledEStep
from latentcause.models.measurement import Measurement
from latentcause.models.packing import Packing
from latentcause.models.structural_prior import BASELINE, INTERVENED, StructuralPrior, rows_of_states
from latentcause.scm import LinearMechanism, SplineMechanism
from latentcause.splines import UniformBSpline

COLLIDER = CausalGraph.from_edges([("a", "c"), ("b", "c")], nodes=["a", "b", "c"])
CHAIN = CausalGraph.chain(2)
FLAGS = np.array([[0, 0, 0], [0, 0, 1], [1, 0, 0]], dtype=bool)
FLOOR = torch.full((3,), 1e-3, dtype=torch.float64)


def draws(n: int = 3000, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Latents of a collider c = sin(a) + b / 2 + noise, a and b as roots, and their domains."""
    rng = np.random.default_rng(seed)
    domain = rng.integers(0, 3, n)
    a, b = np.where(domain == 2, 4 + 0.5 * rng.normal(size=n), 2 * rng.normal(size=n)), 1 + rng.normal(size=n)
    c = np.where(domain == 1, 10 + rng.normal(size=n), np.sin(a) + 0.5 * b + 0.3 * rng.normal(size=n))
    return torch.from_numpy(np.column_stack([a, b, c])), torch.from_numpy(domain)


def prior_from(z: torch.Tensor, domain: torch.Tensor, *, spline: bool, hard: bool = True, rounds: int = 20):
    splines = [UniformBSpline(-6.0, 6.0, 12), UniformBSpline(-3.0, 5.0, 12), UniformBSpline(-3.0, 14.0, 12)]
    prior = StructuralPrior(COLLIDER, splines if spline else None, hard=hard, variance_floor=FLOOR)
    statistics = prior.empty_statistics()
    prior.add_rows(statistics, z, rows_of_states(domain, FLAGS))
    for _ in range(rounds):
        prior.maximise(statistics)
    return prior, statistics


def test_linear_mechanisms_are_the_regressions_of_their_rows():
    z, domain = draws()
    prior, _ = prior_from(z, domain, spline=False)
    rows = domain != 1
    design = torch.cat([torch.ones(int(rows.sum()), 1), z[rows][:, :2]], 1)
    coefficients = torch.linalg.lstsq(design, z[rows, 2]).solution
    found = prior.mechanism(2, BASELINE)
    assert isinstance(found, LinearMechanism)
    assert np.allclose([found.intercept, *found.weights], coefficients, atol=1e-6)
    assert found.variance == pytest.approx(float((z[rows, 2] - design @ coefficients).square().mean()))
    hit = prior.mechanism(2, INTERVENED)
    assert hit.weights == ()
    assert hit.intercept == pytest.approx(float(z[~rows, 2].mean()), abs=1e-6)
    assert hit.variance == pytest.approx(float(z[~rows, 2].var(correction=0)), abs=1e-6)


def test_soft_interventions_regress_on_the_parents_too():
    z, domain = draws()
    hit = prior_from(z, domain, spline=False, hard=False)[0].mechanism(2, INTERVENED)
    assert len(hit.weights) == 2
    assert np.allclose(hit.weights, 0.0, atol=0.15)  # here they happen to do nothing


def test_splines_follow_a_curve_and_smooth_what_is_straight():
    z, domain = draws()
    prior, _ = prior_from(z, domain, spline=True)
    found = prior.mechanism(2, BASELINE)
    assert isinstance(found, SplineMechanism)
    grid = torch.linspace(-3.5, 4.5, 50, dtype=torch.float64)
    along_a, along_b = torch.stack([grid, torch.ones(50)], 1), torch.stack([torch.zeros(50), grid.clamp(-1, 3)], 1)
    assert (found.mean(along_a) - torch.sin(grid) - 0.5).abs().max() < 0.15
    assert (found.mean(along_b) - 0.5 * grid.clamp(-1, 3)).abs().max() < 0.15
    assert found.variance == pytest.approx(0.09, rel=0.1)
    curved, straight = prior.mechanisms[2][BASELINE].smoothing
    assert straight > 20 * curved


def test_a_state_without_data_takes_the_other_states_mechanism():
    z, domain = draws()
    prior, _ = prior_from(z, domain, spline=False)
    assert prior.mechanisms[1][INTERVENED] is None
    assert prior.mechanism(1, INTERVENED) == prior.mechanism(1, BASELINE)


def test_variances_stay_above_the_floor():
    z = torch.stack([torch.linspace(-1, 1, 50)] * 3, 1).double()
    domain = torch.zeros(50, dtype=torch.long)
    prior, _ = prior_from(z, domain, spline=False)
    assert prior.mechanism(2, BASELINE).variance == pytest.approx(1e-3)


@pytest.mark.parametrize("spline", [False, True])
def test_packed_and_stored_forms_make_the_same_prior(spline):
    z, domain = draws(500)
    prior, _ = prior_from(z, domain, spline=spline, rounds=3)
    arrays, values = prior.state()
    stored = StructuralPrior.from_state(COLLIDER, arrays, values)
    vector = prior.pack()
    other, _ = prior_from(z + 1.0, domain, spline=spline, rounds=3)
    assert not np.allclose(other.pack(), vector)
    other.unpack(vector)
    for made in (stored, other):
        assert np.allclose(made.pack(), vector, atol=1e-12)
        for j in range(3):
            assert np.allclose(made.mechanism(j, BASELINE).intercept, prior.mechanism(j, BASELINE).intercept)
    assert stored.mechanisms[2][BASELINE].smoothing == prior.mechanisms[2][BASELINE].smoothing


def test_rows_are_told_apart_by_their_nodes_state():
    rows = rows_of_states(torch.tensor([2, 0, 1, 2]), FLAGS)
    assert [[r.tolist() for r in by_state] for by_state in rows] == [
        [[1, 2], [0, 3]],
        [[0, 1, 2, 3], []],
        [[0, 1, 3], [2]],
    ]


# --- expectations --------------------------------------------------------------------------------------------------


def chain_problem(n: int = 400) -> tuple[StructuralPrior, torch.Tensor, torch.Tensor, np.ndarray, torch.Tensor]:
    rng = np.random.default_rng(1)
    flags = np.array([[0, 0], [0, 1]], dtype=bool)
    domain = torch.from_numpy(rng.integers(0, 2, n))
    first = 2 * rng.normal(size=n)
    second = np.where(domain == 1, 5 + rng.normal(size=n), 2 * np.tanh(first) + 0.5 * rng.normal(size=n))
    u = torch.from_numpy(np.column_stack([first, second]) + 0.7 * rng.normal(size=(n, 2)))
    splines = [UniformBSpline(-6.0, 6.0, 8), UniformBSpline(-6.0, 8.0, 8)]
    prior = StructuralPrior(CHAIN, splines, hard=True, variance_floor=FLOOR[:2])
    noise = torch.full((2,), 0.49, dtype=torch.float64)
    prior.start_from(u, domain, flags, noise)
    return prior, u, domain, flags, noise


def test_exact_and_sampled_expectations_agree():
    prior, u, domain, flags, noise = chain_problem()
    exact = ExactEStep(domain, flags)(prior, u, noise)
    step = SampledEStep(domain, flags, burn_in=15, moves=3, seed=0)
    for _ in range(215):
        sampled = step(prior, u, noise)
    n = len(u)
    assert torch.allclose(sampled.second.diagonal() / n, exact.second.diagonal() / n, rtol=0.01)
    assert torch.allclose(sampled.mean.mean(0), exact.mean.mean(0), atol=0.02)
    for a, b in zip(exact.statistics, sampled.statistics, strict=True):
        for e, s in zip(a, b, strict=True):
            assert s.count == pytest.approx(e.count)
            assert torch.allclose(s.gram / n, e.gram / n, atol=0.01)
            assert torch.allclose(s.cross / n, e.cross / n, atol=0.02)
            assert s.square / n == pytest.approx(e.square / n, abs=0.05)
    final = step.final(prior, u, noise, draws=200)
    error = (final.mean - exact.mean) / exact.variance.sqrt()
    assert float(error.square().mean()) < 0.03
    assert torch.allclose(final.variance.mean(0), exact.variance.mean(0), rtol=0.05)


def test_em_with_exact_expectations_raises_the_likelihood():
    prior, u, domain, flags, noise = chain_problem()
    step = ExactEStep(domain, flags)
    values = []
    for _ in range(8):
        result = step(prior, u, noise)
        values.append(result.log_likelihood)
        prior.maximise(result.statistics, smooth=False)
    assert (np.diff(values) > 0).all()


def test_a_wider_reach_changes_nothing_but_the_grid():
    prior, u, domain, flags, noise = chain_problem(60)
    narrow = ExactEStep(domain, flags)(prior, u, noise)
    wide = ExactEStep(domain, flags, torch.tensor([[-15.0, -15.0], [20.0, 20.0]], dtype=torch.float64))(prior, u, noise)
    assert torch.allclose(wide.mean, narrow.mean, atol=1e-4)
    assert wide.log_likelihood == pytest.approx(narrow.log_likelihood, abs=1e-3)


# --- one vector for all --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loadings", [True, False])
@pytest.mark.parametrize("noise", [True, False])
def test_parameters_survive_packing(loadings, noise):
    prior, *_ = chain_problem(80)
    first = Measurement(torch.eye(2, dtype=torch.float64), 0.5, "orthogonal")
    angle = 0.3
    turn = torch.tensor([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]], dtype=torch.float64)
    now = Measurement(turn * torch.tensor([1.5, 0.7], dtype=torch.float64), 0.8, "orthogonal")
    packing = Packing(prior, first, loadings, noise)
    vector = packing.pack(prior, now)
    assert len(vector) == len(prior.pack()) + (3 if loadings else 0) + (1 if noise else 0)
    back = packing.unpack(vector, prior, first)
    assert torch.allclose(back.mixing, now.mixing if loadings else first.mixing)
    assert back.noise_variance == pytest.approx(0.8 if noise else 0.5)
    assert np.allclose(packing.pack(prior, back)[-len(prior.pack()) :], prior.pack())
    weights = packing.weights(4.0, len(vector))
    assert (weights == 4.0).sum() == (1 if loadings else 0)
