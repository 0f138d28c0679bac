"""The graph of linear mechanisms, read from noise codes and targets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from latentcause.discovery.holm import holm
from latentcause.graph import CausalGraph
from latentcause.models.pairs.lines import solution_row

ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class LinearReading:
    """z = B z + u, B = I - T^-1 from z = T e, with what chance says of each entry.

    Attributes
    ----------
    graph : CausalGraph
    weights : ndarray (m, m)
        [i, j] of z_j in z_i, where an intervention gives each z unit variance.
    p_values : ndarray (m, m)
        Of weights[i, j] = 0. NaN on the diagonal.
    effects : ndarray (m, m)
        |weights[i, j]| sd(z_j) / sd(z_i).
    """

    graph: CausalGraph
    weights: np.ndarray
    p_values: np.ndarray
    effects: np.ndarray

    @classmethod
    def of(
        cls,
        noise: np.ndarray,
        after: np.ndarray,
        hit: np.ndarray,
        names: tuple[str, ...],
        alpha: float,
        min_effect: float,
    ) -> LinearReading:
        """From codes (n, m) before and after, and what each pair hit (n, m).

        Row i of T: z~_i = sum_j T_ij e~_j owes nothing to e~_-i in the pairs that hit i, so -T_ij / T_ii are the coefficients of a
        regression, whose covariance C_i is known. Rows are independent, hence to first order, with P = T^-1 and where B_ij = 0,

            Var(B_ij) = sum_k P_ik^2 (P' C_k P)_jj / P_ii^2.

        Edges are the entries that Holm's correction of the Wald tests leaves at level ``alpha``, of at least ``min_effect``. Where
        they have a cycle, the weakest edge on one is dropped until there is none.
        """
        m = noise.shape[1]
        total, covariances = np.eye(m), np.zeros((m, m, m))
        for i in range(m):
            total[i], covariances[i] = solution_row(after, hit[:, i], i)
        inverse = np.linalg.pinv(total)
        weights = np.eye(m) - inverse / np.diag(inverse)[:, None]
        spread = np.einsum("ik,kj->ij", inverse**2, np.einsum("aj,kab,bj->kj", inverse, covariances, inverse))
        sd = np.sqrt(spread) / np.abs(np.diag(inverse))[:, None]
        scale = (noise @ total.T).std(axis=0) if len(noise) else np.ones(m)
        return cls.of_weights(weights, sd, scale, names, alpha, min_effect)

    @classmethod
    def of_solution(
        cls, total: np.ndarray, sd: np.ndarray, names: tuple[str, ...], alpha: float, min_effect: float
    ) -> LinearReading:
        """From an estimate of T (m, m) for noise of unit variance, and the standard errors of the weights (`weight_errors`)."""
        inverse, scale = np.linalg.inv(total), np.linalg.norm(total, axis=1)
        weights = np.eye(len(total)) - inverse / np.diag(inverse)[:, None]
        return cls.of_weights(weights, sd, scale, names, alpha, min_effect)

    @classmethod
    def of_weights(
        cls,
        weights: np.ndarray,
        sd: np.ndarray,
        scale: np.ndarray,
        names: tuple[str, ...],
        alpha: float,
        min_effect: float,
    ) -> LinearReading:
        """From B with the standard errors of its entries (m, m), and the sds of the variables (m,)."""
        m = len(weights)
        z = np.divide(weights, sd, out=np.zeros((m, m)), where=sd > ROUNDING)  # nothing is known of what is never hit
        p_values = 2 * ndtr(-np.abs(z))
        np.fill_diagonal(p_values, np.nan)
        scale = np.maximum(scale, 1e-12)
        effects = np.abs(weights) * scale / scale[:, None]
        np.fill_diagonal(effects, 0.0)
        present = holm(p_values.T, alpha).T & (effects >= min_effect)
        return cls(_acyclic(present, effects, names), weights, p_values, effects)


def weight_errors(total: np.ndarray, uncertainty: np.ndarray) -> np.ndarray:
    """Standard errors of B = 1 - T^-1 / diag(T^-1), (m, m), where the covariance of T (m, m), row by row, is known (m^2, m^2).

    With P = T^-1, dB_ij = (P dT P)_ij / P_ii - P_ij (P dT P)_ii / P_ii^2 to first order.
    """
    m, inverse = len(total), np.linalg.inv(total)
    own = np.diag(inverse)
    moved = np.einsum("ia,bj->ijab", inverse, inverse)  # of (P dT P)_ij by dT_ab
    slopes = moved / own[:, None, None, None]
    slopes = slopes - (inverse / own[:, None] ** 2)[:, :, None, None] * moved[np.arange(m), np.arange(m)][:, None]
    slopes = slopes.reshape(m * m, m * m)
    return np.asarray(np.sqrt(np.einsum("pa,pa->p", slopes @ uncertainty, slopes).clip(min=0)).reshape(m, m))


def _acyclic(present: np.ndarray, effects: np.ndarray, names: tuple[str, ...]) -> CausalGraph:
    """The graph of the edges j -> i where ``present[i, j]``, without the weakest of each cycle."""
    import networkx as nx

    found = nx.DiGraph()
    found.add_nodes_from(range(len(names)))
    found.add_edges_from((int(j), int(i)) for i, j in np.argwhere(present))
    while True:
        try:
            cycle = nx.find_cycle(found)
        except nx.NetworkXNoCycle:
            break
        found.remove_edge(*min(((edge[0], edge[1]) for edge in cycle), key=lambda edge: effects[edge[1], edge[0]]))
    return CausalGraph(names, tuple((names[a], names[b]) for a, b in found.edges))
