"""The score that f-modeling uses: a base that sees every variable, plus a causal nonlinear remainder."""

from __future__ import annotations

import warnings
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from latentcause.graph import CausalGraph
from latentcause.scores.causal import Visibility, node_views
from latentcause.scores.gaussian import DomainGaussianScore
from latentcause.scores.mixture import DomainMixtureScore
from latentcause.scores.network import NetworkScore
from latentcause.scores.spline import SplineScore
from latentcause.scores.tensor_basis import MOST_VARIABLES
from latentcause.splines import UniformBSpline

Base = Literal["gaussian", "mixture"]

BASES = {"gaussian": DomainGaussianScore, "mixture": DomainMixtureScore}

RANGE = (0.002, 0.998)
"""Quantiles of a coordinate between which its splines stand; beyond them scores continue as lines."""

ROWS = 65536
"""Rows evaluated at a time, which bounds the memory of Jacobians."""


class CausalScore:
    """s(u, e) = base_e(u) + remainder(u, a_e): estimate of grad log f_e(u) in every domain e.

    The base is the score of each domain's own Gaussian (or mixture), in closed form and of all variables; what it leaves is
    fitted node by node by implicit score matching with what a node may see (`node_views`). With ``base=None`` the causal part
    stands alone, as in Wu, von Kuegelgen and Blei, section 5. Nodes whose tensor-product spline basis would exceed
    ``max_functions`` get a small neural score instead, with a warning that names them.

    Parameters
    ----------
    graph : CausalGraph
    indicator : ndarray of bool (n_domains, d)
    visibility : {"blanket", "parents", "full", "empty"} or None
        None leaves the remainder out.
    base : {"gaussian", "mixture"} or None
    n_splines : int
        Splines per coordinate.
    max_functions : int
    seed : int
        Of the mixture's and the network's starting values.
    """

    def __init__(
        self,
        graph: CausalGraph,
        indicator: np.ndarray,
        *,
        visibility: Visibility | None = "blanket",
        base: Base | None = "gaussian",
        n_splines: int = 6,
        max_functions: int = 4096,
        seed: int = 0,
    ) -> None:
        if base is not None and base not in BASES:
            raise ValueError(f"unknown base {base!r}: choose one of {list(BASES)}, or None")
        if base is None and visibility is None:
            raise ValueError("a score needs a base, a causal part (visibility), or both: not None for both")
        self.indicator = indicator
        self.base = BASES[base](**({"seed": seed} if base == "mixture" else {})) if base is not None else None
        views = node_views(graph, visibility) if visibility is not None else []
        self._spline_views = [view for view in views if _affordable(len(view.columns), n_splines, max_functions)]
        self._network_views = [view for view in views if view not in self._spline_views]
        self._n_splines = n_splines
        self._seed = seed
        self.splines: SplineScore | None = None
        self.network: NetworkScore | None = None
        if self._network_views:
            named = ", ".join(f"{graph.nodes[v.columns[0]]} ({len(v.columns)} variables)" for v in self._network_views)
            warnings.warn(
                f"more than {MOST_VARIABLES} variables, or {n_splines} spline functions of each, would "
                f"pass {max_functions} functions for {named}: "
                "a neural score takes over there",
                UserWarning,
                stacklevel=3,
            )

    def fit(
        self,
        u: Tensor,
        domain: Tensor,
        noise: Tensor,
        weights: Tensor | None = None,
        n_fitted: int | None = None,
        *,
        full: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Fit to points u (n, d) of domains (n,) and return score and derivatives there, as `score_and_jacobian` does.

        Parameters
        ----------
        u, domain : Tensor (n, d), (n,)
        noise : Tensor (d, d)
            Covariance of the noise that the points carry.
        weights : Tensor (n,), optional
        n_fitted : int, optional
            Fit to the first rows only.
        full : bool
            Return whole Jacobians.

        Raises
        ------
        ValueError
            With ``full`` where a neural score has taken over.
        """
        if full:
            self._refuse_network()
        rows = slice(n_fitted)
        fitted_weights = None if weights is None else weights[rows]
        if self.base is not None:
            self.base.fit(u[rows], domain[rows], len(self.indicator), noise, fitted_weights)
        base, jacobian = self._base_by_parts(u, domain, full)
        score = base
        if self._spline_views:
            if self.splines is None:
                self.splines = SplineScore(self._spline_views, self._bases_over(u[rows]), self.indicator)
            extra, slope = self.splines.fit(u, domain, base if self.base is not None else None, weights, n_fitted)
            if full:
                return self.score_and_jacobian(u, domain, full=True)
            score, jacobian = score + extra, jacobian + slope
        if self._network_views:
            self.network = self._new_network(u.shape[1])
            self.network.fit(
                u[rows].cpu().numpy(),
                self._context(domain[rows]),
                None if fitted_weights is None else fitted_weights.cpu().numpy(),
                base[rows].cpu().numpy(),
            )
            extra, slope = self._network_part(u, domain)
            score, jacobian = score + extra, jacobian + slope
        return score, jacobian

    def score_and_jacobian(self, u: Tensor, domain: Tensor, *, full: bool = False) -> tuple[Tensor, Tensor]:
        """Score (n, d) and its derivatives d_j s_j (n, d), or with ``full`` the Jacobian d s_j / d u_k (n, d, d)."""
        parts = [self._evaluate(a, b, full) for a, b in zip(u.split(ROWS), domain.split(ROWS), strict=True)]
        return torch.cat([s for s, _ in parts]), torch.cat([j for _, j in parts])

    # --- parts -------------------------------------------------------------------------------------------------------

    def _evaluate(self, u: Tensor, domain: Tensor, full: bool) -> tuple[Tensor, Tensor]:
        score, jacobian = self._base(u, domain)
        if not full:
            jacobian = jacobian.diagonal(dim1=1, dim2=2)
        if self.splines is not None:
            extra, slope = self.splines.score_and_jacobian(u, domain, full=full)
            score, jacobian = score + extra, jacobian + slope
        if self.network is not None:
            if full:
                self._refuse_network()
            extra, slope = self._network_part(u, domain)
            score, jacobian = score + extra, jacobian + slope
        return score, jacobian

    def _base(self, u: Tensor, domain: Tensor) -> tuple[Tensor, Tensor]:
        if self.base is None:
            return torch.zeros_like(u), u.new_zeros(1, u.shape[1], u.shape[1]).expand(len(u), -1, -1)
        return self.base.score_and_jacobian(u, domain)

    def _refuse_network(self) -> None:
        if self._network_views:
            raise ValueError(
                "correlated noise (columns='psd') needs every derivative of the score, which the neural score does not "
                "give: raise max_functions, or choose a score that sees less"
            )

    def _base_by_parts(self, u: Tensor, domain: Tensor, full: bool) -> tuple[Tensor, Tensor]:
        """The base alone at many points, whose Jacobians are never all held unless asked for."""
        if self.base is None and not full:
            return torch.zeros_like(u), torch.zeros_like(u)
        scores, jacobians = [], []
        for a, b in zip(u.split(ROWS), domain.split(ROWS), strict=True):
            score, jacobian = self._base(a, b)
            scores.append(score)
            jacobians.append(jacobian if full else jacobian.diagonal(dim1=1, dim2=2))
        return torch.cat(scores), torch.cat(jacobians)

    def _network_part(self, u: Tensor, domain: Tensor) -> tuple[Tensor, Tensor]:
        assert self.network is not None
        seen = [view.columns[0] for view in self._network_views]
        values = self.network.score_and_derivative(u.cpu().numpy(), self._context(domain))
        score, slope = torch.zeros_like(u), torch.zeros_like(u)
        score[:, seen] = torch.from_numpy(values[0][:, seen]).to(u)
        slope[:, seen] = torch.from_numpy(values[1][:, seen]).to(u)
        return score, slope

    def _bases_over(self, u: Tensor) -> list[UniformBSpline]:
        quantiles = np.quantile(u.cpu().numpy(), RANGE, axis=0)
        return [UniformBSpline(float(low), float(high), self._n_splines) for low, high in quantiles.T]

    def _new_network(self, d: int) -> NetworkScore:
        visible, flags = np.eye(d, dtype=bool), np.zeros((d, d), dtype=bool)
        for view in self._network_views:
            visible[view.columns[0], list(view.columns)] = True
            flags[view.columns[0], list(view.flags)] = True
        return NetworkScore(visible, flags, seed=self._seed)

    def _context(self, domain: Tensor) -> np.ndarray:
        return self.indicator[domain.cpu().numpy()].astype(float)

    # --- to and from files -------------------------------------------------------------------------------------------

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Arrays and JSON values from which `restore` makes the same score."""
        arrays: dict[str, np.ndarray] = {}
        values: dict[str, Any] = {}
        if self.base is not None:
            arrays |= {f"base.{name}": array for name, array in self.base.state().items()}
        if self.splines is not None:
            values["splines"] = [[s.low, s.high, s.count] for s in self.splines.splines]
            for v, thetas in enumerate(self.splines.coefficients):
                arrays[f"spline.{v}"] = thetas.cpu().numpy()
        if self.network is not None:
            arrays |= {f"network.{name}": array for name, array in self.network.state().items()}
        return arrays, values

    def restore(self, arrays: dict[str, np.ndarray], values: dict[str, Any]) -> None:
        """Set the fitted parts from what `state` gave."""

        def part(prefix: str) -> dict[str, np.ndarray]:
            return {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}

        if self.base is not None:
            self.base = type(self.base).from_state(part("base."))
        if "splines" in values:
            splines = [UniformBSpline(low, high, int(count)) for low, high, count in values["splines"]]
            self.splines = SplineScore(self._spline_views, splines, self.indicator)
            stored = part("spline.")
            self.splines.set_coefficients(
                [torch.from_numpy(stored[str(v)].copy()) for v in range(len(self._spline_views))]
            )
        if self._network_views:
            self.network = self._new_network(self.indicator.shape[1])
            self.network.restore(part("network."))


def _affordable(n_variables: int, n_splines: int, max_functions: int) -> bool:
    return n_variables <= MOST_VARIABLES and n_splines**n_variables <= max_functions


def matching_losses(score: Tensor, jacobian: Tensor, metric: Tensor) -> Tensor:
    """Implicit score-matching loss 1/2 s' M s + tr(M J) of every row (n,); its mean is half the Fisher divergence + constant.

    With M the noise's covariance in units of sigma^2 the loss is that of the measurements' own coordinates, so it can be compared
    between loadings; sigma^2 d + 2 sigma^4 loss is then Stein's unbiased estimate of the denoising error.

    Parameters
    ----------
    score : Tensor (n, d)
    jacobian : Tensor (n, d) or (n, d, d)
    metric : Tensor (d,) or (d, d)
    """
    if metric.ndim == 2:
        return 0.5 * ((score @ metric) * score).sum(1) + (jacobian * metric).sum((1, 2))
    return (metric * (0.5 * score.square() + jacobian)).sum(1)
