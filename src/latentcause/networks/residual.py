"""Residual layers for vectors."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Residual(nn.Module):
    """x + W2 silu(W1 norm(x)), nearly x at first.

    Parameters
    ----------
    width : int
        Of x (..., width).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.first, self.second = nn.LayerNorm(width), nn.Linear(width, width), nn.Linear(width, width)
        with torch.no_grad():
            self.second.weight.mul_(0.1)

    def forward(self, x: Tensor) -> Tensor:
        """Of the shape of x."""
        return x + self.second(nn.functional.silu(self.first(self.norm(x))))


def residual_layers(width: int, depth: int) -> list[nn.Module]:
    """``depth`` of them, and a normalisation."""
    return [*(Residual(width) for _ in range(depth)), nn.LayerNorm(width)]
