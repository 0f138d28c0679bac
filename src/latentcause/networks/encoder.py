"""An encoder of images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from latentcause.networks.unet import ImageNorm


class ImageEncoder(nn.Module):
    """Convolutions, each halving the image, then the mean over pixels and a perceptron.

    Parameters
    ----------
    image_channels, outputs : int
    channels : sequence of int
        Of each resolution, after the first halving.
    """

    def __init__(self, image_channels: int, outputs: int, channels: Sequence[int] = (32, 64, 64)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        here = image_channels
        for count in channels:
            layers += [
                nn.Conv2d(here, count, 3, stride=2, padding=1),
                ImageNorm(count),
                nn.SiLU(),
                nn.Conv2d(count, count, 3, padding=1),
                ImageNorm(count),
                nn.SiLU(),
            ]
            here = count
        self.body = nn.Sequential(*layers).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        # Norms take out the overall brightness, which may be what is asked for: tell it beside them.
        self.head = nn.Sequential(nn.Linear(here + 3 * image_channels, 128), nn.SiLU(), nn.Linear(128, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (n, outputs) of images (n, c, h, w) in [0, 1]."""
        found = self.body(x.contiguous(memory_format=torch.channels_last)).mean(dim=(2, 3))
        brightness = torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3)), x.square().mean(dim=(2, 3)).sqrt()], dim=1)
        return self.head(torch.cat([found, brightness], dim=1))
