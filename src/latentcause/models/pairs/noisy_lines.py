"""Lines of changes that are seen with errors of measurement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from scipy.special import logsumexp

from latentcause.models.pairs.linear_likelihood import LinearPairLikelihood
from latentcause.models.pairs.linear_reading import weight_errors
from latentcause.models.pairs.lines import Lines
from latentcause.training import Recipe, train


@dataclass(frozen=True, eq=False)
class CodeMixture:
    """Codes before and after: given the hypothesis h, (e, e~) ~ N(0, S_h).

    Attributes
    ----------
    hypotheses : ndarray (k, m)
        0 or 1.
    covariances : ndarray (k, 2m, 2m)
    shares : ndarray (k,)
        Of the hypotheses.
    """

    hypotheses: np.ndarray
    covariances: np.ndarray
    shares: np.ndarray

    def of_pairs(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Probabilities (n, k) of every hypothesis for pairs of codes (n, m)."""
        both, log = np.hstack([first, second]), np.empty((len(first), len(self.shares)))
        for h, covariance in enumerate(self.covariances):
            scaled = np.linalg.solve(lower := np.linalg.cholesky(covariance), both.T)
            log[:, h] = -0.5 * (scaled**2).sum(axis=0) - np.log(np.diag(lower)).sum()
        log += np.log(self.shares)
        return np.asarray(np.exp(log - logsumexp(log, axis=1, keepdims=True)))


@dataclass(frozen=True, eq=False)
class NoisyLines:
    """v = A e + n of standardised observations, n ~ N(0, Psi): what is known of e, and of variables z = T e, given v.

    Attributes
    ----------
    unmix : ndarray (r, m)
        Of E[e | v] = v ``unmix``.
    mixing : ndarray (m, r)
        A'.
    solution : ndarray (m, m)
        [j, i]: of e_j in z_i; T'.
    covariance : ndarray (m, m)
        Of e given v.
    error : ndarray (r, r)
        Psi.
    weight_sd : ndarray (m, m)
        Standard errors of the weights that follow from T; 0 of what pairs say nothing of.
    """

    unmix: np.ndarray
    mixing: np.ndarray
    solution: np.ndarray
    covariance: np.ndarray
    error: np.ndarray
    weight_sd: np.ndarray

    @classmethod
    def fit(
        cls,
        v: np.ndarray,
        after: np.ndarray,
        known: np.ndarray,
        lines: Lines,
        recipe: Recipe,
        starts: int,
        seed: int,
        device: str,
    ) -> tuple[Self, CodeMixture, bool]:
        """From standardised pairs (n, r) and known hypotheses (n,), -1 where unknown.

        With the law of the codes, and if the maximum was found. Where more numbers are observed than there are latents, they are
        first reduced to as many directions: those that v and v~ share. Errors are independent in v and v~, so that
        cov(v, v~) = A E[e e~'] A', and as cov(v) = 1, E[e | v] depends on v through the span of A alone. The first start is at
        ``lines``, the others are random rotations; the most likely goes on.
        """
        m = lines.unmix.shape[1]
        axes = np.eye(m) if v.shape[1] == m else _shared(v, after, m)
        both = torch.from_numpy(np.hstack([v @ axes, after @ axes]).astype(np.float64))
        rows = (both, torch.from_numpy(known))
        hypotheses, rng = torch.cat([torch.zeros(1, m), torch.eye(m)]), np.random.default_rng(seed)
        begins = [np.linalg.pinv(axes.T @ lines.unmix).T, *(_rotation(m, rng) for _ in range(starts - 1))]
        found = []
        for k, begin in enumerate(begins):
            likelihood = LinearPairLikelihood(torch.from_numpy(begin), hypotheses, recipe.max_epochs * len(v))
            label = f"lines, start {k + 1} of {starts}"
            result = train(
                likelihood, likelihood.loss, rows, recipe, seed=seed, draw=likelihood.draw, device=device, label=label
            )
            found.append((result.history[-1]["train_loss"], k, likelihood))
        best = min(found, key=lambda entry: entry[:2])[2]
        where = best.seen.device
        uncertainty, settled = best.maximise(*(part.to(where) for part in rows))
        best.cpu()
        with torch.no_grad():
            mixing, solution, error = best.mixing.numpy(), best.solution.numpy(), best.error.numpy()
            seen, shares = best.covariances().numpy(), best.shares.softmax(0).numpy()
        gain = np.linalg.solve(mixing @ mixing.T + error, mixing)
        twice = np.kron(np.eye(2), gain)
        mixture = CodeMixture(hypotheses.double().numpy(), twice.T @ seen @ twice, shares)
        beside = np.eye(len(axes)) - axes @ axes.T  # all that varies there is error, and has variance 1
        made = cls(
            axes @ gain,
            mixing.T @ axes.T,
            solution.T,
            np.eye(m) - gain.T @ mixing,
            axes @ error @ axes.T + beside,
            weight_errors(solution, uncertainty.cpu().numpy()),
        )
        return made, mixture, settled

    def codes(self, v: np.ndarray) -> np.ndarray:
        """E[e | v] (n, m)."""
        return np.asarray(v @ self.unmix)

    @property
    def variances(self) -> np.ndarray:
        """Of z given v, (m,)."""
        return np.asarray(np.einsum("ji,jk,ki->i", self.solution, self.covariance, self.solution))


def _shared(v: np.ndarray, after: np.ndarray, m: int) -> np.ndarray:
    """Directions (r, m) in which v and v~ have most to do with each other, of either sign."""
    across = v.T @ after / len(v)
    return np.asarray(np.linalg.eigh(across @ across.T + across.T @ across)[1][:, -m:])


def _rotation(m: int, rng: np.random.Generator) -> np.ndarray:
    return np.asarray(np.linalg.qr(rng.standard_normal((m, m)))[0])
