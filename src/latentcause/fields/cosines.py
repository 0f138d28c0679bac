"""The orthonormal cosine transform (DCT-II) in torch, by FFT: differentiable, on any device."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def to_cosines(x: Tensor, axes: int) -> Tensor:
    """Coefficients of x in the orthonormal cosines of its last ``axes`` axes; float32 or float64, the shape of x.

    q_k(p) = sqrt(2 / n) cos(pi k (p + 1/2) / n), and q_0 = 1 / sqrt(n): the Fourier series of x mirrored at its edges.
    One FFT of n per axis (Makhoul 1980).
    """
    for axis in range(x.ndim - axes, x.ndim):
        x = _forward(x.movedim(axis, -1)).movedim(-1, axis)
    return x


def from_cosines(coefficients: Tensor, axes: int) -> Tensor:
    """The inverse of `to_cosines`, which is also its transpose."""
    for axis in range(coefficients.ndim - axes, coefficients.ndim):
        coefficients = _backward(coefficients.movedim(axis, -1)).movedim(-1, axis)
    return coefficients


def _forward(x: Tensor) -> Tensor:
    n = x.shape[-1]
    folded = torch.cat([x[..., ::2], x[..., 1::2].flip(-1)], -1)
    turned = torch.fft.rfft(folded) * _turns(n, x).conj()
    return torch.cat([turned.real, -turned.imag[..., 1 : (n + 1) // 2].flip(-1)], -1) * _scales(n, x)


def _backward(coefficients: Tensor) -> Tensor:
    n = coefficients.shape[-1]
    raw = coefficients / _scales(n, coefficients)
    real = raw[..., : n // 2 + 1]
    imaginary = torch.cat([torch.zeros_like(raw[..., :1]), -raw[..., (n + 1) // 2 :].flip(-1)], -1)[..., : n // 2 + 1]
    folded = torch.fft.irfft(torch.complex(real, imaginary) * _turns(n, raw), n=n)
    x = torch.empty_like(folded)
    x[..., ::2], x[..., 1::2] = folded[..., : (n + 1) // 2], folded[..., (n + 1) // 2 :].flip(-1)
    return x


def _turns(n: int, like: Tensor) -> Tensor:
    """exp(i pi k / (2 n)) for k up to n / 2."""
    angles = torch.arange(n // 2 + 1, device=like.device, dtype=like.dtype) * (math.pi / (2 * n))
    return torch.polar(torch.ones_like(angles), angles)


def _scales(n: int, like: Tensor) -> Tensor:
    """Sqrt(2 / n), and sqrt(1 / n) first."""
    scales = like.new_full((n,), math.sqrt(2 / n))
    scales[0] = math.sqrt(1 / n)
    return scales
