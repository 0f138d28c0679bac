"""Pairs of images of one scene, before and after an intervention on one of its factors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from latentcause.data.intervention_pairs import InterventionPairs
from latentcause.data.pair_targets import NONE
from latentcause.datasets.images.factor_images import FactorImages
from latentcause.datasets.images.morphomnist import RENDERING, morphomnist
from latentcause.datasets.images.pendulum import pendulum
from latentcause.datasets.pairs.simulated_pairs import SimulatedPairs
from latentcause.writing import write_atomically


def pendulum_pairs(n: int, size: int = 64, *, seed: int, noise: float = 0.5) -> SimulatedPairs:
    """n pairs of images (3, size, size) of `latentcause.datasets.pendulum`, with an intervention on one of four factors.

    The target is ``angle``, ``light``, ``shadow_length`` or ``shadow_position``, or with chance 1/5 ``"none"``. It gets a value
    from its own marginal law, independent of all else; the noises of the other factors are kept, so that shadows follow angle
    and light. A do() on a shadow breaks the geometry.

    Parameters
    ----------
    n : int
        At least 2.
    size, seed : int
    noise : float
        Standard deviation of the noise of both shadows, up to 0.5.

    Raises
    ------
    ValueError
        For n below 2, and what `pendulum` refuses.
    """
    _check_number(n)
    return _pairs_of(pendulum(n, size, seed=seed, noise=noise), seed, None)


def morphomnist_pairs(
    n: int, *, seed: int, folder: str | Path | None = None, cache: str | Path | None = None
) -> SimulatedPairs:
    """n pairs of images (1, 28, 28) of `latentcause.datasets.morphomnist`: one digit, redrawn with other strokes.

    The target is ``thickness`` or ``intensity``, or with chance 1/3 ``"none"``. It gets a value from its own marginal law, and the
    noise of the other is kept, so that intensity follows thickness. Drawing takes about 4 ms a pair.

    Parameters
    ----------
    n : int
        2 to 60,000.
    seed : int
    folder
        Holds ``train-images-idx3-ubyte.gz``, as for `morphomnist`.
    cache
        A folder where the drawn images are kept and looked for. Without it they are drawn anew.

    Raises
    ------
    FileNotFoundError, ValueError
        As `morphomnist` does, and for n below 2.
    """
    _check_number(n)
    kept = None if cache is None else Path(cache) / f"morphomnist-pairs-{RENDERING}-{n}-{seed}.npy"
    return _pairs_of(morphomnist(n, seed=seed, folder=folder, cache=cache), seed, kept)


def _check_number(n: int) -> None:
    if n < 2:
        raise ValueError(f"{n} pairs: draw at least 2")


def _pairs_of(drawn: FactorImages, seed: int, kept: Path | None) -> SimulatedPairs:
    """Every image beside its counterfactual under an intervention drawn at random; ``kept`` is where the latter are stored."""
    n, nodes = len(drawn), drawn.graph.nodes
    rng = np.random.default_rng([seed, 1])
    fresh = drawn.scm.sample(n, generator=int(rng.integers(2**62)))
    target = rng.integers(len(nodes) + 1, size=n)  # the last number stands for none
    if (target == len(nodes)).all():  # pairs without a single intervention would be none
        target[0] = rng.integers(len(nodes))
    before = drawn.images.labels
    after = before.copy()
    for j, node in enumerate(nodes):
        rows = np.flatnonzero(target == j)
        if len(rows):
            after.iloc[rows] = drawn.counterfactual_factors(rows, {node: fresh[rows, j]}).to_numpy()
    images = _drawn_after(drawn, after, target < len(nodes), kept)
    named = [*nodes, NONE]
    return SimulatedPairs(
        InterventionPairs(drawn.images.pixels, images),
        before,
        after,
        tuple(named[j] for j in target.tolist()),
        drawn.graph,
        np.zeros(n, dtype=bool),
    )


def _drawn_after(drawn: FactorImages, after: pd.DataFrame, changed: np.ndarray, kept: Path | None) -> np.ndarray:
    """The images (n, c, h, w) of the factors ``after``, of which only ``changed`` ones are drawn anew."""
    if kept is not None and kept.is_file():
        stored: np.ndarray = np.load(kept)
        return stored
    images = drawn.images.pixels.copy()
    images[changed] = drawn.render(drawn.base[changed], after[changed])
    if kept is not None:
        with write_atomically(kept) as path:
            np.save(path, images)
    return images
