"""The single cells of Sachs et al. (2005), as measured and as two tests of latent-variable models.

K. Sachs, O. Perez, D. Pe'er, D. A. Lauffenburger and G. P. Nolan, Causal protein-signaling networks derived from
multiparameter single-cell data, Science 308, 523-529 (2005).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pandas as pd

from latentcause.data import MultiDomainData
from latentcause.data.targets import Targets, read_targets
from latentcause.datasets.files import DataFiles
from latentcause.datasets.interventional import random_orthonormal
from latentcause.graph import CausalGraph

Transform = Literal["arcsinh", "none"]

FILES = DataFiles(
    name="sachs",
    checksums={
        "cells.csv.gz": "f8bf193f71eba21d8f129e1a188906e1e57cdb850fd57739f5f0c8782d2cbf8f",
        "conditions.csv": "0b6f6dd66da375a8573cc40f8608ecd6d194b8d3e9bc6b0b17f384f8baacb6bb",
        "edges.csv": "b650e3add8d7baea59ef926104e26aeb3ce86db962e7c8ef0618e57881446cc7",
    },
    origin=(
        "11,672 single cells x 11 phospho-proteins in all 14 published conditions of Sachs et al., Science 308 (2005), "
        "their intervened proteins and the 17-edge consensus network"
    ),
)


def load_sachs(folder: str | Path | None = None, transform: Transform = "arcsinh") -> SachsCells:
    """Read the Sachs cells from a folder with ``cells.csv.gz``, ``conditions.csv`` and ``edges.csv``.

    Parameters
    ----------
    folder
        Where the three files are. Without it they are looked for in ``$LATENTCAUSE_DATA/sachs``, or in the user's
        cache; nothing is downloaded.
    transform
        ``"arcsinh"``: arcsinh(x / 5), the usual scale of flow cytometry (the raw intensities have heavy right tails);
        ``"none"``: the intensities as published.

    Raises
    ------
    FileNotFoundError
        Where a file is missing.
    ValueError
        Where a file is not the published one, or the transform is unknown.
    """
    if transform not in get_args(Transform):
        raise ValueError(f"transform must be one of {', '.join(get_args(Transform))}, not {transform!r}")
    home = FILES.find(folder)
    frame = pd.read_csv(home / "cells.csv.gz", float_precision="round_trip")
    proteins = [name for name in frame.columns if name != "condition"]
    if transform == "arcsinh":
        frame[proteins] = np.arcsinh(frame[proteins] / 5)
    conditions = pd.read_csv(home / "conditions.csv", keep_default_na=False)
    edges = pd.read_csv(home / "edges.csv").itertuples(index=False, name=None)
    graph = CausalGraph.from_edges(list(edges), nodes=proteins)
    return SachsCells(frame, conditions, read_targets(home / "conditions.csv"), graph)


@dataclass(frozen=True)
class SachsCells:
    """The cells with what is known about them.

    Attributes
    ----------
    frame : DataFrame (11672, 12)
        ``condition`` and one column per protein.
    conditions : DataFrame (14, 4)
        ``condition``, ``target`` (empty for none), ``kind`` (none, inhibition or activation) and ``cells``.
    targets : dict
        ``{condition: (protein, ...)}``.
    graph : CausalGraph
        The 17-edge consensus network; nodes in the order of the frame's columns.
    """

    frame: pd.DataFrame
    conditions: pd.DataFrame
    targets: Targets
    graph: CausalGraph

    def data(self) -> MultiDomainData:
        """The proteins as measurements, the 14 conditions as domains."""
        return MultiDomainData.from_dataframe(self.frame, "condition", self.targets)

    def known_panel(self, noise_variance: float, *, seed: int) -> SachsPanel:
        """Each protein measured once, with noise: x = z + e, e ~ N(0, noise_variance).

        The latents z are the proteins standardised over all cells (mean 0, variance 1), so the loadings are the
        identity, and the noise variance is in units of a protein's variance.
        """
        return self._panel(np.eye(len(self.graph.nodes)), noise_variance, np.random.default_rng(seed))

    def unknown_mixing(self, noise_variance: float, n_measurements: int = 100, *, seed: int) -> SachsPanel:
        """The same latents seen through a random loading with orthonormal columns: x = A z + e, d_x = n_measurements.

        Raises
        ------
        ValueError
            Where there are fewer measurements than the 11 proteins.
        """
        d_z = len(self.graph.nodes)
        if n_measurements < d_z:
            raise ValueError(f"n_measurements={n_measurements} can't carry {d_z} proteins: use at least {d_z}")
        rng = np.random.default_rng(seed)
        return self._panel(random_orthonormal(n_measurements, d_z, rng), noise_variance, rng)

    def _panel(self, loadings: np.ndarray, noise_variance: float, rng: np.random.Generator) -> SachsPanel:
        if not 0 <= noise_variance < np.inf:
            raise ValueError(f"noise_variance must be a number of at least 0, not {noise_variance}")
        cells = self.frame[list(self.graph.nodes)].to_numpy()
        latents = (cells - cells.mean(axis=0)) / cells.std(axis=0)
        x = latents @ loadings.T
        x += np.sqrt(noise_variance) * rng.standard_normal(x.shape)
        data = MultiDomainData(x, self.frame["condition"], self.targets)
        return SachsPanel(data, self.graph, latents, loadings, noise_variance)


@dataclass(frozen=True)
class SachsPanel:
    """Noisy measurements of the cells together with the clean values behind them.

    Attributes
    ----------
    data : MultiDomainData
        x = A z + e in the 14 conditions.
    graph : CausalGraph
        The consensus network of the latents.
    latents : ndarray (11672, 11)
        z, columns in ``graph.nodes`` order.
    loadings : ndarray (d_x, 11)
        A.
    noise_variance : float
        Variance of each entry of e.
    """

    data: MultiDomainData
    graph: CausalGraph
    latents: np.ndarray
    loadings: np.ndarray
    noise_variance: float
