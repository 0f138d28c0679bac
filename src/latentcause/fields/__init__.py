"""Causal systems of fields: kernels and noise, linear-Gaussian systems in closed form, joint Gaussians that denoise."""

from latentcause.fields.gaussian_fields import GaussianFields
from latentcause.fields.joint_gaussian import Form, JointGaussian
from latentcause.fields.kernels import MOST_DENSE, Kernel, Matern, SquaredExponential, White

__all__ = ["MOST_DENSE", "Form", "GaussianFields", "JointGaussian", "Kernel", "Matern", "SquaredExponential", "White"]
