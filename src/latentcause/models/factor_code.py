"""Labels of causal factors as the numbers that networks and mechanisms work with, and back."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import expit
from torch import Tensor

from latentcause.data.variables import Variables

Bounds = tuple[float, float]


@dataclass(frozen=True)
class FactorCode:
    """How each factor is scaled.

    A number becomes (g(value) - centre) / scale with g the identity or, between ``bounds`` (low, high), the logit of its place
    there: a factor that saturates then has a mechanism that does not. A category keeps its code 0..K-1, and is one-hot in what
    a network is told.

    Attributes
    ----------
    names : tuple of str
    bounds : dict from name to (low, high)
    levels : dict from name to levels
    centre, scale : tuple of float
        Per factor; 0 and 1 for categories.
    low, high : tuple of float
        Smallest and largest label seen, in own units.
    """

    names: tuple[str, ...]
    bounds: dict[str, Bounds]
    levels: dict[str, tuple[Hashable, ...]]
    centre: tuple[float, ...]
    scale: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    @classmethod
    def of(cls, labels: Variables, bounds: Mapping[str, Bounds]) -> FactorCode:
        """From the labels of the images to learn from.

        Raises
        ------
        ValueError
            For bounds of an unknown factor or of a category, bounds that are no interval, or labels not strictly inside.
        """
        checked = {name: _checked_bounds(name, ends, labels) for name, ends in bounds.items()}
        first = cls(
            labels.names, checked, labels.levels, (0.0,) * len(labels.names), (1.0,) * len(labels.names), (), ()
        )
        raw = first.scaled(labels.values)
        numeric = np.array([name not in labels.levels for name in labels.names])
        centre, scale = np.where(numeric, raw.mean(0), 0.0), np.where(numeric, raw.std(0), 1.0)
        ends = (tuple(end.tolist()) for end in (labels.values.min(0), labels.values.max(0)))
        return cls(labels.names, checked, labels.levels, tuple(centre.tolist()), tuple(scale.tolist()), *ends)

    @property
    def size(self) -> int:
        """Numbers that a network is told: one for a number, K for a category of K levels."""
        return sum(len(self.levels.get(name, (0,))) for name in self.names)

    def scaled(self, values: np.ndarray) -> np.ndarray:
        """Standard scale (n, f) of labels (n, f) in own units; NaN stays NaN."""
        out = np.array(values, dtype=np.float64)
        for j, name in enumerate(self.names):
            if name in self.bounds:
                low, high = self.bounds[name]
                share = (out[:, j] - low) / (high - low)
                with np.errstate(divide="ignore", invalid="ignore"):
                    out[:, j] = np.log(share / (1 - share))
        return (out - np.array(self.centre)) / np.array(self.scale)

    def unscaled(self, scaled: np.ndarray) -> np.ndarray:
        """Labels (n, f) in own units."""
        out = np.asarray(scaled, dtype=np.float64) * np.array(self.scale) + np.array(self.centre)
        for j, name in enumerate(self.names):
            if name in self.bounds:
                low, high = self.bounds[name]
                out[:, j] = low + (high - low) * expit(out[:, j])
        return out

    def told(self, scaled: Tensor) -> Tensor:
        """What a network is told (n, size) of factors (n, f) on the standard scale: categories one-hot."""
        parts = []
        for j, name in enumerate(self.names):
            if name in self.levels:
                codes = scaled[:, j].round().long()
                parts.append(torch.nn.functional.one_hot(codes, len(self.levels[name])).to(scaled.dtype))
            else:
                parts.append(scaled[:, j : j + 1])
        return torch.cat(parts, dim=1)

    def chosen(self, told: Tensor) -> Tensor:
        """Factors (n, f) on the standard scale from what a network says (n, size): of a category the level with most."""
        parts = told.split([len(self.levels.get(name, (0,))) for name in self.names], dim=1)
        columns = [
            part.argmax(1).to(part.dtype) if name in self.levels else part[:, 0]
            for name, part in zip(self.names, parts, strict=True)
        ]
        return torch.stack(columns, dim=1)


def _checked_bounds(name: str, ends: Bounds, labels: Variables) -> Bounds:
    if name not in labels.names or name in labels.levels:
        what = "a category" if name in labels.levels else "no factor"
        raise ValueError(f"bounds are given for {name!r}, which is {what}: give them for numeric factors")
    low, high = (float(end) for end in ends)
    values = labels.values[:, labels.index(name)]
    if not low < high:
        raise ValueError(f"bounds of {name!r} are {ends}: give (low, high)")
    if values.min() <= low or values.max() >= high:
        raise ValueError(
            f"labels of {name!r} run from {values.min():g} to {values.max():g}, not strictly inside its bounds ({low:g}, "
            f"{high:g}): widen the bounds"
        )
    return low, high
