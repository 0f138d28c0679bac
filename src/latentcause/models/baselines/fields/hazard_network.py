"""HazardNetwork: binary hazards of many pixels and the map that shows them, with its mean-field updates and its bound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product

import numpy as np
from scipy.optimize import lsq_linear, minimize
from scipy.special import entr, expit, log_expit

LARGEST = 15.0
"""Of intercepts: chances of hazards stay between 3e-7 and 1 - 3e-7."""

STEEPEST = 10.0
"""Of slopes and of effects on log odds."""

LEAST = 1e-8
"""Share of the variance of log y that is left to noise at least, so that maps without any noise have a bound."""


@dataclass(frozen=True)
class HazardWeights:
    """The weights w of a `HazardNetwork`.

    Attributes
    ----------
    intercept : mapping from node
        Of the hazards, in log odds: the chance without any active parent (their leak); of the map, log y without any hazard.
    slope : mapping from root
        Of the log odds of its prior map.
    effect : mapping from (parent, child)
        On the log odds of a hazard, and on the mean of log y; none is negative.
    sd : float
        Of log y.
    """

    intercept: Mapping[str, float]
    slope: Mapping[str, float]
    effect: Mapping[tuple[str, str], float]
    sd: float


@dataclass(frozen=True, eq=False)
class HazardNetwork:
    """Binary z_h in every one of N pixels, and log y ~ N(w_y + sum_h w_hy z_h, sd^2) in those that were seen.

    A root h, which has a prior map with log odds alpha_h, is active with log odds w_h + s_h alpha_h; another hazard b with log
    odds w_b + sum_h w_hb z_h. Where a hazard is not possible it is 0. The posterior of each pixel is approximated by
    independent z_h ~ Bernoulli(q_h). All functions take q (hazards, N) and never change it.

    Attributes
    ----------
    parents : mapping from hazard to its parents
        Hazards in an order in which parents come first.
    shows : tuple of str
        Hazards that raise y.
    map_name : str
    log_odds : mapping from root to array (N,)
        alpha, finite where the root is possible.
    possible : bool array (hazards, N)
    log_y : array (N,)
        NaN where y was not seen.
    """

    parents: Mapping[str, tuple[str, ...]]
    shows: tuple[str, ...]
    map_name: str
    log_odds: Mapping[str, np.ndarray]
    possible: np.ndarray
    log_y: np.ndarray

    @property
    def hazards(self) -> tuple[str, ...]:
        """Rows of q."""
        return tuple(self.parents)

    def start(self) -> tuple[HazardWeights, np.ndarray]:
        """Weights and q before anything is learned: the prior maps as they are, and hazards that raise log y by its sd."""
        y = self.log_y[~np.isnan(self.log_y)]
        edges = [(parent, child) for child in self.hazards for parent in self.parents[child]]
        weights = HazardWeights(
            {h: 0.0 if h in self.log_odds else -2.0 for h in self.hazards} | {self.map_name: float(np.median(y))},
            dict.fromkeys(self.log_odds, 1.0),
            dict.fromkeys(edges, 1.0) | {(h, self.map_name): float(y.std()) for h in self.shows},
            float(y.std()),
        )
        q = np.zeros(self.possible.shape)
        for row, h in enumerate(self.hazards):
            q[row] = np.where(self.possible[row], expit(self._mean_log_odds(h, weights, q)), 0.0)
        return weights, q

    # --- the bound ---------------------------------------------------------------------------------------------------

    def bound(self, weights: HazardWeights, q: np.ndarray) -> float:
        """sum over pixels of E_q[log p(y, z)] - E_q[log q(z)] in nats, at most log p(y)."""
        total = self._bound_of_map(weights, q)
        for row, h in enumerate(self.hazards):
            at = self.possible[row]
            own = q[row, at]
            total += float((entr(own) + entr(1 - own)).sum())
            for weight, a in self._settings(h, weights, q, at):
                total += float((weight * (own * log_expit(a) + (1 - own) * log_expit(-a))).sum())
        return total

    def _bound_of_map(self, weights: HazardWeights, q: np.ndarray) -> float:
        seen = ~np.isnan(self.log_y)
        y, variance = self.log_y[seen], weights.sd**2
        misfit, spread = self._residual(weights, q)[seen], self._spread(weights, q)[seen]
        return float(
            -0.5 * ((misfit**2 + spread) / variance).sum() - 0.5 * len(y) * np.log(2 * np.pi * variance) - y.sum()
        )

    def _residual(self, weights: HazardWeights, q: np.ndarray) -> np.ndarray:
        """log y less its mean under q (N,)."""
        raised = sum(weights.effect[h, self.map_name] * q[self._row(h)] for h in self.shows)
        return self.log_y - weights.intercept[self.map_name] - raised

    def _spread(self, weights: HazardWeights, q: np.ndarray) -> np.ndarray:
        """Variance of w' z under q (N,)."""
        own = [(weights.effect[h, self.map_name], q[self._row(h)]) for h in self.shows]
        return sum((w**2 * chance * (1 - chance) for w, chance in own), np.zeros_like(self.log_y))

    # --- updates -----------------------------------------------------------------------------------------------------

    def updated_chances(self, weights: HazardWeights, q: np.ndarray) -> np.ndarray:
        """q after one update of each hazard in turn to its best value given the others, which never lowers the bound.

        logit q_h = E_q[log p(y, z | z_h = 1)] - E_q[log p(y, z | z_h = 0)], over the other hazards.
        """
        q = q.copy()
        for row, h in enumerate(self.hazards):
            logit = self._mean_log_odds(h, weights, q)
            if h in self.shows:
                w = weights.effect[h, self.map_name]
                others = self._residual(weights, q) + w * q[row]
                logit = logit + np.nan_to_num(w * (others - 0.5 * w) / weights.sd**2)
            for child in self.hazards:
                if h in self.parents[child]:
                    logit = logit + self._from_child(h, child, weights, q)
            q[row] = np.where(self.possible[row], expit(logit), 0.0)
        return q

    def _mean_log_odds(self, h: str, weights: HazardWeights, q: np.ndarray) -> np.ndarray:
        """E[log odds of h given its parents] (N,)."""
        if h in self.log_odds:
            return weights.intercept[h] + weights.slope[h] * np.where(
                self.possible[self._row(h)], self.log_odds[h], 0.0
            )
        raised = sum((weights.effect[p, h] * q[self._row(p)] for p in self.parents[h]), np.zeros_like(self.log_y))
        return weights.intercept[h] + raised

    def _from_child(self, h: str, child: str, weights: HazardWeights, q: np.ndarray) -> np.ndarray:
        """What a hazard's own child says about it (N,)."""
        row, at = self._row(child), self.possible[self._row(child)]
        own, told = q[row, at], np.zeros_like(self.log_y)
        for state in (1.0, 0.0):
            fixed = q.copy()
            fixed[self._row(h)] = state
            for weight, a in self._settings(child, weights, fixed, at):
                told[at] += (2 * state - 1) * weight * (own * log_expit(a) + (1 - own) * log_expit(-a))
        return told

    def updated_weights(self, weights: HazardWeights, q: np.ndarray) -> HazardWeights:
        """The weights that make the bound largest for this q: least squares for the map, logistic regressions for hazards."""
        weights = self._fitted_map(weights, q)
        for h in self.hazards:
            weights = self._fitted_hazard(h, weights, q)
        return weights

    def _fitted_map(self, weights: HazardWeights, q: np.ndarray) -> HazardWeights:
        """min over w of sum E_q[(log y - w_y - w' z)^2] with w >= 0, and the variance that is left."""
        seen = ~np.isnan(self.log_y)
        y = self.log_y[seen]
        x = np.stack([np.ones_like(y), *(q[self._row(h), seen] for h in self.shows)])
        moments = x @ x.T / len(y)
        moments[np.diag_indices(len(x))] = x.mean(1)  # z^2 = z, and its mean is q
        values, axes = np.linalg.eigh(moments)
        roots = np.sqrt(np.clip(values, 1e-12, None))
        found = lsq_linear(
            roots[:, None] * axes.T, axes.T @ (x @ y / len(y)) / roots, ([-np.inf, *[0] * len(self.shows)], np.inf)
        ).x
        effect = dict(weights.effect) | {
            (h, self.map_name): float(w) for h, w in zip(self.shows, found[1:], strict=True)
        }
        new = replace(
            weights, intercept={**weights.intercept, self.map_name: float(found[0])}, effect=effect, sd=weights.sd
        )
        left = (self._residual(new, q)[seen] ** 2 + self._spread(new, q)[seen]).mean()
        new = replace(new, sd=float(np.sqrt(max(left, LEAST * y.var()))))
        return new if self._bound_of_map(new, q) > self._bound_of_map(weights, q) else weights

    def _fitted_hazard(self, h: str, weights: HazardWeights, q: np.ndarray) -> HazardWeights:
        """Logistic regression of q_h on the prior map, or on all settings of the parents, each with its chance."""
        row, names = self._row(h), self.parents[h]
        own = q[row, self.possible[row]]
        if h in self.log_odds:
            alpha, number = self._levels[h]
            x = np.stack([np.ones_like(alpha), alpha], 1)
            active, quiet = np.bincount(number, own), np.bincount(number, 1 - own)
            before = [weights.intercept[h], weights.slope[h]]
        else:
            settings = list(self._settings(h, weights, q, self.possible[row]))
            x = np.array([(1.0, *bits) for bits in product((1.0, 0.0), repeat=len(names))])
            active = np.array([(chance * own).sum() for chance, _ in settings])
            quiet = np.array([(chance * (1 - own)).sum() for chance, _ in settings])
            before = [weights.intercept[h], *(weights.effect[p, h] for p in names)]
        found = _logistic(x, active, quiet, before)
        intercept = {**weights.intercept, h: float(found[0])}
        if h in self.log_odds:
            return replace(weights, intercept=intercept, slope={**weights.slope, h: float(found[1])})
        raised = {(p, h): float(w) for p, w in zip(names, found[1:], strict=True)}
        return replace(weights, intercept=intercept, effect={**weights.effect, **raised})

    def _settings(
        self, h: str, weights: HazardWeights, q: np.ndarray, at: np.ndarray
    ) -> Sequence[tuple[np.ndarray, np.ndarray]]:
        """For every setting of the parents of h: its chance under q, and the log odds of h there, in pixels ``at``."""
        if h in self.log_odds:
            own = weights.intercept[h] + weights.slope[h] * self.log_odds[h][at]
            return [(np.ones_like(own), own)]
        found, rows = [], [q[self._row(p), at] for p in self.parents[h]]
        for bits in product((1.0, 0.0), repeat=len(rows)):
            chance = np.ones(int(at.sum()))
            for bit, row in zip(bits, rows, strict=True):
                chance = chance * (row if bit else 1 - row)
            raised = sum(bit * weights.effect[p, h] for bit, p in zip(bits, self.parents[h], strict=True))
            found.append((chance, np.full_like(chance, weights.intercept[h] + raised)))
        return found

    @cached_property
    def _levels(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """The different log odds of each root's prior map, and which of them each pixel where it is possible has."""
        return {
            h: np.unique(alpha[self.possible[self._row(h)]], return_inverse=True) for h, alpha in self.log_odds.items()
        }

    def _row(self, h: str) -> int:
        return self.hazards.index(h)


def _logistic(x: np.ndarray, active: np.ndarray, quiet: np.ndarray, before: list[float]) -> np.ndarray:
    """max over w of sum active log s(x w) + quiet log s(-x w), with all but the first of w in [0, STEEPEST]."""
    total = active.sum() + quiet.sum()

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        a = x @ w
        value = -(active * log_expit(a) + quiet * log_expit(-a)).sum()
        slope = -x.T @ (active * expit(-a) - quiet * expit(a))
        return value / total, slope / total

    bounds = [(-LARGEST, LARGEST), *[(0.0, STEEPEST)] * (x.shape[1] - 1)]
    start = np.array(before)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-13, "gtol": 1e-9})
    return found.x if loss(found.x)[0] < loss(start)[0] else start
