"""Causal discovery: graphs from independences, from scores, and from interventions."""

from latentcause.discovery.cpdag import CPDAG, Separation
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
from latentcause.discovery.pc import pc

__all__ = [
    "CPDAG",
    "BackgroundKnowledge",
    "ChiSquared",
    "DSeparation",
    "FisherZ",
    "GSquared",
    "GeneralisedCovariance",
    "IndependenceTest",
    "KernelIndependence",
    "MixedRegression",
    "Separation",
    "pc",
]
