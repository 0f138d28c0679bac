"""The one abstract class of models that answer what an image would have been."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from torch import Tensor, nn

from latentcause.data.labelled_images import LabelledImages, checked_pixels
from latentcause.models.factor_code import FactorCode
from latentcause.models.factor_model import FactorModel
from latentcause.scm import StructuralCausalModel
from latentcause.scm.interventions import Intervention
from latentcause.threads import threads_for
from latentcause.training import Recipe, resolve_device, seeded, train

Guidance = float | Mapping[str, float]

ROWS_AT_ONCE = 512
MANY_IMAGES = 2000


class ImageModel(BaseEstimator, ABC):
    """Learns from labelled images and a causal graph of the labels, and answers what images would have been under do().

    Constructors only store their arguments; ``fit`` returns ``self`` and sets the attributes below.

    Attributes
    ----------
    factors_ : FactorModel
        The factors' causal model; ``scm_`` and ``code_`` are its parts.
    module_ : Module
        The networks.
    image_shape_ : tuple of int
        (c, h, w).
    history_ : list of dict
        An entry per epoch of training.
    converged_ : bool
    """

    device: str
    seed: int
    factors_: FactorModel
    module_: nn.Module
    image_shape_: tuple[int, ...]
    history_: list[dict[str, float]]
    converged_: bool

    @abstractmethod
    def fit(self, images: LabelledImages, *, checkpoint: Path | None = None, log: Path | None = None) -> Self:
        """Learn from the images and return the model; `train` says what ``checkpoint`` and ``log`` are for."""

    @abstractmethod
    def counterfactual(self, images: Any, do: Mapping[str, Intervention], labels: Any = None) -> np.ndarray:
        """What these images would have been under do().

        Parameters
        ----------
        images : array or tensor (n, c, h, w), or LabelledImages
        do : mapping from factor to intervention
            In the factor's own units: a number or level, one for all or one per image, or `Shift`.
        labels : DataFrame, optional
            The observed factors, where known; otherwise the encoder's.

        Returns
        -------
        ndarray (n, c, h, w), float32, in [0, 1]

        Raises
        ------
        ValueError
            For images of another size, an unknown factor or level, missing labels, and a factor downstream whose noise the
            image does not determine (a category).
        """

    @abstractmethod
    def _new_module(self) -> nn.Module:
        """The networks before training."""

    def encode(self, images: Any) -> pd.DataFrame:
        """The factors (n, f) of images, in the units of the labels, as the model sees them.

        Raises
        ------
        ValueError
            Where the model has no encoder.
        """
        pixels = self._pixels(images)
        return self.factors_.frame(self._encoded(pixels))

    def counterfactual_factors(self, images: Any, do: Mapping[str, Intervention], labels: Any = None) -> pd.DataFrame:
        """The factors (n, f) of `counterfactual`, in the units of the labels."""
        factual = self._factual(self._pixels(images), labels)
        return self.factors_.frame(self.factors_.counterfactual(factual, do))

    @property
    def scm_(self) -> StructuralCausalModel:
        """The factors' mechanisms, on the standard scale of ``code_``."""
        return self.factors_.scm

    @property
    def code_(self) -> FactorCode:
        """How labels become numbers of the standard scale, and back."""
        return self.factors_.code

    # --- files -------------------------------------------------------------------------------------------------------

    def fitted_state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """What fitting learned: arrays by name, and values that JSON can hold. ``latentcause.save`` writes both."""
        self.check_fitted()
        weights = {name: value.float().cpu().numpy() for name, value in self.module_.state_dict().items()}
        values = {
            **self.factors_.state(),
            "image_shape": tuple(self.image_shape_),
            "history": self.history_,
            "converged": self.converged_,
        }
        return weights, values

    def restore_state(self, arrays: dict[str, np.ndarray], values: dict[str, Any]) -> None:
        """Set the fitted attributes from what ``fitted_state`` gave."""
        self.factors_ = FactorModel.restored(values)
        self.image_shape_ = tuple(values["image_shape"])
        self.history_, self.converged_ = values["history"], values["converged"]
        self.module_ = self._seeded_module()
        self.module_.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in arrays.items()})
        self.module_.to(resolve_device(self.device)).eval()

    def check_fitted(self) -> None:
        """Raise one clear error where ``fit`` has not run yet."""
        if not hasattr(self, "converged_"):
            raise NotFittedError(f"this {type(self).__name__} is not fitted yet: call fit(images) first")

    # --- for the models ----------------------------------------------------------------------------------------------

    def _seeded_module(self) -> nn.Module:
        with seeded(self.seed):
            return self._new_module()

    def _train(self, tensors: tuple[Tensor, ...], checkpoint: Path | None, log: Path | None) -> None:
        """Minimise ``module_.loss`` by the model's own arguments; with many images, some are held out."""
        settings: Any = self
        recipe = Recipe(
            settings.epochs,
            settings.batch_size,
            settings.learning_rate,
            schedule="cosine",
            average=settings.average,
            clip_norm=1.0,
            precision=settings.precision,
            held_out=0.02 if len(tensors[0]) >= MANY_IMAGES else 0.0,
        )
        networks: Any = self.module_
        with threads_for(0):
            result = train(
                self.module_,
                networks.loss,
                tensors,
                recipe,
                seed=self.seed,
                draw=networks.draw,
                device=self.device,
                label=type(self).__name__,
                checkpoint=checkpoint,
                log=log,
            )
        self.module_.eval()
        self.history_, self.converged_ = result.history, result.converged

    def _exaggerated(self, do: Collection[str], guidance: Guidance) -> dict[str, float]:
        """The weights, other than 1, of the factors in ``do``."""
        if isinstance(guidance, Mapping):
            unknown = [name for name in guidance if name not in self.code_.names]
            if unknown:
                raise ValueError(
                    f"guidance speaks of {unknown[0]!r}, which is no factor: it knows {', '.join(self.code_.names)}"
                )
        weights = guidance if isinstance(guidance, Mapping) else dict.fromkeys(do, guidance)
        for name, weight in weights.items():
            if not math.isfinite(weight):
                raise ValueError(f"guidance is {weight} for {name}: give a number, 1 for none")
        return {name: float(weights[name]) for name in do if weights.get(name, 1.0) != 1}

    def _without(self, name: str, factual: Tensor, changed: Tensor) -> Tensor:
        """Factors (n, f) changed but for this one."""
        own = torch.tensor([other == name for other in self.code_.names])
        return torch.where(own, factual, changed)

    def _pixels(self, images: Any) -> Tensor:
        self.check_fitted()
        pixels = images.pixels if isinstance(images, LabelledImages) else checked_pixels(images)
        if pixels.shape[1:] != tuple(self.image_shape_):
            shapes = " x ".join(map(str, pixels.shape[1:])), " x ".join(map(str, self.image_shape_))
            raise ValueError(f"images of {shapes[0]}, but the model was fitted to {shapes[1]}: bring them to that size")
        return torch.from_numpy(np.array(pixels))

    def _factual(self, pixels: Tensor, labels: Any) -> Tensor:
        """Factors (n, f) on the standard scale: those observed, or else the encoder's."""
        if labels is None:
            return self._encoded(pixels)
        factors = self.factors_.read(labels)
        if len(factors) != len(pixels):
            raise ValueError(f"{len(factors)} rows of labels for {len(pixels)} images: give one row per image")
        return factors

    @torch.no_grad()
    def _encoded(self, pixels: Tensor) -> Tensor:
        """Factors (n, f) on the standard scale, by the networks."""
        encode = getattr(self.module_, "encode", None)
        if encode is None:
            raise ValueError(
                f"{type(self).__name__} has no encoder, so it can't tell the factors of images: give labels"
            )
        device = next(self.module_.parameters()).device
        return torch.cat([encode(part.to(device)).cpu() for part in pixels.split(ROWS_AT_ONCE)])
