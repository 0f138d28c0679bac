"""Many small networks side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


class StackedMLP(nn.Module):
    """k perceptrons of the same shape with SiLU between their layers, run as one batched product; outputs start at zero.

    Parameters
    ----------
    count : int
        k.
    sizes : sequence of int
        Of the input, the hidden layers and the output.
    """

    def __init__(self, count: int, sizes: Sequence[int]) -> None:
        super().__init__()
        layers = list(pairwise(sizes))
        self.weights = nn.ParameterList(nn.Parameter(torch.randn(count, a, b) / math.sqrt(a)) for a, b in layers)
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(count, 1, b)) for _, b in layers)
        with torch.no_grad():
            self.weights[-1].zero_()

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (k, n, sizes[-1]) of inputs (k, n, sizes[0])."""
        last = len(self.weights) - 1
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias, x, weight)
            if layer < last:
                x = nn.functional.silu(x)
        return x
