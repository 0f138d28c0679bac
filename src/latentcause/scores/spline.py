"""Causal score matching in closed form with tensor-product cubic B-splines (appendix A.1), by their local support."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from latentcause.scores.causal import NodeView
from latentcause.splines import SUPPORT, UniformBSpline

RIDGES = (10.0, 1.0, 1e-1, 1e-2, 1e-3, 1e-4)
"""Candidates for the ridge, as shares of the mean diagonal of Phi' Phi; strongest first."""

FOLDS = 3
"""Parts that the samples are cut into to choose the ridge by cross-validation."""


@dataclass(frozen=True)
class LocalFeatures:
    """The 4^p non-zero tensor-product functions of p coordinates at n points.

    Attributes
    ----------
    cell : Tensor (n,)
        Number of the knot cell that the point is in.
    first : Tensor (n,)
        Flat index of the cell's first function.
    factors : list of (values, derivatives)
        The one-dimensional pieces (n, 4) whose products are the functions.
    """

    cell: Tensor
    first: Tensor
    factors: list[tuple[Tensor, Tensor]]

    def values(self, derivative_of: int | None = None) -> Tensor:
        """Functions, or their derivatives along one coordinate: (n, 4^p)."""
        product: Tensor | None = None
        for k, (values, derivatives) in enumerate(self.factors):
            piece = derivatives if k == derivative_of else values
            product = piece if product is None else (product[:, :, None] * piece[:, None, :]).flatten(1)
        assert product is not None
        return product


class TensorBasis:
    """Tensor product of one cubic B-spline basis per visible coordinate."""

    def __init__(self, splines: Sequence[UniformBSpline]) -> None:
        self.splines = list(splines)
        self.size = int(np.prod([s.count for s in self.splines]))
        self.offsets = self._corner([s.count for s in self.splines])

    @staticmethod
    def _corner(counts: list[int]) -> Tensor:
        """Flat indices of the 4^p functions of the first cell."""
        flat = torch.zeros(1, dtype=torch.long)
        for count in counts:
            flat = (flat[:, None] * count + torch.arange(SUPPORT)).flatten()
        return flat

    def at(self, locals_: Sequence[tuple[Tensor, Tensor, Tensor]]) -> LocalFeatures:
        """Features from the coordinates' own ``UniformBSpline.local``, which all nodes share."""
        first = locals_[0][0]
        cell = first
        for spline, (index, _, _) in zip(self.splines[1:], locals_[1:], strict=True):
            first = first * spline.count + index
            cell = cell * (spline.count - SUPPORT + 1) + index
        return LocalFeatures(cell, first, [(values, slopes) for _, values, slopes in locals_])


@dataclass(frozen=True)
class Normal:
    """Normal equations of one score component over the functions that some sample touches.

    Attributes
    ----------
    active : Tensor (m,)
        Flat indices of those functions.
    gram : Tensor (folds, m, m)
        Phi' Phi of each fold.
    slope : Tensor (folds, m)
        Psi' 1 + Phi' b of each fold, b being the base score.
    """

    active: Tensor
    gram: Tensor
    slope: Tensor

    def solve(self, ridge: float | None) -> tuple[Tensor, float]:
        """Coefficients -(Phi'Phi + lambda I)^-1 (Psi'1 + Phi'b), and the ridge share used (chosen by folds when None)."""
        gram, slope = self.gram.sum(0), self.slope.sum(0)
        unit = float(gram.diagonal().mean())
        if ridge is None:
            ridge = self._choose_ridge(unit)
        return self._solve(gram, slope, ridge * unit), ridge

    def _choose_ridge(self, unit: float) -> float:
        """From strong to weak, while the loss of the folds left out still falls."""
        chosen, lowest = RIDGES[0], torch.inf
        for share in RIDGES:
            loss = sum(self._held_out_loss(fold, share * unit) for fold in range(len(self.gram)))
            if loss >= lowest:
                break
            chosen, lowest = share, loss
        return chosen

    def _held_out_loss(self, fold: int, ridge: float) -> float:
        gram, slope = self.gram[fold], self.slope[fold]
        theta = self._solve(self.gram.sum(0) - gram, self.slope.sum(0) - slope, ridge)
        return float(0.5 * theta @ gram @ theta + theta @ slope)

    @staticmethod
    def _solve(gram: Tensor, slope: Tensor, ridge: float) -> Tensor:
        damped = gram + ridge * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
        return -torch.cholesky_solve(slope[:, None], torch.linalg.cholesky(damped))[:, 0]


class SplineScore:
    """s_j(u) = b_j(u) + phi_j(u_visible)' theta_{j, a}: implicit score matching in closed form, node by node (Theorem 5.1).

    Each component minimises mean[ 1/2 s_j^2 + d_j s_j ] + ridge over its coefficients theta for every pattern a of the
    intervention flags that it sees, Eq. (A.1). Only 4 functions per coordinate are non-zero at a point, so the normal
    equations are summed over knot cells from blocks of 4^p functions; a dense design matrix never exists.

    Parameters
    ----------
    views : list of NodeView
        Of the nodes whose scores are modelled here (``columns[0]`` is the node); all other components are zero.
    splines : list of UniformBSpline
        The basis on each coordinate, shared by all nodes.
    indicator : ndarray of bool (n_domains, d)
    """

    def __init__(self, views: list[NodeView], splines: list[UniformBSpline], indicator: np.ndarray) -> None:
        self.views = views
        self.splines = splines
        self.states = [torch.from_numpy(view.states(indicator)) for view in views]
        self.bases = [TensorBasis([splines[c] for c in view.columns]) for view in views]
        self.coefficients: list[list[Tensor]] = []
        self.ridges: list[list[float | None]] = [[None] * int(s.max() + 1) for s in self.states]

    def fit(self, u: Tensor, domain: Tensor, base: Tensor, weights: Tensor | None = None) -> None:
        """Fit all components to points u (n, d) of domains (n,), on top of base scores (n, d), with weights (n,).

        The ridges are chosen by cross-validation on the first call and kept afterwards.
        """
        locals_ = self._locals(u)
        self.coefficients = []
        for v, (view, basis) in enumerate(zip(self.views, self.bases, strict=True)):
            features = basis.at([locals_[c] for c in view.columns])
            node_base = base[:, view.columns[0]]
            row = []
            for state, ridge in enumerate(self.ridges[v]):
                rows = (self.states[v].to(u.device)[domain] == state).nonzero()[:, 0]
                normal = _normal_equations(basis, features, rows, node_base, weights, FOLDS if ridge is None else 1)
                theta, self.ridges[v][state] = normal.solve(ridge)
                full = u.new_zeros(basis.size)
                full[normal.active] = theta
                row.append(full)
            self.coefficients.append(row)

    def score_and_jacobian(self, u: Tensor, domain: Tensor, *, full: bool = False) -> tuple[Tensor, Tensor]:
        """Values phi' theta (n, d) and derivatives: d_j s_j (n, d), or with ``full`` all d s_j / d u_k (n, d, d)."""
        locals_ = self._locals(u)
        n, d = u.shape
        score, jacobian = u.new_zeros(n, d), u.new_zeros(n, d, d) if full else u.new_zeros(n, d)
        for v, (view, basis) in enumerate(zip(self.views, self.bases, strict=True)):
            j = view.columns[0]
            features = basis.at([locals_[c] for c in view.columns])
            state = self.states[v].to(u.device)[domain]
            flat = (state * basis.size + features.first)[:, None] + basis.offsets.to(u.device)
            theta = torch.cat(self.coefficients[v])[flat]
            score[:, j] = (features.values() * theta).sum(1)
            if full:
                for k, column in enumerate(view.columns):
                    jacobian[:, j, column] = (features.values(derivative_of=k) * theta).sum(1)
            else:
                jacobian[:, j] = (features.values(derivative_of=0) * theta).sum(1)
        return score, jacobian

    def _locals(self, u: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        return [spline.local(u[:, j].contiguous()) for j, spline in enumerate(self.splines)]


def _normal_equations(
    basis: TensorBasis, features: LocalFeatures, rows: Tensor, base: Tensor, weights: Tensor | None, folds: int
) -> Normal:
    """Sum blocks of 4^p functions over the samples of every knot cell, then place the blocks."""
    rows = rows[torch.sort(features.cell[rows], stable=True).indices]
    picked = LocalFeatures(features.cell[rows], features.first[rows], [(v[rows], s[rows]) for v, s in features.factors])
    values, slopes = picked.values(), picked.values(derivative_of=0)
    pull = slopes + base[rows, None] * values
    weighted = values
    if weights is not None:
        weighted, pull = values * weights[rows, None], pull * weights[rows, None]
    _, counts = torch.unique_consecutive(picked.cell, return_counts=True)
    ends = torch.cumsum(counts, 0)
    starts = ends - counts
    indices = picked.first[starts][:, None] + basis.offsets.to(rows.device)
    active, place = torch.unique(indices, return_inverse=True)
    m = len(active)
    gram = values.new_zeros(folds, m * m)
    slope = values.new_zeros(folds, m)
    corners = (place[:, :, None] * m + place[:, None, :]).flatten(1)
    for cell, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
        for fold in range(folds):
            block = slice(start + fold, end, folds)
            gram[fold].index_add_(0, corners[cell], (weighted[block].T @ values[block]).flatten())
            slope[fold].index_add_(0, place[cell], pull[block].sum(0))
    return Normal(active, gram.reshape(folds, m, m), slope)
