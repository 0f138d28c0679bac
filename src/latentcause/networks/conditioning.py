"""What a network is told beside its input: the time, and a code that may be withheld."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class Conditioner(nn.Module):
    """Time t (n,) in [0, 1] and code (n, k) become one vector (n, width), by which layers are scaled and shifted.

    The time enters as cosines and sines of log-spaced frequencies, the code through a linear layer and a layer of SiLU; where
    a code is withheld (for guidance without a classifier) a learned vector stands in.

    Parameters
    ----------
    width : int
    code_size : int
        k; 0 for no code.
    """

    frequencies: Tensor

    def __init__(self, width: int, code_size: int) -> None:
        super().__init__()
        half = width // 2
        self.register_buffer("frequencies", math.pi * torch.logspace(0, 3, half))
        self.time = nn.Sequential(nn.Linear(2 * half, width), nn.SiLU(), nn.Linear(width, width))
        self.code = None
        if code_size:
            self.code = nn.Sequential(nn.Linear(code_size, width), nn.SiLU(), nn.Linear(width, width))
            self.absent = nn.Parameter(torch.zeros(width))

    def forward(self, t: Tensor, code: Tensor | None = None, withheld: Tensor | None = None) -> Tensor:
        """The vector; rows where ``withheld`` (n,) is true, or all where ``code`` is None, have no code."""
        angles = t[:, None] * self.frequencies.to(t)
        told = self.time(torch.cat([angles.cos(), angles.sin()], dim=1))
        if self.code is None:
            return told
        if code is None:
            return told + self.absent
        known = self.code(code)
        if withheld is not None:
            known = torch.where(withheld[:, None], self.absent, known)
        return told + known
