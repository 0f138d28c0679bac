"""A score network for vectors."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from latentcause.networks.conditioning import Conditioner


class ScoreMLP(nn.Module):
    """Residual SiLU layers on x_t (n, d), each scaled and shifted by time and code; the output starts at zero.

    Parameters
    ----------
    size : int
        d.
    code_size : int
    width, depth : int
        Of the hidden layers.
    """

    def __init__(self, size: int, code_size: int = 0, width: int = 128, depth: int = 3) -> None:
        super().__init__()
        self.conditioner = Conditioner(width, code_size)
        self.first = nn.Linear(size, width)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.scales = nn.ModuleList(_from_zero(nn.Linear(width, 2 * width)) for _ in range(depth))
        self.last = _from_zero(nn.Linear(width, size))

    def forward(self, x: Tensor, t: Tensor, code: Tensor | None = None, withheld: Tensor | None = None) -> Tensor:
        """Output (n, d)."""
        told = nn.functional.silu(self.conditioner(t, code, withheld))
        h = self.first(x)
        for layer, scaling in zip(self.layers, self.scales, strict=True):
            scale, shift = scaling(told).chunk(2, dim=1)
            h = h + nn.functional.silu(layer(h) * (1 + scale) + shift)
        return self.last(h)


def _from_zero(layer: nn.Linear) -> nn.Linear:
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.zero_()
    return layer
