"""Causal systems of fields: kernels and noise, linear-Gaussian and other systems, joint Gaussians that denoise."""

from latentcause.fields.conditioning import conditioned_draws, log_evidence
from latentcause.fields.denoisers import JointDenoiser, LocalDenoiser, Sees, gaussian_denoiser
from latentcause.fields.fitting import fitted_fields
from latentcause.fields.gaussian_fields import GaussianFields
from latentcause.fields.joint_gaussian import Form, JointGaussian
from latentcause.fields.kernels import MOST_DENSE, Kernel, Matern, SquaredExponential, White
from latentcause.fields.noises import GammaNoise, PixelNoise, SkewNormalNoise, StudentNoise
from latentcause.fields.structural_fields import FieldNoise, StructuralFields

__all__ = [
    "MOST_DENSE",
    "FieldNoise",
    "Form",
    "GammaNoise",
    "GaussianFields",
    "JointDenoiser",
    "JointGaussian",
    "Kernel",
    "LocalDenoiser",
    "Matern",
    "PixelNoise",
    "Sees",
    "SkewNormalNoise",
    "SquaredExponential",
    "StructuralFields",
    "StudentNoise",
    "White",
    "conditioned_draws",
    "fitted_fields",
    "gaussian_denoiser",
    "log_evidence",
]
