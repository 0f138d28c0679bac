"""Functions of observations that stay in given pairs, in closed form; and what a curve's points are numbered by."""

from __future__ import annotations

import warnings

import numpy as np
from scipy.linalg import eigh
from scipy.sparse.csgraph import connected_components
from scipy.special import ndtri
from sklearn.manifold import Isomap
from sklearn.neighbors import kneighbors_graph

RIDGE, FLOOR = 1e-3, 1e-6  # added to the variances of changes, and of features
FEWEST_NEIGHBOURS = 10


def slow_features(features: np.ndarray, changes: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Linear combinations f.u of features that change least in pairs in which they should stay, each of unit variance.

    They minimise E (u.df)^2 / var(u.f), one after the other, uncorrelated: the generalised eigenvectors of lowest value of
    E df df^T u = lambda cov(f) u (Wiskott and Sejnowski, Slow feature analysis: unsupervised learning of invariances, 2002,
    section 2, with pairs instead of moments in time).

    Parameters
    ----------
    features : ndarray (n, f)
        Of unit variances.
    changes : ndarray (p, f)
        df in those pairs.
    most : int
        Number of combinations, at most f.

    Returns
    -------
    values : ndarray (most,)
        lambda, ascending: below 2, which is that of what a pair says nothing about.
    combinations : ndarray (f, most)
    """
    unit = np.eye(features.shape[1])
    within = changes.T @ changes / len(changes) + RIDGE * unit
    among = np.cov(features.T).reshape(unit.shape) + FLOOR * unit
    values, combinations = eigh(within, among, subset_by_index=[0, min(most, len(unit)) - 1])
    return values, combinations


def along_curve(points: np.ndarray) -> np.ndarray:
    """Where on a curve its points (n, p) lie, as normal scores (n,): of their order by the length of ways from point to point.

    Isomap with one dimension (Tenenbaum, de Silva and Langford, A global geometric framework for nonlinear dimensionality
    reduction, 2000), with as few neighbours as connect all points, 10, 20, 40, and so on.
    """
    n, neighbours = len(points), FEWEST_NEIGHBOURS
    while neighbours < n - 1 and connected_components(kneighbors_graph(points, neighbours), directed=False)[0] > 1:
        neighbours *= 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about a graph in parts: with all points as neighbours it is none
        isomap = Isomap(n_components=1, n_neighbors=min(neighbours, n - 1), eigen_solver="dense")
        place = isomap.fit_transform(points)[:, 0]
    return np.asarray(ndtri((place.argsort().argsort() + 0.5) / n))
