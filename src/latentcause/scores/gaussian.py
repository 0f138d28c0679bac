"""The score of a Gaussian per domain: the Wiener filter, with small domains held to what all domains share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import multigammaln
from torch import Tensor

from latentcause.scores.mixture_em import raise_eigenvalues


class DomainGaussianScore:
    """Estimate s_e(y) = -T_e^-1 (y - m_e), the score of N(m_e, T_e) in every domain e.

    With noise covariance C, y + C s_e(y) is the Wiener filter of the domain. Two things keep it sound where rows are few:

    - *Shrinkage*: means and covariances have the prior T_e ~ inverse-Wishart(nu, (nu - d - 1) T), m_e ~ N(m, T_e / kappa)
      around the pooled mean m and the within-domain covariance T. Its two strengths maximise the evidence, which is
      closed form (Murphy 2007, Conjugate Bayesian analysis of the Gaussian distribution, Eq. 266). These strengths, a
      tenth of them, and none compete; the least loss E[|C s|^2 + 2 tr(C J C)] with every row left out in turn wins. That
      is Stein's unbiased estimate of the filter's error, up to a constant. So domains borrow no more than they prove
      alike, and nothing where that does not pay.
    - *Noise*: T_e >= C. Eigenvalues of C^-1/2 T_e C^-1/2 below one are raised to one, the covariance of largest
      likelihood under that constraint.

    Parameters
    ----------
    shrink : bool
        Whether to shrink; without it m_e and T_e are the domain's sample mean and covariance.

    Attributes
    ----------
    means_ : Tensor (E, d)
    covariances_ : Tensor (E, d, d)
        Of the noisy y.
    prior_rows_ : tuple of float
        kappa and nu - d - 1: the rows that the prior is worth in mean and covariance (0, 0 without shrinkage).
    """

    def __init__(self, *, shrink: bool = True) -> None:
        self.shrink = shrink

    def fit(
        self, y: Tensor, domain: Tensor, n_domains: int, noise: Tensor | None = None, weights: Tensor | None = None
    ) -> Self:
        """Fit to samples y (n, d) of domains (n,), with noise covariance C (d, d) and row weights (n,).

        Weights are relative: they are scaled to mean 1. With shrinkage a domain without rows takes the pooled values.

        Raises ``ValueError`` for wrong shapes, values that are not finite, domains out of range, negative weights, a noise
        covariance that is not positive definite, columns that are linearly dependent and, without shrinkage, a domain with no
        more rows than columns.
        """
        y, domain, weights, noise = checked_samples(y, domain, n_domains, noise, weights)
        moments = _Moments.of(y, domain, n_domains, weights)
        if self.shrink:
            metric = moments.covariance if noise is None else noise @ noise
            best = moments.most_evident_prior_rows()
            candidates = [best, (best[0] / 10, best[1] / 10), (0.0, 0.0)]
            losses = [moments.left_out_loss(*rows, y, domain, weights, metric) for rows in candidates]
            self.prior_rows_ = candidates[int(np.argmin(losses))]
        else:
            short = [
                e for e, rows in enumerate(torch.bincount(domain, minlength=n_domains).tolist()) if rows <= y.shape[1]
            ]
            if short:
                raise ValueError(
                    f"domain {short[0]} has no more rows than the {y.shape[1]} columns: its covariance is singular; "
                    "shrink, or bring more rows"
                )
            self.prior_rows_ = (0.0, 0.0)
        self.means_, covariances = moments.posterior(*self.prior_rows_)
        if noise is not None:
            whitener = inverse_root(noise)
            root = torch.linalg.inv(whitener)
            covariances = root @ raise_eigenvalues(whitener @ covariances @ whitener, 1.0) @ root
        self.covariances_ = 0.5 * (covariances + covariances.mT)
        self._prepare()
        return self

    def score_and_jacobian(self, y: Tensor, domain: Tensor) -> tuple[Tensor, Tensor]:
        """Scores s (n, d) and J (n, d, d) with J[i, j, k] = d s_j / d y_k at y (n, d) of domains (n,)."""
        y, domain = self._checked(y, domain)
        jacobian = -self._precisions[domain]
        return (jacobian @ (y - self.means_[domain])[:, :, None]).squeeze(2), jacobian

    def log_density(self, y: Tensor, domain: Tensor) -> Tensor:
        """log N(y; m_e, T_e), (n,), at y (n, d) of domains (n,)."""
        y, domain = self._checked(y, domain)
        offset = y - self.means_[domain]
        distance = (offset * (self._precisions[domain] @ offset[:, :, None]).squeeze(2)).sum(1)
        return self._log_normalisers[domain] - 0.5 * distance

    def state(self) -> dict[str, np.ndarray]:
        """What fitting learned, as arrays by name."""
        self._check_fitted()
        return {
            "means": self.means_.cpu().numpy(),
            "covariances": self.covariances_.cpu().numpy(),
            "prior_rows": np.array(self.prior_rows_),
        }

    @classmethod
    def from_state(cls, state: dict[str, np.ndarray]) -> Self:
        """The fitted score that ``state`` describes, on the CPU."""
        kappa, rows = state["prior_rows"].tolist()
        score = cls(shrink=(kappa, rows) != (0.0, 0.0))
        score.means_, score.covariances_ = torch.tensor(state["means"]), torch.tensor(state["covariances"])
        score.prior_rows_ = (kappa, rows)
        score._prepare()
        return score

    def _prepare(self) -> None:
        self._precisions = torch.linalg.inv(self.covariances_)
        log_volume = torch.linalg.slogdet(self.covariances_)[1]
        self._log_normalisers = -0.5 * (log_volume + self.means_.shape[1] * np.log(2 * np.pi))

    def _checked(self, y: Tensor, domain: Tensor) -> tuple[Tensor, Tensor]:
        self._check_fitted()
        return checked_rows(y, domain, *self.means_.shape)

    def _check_fitted(self) -> None:
        if not hasattr(self, "means_"):
            raise RuntimeError("this DomainGaussianScore is not fitted yet: call fit(y, domain, n_domains) first")


@dataclass(frozen=True)
class _Moments:
    """Counts (E,), means (E, d) and scatters (E, d, d) of the domains; pooled mean (d,) and within-domain covariance (d, d)."""

    counts: Tensor
    means: Tensor
    scatters: Tensor
    mean: Tensor
    covariance: Tensor

    @classmethod
    def of(cls, y: Tensor, domain: Tensor, n_domains: int, weights: Tensor) -> _Moments:
        d = y.shape[1]
        counts = y.new_zeros(n_domains).index_add_(0, domain, weights)
        means = y.new_zeros(n_domains, d).index_add_(0, domain, y * weights[:, None])
        means = means / counts.clamp_min(torch.finfo(y.dtype).tiny)[:, None]
        scatters = y.new_zeros(n_domains, d, d)
        for e in range(n_domains):
            rows = domain == e
            offset = y[rows] - means[e]
            scatters[e] = (offset * weights[rows, None]).T @ offset
        total = counts.sum()
        used = int((counts > 0).sum())
        covariance = scatters.sum(0) / max(float(total) - used, 1.0)
        return cls(counts, means, scatters, counts @ means / total, covariance)

    def posterior(self, kappa: float, rows: float) -> tuple[Tensor, Tensor]:
        """Means and covariances expected after the prior with these numbers of rows has met the data."""
        n = self.counts
        blend = (kappa / (n + kappa).clamp_min(torch.finfo(n.dtype).tiny))[:, None]
        means = self.means + blend * (self.mean - self.means)
        divisor = (n + rows if rows > 0 else n - 1)[:, None, None]
        return means, (self._updated(kappa, rows)) / divisor

    def most_evident_prior_rows(self) -> tuple[float, float]:
        """The kappa and nu - d - 1 of largest evidence, in [0.01, 1e6]."""
        grid = [(kappa, rows) for kappa in (0.1, 1.0, 10.0, 100.0) for rows in (1.0, 10.0, 100.0, 1000.0)]
        start = max(grid, key=lambda pair: self._log_evidence(*pair))
        result = minimize(
            lambda p: -self._log_evidence(*np.exp(p)) / float(self.counts.sum()),
            np.log(start),
            method="L-BFGS-B",
            bounds=[(np.log(0.01), np.log(1e6))] * 2,
        )
        kappa, rows = np.exp(result.x).tolist()
        return kappa, rows

    def left_out_loss(
        self, kappa: float, rows: float, y: Tensor, domain: Tensor, weights: Tensor, metric: Tensor
    ) -> float:
        """Mean of s' M s + 2 tr(M J) at every row under the posterior without that row; infinite where there is none.

        Removing a row takes a rank-one term from the scatter, so Sherman and Morrison's formula gives all at once.
        """
        d = len(self.mean)
        if rows == 0 and float(self.counts[self.counts > 0].min()) < d + 2:
            return np.inf
        means = self.posterior(kappa, rows)[0]
        inverse = torch.linalg.inv(self._updated(kappa, rows)[torch.unique(domain)])
        total = 0.0
        for e, precision in zip(torch.unique(domain).tolist(), inverse, strict=True):
            chosen = domain == e
            w = weights[chosen]
            mass = self.counts[e] + kappa
            growth = mass / (mass - w)
            pulled = (y[chosen] - means[e]) @ precision  # U^-1 o, with o the offset from the mean of all rows
            leverage = w * growth * (pulled * (y[chosen] - means[e])).sum(1)
            spread = ((pulled @ metric) * pulled).sum(1)
            divisor = self.counts[e] + (rows if rows > 0 else -1.0) - w
            square = divisor.square() * growth.square() * spread / (1 - leverage).square()
            trace = -divisor * ((metric * precision).sum() + w * growth * spread / (1 - leverage))
            total += float(w @ (square + 2 * trace))
        return total / float(self.counts.sum())

    def _updated(self, kappa: float, rows: float) -> Tensor:
        n = self.counts
        shift = self.means - self.mean
        weight = n * kappa / (n + kappa).clamp_min(torch.finfo(n.dtype).tiny)
        return rows * self.covariance + self.scatters + weight[:, None, None] * shift[:, :, None] * shift[:, None, :]

    def _log_evidence(self, kappa: float, rows: float) -> float:
        """Of the domains' rows under the prior, up to a constant; T and m stand at their pooled values."""
        d = len(self.mean)
        nu = rows + d + 1
        n = self.counts.cpu().numpy()
        before = d * np.log(rows) + float(torch.linalg.slogdet(self.covariance)[1])
        after = torch.linalg.slogdet(self._updated(kappa, rows))[1].cpu().numpy()
        return float(
            np.sum(
                multigammaln((nu + n) / 2, d)
                - multigammaln(nu / 2, d)
                + 0.5 * nu * before
                - 0.5 * (nu + n) * after
                + 0.5 * d * np.log(kappa / (kappa + n))
            )
        )


def inverse_root(matrix: Tensor) -> Tensor:
    """The symmetric inverse square root of a positive definite matrix (d, d)."""
    values, vectors = torch.linalg.eigh(matrix)
    if not float(values[0]) > 1e-12 * float(values[-1]):
        raise ValueError(
            "the columns of y are linearly dependent, or one is constant: drop the ones that follow from others"
        )
    return (vectors * values.rsqrt()) @ vectors.T


def checked_samples(
    y: Tensor, domain: Tensor, n_domains: int, noise: Tensor | None, weights: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Rows, domains, weights with mean 1 and noise covariance in float64 on the device of y, or a ``ValueError``."""
    y, domain = checked_rows(y, domain, n_domains, None)
    n, d = y.shape
    if n < 2:
        raise ValueError(f"{n} rows tell no density: at least 2 are needed")
    scale = y.std(0)
    if not (scale > 0).all():
        raise ValueError(f"column {int(torch.nonzero(scale == 0)[0])} of y is constant: it has no density, so no score")
    weights = y.new_ones(n) if weights is None else weights.to(y)
    if weights.shape != (n,):
        raise ValueError(f"weights must have shape ({n},), one per row, not {tuple(weights.shape)}")
    if not (weights.isfinite() & (weights >= 0)).all() or not weights.sum() > 0:
        raise ValueError("weights must be finite and non-negative, and some positive")
    if noise is not None:
        noise = noise.to(y)
        if noise.shape != (d, d):
            raise ValueError(
                f"noise must have shape ({d}, {d}), the covariance of the noise of y, not {tuple(noise.shape)}"
            )
        symmetric = noise.isfinite().all() and torch.allclose(noise, noise.T)
        if not symmetric or torch.linalg.cholesky_ex(noise)[1] != 0:
            raise ValueError(
                "noise must be a symmetric positive definite matrix: it is the covariance of the noise of y"
            )
    return y, domain, weights / weights.mean(), noise


def checked_rows(y: Tensor, domain: Tensor, n_domains: int, d: int | None) -> tuple[Tensor, Tensor]:
    """Rows y (n, d) in float64 and their domains (n,) on the same device, or a ``ValueError`` that says what is wrong."""
    if y.ndim != 2 or (d is not None and y.shape[1] != d):
        raise ValueError(f"y must have shape (n, {'d' if d is None else d}), not {tuple(y.shape)}")
    if not y.isfinite().all():
        raise ValueError("y holds NaN or infinity")
    if domain.shape != (len(y),) or domain.is_floating_point():
        raise ValueError(f"domain must hold one whole number per row, shape ({len(y)},), not {tuple(domain.shape)}")
    if len(y) and not 0 <= int(domain.min()) <= int(domain.max()) < n_domains:
        raise ValueError(f"domain must be from 0 to {n_domains - 1}, not {int(domain.min())} to {int(domain.max())}")
    return y.double(), domain.to(y.device, torch.long)
