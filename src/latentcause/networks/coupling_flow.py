"""An invertible network: affine couplings between learned rotations."""

from __future__ import annotations

import torch
from torch import Tensor, nn

STEEPEST = 1.5  # bound of the log scale of one coupling


class CouplingFlow(nn.Module):
    """A diffeomorphism of R^m and the volume it makes.

    Each layer mixes all numbers linearly and then scales and shifts one half of them by functions of the other (Dinh,
    Sohl-Dickstein and Bengio, Density estimation using Real NVP, 2017, section 3, between the linear maps of Kingma and Dhariwal,
    Glow, 2018). At first the couplings do nothing and the map is a random rotation.

    Parameters
    ----------
    size : int
        m, at least 1. With one number the map is linear.
    layers, width : int
        Couplings, and units of the two hidden layers of each.
    """

    def __init__(self, size: int, layers: int, width: int) -> None:
        super().__init__()
        self.told = (size + 1) // 2 if size > 1 else 0
        self.mixing = nn.Parameter(torch.linalg.qr(torch.randn(layers + 1, size, size))[0])
        count = size - self.told
        self.networks = nn.ModuleList(_network(self.told, 2 * count, width) for _ in range(layers if self.told else 0))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(e, log |det de/dx|), (n, m) and (n,), of x (n, m)."""
        volume = torch.linalg.slogdet(self.mixing).logabsdet.sum().expand(len(x))
        for mixing, network in zip(self.mixing, self.networks, strict=False):
            x = x @ mixing
            told, rest = x[:, : self.told], x[:, self.told :]
            log_scale, shift = network(told).chunk(2, dim=1)
            log_scale = STEEPEST * torch.tanh(log_scale / STEEPEST)
            x = torch.cat([told, rest * log_scale.exp() + shift], dim=1)
            volume = volume + log_scale.sum(1)
        for mixing in self.mixing[len(self.networks) :]:
            x = x @ mixing
        return x, volume

    @torch.no_grad()
    def begin_at(self, matrix: Tensor) -> None:
        """Make the map x @ ``matrix`` (m, m), as long as the couplings do nothing."""
        self.mixing[0] = matrix
        between = torch.eye(len(matrix), device=matrix.device)
        for mixing in self.mixing[1:-1]:
            between = between @ mixing
        self.mixing[-1] = between.T  # they are rotations

    def inverse(self, e: Tensor) -> Tensor:
        """x (n, m) of e (n, m)."""
        inverses = torch.linalg.inv(self.mixing)
        for mixing in inverses[len(self.networks) :].flip(0):
            e = e @ mixing
        for mixing, network in zip(reversed(inverses[: len(self.networks)]), reversed(self.networks), strict=True):
            told, rest = e[:, : self.told], e[:, self.told :]
            log_scale, shift = network(told).chunk(2, dim=1)
            log_scale = STEEPEST * torch.tanh(log_scale / STEEPEST)
            e = torch.cat([told, (rest - shift) * (-log_scale).exp()], dim=1) @ mixing
        return e


def _network(size: int, outputs: int, width: int) -> nn.Sequential:
    last = nn.Linear(width, outputs)
    with torch.no_grad():
        last.weight.zero_()
        last.bias.zero_()
    return nn.Sequential(nn.Linear(size, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), last)
