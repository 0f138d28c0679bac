"""Guidance by observations: exact for Gaussian priors, and what its variants get wrong."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from latentcause import CausalGraph, GriddedObservations
from latentcause.datasets import three_fields
from latentcause.diffusion import (
    DDIM,
    Cosine,
    Denoiser,
    ObservedDenoiser,
    Prediction,
    conjugate_gradients,
    guidance,
    times,
)
from latentcause.fields import JointDenoiser, JointGaussian, LocalDenoiser
from latentcause.observation import BernoulliError, GaussianError, Observation, block_mean

SYSTEM = three_fields((16,))
PRIOR = JointDenoiser(SYSTEM.fields.joint("dense"), Cosine())


def observed(scenario="VFO", seed=0):
    return SYSTEM.observe(scenario, torch.Generator().manual_seed(seed))[1]


def conditioned(observations):
    """The posterior as a distribution that denoises exactly."""
    mean, covariance = SYSTEM.fields.posterior(observations)
    return JointDenoiser(JointGaussian.dense(mean, covariance), Cosine())


@pytest.mark.parametrize("scenario", ["VFO", "LFO", "LPO", "child"])
@pytest.mark.parametrize("t", [0.99, 0.6, 0.2, 0.01])
def test_gaussian_guidance_of_a_gaussian_prior_is_the_denoiser_of_the_posterior(scenario, t):
    observations = observed(scenario)
    x = torch.randn(5, 3, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    guided = ObservedDenoiser(PRIOR, observations, tolerance=1e-12, passes=200)
    found, wanted = guided(x, t), conditioned(observations)(x, t)
    torch.testing.assert_close(found.data, wanted.data, atol=1e-8, rtol=0)
    torch.testing.assert_close(found.to("score"), wanted.to("score"), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("t", [0.99, 0.3])
def test_cells_that_say_next_to_nothing_do_not_keep_the_others_from_being_solved(t):
    """Standard deviations from 0.05 to 5000 in one observation."""
    sd = torch.logspace(-1.3, 3.7, 16, dtype=torch.float64)
    truth = SYSTEM.fields.sample(1, torch.Generator().manual_seed(0))[0]
    seen = {
        node: Observation(truth[i], noise=GaussianError(sd.roll(5 * i))) for i, node in enumerate(SYSTEM.graph.nodes)
    }
    observations = GriddedObservations(SYSTEM.graph, (16,), seen)
    x = torch.randn(3, 3, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    guided = ObservedDenoiser(PRIOR, observations)
    torch.testing.assert_close(guided(x, t).data, conditioned(observations)(x, t).data, atol=5e-3, rtol=0)
    assert guided.worst_residual <= guided.tolerance
    assert guided.refused_share == 0


def test_a_backward_pass_stands_in_for_the_covariance():
    class Opaque(JointDenoiser):
        linearised = JointDenoiser.__mro__[1].linearised

    x, t = torch.randn(3, 3, 16, generator=torch.Generator().manual_seed(2), dtype=torch.float64), 0.4
    found = [ObservedDenoiser(kind(PRIOR.joint, Cosine()), observed())(x, t).data for kind in (JointDenoiser, Opaque)]
    torch.testing.assert_close(*found, atol=1e-9, rtol=0)


@pytest.mark.parametrize("scenario", ["VFO", "child"])
def test_samples_have_the_exact_posterior(scenario):
    """The sampler is linear here: its distribution follows from what it makes of 0 and of the unit vectors."""
    observations = observed(scenario)
    mean, covariance = SYSTEM.fields.posterior(observations)
    unit = torch.cat([torch.zeros(1, 48), torch.eye(48)]).double().reshape(49, 3, 16)
    found = DDIM(ObservedDenoiser(PRIOR, observations))(unit, times(64, 0.99, 0.002, 2.0)).flatten(1)
    root = found[1:] - found[0]
    white = torch.linalg.solve_triangular(
        torch.linalg.cholesky(covariance), torch.stack([*root, found[0] - mean.flatten()], 1), upper=False
    )
    spread, shift = white[:, :-1], white[:, -1]
    divergence = 0.5 * (spread.square().sum() - 48 - 2 * torch.linalg.slogdet(spread)[1] + shift.square().sum())
    assert divergence / 48 < 0.01
    assert shift.abs().mean() < 0.1
    assert (root.square().sum(0) / covariance.diagonal()).mean() == pytest.approx(1, abs=0.1)


def test_plugging_in_the_mean_is_too_sure_and_the_anchor_only_pulls():
    observations, x = observed("LFO"), torch.randn(2, 3, 16, generator=torch.Generator().manual_seed(4)).double()
    exact = conditioned(observations)(x, 0.5).data
    errors = {
        how: float((ObservedDenoiser(PRIOR, observations, how)(x, 0.5).data - exact).square().mean())
        for how in ("gaussian", "plug-in", "anchor")
    }
    assert errors["gaussian"] < 1e-6 < errors["anchor"] < errors["plug-in"]
    late = ObservedDenoiser(PRIOR, observations, "anchor")(x, 1e-4).data
    torch.testing.assert_close(late, observations.pseudo_inverse()[None].expand_as(late), atol=0.01, rtol=0)


def test_what_is_not_gaussian_is_replaced_by_its_sites():
    """One pixel of one node: the moments of prior times likelihood are known by quadrature."""
    observations = GriddedObservations(
        ["a"], (1,), {"a": Observation([1.0], block_mean((1,), 1), noise=BernoulliError())}
    )
    prior = JointDenoiser(JointGaussian.dense(torch.zeros(1, 1), torch.ones(1, 1)), Cosine())
    t = 0.5
    alpha, sigma = prior.levels(torch.zeros(1), t)
    z = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    for x in (-1.0, 0.3):
        x_t = torch.full((1, 1, 1), x, dtype=torch.float64)
        weights = torch.softmax(-0.5 * z.square() - 0.5 * ((x - alpha * z) / sigma).square() + z.sigmoid().log(), 0)
        found = ObservedDenoiser(prior, observations)(x_t, t).data.item()
        assert found == pytest.approx(float((weights * z).sum()), abs=1e-4)


@given(st.integers(1, 8), st.integers(0, 1000))
def test_conjugate_gradients_solve_every_row(size, seed):
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(size, size, generator=generator, dtype=torch.float64)
    matrix, right = root @ root.T + torch.eye(size), torch.randn(4, size, generator=generator, dtype=torch.float64)
    right[0] = 0
    found, _, refused = conjugate_gradients(
        lambda v: v @ matrix, torch.zeros_like, right, passes=5 * size, tolerance=1e-12
    )
    assert not refused.any()
    torch.testing.assert_close(found, torch.linalg.solve(matrix, right.T).T, atol=1e-9, rtol=1e-9)


@given(st.integers(2, 12), st.integers(0, 1000))
def test_rows_that_are_solved_stay_as_they_are(size, seed):
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.diag(torch.logspace(0, 4, size, dtype=torch.float64))
    right = torch.randn(3, size, generator=generator, dtype=torch.float64)
    right[0] = matrix[0] * (1 + 1e-3 * torch.randn(size, generator=generator))  # nearly solved by the first step
    right[0, 1:] += 1e-3
    found, left, _ = conjugate_gradients(
        lambda v: v @ matrix, torch.zeros_like, right, passes=20 * size, tolerance=0.01
    )
    true_left = (right - found @ matrix).norm(dim=1) / right.norm(dim=1)
    assert (true_left <= 0.011).all()
    torch.testing.assert_close(left, true_left, atol=1e-6, rtol=0)


class Folded(Denoiser):
    """A denoiser whose Jacobian is negative wherever x_t is."""

    schedule = PRIOR.schedule

    def __call__(self, x_t, t):
        alpha, sigma = self.levels(x_t, t)
        return Prediction.of(0.5 * x_t.abs(), "data", x_t, alpha, sigma)


def test_rows_whose_jacobian_is_no_covariance_take_the_moments():
    observations = GriddedObservations(["a"], (1,), {"a": Observation([3.0], block_mean((1,), 1), noise=0.1)})
    moments = JointDenoiser(JointGaussian.dense(torch.zeros(1, 1), torch.ones(1, 1)), Cosine())
    x_t, t = torch.tensor([[[-2.0]], [[2.0]]], dtype=torch.float64), torch.tensor([0.5, 0.5], dtype=torch.float64)
    guided = ObservedDenoiser(Folded(), observations, moments=moments)
    variance = moments.linearised(x_t, t)[1](torch.ones_like(x_t))[0].item()
    alpha, sigma = Cosine().at(0.5)
    for row, v in enumerate((variance, 0.5 * float(sigma**2 / alpha))):
        assert guided(x_t, t).data[row].item() == pytest.approx(1 + v / (v + 0.01) * (3.0 - 1))
    guided(x_t[1:], 0.5)
    assert guided.refused_share == 2 / 5  # two calls of two rows, and one of the row that is in order
    alone = ObservedDenoiser(Folded(), observations)(x_t, t).data
    assert alone[0].item() == pytest.approx(1)  # without moments there is no pull at all


def test_moments_save_passes_and_change_nothing(monkeypatch):
    """An estimate with a Jacobian twice too small: its own V is solved with, whatever preconditions."""
    observations, t = observed("LFO"), 0.4

    class Half(Denoiser):
        schedule = PRIOR.schedule

        def __call__(self, x_t, t):
            alpha, sigma = self.levels(x_t, t)
            return Prediction.of(0.5 * PRIOR(x_t, t).data, "data", x_t, alpha, sigma)

    x_t = torch.randn(3, 3, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    products, given = [], guidance.conjugate_gradients

    def counted(covariance_times, *others):
        products.append(0)

        def once_more(v):
            products[-1] += 1
            return covariance_times(v)

        return given(once_more, *others)

    monkeypatch.setattr(guidance, "conjugate_gradients", counted)
    plain = ObservedDenoiser(Half(), observations, tolerance=1e-9)(x_t, t).data
    helped = ObservedDenoiser(Half(), observations, tolerance=1e-9, moments=PRIOR)(x_t, t).data
    torch.testing.assert_close(helped, plain, atol=1e-7, rtol=0)
    assert products[1] < products[0]
    ObservedDenoiser(PRIOR, observations, tolerance=1e-9, moments=PRIOR)(x_t, t)
    assert products[2] == 1  # preconditioned by itself


def test_unknown_guidance_is_refused():
    with pytest.raises(ValueError, match="unknown guidance 'exact'"):
        ObservedDenoiser(PRIOR, observed(), "exact")


# --- what a score sees -----------------------------------------------------------------------------------------------


def test_the_blanket_is_right_as_noise_goes_and_parents_are_not():
    graph = CausalGraph.from_edges([("a", "b"), ("b", "c")])
    weights = torch.tensor([[1.0, 0, 0], [0.8, 1, 0], [0.72, 0.9, 1]], dtype=torch.float64)
    joint = JointGaussian.dense(
        torch.zeros(3, 1), weights @ torch.diag(torch.tensor([1.0, 0.5, 0.4]).double()) @ weights.T
    )
    x = torch.randn(6, 3, 1, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    exact = JointDenoiser(joint, Cosine())(x, 0.01).to("score")
    error = {
        sees: (LocalDenoiser(joint, graph, sees, Cosine())(x, 0.01).to("score") - exact).abs().amax((0, 2))
        for sees in ("blanket", "parents")
    }
    assert error["blanket"].max() < 0.01 * exact.abs().max()
    assert error["parents"][2] < 0.01 * exact.abs().max()  # no children
    assert error["parents"][:2].min() > 0.1
    all_seen = LocalDenoiser(joint, CausalGraph.from_edges([("a", "b"), ("a", "c"), ("b", "c")]), "blanket", Cosine())
    torch.testing.assert_close(all_seen(x, 0.3).data, JointDenoiser(joint, Cosine())(x, 0.3).data)


def test_at_early_times_the_moments_stand_in_for_the_derivative():
    """A denoiser without a derivative: its V is 0, so that nothing is pulled where it is asked for."""

    class Stiff(Denoiser):
        schedule = PRIOR.schedule

        def __call__(self, x_t, t):
            alpha, sigma = self.levels(x_t, t)
            return Prediction.of(PRIOR(x_t, t).data.detach() + 0 * x_t, "data", x_t, alpha, sigma)

    observations = observed("LFO")
    x_t = torch.randn(3, 3, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    guided = ObservedDenoiser(Stiff(), observations, moments=PRIOR, tolerance=1e-9)
    wanted = ObservedDenoiser(PRIOR, observations, tolerance=1e-9)
    torch.testing.assert_close(guided(x_t, 0.8).data, wanted(x_t, 0.8).data, atol=1e-7, rtol=0)
    torch.testing.assert_close(guided(x_t, 0.4).data, PRIOR(x_t, 0.4).data, atol=1e-7, rtol=0)
