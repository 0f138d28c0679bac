"""How well latent variables were recovered, the limit that no method can pass, how far a graph is from the truth, how good
counterfactual images are, and how good forecasts."""

from latentcause.metrics.counterfactuals import (
    CounterfactualReport,
    FactorChange,
    composition,
    counterfactual_report,
)
from latentcause.metrics.disentanglement import DCI, dci
from latentcause.metrics.factor_predictor import FactorPredictor, train_factor_predictor
from latentcause.metrics.forecasts import (
    Reliability,
    coverage,
    crps,
    mean_absolute_percentage_error,
    normalised_rmse,
    pit,
    pit_histogram,
    reliability,
)
from latentcause.metrics.graphs import (
    GraphErrors,
    Scores,
    adjacency_scores,
    arrowhead_scores,
    graph_errors,
    structural_hamming_distance,
)
from latentcause.metrics.images import l1_error, psnr, ssim
from latentcause.metrics.intervention_distance import structural_intervention_distance
from latentcause.metrics.latents import (
    align_columns,
    frobenius_error,
    mean_correlation_coefficient,
    relative_mse,
    relative_mse_by_domain,
)
from latentcause.metrics.limits import bayes_optimal_latents
from latentcause.metrics.pairs import CodeScores, PairScores, code_scores, matched_latents, pair_scores

__all__ = [
    "DCI",
    "CodeScores",
    "CounterfactualReport",
    "FactorChange",
    "FactorPredictor",
    "GraphErrors",
    "PairScores",
    "Reliability",
    "Scores",
    "adjacency_scores",
    "align_columns",
    "arrowhead_scores",
    "bayes_optimal_latents",
    "code_scores",
    "composition",
    "counterfactual_report",
    "coverage",
    "crps",
    "dci",
    "frobenius_error",
    "graph_errors",
    "l1_error",
    "matched_latents",
    "mean_absolute_percentage_error",
    "mean_correlation_coefficient",
    "normalised_rmse",
    "pair_scores",
    "pit",
    "pit_histogram",
    "psnr",
    "relative_mse",
    "relative_mse_by_domain",
    "reliability",
    "ssim",
    "structural_hamming_distance",
    "structural_intervention_distance",
    "train_factor_predictor",
]
