"""Structural causal models: mechanisms and noise on a causal graph; fitting, sampling, interventions, counterfactuals, effects."""

from latentcause.scm.categorical import CategoricalMechanism, DummyCoded
from latentcause.scm.effects import Effect
from latentcause.scm.interventions import Shift
from latentcause.scm.mechanisms import (
    AdditiveMechanism,
    FunctionMechanism,
    GeneralMechanism,
    LinearMechanism,
    Mechanism,
    SplineMechanism,
)
from latentcause.scm.model import StructuralCausalModel
from latentcause.scm.monotone import MonotoneSpline
from latentcause.scm.neural import NeuralMechanism
from latentcause.scm.noise import EmpiricalNoise, GaussianNoise, KernelNoise, Noise, UniformNoise
from latentcause.scm.post_nonlinear import PostNonlinearMechanism
from latentcause.scm.trees import TreeMechanism

__all__ = [
    "AdditiveMechanism",
    "CategoricalMechanism",
    "DummyCoded",
    "Effect",
    "EmpiricalNoise",
    "FunctionMechanism",
    "GaussianNoise",
    "GeneralMechanism",
    "KernelNoise",
    "LinearMechanism",
    "Mechanism",
    "MonotoneSpline",
    "NeuralMechanism",
    "Noise",
    "PostNonlinearMechanism",
    "Shift",
    "SplineMechanism",
    "StructuralCausalModel",
    "TreeMechanism",
    "UniformNoise",
]
