"""Causal discovery: graphs from independences, from scores, and from interventions."""

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

__all__ = [
    "CPDAG",
    "PAG",
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
    "fci",
    "ges",
    "pc",
]
