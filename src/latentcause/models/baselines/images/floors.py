"""Answers that need no network: what every model of images has to beat."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from torch import nn

from latentcause.data.labelled_images import LabelledImages
from latentcause.data.variables import Variables
from latentcause.graph import CausalGraph
from latentcause.models.factor_code import Bounds
from latentcause.models.factor_model import FactorModel
from latentcause.models.image_model import ImageModel
from latentcause.scm.interventions import Intervention, checked_actions


class Factual(ImageModel):
    """The counterfactual image is the image itself, and its factors are what they were.

    Parameters
    ----------
    graph : CausalGraph
    device : str
    seed : int
    """

    def __init__(self, graph: CausalGraph, *, device: str = "cpu", seed: int = 0) -> None:
        self.graph = graph
        self.device = device
        self.seed = seed

    def fit(self, images: LabelledImages, *, checkpoint: Path | None = None, log: Path | None = None) -> Self:
        """Keep the size of the images, and what labels there are; nothing is trained."""
        self.factors_ = FactorModel.fit(images, CausalGraph(self.graph.nodes, ()), mechanisms="linear", seed=self.seed)
        _finish(self, images)
        return self

    def counterfactual(self, images: Any, do: Mapping[str, Intervention], labels: Any = None) -> np.ndarray:
        """The images (n, c, h, w). ``do`` is checked all the same."""
        pixels = self._pixels(images)
        checked_actions(do, self.graph, self.code_.levels, len(pixels))
        return pixels.numpy()

    def counterfactual_factors(self, images: Any, do: Mapping[str, Intervention], labels: Any = None) -> pd.DataFrame:
        """The labels (n, f), which have to be given."""
        pixels = self._pixels(images)
        checked_actions(do, self.graph, self.code_.levels, len(pixels))
        return self.factors_.frame(self._factual(pixels, labels))

    def _new_module(self) -> nn.Module:
        return nn.Identity()


class PixelScaling(ImageModel):
    """Brightness follows one factor: x' = x z' / z, with z' the factor's counterfactual by the model of the labels.

    The right answer where the factor is the brightness and nothing else changes. Labels have to be given, as nothing reads the
    factors off an image.

    Parameters
    ----------
    graph : CausalGraph
    factor : str
        The one that pixels are proportional to, such as an intensity.
    bounds : mapping from factor to (low, high), optional
    mechanisms : str or mapping from factor to str
        As in `CausalDiffAE`.
    device : str
    seed : int
    """

    def __init__(
        self,
        graph: CausalGraph,
        factor: str,
        *,
        bounds: Mapping[str, Bounds] | None = None,
        mechanisms: str | Mapping[str, str] = "spline",
        device: str = "cpu",
        seed: int = 0,
    ) -> None:
        self.graph = graph
        self.factor = factor
        self.bounds = bounds
        self.mechanisms = mechanisms
        self.device = device
        self.seed = seed

    def fit(self, images: LabelledImages, *, checkpoint: Path | None = None, log: Path | None = None) -> Self:
        """Fit the mechanisms to the labels.

        Raises
        ------
        ValueError
            Where ``factor`` is no factor, a category, or has labels that are not positive; and as `CausalDiffAE.fit` does.
        """
        if self.factor not in self.graph:
            raise ValueError(
                f"factor={self.factor!r} is not a node of the graph: its nodes are {list(self.graph.nodes)}"
            )
        self.factors_ = FactorModel.fit(images, self.graph, self.bounds, self.mechanisms, self.seed)
        if self.factor in self.code_.levels:
            raise ValueError(f"factor={self.factor!r} is a category: name a number that pixels are proportional to")
        _refuse_not_positive(self.factor, images.variables.column(self.factor))
        _finish(self, images)
        return self

    def counterfactual(self, images: Any, do: Mapping[str, Intervention], labels: Any = None) -> np.ndarray:
        """The images (n, c, h, w) scaled, cut off at 0 and 1.

        Raises
        ------
        ValueError
            As `CausalDiffAE.counterfactual` does, and without labels or with one of the factor that is not positive.
        """
        pixels = self._pixels(images)
        factual = self._factual(pixels, labels)
        changed = self.factors_.counterfactual(factual, do)
        before = Variables.read(labels, self.graph.nodes, self.code_.levels).column(self.factor)
        _refuse_not_positive(self.factor, before)
        after = self.factors_.frame(changed)[self.factor].to_numpy()
        ratio = (after / before).astype(np.float32)[:, None, None, None]
        return (pixels.numpy() * ratio).clip(0, 1)

    def _new_module(self) -> nn.Module:
        return nn.Identity()


def _finish(model: ImageModel, images: LabelledImages) -> None:
    """Set what other models learn in training."""
    model.image_shape_ = images.pixels.shape[1:]
    model.module_ = nn.Identity()
    model.history_, model.converged_ = [], True


def _refuse_not_positive(name: str, values: np.ndarray) -> None:
    if not (values > 0).all():
        row = int((values <= 0).argmax())
        raise ValueError(
            f"the label of {name!r} in row {row} is {values[row]:g}: pixels are scaled by a positive factor"
        )
