"""Linear-Gaussian systems of fields: moments, density and posterior against brute force."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from latentcause import CausalGraph, GriddedObservations
from latentcause.fields import GaussianFields, Matern, SquaredExponential, White
from latentcause.observation import BernoulliError, CorrelatedError, LinearOperator, Observation

GRAPH = CausalGraph.from_string("z1 -> z2 -> z3; z1 -> z3")
WEIGHTS = {("z1", "z2"): 0.8, ("z1", "z3"): 0.5, ("z2", "z3"): 0.7}
KERNELS = {"z1": Matern(6.0), "z2": Matern(3.0, 0.5), "z3": Matern(2.0, 0.4)}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def fields(shape: tuple[int, ...] = (12,), intercepts: dict[str, float] | None = None) -> GaussianFields:
    return GaussianFields(GRAPH, WEIGHTS, KERNELS, shape, intercepts)


def dense(system: GaussianFields) -> tuple[Tensor, Tensor]:
    """I - B and K over all nodes and pixels, written out."""
    eye = torch.eye(system.pixels, dtype=torch.float64)
    B = torch.zeros(3, 3, dtype=torch.float64)
    B[1, 0], B[2, 0], B[2, 1] = 0.8, 0.5, 0.7
    K = torch.block_diag(*[kernel.covariance(system.shape) for kernel in KERNELS.values()])
    return torch.eye(3 * system.pixels, dtype=torch.float64) - torch.kron(B, eye), K


def observed(system: GaussianFields) -> tuple[GriddedObservations, Tensor, Tensor]:
    """Random combinations of the pixels of z1 and of z3, each with correlated noise; and their A and R written out."""
    draws, noises, observations = [], [], {}
    for node, cells in (("z1", 4), ("z3", 5)):
        draws.append(torch.randn(cells, system.pixels, generator=generator(cells), dtype=torch.float64))
        factor = torch.randn(cells, cells, generator=generator(10 + cells), dtype=torch.float64)
        noises.append(factor @ factor.mT + 0.1 * torch.eye(cells))
        values = 5 * torch.randn(cells, generator=generator(20 + cells), dtype=torch.float64)
        operator = LinearOperator([draws[-1].numpy()], system.shape)
        observations[node] = Observation(values, operator, CorrelatedError(noises[-1]))
    unseen = torch.zeros(0, system.pixels, dtype=torch.float64)
    return (
        GriddedObservations(GRAPH, system.shape, observations),
        torch.block_diag(draws[0], unseen, draws[1]),
        torch.block_diag(*noises),
    )


@pytest.mark.parametrize("shape", [(12,), (3, 4)])
def test_covariance_and_precision_are_the_formulas(shape: tuple[int, ...]) -> None:
    system = fields(shape)
    remainder, K = dense(system)
    inverse = torch.linalg.inv(remainder)
    torch.testing.assert_close(system.covariance(), inverse @ K @ inverse.mT, rtol=1e-10, atol=1e-12)
    expected = remainder.mT @ torch.linalg.inv(K) @ remainder
    torch.testing.assert_close(system.precision(), expected, rtol=1e-8, atol=1e-7)


def test_nodes_in_an_order_that_is_not_causal() -> None:
    graph = CausalGraph(("b", "a"), (("a", "b"),))
    system = GaussianFields(graph, {("a", "b"): 2.0}, {"a": White(3.0), "b": White(1.0)}, (1,), {"a": 1.0, "b": -1.0})
    torch.testing.assert_close(system.covariance(), torch.tensor([[13.0, 6.0], [6.0, 3.0]]).double())
    torch.testing.assert_close(system.mean, torch.tensor([[1.0], [1.0]]).double())


def test_draws_have_mean_and_covariance() -> None:
    system = fields((3, 4), {"z1": 2.0, "z3": -1.0})
    draws = system.sample(6000, generator())
    assert draws.shape == (6000, 3, 3, 4)
    offset = (draws - system.mean).flatten(1)
    expected = system.covariance()
    error = ((expected.diagonal()[:, None] * expected.diagonal() + expected.square()) / 6000).sqrt()
    assert ((offset.mT @ offset / 6000 - expected).abs() / error).max() < 6
    assert (offset.mean(0) / (expected.diagonal() / 6000).sqrt()).abs().max() < 6
    torch.testing.assert_close(system.mean[:, 0, 0], torch.tensor([2.0, 1.6, 2 * 0.5 + 1.6 * 0.7 - 1]).double())


def test_density_is_that_of_the_multivariate_normal() -> None:
    system = fields((3, 4), {"z2": 1.5})
    draws = system.sample(5, generator())
    normal = torch.distributions.MultivariateNormal(system.mean.flatten(), system.covariance())
    torch.testing.assert_close(system.log_density(draws), normal.log_prob(draws.flatten(1)), rtol=1e-9, atol=1e-8)


@pytest.mark.parametrize("shape", [(12,), (3, 4)])
def test_posterior_is_conditioning_by_brute_force(shape: tuple[int, ...]) -> None:
    system = fields(shape, {"z1": 1.0, "z2": -2.0})
    y, A, R = observed(system)
    mean, covariance = system.posterior(y)
    C, prior = system.covariance(), system.mean.flatten()
    joint = torch.cat([torch.cat([C, C @ A.mT], 1), torch.cat([A @ C, A @ C @ A.mT + R], 1)])
    inverse, size = torch.linalg.inv(joint), len(C)
    expected = torch.linalg.inv(inverse[:size, :size])
    surprise = y.values - A @ prior
    torch.testing.assert_close(covariance, expected, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(
        mean.flatten(), prior - expected @ inverse[:size, size:] @ surprise, rtol=1e-6, atol=1e-7
    )


def test_posterior_has_the_precision_of_the_notes_and_no_gradient_at_its_mean() -> None:
    system = fields((12,), {"z1": 1.0})
    y, A, R = observed(system)
    mean, covariance = system.posterior(y)
    precision = system.precision() + A.mT @ torch.linalg.solve(R, A)
    torch.testing.assert_close(precision @ covariance, torch.eye(36).double(), rtol=0, atol=1e-8)

    z = mean.clone().requires_grad_()
    residual = y.values - A @ z.flatten()
    log_posterior = system.log_density(z) - 0.5 * residual @ torch.linalg.solve(R, residual)
    (gradient,) = torch.autograd.grad(log_posterior, z)
    (at_prior,) = torch.autograd.grad(system.log_density(prior := (z.detach() + 1).requires_grad_()), prior)
    assert gradient.abs().max() < 1e-8 * at_prior.abs().max()


def test_seeds_reproduce() -> None:
    first, second, other = (fields().sample(2, generator(seed)) for seed in (4, 4, 5))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": {("z1", "z2"): 0.8}}, r"no weight for \('z1', 'z3'\)"),
        ({"weights": {**WEIGHTS, ("z3", "z1"): 1.0}}, r"a weight is given for \('z3', 'z1'\), which is not among"),
        ({"weights": {**WEIGHTS, ("z1", "z2"): float("nan")}}, "is nan: give a finite one"),
        ({"kernels": {"z1": White(), "z2": White()}}, "no kernel for 'z3'"),
        ({"kernels": {**KERNELS, "w": White()}}, "a kernel is given for 'w'"),
        ({"intercepts": {"w": 1.0}}, "an intercept is given for 'w'"),
        ({"shape": (3, 4, 5)}, r"the shape of a field is \(3, 4, 5\)"),
        ({"shape": (0,)}, r"the shape of a field is \(0,\)"),
    ],
)
def test_bad_systems_are_refused(change: dict[str, object], message: str) -> None:
    arguments = {"weights": WEIGHTS, "kernels": KERNELS, "shape": (4,), "intercepts": None} | change
    with pytest.raises(ValueError, match=message):
        GaussianFields(GRAPH, **arguments)  # type: ignore[arg-type]


def test_too_many_rows_and_observations_of_other_fields_are_refused() -> None:
    with pytest.raises(ValueError, match="3 nodes x 4096 pixels is refused"):
        fields((64, 64)).covariance()
    y, *_ = observed(fields((12,)))
    with pytest.raises(ValueError, match=r"on shape \(12,\), the fields are .* on \(3, 4\)"):
        fields((3, 4)).posterior(y)
    yes_or_no = GriddedObservations(GRAPH, (12,), {"z1": Observation([1.0] * 12, noise=BernoulliError())})
    with pytest.raises(ValueError, match="needs linear operators and Gaussian noise"):
        fields((12,)).posterior(yes_or_no)
    singular = GaussianFields(CausalGraph(("a",)), {}, {"a": SquaredExponential(30.0, 1.0, 0.0)}, (40,))
    with pytest.raises(ValueError, match="singular in float64"):
        singular.precision()
