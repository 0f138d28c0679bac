"""Random one-to-one maps from causal variables z (n, d) to observations x (n, m)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

PairMixing = Literal["rotation", "mlp", "flow", "linear"]

LAYERS = 3  # of the network
COUPLINGS = 4  # of the flow
HIDDEN = 16  # units of the networks in a coupling
STRETCH = 0.4  # the logarithm of what a coupling stretches by lies between minus and plus this
SLOPE = 0.2  # of the leaky units, far to the left; far to the right it is 1
STEEPNESS = 2.0  # standard deviation of what enters a unit
SPREAD = 20.0  # of the column scales of the linear mixing


class Mixing(Protocol):
    """A map from z (n, d) to x (n, m)."""

    def __call__(self, z: np.ndarray) -> np.ndarray:
        """The observations (n, m) of z (n, d)."""


def random_mixing(kind: PairMixing, observed: int, z: np.ndarray, rng: np.random.Generator) -> Mixing:
    """A mixing of variables of which a sample z (n, d) is given to standardise by, into ``observed`` numbers.

    Where there are more numbers than variables, z is padded with zeros: x fills a plane, or a curved surface.
    """
    d = z.shape[1]
    if kind == "rotation":
        return LinearMixing(_rotation(observed, rng)[:, :d])
    if kind == "linear":
        directions = _well_conditioned(observed, rng)[:, :d]
        directions /= np.linalg.norm(directions, axis=0)
        return LinearMixing(directions * rng.permutation(np.geomspace(1, SPREAD, d)))
    embed = np.eye(observed, d) / np.sqrt(z.var(axis=0).mean())
    return _random_network(embed, z, rng) if kind == "mlp" else _random_flow(embed, rng)


@dataclass(frozen=True, eq=False)
class LinearMixing:
    """x = matrix z, with the matrix (m, d) of full column rank."""

    matrix: np.ndarray

    def __call__(self, z: np.ndarray) -> np.ndarray:
        """The observations (n, m) of z (n, d)."""
        return z @ self.matrix.T


@dataclass(frozen=True, eq=False)
class NetworkMixing:
    """Square layers h -> weights g(h) + shift, where g(h) = 0.2 h + 0.8 log(1 + e^h) is a smooth leaky unit; the first has no g.

    Every layer is one-to-one, as its weights (m, m) are invertible and g rises. After Hyvarinen and Morioka, Unsupervised feature
    extraction by time-contrastive learning and nonlinear ICA, NeurIPS 2016, whose leaky units have a corner.
    """

    embed: np.ndarray
    weights: tuple[np.ndarray, ...]
    shifts: tuple[np.ndarray, ...]

    def __call__(self, z: np.ndarray) -> np.ndarray:
        """The observations (n, m) of z (n, d)."""
        h = z @ self.embed.T
        for layer, (weights, shift) in enumerate(zip(self.weights, self.shifts, strict=True)):
            h = (_leaky(h) if layer else h) @ weights.T + shift
        return h


def _random_network(embed: np.ndarray, z: np.ndarray, rng: np.random.Generator) -> NetworkMixing:
    """Weights near rotations; units get inputs of the same scale, so that all of them bend what passes."""
    h = z @ embed.T
    weights, shifts = [], []
    for layer in range(LAYERS):
        h = _leaky(h) if layer else h
        mixed = _well_conditioned(len(embed), rng)
        out = h @ mixed.T
        scale = (STEEPNESS if layer < LAYERS - 1 else 1.0) / out.std()
        shift = -scale * out.mean(axis=0)
        weights.append(scale * mixed)
        shifts.append(shift)
        h = scale * out + shift
    return NetworkMixing(embed, tuple(weights), tuple(shifts))


@dataclass(frozen=True, eq=False)
class FlowMixing:
    """Affine couplings with rotations between them: with h rotated and cut in two halves (a, b), h -> (a, b exp(s(a)) + t(a)).

    Each is one-to-one whatever s and t are (Dinh, Sohl-Dickstein and Bengio, Density estimation using Real NVP, ICLR 2017).
    Here s and t are random tanh networks, |s| at most 0.4.
    """

    embed: np.ndarray
    rotations: tuple[np.ndarray, ...]
    scales: tuple[TanhNetworks, ...]
    shifts: tuple[TanhNetworks, ...]

    def __call__(self, z: np.ndarray) -> np.ndarray:
        """The observations (n, m) of z (n, d)."""
        h = z @ self.embed.T
        for rotation, scale, shift in zip(self.rotations, self.scales, self.shifts, strict=True):
            h = h @ rotation.T
            a, b = h[:, : len(rotation) // 2], h[:, len(rotation) // 2 :]
            h = np.hstack([a, b * np.exp(STRETCH * np.tanh(scale(a))) + shift(a)])
        return h


@dataclass(frozen=True, eq=False)
class TanhNetworks:
    """out tanh(inner a + bias), with inner (units, k), bias (units,) and out (m, units)."""

    inner: np.ndarray
    bias: np.ndarray
    out: np.ndarray

    def __call__(self, a: np.ndarray) -> np.ndarray:
        """Their values (n, m) at a (n, k)."""
        return np.tanh(a @ self.inner.T + self.bias) @ self.out.T


def _random_flow(embed: np.ndarray, rng: np.random.Generator) -> FlowMixing:
    observed = len(embed)
    a, b = observed // 2, observed - observed // 2

    def networks() -> TanhNetworks:
        inner = rng.standard_normal((HIDDEN, a)) / np.sqrt(a)
        return TanhNetworks(inner, rng.standard_normal(HIDDEN), rng.standard_normal((b, HIDDEN)) / np.sqrt(HIDDEN))

    return FlowMixing(
        embed,
        tuple(_rotation(observed, rng) for _ in range(COUPLINGS)),
        tuple(networks() for _ in range(COUPLINGS)),
        tuple(networks() for _ in range(COUPLINGS)),
    )


def _leaky(h: np.ndarray) -> np.ndarray:
    return SLOPE * h + (1 - SLOPE) * np.logaddexp(0, h)


def _rotation(m: int, rng: np.random.Generator) -> np.ndarray:
    """The matrix exponential of a random skew-symmetric matrix (m, m)."""
    from scipy.linalg import expm

    square = rng.standard_normal((m, m))
    rotation: np.ndarray = expm((square - square.T) / 2)
    return rotation


def _well_conditioned(m: int, rng: np.random.Generator) -> np.ndarray:
    """A random matrix (m, m) with singular values evenly spaced on [0.7, 1.4]."""
    return _rotation(m, rng) * np.linspace(0.7, 1.4, m) @ _rotation(m, rng)
