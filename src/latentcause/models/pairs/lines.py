"""Closed form for linear systems: changes lie on as many lines as there are latents."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np

from latentcause.models.pairs.changes import ChangeMixture

ROUNDS = 20
ROWS = 20_000
STILL = 1e-6  # of the typical change: below it nothing moved
SETTLED = 1e-10
LEAST_SD = 1e-12
RANK = 1e-8  # of the largest variance of changes: below it nothing moved
NEAREST = 0.5  # share of the changes near a line that have the last word
ERRORS = 4.0  # standard errors of a correlation that is taken for none


@dataclass(frozen=True, eq=False)
class Lines:
    """Linear noise codes e = v ``unmix`` and causal variables z = e ``solution`` of standardised observations v.

    In a linear system x = M z, z = T u, with u the noises, an intervention on i changes x along M T_i alone. So directions of
    change are the columns of M T, e = (M T)^+ x are the noises, and as z~_i = sum_j T_ij e~_j owes nothing to the noises of
    the others, the regression of e~_i on e~_-i over the pairs that hit i gives -T_i. Codes have unit variance, z~_i too.

    Attributes
    ----------
    unmix : ndarray (r, m)
    solution : ndarray (m, m)
        [j, i]: of e_j in z_i.
    """

    unmix: np.ndarray
    solution: np.ndarray

    @classmethod
    def fit(cls, before: np.ndarray, after: np.ndarray, n_latents: int, seed: int, several: bool = False) -> Self:
        """From standardised pairs (n, r).

        Directions are found by independent component analysis of the changes: of the coordinates along the lines one is not zero
        at a time, so they are uncorrelated and as peaked as can be. Then each is the leading direction of its own pairs. Where
        ``several`` latents may be hit at once, changes that lie on no line are left out of that.
        """
        from sklearn.decomposition import FastICA
        from sklearn.exceptions import ConvergenceWarning

        step = max(1, len(before) // ROWS)
        first, second = before[::step].astype(np.float64), after[::step].astype(np.float64)
        moved = second - first
        size = np.linalg.norm(moved, axis=1)
        moving = size > STILL * np.median(size[size > 0])
        values, axes = _persistent(moved, n_latents)
        changes = moved[moving] @ axes
        rank = min(n_latents, int((values > RANK * values[-1]).sum()))
        reduce = np.eye(len(values))[:, -rank:] / np.sqrt(values[-rank:])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the next step settles what is left
            ica = FastICA(whiten=False, fun="cube", random_state=seed, max_iter=500, tol=1e-8)
            ica.fit(changes @ reduce)
        directions = np.linalg.pinv(reduce @ ica.components_.T)
        for share in (1.0, NEAREST) if several else (1.0,):
            directions = _settled(changes, directions, share)
        directions = directions @ axes.T
        idle = np.linalg.svd(directions)[2][rank:n_latents]  # where nothing moves; noises are uncorrelated
        directions = np.vstack([directions, idle])
        return cls.along(before, after, directions, None)

    @classmethod
    def along(cls, first: np.ndarray, second: np.ndarray, directions: np.ndarray, hit: np.ndarray | None) -> Self:
        """From directions (m, r) and, where known, what each pair hit (n, m); else as the codes' moves say."""
        unmix = np.linalg.pinv(directions)
        unmix = unmix / np.maximum((first @ unmix).std(axis=0), 1e-12)
        e, e_after = first @ unmix, second @ unmix
        if hit is None:
            hypotheses = np.eye(len(directions))
            mixture = ChangeMixture.fit(e_after - e, np.vstack([np.zeros(len(directions)), hypotheses]))
            hit = mixture.probabilities(e_after - e)[:, 1:]
        return cls(unmix, _solution(e_after, hit))

    def taking(self, order: np.ndarray) -> Self:
        """The same with latents in another order."""
        return type(self)(self.unmix[:, order], self.solution[np.ix_(order, order)])

    def told(self, noise_after: np.ndarray, hit: np.ndarray) -> Self:
        """The same codes, with variables in the light of what each pair (n, m) hit."""
        return type(self)(self.unmix, _solution(noise_after, hit))

    def codes(self, v: np.ndarray) -> np.ndarray:
        """Noise codes (n, m)."""
        return np.asarray(v @ self.unmix)

    def variables(self, v: np.ndarray) -> np.ndarray:
        """Causal variables (n, m)."""
        return np.asarray(v @ self.unmix @ self.solution)


def noise_for(codes: np.ndarray, wanted: Mapping[int, np.ndarray], solution: np.ndarray) -> np.ndarray:
    """Codes (n, m) in which some variables z = e ``solution`` have given values (n,), and all other noises are as they were."""
    changed, hit = codes.copy(), list(wanted)
    if hit:
        others = [j for j in range(len(solution)) if j not in wanted]
        left = np.column_stack([wanted[i] for i in hit]) - codes[:, others] @ solution[np.ix_(others, hit)]
        changed[:, hit] = np.linalg.solve(solution[np.ix_(hit, hit)].T, left.T).T
    return changed


def _persistent(moved: np.ndarray, m: int) -> tuple[np.ndarray, np.ndarray]:
    """Variances (k,), ascending, and principal directions (r, k) of the changes, k >= m, without errors of measurement.

    Where standardised observations before and after are independent, they change with variance 2: these are errors, in which all
    changes would drown where more numbers are observed than there are latents.
    """
    values, axes = np.linalg.eigh(moved.T @ moved / len(moved))
    known = 1 - values / 2 > ERRORS * np.sqrt(len(values) / len(moved))
    return (values[known], axes[:, known]) if known.sum() >= m else (values, axes)


def directions_of(moved: np.ndarray, hit: np.ndarray) -> np.ndarray:
    """Leading direction (m, r) of the changes (n, r) of the pairs that hit each latent, weighed by ``hit`` (n, m)."""
    found = []
    for weight in hit.T:
        _, axes = np.linalg.eigh((moved.T * weight) @ moved)
        found.append(axes[:, -1])
    return np.array(found)


def _settled(changes: np.ndarray, directions: np.ndarray, share: float) -> np.ndarray:
    """Directions (m, r) moved to where each is the leading one of the ``share`` nearest of those changes that lie nearest to it.

    A part of them leaves out what lies on no line: changes where two latents were hit, or where pairs are wrong.
    """
    directions = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    length = np.linalg.norm(changes, axis=1)
    for _ in range(ROUNDS):
        cosines = np.abs(changes @ directions.T) / length[:, None]
        nearest = np.eye(len(directions))[cosines.argmax(axis=1)]
        if share < 1:
            least = np.nanquantile(np.where(nearest > 0, cosines, np.nan), 1 - share, axis=0)
            nearest *= cosines >= least
        new = directions_of(changes, nearest)
        few = nearest.sum(axis=0) < 2
        new[few] = directions[few]
        agreed = np.abs((new * directions).sum(axis=1)).min()
        directions = new
        if agreed > 1 - SETTLED:
            break
    return directions


def solution_row(noise_after: np.ndarray, hit: np.ndarray, i: int) -> tuple[np.ndarray, np.ndarray]:
    """T_i. (m,) of z_i = sum_j T_ij e_j in the unit of z~_i, and its covariance (m, m), from the pairs that hit i.

    1 for e_i less the regression of e~_i on the others over these pairs (n,), all by the sd of what is left; e_i itself, with no
    covariance, where hardly a pair hits it.
    """
    m = noise_after.shape[1]
    row, covariance, count = np.eye(m)[i], np.zeros((m, m)), hit.sum()
    if count <= m + 1:
        return row, covariance
    others = np.arange(m) != i
    centred = noise_after - (hit @ noise_after) / count
    gram = (centred.T * hit) @ centred
    inverse = np.linalg.pinv(gram[np.ix_(others, others)])
    row[others] = -inverse @ gram[others, i]
    left = centred @ row
    row /= max(float(np.sqrt(hit @ left**2 / (count - m))), LEAST_SD)
    covariance[np.ix_(others, others)] = inverse  # the residual's variance is 1 in the unit of z~_i
    return row, covariance


def _solution(e_after: np.ndarray, hit: np.ndarray) -> np.ndarray:
    """[j, i] of e_j in z_i, from what each pair hit (n, m)."""
    return np.column_stack([solution_row(e_after, weight, i)[0] for i, weight in enumerate(hit.T)])
