"""Circulant embedding: exact draws of a stationary field on a large grid, at the cost of two FFTs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from scipy.fft import next_fast_len
from torch import Tensor

if TYPE_CHECKING:
    from latentcause.fields.kernels import Kernel

TOLERANCE = 1e-9
"""Largest error, as a share of the variance, of any covariance of the draws."""

_LARGEST_TORUS = 2**25  # cells: 268 MB


def draw_stationary(kernel: Kernel, n: int, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """n draws (n, *shape), float64: white noise on a larger torus, filtered by the root of the torus' spectrum, cut to shape.

    Exact where the wrapped covariance of the torus has no negative eigenvalue; the torus grows until what is negative is
    below `TOLERANCE` (Dietrich and Newsam 1997; Wood and Chan 1994).

    Raises
    ------
    ValueError
        If a torus of 2^25 cells is still too small for the kernel's length.
    """
    root, torus = _embedding(kernel, shape)
    root = root.to(generator.device)
    axes = tuple(range(1, 1 + len(shape)))
    corner = (slice(None), *[slice(size) for size in shape])
    at_once = max(1, _LARGEST_TORUS // math.prod(torus))
    parts = []
    for start in range(0, n, at_once):
        count = min(at_once, n - start)
        white = torch.randn((count, *torus), generator=generator, dtype=torch.float64, device=generator.device)
        filtered = torch.fft.irfftn(torch.fft.rfftn(white, dim=axes) * root, s=torus, dim=axes)
        parts.append(filtered[corner])
    return torch.cat(parts) if parts else root.new_zeros(0, *shape)


def lag_distances(axes: Sequence[Tensor]) -> Tensor:
    """Euclidean length (float64) of every vector of the grid that ``axes`` span."""
    squares = [axis.double().square() for axis in axes]
    return torch.stack(torch.meshgrid(*squares, indexing="ij")).sum(0).sqrt()


@lru_cache(maxsize=16)
def _embedding(kernel: Kernel, shape: tuple[int, ...]) -> tuple[Tensor, tuple[int, ...]]:
    """Root of the spectrum (in the layout of rfftn) of the smallest torus tried that will do, and the torus."""
    stretch = 2.0
    while True:
        torus = tuple(1 if n == 1 else next_fast_len(math.ceil(stretch * (n - 1)), real=True) for n in shape)
        if math.prod(torus) > _LARGEST_TORUS:
            raise ValueError(
                f"{kernel} is too long for draws on shape {shape}: no torus of up to {_LARGEST_TORUS} cells has a "
                "covariance that agrees with it; give a shorter length"
            )
        lags = lag_distances([torch.minimum(torch.arange(n), n - torch.arange(n)) for n in torus])
        spectrum = torch.fft.rfftn(kernel.variance * kernel.correlation(lags)).real
        if -spectrum.clamp(max=0).sum() <= TOLERANCE * spectrum.sum():
            return spectrum.clamp(min=0).sqrt(), torus
        stretch *= 1.5
