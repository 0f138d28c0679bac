"""Kernels: Gaussian noise fields whose pixels are correlated by distance, on grids of one or two dimensions."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache

import torch
from scipy import special
from torch import Tensor

from latentcause.fields.circulant import draw_stationary, lag_distances

MOST_DENSE = 8192
"""Rows up to which dense matrices are made: 537 MB at the most."""

_FACTORED = 1024  # pixels up to which draws come from the root of the dense matrix; above, from circulant embedding


class Kernel(ABC):
    """A Gaussian field e with mean 0 and Cov[e(p), e(q)] = variance * correlation(|p - q|), distances in pixels.

    ``shape`` is that of one field everywhere: (n,) or (h, w). All matrices and draws are float64; pixels are in C order.

    Attributes
    ----------
    variance : float
        Of every pixel.
    """

    variance: float

    @abstractmethod
    def correlation(self, distance: Tensor) -> Tensor:
        """Correlation at each distance (in pixels, float64), 1 at distance 0."""

    def covariance(self, shape: tuple[int, ...]) -> Tensor:
        """The covariance matrix (pixels, pixels).

        Raises
        ------
        ValueError
            For more than `MOST_DENSE` pixels.
        """
        pixels = math.prod(shape)
        if pixels > MOST_DENSE:
            raise ValueError(
                f"a dense covariance of {pixels} pixels (shape {shape}) is refused: at most {MOST_DENSE} have one; "
                "use draws and spectra, which grow with the pixels only"
            )
        table = self._at_lags(shape).flatten()
        place = torch.zeros(pixels, pixels, dtype=torch.int64)
        for axis, index in zip(shape, torch.unravel_index(torch.arange(pixels), shape), strict=True):
            place = place * axis + (index[:, None] - index).abs()
        return table[place]

    def precision(self, shape: tuple[int, ...]) -> Tensor:
        """The inverse of the covariance matrix (pixels, pixels).

        Raises
        ------
        ValueError
            For more than `MOST_DENSE` pixels, or where the covariance is singular in float64.
        """
        return torch.cholesky_inverse(_cholesky(self, shape))

    def torus_spectrum(self, shape: tuple[int, ...]) -> Tensor:
        """Variance of each coefficient of the orthonormal FFT where the field is periodic; float64 (*shape).

        The periodic field has the covariance sum_m c(h + m * shape): what is given is the spectral density of the kernel
        at the frequencies of the grid, so it is never negative, and opposite edges are neighbours.
        """
        folds = [max(1, math.ceil(self._reach() / n)) for n in shape]
        lags = lag_distances([torch.arange(-f * n, f * n) for f, n in zip(folds, shape, strict=True)])
        table = self.variance * self.correlation(lags)
        for axis, (fold, n) in enumerate(zip(folds, shape, strict=True)):
            table = table.unflatten(axis, (2 * fold, n)).sum(axis)
        return torch.fft.fftn(table).real.clamp(min=0)

    def reflected_spectrum(self, shape: tuple[int, ...]) -> Tensor:
        """Variance of each coefficient of the orthonormal cosine transform (DCT-II) of the field; float64 (*shape).

        Exact, by q_k' C q_k = sum_h c(h) r_k(h) per axis, with r_k(h) the autocorrelation of the k-th cosine. The matrix that
        is diagonal in the cosines with these variances is the one nearest the covariance in Frobenius norm.
        """
        table = self._at_lags(shape)
        for axis, n in enumerate(shape):
            table = torch.tensordot(_cosine_autocorrelation(n), table, ([1], [axis])).movedim(0, axis)
        return table.clamp(min=0)

    def sample(self, n: int, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """n draws (n, *shape), exact: by a root of the covariance, or above 1024 pixels by circulant embedding.

        Raises
        ------
        ValueError
            If the length is so long for a large raster that no embedding is a covariance.
        """
        if math.prod(shape) <= _FACTORED:
            return (_normal((n, math.prod(shape)), generator) @ _root(self, shape).to(generator.device)).reshape(
                n, *shape
            )
        return draw_stationary(self, n, shape, generator)

    def log_density(self, values: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Log density in nats of each field: (..., *shape) -> (...), in float64 inside; differentiable.

        Raises
        ------
        ValueError
            For more than `MOST_DENSE` pixels, or where the covariance is singular in float64.
        """
        factor = _cholesky(self, shape).to(values.device)
        rows = values.double().reshape(-1, len(factor))
        white = torch.linalg.solve_triangular(factor, rows.mT, upper=False)
        constant = factor.diagonal().log().sum() + 0.5 * len(factor) * math.log(2 * math.pi)
        density = -0.5 * white.square().sum(0) - constant
        return density.reshape(values.shape[: values.ndim - len(shape)]).to(values.dtype)

    def _at_lags(self, shape: tuple[int, ...]) -> Tensor:
        """Covariance at lags 0, 1, ... of every axis: (*shape)."""
        return self.variance * self.correlation(lag_distances([torch.arange(n) for n in shape]))

    def _reach(self) -> float:
        """A distance beyond which the correlation is below 1e-12."""
        reach = 1.0
        while self.correlation(torch.tensor([reach], dtype=torch.float64)).item() > 1e-12:
            reach *= 1.5
        return reach


@dataclass(frozen=True)
class Matern(Kernel):
    """2^(1-s) / Gamma(s) x^s K_s(x) with x = sqrt(2 s) distance / length and smoothness s (Rasmussen and Williams 2006, Eq. 4.14).

    Smoothness 1/2 is exp(-x), 3/2 is (1 + x) exp(-x), 5/2 is (1 + x + x^2 / 3) exp(-x).

    Parameters
    ----------
    length : float
        In pixels.
    variance : float
    smoothness : float
        Up to 20; draws have derivatives of any order below it.

    Raises
    ------
    ValueError
        If any of the three is not positive and finite, or the smoothness is above 20.
    """

    length: float
    variance: float = 1.0
    smoothness: float = 1.5

    def __post_init__(self) -> None:
        _check_positive(self, "length", "variance", "smoothness")
        if self.smoothness > 20:
            raise ValueError(
                f"smoothness={self.smoothness} of a Matern kernel: give at most 20, or a SquaredExponential"
            )

    def correlation(self, distance: Tensor) -> Tensor:
        """The formula of the class."""
        x = math.sqrt(2 * self.smoothness) * distance / self.length
        if self.smoothness in (0.5, 1.5, 2.5):
            polynomial = {0.5: torch.ones_like(x), 1.5: 1 + x, 2.5: 1 + x + x.square() / 3}
            return polynomial[self.smoothness] * torch.exp(-x)
        scaled = torch.from_numpy(special.kve(self.smoothness, x.clamp(min=1e-300).numpy()))
        logarithm = (
            (1 - self.smoothness) * math.log(2)
            - math.lgamma(self.smoothness)
            + self.smoothness * x.log()
            + scaled.log()
            - x
        )
        return torch.where(x > 1e-12, logarithm.exp(), 1.0)


@dataclass(frozen=True)
class SquaredExponential(Kernel):
    """(1 - nugget) exp(-distance^2 / (2 length^2)), and 1 at distance 0.

    Without a nugget its matrices are singular in float64 already at a length of a few pixels.

    Parameters
    ----------
    length : float
        In pixels.
    variance : float
    nugget : float
        Share of the variance, from 0 to below 1, that is white.

    Raises
    ------
    ValueError
        If length or variance is not positive and finite, or the nugget is not in [0, 1).
    """

    length: float
    variance: float = 1.0
    nugget: float = 1e-6

    def __post_init__(self) -> None:
        _check_positive(self, "length", "variance")
        if not 0 <= self.nugget < 1:
            raise ValueError(f"nugget={self.nugget} of a SquaredExponential kernel: give a share from 0 to below 1")

    def correlation(self, distance: Tensor) -> Tensor:
        """The formula of the class."""
        smooth = (1 - self.nugget) * torch.exp(-0.5 * (distance / self.length).square())
        return torch.where(distance == 0, 1.0, smooth)


@dataclass(frozen=True)
class White(Kernel):
    """Independent pixels: N(0, variance) each. The kernel of vectors of independent sites.

    Raises
    ------
    ValueError
        If the variance is not positive and finite.
    """

    variance: float = 1.0

    def __post_init__(self) -> None:
        _check_positive(self, "variance")

    def correlation(self, distance: Tensor) -> Tensor:
        """1 at distance 0, else 0."""
        return (distance == 0).to(distance)

    def sample(self, n: int, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """n draws (n, *shape)."""
        return math.sqrt(self.variance) * _normal((n, *shape), generator)

    def log_density(self, values: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Log density in nats of each field: (..., *shape) -> (...), for any number of pixels."""
        pixels = values.square() / self.variance + math.log(2 * math.pi * self.variance)
        return -0.5 * pixels.flatten(values.ndim - len(shape)).sum(-1)


def _check_positive(kernel: Kernel, *names: str) -> None:
    for name in names:
        if not 0 < getattr(kernel, name) < math.inf:
            raise ValueError(
                f"{name}={getattr(kernel, name)} of a {type(kernel).__name__} kernel: give a positive finite number"
            )


def _normal(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64, device=generator.device)


def _cosine_autocorrelation(n: int) -> Tensor:
    """sum_x q_k(x) q_k(x + h), summed over h and -h, for the orthonormal cosines q_k: [k, h], (n, n).

    For k > 0 it is ((n - h) cos(a h) - sin(a h) / sin(a)) / n with a = pi k / n, by summing the cosines of x.
    """
    h = torch.arange(n, dtype=torch.float64)
    a = math.pi / n * torch.arange(1, n, dtype=torch.float64)[:, None]
    rest = (n - h) * torch.cos(a * h) - torch.sin(a * h) / torch.sin(a)
    return torch.cat([(n - h)[None], rest]) / n * torch.where(h == 0, 1, 2)


@lru_cache(maxsize=16)
def _root(kernel: Kernel, shape: tuple[int, ...]) -> Tensor:
    """The symmetric root of the covariance; a covariance that is singular in float64 has one too."""
    values, vectors = torch.linalg.eigh(kernel.covariance(shape))
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.mT


@lru_cache(maxsize=4)
def _cholesky(kernel: Kernel, shape: tuple[int, ...]) -> Tensor:
    factor, failed = torch.linalg.cholesky_ex(kernel.covariance(shape))
    if failed:
        raise ValueError(
            f"the covariance of {kernel} on shape {shape} is singular in float64, so there is no density: "
            "give a shorter length, a smaller smoothness or a larger nugget"
        )
    return factor
