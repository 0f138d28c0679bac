"""What sensors see of a field, and how far their values stray from it: operators, likelihoods, observations, grids."""

from __future__ import annotations

from latentcause.observation.builders import (
    area_mean,
    between,
    block_mean,
    cells,
    gaussian_blur,
    identity,
    linear,
    points,
)
from latentcause.observation.correlated import CorrelatedError
from latentcause.observation.grids import Grid
from latentcause.observation.likelihoods import GaussianError, Likelihood, LogNormalError
from latentcause.observation.logistic import BernoulliError, Component, MixtureEmission
from latentcause.observation.observation import Observation
from latentcause.observation.operators import FunctionOperator, LinearOperator, Operator

__all__ = [
    "BernoulliError",
    "Component",
    "CorrelatedError",
    "FunctionOperator",
    "GaussianError",
    "Grid",
    "Likelihood",
    "LinearOperator",
    "LogNormalError",
    "MixtureEmission",
    "Observation",
    "Operator",
    "area_mean",
    "between",
    "block_mean",
    "cells",
    "gaussian_blur",
    "identity",
    "linear",
    "points",
]
