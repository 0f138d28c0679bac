"""MorphoMNIST, thickness -> intensity: handwritten digits redrawn with strokes of known thickness and grey level.

Structural causal model and recipe of Pawlowski, Castro and Glocker, Deep structural causal models for tractable counterfactual
inference, NeurIPS 2020, section 4 and appendix A.1, on the digits of LeCun, Bottou, Bengio and Haffner (1998).
"""

from __future__ import annotations

import gzip
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from latentcause.datasets.files import DataFiles
from latentcause.datasets.images import strokes
from latentcause.datasets.images.factor_images import FactorImages
from latentcause.graph import CausalGraph
from latentcause.scm import GaussianNoise, GeneralMechanism, LinearMechanism, Noise, StructuralCausalModel
from latentcause.writing import write_atomically

FILES = DataFiles(
    name="mnist",
    checksums={"train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"},
    origin="the 60,000 training images of MNIST (28 x 28, idx format, gzip) by LeCun, Cortes and Burges",
)
PUBLISHED = DataFiles(
    name="mnist",
    checksums={
        "morpho_thickness_intensity_train.csv.gz": "4c1f82602b6a9cb7f9dacd449ed60caa54a7e2642129ab55f1f0a59093b6623d"
    },
    origin="thickness and intensity of the 60,000 training images as published with Pawlowski et al., NeurIPS 2020",
)
PART = 250  # digits that one process draws at a time
RENDERING = 1
"""Part of the name of cached files: another number where the same digits would be drawn otherwise."""


def morphomnist(
    n: int = 60_000,
    *,
    seed: int,
    folder: str | Path | None = None,
    cache: str | Path | None = None,
    n_jobs: int = 1,
) -> FactorImages:
    """n different MNIST digits, redrawn with thickness and intensity from `morphomnist_scm`.

    Factors: ``thickness`` in pixels and ``intensity`` in grey levels (64 to 255). Images: (n, 1, 28, 28). ``measure`` is
    `measure_strokes`. Drawing takes about 2 ms a digit.

    Parameters
    ----------
    n : int
        At most 60,000.
    seed : int
        Of the choice of digits and of the factors.
    folder
        Holds ``train-images-idx3-ubyte.gz``. Without it, ``$LATENTCAUSE_DATA/mnist`` or the user's cache is looked in;
        nothing is downloaded.
    cache
        A folder where the drawn images are kept and looked for. Without it they are drawn anew.
    n_jobs : int
        Processes to draw with; -1 for one per core.

    Raises
    ------
    FileNotFoundError, ValueError
        Where the file is missing or not the published one, or n is out of range.
    """
    digits = mnist_digits(folder)
    if not 0 < n <= len(digits):
        raise ValueError(f"n={n} digits: MNIST has 1 to {len(digits)}")
    base = digits[np.random.default_rng(seed).permutation(len(digits))[:n]]
    drawer = _Drawer(Path(cache) / f"morphomnist-{RENDERING}-{n}-{seed}.npy" if cache is not None else None, n_jobs)
    drawn = FactorImages.draw(morphomnist_scm(), base, drawer, measure_strokes, seed=seed)
    return replace(drawn, render=render_strokes)


def mnist_digits(folder: str | Path | None = None) -> np.ndarray:
    """The 60,000 training images (60000, 28, 28), uint8, as published; ``folder`` as in `morphomnist`."""
    content = gzip.decompress((FILES.find(folder) / "train-images-idx3-ubyte.gz").read_bytes())
    return np.frombuffer(content, dtype=np.uint8, offset=16).reshape(-1, 28, 28)


def published_factors(folder: str | Path | None = None) -> pd.DataFrame:
    """The published thickness and intensity (60000, 2) that the training digits were redrawn with, in MNIST's order."""
    path = PUBLISHED.find(folder) / "morpho_thickness_intensity_train.csv.gz"
    return pd.read_csv(path, index_col="index")


def morphomnist_scm() -> StructuralCausalModel:
    """thickness t = 0.5 + Gamma(shape 10, rate 5); intensity i = 191 sigmoid(e / 2 + 2 t - 5) + 64 with e ~ N(0, 1)."""
    return StructuralCausalModel(
        CausalGraph.from_edges([("thickness", "intensity")]),
        {
            "thickness": LinearMechanism(intercept=0.5, noise=_GammaNoise(10, 5.0)),
            "intensity": GeneralMechanism(
                lambda parents, noise: 191 * torch.sigmoid(noise + 2 * parents[:, 0] - 5) + 64,
                GaussianNoise(0.25),
                lambda values, parents: torch.logit((values - 64) / 191) - 2 * parents[:, 0] + 5,
            ),
        },
    )


def measure_strokes(images: Any) -> pd.DataFrame:
    """Measured ``thickness`` in pixels and ``intensity`` in grey levels of images (n, 1, h, w), as in `strokes`."""
    return pd.DataFrame({"thickness": strokes.thickness(images), "intensity": strokes.intensity(images)})


def render_strokes(base: np.ndarray, factors: pd.DataFrame) -> np.ndarray:
    """Digits (n, h, w) redrawn with the factors ``thickness`` and ``intensity``: float32 images (n, 1, h, w)."""
    return strokes.redraw(base[:, None], *factors[["thickness", "intensity"]].to_numpy().T)


@dataclass(frozen=True)
class _Drawer:
    """`render_strokes` with several processes, and a file that keeps the result."""

    file: Path | None
    n_jobs: int

    def __call__(self, base: np.ndarray, factors: pd.DataFrame) -> np.ndarray:
        if self.file is None:
            return self._drawn(base, factors)
        if self.file.is_file():
            kept: np.ndarray = np.load(self.file)
            return kept
        images = self._drawn(base, factors)
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with write_atomically(self.file) as path:
            np.save(path, images)
        return images

    def _drawn(self, base: np.ndarray, factors: pd.DataFrame) -> np.ndarray:
        if self.n_jobs == 1:
            return render_strokes(base, factors)
        from joblib import Parallel, delayed

        parts = np.array_split(np.arange(len(base)), math.ceil(len(base) / PART))
        columns = factors[["thickness", "intensity"]].to_numpy().T
        images = Parallel(self.n_jobs)(delayed(strokes.redraw)(base[part, None], *columns[:, part]) for part in parts)
        return np.concatenate(images)


@dataclass(frozen=True)
class _GammaNoise(Noise):
    """u ~ Gamma(shape, rate) with a whole number as shape: the sum of as many exponential variables."""

    shape: int
    rate: float

    @property
    def mean(self) -> float:
        return self.shape / self.rate

    @property
    def variance(self) -> float:
        return self.shape / self.rate**2

    def sample(self, n: int, like: Tensor, generator: torch.Generator) -> Tensor:
        uniform = torch.rand(n, self.shape, generator=generator, dtype=like.dtype, device=like.device)
        return -torch.log1p(-uniform).sum(dim=1) / self.rate

    def log_density(self, values: Tensor) -> Tensor:
        constant = self.shape * math.log(self.rate) - math.lgamma(self.shape)
        inside = constant + (self.shape - 1) * torch.log(values.clamp_min(0)) - self.rate * values
        return torch.where(values > 0, inside, -math.inf)
