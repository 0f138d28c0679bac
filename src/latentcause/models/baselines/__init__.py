"""Methods to compare with: linear ones that ignore domains and graph, and variational autoencoders."""

from __future__ import annotations

from latentcause.models.baselines.linear import PCA, FastICA, ProbabilisticPCA
from latentcause.models.baselines.vae import IVAE, SCMVAE, VAE, ConditionalVAE

__all__ = ["IVAE", "PCA", "SCMVAE", "VAE", "ConditionalVAE", "FastICA", "ProbabilisticPCA"]
