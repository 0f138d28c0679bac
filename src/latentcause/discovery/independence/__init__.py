"""Tests of conditional independence, one interface."""

from latentcause.discovery.independence.base import IndependenceTest
from latentcause.discovery.independence.categorical import ChiSquared, GSquared
from latentcause.discovery.independence.choice import choose_test
from latentcause.discovery.independence.fisher_z import FisherZ
from latentcause.discovery.independence.gcm import GeneralisedCovariance
from latentcause.discovery.independence.kernel import KernelIndependence
from latentcause.discovery.independence.mixed import MixedRegression
from latentcause.discovery.independence.oracle import DSeparation

__all__ = [
    "ChiSquared",
    "DSeparation",
    "FisherZ",
    "GSquared",
    "GeneralisedCovariance",
    "IndependenceTest",
    "KernelIndependence",
    "MixedRegression",
    "choose_test",
]
