"""Weights, intercepts and kernels of a linear-Gaussian system, fitted to draws of its fields."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from latentcause.fields.cosines import to_cosines
from latentcause.fields.gaussian_fields import GaussianFields
from latentcause.fields.kernels import Kernel, Matern, SquaredExponential

LEAST_SHARE = 1e-9  # of a spectrum's mean that every frequency keeps
MOST_STEP = 4.0  # factor by which a length changes at most, at once
SHORTEST, LONGEST = 0.3, 2.0  # lengths in pixels, and in sizes of the grid


def fitted_fields(fields: GaussianFields, z: Tensor) -> GaussianFields:
    """The system of the same graph and kinds of kernels that makes draws z (n, d, *shape) most likely, nearly.

    In the cosines of the grid the noise e_i of a node has independent coefficients of variances v_i rho_i(length), so that
    with c(.) for the transform

        -2 log p = sum_i sum_f [log(v_i rho_i(f)) + |c(z_i - b_i - sum_k w_ki z_k)(f)|^2 / (v_i rho_i(f))]:

    weighted least squares for w and b, a mean for v, and a search along one line for the length of each node's kernel
    (smoothness and nugget stay). That is Whittle's likelihood for cosines; it takes edges for mirrors, as the ``reflected``
    form of `JointGaussian` does.

    Parameters
    ----------
    fields : GaussianFields
        Where the search starts.
    z : Tensor (n, d, *shape)
        Draws, such as those of a posterior in expectation maximisation.

    Raises
    ------
    ValueError
        For draws of another shape, or that are not finite.
    """
    wanted = (len(fields.graph), *fields.shape)
    if z.ndim != len(wanted) + 1 or tuple(z.shape[1:]) != wanted:
        raise ValueError(f"draws of shape {tuple(z.shape)} for fields of (n, {', '.join(map(str, wanted))})")
    if not z.isfinite().all():
        raise ValueError("the draws hold values that are not finite: leave these draws out")
    one = torch.ones(1, 1, *fields.shape, dtype=torch.float64, device=z.device).expand(len(z), -1, *fields.shape)
    c = to_cosines(torch.cat([z.double(), one], 1), len(fields.shape)).flatten(2)
    power = torch.einsum("nif,njf->ijf", c, c).cpu() / len(z)
    weights, intercepts, kernels = dict(fields.weights), dict(fields.intercepts), dict(fields.kernels)
    for i, node in enumerate(fields.graph.nodes):
        parents = fields.graph.parents(node)
        causes = [*(fields.graph.index(parent) for parent in parents), len(fields.graph)]
        kernel, found = _fitted_node(kernels[node], power, i, causes, fields.shape)
        kernels[node], intercepts[node] = kernel, float(found[-1])
        weights |= {(parent, node): float(w) for parent, w in zip(parents, found, strict=False)}
    return GaussianFields(fields.graph, weights, kernels, fields.shape, intercepts)


def _fitted_node(
    kernel: Kernel, power: Tensor, i: int, causes: list[int], shape: tuple[int, ...]
) -> tuple[Kernel, Tensor]:
    """The kernel of a node's noise, and the weights of its causes, the intercept last."""
    if not isinstance(kernel, Matern | SquaredExponential):
        _, variance, found = _profile(kernel, power, i, causes, shape)
        return replace(kernel, variance=variance), found  # type: ignore[type-var]
    low = max(math.log(SHORTEST), math.log(kernel.length) - math.log(MOST_STEP))
    high = min(math.log(LONGEST * max(shape)), math.log(kernel.length) + math.log(MOST_STEP))

    def cost(log_length: float) -> float:
        return _profile(replace(kernel, length=math.exp(log_length)), power, i, causes, shape)[0]

    best = minimize_scalar(cost, bounds=(min(low, high), max(low, high)), method="bounded", options={"xatol": 1e-3})
    longer = replace(kernel, length=float(np.exp(best.x)))
    _, variance, found = _profile(longer, power, i, causes, shape)
    return replace(longer, variance=variance), found


def _profile(
    kernel: Kernel, power: Tensor, i: int, causes: list[int], shape: tuple[int, ...]
) -> tuple[float, float, Tensor]:
    """-2 log likelihood per draw up to a constant, at the best variance and weights for this kernel; and these."""
    spectrum = kernel.reflected_spectrum(shape).flatten() / kernel.variance
    spectrum = spectrum.clamp(min=LEAST_SHARE * float(spectrum.mean()))
    gram = (power[causes][:, causes] / spectrum).sum(-1)
    right = (power[causes, i] / spectrum).sum(-1)
    found = torch.linalg.lstsq(gram, right[:, None]).solution[:, 0]
    left = float((power[i, i] / spectrum).sum() - found @ right)
    variance = max(left / len(spectrum), torch.finfo(torch.float64).tiny)
    return len(spectrum) * math.log(variance) + float(spectrum.log().sum()), variance, found
