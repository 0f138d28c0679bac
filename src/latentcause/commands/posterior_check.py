"""Cells that are withheld from a posterior, predicted, and compared with what was measured: a check that needs no truth."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from latentcause.data.gridded_observations import GriddedObservations
from latentcause.metrics import coverage, crps
from latentcause.observation import Observation, Operator

TILE_CELLS, LEAST_TILE, FEWEST = 3, 6, 4
"""Side of a tile in cells, and in pixels at least; how many cells an observation needs to lose one."""

QUANTILES = 200
"""Of the values of the other cells, which are the forecast to beat."""

LEVELS = (0.5, 0.9)


@dataclass(frozen=True, eq=False)
class Withheld:
    """Cells of one observation that were left out.

    Attributes
    ----------
    node : str
    observation : Observation
        Of the cells that were left out.
    others : ndarray
        Values of the cells that were not.
    """

    node: str
    observation: Observation
    others: np.ndarray

    @property
    def label(self) -> str:
        """Node, file and band."""
        return f"{self.node}: {self.observation.name}"


@dataclass(frozen=True, eq=False)
class Predicted:
    """Draws (n, m) of what the m cells that were left out would measure, and what they measured."""

    withheld: Withheld
    draws: np.ndarray

    @property
    def values(self) -> np.ndarray:
        """What was measured (m,)."""
        return np.asarray(self.withheld.observation.values)

    @property
    def row(self) -> list[str]:
        """Of the table: label, cells, coverage of each level, CRPS, and CRPS of the other cells' values as a forecast."""
        others = np.quantile(self.withheld.others, (np.arange(QUANTILES) + 0.5) / QUANTILES)
        forecast = np.repeat(others[:, None], len(self.values), axis=1)
        return [
            self.withheld.label,
            str(len(self.values)),
            *(f"{100 * share:.0f} %" for share in coverage(self.draws, self.values, LEVELS)),
            f"{crps(self.draws, self.values).mean():.3g}",
            f"{crps(forecast, self.values).mean():.3g}",
        ]


HEADER = ["withheld", "cells", *(f"in {100 * level:g} %" for level in LEVELS), "CRPS", "CRPS of the other cells"]


def withhold(observations: GriddedObservations, share: float, seed: int) -> tuple[GriddedObservations, list[Withheld]]:
    """Leave about that share of each observation's cells out, by tiles of several cells so that neighbours do not tell.

    An observation of so few tiles that one of them is more than the share loses single cells, one of fewer than four cells
    none.
    """
    rng = np.random.default_rng(seed)
    kept: dict[str, list[Observation]] = {}
    withheld = []
    for node, observation in observations.per_node:
        out = _chosen(observation.operator, share, rng)
        if out.any():
            left, lost = _some(observation, ~out), _some(observation, out)
            withheld.append(Withheld(node, lost, np.asarray(left.values)))
            observation = left
        kept.setdefault(node, []).append(observation)
    return GriddedObservations(observations.nodes, observations.grid, kept), withheld


def predict(withheld: list[Withheld], fields: dict[str, np.ndarray], seed: int) -> list[Predicted]:
    """Draws of what was left out, given draws (n, *shape) of each node's field: what its cells see, and noise."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for one in withheld:
        operator, noise = one.observation.operator, one.observation.noise
        assert operator is not None  # those of GriddedObservations have one
        seen = operator(torch.as_tensor(fields[one.node]).double())
        found.append(Predicted(one, noise.sample(seen, generator).numpy()))
    return found


# --- inside ----------------------------------------------------------------------------------------------------------


def _chosen(operator: Operator | None, share: float, rng: np.random.Generator) -> np.ndarray:
    """Which cells (m,) to leave out."""
    assert operator is not None
    if operator.size < FEWEST or not share:
        return np.zeros(operator.size, dtype=bool)
    tiles = _tiles(operator)
    if tiles.max() + 1 < 1 / share:
        tiles = np.arange(operator.size)
    wanted = max(1, round(share * operator.size))
    out = np.zeros(operator.size, dtype=bool)
    for tile in rng.permutation(tiles.max() + 1):
        more = out | (tiles == tile)
        if out.sum() < wanted and not more.all():
            out = more
    return out


def _tiles(operator: Operator) -> np.ndarray:
    """The number (m,) of the tile in which the middle of what each cell sees lies."""
    axes = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in operator.shape), indexing="ij")
    weight = operator(torch.ones(operator.shape, dtype=torch.float64))
    middles = (operator(torch.stack(axes)) / weight).numpy()
    side = max(LEAST_TILE, TILE_CELLS * math.sqrt(operator.pixels / operator.size))
    return np.unique((middles // side).astype(np.int64), axis=1, return_inverse=True)[1].ravel()


def _some(observation: Observation, keep: np.ndarray) -> Observation:
    assert observation.operator is not None
    noise, operator = observation.noise.rows(keep), observation.operator.rows(keep)
    return Observation(np.asarray(observation.values)[keep], operator, noise, observation.name)
