"""A network for each field of a causal system, all run as one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from latentcause.networks.conditioning import Conditioner

WIDTH = 64  # of the vector that tells the time


class FieldNetwork(nn.Module):
    """For each of d nodes a residual network of the fields that it may see; d groups of convolutions in one pass.

    The fields of a node's own network are those seen, others being zero, and one more of its own (an estimate that the network
    is to correct). Dilation doubles with each block, so that b blocks of width 3 reach 2^(b + 1) pixels. It starts at zero.

    Parameters
    ----------
    seen : Tensor of bool (d, d)
        [i, j]: node i sees node j.
    axes : int
        1 for lines and 2 for maps; 0 for sites, along one axis, that do not see each other.
    channels, blocks : int
        Of each node's network.
    """

    seen: Tensor

    def __init__(self, seen: Tensor, axes: int, channels: int = 24, blocks: int = 3) -> None:
        super().__init__()
        nodes = len(seen)
        self.register_buffer("seen", seen.bool())
        self.conditioner = Conditioner(WIDTH, 0)
        self.first = _convolution(axes, nodes * (nodes + 1), nodes * channels, nodes)
        self.blocks = nn.ModuleList([_Block(axes, nodes, channels, 2**k) for k in range(blocks)])
        self.last = _zero(_convolution(axes, nodes * channels, nodes, nodes))

    def forward(self, x: Tensor, own: Tensor, t: Tensor) -> Tensor:
        """Fields (n, d, *shape) from fields x and estimates ``own``, both (n, d, *shape), at times t (n,)."""
        told = nn.functional.silu(self.conditioner(t))
        mask = self.seen.to(x).reshape(1, *self.seen.shape, *[1] * (x.ndim - 2))
        inputs = torch.cat([mask * x[:, None], own[:, :, None]], dim=2).flatten(1, 2)
        h = self.first(inputs)
        for block in self.blocks:
            h = block(h, told)
        return self.last(nn.functional.silu(h))


class _Block(nn.Module):
    """Two convolutions around a scale and shift by the time, added to the input."""

    def __init__(self, axes: int, nodes: int, channels: int, dilation: int) -> None:
        super().__init__()
        self.scaling = nn.Linear(WIDTH, 2 * nodes * channels)
        self.conv1 = _convolution(axes, nodes * channels, nodes * channels, nodes, dilation)
        self.conv2 = _zero(_convolution(axes, nodes * channels, nodes * channels, nodes, dilation))

    def forward(self, h: Tensor, told: Tensor) -> Tensor:
        scaling = self.scaling(told)
        scale, shift = scaling.reshape(*scaling.shape, *[1] * (h.ndim - 2)).chunk(2, dim=1)
        inner = nn.functional.silu(self.conv1(nn.functional.silu(h)) * (1 + scale) + shift)
        return h + self.conv2(inner)


def _convolution(axes: int, inputs: int, outputs: int, groups: int, dilation: int = 1) -> nn.Module:
    if axes == 0:
        return nn.Conv1d(inputs, outputs, 1, groups=groups)
    kind = nn.Conv1d if axes == 1 else nn.Conv2d
    # Edges go on as they are: zeros would look like fields that end.
    return kind(inputs, outputs, 3, padding=dilation, dilation=dilation, groups=groups, padding_mode="replicate")


def _zero(layer: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
    return layer
