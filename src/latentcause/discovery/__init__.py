"""Causal discovery: graphs from independences, from scores, and from interventions."""

from latentcause.discovery.cpdag import CPDAG, Separation
from latentcause.discovery.independence import DSeparation, FisherZ, IndependenceTest
from latentcause.discovery.knowledge import BackgroundKnowledge
from latentcause.discovery.pc import pc

__all__ = [
    "CPDAG",
    "BackgroundKnowledge",
    "DSeparation",
    "FisherZ",
    "IndependenceTest",
    "Separation",
    "pc",
]
