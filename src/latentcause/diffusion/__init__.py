"""Diffusion: schedules, denoisers, samplers, likelihood and losses."""

from latentcause.diffusion.denoisers import Denoiser, GaussianDenoiser, GuidedDenoiser, NetworkDenoiser, Prediction
from latentcause.diffusion.likelihood import log_likelihood
from latentcause.diffusion.losses import denoising_loss, draw_times, loss_weight, noised
from latentcause.diffusion.samplers import DDIM, DDPM, EulerMaruyama, Heun, PredictorCorrector, Sampler
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
    "Denoiser",
    "EulerMaruyama",
    "GaussianDenoiser",
    "GuidedDenoiser",
    "Heun",
    "LinearDDPM",
    "NetworkDenoiser",
    "Prediction",
    "PredictorCorrector",
    "Sampler",
    "Schedule",
    "VarianceExploding",
    "VariancePreserving",
    "ZeroTerminal",
    "denoising_loss",
    "draw_times",
    "log_likelihood",
    "loss_weight",
    "noised",
    "times",
]
