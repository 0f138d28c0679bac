"""Diffusion: schedules, denoisers, guidance, samplers, likelihood and losses."""

from latentcause.diffusion.denoisers import Denoiser, GaussianDenoiser, GuidedDenoiser, NetworkDenoiser, Prediction
from latentcause.diffusion.guidance import Guidance, Observations, ObservedDenoiser, conjugate_gradients
from latentcause.diffusion.likelihood import log_likelihood
from latentcause.diffusion.losses import denoising_loss, draw_times, loss_weight, noised
from latentcause.diffusion.samplers import (
    DDIM,
    DDPM,
    DPMSolver,
    EulerMaruyama,
    Heun,
    PredictorCorrector,
    Sampler,
)
from latentcause.diffusion.schedules import (
    Cosine,
    LinearDDPM,
    Schedule,
    VarianceExploding,
    VariancePreserving,
    ZeroTerminal,
    times,
)

__all__ = [
    "DDIM",
    "DDPM",
    "Cosine",
    "DPMSolver",
    "Denoiser",
    "EulerMaruyama",
    "GaussianDenoiser",
    "Guidance",
    "GuidedDenoiser",
    "Heun",
    "LinearDDPM",
    "NetworkDenoiser",
    "Observations",
    "ObservedDenoiser",
    "Prediction",
    "PredictorCorrector",
    "Sampler",
    "Schedule",
    "VarianceExploding",
    "VariancePreserving",
    "ZeroTerminal",
    "conjugate_gradients",
    "denoising_loss",
    "draw_times",
    "log_likelihood",
    "loss_weight",
    "noised",
    "times",
]
