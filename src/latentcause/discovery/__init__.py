"""Causal discovery: graphs from independences, from scores, and from interventions."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from latentcause.discovery.acyclic_weights import AcyclicWeights, acyclic_weights
from latentcause.discovery.cpdag import CPDAG, Separation
from latentcause.discovery.fci import fci
from latentcause.discovery.ges import ges
from latentcause.discovery.independence import (
    ChiSquared,
    DSeparation,
    FisherZ,
    GeneralisedCovariance,
    GSquared,
    IndependenceTest,
    KernelIndependence,
    MixedRegression,
)
from latentcause.discovery.knowledge import BackgroundKnowledge
from latentcause.discovery.pag import PAG
from latentcause.discovery.pc import pc

if TYPE_CHECKING:
    from latentcause.discovery.interventional import DomainsResult, from_domains, interventional_cpdag
    from latentcause.discovery.pairs import PairsResult, from_pairs

__all__ = [
    "CPDAG",
    "PAG",
    "AcyclicWeights",
    "BackgroundKnowledge",
    "ChiSquared",
    "DSeparation",
    "DomainsResult",
    "FisherZ",
    "GSquared",
    "GeneralisedCovariance",
    "IndependenceTest",
    "KernelIndependence",
    "MixedRegression",
    "PairsResult",
    "Separation",
    "acyclic_weights",
    "fci",
    "from_domains",
    "from_pairs",
    "ges",
    "interventional_cpdag",
    "pc",
]

# These load torch, so they are imported when they are first used (PEP 562).
_MODULE_OF = {
    "DomainsResult": "interventional",
    "PairsResult": "pairs",
    "from_domains": "interventional",
    "from_pairs": "pairs",
    "interventional_cpdag": "interventional",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'latentcause.discovery' has no attribute {name!r}")
    value = getattr(import_module(f"latentcause.discovery.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
