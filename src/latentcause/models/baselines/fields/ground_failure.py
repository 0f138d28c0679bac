"""The rasters that VBCI was made for: models of ground failure, whose areas are turned into chances, and a damage proxy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from latentcause.data.gridded_observations import GriddedObservations
from latentcause.graph import CausalGraph
from latentcause.observation import BernoulliError, Grid, LogNormalError, Observation

Hazard = Literal["landslide", "liquefaction"]

_CUBIC = (-7.592, 5.237, -3.042, 4.035)  # of landslides: rising log area, with one real root for each
_MOST, _SPREAD, _RATE = 0.4915, 42.40, 9.165  # of liquefaction


def area_of_chance(chance: Any, hazard: Hazard) -> np.ndarray:
    """Share of a pixel's area that fails, of the chance P that anything in it does.

    Landslides: exp(-7.592 + 5.237 P - 3.042 P^2 + 4.035 P^3) (Nowicki Jessee et al., J. Geophys. Res. Earth Surface, 2018).
    Liquefaction: 0.4915 / (1 + 42.40 exp(-9.165 P))^2 (Zhu, Baise and Thompson, Bull. Seismol. Soc. Am., 2017).

    Raises
    ------
    ValueError
        For another hazard, and chances outside [0, 1].
    """
    p = _shares(chance, "chances")
    if hazard == "landslide":
        return np.exp(np.polynomial.polynomial.polyval(p, _CUBIC))
    if hazard == "liquefaction":
        return _MOST / (1 + _SPREAD * np.exp(-_RATE * p)) ** 2
    raise ValueError(f"there is no area of {hazard!r}: choose landslide or liquefaction")


def chance_of_area(area: Any, hazard: Hazard) -> np.ndarray:
    """The chance whose `area_of_chance` this is; 0 and 1 for areas that no chance leads to, as they are too small or too large.

    Raises
    ------
    ValueError
        For another hazard, and areas outside [0, 1].
    """
    share = _shares(area, "areas")
    least, most = area_of_chance([0.0, 1.0], hazard)
    inside = np.clip(share, least, most)
    if hazard == "landslide":
        a, b, c, d = _CUBIC  # the root of t^3 + p t + q, p > 0, with t = P + c / (3 d)
        p = (3 * d * b - c**2) / (3 * d**2)
        q = (2 * c**3 - 9 * d * c * b + 27 * d**2 * (a - np.log(inside))) / (27 * d**3)
        chance = -2 * np.sqrt(p / 3) * np.sinh(np.arcsinh(1.5 * q / p * np.sqrt(3 / p)) / 3) - c / (3 * d)
    else:
        chance = np.log(_SPREAD / (np.sqrt(_MOST / inside) - 1)) / _RATE
    return np.clip(chance, 0.0, 1.0)


@dataclass(frozen=True, eq=False)
class GroundFailure:
    """What VBCI takes, from rasters on one grid.

    Attributes
    ----------
    graph : CausalGraph
        landslide and liquefaction, causes of building_damage, and all three causes of damage_proxy.
    where : dict
        building_damage is possible where there are buildings.
    observations : GriddedObservations
        Areas as chances; of the damage proxy, values of 0 are taken for missing.

    Examples
    --------
    ``VBCI(found.graph, where=found.where).fit(found.observations)``
    """

    graph: CausalGraph
    where: dict[str, np.ndarray]
    observations: GriddedObservations

    @classmethod
    def from_rasters(
        cls, proxy: Any, landslide: Any, liquefaction: Any, buildings: Any, grid: Grid | None = None
    ) -> GroundFailure:
        """From the damage proxy, the two models' areas (shares of a pixel) and the built-over areas: arrays of one shape.

        Raises
        ------
        ValueError
            For arrays of different shapes, and what `chance_of_area` and `GriddedObservations` refuse.
        """
        rasters = {
            name: np.asarray(values, dtype=np.float64)
            for name, values in zip(
                ("proxy", "landslide", "liquefaction", "buildings"),
                (proxy, landslide, liquefaction, buildings),
                strict=True,
            )
        }
        y = rasters["proxy"]
        for name, values in rasters.items():
            if values.shape != y.shape:
                raise ValueError(f"{name} has shape {values.shape}, proxy {y.shape}: bring them to one grid")
        causes = ("landslide", "liquefaction", "building_damage")
        graph = CausalGraph(
            (*causes, "damage_proxy"),
            (*((h, "building_damage") for h in causes[:2]), *((cause, "damage_proxy") for cause in causes)),
        )
        seen = {
            hazard: Observation(chance_of_area(rasters[hazard], hazard), noise=BernoulliError(), name=f"{hazard} area")
            for hazard in ("landslide", "liquefaction")
        }
        seen["damage_proxy"] = Observation(np.where(y == 0, np.nan, y), noise=LogNormalError(1.0))
        return cls(
            graph,
            {"building_damage": rasters["buildings"] > 0},
            GriddedObservations(graph, y.shape if grid is None else grid, seen),
        )


def _shares(values: Any, what: str) -> np.ndarray:
    found = np.asarray(values, dtype=np.float64)
    wrong = ~((found >= 0) & (found <= 1))
    if wrong.any():
        raise ValueError(f"{wrong.sum()} {what} are outside [0, 1] (first: {found[wrong][0]:g})")
    return found
