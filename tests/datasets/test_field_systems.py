"""Simulated systems of fields: they are what their docstrings say, and their posteriors are calibrated."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from latentcause.datasets import FieldSystem, nonlinear_three, random_field_system, three_fields
from latentcause.fields import GaussianFields, StructuralFields

SCENARIOS = ["VFO", "LFO", "LPO", "child"]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def exact(system: FieldSystem) -> GaussianFields:
    assert isinstance(system.fields, GaussianFields)
    return system.fields


def test_three_fields_have_their_covariance() -> None:
    fields = exact(three_fields())
    total = torch.tensor([1.0, 0.64 + 0.5, (0.5 + 0.56) ** 2 + 0.49 * 0.5 + 0.4]).double()
    torch.testing.assert_close(fields.covariance().diagonal().reshape(3, 32), total[:, None].expand(3, 32))
    x = math.sqrt(3) / 6
    assert fields.covariance()[0, 1].item() == pytest.approx((1 + x) * math.exp(-x))


@pytest.mark.parametrize(
    ("shape", "cells"),
    [
        ((32,), {"VFO": (32, 8, 4), "LFO": (8, 4, 4), "LPO": (3, 3, 5), "child": (32,)}),
        ((16, 24), {"VFO": (384, 24, 6), "LFO": (24, 6, 6), "LPO": (4, 4, 16), "child": (384,)}),
    ],
)
def test_sensors_of_the_scenarios(shape: tuple[int, ...], cells: dict[str, tuple[int, ...]]) -> None:
    system = three_fields(shape, noise=0.3)
    assert list(system.scenarios) == SCENARIOS
    for scenario, counts in cells.items():
        z, observations = system.observe(scenario, generator())
        assert z.shape == (3, *shape)
        assert tuple(len(observation.values) for _, observation in observations.per_node) == counts
        torch.testing.assert_close(observations.noise_variance, torch.full((sum(counts),), 0.09).double())
    assert [node for node, _ in observations.per_node] == ["z3"]


def test_blocks_average_the_truth() -> None:
    z, observations = three_fields(noise=1e-6).observe("LFO", generator())
    blocks = [z[0].reshape(8, 4).mean(1), z[1].reshape(4, 8).mean(1), z[2].reshape(4, 8).mean(1)]
    torch.testing.assert_close(observations.values, torch.cat(blocks), rtol=0, atol=1e-5)
    z, observations = three_fields(noise=1e-6).observe("LPO", generator())
    kept = z[2].reshape(8, 4).mean(1)[[0, 2, 3, 5, 6]]
    torch.testing.assert_close(observations.values[-5:], kept, rtol=0, atol=1e-5)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_exact_posteriors_are_calibrated(scenario: str) -> None:
    system = three_fields()
    rng, distances = generator(), []
    for _ in range(60):
        z, observations = system.observe(scenario, rng)
        mean, covariance = exact(system).posterior(observations)
        factor = torch.linalg.cholesky(covariance)
        distances.append(torch.linalg.solve_triangular(factor, (z - mean).reshape(-1, 1), upper=False).square().sum())
    # each distance is a chi-squared with 96 degrees of freedom: mean 96, variance 192
    assert abs(torch.stack(distances).mean() - 96) < 5 * math.sqrt(192 / 60)


def test_posterior_is_the_formula_of_precisions() -> None:
    system = three_fields()
    _, observations = system.observe("LPO", generator())
    mean, covariance = exact(system).posterior(observations)
    operator = observations.adjoint(torch.eye(len(observations.values)).double()).flatten(1)
    precision = exact(system).precision() + operator.mT @ operator / 0.04
    torch.testing.assert_close(precision @ covariance, torch.eye(96).double(), rtol=0, atol=1e-8)
    torch.testing.assert_close(mean.flatten(), covariance @ operator.mT @ observations.values / 0.04)


def test_worse_sensors_leave_more_variance() -> None:
    system = three_fields()
    left = [exact(system).posterior(system.observe(name, generator())[1])[1].trace() for name in SCENARIOS[:3]]
    assert left[0] < left[1] < left[2] < exact(system).covariance().trace()


def test_nonlinear_three_follows_its_mechanisms() -> None:
    system = nonlinear_three((20,))
    assert isinstance(system.fields, StructuralFields)
    z1, z2, z3 = (z := system.fields.sample(800, generator())).unbind(1)
    noise = [z1, z2 - 1.5 * torch.tanh(z1), z3 - 0.5 * z1 - 0.5 * z1 * z2]
    torch.testing.assert_close(system.fields.abduct(z), torch.stack(noise, 1))
    for own, kernel in zip(noise, system.fields.noises.values(), strict=True):
        covariance = kernel.covariance((20,))
        error = ((covariance.diagonal()[:, None] * covariance.diagonal() + covariance.square()) / 800).sqrt()
        assert ((own.mT @ own / 800 - covariance).abs() / error).max() < 6
    _, observations = system.observe("VFO", generator())
    assert observations.log_likelihood(z).shape == (800,)


@pytest.mark.parametrize(("n_nodes", "edges"), [(2, 0), (10, 12), (15, 60), (6, 15)])
@pytest.mark.parametrize("seed", [0, 1])
def test_random_systems_have_the_edges_and_unit_variance(n_nodes: int, edges: int, seed: int) -> None:
    system = random_field_system(n_nodes, edges, seed=seed)
    assert len(system.graph) == n_nodes
    assert len(system.graph.edges) == edges
    covariance = exact(system).covariance()
    torch.testing.assert_close(covariance.diagonal(), torch.ones(n_nodes).double())
    for node in system.graph.nodes:
        explained = 1 - exact(system).kernels[node].variance
        assert 0.4 <= explained <= 0.8 if system.graph.parents(node) else explained == 0


@pytest.mark.parametrize("noise", ["gaussian", "student", "skew_normal", "gamma"])
def test_noises_share_covariance_but_not_tails(noise: str) -> None:
    system = random_field_system(5, 7, noise, sites=20_000, seed=3)  # type: ignore[arg-type]
    z = system.fields.sample(1, generator())[0]
    expected = exact(random_field_system(5, 7, seed=3)).covariance()
    # Student's t with 5 degrees of freedom has kurtosis 9, so a variance an error of sqrt(8 / sites); others have less
    torch.testing.assert_close(z @ z.mT / 20_000, expected, rtol=0, atol=6 * math.sqrt(8 / 20_000))
    root = next(i for i, node in enumerate(system.graph.nodes) if not system.graph.parents(node))
    skewness, kurtosis = moment(z[root], 3), moment(z[root], 4)
    assert (skewness > 0.5) == (noise in ("skew_normal", "gamma"))
    assert (kurtosis > 3.3) == (noise != "gaussian")


def moment(values: Tensor, order: int) -> float:
    return (values / values.std()).pow(order).mean().item()


def test_sensors_of_random_systems() -> None:
    system = random_field_system(7, 9, sites=3, seed=0)
    _, every = system.observe("all", generator())
    assert sorted(every.noise_variance.tolist()) == pytest.approx([0.01] * 12 + [1.0] * 9)
    z, half = system.observe("half", generator())
    assert len(half.values) == 12
    mean, covariance = exact(system).posterior(half)
    assert mean.shape == z.shape == (7, 3)
    assert covariance.trace() < 21 - 12 * 0.9


def test_seeds_reproduce() -> None:
    first, second, other = (random_field_system(8, 10, seed=seed) for seed in (1, 1, 2))
    assert first.graph == second.graph
    assert exact(first).weights == exact(second).weights
    assert first.graph != other.graph
    (z, y), (again, same) = (three_fields().observe("VFO", generator(5)) for _ in range(2))
    assert torch.equal(z, again)
    assert torch.equal(y.values, same.values)


def test_bad_requests_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown scenario 'XFO': choose one of VFO, LFO, LPO, child"):
        three_fields().observe("XFO", generator())
    with pytest.raises(ValueError, match="16 or more pixels along each axis"):
        three_fields((32, 8))
    with pytest.raises(ValueError, match="7 edges between 4 nodes"):
        random_field_system(4, 7, seed=0)
    with pytest.raises(ValueError, match="unknown noise 'cauchy'"):
        random_field_system(4, 2, "cauchy", seed=0)  # type: ignore[arg-type]
