"""Hidden fire fronts of consecutive days as linked fields, for `latentcause.SVGDM`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from latentcause.data.gridded_observations import GriddedObservations
from latentcause.datasets.wildfires.sensor import FOOTPRINT
from latentcause.datasets.wildfires.simulator import SimulatedFire
from latentcause.datasets.wildfires.symmetry import SYMMETRIES, turn
from latentcause.graph import CausalGraph
from latentcause.observation import BernoulliError, GaussianError, Observation, block_mean

DRIVE = ("east", "north", "potential")
FRONTS = ("yesterday", "today", "tomorrow")
FRONT_GRAPH = CausalGraph.from_edges(
    [
        ("yesterday", "today"),
        ("today", "tomorrow"),
        ("yesterday", "tomorrow"),
        *((cause, day) for cause in DRIVE for day in ("today", "tomorrow")),
    ],
    nodes=(*DRIVE, *FRONTS),
)
"""The push and potential of today's `Drive`, and the fronts: 1 where it burns, -1 elsewhere. What burned yesterday does not burn
again, so that day reaches tomorrow too; today's weather stands in for yesterday's, which it resembles."""

LEAST_POTENTIAL = -4.0
"""Below which nothing burns in practice: a tail to barren ground is of no use to a network."""

DRIVE_CELLS, KNOWN_TO = 3, 0.3
"""Pixels along a side of the cells whose means tell the drive, and what these are taken to err by, as a share of its standard
deviation. It is known, and smooth; but many exact values of a smooth field are more than the solver of the pull can bear."""

MULTIPLE = DRIVE_CELLS * FOOTPRINT
"""Pixels of which a window's side is a multiple."""

FALSE_ALARMS = 1e-3
"""Chance of a mark where nothing burns, so that log odds are finite."""


@dataclass(frozen=True, eq=False)
class FrontWindow:
    """A square of a fire's maps around what was detected on a day.

    Attributes
    ----------
    fire : SimulatedFire
    day : int
        Today; there is a day before and one after.
    top, left, side : int
        In pixels; even.
    """

    fire: SimulatedFire
    day: int
    top: int
    left: int
    side: int

    def cut(self, maps: np.ndarray) -> np.ndarray:
        """The window's part of maps (..., h, w)."""
        return maps[..., self.top : self.top + self.side, self.left : self.left + self.side]

    def fields(self) -> Tensor:
        """The true fields (6, side, side) of the ``FRONT_GRAPH``, float64."""
        drive = self.fire.spread.drive(self.fire.series.values[self.day])
        potential = np.maximum(drive.potential, LEAST_POTENTIAL)
        fronts = np.where(self.fire.front[self.day - 1 : self.day + 2], 1.0, -1.0)
        return torch.from_numpy(self.cut(np.stack([drive.east, drive.north, potential, *fronts])))

    def observations(self, spreads: Tensor) -> GriddedObservations:
        """The drive in cells, and what the sensor marked yesterday and today; under clouds it says nothing.

        A field is 1 where it burns and -1 elsewhere, and a footprint sees its mean. A mark is a `BernoulliError` with the
        sensor's chance of seeing one burning pixel. No mark says little where little burns, and its `BernoulliError` would have a
        site so wide that the solver of the pull can't bear it beside the others; in its place is the `GaussianError` that weighs
        none and one burning pixel against each other in the ratio 1 to 1 - chance.

        Parameters
        ----------
        spreads : Tensor (6,)
            Standard deviations of the fields, for the errors of the drive.
        """
        shape = (self.side, self.side)
        cells = block_mean(shape, DRIVE_CELLS)
        known = dict(zip(DRIVE, self.fields()[: len(DRIVE)], strict=True))
        seen = {
            name: [Observation(cells(field), cells, GaussianError(KNOWN_TO * float(sd)))]
            for (name, field), sd in zip(known.items(), spreads, strict=False)
        }
        seen |= {"yesterday": self._seen(self.day - 1), "today": self._seen(self.day)}
        return GriddedObservations(FRONT_GRAPH, shape, {name: found for name, found in seen.items() if found})

    def _seen(self, day: int) -> list[Observation]:
        """Marks, and clear footprints without one, where there are any."""
        fire, footprint = self.fire, self.fire.footprints[day]
        operator = block_mean((self.side, self.side), footprint)
        chance = fire.sensor.near if footprint == 1 else fire.sensor.far
        marked, hidden = (
            self.cut(maps[day])[::footprint, ::footprint].ravel() for maps in (fire.series.masks, fire.cloud)
        )
        found, clear = [], ~marked & ~hidden
        one = 2 / footprint**2  # by how much one burning pixel raises what a footprint sees, from -1
        if marked.any():
            slope = (_log_odds(chance) - _log_odds(FALSE_ALARMS)) / one
            marks = BernoulliError(slope, _log_odds(FALSE_ALARMS) + slope)
            found.append(Observation(np.ones(marked.sum()), operator.rows(marked), marks, "marks"))
        if clear.any():
            # For footprints of several pixels the centre lies lower, which makes the logarithm nearly linear in their number.
            centre = -1.0 if footprint == 1 else -3.0
            variance = ((-1 + one - centre) ** 2 - (-1 - centre) ** 2) / (-2 * np.log1p(-chance))
            blanks = GaussianError(float(np.sqrt(variance)))
            found.append(Observation(np.full(clear.sum(), centre), operator.rows(clear), blanks, "no marks"))
        return found


def front_windows(fire: SimulatedFire, side: int = 24) -> Iterator[FrontWindow]:
    """A window for each day between two others on which something is marked, or was the day before.

    Raises
    ------
    ValueError
        For a side that is no multiple of 6, or larger than the maps.
    """
    masks = fire.series.masks
    if side < MULTIPLE or side % MULTIPLE or side > min(masks.shape[1:]):
        raise ValueError(
            f"windows of {side} pixels in maps of {masks.shape[1]} x {masks.shape[2]}: give a multiple of {MULTIPLE} within"
        )
    for day in range(1, len(masks) - 1):
        marked = masks[day] if masks[day].any() else masks[day - 1]
        if marked.any():
            middle = np.argwhere(marked).mean(0)
            corner = np.clip(np.round((middle - side / 2) / FOOTPRINT) * FOOTPRINT, 0, np.array(marked.shape) - side)
            yield FrontWindow(fire, day, int(corner[0]), int(corner[1]), side)


def front_draws(fires: Sequence[SimulatedFire], side: int = 24, *, seed: int = 0) -> Tensor:
    """The true fields (n, 6, side, side) of all windows of these fires, each turned or mirrored at random: draws of the prior."""
    z = torch.stack([window.fields() for fire in fires for window in front_windows(fire, side)])
    ways = torch.randint(SYMMETRIES, (len(z),), generator=torch.Generator().manual_seed(seed))
    return torch.cat([turn(z[ways == k], k) for k in range(SYMMETRIES)])


def _log_odds(p: float) -> float:
    return float(np.log(p / (1 - p)))
