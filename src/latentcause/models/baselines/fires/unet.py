"""A small U-Net that maps today's maps to the chance of a fire tomorrow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from latentcause.datasets.wildfires.series import FireSeries
from latentcause.datasets.wildfires.symmetry import EAST, NORTH, SYMMETRIES, turn, turn_mask
from latentcause.models.baselines.fires.forecaster import FireForecaster
from latentcause.models.baselines.fires.logistic import unburnable, wind
from latentcause.networks.unet import UNet
from latentcause.threads import threads_for
from latentcause.training import Recipe, resolve_device, seeded, train

PLAIN = (
    "elevation",
    "NDVI",
    "energy release component",
    "total precipitation",
    "VIIRS band M11",
    "VIIRS band I2",
    "VIIRS band I1",
    "specific humidity",
    "pdsi",
)


class FireUNet(FireForecaster):
    """`latentcause.networks.UNet` on today's, yesterday's and earlier masks, wind, terrain, fuel, weather and reflectances.

    Trained by cross-entropy over all pixels. In training every map is turned and mirrored at random, the wind with it.

    Parameters
    ----------
    channels : sequence of int
    blocks, epochs, batch_size, learning_rate : size and training of the network
    device : str
    seed : int

    Attributes
    ----------
    network_ : Module
    means_, sds_ : Tensor (k,)
        Of the inputs. The wind is only scaled.
    history_ : list of dict
        An entry per epoch. A tenth of the maps is held out, and the weights are those of the epoch that forecast them best.
    """

    network_: _Chance
    means_: Tensor
    sds_: Tensor
    history_: list[dict[str, float]]

    def __init__(
        self,
        channels: Sequence[int] = (16, 32),
        blocks: int = 1,
        epochs: int = 30,
        batch_size: int = 16,
        learning_rate: float = 2e-3,
        device: str = "auto",
        seed: int = 0,
    ) -> None:
        self.channels = channels
        self.blocks = blocks
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.device = device
        self.seed = seed

    def _learn(self, fires: Sequence[FireSeries]) -> None:
        inputs = [_inputs(fire) for fire in fires]
        flat = torch.cat([maps.movedim(1, 0).flatten(1) for maps in inputs], dim=1)
        self.means_ = flat.nanmean(1)
        self.means_[[EAST, NORTH]] = 0.0  # no direction is special
        self.sds_ = (flat - self.means_[:, None]).square().nanmean(1).sqrt().clamp(min=1e-6)
        self.sds_[[EAST, NORTH]] = self.sds_[[EAST, NORTH]].mean()
        with seeded(self.seed):
            self.network_ = _Chance(len(self.means_), self.channels, self.blocks, self.rate_)
        side = min(min(maps.shape[-2:]) for maps in inputs) // self.network_.unet.factor * self.network_.unet.factor
        if not side:
            raise ValueError(f"the smallest fire is under {self.network_.unet.factor} pixels wide: leave it out")
        x = torch.cat([_middle(self._scaled(maps), side) for maps in inputs])
        y = torch.cat([_middle(torch.from_numpy(fire.masks[1:]).float(), side) for fire in fires])
        recipe = Recipe(
            self.epochs, self.batch_size, self.learning_rate, schedule="cosine", average=0.99, clip_norm=1.0
        )
        with threads_for(0):
            result = train(
                self.network_,
                self.network_.loss,
                (x, y),
                recipe,
                seed=self.seed,
                draw=_symmetries,
                device=self.device,
                label="FireUNet",
            )
        self.network_.eval()
        self.history_ = result.history

    @torch.no_grad()
    def _predict(self, fire: FireSeries) -> np.ndarray:
        x = self._scaled(_inputs(fire))
        height, width = x.shape[-2:]
        factor = self.network_.unet.factor
        padded = nn.functional.pad(x, (0, -width % factor, 0, -height % factor), mode="replicate")
        device = resolve_device(self.device)
        with threads_for(0):
            chance = torch.cat([self.network_(part.to(device)).cpu() for part in padded.split(16)]).sigmoid()
        return chance[:, :height, :width].double().numpy()

    def _scaled(self, maps: Tensor) -> Tensor:
        """Missing numbers become the mean."""
        return ((maps - self.means_[:, None, None]) / self.sds_[:, None, None]).nan_to_num()


class _Chance(nn.Module):
    """Log odds (n, h, w) of maps (n, k, h, w)."""

    def __init__(self, inputs: int, channels: Sequence[int], blocks: int, rate: float) -> None:
        super().__init__()
        self.unet = UNet(inputs, channels=channels, blocks=blocks)
        self.bias = nn.Parameter(torch.tensor(float(np.log(rate / (1 - rate)))))

    def forward(self, x: Tensor) -> Tensor:
        return self.unet(x, x.new_zeros(len(x)))[:, 0] + self.bias

    def loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        """Cross-entropy (n,), mean over pixels, of maps each turned its own way."""
        x, y, symmetry = batch
        turned = [(turn(x[symmetry == k], k), turn_mask(y[symmetry == k], k)) for k in symmetry.unique().tolist()]
        logits, marks = self(torch.cat([maps for maps, _ in turned])), torch.cat([masks for _, masks in turned])
        return nn.functional.binary_cross_entropy_with_logits(logits, marks, reduction="none").mean((1, 2))


def _symmetries(batch: tuple[Tensor, ...], generator: torch.Generator) -> tuple[Tensor, ...]:
    rows = len(batch[0])
    return (torch.randint(SYMMETRIES, (rows,), generator=generator, device=generator.device).to(batch[0].device),)


def _inputs(fire: FireSeries) -> Tensor:
    """Maps (days - 1, k, h, w), float32: the wind first."""
    masks = fire.masks.astype(np.float32)
    yesterday = np.concatenate([np.zeros_like(masks[:1]), masks[:-2]])
    earlier = np.concatenate([np.zeros_like(masks[:1]), np.maximum.accumulate(masks, axis=0)[:-2]])
    maps = {name: fire.channel(name)[:-1] for name in PLAIN}
    maps["elevation"] = maps["elevation"] - np.nanmean(maps["elevation"], axis=(1, 2), keepdims=True)
    stack = [*wind(fire), masks[:-1], yesterday, earlier, unburnable(fire), *maps.values()]
    return torch.from_numpy(np.stack(stack, axis=1).astype(np.float32))


def _middle(maps: Tensor, side: int) -> Tensor:
    """The square in the middle: fires are in the middle of their maps."""
    top, left = ((size - side) // 2 for size in maps.shape[-2:])
    return maps[..., top : top + side, left : left + side]
