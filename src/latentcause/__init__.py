"""Recover the latent causes behind observed data with score-based models, with error bars and do(...) queries."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from latentcause import datasets, discovery, fields, metrics, observation, plots, posteriors
    from latentcause.data import InterventionPairs, LabelledImages, MultiDomainData
    from latentcause.data.gridded_observations import GriddedObservations
    from latentcause.discovery.cpdag import CPDAG
    from latentcause.discovery.pag import PAG
    from latentcause.graph import CausalGraph
    from latentcause.io import load, save
    from latentcause.models.causal_diffae import CausalDiffAE
    from latentcause.models.causes_of_change import CausesOfChange
    from latentcause.models.dcrl import DCRL
    from latentcause.models.f_modeling import FModeling
    from latentcause.models.g_modeling import GModeling
    from latentcause.models.linear_pairs import LinearPairs
    from latentcause.models.noisy_linear_pairs import NoisyLinearPairs
    from latentcause.models.svgdm import SVGDM
    from latentcause.scm import StructuralCausalModel

__version__ = "0.1.0.dev0"

__all__ = [
    "CPDAG",
    "DCRL",
    "PAG",
    "SVGDM",
    "CausalDiffAE",
    "CausalGraph",
    "CausesOfChange",
    "FModeling",
    "GModeling",
    "GriddedObservations",
    "InterventionPairs",
    "LabelledImages",
    "LinearPairs",
    "MultiDomainData",
    "NoisyLinearPairs",
    "StructuralCausalModel",
    "datasets",
    "discovery",
    "fields",
    "load",
    "metrics",
    "observation",
    "plots",
    "posteriors",
    "save",
]

# Names are imported when they are first used (PEP 562): torch, scipy and matplotlib take seconds to load.
_MODULE_OF = {
    "CPDAG": "latentcause.discovery.cpdag",
    "CausalDiffAE": "latentcause.models.causal_diffae",
    "CausalGraph": "latentcause.graph",
    "CausesOfChange": "latentcause.models.causes_of_change",
    "DCRL": "latentcause.models.dcrl",
    "FModeling": "latentcause.models.f_modeling",
    "GModeling": "latentcause.models.g_modeling",
    "GriddedObservations": "latentcause.data.gridded_observations",
    "InterventionPairs": "latentcause.data",
    "LabelledImages": "latentcause.data",
    "LinearPairs": "latentcause.models.linear_pairs",
    "MultiDomainData": "latentcause.data",
    "NoisyLinearPairs": "latentcause.models.noisy_linear_pairs",
    "PAG": "latentcause.discovery.pag",
    "SVGDM": "latentcause.models.svgdm",
    "StructuralCausalModel": "latentcause.scm",
    "load": "latentcause.io",
    "save": "latentcause.io",
}


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        value = getattr(import_module(_MODULE_OF[name]), name)
    elif name in __all__:
        value = import_module(f"latentcause.{name}")
    else:
        raise AttributeError(f"module 'latentcause' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
