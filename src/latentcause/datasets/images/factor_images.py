"""Images drawn from known factors, with the true answer to every what-if question."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd

from latentcause.data.labelled_images import LabelledImages, split_rows
from latentcause.graph import CausalGraph
from latentcause.scm import StructuralCausalModel
from latentcause.scm.interventions import Intervention


@dataclass(frozen=True, eq=False, repr=False)
class FactorImages:
    """Images x = render(base, factors), where the factors come from a known structural causal model.

    The base is what an image owes to nothing in the graph, such as which digit it shows. A counterfactual image keeps base
    and noise of the factors: abduct the noise from the labels, act, predict the factors, render.

    Attributes
    ----------
    images : LabelledImages
        The n images; their labels are the factors that they were rendered with.
    scm : StructuralCausalModel
        The truth about the factors.
    base : ndarray (n, ...)
    render : callable
        From base (m, ...) and factors, a DataFrame of m rows, to float32 images (m, c, h, w) in [0, 1].
    measure : callable
        From images (m, c, h, w), whatever made them, to a DataFrame of m rows with the factors as they are seen in the image.
    """

    images: LabelledImages
    scm: StructuralCausalModel
    base: np.ndarray
    render: Callable[[np.ndarray, pd.DataFrame], np.ndarray]
    measure: Callable[[Any], pd.DataFrame]

    @classmethod
    def draw(
        cls,
        scm: StructuralCausalModel,
        base: np.ndarray,
        render: Callable[[np.ndarray, pd.DataFrame], np.ndarray],
        measure: Callable[[Any], pd.DataFrame],
        *,
        seed: int,
    ) -> Self:
        """One image per base, with factors sampled from the model."""
        factors = scm.to_frame(scm.sample(len(base), generator=seed))
        return cls(LabelledImages(render(base, factors), factors), scm, base, render, measure)

    @property
    def graph(self) -> CausalGraph:
        """The causal graph of the factors."""
        return self.scm.graph

    def counterfactual(self, rows: Any, do: Mapping[str, Intervention]) -> np.ndarray:
        """The true images (m, c, h, w) that the images ``rows`` would have been under do().

        Parameters
        ----------
        rows : array of int, bool mask or slice
            Which images.
        do : mapping from factor to intervention
            As in `StructuralCausalModel.counterfactual`: one number or level, or one per chosen row, or `Shift`.

        Raises
        ------
        ValueError
            For an unknown factor, and for values that no image can show.
        """
        chosen = np.atleast_1d(np.arange(len(self))[rows])
        return self.render(self.base[chosen], self.counterfactual_factors(chosen, do))

    def counterfactual_factors(self, rows: Any, do: Mapping[str, Intervention]) -> pd.DataFrame:
        """The factors of `counterfactual`: a frame of m rows, the factors as columns."""
        chosen = np.atleast_1d(np.arange(len(self))[rows])
        answer: pd.DataFrame = self.scm.counterfactual(self.images.subset(chosen).labels, do)
        return answer

    def subset(self, rows: Any) -> Self:
        """The images of those numbers (or where a mask is true), in that order."""
        return type(self)(self.images.subset(rows), self.scm, self.base[rows], self.render, self.measure)

    def split(self, held_out: float, *, seed: int) -> tuple[Self, Self]:
        """Two parts at random: the rest, and ``held_out`` of the images (a share below 1, or a number of images)."""
        rest, held = split_rows(len(self), held_out, seed)
        return self.subset(rest), self.subset(held)

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        return f"FactorImages of {self.graph}\n{self.images!r}"
