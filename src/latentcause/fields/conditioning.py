"""Exact draws and evidence of Gaussian fields that are observed, without a diffusion."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from latentcause.diffusion.guidance import conjugate_gradients
from latentcause.fields.joint_gaussian import JointGaussian

if TYPE_CHECKING:
    from latentcause.data.gridded_observations import GriddedObservations

MOST_CELLS = 1024  # whose covariance is inverted


def conditioned_draws(
    joint: JointGaussian,
    observations: GriddedObservations,
    n: int,
    generator: torch.Generator,
    *,
    passes: int = 300,
    tolerance: float = 1e-3,
) -> Tensor:
    """n draws (n, d, *shape) of z ~ N(mean, C) given y = A z + e, e ~ N(0, R): each a draw of the prior, corrected.

    z + C A' (A C A' + R)^-1 (y - A z - e) with z and e drawn from the prior and the noise (Matheron's rule; Wilson et al.,
    Pathwise conditioning of Gaussian processes, 2021, Eq. 7). One linear system a draw, solved by conjugate gradients: nothing
    is approximated, and where prior and observations are Gaussian nothing is cheaper.

    Parameters
    ----------
    joint : JointGaussian
    observations : GriddedObservations
        By linear operators, with noise that is Gaussian in what they see.
    n : int
    generator : torch.Generator
        Of the device of ``joint``.
    passes, tolerance : int, float
        Most steps of the solver, and its residual as a share of the right-hand side.

    Raises
    ------
    ValueError
        For other operators or noise. (A solver that ends early warns.)
    """
    if not (observations.is_linear and observations.is_gaussian):
        raise ValueError(
            "exact draws need linear operators and Gaussian noise, and these observations have others: use SVGDM"
        )
    observations = observations.to(joint.mean.device, joint.mean.dtype)
    z = joint.sample(n, generator)
    surprise = observations.values - observations.apply(z) - observations.noise_draws(n, generator)

    unit = observations.noise_variance.sqrt()  # in units of the noise, so that no cell outweighs the others

    def seen_covariance_times(v: Tensor) -> Tensor:
        return observations.apply(joint.covariance_times(observations.adjoint(v / unit))) / unit

    def noise_times(v: Tensor) -> Tensor:
        return observations.noise_times(v / unit) / unit

    weights, left, _ = conjugate_gradients(seen_covariance_times, noise_times, surprise / unit, passes, tolerance)
    if float(left.max()) > 10 * tolerance:
        warnings.warn(
            f"after {passes} passes a draw is solved to {float(left.max()):.1%} only: allow more passes",
            UserWarning,
            stacklevel=2,
        )
    return z + joint.covariance_times(observations.adjoint(weights / unit))


def log_evidence(joint: JointGaussian, observations: GriddedObservations) -> float:
    """log N(y; A mean, A C A' + R) in nats: how likely the observations are under the fields, by a matrix of all their cells.

    Parameters
    ----------
    joint : JointGaussian
        Of z ~ N(mean, C).
    observations : GriddedObservations
        y = A z + e, by linear operators, with noise that is Gaussian in what they see.

    Raises
    ------
    ValueError
        For other operators or noise, and more than `MOST_CELLS` cells.
    """
    if not (observations.is_linear and observations.is_gaussian):
        raise ValueError(
            "the evidence in closed form needs linear operators and Gaussian noise: see SVGDM.elbo for others"
        )
    cells = len(observations.values)
    if cells > MOST_CELLS:
        raise ValueError(
            f"the evidence of {cells} cells needs the inverse of as large a matrix: give at most {MOST_CELLS}"
        )
    observations = observations.to(joint.mean.device, joint.mean.dtype)
    unit = torch.eye(cells, dtype=joint.mean.dtype, device=joint.mean.device)
    seen = observations.apply(joint.covariance_times(observations.adjoint(unit)))
    total = 0.5 * (seen + seen.mT) + observations.noise_times(unit)
    factor = torch.linalg.cholesky(total)
    surprise = observations.values - observations.apply(joint.mean[None])[0]
    white = torch.linalg.solve_triangular(factor, surprise[:, None], upper=False)
    return float(-0.5 * (white.square().sum() + cells * math.log(2 * math.pi)) - factor.diagonal().log().sum())
