"""Encoder and decoder of codes that an invertible network gives."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from latentcause.models.pairs.coordinates import Coordinates
from latentcause.networks.coupling_flow import CouplingFlow
from latentcause.networks.skip_mlp import SkipMLP


class FlowEncoder(nn.Module):
    """e = f(u(v)) of standardised observations v (n, r): coordinates u (v itself where r = m), and a flow f.

    Parameters
    ----------
    coordinates : Coordinates or None
    flow : CouplingFlow
    late : SkipMLP or None
        Of codes that are a trajectory: what (v, t, t^2) add to it.
    """

    def __init__(self, coordinates: Coordinates | None, flow: CouplingFlow, late: SkipMLP | None) -> None:
        super().__init__()
        self.coordinates, self.flow, self.late = coordinates, flow, late

    def forward(self, x: Tensor) -> Tensor:
        """Codes (n, m) of v (n, r), followed by t and t^2 where codes are a trajectory."""
        v = x if self.late is None else x[:, :-2]
        e = self.flow(v if self.coordinates is None else self.coordinates(v))[0]
        return e if self.late is None else e + self.late(x)


class FlowHead(nn.Module):
    """v of codes e: the way back through a `FlowEncoder` (but for what it adds at late times).

    Parameters
    ----------
    encoder : FlowEncoder
    """

    def __init__(self, encoder: FlowEncoder) -> None:
        super().__init__()
        self.coordinates, self.flow = encoder.coordinates, encoder.flow

    def forward(self, code: Tensor) -> Tensor:
        """v (..., r) of codes (..., m)."""
        u = self.flow.inverse(code.reshape(-1, code.shape[-1]))
        v = u if self.coordinates is None else self.coordinates.decode(u)
        return v.reshape(*code.shape[:-1], v.shape[-1])


def late_part(size: int, n_latents: int, width: int, depth: int) -> SkipMLP:
    """Of (v, t, t^2), nothing at first."""
    late = SkipMLP(size + 2, n_latents, width, depth)
    with torch.no_grad():
        late.skip.weight.zero_()
        late.skip.bias.zero_()
    return late
