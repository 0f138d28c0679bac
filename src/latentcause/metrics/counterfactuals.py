"""Counterfactual images judged against the truth: their pixels, their measured factors, and the axioms they should obey."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd

from latentcause.datasets.images.factor_images import FactorImages
from latentcause.metrics.images import holds_window, l1_error, psnr, ssim
from latentcause.scm.interventions import Intervention

STILL = 0.05
"""A pixel that changes by no more than this, black to white being 1, has not moved."""


class CounterfactualModel(Protocol):
    """What answers questions: `CausalDiffAE`, or anything with this method."""

    def counterfactual(self, images: Any, do: Mapping[str, Intervention], labels: pd.DataFrame | None = None) -> Any:
        """Images (n, c, h, w) in [0, 1] that these would have been under do(); without labels, from the images alone."""


@dataclass(frozen=True)
class FactorChange:
    """One factor as it is seen in the counterfactual images, in its own units.

    Attributes
    ----------
    error : float
        Effectiveness: mean ``|measured - wanted|``, wanted being the factor's true counterfactual value.
    slope : float
        Of the achieved change (measured after less measured before) on the true one, by least squares; 1 is perfect, 0 is
        an image that does not follow. NaN where all images are to change by the same.
    moved : float
        Mean ``|measured after - measured before|``. Minimality: it should be 0 where not ``is_effect``.
    is_effect : bool
        Whether the factor is intervened on or a descendant of one that is.
    not_measured : int
        Images in which the factor could not be measured; they are left out of the three figures above.
    predicted_error : float or None
        Mean ``|predicted - wanted|`` by the predictor, of all images.
    """

    error: float
    slope: float
    moved: float
    is_effect: bool
    not_measured: int
    predicted_error: float | None


@dataclass(frozen=True)
class CounterfactualReport:
    """How good a model's counterfactual images are; means over the images.

    Attributes
    ----------
    do : tuple of str
        What was intervened on.
    observed : bool
        Whether the model was told the factual labels.
    images : int
    l1, psnr, ssim : float
        To the true counterfactual image. ``ssim`` is NaN for images smaller than its window.
    factors : dict from name to FactorChange
    reversibility : float
        L1 distance of the image to what comes back when the intervention is undone.
    pixels_moved : float
        Minimality: share, of the pixels that the true counterfactual leaves as they were (within `STILL`), of those that
        moved. NaN where it leaves none.
    composition : dict from number of cycles to float
        L1 distance of the image to what doing nothing, that many times, makes of it.
    """

    do: tuple[str, ...]
    observed: bool
    images: int
    l1: float
    psnr: float
    ssim: float
    factors: dict[str, FactorChange]
    reversibility: float
    pixels_moved: float
    composition: dict[int, float]


def counterfactual_report(
    model: CounterfactualModel,
    truth: FactorImages,
    do: Mapping[str, Intervention],
    *,
    observed: bool = False,
    predictor: Callable[[Any], pd.DataFrame] | None = None,
    cycles: Sequence[int] = (),
) -> CounterfactualReport:
    """Ask a model what the images of ``truth`` would have been under do(), and compare with what they would have been.

    The axioms of counterfactuals (Galles and Pearl 1998), as measured on images by Monteiro, Ribeiro, Pawlowski, Castro and
    Glocker, Measuring axiomatic soundness of counterfactual image models, ICLR 2023: composition, reversibility,
    effectiveness; and beside them minimality and the error to the true image.

    Parameters
    ----------
    model : object with a method ``counterfactual(images, do, labels)``
    truth : FactorImages
        Images that the model has not been fitted to.
    do : mapping from factor to intervention
        In own units; arrays have one value per image. To undo it, the factors are set to their labels.
    observed : bool
        Give the model the labels; for the undoing, those of the true counterfactual.
    predictor : callable, optional
        From images to a frame of factors, such as `train_factor_predictor` gives. Not the model's own encoder.
    cycles : sequence of int
        Numbers of cycles after which composition is measured.

    Raises
    ------
    ValueError
        For a factor that is a category, an intervention on nothing, and images of another shape from the model.
    """
    if truth.images.levels:
        raise ValueError(f"factor {next(iter(truth.images.levels))!r} is a category: errors are measured on numbers")
    if not do:
        raise ValueError("do() is empty: name a factor; doing nothing is measured by composition()")
    factual, labels = truth.images.pixels, truth.images.labels
    wanted = truth.counterfactual_factors(slice(None), do)
    true_images = truth.render(truth.base, wanted)
    changed = np.asarray(model.counterfactual(factual, do, labels if observed else None))
    undo = {name: labels[name].to_numpy() for name in do}
    undone = model.counterfactual(changed, undo, wanted if observed else None)
    return CounterfactualReport(
        do=tuple(do),
        observed=observed,
        images=len(truth),
        l1=float(l1_error(changed, true_images).mean()),
        psnr=float(psnr(changed, true_images).mean()),
        ssim=float(ssim(changed, true_images).mean()) if holds_window(changed) else float("nan"),
        factors=_factor_changes(truth, do, changed, wanted, predictor),
        reversibility=float(l1_error(undone, factual).mean()),
        pixels_moved=_pixels_moved(factual, changed, true_images),
        composition=composition(model, truth, cycles, observed=observed),
    )


def composition(
    model: CounterfactualModel, truth: FactorImages, cycles: Sequence[int], *, observed: bool = False
) -> dict[int, float]:
    """Mean L1 distance of the images to what k null interventions, one after the other, make of them, for each k.

    Raises
    ------
    ValueError
        For a number of cycles below 1.
    """
    if min(cycles, default=1) < 1:
        raise ValueError(f"cycles={list(cycles)}: give numbers of at least 1")
    images, labels = truth.images.pixels, truth.images.labels if observed else None
    errors = {}
    for cycle in range(1, max(cycles, default=0) + 1):
        images = model.counterfactual(images, {}, labels)
        if cycle in cycles:
            errors[cycle] = float(l1_error(images, truth.images.pixels).mean())
    return errors


def _factor_changes(
    truth: FactorImages,
    do: Mapping[str, Intervention],
    changed: np.ndarray,
    wanted: pd.DataFrame,
    predictor: Callable[[Any], pd.DataFrame] | None,
) -> dict[str, FactorChange]:
    labels, before, after = truth.images.labels, truth.measure(truth.images.pixels), truth.measure(changed)
    predicted = None if predictor is None else predictor(changed)
    effects = set(do).union(*(truth.graph.descendants(name) for name in do))
    changes = {}
    for name in truth.graph.nodes:
        label, target, seen = labels[name].to_numpy(), wanted[name].to_numpy(), after[name].to_numpy()
        achieved, true_change = seen - before[name].to_numpy(), target - label
        known = np.isfinite(achieved)
        error = None if predicted is None else float(np.abs(predicted[name].to_numpy() - target).mean())
        changes[name] = FactorChange(
            error=_mean(np.abs(seen - target)[known]),
            slope=_slope(true_change[known], achieved[known], rounding=1e-9 * float(label.std())),
            moved=_mean(np.abs(achieved[known])),
            is_effect=name in effects,
            not_measured=int((~known).sum()),
            predicted_error=error,
        )
    return changes


def _slope(x: np.ndarray, y: np.ndarray, rounding: float) -> float:
    """Of y on x by least squares; NaN where x differs by rounding alone."""
    centred = x - _mean(x)
    if not len(x) or centred.std() <= rounding:
        return float("nan")
    return float(centred @ y / (centred @ centred))


def _pixels_moved(factual: np.ndarray, changed: np.ndarray, true_images: np.ndarray) -> float:
    stays = np.abs(true_images - factual) <= STILL
    return _mean((np.abs(changed - factual) > STILL)[stays])


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")
