"""Simulators and published data; each name is imported when it is first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from latentcause.datasets.field_systems import FieldSystem, nonlinear_three, random_field_system, three_fields
    from latentcause.datasets.hazards import hazard_fields, simulate_hazards
    from latentcause.datasets.hokkaido import HokkaidoMaps, load_hokkaido
    from latentcause.datasets.images.digits import digits
    from latentcause.datasets.images.factor_images import FactorImages
    from latentcause.datasets.images.morphomnist import morphomnist
    from latentcause.datasets.images.pendulum import pendulum
    from latentcause.datasets.interventional import (
        InterventionalSample,
        InterventionalSystem,
        interventional_system,
        random_dag,
    )
    from latentcause.datasets.pairs.image_pairs import morphomnist_pairs, pendulum_pairs
    from latentcause.datasets.pairs.simulated_pairs import SimulatedPairs
    from latentcause.datasets.pairs.system import PairSystem, pair_system
    from latentcause.datasets.random_systems import random_system
    from latentcause.datasets.sachs import SachsCells, SachsPanel, load_sachs
    from latentcause.datasets.wildfires.series import FireSeries, read_fire, read_fires, write_fire
    from latentcause.datasets.wildfires.simulator import SimulatedFire, simulate_wildfires

__all__ = [
    "FactorImages",
    "FieldSystem",
    "FireSeries",
    "HokkaidoMaps",
    "InterventionalSample",
    "InterventionalSystem",
    "PairSystem",
    "SachsCells",
    "SachsPanel",
    "SimulatedFire",
    "SimulatedPairs",
    "digits",
    "hazard_fields",
    "interventional_system",
    "load_hokkaido",
    "load_sachs",
    "morphomnist",
    "morphomnist_pairs",
    "nonlinear_three",
    "pair_system",
    "pendulum",
    "pendulum_pairs",
    "random_dag",
    "random_field_system",
    "random_system",
    "read_fire",
    "read_fires",
    "simulate_hazards",
    "simulate_wildfires",
    "three_fields",
    "write_fire",
]

_MODULE_OF = {
    "FactorImages": "images.factor_images",
    "FieldSystem": "field_systems",
    "FireSeries": "wildfires.series",
    "HokkaidoMaps": "hokkaido",
    "InterventionalSample": "interventional",
    "InterventionalSystem": "interventional",
    "PairSystem": "pairs.system",
    "SachsCells": "sachs",
    "SachsPanel": "sachs",
    "SimulatedFire": "wildfires.simulator",
    "SimulatedPairs": "pairs.simulated_pairs",
    "digits": "images.digits",
    "hazard_fields": "hazards",
    "interventional_system": "interventional",
    "load_hokkaido": "hokkaido",
    "load_sachs": "sachs",
    "morphomnist": "images.morphomnist",
    "morphomnist_pairs": "pairs.image_pairs",
    "nonlinear_three": "field_systems",
    "pair_system": "pairs.system",
    "pendulum": "images.pendulum",
    "pendulum_pairs": "pairs.image_pairs",
    "random_dag": "interventional",
    "random_field_system": "field_systems",
    "random_system": "random_systems",
    "read_fire": "wildfires.series",
    "read_fires": "wildfires.series",
    "simulate_hazards": "hazards",
    "simulate_wildfires": "wildfires.simulator",
    "three_fields": "field_systems",
    "write_fire": "wildfires.series",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'latentcause.datasets' has no attribute {name!r}")
    value = getattr(import_module(f"latentcause.datasets.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
