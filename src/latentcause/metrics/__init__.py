"""How well latent variables were recovered, the limit that no method can pass, and how far a graph is from the truth."""

from latentcause.metrics.graphs import (
    GraphErrors,
    Scores,
    adjacency_scores,
    arrowhead_scores,
    graph_errors,
    structural_hamming_distance,
)
from latentcause.metrics.intervention_distance import structural_intervention_distance
from latentcause.metrics.latents import (
    align_columns,
    frobenius_error,
    mean_correlation_coefficient,
    relative_mse,
    relative_mse_by_domain,
)
from latentcause.metrics.limits import bayes_optimal_latents

__all__ = [
    "GraphErrors",
    "Scores",
    "adjacency_scores",
    "align_columns",
    "arrowhead_scores",
    "bayes_optimal_latents",
    "frobenius_error",
    "graph_errors",
    "mean_correlation_coefficient",
    "relative_mse",
    "relative_mse_by_domain",
    "structural_hamming_distance",
    "structural_intervention_distance",
]
