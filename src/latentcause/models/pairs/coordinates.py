"""As many coordinates as there are latents, of observations that have more numbers."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from latentcause.progress import progress

SHORT, LONG = 0.5, 1.5  # frequencies of the decoder's first layer, per sd of a coordinate
JITTER = 0.005  # of coordinates in training, in their sds
CHANGES, UNIT = 2.0, 0.01  # weights beside the error
STRAIGHT, FREE = 1000.0, 0.3  # weight of the length at first and at last
FAINTEST = 0.05  # change of an observation, as a share of the variance of all, that others are measured by
NEIGHBOURS, POOL = 4, 20_000
ROWS = 2000  # whose neighbours are looked for at once


class Coordinates(nn.Module):
    """An autoencoder: coordinates u (n, m) of standardised observations v (n, r), r > m, and v as a function of u.

    Its loss for a pair, over the principal directions of v in the square root of their sds, is

        |v^ - v|^2 + |v^~ - v~|^2  +  2 |(v^~ - v^) - (v~ - v)|^2 / |v~ - v|^2  +  weight * sum_k mean (u'_k - u_k)^2 / var u_k.

    The second term gives every intervention the same say, also one that moves few pixels. In the last one u' are coordinates of a
    near neighbour of v: a curve that winds through the space of codes is long beside its extent, and crosses others there, so that
    codes have to jump. Its weight falls from 1000, where coordinates are all but linear, to .3.

    Parameters
    ----------
    spread : Tensor (r,)
        sds of the directions, in the unit of the observations.
    size : int
        m.
    width, depth : int
        Of the residual networks.
    total : int
        Pairs that the whole training sees.
    """

    scale: Tensor
    weight: Tensor
    mean: Tensor
    whiten: Tensor
    seen: Tensor

    def __init__(self, spread: Tensor, size: int, width: int, depth: int, total: int) -> None:
        super().__init__()
        r = len(spread)
        self.total = total
        root = (spread / spread.sum()).sqrt().float()
        self.register_buffer("scale", root * math.sqrt(r))  # of inputs
        self.register_buffer("weight", root.square())  # of squared errors
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("whiten", torch.eye(size))
        self.register_buffer("seen", torch.zeros((), dtype=torch.float64))
        self.skip = nn.Linear(r, size)
        self.encoder = nn.Sequential(nn.Linear(r, width), *_residual(width, depth), nn.Linear(width, size))
        self.decoder = nn.Sequential(_Waves(size, width), *_residual(width, depth), nn.Linear(width, r))

    def forward(self, v: Tensor) -> Tensor:
        """u (n, m) of v (n, r)."""
        scaled = v * self.scale
        return (self.skip(scaled) + self.encoder(scaled) - self.mean) @ self.whiten

    def decode(self, u: Tensor) -> Tensor:
        """v (n, r) of u (n, m)."""
        return self.decoder(u @ torch.linalg.inv(self.whiten) + self.mean)

    @torch.no_grad()
    def standardise(self, v: Tensor) -> None:
        """Give coordinates mean 0, unit variances and no correlations over the rows of v, once they are learned."""
        u = self(v).double()
        variances, axes = torch.linalg.eigh(torch.cov(u.T).reshape(u.shape[1], -1))
        self.mean.copy_(u.mean(0))
        self.whiten.copy_(axes / variances.clamp(min=1e-12).sqrt())

    def draw(self, batch: tuple[Tensor, ...], generator: torch.Generator) -> tuple[Tensor, ...]:
        """Jitter. A batch is counted here, where it is whole."""
        self.seen += len(batch[0])
        return (torch.randn((2 * len(batch[0]), self.skip.out_features), generator=generator, device=batch[0].device),)

    def loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        """The loss (n,) of batches (v, v~, a neighbour of v, one of v~, jitter)."""
        v, after, near, near_after, jitter = batch
        n, both = len(v), torch.cat([v, after])
        u, beside = self(torch.cat([both, near, near_after])).chunk(2)
        variance = u.var(0).clamp(min=1e-8)
        found = self.decode(u + JITTER * variance.detach().sqrt() * jitter)
        error = ((found - both).square() @ self.weight).reshape(2, n).sum(0)
        change, wrong = ((part[n:] - part[:n]).square() @ self.weight for part in (both, found - both))
        length = ((u - beside).square() / variance).sum(1).reshape(2, n).mean(0)
        straight = STRAIGHT * (FREE / STRAIGHT) ** min(1.0, float(self.seen) / self.total)
        unit = variance.log().square().sum()
        return error / 2 + CHANGES * wrong / (change + FAINTEST) + straight * length + UNIT * unit


@torch.no_grad()
def neighbours(v: Tensor, spread: Tensor) -> Tensor:
    """One of the nearest others (n, r) of each row of v, in the metric of `Coordinates`, alternating between the nearest four."""
    scaled = v * (spread / spread.sum()).sqrt().float()
    pool = scaled[:: max(1, len(v) // POOL)]
    rows = torch.arange(len(v))[:: max(1, len(v) // POOL)]
    squares, found = pool.square().sum(1), []
    with progress("neighbours", len(v), "rows") as report:
        for start in range(0, len(v), ROWS):
            part = scaled[start : start + ROWS]
            nearest = (squares - 2 * part @ pool.T).topk(min(NEIGHBOURS + 1, len(pool)), dim=1, largest=False).indices
            turn = 1 + torch.arange(start, start + len(part)) % (nearest.shape[1] - 1)
            found.append(rows[nearest[torch.arange(len(part)), turn]])
            report(start + len(part), start + len(part))
    return v[torch.cat(found)]


class _Waves(nn.Module):
    """sin(W u + b), frequencies from low to high: a bright line that moves is no smooth function of where it is."""

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.layer = nn.Linear(size, width)
        steps = torch.exp(torch.linspace(math.log(SHORT), math.log(LONG), width))
        with torch.no_grad():
            self.layer.weight.normal_().mul_(steps[:, None])
            self.layer.bias.uniform_(-math.pi, math.pi)

    def forward(self, u: Tensor) -> Tensor:
        return torch.sin(self.layer(u))


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.first, self.second = nn.LayerNorm(width), nn.Linear(width, width), nn.Linear(width, width)
        with torch.no_grad():
            self.second.weight.mul_(0.1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(nn.functional.silu(self.first(self.norm(x))))


def _residual(width: int, depth: int) -> list[nn.Module]:
    return [*(_Residual(width) for _ in range(depth)), nn.LayerNorm(width)]
