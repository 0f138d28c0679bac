"""How well latent variables were recovered, and the limit that no method can pass."""

from latentcause.metrics.latents import (
    align_columns,
    frobenius_error,
    mean_correlation_coefficient,
    relative_mse,
    relative_mse_by_domain,
)
from latentcause.metrics.limits import bayes_optimal_latents

__all__ = [
    "align_columns",
    "bayes_optimal_latents",
    "frobenius_error",
    "mean_correlation_coefficient",
    "relative_mse",
    "relative_mse_by_domain",
]
