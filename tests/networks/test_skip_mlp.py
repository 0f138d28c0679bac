from __future__ import annotations

import torch
import torch._dynamo  # (the first optimiser loads it, and it sets an environment variable)
from torch import nn

from latentcause.networks.skip_mlp import SkipMLP
from latentcause.training import seeded


def made(*args: int) -> SkipMLP:
    with seeded(0):
        return SkipMLP(*args)


def test_it_starts_as_its_linear_part():
    network, x = made(3, 2, 8, 2), torch.randn(4, 5, 3, generator=torch.Generator().manual_seed(1))
    assert torch.equal(network(x), x @ network.skip.weight.T + network.skip.bias)


def test_depth_counts_hidden_layers():
    for depth in (1, 2, 3):
        linear = [layer for layer in made(3, 2, 8, depth).hidden if isinstance(layer, nn.Linear)]
        assert [layer.in_features for layer in linear] == [3, 8, 8][:depth]


def test_the_perceptron_learns_beside_the_linear_part():
    network, x = made(1, 1, 16, 2), torch.linspace(-2, 2, 200)[:, None]
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(300):
        loss = (network(x) - (x.square() + 3 * x)).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < 0.1  # the best line leaves 1.4
