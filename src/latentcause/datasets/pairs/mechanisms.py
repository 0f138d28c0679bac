"""Random mechanisms of one node: z = location(parents) + scale(parents) u, where u has mean 0 and variance 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

PairMechanisms = Literal["linear", "tanh", "mlp", "location-scale"]

HIDDEN = 16  # units of the random networks
STEEPNESS = 1.5  # standard deviation of what enters a tanh, for parents of variance 1
SCALE_RANGE = 0.7  # the logarithm of a scale lies between minus and plus this


class Curve(Protocol):
    """A function from parents (n, k) to numbers (n,)."""

    def __call__(self, parents: np.ndarray) -> np.ndarray:
        """Its values (n,) at parents (n, k)."""


@dataclass(frozen=True, eq=False)
class PairMechanism:
    """z = location(parents) + exp(0.7 tanh(spread(parents))) u; what is left out counts as 0."""

    location: Curve | None = None
    spread: Curve | None = None

    def value(self, parents: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """z (n,) of parents (n, k) and noise (n,)."""
        return self.explained(parents) + self._scale(parents) * noise

    def noise(self, parents: np.ndarray, value: np.ndarray) -> np.ndarray:
        """The noise (n,) that gives z (n,) for parents (n, k)."""
        return (value - self.explained(parents)) / self._scale(parents)

    def explained(self, parents: np.ndarray) -> np.ndarray:
        """The location (n,): what z is where the noise is 0."""
        return np.zeros(len(parents)) if self.location is None else self.location(parents)

    def _scale(self, parents: np.ndarray) -> np.ndarray | float:
        return 1.0 if self.spread is None else np.exp(SCALE_RANGE * np.tanh(self.spread(parents)))


@dataclass(frozen=True, eq=False)
class Linear:
    """w . parents."""

    weights: np.ndarray

    def __call__(self, parents: np.ndarray) -> np.ndarray:
        """Its values (n,) at parents (n, k)."""
        return np.einsum("nk,k->n", parents, self.weights)


@dataclass(frozen=True, eq=False)
class TanhNetwork:
    """offset + out . tanh(inner parents + bias), with inner (m, k), bias (m,) and out (m,)."""

    inner: np.ndarray
    bias: np.ndarray
    out: np.ndarray
    offset: float = 0.0

    def __call__(self, parents: np.ndarray) -> np.ndarray:
        """Its values (n,) at parents (n, k)."""
        return self.offset + np.tanh(parents @ self.inner.T + self.bias) @ self.out

    def standardised(self, parents: np.ndarray) -> TanhNetwork:
        """The network that has mean 0 and variance 1 over these parents (n, k)."""
        values = self(parents)
        spread = float(values.std())
        offset = (self.offset - float(values.mean())) / spread
        return TanhNetwork(self.inner, self.bias, self.out / spread, offset)


def random_mechanism(kind: PairMechanisms, parents: np.ndarray, rng: np.random.Generator) -> PairMechanism:
    """A mechanism for a node with these parents (n, k), of which the values of a sample are given to standardise by.

    ``linear``: w . parents with w = sign(a) (1 + 0.3 b) for standard normal a and b, as Brehmer et al. have it. ``tanh``: the
    sum of w_k tanh(1.5 z_k / sd_k + c_k). ``mlp``: a random network of 16 tanh units on all parents together.
    ``location-scale``: the same, and another for the scale, which lies between 0.5 and 2. Nonlinear locations have mean 0
    and variance 1 over the sample, so that noise of variance 1 adds as much as all parents together.
    """
    k = parents.shape[1]
    if not k:
        return PairMechanism()
    weights = np.sign(rng.standard_normal(k)) * (1 + 0.3 * rng.standard_normal(k))
    if kind == "linear":
        return PairMechanism(Linear(weights))
    spread = parents.std(axis=0)
    if kind == "tanh":
        additive = TanhNetwork(np.diag(STEEPNESS / spread), 0.5 * rng.standard_normal((k,)), weights)
        return PairMechanism(additive.standardised(parents))
    location = _network(spread, rng).standardised(parents)
    if kind == "mlp":
        return PairMechanism(location)
    return PairMechanism(location, _network(spread, rng).standardised(parents))


def _network(spread: np.ndarray, rng: np.random.Generator) -> TanhNetwork:
    k = len(spread)
    inner = rng.standard_normal((HIDDEN, k)) * STEEPNESS / np.sqrt(k) / spread
    return TanhNetwork(inner, rng.standard_normal((HIDDEN,)), rng.standard_normal((HIDDEN,)))
