"""Gaussian mixtures of noisy samples in several domains, fitted by EM with the noise known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from sklearn.cluster import KMeans
from torch import Tensor

CHUNK = 2**22  # numbers in a temporary array: 32 MB
KEPT = 2**25  # numbers in an array that is kept while fitting: 256 MB


@dataclass(frozen=True)
class Mixture:
    """f_e(y) = sum_k w_ek N(y; m_ek, T_ek) in E domains, K components and d coordinates.

    Attributes
    ----------
    log_weights : Tensor (E, K)
    means : Tensor (E, K, d), or (1, K, d) where all domains share them
    covariances : Tensor (E, K, d, d) or (1, K, d, d)
    """

    log_weights: Tensor
    means: Tensor
    covariances: Tensor

    def coefficients(self) -> Tensor:
        """Theta (E, K, p) such that log w_ek N(y; m_ek, T_ek) = theta_ek' phi(y), with phi of `quadratic_features`."""
        precisions = torch.linalg.inv(self.covariances)
        linear = (precisions @ self.means[..., None]).squeeze(-1)
        d = self.means.shape[-1]
        normaliser = torch.linalg.slogdet(self.covariances)[1] + d * torch.log(self.means.new_tensor(2 * torch.pi))
        constant = self.log_weights - 0.5 * ((linear * self.means).sum(-1) + normaliser)
        i, j = _pairs(d, self.means.device)
        quadratic = precisions[..., i, j] * torch.where(i == j, -0.5, -1.0)
        shared = torch.cat([linear, quadratic], -1).expand(len(constant), -1, -1)
        return torch.cat([constant[..., None], shared], -1)


@dataclass(frozen=True)
class Rows:
    """Samples y (n, d) sorted by domain, their weights (n,) and the first row of every domain (and the end).

    ``phi`` keeps the quadratic features (n, p) where they are small enough. ``floor`` is the variance of the noise in
    every direction (0 for none): no component can be narrower.
    """

    y: Tensor
    weights: Tensor
    starts: list[int]
    floor: float
    phi: Tensor | None

    @classmethod
    def sort(cls, y: Tensor, domain: Tensor, n_domains: int, weights: Tensor, floor: float) -> Rows:
        """Sort rows y (n, d) by their domain (n,)."""
        order = torch.argsort(domain, stable=True)
        counts = torch.bincount(domain, minlength=n_domains).cpu()
        y = y[order]
        phi = quadratic_features(y) if len(y) * _feature_count(y.shape[1]) <= KEPT else None
        return cls(y, weights[order], [0, *counts.cumsum(0).tolist()], floor, phi)

    def pieces(self) -> Iterator[tuple[int, slice, Tensor]]:
        """The domain, the rows and the quadratic features of one piece after another."""
        step = max(1, CHUNK // _feature_count(self.y.shape[1]))
        for e, (start, stop) in enumerate(pairwise(self.starts)):
            for first in range(start, stop, step):
                rows = slice(first, min(first + step, stop))
                yield e, rows, quadratic_features(self.y[rows]) if self.phi is None else self.phi[rows]

    def expectation(self, mixture: Mixture) -> tuple[Tensor, float]:
        """Sums (E, K, p) of responsibility times quadratic features, and the log likelihood: EM's E-step."""
        theta = mixture.coefficients()
        sums, total = torch.zeros_like(theta), 0.0
        for e, rows, phi in self.pieces():
            logs = phi @ theta[e].T
            top = logs.amax(1, keepdim=True)
            joint = logs.sub_(top).exp_()  # in place, one exponential each: this line is most of the fit
            density = joint.sum(1)
            sums[e] += (joint * (self.weights[rows] / density)[:, None]).T @ phi
            total += float(self.weights[rows] @ (top.squeeze(1) + density.log()))
        return sums, total


@dataclass(frozen=True)
class SharedComponents:
    """EM for components that all domains share, each domain with weights of its own.

    Maximises the log likelihood minus 1/2 sum_k prior_rows [log|T_k| + tr(T_k^-1 B)], over T_k not below the noise, with
    B = C + K^(-2/d) (pooled covariance - C) for noise covariance C and prior_rows = d + 2 (Fraley and Raftery 2007,
    Bayesian regularization for normal mixture estimation and model-based clustering), and with one more row in every
    domain, spread evenly over the components. The M-step is exact: the eigenvalues of the penalised scatter that fall
    below the noise are raised to it.
    """

    n_components: int
    max_iterations: int
    tolerance: float

    def fit(self, rows: Rows, seed: int) -> tuple[Mixture, list[float]]:
        """The mixture, and the penalised log likelihood per row before every iteration. Starts from k-means."""
        target = self._target(rows)
        mixture = self._maximise(self._start(rows, seed), target, rows.floor)
        history: list[float] = []
        total = float(rows.weights.sum())
        for _ in range(self.max_iterations):
            sums, log_likelihood = rows.expectation(mixture)
            history.append((log_likelihood - self._penalty(mixture, target)) / total)
            if len(history) > 1 and history[-1] - history[-2] < self.tolerance:
                break
            mixture = self._maximise(sums, target, rows.floor)
        return mixture, history

    def _start(self, rows: Rows, seed: int) -> Tensor:
        kmeans = KMeans(self.n_components, n_init=1, max_iter=20, random_state=seed)
        labels = kmeans.fit(rows.y.cpu().numpy(), sample_weight=rows.weights.cpu().numpy()).labels_
        owner = torch.as_tensor(labels, device=rows.y.device, dtype=torch.long)
        sums = rows.y.new_zeros(len(rows.starts) - 1, self.n_components, _feature_count(rows.y.shape[1]))
        for e, part, phi in rows.pieces():
            sums[e].index_add_(0, owner[part], phi * rows.weights[part, None])
        return sums

    def _maximise(self, sums: Tensor, target: Tensor, floor: float) -> Mixture:
        d = len(target)
        count, first, second = unpack(sums.sum(0), d)
        means = first / count.clamp_min(1e-10)[:, None]
        scatter = second - count[:, None, None] * _outer(means)
        prior = d + 2.0
        covariances = raise_eigenvalues((scatter + prior * target) / (count + prior)[:, None, None], floor)
        weights = sums[..., 0] + 1 / self.n_components
        return Mixture(weights.log() - weights.sum(1, keepdim=True).log(), means[None], covariances[None])

    def _target(self, rows: Rows) -> Tensor:
        d = rows.y.shape[1]
        noise = rows.floor * torch.eye(d, dtype=rows.y.dtype, device=rows.y.device)
        covariance = torch.cov(rows.y.T, aweights=rows.weights, correction=0).reshape(d, d)
        return raise_eigenvalues(noise + self.n_components ** (-2 / d) * (covariance - noise), rows.floor)

    def _penalty(self, mixture: Mixture, target: Tensor) -> float:
        covariances = mixture.covariances[0]
        distance = torch.linalg.solve(covariances, target).diagonal(dim1=-2, dim2=-1).sum(-1)
        roughness = 0.5 * (len(target) + 2) * (torch.linalg.slogdet(covariances)[1] + distance).sum()
        return float(roughness) - float(mixture.log_weights.sum()) / self.n_components


@dataclass(frozen=True)
class DomainComponents:
    """EM that lets every domain move the shared components, as far as its rows outweigh ``strength``.

    Maximises in each domain the log likelihood, with m_k, T_k, w_k of the shared mixture, minus
    1/2 sum_k strength (m_ek - m_k)' T_ek^-1 (m_ek - m_k) + strength d [log|T_ek| + tr(T_ek^-1 T_k)] - 2 strength w_k log w_ek:
    normal-inverse-Wishart and Dirichlet priors, worth ``strength`` rows in weights and means and d times as many in
    covariances, which hold d times as many numbers. Near 0 it is a mixture per domain; infinity keeps the shared one.
    """

    strength: float
    max_iterations: int
    tolerance: float

    def fit(self, rows: Rows, shared: Mixture) -> tuple[Mixture, list[float]]:
        """The mixture, and the penalised log likelihood per row before every iteration."""
        mass = torch.stack([rows.weights[a:b].sum() for a, b in pairwise(rows.starts)])
        pooled = mass @ shared.log_weights.exp() / mass.sum()
        n_domains = len(mass)
        mixture = Mixture(  # every domain starts with a copy of its own
            shared.log_weights,
            shared.means.expand(n_domains, -1, -1),
            shared.covariances.expand(n_domains, -1, -1, -1),
        )
        history: list[float] = []
        for _ in range(self.max_iterations):
            sums, log_likelihood = rows.expectation(mixture)
            history.append((log_likelihood - self._penalty(mixture, shared, pooled)) / float(mass.sum()))
            if len(history) > 1 and history[-1] - history[-2] < self.tolerance:
                break
            mixture = self._maximise(sums, shared, pooled, rows.floor)
        return mixture, history

    def _maximise(self, sums: Tensor, shared: Mixture, pooled: Tensor, floor: float) -> Mixture:
        d = shared.means.shape[-1]
        count, first, second = unpack(sums, d)
        means = (first + self.strength * shared.means) / (count + self.strength)[..., None]
        cross = first[..., :, None] * means[..., None, :]
        scatter = second - cross - cross.mT + count[..., None, None] * _outer(means)
        scatter = scatter + self.strength * (_outer(means - shared.means) + d * shared.covariances)
        covariances = raise_eigenvalues(scatter / (count + self.strength * d)[..., None, None], floor)
        weights = count + self.strength * pooled
        return Mixture(weights.log() - weights.sum(1, keepdim=True).log(), means, covariances)

    def _penalty(self, mixture: Mixture, shared: Mixture, pooled: Tensor) -> float:
        d = shared.means.shape[-1]
        moved = _outer(mixture.means - shared.means) + d * shared.covariances
        distance = torch.linalg.solve(mixture.covariances, moved).diagonal(dim1=-2, dim2=-1).sum(-1)
        roughness = 0.5 * (distance + d * torch.linalg.slogdet(mixture.covariances)[1]).sum()
        return self.strength * float(roughness - (pooled * mixture.log_weights).sum())


def quadratic_features(y: Tensor) -> Tensor:
    """[1, y, y_i y_j for i <= j]: (n, d) -> (n, p), p = (d + 1)(d + 2) / 2. Sums of them are all that EM needs."""
    i, j = _pairs(y.shape[1], y.device)
    return torch.cat([y.new_ones(len(y), 1), y, y[:, i] * y[:, j]], 1)


def unpack(sums: Tensor, d: int) -> tuple[Tensor, Tensor, Tensor]:
    """Sums (..., p) of quadratic features as the count (...), the sum (..., d) and the sum of squares (..., d, d)."""
    i, j = _pairs(d, sums.device)
    second = sums.new_empty(*sums.shape[:-1], d, d)
    second[..., i, j] = second[..., j, i] = sums[..., d + 1 :]
    return sums[..., 0], sums[..., 1 : d + 1], second


def raise_eigenvalues(matrices: Tensor, floor: float) -> Tensor:
    """Symmetric matrices (..., d, d) with the eigenvalues below ``floor`` raised to it.

    For a scatter matrix this is the covariance of largest likelihood among those not below floor * identity.
    """
    matrices = 0.5 * (matrices + matrices.mT)
    below = _not_above(matrices, floor)
    if not below.any():
        return matrices
    values, vectors = torch.linalg.eigh(matrices[below])
    raised = (vectors * values.clamp_min(max(floor, 1e-9))[..., None, :]) @ vectors.mT
    matrices = matrices.clone()
    matrices[below] = 0.5 * (raised + raised.mT)
    return matrices


def _not_above(matrices: Tensor, floor: float) -> Tensor:
    identity = torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device)
    return torch.linalg.cholesky_ex(matrices - max(floor, 1e-9) * identity)[1] != 0


def _outer(vectors: Tensor) -> Tensor:
    return vectors[..., :, None] * vectors[..., None, :]


def _feature_count(d: int) -> int:
    return (d + 1) * (d + 2) // 2


def _pairs(d: int, device: torch.device) -> tuple[Tensor, Tensor]:
    i, j = torch.triu_indices(d, d, device=device)
    return i, j
