"""Mechanisms, loadings and noise of g-modeling as one vector, for acceleration."""

from __future__ import annotations

import numpy as np
import torch
from scipy.linalg import expm, schur

from latentcause.models.measurement import Measurement
from latentcause.models.structural_prior import StructuralPrior


class Packing:
    """All learned parameters as one vector; the rotation as the logarithm of what it adds to the first one."""

    def __init__(self, prior: StructuralPrior, measurement: Measurement, loadings: bool, noise: bool) -> None:
        self._loadings, self._noise = loadings, noise
        self._first, _ = self._split(measurement)
        self._below = np.tril_indices(len(prior.graph), -1)
        self._d = len(prior.graph)

    def pack(self, prior: StructuralPrior, measurement: Measurement) -> np.ndarray:
        """The vector of the current parameters."""
        rotation, scales = self._split(measurement)
        generator = _rotation_log(self._first.T @ rotation)
        return np.concatenate(
            [
                generator[self._below] if self._loadings else [],
                np.log(scales) if self._loadings else [],
                [np.log(measurement.noise_variance)] if self._noise else [],
                prior.pack(),
            ]
        )

    def unpack(self, vector: np.ndarray, prior: StructuralPrior, measurement: Measurement) -> Measurement:
        """Set the prior's parameters from a vector, and return the measurement model with its loadings and noise."""
        mixing, variance = measurement.mixing, measurement.noise_variance
        if self._loadings:
            k = len(self._below[0])
            generator = np.zeros((self._d, self._d))
            generator[self._below] = vector[:k]
            rotation = self._first @ expm(generator - generator.T)
            mixing = torch.from_numpy(rotation * np.exp(vector[k : k + self._d])).to(mixing)
            vector = vector[k + self._d :]
        if self._noise:
            variance, vector = float(np.exp(vector[0])), vector[1:]
        prior.unpack(vector)
        return Measurement(mixing, variance, measurement.columns)

    def weights(self, size: float, length: int) -> np.ndarray:
        """Entries in units of the latents: a rotation by an angle moves values of typical size ``size`` by angle x size."""
        weights = np.ones(length)
        if self._loadings:
            weights[: len(self._below[0])] = size
        return weights

    @staticmethod
    def _split(measurement: Measurement) -> tuple[np.ndarray, np.ndarray]:
        matrix = measurement.mixing.cpu().numpy()
        scales = np.linalg.norm(matrix, axis=0)
        return matrix / scales, scales


def _rotation_log(rotation: np.ndarray) -> np.ndarray:
    """The skew-symmetric logarithm of a rotation. SciPy's logm would draw from NumPy's global random numbers."""
    triangle, basis = schur(rotation, output="complex")  # of a normal matrix: diagonal
    generator = np.real(basis * np.log(triangle.diagonal()) @ basis.conj().T)
    return 0.5 * (generator - generator.T)
