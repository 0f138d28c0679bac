from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from latentcause.networks.coupling_flow import CouplingFlow
from latentcause.training import seeded


def bent(size: int, layers: int = 4, seed: int = 0) -> CouplingFlow:
    """A flow whose couplings do something, in double precision."""
    with seeded(seed):
        flow = CouplingFlow(size, layers, 8)
        for network in flow.networks:
            torch.nn.init.normal_(network[-1].weight, std=0.3)
            torch.nn.init.normal_(network[-1].bias, std=0.3)
        return flow.double()


def points(n: int, size: int, seed: int = 1) -> Tensor:
    return torch.randn((n, size), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(size=st.integers(1, 7), layers=st.integers(0, 5), seed=st.integers(0, 1000))
def test_the_inverse_goes_back(size, layers, seed):
    flow, x = bent(size, layers, seed), points(6, size)
    with torch.no_grad():
        torch.testing.assert_close(flow.inverse(flow(x)[0]), x, rtol=1e-8, atol=1e-8)
        torch.testing.assert_close(flow(flow.inverse(x))[0], x, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_the_volume_is_the_determinant_of_the_jacobian(size):
    flow, x = bent(size), points(3, size)
    jacobians = torch.stack([torch.autograd.functional.jacobian(lambda p: flow(p[None])[0][0], row) for row in x])
    torch.testing.assert_close(flow(x)[1], torch.linalg.slogdet(jacobians).logabsdet)


@pytest.mark.parametrize("size", [2, 5])
def test_at_first_it_is_a_rotation_and_any_number_can_change_any_other_later(size):
    with seeded(0):
        flow = CouplingFlow(size, 4, 8).double()
    x = points(4, size)
    with torch.no_grad():
        e, volume = flow(x)
    torch.testing.assert_close(e.norm(dim=1), x.norm(dim=1))
    torch.testing.assert_close(volume, torch.zeros(4, dtype=torch.float64), rtol=0, atol=1e-5)
    jacobian = torch.autograd.functional.jacobian(lambda p: bent(size)(p[None])[0][0], x[0])
    assert (jacobian.abs() > 1e-4).all()


@pytest.mark.parametrize(("size", "layers"), [(1, 3), (2, 1), (4, 6)])
def test_it_can_begin_at_a_matrix(size, layers):
    with seeded(0):
        flow = CouplingFlow(size, layers, 8)
    matrix = points(size, size, seed=3).float()
    flow.begin_at(matrix)
    x = points(5, size).float()
    with torch.no_grad():
        e, volume = flow(x)
    torch.testing.assert_close(e, x @ matrix, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(volume, torch.linalg.slogdet(matrix).logabsdet.expand(5), rtol=1e-3, atol=1e-3)
    assert all(parameter.requires_grad for parameter in flow.parameters())
