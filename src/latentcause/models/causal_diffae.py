"""CausalDiffAE: a diffusion autoencoder whose code is a structural causal model; counterfactual images under do(...)."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
import torch
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from torch import Tensor

from latentcause.data.labelled_images import LabelledImages, checked_pixels
from latentcause.data.variables import Variables
from latentcause.diffusion import DDIM, Cosine, Denoiser, GuidedDenoiser, NetworkDenoiser, times
from latentcause.graph import CausalGraph
from latentcause.models.causal_autoencoder import CausalAutoencoder
from latentcause.models.factor_code import Bounds, FactorCode
from latentcause.scm import Mechanism, StructuralCausalModel
from latentcause.scm.interventions import Intervention, Shift
from latentcause.threads import threads_for
from latentcause.training import Recipe, resolve_device, seeded, train

FIRST, LAST, POWER = 0.98, 0.01, 1.5  # times of sampling and inversion: crowded where images are nearly clean
WARM_UP_EPOCHS = 2  # of the encoder alone
ROWS_AT_ONCE = 64
FAR_OUTSIDE = 0.25  # of the range of the labels: do() beyond warns


class CausalDiffAE(BaseEstimator):
    """Learn from labelled images and a causal graph of the labels; answer what an image would have been under do(...).

    An image x has factors z with z_i = f_i(z_pa(i)) + u_i along the graph. An encoder gives q(u | x) = N(mu(x), sd(x)^2); a
    diffusion decoder draws x given z. All are trained on

        E |v - v_hat(x_t, t, z)|^2 + kl_weight KL(q(u | x) || N(u_label, prior_sd^2)),

    with u_label the noise that the labels imply under the mechanisms f, z solved from a draw of u, and z withheld with
    probability ``p_unconditional`` (paper 003, section 6, after Komanduri et al., Causal diffusion autoencoders, 2024). It departs
    from both where they err: the mechanisms are fitted to the labels (left to the KL terms they are not identified), effects go
    all the way down the graph, the network predicts the velocity on a continuous cosine schedule, and counterfactuals also
    abduct the image's own noise, by inverting the deterministic sampler (their Algorithm 8 draws it anew).

    Parameters
    ----------
    graph : CausalGraph
        Of the factors.
    bounds : mapping from factor to (low, high), optional
        Limits of factors that saturate there: their mechanisms are fitted on the logit scale.
    mechanisms : str or mapping from factor to str
        As in `StructuralCausalModel.fit`.
    guidance : float
        Weight w of what the factors say, 1 being none and more exaggerating it. A sample follows (1 - w) v(x_t) + w v(x_t, z)
        (Ho and Salimans 2022). A counterfactual follows (1 - w) v(x_t, z factual) + w v(x_t, z changed): so w = 0 is the
        factual image, nothing changes where nothing is changed, and the same strength of an edit costs less of the image
        than with the network that is told nothing, which is the published form.
    steps, refinements : int
        Of the sampler, and passes that make its inversion exact.
    epochs, batch_size, learning_rate, average : training, see `Recipe`
    channels : sequence of int
        Of the U-Net's resolutions.
    kl_weight, prior_sd, p_unconditional : float
    precision : {"bfloat16", "float32"}
        Of the decoder's products.
    device : str
    seed : int

    Attributes
    ----------
    scm_ : StructuralCausalModel
        Of the factors on the standard scale of ``code_``.
    code_ : FactorCode
    module_ : CausalAutoencoder
    history_ : list of dict
    converged_ : bool
    """

    def __init__(
        self,
        graph: CausalGraph,
        *,
        bounds: Mapping[str, Bounds] | None = None,
        mechanisms: str | Mapping[str, str] = "spline",
        guidance: float = 1.0,
        steps: int = 25,
        refinements: int = 3,
        epochs: int = 3,
        batch_size: int = 32,
        learning_rate: float = 2e-3,
        average: float = 0.998,
        channels: Sequence[int] = (32, 64),
        kl_weight: float = 0.005,
        prior_sd: float = 0.03,
        p_unconditional: float = 0.1,
        precision: Literal["float32", "bfloat16"] = "bfloat16",
        device: str = "auto",
        seed: int = 0,
    ) -> None:
        self.graph = graph
        self.bounds = bounds
        self.mechanisms = mechanisms
        self.guidance = guidance
        self.steps = steps
        self.refinements = refinements
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.average = average
        self.channels = channels
        self.kl_weight = kl_weight
        self.prior_sd = prior_sd
        self.p_unconditional = p_unconditional
        self.precision = precision
        self.device = device
        self.seed = seed

    def fit(self, images: LabelledImages, *, checkpoint: Path | None = None, log: Path | None = None) -> Self:
        """Train on the images; labels may be missing where ``images`` allows it.

        Raises
        ------
        ValueError
            Where labels and graph do not belong together, and for what `FactorCode` and `StructuralCausalModel.fit` refuse.
        """
        images.validate_for(self.graph)
        labels = Variables.read(images.variables.to_frame(), self.graph.nodes, images.levels)
        self.code_ = FactorCode.of(labels, self.bounds or {})
        frame = Variables(labels.names, self.code_.scaled(labels.values), labels.levels)
        self.scm_ = StructuralCausalModel.fit(
            self.graph, frame, mechanisms=self.mechanisms, noise="gaussian", seed=self.seed
        )
        self.image_shape_ = images.pixels.shape[1:]
        self.module_ = self._new_module()
        tensors = self._tensors(images)
        with threads_for(0):
            train(
                self.module_.encoder,
                self.module_.encoder_loss,
                tensors,
                Recipe(WARM_UP_EPOCHS, 64, self.learning_rate, schedule="cosine", held_out=0.0),
                seed=self.seed,
                device=self.device,
                label="encoder",
                checkpoint=None if checkpoint is None else checkpoint.with_suffix(".encoder" + checkpoint.suffix),
            )
            result = train(
                self.module_,
                self.module_.loss,
                tensors,
                Recipe(
                    self.epochs,
                    self.batch_size,
                    self.learning_rate,
                    schedule="cosine",
                    average=self.average,
                    clip_norm=1.0,
                    precision=self.precision,
                    held_out=0.02 if len(images) >= 2000 else 0.0,
                ),
                seed=self.seed,
                draw=self.module_.draw,
                device=self.device,
                label="CausalDiffAE",
                checkpoint=checkpoint,
                log=log,
            )
        self.history_, self.converged_ = result.history, result.converged
        self.module_.eval()
        return self

    # --- what an image holds -----------------------------------------------------------------------------------------

    def encode(self, images: Any) -> pd.DataFrame:
        """The factors (n, f) of images, in the units of the labels, by the encoder's mean."""
        return self._frame(self._encoded(self._pixels(images)).double().cpu().numpy())

    def decode(self, factors: Any, noise: Any, guidance: float | None = None) -> np.ndarray:
        """Images (n, c, h, w) from factors (DataFrame, in own units) and noise (n, c, h, w), as `invert` gives it."""
        scaled = torch.from_numpy(self.code_.scaled(self._labels(factors).values)).float()
        return self._sampled(scaled, torch.as_tensor(np.asarray(noise), dtype=torch.float32), guidance).numpy()

    def invert(self, images: Any, factors: Any = None) -> np.ndarray:
        """The noise (n, c, h, w) from which `decode` with these factors (by default the encoder's) returns the images."""
        pixels = self._pixels(images)
        return self._inverted(pixels, self._factual(pixels, factors)).numpy()

    # --- what if -----------------------------------------------------------------------------------------------------

    def counterfactual(
        self, images: Any, do: Mapping[str, Intervention], labels: Any = None, guidance: float | None = None
    ) -> np.ndarray:
        """What these images would have been under do(): abduct factors, their noise and the image's; act; predict.

        Parameters
        ----------
        images : array or tensor (n, c, h, w), or LabelledImages
        do : mapping from factor to intervention
            In the factor's own units: a number or level, one for all or one per image, or `Shift`.
        labels : DataFrame, optional
            The observed factors, where known; otherwise the encoder's.
        guidance : float, optional
            In place of the model's own.

        Returns
        -------
        ndarray (n, c, h, w), float32, in [0, 1]

        Raises
        ------
        ValueError
            For images of another size, an unknown factor or level, missing labels, and a factor downstream whose noise the
            image does not determine (a category).
        """
        pixels = self._pixels(images)
        factual = self._factual(pixels, labels)
        noise = self._inverted(pixels, factual)
        changed = torch.from_numpy(self._changed(factual, do)).float()
        return self._sampled(changed, noise, guidance, factual).numpy()

    def counterfactual_factors(self, images: Any, do: Mapping[str, Intervention], labels: Any = None) -> pd.DataFrame:
        """The factors (n, f) of `counterfactual`, in the units of the labels."""
        return self._frame(self._changed(self._factual(self._pixels(images), labels), do))

    def sample(
        self, n: int, do: Mapping[str, Intervention] | None = None, *, generator: torch.Generator | int
    ) -> tuple[np.ndarray, pd.DataFrame]:
        """n new images (n, c, h, w) and their factors (n, f), under an intervention or none."""
        self._check_fitted()
        generator = generator if isinstance(generator, torch.Generator) else torch.Generator().manual_seed(generator)
        rows = torch.from_numpy(self.scm_.sample(n, self._scaled_actions(do or {}, None), generator=generator)).float()
        noise = torch.randn((n, *self.image_shape_), generator=generator)
        return self._sampled(rows, noise, None).numpy(), self._frame(rows.double().numpy())

    def interpolate(self, first: Any, last: Any, steps: int = 8) -> np.ndarray:
        """Images (steps, n, c, h, w) on the way from the first to the last images: factors linearly, noise on the sphere."""
        ends = [self._pixels(images) for images in (first, last)]
        z = [self._encoded(pixels) for pixels in ends]
        noise = [self._inverted(pixels, code) for pixels, code in zip(ends, z, strict=True)]
        cosine = torch.nn.functional.cosine_similarity(noise[0].flatten(1), noise[1].flatten(1)).clamp(-0.9999, 0.9999)
        angle = cosine.acos()[:, None, None, None]
        frames = []
        for share in torch.linspace(0, 1, steps):
            weights = [((1 - share) * angle).sin() / angle.sin(), (share * angle).sin() / angle.sin()]
            between = weights[0] * noise[0] + weights[1] * noise[1]
            frames.append(self._sampled(torch.lerp(z[0], z[1], share), between, None).numpy())
        return np.stack(frames)

    # --- files -------------------------------------------------------------------------------------------------------

    def fitted_state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """What fitting learned: arrays by name, and values that JSON can hold. ``latentcause.save`` writes both."""
        self._check_fitted()
        weights = {name: value.float().cpu().numpy() for name, value in self.module_.state_dict().items()}
        values = {
            "code": self.code_,
            "mechanisms": dict(self.scm_.mechanisms),
            "levels": {name: list(levels) for name, levels in self.scm_.levels.items()},
            "image_shape": tuple(self.image_shape_),
            "history": self.history_,
            "converged": self.converged_,
        }
        return weights, values

    def restore_state(self, arrays: dict[str, np.ndarray], values: dict[str, Any]) -> None:
        """Set the fitted attributes from what ``fitted_state`` gave."""
        mechanisms: dict[str, Mechanism] = values["mechanisms"]
        self.code_, self.image_shape_ = values["code"], tuple(values["image_shape"])
        self.scm_ = StructuralCausalModel(self.graph, mechanisms, values["levels"])
        self.history_, self.converged_ = values["history"], values["converged"]
        self.module_ = self._new_module()
        self.module_.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in arrays.items()})
        self.module_.to(resolve_device(self.device)).eval()

    # --- inside ------------------------------------------------------------------------------------------------------

    def _new_module(self) -> CausalAutoencoder:
        with seeded(self.seed):
            return CausalAutoencoder(
                self.scm_,
                self.code_,
                self.image_shape_[0],
                self.channels,
                kl_weight=self.kl_weight,
                prior_sd=self.prior_sd,
                p_unconditional=self.p_unconditional,
            )

    def _tensors(self, images: LabelledImages) -> tuple[Tensor, ...]:
        """Images, noise of the factors that the labels imply (NaN where there are none)."""
        values = self.code_.scaled(images.values_of(self.graph.nodes))
        noise = np.full_like(values, np.nan)
        noise[images.labelled] = self.module_.abducted(torch.from_numpy(values[images.labelled])).numpy()
        return torch.from_numpy(images.pixels.copy()), torch.from_numpy(noise).float()

    def _check_fitted(self) -> None:
        if not hasattr(self, "module_"):
            raise NotFittedError("this CausalDiffAE is not fitted yet: call fit(images) first")

    def _pixels(self, images: Any) -> Tensor:
        self._check_fitted()
        pixels = images.pixels if isinstance(images, LabelledImages) else checked_pixels(images)
        if pixels.shape[1:] != tuple(self.image_shape_):
            shapes = " x ".join(map(str, pixels.shape[1:])), " x ".join(map(str, self.image_shape_))
            raise ValueError(f"images of {shapes[0]}, but the model was fitted to {shapes[1]}: bring them to that size")
        return torch.from_numpy(np.array(pixels))

    def _labels(self, labels: Any) -> Variables:
        return Variables.read(labels, self.graph.nodes, self.code_.levels)

    def _frame(self, scaled: np.ndarray) -> pd.DataFrame:
        empty = Variables(self.graph.nodes, np.zeros((1, len(self.graph))), self.code_.levels)
        return empty.to_frame(self.code_.unscaled(scaled))

    def _factual(self, pixels: Tensor, labels: Any) -> Tensor:
        """Factors (n, f) on the standard scale: those observed, or else the encoder's."""
        if labels is None:
            return self._encoded(pixels)
        table = self._labels(labels)
        if len(table) != len(pixels):
            raise ValueError(f"{len(table)} rows of labels for {len(pixels)} images: give one row per image")
        return torch.from_numpy(self.code_.scaled(table.values)).float()

    @torch.no_grad()
    def _encoded(self, pixels: Tensor) -> Tensor:
        device = next(self.module_.parameters()).device
        return torch.cat([self.module_.encode(part.to(device)).cpu() for part in pixels.split(512)])

    def _changed(self, factual: Tensor, do: Mapping[str, Intervention]) -> np.ndarray:
        answer: np.ndarray = self.scm_.counterfactual(factual.double().numpy(), self._scaled_actions(do, factual))
        return answer

    def _scaled_actions(self, do: Mapping[str, Intervention], factual: Tensor | None) -> dict[str, Intervention]:
        """do() on the standard scale. A shift in own units becomes the values that it leads to, where the scale bends."""
        actions: dict[str, Intervention] = {}
        for name, action in do.items():
            if name not in self.graph:
                raise ValueError(f"do() names {name!r}, which is no factor: the factors are {list(self.graph.nodes)}")
            j = self.graph.index(name)
            if isinstance(action, Mechanism) or name in self.code_.levels:
                actions[name] = action
                continue
            if isinstance(action, Shift):
                if name not in self.code_.bounds:
                    actions[name] = Shift(np.asarray(action.amount) / self.code_.scale[j])
                    continue
                if factual is None or set(self.graph.ancestors(name)) & set(do):
                    raise ValueError(
                        f"do({name}) shifts a factor with bounds, which needs its factual value: give values instead"
                    )
                action = self.code_.unscaled(factual.double().numpy())[:, j] + np.asarray(action.amount)
            values = np.atleast_1d(np.asarray(action, dtype=np.float64))
            self._warn_far_outside(name, j, values)
            table = np.zeros((len(values), len(self.graph)))
            table[:, j] = values
            scaled = self.code_.scaled(table)[:, j]
            if not np.isfinite(scaled).all():
                raise ValueError(f"do({name}) is not strictly inside its bounds {self.code_.bounds.get(name)}")
            actions[name] = float(scaled[0]) if np.ndim(action) == 0 else scaled
        return actions

    def _warn_far_outside(self, name: str, j: int, values: np.ndarray) -> None:
        low, high = self.code_.low[j], self.code_.high[j]
        margin = FAR_OUTSIDE * (high - low)
        if values.min() < low - margin or values.max() > high + margin:
            worst = values.min() if values.min() < low - margin else values.max()
            warnings.warn(
                f"do({name} = {worst:g}) lies far outside the labels seen, {low:g} to {high:g}: the image is extrapolated",
                UserWarning,
                stacklevel=4,
            )

    @torch.no_grad()
    def _inverted(self, pixels: Tensor, factors: Tensor) -> Tensor:
        parts = []
        for rows in torch.arange(len(pixels)).split(ROWS_AT_ONCE):
            sampler = DDIM(self._denoiser(factors[rows]))
            x = pixels[rows].to(next(self.module_.parameters()).device) * 2 - 1
            parts.append(sampler.invert(x, times(self.steps, FIRST, LAST, POWER), self.refinements).cpu())
        return torch.cat(parts)

    @torch.no_grad()
    def _sampled(
        self, factors: Tensor, noise: Tensor, guidance: float | None, reference: Tensor | None = None
    ) -> Tensor:
        """Images from factors and noise; guidance is away from the reference factors, or from being told nothing."""
        weight = self.guidance if guidance is None else guidance
        parts = []
        for rows in torch.arange(len(noise)).split(ROWS_AT_ONCE):
            away = self._denoiser(None if reference is None else reference[rows])
            sampler = DDIM(GuidedDenoiser(self._denoiser(factors[rows]), away, weight))
            x = sampler(noise[rows].to(next(self.module_.parameters()).device), times(self.steps, FIRST, LAST, POWER))
            parts.append(((x + 1) / 2).clamp(0, 1).cpu())
        return torch.cat(parts)

    def _denoiser(self, factors: Tensor | None) -> Denoiser:
        """The decoder, told these factors, or nothing."""
        network = self.module_.decoder
        if factors is None:
            return NetworkDenoiser(lambda x, t: network(x, t), Cosine())
        told = self.code_.told(factors.to(next(self.module_.parameters()).device))
        return NetworkDenoiser(lambda x, t: network(x, t, told), Cosine())
