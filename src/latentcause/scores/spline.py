"""Causal score matching in closed form with tensor-product cubic B-splines (appendix A.1)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from latentcause.scores.causal import NodeView
from latentcause.scores.tensor_basis import Position, TensorBasis, powers
from latentcause.splines import UniformBSpline

RIDGES = (10.0, 1.0, 1e-1, 1e-2, 1e-3, 1e-4)
"""Candidates for the ridge, as shares of the mean diagonal of Phi' Phi; strongest first."""

FOLDS = 3
"""Parts that the samples are cut into to choose the ridge by cross-validation."""

FEW = 512
"""Functions up to which the equations of all states are held at once, whether a sample touches the functions or not."""

UNTOUCHED = 1e-12
"""Share of the largest diagonal entry of Phi' Phi below which a function has met no sample."""

Located = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Normal:
    """Normal equations of one score component, in several folds of the samples.

    Attributes
    ----------
    gram : Tensor (folds, m, m)
        Phi' Phi of each fold.
    slope : Tensor (folds, m)
        Psi' 1 + Phi' b of each fold, b being the base score.
    """

    gram: Tensor
    slope: Tensor

    def solve(self, ridge: float | None) -> tuple[Tensor, float]:
        """Coefficients -(Phi'Phi + lambda I)^-1 (Psi'1 + Phi'b), and the ridge share used (chosen by folds when None)."""
        gram, slope = self.gram.sum(0), self.slope.sum(0)
        unit = _unit(gram.diagonal())
        if ridge is None:
            ridge = self._choose_ridge(unit)
        return _solve(gram, slope, ridge * unit), ridge

    def _choose_ridge(self, unit: Tensor) -> float:
        """From strong to weak, while the loss of the folds left out still falls."""
        chosen, lowest = RIDGES[0], torch.inf
        for share in RIDGES:
            loss = sum(self._held_out_loss(fold, share * unit) for fold in range(len(self.gram)))
            if loss >= lowest:
                break
            chosen, lowest = share, loss
        return chosen

    def _held_out_loss(self, fold: int, ridge: Tensor) -> float:
        gram, slope = self.gram[fold], self.slope[fold]
        theta = _solve(self.gram.sum(0) - gram, self.slope.sum(0) - slope, ridge)
        return float(0.5 * theta @ gram @ theta + theta @ slope)


def _solve(gram: Tensor, slope: Tensor, ridge: Tensor) -> Tensor:
    """-(gram + ridge I)^-1 slope, batched."""
    damped = gram.clone()
    damped.diagonal(dim1=-2, dim2=-1).add_(ridge[..., None])
    return -torch.cholesky_solve(slope[..., None], torch.linalg.cholesky(damped))[..., 0]


def _unit(diagonal: Tensor) -> Tensor:
    """Mean diagonal entry (...,) of Phi' Phi over the functions that samples touch; ridges are shares of it."""
    touched = diagonal > UNTOUCHED * diagonal.amax(-1, keepdim=True)
    return (diagonal * touched).sum(-1) / touched.sum(-1)


def rank_within(group: Tensor) -> Tensor:
    """How many rows of the same group come before each row (n,): cuts by it hold for every group, whatever the order of rows."""
    order = torch.argsort(group, stable=True)
    counts = torch.bincount(group)
    before = torch.repeat_interleave(torch.cumsum(counts, 0) - counts, counts)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(group), device=group.device) - before
    return rank


class SplineScore:
    """s_j(u) = b_j(u) + phi_j(u_visible)' theta_{j, a}: implicit score matching in closed form, node by node (Theorem 5.1).

    Each component minimises mean[ 1/2 s_j^2 + d_j s_j ] + ridge over its coefficients theta for every pattern a of the
    intervention flags that it sees, Eq. (A.1). The normal equations come from moments within knot cells (`TensorBasis`); a dense
    design matrix never exists.

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
        self.ridges: list[list[float | None]] = [[None] * int(s.max() + 1) for s in self.states]
        self.coefficients: list[Tensor] = []  # of each view: (states, functions)
        self._polynomials: list[Tensor] = []  # the same, as polynomials on the cells of every state

    def fit(
        self, u: Tensor, domain: Tensor, base: Tensor | None, weights: Tensor | None = None, n_fitted: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Fit all components to points u (n, d) of domains (n,), and evaluate them there.

        Parameters
        ----------
        u, domain : Tensor (n, d), (n,)
        base : Tensor (n, d), optional
            Scores that the components are added to.
        weights : Tensor (n,), optional
        n_fitted : int, optional
            Fit to the first rows only; the others are evaluated.

        The ridges are chosen by cross-validation on the first call and kept afterwards. Returns values and d_j s_j, (n, d) each.
        """
        located = self._locate(u)
        rows = slice(n_fitted)
        coefficients = []
        for v, (view, basis) in enumerate(zip(self.views, self.bases, strict=True)):
            position = basis.locate([located[c] for c in view.columns])[rows]
            state = self.states[v].to(u.device)[domain[rows]]
            node_base = None if base is None else base[rows, view.columns[0]].contiguous()
            solve = self._solve_together if basis.size <= FEW else self._solve_apart
            coefficients.append(solve(v, basis, position, state, node_base, None if weights is None else weights[rows]))
        self.set_coefficients(coefficients)
        return self._evaluate(u, domain, located, full=False)

    def _solve_together(
        self, v: int, basis: TensorBasis, position: Position, state: Tensor, base: Tensor | None, weights: Tensor | None
    ) -> Tensor:
        """Coefficients (states, functions) from one pass over the rows of all states."""
        ridges = self.ridges[v]
        folds = FOLDS if None in ridges else 1
        group = state if folds == 1 else state * folds + rank_within(state) % folds
        gram, slope = basis.normal_equations(position, group, len(ridges) * folds, base, weights)
        if folds == 1:
            return _solve(gram, slope, gram.new_tensor(ridges) * _unit(gram.diagonal(dim1=1, dim2=2)))
        thetas = []
        for s in range(len(ridges)):
            mine = slice(s * folds, (s + 1) * folds)
            theta, ridges[s] = Normal(gram[mine], slope[mine]).solve(ridges[s])
            thetas.append(theta)
        return torch.stack(thetas)

    def _solve_apart(
        self, v: int, basis: TensorBasis, position: Position, state: Tensor, base: Tensor | None, weights: Tensor | None
    ) -> Tensor:
        """The same, state by state and for the functions that a sample touches only: for bases whose Gram matrices are large."""
        ridges = self.ridges[v]
        thetas = position.powers[0].new_zeros(len(ridges), basis.size)
        for s, ridge in enumerate(ridges):
            rows = (state == s).nonzero()[:, 0]
            folds = 2 if ridge is None else 1
            fold = torch.arange(len(rows), device=rows.device) % folds
            gram, slope = basis.normal_equations(
                position[rows],
                fold,
                folds,
                None if base is None else base[rows],
                None if weights is None else weights[rows],
            )
            diagonal = gram.sum(0).diagonal()
            active = (diagonal > UNTOUCHED * diagonal.max()).nonzero()[:, 0]
            normal = Normal(gram[:, active[:, None], active[None, :]], slope[:, active])
            del gram
            thetas[s, active], ridges[s] = normal.solve(ridge)
        return thetas

    def set_coefficients(self, coefficients: list[Tensor]) -> None:
        """Use these coefficients: a tensor (states, functions) for every view."""
        self.coefficients = coefficients
        self._polynomials = [
            basis.cell_polynomials(thetas) for basis, thetas in zip(self.bases, coefficients, strict=True)
        ]

    def score_and_jacobian(self, u: Tensor, domain: Tensor, *, full: bool = False) -> tuple[Tensor, Tensor]:
        """Values phi' theta (n, d) and derivatives: d_j s_j (n, d), or with ``full`` all d s_j / d u_k (n, d, d)."""
        return self._evaluate(u, domain, self._locate(u), full=full)

    def _evaluate(self, u: Tensor, domain: Tensor, located: list[Located], *, full: bool) -> tuple[Tensor, Tensor]:
        n, d = u.shape
        score, jacobian = u.new_zeros(n, d), u.new_zeros(n, d, d) if full else u.new_zeros(n, d)
        for v, (view, basis) in enumerate(zip(self.views, self.bases, strict=True)):
            j = view.columns[0]
            position = basis.locate([located[c] for c in view.columns])
            which = self.states[v].to(u.device)[domain] * basis.n_cells + position.cell
            along = range(len(view.columns)) if full else [0]
            values, slopes = basis.evaluate(self._polynomials[v].index_select(0, which), position, along)
            score[:, j] = values
            if full:
                for column, slope in zip(view.columns, slopes, strict=True):
                    jacobian[:, j, column] = slope
            else:
                jacobian[:, j] = slopes[0]
        return score, jacobian

    def _locate(self, u: Tensor) -> list[Located]:
        """Piece and powers of position of every coordinate."""
        columns = u.T.contiguous()
        pieces, places = zip(
            *(spline.locate(column) for spline, column in zip(self.splines, columns, strict=True)), strict=True
        )
        return list(zip(pieces, powers(torch.stack(places)), strict=True))
