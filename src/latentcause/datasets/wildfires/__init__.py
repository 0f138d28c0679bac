"""Wildfires: files of the WildfireSpreadTS layout, and a simulator whose true fronts are known."""

from latentcause.datasets.wildfires.filtering import FilteredFronts, filtered_fronts
from latentcause.datasets.wildfires.sensor import FireSensor
from latentcause.datasets.wildfires.series import CHANNELS, FireSeries, read_fire, read_fires, write_fire
from latentcause.datasets.wildfires.simulator import SimulatedFire, simulate_wildfires
from latentcause.datasets.wildfires.spread import Drive, SpreadModel, ignitions

__all__ = [
    "CHANNELS",
    "Drive",
    "FilteredFronts",
    "FireSensor",
    "FireSeries",
    "SimulatedFire",
    "SpreadModel",
    "filtered_fronts",
    "ignitions",
    "read_fire",
    "read_fires",
    "simulate_wildfires",
    "write_fire",
]
