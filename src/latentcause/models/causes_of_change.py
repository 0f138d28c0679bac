"""CausesOfChange: which pixels of a noisy map have changed, and which of several causes did it, learned without labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from scipy import ndimage
from scipy.special import expit, logit, ndtr
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from torch import Tensor

from latentcause.data.gridded_observations import GriddedObservations
from latentcause.data.labels import listing
from latentcause.fields import Matern
from latentcause.graph import CausalGraph
from latentcause.models.change_classes import CLASSES, ChangeClasses
from latentcause.models.class_dependence import fit_length
from latentcause.models.kept_observations import kept, restored
from latentcause.models.map_context import context_features, standardised
from latentcause.models.noisy_or import NoisyOr
from latentcause.observation import BernoulliError, LinearOperator, MixtureEmission, Observation
from latentcause.posteriors import from_draws
from latentcause.threads import threads_for
from latentcause.training import Recipe, seeded, train

if TYPE_CHECKING:
    import xarray

BLUR = 6.0  # of a prior map where it enters the network, in pixels
PAIR_EPOCHS = 3
BLOCK = 8  # side of the blocks that are held out together, in holes
HIGHEST_CHANCE = 1 - 1e-6
ROWS_AT_ONCE = 65_536


class CausesOfChange(BaseEstimator):
    """Posterior of binary causes (a landslide, liquefaction, damage) that a map of change sees together, without any label.

    The graph has some causes and one common effect, which a fine, noisy map sees in every pixel; each cause has a prior map of
    chances on any grid. Every pixel is in one of three classes: no change, change without a known cause, change by a cause.

    1. Classes: `ChangeClasses`. The mean of the map over a window of ``window`` pixels a side is, given the class, independent of
       what lies more than the noise's reach away, outside a square of ``hole`` pixels a side; the prior maps are part of
       those surroundings. ``folds`` fits, each to all blocks of the map but some, are averaged; a pixel's chances are the mean of
       those of the windows that hold it.
    2. Causes: of the class *caused* each cause has its share by `NoisyOr` of the prior maps' log odds, whose scale and offset are
       learned: a prior map is right about where, not about how much.
    3. Joint draws: classes follow one Gaussian field through thresholds that give each pixel its chances; its length is the one
       that makes pairs of windows most likely (`fit_length`).

    Nothing is fitted to labels: all numbers are of maximum likelihood. Where it errs: a patch of change narrower than the window
    looks like weaker change, so that some of it counts as *other*; strong change without any of the causes counts as theirs; the
    draws' field has the dependence that pairs of pixels have before their own windows are seen, a little more than after.

    Parameters
    ----------
    graph : CausalGraph
        Causes without parents, and one effect whose parents are all of them.
    window, hole : int
        Odd, ``hole`` the larger. The noise of pixels (hole - window) / 2 + 1 apart must be nearly independent.
    components : int
        Normal densities in each class.
    width : int
        Of the network's hidden layers.
    folds : int
        Fits, at least 2; each leaves out its share of the blocks.
    epochs, batch_size, learning_rate : training
    device : str
    seed : int

    Attributes
    ----------
    observations_ : GriddedObservations
    classes_ : array (3, h, w)
        Chances of no change, other change and change by a cause.
    attribution_ : NoisyOr
    length_ : float
        Of the draws' field, in pixels.
    held_out_ : float
        Mean log density of a window, in nats, under the fit that has not seen its block: the larger, the better the settings.
    histories_ : list of list of dict
        Losses after each epoch of each fold.

    Examples
    --------
    >>> import numpy as np, latentcause as lc
    >>> from latentcause.observation import BernoulliError, Component, MixtureEmission, Observation, block_mean
    >>> rng = np.random.default_rng(0)
    >>> steep = np.repeat(np.repeat(rng.random((8, 8)) < 0.4, 8, 0), 8, 1)
    >>> change = rng.normal(size=(64, 64)) + 3 * steep
    >>> graph = lc.CausalGraph.from_string("landslide -> change")
    >>> chances = Observation(0.01 + 0.1 * steep[::8, ::8], block_mean((64, 64), 8), BernoulliError())
    >>> proxy = Observation(change, noise=MixtureEmission(Component("normal", 3, 1), Component("normal", 0, 1)))
    >>> observed = lc.GriddedObservations(graph, (64, 64), {"landslide": chances, "change": proxy})
    >>> model = lc.CausesOfChange(graph, folds=2, epochs=2).fit(observed)
    >>> posterior = model.sample_posterior(8, generator=0)
    >>> posterior["landslide"].shape
    (8, 64, 64)
    """

    def __init__(
        self,
        graph: CausalGraph,
        *,
        window: int = 3,
        hole: int = 5,
        components: int = 3,
        width: int = 48,
        folds: int = 4,
        epochs: int = 16,
        batch_size: int = 2048,
        learning_rate: float = 5e-3,
        device: str = "auto",
        seed: int = 0,
    ) -> None:
        self.graph = graph
        self.window = window
        self.hole = hole
        self.components = components
        self.width = width
        self.folds = folds
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.device = device
        self.seed = seed

    def fit(self, observations: GriddedObservations, *, checkpoint: Path | None = None) -> Self:
        """Learn classes, attribution and dependence from one map and the prior maps.

        Parameters
        ----------
        observations : GriddedObservations
            Of the effect: one value for every pixel, with a `MixtureEmission` whose family tells on which scale the map is normal
            within a class; its means and deviations are learned. Of each cause: chances in [0, 1] through a linear operator, with
            a `BernoulliError`, whose slope and offset are learned. A pixel that no cell sees takes the chance of the nearest that
            one does. A chance of 0 rules the cause out: lift it where it stands for "small".
        checkpoint : Path, optional
            Start of the names of files, one for each fold, from which an interrupted fit goes on.

        Raises
        ------
        ValueError
            For a graph of another form, a node without its one observation, missing pixels, other kinds of noise, chances that are
            the same everywhere, and settings that do not fit the map.
        """
        self._check_settings(observations)
        effect, log_odds = self._effect(), self._log_odds(observations)
        z = _map_of_change(observations, effect)
        windows = ndimage.uniform_filter(z, self.window, mode="reflect").astype(np.float32)
        priors = standardised(_prior_features(log_odds))

        def inputs(other: tuple[int, int] | None = None) -> Tensor:
            around = standardised(context_features(z, self.hole, other))
            return torch.from_numpy(np.concatenate([around, priors], axis=-1)).reshape(z.size, -1)

        data = inputs(), torch.from_numpy(windows).reshape(-1, 1)
        with threads_for(0):
            fits, fold = [], self._folds(z.shape)
            chances, held_out = np.zeros((z.size, len(CLASSES))), np.zeros(z.size)
            for number in range(self.folds):
                fits.append(self._fit_fold(number, [part[fold != number] for part in data], checkpoint))
                judged, density = _judged(fits[-1][0], data)
                chances += judged / self.folds
                held_out[fold == number] = density[fold == number]
            recipe = self._recipe(PAIR_EPOCHS)
            self.length_ = fit_length(fits[0][0], torch.from_numpy(windows), inputs, self.hole, recipe, self.seed)
        self.histories_, self.held_out_ = [history for _, history in fits], float(held_out.mean())
        maps = chances.T.reshape(-1, *z.shape)
        self.classes_ = np.stack([ndimage.uniform_filter(part, self.window, mode="reflect") for part in maps])
        self._rule_out(log_odds)
        self.attribution_ = NoisyOr.fit(self.classes_[-1].ravel(), log_odds.reshape(len(log_odds), -1))
        self._place(observations, log_odds)
        return self

    def probabilities(self) -> xarray.Dataset:
        """P(present) of every cause, and P(changed by a cause) under the effect's name: maps with the grid's coordinates."""
        self._check_fitted()
        maps = {node: self.classes_[-1] * share for node, share in zip(self._causes(), self._shares, strict=True)}
        maps[self._effect()] = self.classes_[-1]
        stacked = np.stack([maps[node] for node in self.graph.nodes])
        return from_draws(stacked[None], self.graph.nodes, self.observations_.grid).isel(sample=0, drop=True)

    def sample_posterior(self, n: int, *, generator: torch.Generator | int) -> xarray.Dataset:
        """n joint draws: 1 where a cause is present, else 0; of the effect the class, 0 none, 1 other, 2 caused.

        Raises
        ------
        ValueError
            For n below 1.
        """
        self._check_fitted()
        if n < 1:
            raise ValueError(f"n is {n}: give the number of samples to draw")
        generator = generator if isinstance(generator, torch.Generator) else torch.Generator().manual_seed(generator)
        kernel, shape, causes = Matern(self.length_), self.observations_.shape, self._causes()
        draws = np.zeros((n, len(self.graph), *shape), dtype=np.float32)
        below = np.cumsum(self.classes_, axis=0)[:-1]
        for row in draws:
            u = ndtr(kernel.sample(1 + len(causes), shape, generator).cpu().numpy())
            drawn = (u[0] > below[0]).astype(np.float32) + (u[0] > below[1])
            row[self.graph.index(self._effect())] = drawn
            for node, present in zip(causes, self._drawn_causes(u[1:], drawn == len(CLASSES) - 1), strict=True):
                row[self.graph.index(node)] = present
        return from_draws(draws, self.graph.nodes, self.observations_.grid)

    def fitted_state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """What `latentcause.save` writes: classes, attribution, length and the observations. The networks are not needed again."""
        self._check_fitted()
        values = {
            "attribution": self.attribution_,
            "length": self.length_,
            "held_out": self.held_out_,
            "histories": self.histories_,
            "observations": kept(self.observations_),
        }
        return {"classes": self.classes_}, values

    def restore_state(self, arrays: dict[str, np.ndarray], values: dict[str, Any]) -> None:
        """Set the fitted attributes from what ``fitted_state`` gave."""
        self.classes_, self.attribution_ = arrays["classes"], values["attribution"]
        self.length_, self.held_out_, self.histories_ = values["length"], values["held_out"], values["histories"]
        observations = restored(self.graph, values["observations"])
        self._place(observations, self._log_odds(observations))

    # --- inside ------------------------------------------------------------------------------------------------------

    def _folds(self, shape: tuple[int, ...]) -> np.ndarray:
        """Which fold each pixel belongs to, (h * w,): square blocks in random order."""
        side = min(BLOCK * self.hole, max(1, min(shape) // 2))
        rows, columns = (np.arange(n) // side for n in shape)
        labels = np.random.default_rng(self.seed).permutation((rows[-1] + 1) * (columns[-1] + 1)) % self.folds
        return labels[rows[:, None] * (columns[-1] + 1) + columns].ravel()

    def _fit_fold(
        self, number: int, data: list[Tensor], checkpoint: Path | None
    ) -> tuple[ChangeClasses, list[dict[str, float]]]:
        with seeded(self.seed + number):
            module = ChangeClasses(data[0].shape[1], data[1], self.width, self.components)
        result = train(
            module,
            module.loss,
            tuple(data),
            self._recipe(self.epochs),
            seed=self.seed + number,
            device=self.device,
            label=f"classes {number + 1}/{self.folds}",
            checkpoint=None if checkpoint is None else checkpoint.with_name(f"{checkpoint.name}.{number}"),
        )
        return module.cpu().requires_grad_(False), result.history

    def _rule_out(self, log_odds: np.ndarray) -> None:
        """Where none of the causes is possible, change is of the class other."""
        impossible = np.isneginf(log_odds).all(0)
        self.classes_[1, impossible] += self.classes_[-1, impossible]
        self.classes_[-1, impossible] = 0

    def _place(self, observations: GriddedObservations, log_odds: np.ndarray) -> None:
        """The causes' chances in every pixel, by the attribution; with them the model is fitted."""
        flat = log_odds.reshape(len(log_odds), -1)
        self._shares = self.attribution_.given_any(flat).reshape(log_odds.shape)
        self._chances_before = self.attribution_.chances(flat).reshape(log_odds.shape)
        self.observations_ = observations

    def _recipe(self, epochs: int) -> Recipe:
        return Recipe(
            epochs,
            self.batch_size,
            self.learning_rate,
            weight_decay=1e-4,
            schedule="cosine",
            clip_norm=5.0,
            held_out=0.0,  # rows beside one another share pixels: only whole blocks are held out
        )

    def _drawn_causes(self, u: np.ndarray, caused: np.ndarray) -> list[np.ndarray]:
        """Which causes are present where there is at least one: one after the other, given that one of the rest must be."""
        present, needed = [], caused
        for number, chance in enumerate(self._chances_before):
            any_left = -np.expm1(np.log1p(-self._chances_before[number:]).sum(0))
            share = np.divide(chance, any_left, out=np.zeros_like(chance), where=any_left > 0)
            found = caused & (u[number] < np.where(needed, share, chance))
            present.append(found)
            needed = needed & ~found
        return present

    def _causes(self) -> list[str]:
        effect = self._effect()
        return [node for node in self.graph.nodes if node != effect]

    def _effect(self) -> str:
        effects = [node for node in self.graph.nodes if self.graph.parents(node)]
        if len(effects) != 1 or len(self.graph.parents(effects[0])) != len(self.graph) - 1:
            raise ValueError(
                f"the graph has edges into {listing(effects) or 'no node'}: give one effect, with all other nodes as its causes"
            )
        return effects[0]

    def _check_settings(self, observations: GriddedObservations) -> None:
        observations.validate_for(self.graph)
        if len(observations.shape) != 2:
            raise ValueError(f"fields of shape {observations.shape}: changes are found on maps of two dimensions")
        if not (1 <= self.window < self.hole and self.window % 2 and self.hole % 2):
            raise ValueError(f"window={self.window}, hole={self.hole}: give odd numbers of pixels, the hole the larger")
        if min(observations.shape) < 4 * self.hole:
            raise ValueError(
                f"a map of {observations.shape} is too small for a hole of {self.hole} pixels: give 4 times that"
            )
        for name, least in (("components", 1), ("width", 1), ("folds", 2), ("epochs", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}={getattr(self, name)}: give at least {least}")

    def _log_odds(self, observations: GriddedObservations) -> np.ndarray:
        """Of the chances of every cause in every pixel: (causes, h, w), minus infinity where there is none."""
        maps = []
        for node in self._causes():
            own = _only_observation(observations, node)
            if not isinstance(own.noise, BernoulliError) or not isinstance(own.operator, LinearOperator):
                raise ValueError(f"node {node!r}: give chances seen through a linear operator, with a BernoulliError")
            chance = _per_pixel(own.operator, own.values)
            if chance.max() == chance.min():
                raise ValueError(
                    f"node {node!r}: its chances are {chance.max():g} everywhere and tell nothing of where"
                )
            maps.append(logit(chance.clip(max=HIGHEST_CHANCE)))
        return np.stack(maps)

    def _check_fitted(self) -> None:
        if not hasattr(self, "observations_"):
            raise NotFittedError("this CausesOfChange is not fitted yet: call fit(observations) first")


def _map_of_change(observations: GriddedObservations, effect: str) -> np.ndarray:
    """The effect's map on the scale on which it is normal within a class, less its median, in units of its inner spread."""
    own = _only_observation(observations, effect)
    pixels = int(np.prod(observations.shape))
    if not isinstance(own.noise, MixtureEmission) or own.noise.one.family != own.noise.zero.family:
        raise ValueError(f"node {effect!r}: its noise must be a MixtureEmission of two components of one family")
    if len(own.values) != pixels or not isinstance(own.operator, LinearOperator) or own.operator.factors:
        raise ValueError(
            f"node {effect!r}: give a value for every pixel; {pixels - len(own.values)} of {pixels} are missing"
        )
    y = own.values.reshape(observations.shape)
    z = {"normal": lambda: y, "log-normal": lambda: np.log(y), "logit-normal": lambda: logit(y)}[own.noise.one.family]()
    low, middle, high = np.quantile(z, [0.25, 0.5, 0.75])
    if high <= low:
        raise ValueError(
            f"node {effect!r}: half of its values are the same, so that there is no noise to tell change from"
        )
    return (z - middle) / ((high - low) / 1.349)


def _only_observation(observations: GriddedObservations, node: str) -> Observation:
    own = [observation for name, observation in observations.per_node if name == node]
    if len(own) != 1:
        raise ValueError(f"node {node!r} has {len(own)} observations: it needs one")
    return own[0]


def _per_pixel(operator: LinearOperator, values: np.ndarray) -> np.ndarray:
    """Mean of the cells that see each pixel, by their shares of it; where none does, that of the nearest pixel seen."""
    weights = operator.adjoint(torch.ones(operator.size, dtype=torch.float64)).numpy()
    total = operator.adjoint(torch.as_tensor(values, dtype=torch.float64)).numpy()
    seen = weights > 0
    mean = total / np.where(seen, weights, 1.0)
    nearest = ndimage.distance_transform_edt(~seen, return_distances=False, return_indices=True)
    return mean[tuple(nearest)]


def _prior_features(log_odds: np.ndarray) -> np.ndarray:
    """Of each cause (h, w, 3 each): its log odds, whether they are the map's lowest, and its chance blurred.

    The lowest stands for "less than that", so that it is no number like the others.
    """
    features = []
    for x in log_odds:
        lowest = x[np.isfinite(x)].min()
        features += [np.maximum(x, lowest - 1), 1.0 * (x <= lowest), ndimage.gaussian_filter(expit(x), BLUR)]
    return np.stack(features, axis=-1)


def _judged(module: ChangeClasses, data: tuple[Tensor, Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """P(class) (n, 3) and log density (n,)."""
    parts = list(zip(*(part.split(ROWS_AT_ONCE) for part in data), strict=True))
    chances = torch.cat([module.posterior(*part) for part in parts])
    losses = torch.cat([module.loss(part) for part in parts])
    return chances.double().numpy(), -losses.double().numpy()
