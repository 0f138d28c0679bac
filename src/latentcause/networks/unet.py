"""A small U-Net for images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from latentcause.networks.conditioning import Conditioner

HEADS = 4


class UNet(nn.Module):
    """Residual blocks on several resolutions, scaled and shifted by time and code; self-attention at the lowest only.

    The image is first unshuffled (r x r pixels become channels): full resolution costs most and pays least. Attention grows
    with the square of the pixels, so it stands only where they are few. Works in channels-last order.

    Parameters
    ----------
    image_channels : int
    code_size : int
        0 for no code.
    channels : sequence of int
        Of each resolution from the finest; each is half the one before. Multiples of 4.
    blocks : int
        Residual blocks on each resolution, on the way down and up.
    unshuffle : int
        r; the height and width of images must be multiples of r 2^(resolutions - 1).
    """

    def __init__(
        self,
        image_channels: int = 1,
        code_size: int = 0,
        channels: Sequence[int] = (32, 64),
        blocks: int = 2,
        unshuffle: int = 2,
    ) -> None:
        super().__init__()
        if any(count % HEADS for count in channels):
            raise ValueError(f"channels={list(channels)}: give multiples of {HEADS}")
        self.unshuffle, self.factor = unshuffle, unshuffle * 2 ** (len(channels) - 1)
        width = 4 * channels[0]
        self.conditioner = Conditioner(width, code_size)
        self.first = nn.Conv2d(image_channels * unshuffle**2, channels[0], 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        kept, here = [channels[0]], channels[0]
        for level, count in enumerate(channels):
            for _ in range(blocks):
                self.down.append(_Block(here, count, width))
                here = count
                kept.append(here)
            if level < len(channels) - 1:
                self.down.append(nn.Conv2d(here, here, 3, stride=2, padding=1))
                kept.append(here)
        self.middle = nn.ModuleList([_Block(here, here, width), _Attention(here), _Block(here, here, width)])
        for level, count in reversed(list(enumerate(channels))):
            for _ in range(blocks + 1):
                self.up.append(_Block(here + kept.pop(), count, width))
                here = count
            if level:
                self.up.append(nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(here, here, 3, padding=1)))
        self.last = nn.Sequential(
            ImageNorm(here),
            nn.SiLU(),
            _from_zero(nn.Conv2d(here, image_channels * unshuffle**2, 3, padding=1)),
        )
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor, t: Tensor, code: Tensor | None = None, withheld: Tensor | None = None) -> Tensor:
        """Output of the shape of x (n, c, h, w).

        Raises
        ------
        ValueError
            For images whose height or width the resolutions do not divide.
        """
        self.check_size(*x.shape[2:])
        told = nn.functional.silu(self.conditioner(t, code, withheld))
        h = nn.functional.pixel_unshuffle(x, self.unshuffle).contiguous(memory_format=torch.channels_last)
        h = self.first(h)
        kept = [h]
        for layer in self.down:
            h = layer(h, told) if isinstance(layer, _Block) else layer(h)
            kept.append(h)
        for layer in self.middle:
            h = layer(h, told) if isinstance(layer, _Block) else layer(h)
        for layer in self.up:
            h = layer(torch.cat([h, kept.pop()], dim=1), told) if isinstance(layer, _Block) else layer(h)
        return nn.functional.pixel_shuffle(self.last(h), self.unshuffle)

    def check_size(self, height: int, width: int) -> None:
        """Raise the ValueError of `forward` for images that the resolutions do not divide."""
        if height % self.factor or width % self.factor:
            raise ValueError(
                f"images of {height} x {width} can't be halved as often as this network does: pad them to multiples of "
                f"{self.factor}"
            )


class ImageNorm(nn.Module):
    """An image's channels and pixels together to mean 0 and variance 1, then each channel scaled and shifted.

    A group norm of one group. In channels-last order an image is one row in memory: with norms over eight groups a training
    step takes a third longer on a CPU. (A norm of each pixel's channels is no faster and forgets how bright a pixel is.)

    Parameters
    ----------
    channels : int
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Shape (n, c, h, w) kept."""
        h = _normalised(x)
        return torch.addcmul(self.bias.to(h.dtype), h, self.weight.to(h.dtype)).permute(0, 3, 1, 2)


class _Block(nn.Module):
    """Two convolutions around a scale and shift, added to the input."""

    def __init__(self, inputs: int, outputs: int, width: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = ImageNorm(inputs), nn.Conv2d(inputs, outputs, 3, padding=1)
        self.scaling = nn.Linear(width, 2 * outputs)
        self.conv2 = _from_zero(nn.Conv2d(outputs, outputs, 3, padding=1))
        self.skip = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        scale, shift = self.scaling(told)[:, None, None].chunk(2, dim=-1)
        h = _normalised(self.conv1(nn.functional.silu(self.norm1(x))))
        h = torch.addcmul(shift.to(h.dtype), h, 1 + scale.to(h.dtype)).permute(0, 3, 1, 2)
        return self.skip(x) + self.conv2(nn.functional.silu(h))


class _Attention(nn.Module):
    """Self-attention over all pixels, added to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = ImageNorm(channels)
        self.inputs, self.outputs = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        with torch.no_grad():
            self.outputs.weight.zero_()
            self.outputs.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        n, c, height, width = x.shape
        flat = self.norm(x).flatten(2).mT
        q, k, v = self.inputs(flat).reshape(n, -1, 3, HEADS, c // HEADS).permute(2, 0, 3, 1, 4)
        # Over so few pixels, plain products are faster than the fused kernel and its backward pass.
        weights = (q @ k.mT * (c // HEADS) ** -0.5).softmax(dim=-1)
        seen = (weights @ v).transpose(1, 2).reshape(n, -1, c)
        return x + self.outputs(seen).mT.reshape(n, c, height, width)


def _normalised(x: Tensor) -> Tensor:
    """Images (n, c, h, w) as (n, h, w, c), each with mean 0 and variance 1."""
    h = x.permute(0, 2, 3, 1)
    return nn.functional.layer_norm(h, h.shape[1:])


def _from_zero(layer: nn.Conv2d) -> nn.Conv2d:
    with torch.no_grad():
        layer.weight.zero_()
        if layer.bias is not None:
            layer.bias.zero_()
    return layer
