"""A perceptron beside a linear map."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn


class SkipMLP(nn.Module):
    """W x + b + f(x) with f a perceptron of SiLU layers that starts at zero: at the start the map is linear.

    Parameters
    ----------
    size, outputs : int
    width, depth : int
        Of the hidden layers of f.
    """

    def __init__(self, size: int, outputs: int, width: int, depth: int) -> None:
        super().__init__()
        sizes = [size, *[width] * depth]
        layers: list[nn.Module] = []
        for a, b in pairwise(sizes):
            layers += [nn.Linear(a, b), nn.SiLU()]
        self.hidden = nn.Sequential(*layers)
        self.last = nn.Linear(sizes[-1], outputs)
        self.skip = nn.Linear(size, outputs)
        with torch.no_grad():
            self.last.weight.zero_()
            self.last.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (..., outputs) of inputs (..., size)."""
        return self.skip(x) + self.last(self.hidden(x))
