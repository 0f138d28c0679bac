"""Causal systems of fields: kernels and noise, linear-Gaussian systems in closed form."""

from latentcause.fields.gaussian_fields import GaussianFields
from latentcause.fields.kernels import MOST_DENSE, Kernel, Matern, SquaredExponential, White

__all__ = ["MOST_DENSE", "GaussianFields", "Kernel", "Matern", "SquaredExponential", "White"]
