"""Counterfactual images by simpler means, to compare with `CausalDiffAE`: two floors, two diffusions and an autoencoder."""

from __future__ import annotations

from latentcause.models.baselines.causal_vae import CausalVAE
from latentcause.models.baselines.images.conditional_diffusion import ConditionalDiffusion
from latentcause.models.baselines.images.diff_ae import DiffAE
from latentcause.models.baselines.images.floors import Factual, PixelScaling

__all__ = ["CausalVAE", "ConditionalDiffusion", "DiffAE", "Factual", "PixelScaling"]
