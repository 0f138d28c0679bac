"""The principal subspace of the measurements: the d_z coordinates of each sample that carry all its signal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from latentcause.data import MultiDomainData


@dataclass(frozen=True)
class Subspace:
    """Coordinates c = W' x of every sample in an orthonormal basis W, and what was left out of them.

    For x = A z + noise with isotropic noise, all that x says about z lies in the column space of A; everything after
    this projection costs O(d_z) a sample instead of O(d_x), and x itself is not needed again.

    Attributes
    ----------
    basis : ndarray (d_x, d_z)
        W, orthonormal columns.
    coordinates : ndarray (n, d_z)
    power : float
        Mean squared norm of a sample, E|x|^2.
    """

    basis: np.ndarray
    coordinates: np.ndarray
    power: float

    @classmethod
    def principal(cls, data: MultiDomainData, rank: int) -> Subspace:
        """The leading eigenvectors of the uncentred second moment (the model has no intercept: its means are A E[z])."""
        _, vectors = np.linalg.eigh(data.moments.second)
        return cls.spanned_by(np.ascontiguousarray(vectors[:, ::-1][:, :rank]), data)

    @classmethod
    def spanned_by(cls, basis: np.ndarray, data: MultiDomainData) -> Subspace:
        """The coordinates of ``data`` in a given orthonormal basis."""
        return cls(basis, project(data, basis), float(np.trace(data.moments.second)))

    def residual_variance(self) -> float:
        """Mean variance per direction outside the subspace: the maximum-likelihood sigma^2 (Tipping and Bishop 1999, Eq. 8).

        Raises
        ------
        ValueError
            If there are no such directions (d_x = d_z).
        """
        d_x, rank = self.basis.shape
        if d_x == rank:
            raise ValueError(
                f"the noise variance cannot be told from the signal with as many measurements as nodes ({d_x}): "
                "give noise_variance, or more measurements"
            )
        return (self.power - float(np.square(self.coordinates).sum(1).mean())) / (d_x - rank)


def project(data: MultiDomainData, matrix: np.ndarray) -> np.ndarray:
    """X @ matrix (n, columns of ``matrix``) in one pass over the data."""
    result = np.empty((data.n_samples, matrix.shape[1]))
    for start, stop, x in data.batches():
        np.matmul(x, matrix, out=result[start:stop])
    return result
