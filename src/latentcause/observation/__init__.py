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
from latentcause.observation.grids import Grid
from latentcause.observation.likelihoods import GaussianError, Likelihood
from latentcause.observation.observation import Observation
from latentcause.observation.operators import FunctionOperator, LinearOperator, Operator

__all__ = [
    "FunctionOperator",
    "GaussianError",
    "Grid",
    "Likelihood",
    "LinearOperator",
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
