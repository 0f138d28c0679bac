from __future__ import annotations

import torch
from torch import nn

from latentcause.networks.stacked import StackedMLP
from latentcause.training import seeded


def stacked(count: int = 3, sizes: tuple[int, ...] = (4, 8, 5, 2)) -> StackedMLP:
    with seeded(0):
        network = StackedMLP(count, sizes)
        for value in network.parameters():
            nn.init.normal_(value)
    return network


def test_outputs_start_at_zero_and_hidden_layers_at_unit_scale():
    with seeded(0):
        network = StackedMLP(2, (400, 300, 2))
    assert network(torch.ones(2, 5, 400)).shape == (2, 5, 2)
    assert not network(torch.ones(2, 5, 400)).any()
    torch.testing.assert_close(network.weights[0].std() * 20, torch.tensor(1.0), atol=0.02, rtol=0)


def test_each_is_a_perceptron_of_its_own():
    network, x = stacked(), torch.randn(3, 7, 4, generator=torch.Generator().manual_seed(1))
    for k in range(3):
        layers: list[nn.Module] = []
        for weight, bias in zip(network.weights, network.biases, strict=True):
            with seeded(0):
                layer = nn.Linear(*weight.shape[1:])
            layer.weight.data, layer.bias.data = weight.data[k].T, bias.data[k, 0]
            layers += [layer, nn.SiLU()]
        torch.testing.assert_close(network(x)[k], nn.Sequential(*layers[:-1])(x[k]))


def test_gradients_do_not_cross_from_one_to_another():
    network, x = stacked(), torch.randn(3, 7, 4, generator=torch.Generator().manual_seed(1), requires_grad=True)
    network(x)[1].sum().backward()
    assert x.grad[1].abs().min() > 0
    assert not x.grad[[0, 2]].any()
    assert all(not value.grad[[0, 2]].any() for value in network.parameters())
