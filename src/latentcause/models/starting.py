"""Where f- and g-modeling start: the subspace, the loadings and the noise, given or found; and which nodes are identified."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np
import torch

from latentcause.data import MultiDomainData
from latentcause.graph import CausalGraph
from latentcause.models.interventional_gaussian import DomainMoments, InterventionalGaussian, Interventions
from latentcause.models.measurement import Columns, Measurement, known_mixing
from latentcause.models.subspace import Subspace

Initialisation = Literal["gaussian", "pca"] | np.ndarray

UNIDENTIFIED = 0.3
"""Standard error of a loading column's direction, in radians, from which on its node counts as not identified."""


@dataclass(frozen=True)
class Start:
    """The measurement model to begin with; where loadings were estimated, which nodes (d,) the data do not identify.

    A node counts as such when the standard error of its column's direction is not small (`UNIDENTIFIED`), or when no domain
    targets it: the standard errors trust the Gaussian model, and on real data it can be sure and wrong about such a node.
    """

    subspace: Subspace
    measurement: Measurement
    lost: np.ndarray | None

    def unidentified(self, graph: CausalGraph) -> tuple[str, ...]:
        """The nodes that the data do not identify."""
        return () if self.lost is None else tuple(n for n, lost in zip(graph.nodes, self.lost, strict=True) if lost)


class MeasurementSettings(Protocol):
    """The parameters that f- and g-modeling share; their documentation is with those classes."""

    graph: CausalGraph
    loadings: np.ndarray | None
    noise_variance: float | None
    initialisation: Initialisation
    columns: Columns
    interventions: Interventions
    seed: int


def starting_point(data: MultiDomainData, indicator: np.ndarray, settings: MeasurementSettings) -> Start:
    """Project the data and choose the first loadings; warn about nodes that the data do not identify.

    Raises
    ------
    ValueError
        For unknown interventions, loadings of a wrong shape or with dependent columns, a noise variance that is not
        positive, or one that is missing although d_x = d_z.
    """
    graph, columns, seed = settings.graph, settings.columns, settings.seed
    loadings, noise_variance = settings.loadings, settings.noise_variance
    initialisation, interventions = settings.initialisation, settings.interventions
    if interventions not in get_args(Interventions):
        raise ValueError(f"unknown interventions {interventions!r}: choose one of {list(get_args(Interventions))}")
    if noise_variance is not None and not 0 < noise_variance < np.inf:
        raise ValueError(f"noise_variance={noise_variance} must be a positive number")
    if loadings is not None:
        basis, mixing = known_mixing(_checked(loadings, "loadings", data, graph))
        subspace = Subspace.spanned_by(basis, data)
        variance = subspace.residual_variance() if noise_variance is None else noise_variance
        return Start(subspace, Measurement(mixing, variance, columns), None)
    subspace = Subspace.principal(data, len(graph))
    variance = subspace.residual_variance() if noise_variance is None else noise_variance
    if not isinstance(initialisation, str):
        basis = subspace.basis.T @ _checked(initialisation, "initialisation", data, graph)
        mixing = torch.from_numpy(basis)
        if np.linalg.matrix_rank(basis) < len(graph):
            raise ValueError(
                "the columns of the given initialisation are linearly dependent, or lie outside the subspace that the data fill"
            )
        if columns != "psd":
            scales = torch.linalg.vector_norm(mixing, dim=0) if columns == "orthogonal" else mixing.new_ones(len(graph))
            left, _, right = torch.linalg.svd(mixing * scales)
            mixing = (left @ right) * scales
        return Start(subspace, Measurement(mixing, variance, columns), None)
    if initialisation == "pca":
        return Start(subspace, Measurement(torch.eye(len(graph), dtype=torch.float64), variance, columns), None)
    if initialisation != "gaussian":
        raise ValueError(f"unknown initialisation {initialisation!r}: choose 'gaussian', 'pca' or an array of loadings")
    moments = DomainMoments.of(subspace.coordinates, data.domain_index, len(data.domains))
    fit = InterventionalGaussian(
        graph, indicator, moments, variance, interventions=interventions, orthonormal=columns != "psd"
    ).fit(seed=seed)
    unsure = ~(fit.column_errors < UNIDENTIFIED) | ~indicator.any(0)
    start = Start(subspace, Measurement(torch.from_numpy(fit.mixing), variance, columns), unsure)
    lost = start.unidentified(graph)
    if lost:
        warnings.warn(
            f"these domains do not identify {', '.join(lost)}: none targets {'it' if len(lost) == 1 else 'them'}, or other "
            f"directions of the loadings fit nearly as well (standard error above {UNIDENTIFIED} rad). Add domains that target "
            f"{'it' if len(lost) == 1 else 'them'}, or give loadings if the measurement panel is known",
            UserWarning,
            stacklevel=4,
        )
    return start


def _checked(matrix: np.ndarray, name: str, data: MultiDomainData, graph: CausalGraph) -> np.ndarray:
    matrix = np.asarray(matrix, dtype=float)
    wanted = (data.n_measurements, len(graph))
    if matrix.shape != wanted:
        raise ValueError(f"{name} has shape {matrix.shape}: {wanted} = (measurements, nodes) is needed")
    if not np.isfinite(matrix).all():
        raise ValueError(f"{name} holds NaN or infinity: give finite numbers")
    return matrix
