"""Simulators and published data; each name is imported when it is first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from latentcause.datasets.interventional import (
        InterventionalSample,
        InterventionalSystem,
        interventional_system,
        random_dag,
    )
    from latentcause.datasets.random_systems import random_system
    from latentcause.datasets.sachs import SachsCells, SachsPanel, load_sachs

__all__ = [
    "InterventionalSample",
    "InterventionalSystem",
    "SachsCells",
    "SachsPanel",
    "interventional_system",
    "load_sachs",
    "random_dag",
    "random_system",
]

_MODULE_OF = {
    "InterventionalSample": "interventional",
    "InterventionalSystem": "interventional",
    "SachsCells": "sachs",
    "SachsPanel": "sachs",
    "interventional_system": "interventional",
    "load_sachs": "sachs",
    "random_dag": "interventional",
    "random_system": "random_systems",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'latentcause.datasets' has no attribute {name!r}")
    value = getattr(import_module(f"latentcause.datasets.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
