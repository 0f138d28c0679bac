"""The score of a mixture of Gaussians per domain: closed form, with weights that minimise Stein's unbiased risk."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from latentcause.scores.gaussian import checked_rows, checked_samples, inverse_root
from latentcause.scores.mixture_em import CHUNK, DomainComponents, Mixture, Rows, SharedComponents, quadratic_features

ROWS_PER_PARAMETER = 2


class DomainMixtureScore:
    """Estimate s_e(y) = d/dy log f_e(y) in every domain e by averaging Gaussian mixtures that keep the noise's width.

    Where y = z + N(0, C), every density of y is a blur of width C. A *member* is a mixture
    f_e(y) = sum_k w_ek N(y; m_ek, S_ek + C), S_ek positive semi-definite, fitted in two steps: EM for K components that all
    domains share, each domain with its own weights (Bovy, Hogg and Roweis 2011, extreme deconvolution), and EM in which
    every domain moves its copies, held back by a prior worth ``strength`` rows. One component is the Gaussian of the
    domain, so the Wiener filter is a member too.

    The score is the weighted mean of the members' scores, that of the log-linear pool
    f_e(y) ~ prod_m f_em(y)^a_m. Nothing is chosen by hand: each member is fitted once without every fold of the rows, and
    the weights a (not negative, summing to one) minimise on the rows left out

        E[|C s|^2 + 2 tr(C J C)],   J_jk = d s_j / d y_k,

    which is, up to a constant, Stein's unbiased estimate of the error E|y + C s(y) - z|^2 (Stein 1981; Raphan and
    Simoncelli 2011) and the implicit score-matching loss (Hyvarinen 2005, Theorem 1) in the metric C^2. It is quadratic
    in a. Only the noisy y is used. The fits of all folds are averaged. C + C J C, the posterior covariance by Tweedie's
    formula, is positive semi-definite at every y by construction.

    Parameters
    ----------
    components : tuple of int
        Numbers K of components to fit. Those that leave fewer than 2 rows for each number in their components are left
        out, but never the smallest. The defaults were chosen by the loss above on noisy rows that no fold had seen.
    strengths : tuple of float
        Prior strengths in rows, each used with every K.
    folds : int
        Number of folds, at least 2.
    max_iterations, tolerance
        EM stops after so many iterations, or once the penalised log likelihood per row grows by less. (The domains' own
        EM starts at the shared optimum and takes half the iterations.)
    max_rows : int
        With more rows the fit uses a random subset of about this size, balanced over domains and weighted back.
    seed : int
        Seed of folds, subset and k-means.

    Attributes
    ----------
    members_ : list of (int, float)
        (K, strength) of each member.
    member_weights_ : ndarray
        a, in that order.
    risks_ : ndarray
        Stein's loss above, per coordinate, of each member alone (NaN once restored from a file).
    """

    def __init__(
        self,
        components: tuple[int, ...] = (1, 8, 16, 32, 48),
        strengths: tuple[float, ...] = (1.0, 30.0),
        *,
        folds: int = 5,
        max_iterations: int = 30,
        tolerance: float = 3e-5,
        max_rows: int = 50_000,
        seed: int = 0,
    ) -> None:
        if not components or min(components) < 1:
            raise ValueError(f"components must be numbers of at least 1, not {components}")
        if not strengths or not min(strengths) > 0:
            raise ValueError(f"strengths must be positive, not {strengths}")
        if folds < 2:
            raise ValueError(f"folds must be at least 2, not {folds}: the weights need rows that were left out")
        self.components = tuple(components)
        self.strengths = tuple(strengths)
        self.folds = folds
        self.max_iterations = max_iterations
        self.tolerance = tolerance
        self.max_rows = max_rows
        self.seed = seed

    def fit(
        self, y: Tensor, domain: Tensor, n_domains: int, noise: Tensor | None = None, weights: Tensor | None = None
    ) -> Self:
        """Fit to samples y (n, d) of domains (n,), with noise covariance C (d, d) and row weights (n,).

        Without a noise covariance the components may take any width, and the pooled covariance stands for C in the loss.
        Weights are relative: they are scaled to mean 1. A domain without rows takes the pooled mixture.

        Raises ``ValueError`` for wrong shapes, values that are not finite, domains out of range, negative weights, a
        noise covariance that is not positive definite, fewer rows than folds, and columns that are linearly dependent.
        """
        y, domain, weights, noise = checked_samples(y, domain, n_domains, noise, weights)
        if len(y) < self.folds:
            raise ValueError(f"{len(y)} rows are fewer than the {self.folds} folds: lower folds or bring more rows")
        if len(y) < 2 * min(self.components):
            raise ValueError(f"{len(y)} rows are too few for {min(self.components)} components: lower components")
        rng = np.random.default_rng(self.seed)
        kept, weights = _subset(domain, weights, self.max_rows, rng)
        y, domain = y[kept], domain[kept]
        self.center = weights @ y / weights.sum()
        spread = torch.cov(y.T, aweights=weights, correction=0).reshape(y.shape[1], y.shape[1])
        # In these coordinates the noise is the identity (without noise, the pooled covariance is).
        self.whitener = inverse_root(spread if noise is None else noise)
        white = (y - self.center) @ self.whitener
        fold = _folds(domain, self.folds, rng)

        self.members_ = [(k, s) for k in self._affordable(len(y), y.shape[1]) for s in self.strengths]
        metric = torch.linalg.cholesky(noise) if noise is not None else torch.eye(y.shape[1]).to(y)
        scores = y.new_zeros(len(self.members_), *y.shape)
        traces = y.new_zeros(len(self.members_), len(y))
        fitted: list[Mixture] = []
        for f in range(self.folds):
            train, test = torch.nonzero(fold != f).squeeze(1), torch.nonzero(fold == f).squeeze(1)
            rows = Rows.sort(white[train], domain[train], n_domains, weights[train], 0.0 if noise is None else 1.0)
            mixtures = self._fit_members(rows, self.seed + f)
            for m, mixture in enumerate(mixtures):
                pool = _Pool.of([mixture], y.new_ones(1))
                score, jacobian = pool.score_and_jacobian(white[test], domain[test])
                scores[m, test] = score @ metric
                traces[m, test] = (jacobian * (metric @ metric.T)).sum((1, 2))
            fitted += mixtures
        self._stack(scores, traces, weights)
        share = np.tile(self.member_weights_, self.folds) / self.folds
        used = np.flatnonzero(share > 0)
        self._pool = _Pool.of([fitted[i] for i in used], torch.from_numpy(share[used]).to(y))
        return self

    def score_and_jacobian(self, y: Tensor, domain: Tensor) -> tuple[Tensor, Tensor]:
        """Scores s (n, d) and J (n, d, d) with J[i, j, k] = d s_j / d y_k at y (n, d) of domains (n,)."""
        y, domain = self._checked(y, domain)
        score, jacobian = self._pool.score_and_jacobian((y - self.center) @ self.whitener, domain)
        return score @ self.whitener, self.whitener @ jacobian @ self.whitener

    def log_density(self, y: Tensor, domain: Tensor) -> Tensor:
        """Mean log density (n,) of the members, sum_m a_m log f_em(y).

        Its gradient is the score. It is a lower bound on the log density of the normalised pool, from which it differs
        by one constant per domain.
        """
        y, domain = self._checked(y, domain)
        log_scale = torch.linalg.slogdet(self.whitener)[1]
        return self._pool.log_density((y - self.center) @ self.whitener, domain) + log_scale

    def state(self) -> dict[str, np.ndarray]:
        """What fitting learned, as arrays by name."""
        self._check_fitted()
        tensors = {"center": self.center, "whitener": self.whitener, **self._pool.tensors()}
        arrays = {name: tensor.cpu().numpy() for name, tensor in tensors.items()}
        return arrays | {"members": np.array(self.members_, dtype=np.float64), "member_weights": self.member_weights_}

    @classmethod
    def from_state(cls, state: dict[str, np.ndarray]) -> Self:
        """The fitted score that ``state`` describes, on the CPU."""
        members = [(int(k), float(s)) for k, s in state["members"]]
        score = cls(tuple(dict.fromkeys(k for k, _ in members)), tuple(dict.fromkeys(s for _, s in members)))
        tensors = {name: torch.tensor(array) for name, array in state.items()}
        score.center, score.whitener = tensors["center"], tensors["whitener"]
        score._pool = _Pool(*(tensors[name] for name in _Pool.NAMES))
        score.members_, score.member_weights_ = members, np.array(state["member_weights"])
        score.risks_ = np.full(len(members), np.nan)
        return score

    def _affordable(self, n: int, d: int) -> list[int]:
        parameters = d * (d + 3) // 2
        return sorted(
            {k for k in self.components if k * parameters * ROWS_PER_PARAMETER <= n} or {min(self.components)}
        )

    def _fit_members(self, rows: Rows, seed: int) -> list[Mixture]:
        mixtures = []
        for k in sorted({k for k, _ in self.members_}):
            shared = SharedComponents(k, self.max_iterations, self.tolerance).fit(rows, seed)[0]
            for strength in self.strengths:
                own = DomainComponents(strength, max(1, self.max_iterations // 2), self.tolerance)
                mixtures.append(own.fit(rows, shared)[0])
        return mixtures

    def _stack(self, scores: Tensor, traces: Tensor, weights: Tensor) -> None:
        """Set the members' weights: the a on the simplex that minimise 1/2 a' G a + h' a."""
        share = weights / weights.sum()
        gram = torch.einsum("mnd,n,knd->mk", scores, share, scores).cpu().numpy()
        slope = (traces @ share).cpu().numpy()
        self.risks_ = (gram.diagonal() + 2 * slope) / scores.shape[2]
        self.member_weights_ = _minimise_on_simplex(gram, slope)

    def _checked(self, y: Tensor, domain: Tensor) -> tuple[Tensor, Tensor]:
        self._check_fitted()
        return checked_rows(y, domain, self._pool.log_weights.shape[0], len(self.center))

    def _check_fitted(self) -> None:
        if not hasattr(self, "_pool"):
            raise RuntimeError("this DomainMixtureScore is not fitted yet: call fit(y, domain, n_domains) first")


class _Pool:
    """Several mixtures side by side, component axis first packed: mixture ``owner[k]`` holds component k, with a share."""

    NAMES = ("shares", "owner", "log_weights", "means", "covariances")

    def __init__(self, shares: Tensor, owner: Tensor, log_weights: Tensor, means: Tensor, covariances: Tensor) -> None:
        self.shares, self.owner = shares, owner
        self.log_weights, self.means, self.covariances = log_weights, means, covariances
        self._theta = Mixture(log_weights, means, covariances).coefficients()
        self._precisions = torch.linalg.inv(covariances)

    @classmethod
    def of(cls, mixtures: list[Mixture], shares: Tensor) -> _Pool:
        owner = torch.cat([torch.full((m.log_weights.shape[1],), i) for i, m in enumerate(mixtures)])
        parts = (torch.cat([getattr(m, name) for m in mixtures], 1) for name in cls.NAMES[2:])
        return cls(shares, owner.to(shares.device), *parts)

    def tensors(self) -> dict[str, Tensor]:
        return {name: getattr(self, name) for name in self.NAMES}

    def log_density(self, y: Tensor, domain: Tensor) -> Tensor:
        result = y.new_empty(len(y))
        for e, rows in self._pieces(domain, y.shape[1]):
            result[rows] = self._posterior(y[rows], e)[1] @ self.shares
        return result

    def score_and_jacobian(self, y: Tensor, domain: Tensor) -> tuple[Tensor, Tensor]:
        """s = sum_m a_m s_m and J = sum_m a_m [sum_k r_k (u_k u_k' - P_k) - s_m s_m'], over components k of mixture m.

        Here s_m = sum_k r_k u_k, with responsibilities r_k, u_k = -P_k (y - m_k) and precisions P_k.
        """
        n, d = y.shape
        score, jacobian = y.new_empty(n, d), y.new_empty(n, d, d)
        for e, rows in self._pieces(domain, d):
            responsibility, _ = self._posterior(y[rows], e)
            precisions = self._precisions[e]
            pull = (precisions @ self.means[e][:, :, None]).squeeze(2) - torch.einsum(
                "ni,kij->nkj", y[rows], precisions
            )
            pulled = responsibility[:, :, None] * pull
            by_member = y.new_zeros(len(pull), len(self.shares), d).index_add_(1, self.owner, pulled)
            share = self.shares[self.owner]
            score[rows] = torch.einsum("m,nmd->nd", self.shares, by_member)
            outer = (pulled * share[:, None]).mT @ pull - (by_member * self.shares[:, None]).mT @ by_member
            curvature = ((responsibility * share) @ precisions.flatten(1)).view(-1, d, d)
            jacobian[rows] = outer - curvature
        return score, 0.5 * (jacobian + jacobian.mT)

    def _pieces(self, domain: Tensor, d: int) -> Iterator[tuple[int, Tensor]]:
        """Rows of one domain at a time, few enough that their (n, K, d) arrays stay small."""
        step = max(1, CHUNK // (len(self.owner) * d + (d + 1) * (d + 2)))
        for e in torch.unique(domain).tolist():
            for rows in torch.nonzero(domain == e).squeeze(1).split(step):
                yield e, rows

    def _posterior(self, y: Tensor, e: int) -> tuple[Tensor, Tensor]:
        """Responsibilities (n, K), summing to one within each mixture, and the mixtures' log densities (n, M)."""
        logs = quadratic_features(y) @ self._theta[e].T
        index = self.owner.expand_as(logs)
        shape = (len(y), len(self.shares))
        top = logs.new_full(shape, -torch.inf).scatter_reduce_(1, index, logs, "amax")
        weights = (logs - top[:, self.owner]).exp()
        total = logs.new_zeros(shape).index_add_(1, self.owner, weights)
        return weights / total[:, self.owner], top + total.log()


def _minimise_on_simplex(gram: np.ndarray, slope: np.ndarray) -> np.ndarray:
    """The a >= 0 with sum 1 that minimises 1/2 a' gram a + slope' a; what is below 1e-6 becomes 0."""
    m = len(slope)
    scale = max(np.abs(gram).max(), np.abs(slope).max(), np.finfo(float).tiny)

    def objective(a: np.ndarray) -> tuple[float, np.ndarray]:
        pull = gram @ a
        return (0.5 * a @ pull + slope @ a) / scale, (pull + slope) / scale

    result = minimize(
        objective,
        np.full(m, 1 / m),
        jac=True,
        method="SLSQP",
        bounds=[(0, 1)] * m,
        constraints={"type": "eq", "fun": lambda a: a.sum() - 1, "jac": lambda a: np.ones(m)},
        options={"maxiter": 1000, "ftol": 1e-12},
    )
    if not result.success:
        raise RuntimeError(f"the members' weights were not found: {result.message}")
    kept = np.where(result.x > 1e-6, result.x, 0.0)
    return kept / kept.sum()


def _subset(domain: Tensor, weights: Tensor, max_rows: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """At most about ``max_rows`` rows, none dropped from small domains, and weights that make up for those dropped."""
    counts = np.bincount(domain.cpu().numpy())
    if len(domain) <= max_rows:
        return torch.arange(len(domain), device=domain.device), weights
    # The largest common cap under which the domains fit into max_rows.
    ordered = np.sort(counts)
    left = max_rows - np.concatenate([[0], ordered.cumsum()[:-1]])
    caps = left / np.arange(len(ordered), 0, -1)
    cap = max(1, int(caps[np.argmax(caps <= ordered)]))
    kept = [rng.permutation(np.flatnonzero(domain.cpu().numpy() == e))[:cap] for e in range(len(counts))]
    rows = torch.from_numpy(np.sort(np.concatenate(kept))).to(domain.device)
    factor = torch.from_numpy(counts / np.minimum(counts, cap).clip(1)).to(weights)
    chosen = weights[rows] * factor[domain[rows]]
    return rows, chosen / chosen.mean()


def _folds(domain: Tensor, folds: int, rng: np.random.Generator) -> Tensor:
    """The fold (n,) of every row: at random, spread evenly over the rows of each domain."""
    labels = domain.cpu().numpy()
    shuffled = rng.permutation(len(labels))
    shuffled = shuffled[np.argsort(labels[shuffled], kind="stable")]
    fold = np.empty(len(labels), dtype=np.int64)
    fold[shuffled] = np.arange(len(labels)) % folds
    return torch.from_numpy(fold).to(domain.device)
