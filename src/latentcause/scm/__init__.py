"""Structural causal models: mechanisms and noise on a causal graph; sampling, interventions and counterfactuals."""

from latentcause.scm.mechanisms import (
    AdditiveMechanism,
    FunctionMechanism,
    LinearMechanism,
    Mechanism,
    SplineMechanism,
)
from latentcause.scm.model import StructuralCausalModel
from latentcause.scm.noise import EmpiricalNoise, GaussianNoise, KernelNoise, Noise

__all__ = [
    "AdditiveMechanism",
    "EmpiricalNoise",
    "FunctionMechanism",
    "GaussianNoise",
    "KernelNoise",
    "LinearMechanism",
    "Mechanism",
    "Noise",
    "SplineMechanism",
    "StructuralCausalModel",
]
