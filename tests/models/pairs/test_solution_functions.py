from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from latentcause.models.pairs.solution_functions import STEEPEST, SolutionFunctions
from latentcause.training import seeded


def functions(m: int, seed: int = 0, scale: float = 1.0, sees_others: bool = True) -> SolutionFunctions:
    """Random solution functions with all parameters drawn anew."""
    with seeded(seed):
        made = SolutionFunctions(m, 8, sees_others)
        for value in made.parameters():
            torch.nn.init.normal_(value, std=scale)
    return made.requires_grad_(False)


def triangular(m: int, seed: int) -> SolutionFunctions:
    """The same, where z_i depends on e_j with j < i alone."""
    made = functions(m, seed, 0.5)
    made.others.copy_(torch.ones(m, m).tril(-1))
    return made


def normal(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_they_start_as_the_identity():
    with seeded(0):
        made = SolutionFunctions(4, 8)
    z, log_slope = made(normal(5, 4))
    assert torch.equal(z, normal(5, 4))
    assert not log_slope.any()


def test_a_variable_is_monotone_in_its_own_noise_with_the_slope_that_is_told():
    made, noise = functions(3), normal(6, 3).requires_grad_()
    z, log_slope = made(noise)
    for i in range(3):
        (gradient,) = torch.autograd.grad(z[:, i].sum(), noise, retain_graph=True)
        torch.testing.assert_close(gradient[:, i], log_slope[:, i].exp())
        assert gradient.abs().min() > 0  # every other noise plays a part
    assert log_slope.abs().max() < STEEPEST


def test_others_noise_beyond_a_bound_counts_as_at_the_bound():
    made, noise = functions(3), 5 * normal(6, 3)
    z, log_slope = made(noise, 2.0)
    for i in range(3):
        near = noise.clamp(-2, 2)
        at_edge, slope = made(near)
        expected = at_edge[:, i] + slope[:, i].exp() * (noise - near)[:, i]  # its own noise has no bound
        torch.testing.assert_close(z[:, i], expected)
        torch.testing.assert_close(log_slope[:, i], slope[:, i])
    assert not torch.allclose(z, made(noise)[0])


def test_without_context_variables_are_independent():
    made, noise = functions(3, sees_others=False), normal(6, 3).requires_grad_()
    (gradient,) = torch.autograd.grad(made(noise)[0][:, 1].sum(), noise)
    assert not gradient[:, [0, 2]].any()
    assert gradient[:, 1].min() > 0


@pytest.mark.parametrize("i", [0, 1, 2])
def test_noise_for_one_variable_inverts_any_functions(i):
    made, noise, wanted = functions(3, 0, 0.5), normal(50, 3), normal(50, seed=2)
    found = made.noise_for(noise, {i: wanted})
    torch.testing.assert_close(made(found)[0][:, i], wanted, atol=1e-4, rtol=1e-4)
    others = [j for j in range(3) if j != i]
    assert torch.equal(found[:, others], noise[:, others])
    assert torch.equal(noise, normal(50, 3))  # what was given is left alone


@settings(max_examples=30)
@given(st.integers(1, 5), st.integers(0, 1000), st.data())
def test_noise_for_several_variables_inverts_acyclic_functions(m, seed, data):
    hit = data.draw(st.lists(st.integers(0, m - 1), unique=True, min_size=1))
    made, noise, wanted = triangular(m, seed), normal(20, m), normal(20, m, seed=2)
    found = made.noise_for(noise, {i: wanted[:, i] for i in hit})
    torch.testing.assert_close(made(found)[0][:, hit], wanted[:, hit], atol=1e-3, rtol=1e-3)
    rest = [j for j in range(m) if j not in hit]
    assert torch.equal(found[:, rest], noise[:, rest])


def test_noise_for_what_is_already_so_changes_nothing():
    made, noise = triangular(4, 3), normal(20, 4)
    z = made(noise)[0]
    torch.testing.assert_close(made.noise_for(noise, {i: z[:, i] for i in range(4)}), noise, atol=1e-4, rtol=1e-4)
    assert torch.equal(made.noise_for(noise, {}), noise)
