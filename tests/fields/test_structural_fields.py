"""Systems of fields with any mechanisms: densities, inversion, gradients, and the linear case against its closed form."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, StudentT

from latentcause import CausalGraph
from latentcause.fields import GammaNoise, GaussianFields, Matern, StructuralFields, StudentNoise, White

GRAPH = CausalGraph(("c", "a", "b"), (("a", "b"), ("a", "c"), ("b", "c")))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def nonlinear(shape: tuple[int, ...] = (6,)) -> StructuralFields:
    noises = {"a": White(2.0), "b": StudentNoise(4.0, 0.5), "c": White(0.1)}
    return StructuralFields(GRAPH, {"b": torch.tanh, "c": lambda a, b: a * b}, noises, shape)


def test_density_is_the_product_of_the_noises() -> None:
    system = nonlinear()
    z = system.sample(5, generator())
    c, a, b = z.unbind(1)
    two, four, tenth = torch.tensor([2.0, 4.0, 0.1], dtype=torch.float64)
    student = StudentT(four, torch.tanh(a), (0.5 * two / four).sqrt())
    expected = Normal(0 * two, two.sqrt()).log_prob(a) + student.log_prob(b) + Normal(a * b, tenth.sqrt()).log_prob(c)
    torch.testing.assert_close(system.log_density(z), expected.sum(-1), rtol=1e-10, atol=1e-10)
    assert system.log_density(z.reshape(5, 1, 3, 6)).shape == (5, 1)
    assert system.log_density(z[0]).shape == ()


@pytest.mark.parametrize("shape", [(7,), (3, 4)])
def test_linear_mechanisms_with_gaussian_noise_are_gaussian_fields(shape: tuple[int, ...]) -> None:
    kernels = {"a": Matern(3.0), "b": Matern(2.0, 0.5, 0.5), "c": White(0.3)}
    weights = {("a", "b"): 0.8, ("a", "c"): 0.5, ("b", "c"): -0.7}
    closed = GaussianFields(GRAPH, weights, kernels, shape)
    mechanisms = {"b": lambda a: 0.8 * a, "c": lambda a, b: 0.5 * a - 0.7 * b}
    system = StructuralFields(GRAPH, mechanisms, kernels, shape)
    torch.testing.assert_close(system.sample(4, generator()), closed.sample(4, generator()), rtol=1e-10, atol=1e-12)
    z = 2 * closed.sample(4, generator(1))
    torch.testing.assert_close(system.log_density(z), closed.log_density(z), rtol=1e-10, atol=1e-9)


def test_noise_and_fields_determine_each_other() -> None:
    system = nonlinear((3, 4))
    noise = torch.randn(2, 5, 3, 3, 4, generator=generator(), dtype=torch.float64)
    torch.testing.assert_close(system.abduct(system.predict(noise)), noise, rtol=1e-10, atol=1e-12)
    z = system.predict(noise)
    torch.testing.assert_close(z[..., 0, :, :], noise[..., 0, :, :] + z[..., 1, :, :] * z[..., 2, :, :])


def test_gradient_of_the_density() -> None:
    system = nonlinear((2,))
    z = system.sample(2, generator()).requires_grad_()
    assert torch.autograd.gradcheck(system.log_density, z)


def test_density_integrates_to_one() -> None:
    graph = CausalGraph.from_string("a -> b")
    noises = {"a": StudentNoise(6.0, 0.3), "b": GammaNoise(3.0, 0.5)}
    system = StructuralFields(graph, {"b": lambda a: a.square()}, noises, (1,))
    a, b = (torch.linspace(low, high, 1500, dtype=torch.float64) for low, high in ((-6, 6), (-2, 40)))
    grid: Tensor = torch.cartesian_prod(a, b)[..., None]
    total = system.log_density(grid).exp().sum() * (a[1] - a[0]) * (b[1] - b[0])
    assert total.item() == pytest.approx(1, abs=2e-3)


def test_seeds_reproduce() -> None:
    first, second, other = (nonlinear().sample(2, generator(seed)) for seed in (3, 3, 4))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mechanisms": {"b": torch.tanh}}, "no mechanism for 'c'"),
        ({"mechanisms": {"a": torch.tanh, "b": torch.tanh, "c": torch.mul}}, "a mechanism is given for 'a'"),
        ({"noises": {"a": White()}}, "no noise for 'c'"),
        ({"shape": ()}, r"the shape of a field is \(\)"),
    ],
)
def test_bad_systems_are_refused(change: dict[str, object], message: str) -> None:
    noises = {"a": White(), "b": White(), "c": White()}
    arguments = {"mechanisms": {"b": torch.tanh, "c": torch.mul}, "noises": noises, "shape": (4,)} | change
    with pytest.raises(ValueError, match=message):
        StructuralFields(GRAPH, **arguments)  # type: ignore[arg-type]


def test_bad_fields_and_mechanisms_are_refused() -> None:
    with pytest.raises(ValueError, match=r"fields of shape \(2, 3, 5\) for a system of fields \(..., 3, 6\)"):
        nonlinear().log_density(torch.zeros(2, 3, 5))
    mechanisms = {"b": lambda a: a.mean(-1), "c": torch.mul}
    system = StructuralFields(GRAPH, mechanisms, {"a": White(), "b": White(), "c": White()}, (4,))
    with pytest.raises(ValueError, match=r"the mechanism of 'b' returned shape \(2,\) for fields of shape \(2, 4\)"):
        system.sample(2, generator())
