"""DCRL: causal variables and their graph from pairs before and after an unknown intervention, with a diffusion decoder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from latentcause.data.intervention_pairs import InterventionPairs
from latentcause.models.pairs.changes import ChangeMixture
from latentcause.models.pairs.lines import Lines, directions_of
from latentcause.models.pairs.networks import CodeKind, DecoderKind, Guidance, PairNetworks, new_encoder
from latentcause.models.pairs.pair_model import PairModel
from latentcause.models.pairs.starts import ROWS_AT_ONCE, begin_at, encoded, lines_of, settle, with_flow
from latentcause.threads import threads_for
from latentcause.training import Recipe, resolve_device, seeded, train

TIMES = (0.05, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95)  # of a trajectory, among which the time to read it is chosen
TRIAL_SHARE = 0.3  # of the steps, for each start
FURTHEST = 4.0  # others' noise, which is N(0, 1) where a solution function is learned; an intervention leaves more of its target's


class DCRL(PairModel):
    """Learn what causes what from pairs (x, x~) before and after one unknown intervention (Diffusion
    based causal representation learning, arXiv 2311.05421).

    An encoder gives noise codes q(e | x); under the hypothesis that an intervention hit latent i, x and x~ share all codes but
    e_i; solution functions z_i = s_i(e_i; e_-i) make causal variables of them, z~_i ~ N(0, 1) where hit; a diffusion decoder
    conditioned on the code says how well x and x~ are told by it. `PairNetworks` has the loss and its phases.

    In the paper codes learn through the diffusion alone: so flexible a decoder forgives codes in which more than the target moves,
    because it can model what is left open, and codes stay mixed where the mixing is not linear. So, by default, codes are those of
    an invertible network that makes the pairs likely (``start``). Where they learn through a decoder, they first do so through the
    Gaussian head that preconditions the diffusion, and through the diffusion itself in the last phase (``guidance="head"``; the
    paper's way is ``"diffusion"``). Observations are standardised here.

    The family in one frame: ``decoder="gaussian"`` with codes that learn through it (``start="random"``, or the lines of
    ``start="linear"``) is ILCM (Brehmer et al. 2022); with ``context="none"`` besides, the disentangling dVAE (Locatello et al.
    2020) with this posterior; with ``paired=False``, a beta-VAE of weight 1.

    Images are taken through their leading principal directions. What has more directions than there are latents is given as many
    `Coordinates` before: at first latents are told apart one after the other by numbers that few pairs change (`told_apart`), and
    then functions of one latent, or of those that are left, are those that stay in the pairs in which they should. That asks
    for at least one latent that can be told apart so, and for values on an interval, not on a circle.

    Observations are taken to be exact. With errors of measurement of a tenth of their variance codes stay mixed; where mixing and
    mechanisms are linear, `NoisyLinearPairs` has such errors in its model.

    Parameters
    ----------
    n_latents : int
    decoder : {"diffusion", "gaussian"}
    code : {"finite", "trajectory"}
        One code, or one for each time of the diffusion: E(x, t).
    guidance : {"head", "diffusion"}
        What codes learn through, with a diffusion decoder.
    context : {"others", "none"}
        What solution functions see: all other noises, or nothing (independent latents).
    paired : bool
        Whether the model knows that x and x~ belong together.
    start : {"flow", "linear", "random"}
        The encoder's linear part at first: that of `LinearPairs`, or a random rotation. With "flow", where `LinearPairs` leaves
        others than the target changing, codes are those of an invertible network, found by the likelihood of the pairs
        (`PairLikelihood`) in as many steps as follow, and kept unless they hardly help: where mixing or mechanisms are not linear,
        that decides. With fewer directions of observations than latents there is no flow.
        Observations of more directions than latents are first given as many `Coordinates`.
    starts : int
        Flows (the first begins at the lines of `LinearPairs`, the others anywhere), or random rotations that are tried for a third
        of the steps each; the one of lowest loss goes on. Merged latents show in the loss, without labels.
    steps, batch_size, learning_rate : training
        Of whole passes over the pairs, as many as come nearest to ``steps``, and one at least.
    width, depth : int
        Of encoder and decoder.
    directions : int, optional
        Leading principal directions of the observations that are modelled; by default all, of images 96.
    max_targets : {1, 2}
        Latents that one intervention may hit at once.
    mechanisms : {"linear", "spline"}
        Of the graph's edges, when it is read.
    device : str
    seed : int

    Attributes
    ----------
    module_ : PairNetworks
    time_ : float or None
        Where on the trajectory codes are read: where moves are told apart best, which takes no labels.
    refit_ : Lines
        Linear correction of the codes in the light of the inferred targets.
    history_ : list of dict
    """

    def __init__(
        self,
        n_latents: int,
        *,
        decoder: DecoderKind = "diffusion",
        code: CodeKind = "finite",
        guidance: Guidance = "head",
        context: Literal["others", "none"] = "others",
        paired: bool = True,
        start: Literal["flow", "linear", "random"] = "flow",
        starts: int = 1,
        steps: int = 1500,
        batch_size: int = 512,
        learning_rate: float = 3e-3,
        width: int = 64,
        depth: int = 2,
        directions: int | None = None,
        max_targets: int = 1,
        mechanisms: Literal["linear", "spline"] = "linear",
        device: str = "auto",
        seed: int = 0,
    ) -> None:
        self.n_latents = n_latents
        self.decoder = decoder
        self.code = code
        self.guidance = guidance
        self.context = context
        self.paired = paired
        self.start = start
        self.starts = starts
        self.steps = steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.width = width
        self.depth = depth
        self.directions = directions
        self.max_targets = max_targets
        self.mechanisms = mechanisms
        self.device = device
        self.seed = seed

    module_: PairNetworks
    time_: float | None
    refit_: Lines
    history_: list[dict[str, float]]

    def fit(self, pairs: InterventionPairs, *, checkpoint: Path | None = None, log: Path | None = None) -> Self:
        """Learn from pairs; `latentcause.training.train` says what ``checkpoint`` and ``log`` are for.

        Raises
        ------
        ValueError
            For settings that do not go together, fewer pairs than needed, and targets beyond ``n_latents`` or ``max_targets``.
        """
        self._check_settings()
        v, v_after = self._door(pairs, self.directions)
        known = self._known(pairs)
        tensors = (torch.from_numpy(v), torch.from_numpy(v_after), torch.from_numpy(known))
        with threads_for(0):
            self.module_ = self._begun(tensors, checkpoint)
            result = self._trained(self.module_, tensors, self.steps, type(self).__name__, checkpoint, log)
        self.history_ = result.history
        self.module_.eval()
        self.time_ = self._best_time(pairs) if self.code == "trajectory" else None
        self._finish(pairs, known, result.converged)
        self._refit()
        return self

    def encode(self, x: Any, t: float | None = None, *, refit: bool = False) -> pd.DataFrame:
        """The causal variables (n, m) behind observations, a column for each latent.

        Their unit is the sd that an intervention gives them.

        Parameters
        ----------
        x : array (n, d), DataFrame, or images (n, c, h, w)
        t : float, optional
            Of a trajectory, in [0, 1]: 0 is nearly clean. By default ``time_``.
        refit : bool
            Correct the codes linearly in the light of the inferred targets, and take linear solution functions (``refit_``): nearer
            to the truth where mechanisms are linear.

        Raises
        ------
        ValueError
            For observations of another shape, values that are no numbers, and a time outside [0, 1] or of a code that has none.
        """
        if not refit:
            return super().encode(x, t)
        self.check_fitted()
        return self._frame(self.refit_.variables(self._codes(self._read_in(x), t)))

    @torch.no_grad()
    def draw(self, variables: Any, *, generator: int) -> np.ndarray:
        """Observations (n, ...) drawn from p(x | z), one for each row of causal variables; `decode` gives the mean.

        Parameters
        ----------
        variables : DataFrame or array (n, m)
            As `decode` takes them.
        generator : int
            Seed.
        """
        codes = torch.from_numpy(self._codes_behind(variables)).float().to(self._device)
        noise = torch.Generator(self._device).manual_seed(generator)
        drawn = self.module_.decoder.draw(codes, noise).cpu().double().numpy()
        return self._observations(self.whitening_.inverse(drawn))

    # --- for PairModel -----------------------------------------------------------------------------------------------

    def _codes(self, x: np.ndarray, t: float | None) -> np.ndarray:
        if t is not None and self.code == "finite":
            raise ValueError(
                'this model has one code, not a trajectory of them: leave t out, or fit with code="trajectory"'
            )
        if t is not None and not 0 <= t <= 1:
            raise ValueError(f"t={t}: give a time from 0 (nearly clean) to 1 (all noise)")
        v = torch.from_numpy(self._standardised(x))
        codes = encoded(self.module_, v, t if t is not None else self.time_ or 0.0)
        return np.asarray(codes.double().numpy())

    @torch.no_grad()
    def _solved(self, codes: np.ndarray) -> np.ndarray:
        return self._in_parts(lambda part: self.module_.solutions(part)[0], codes)

    @torch.no_grad()
    def _noise_for(self, codes: np.ndarray, wanted: dict[int, np.ndarray]) -> np.ndarray:
        device = self._device
        noise = torch.from_numpy(codes).float().to(device)
        values = {i: torch.from_numpy(value).float().to(device) for i, value in wanted.items()}
        return np.asarray(self.module_.solutions.noise_for(noise, values).cpu().double().numpy())

    @torch.no_grad()
    def _decoded(self, codes: np.ndarray) -> np.ndarray:
        return self._in_parts(self.module_.decoder.head, codes)

    # --- files -------------------------------------------------------------------------------------------------------

    def fitted_state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """What fitting learned: arrays by name, and values that JSON can hold. ``latentcause.save`` writes both."""
        self.check_fitted()
        arrays = {f"module.{name}": value.cpu().numpy() for name, value in self.module_.state_dict().items()}
        values = {
            **self._shared_state(),
            "history": self.history_,
            "time": self.time_,
            "refit": self.refit_,
        }
        return arrays, values

    def restore_state(self, arrays: dict[str, np.ndarray], values: dict[str, Any]) -> None:
        """Set the fitted attributes from what ``fitted_state`` gave."""
        self._restore_shared(values)
        self.history_, self.time_, self.refit_ = values["history"], values["time"], values["refit"]
        self.module_ = self._new_module(self.seed, 1)
        weights = {name.removeprefix("module."): torch.from_numpy(array.copy()) for name, array in arrays.items()}
        if "encoder.flow.mixing" in weights:
            spread, curve = torch.from_numpy(self.whitening_.spread), weights.get("encoder.coordinates.curve")
            with_flow(self.module_, spread, self.width, self.depth, None if curve is None else len(curve))
        self.module_.load_state_dict(weights)
        self.module_.to(resolve_device(self.device)).eval()

    # --- inside ------------------------------------------------------------------------------------------------------

    def _check_settings(self) -> None:
        choices: dict[str, Sequence[str]] = {
            "decoder": ("diffusion", "gaussian"),
            "code": ("finite", "trajectory"),
            "guidance": ("head", "diffusion"),
            "context": ("others", "none"),
            "start": ("flow", "linear", "random"),
            "mechanisms": ("linear", "spline"),
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name}={getattr(self, name)!r}: choose one of {', '.join(known)}")
        if self.code == "trajectory" and self.decoder == "gaussian":
            raise ValueError('a Gaussian decoder has no trajectory: use code="finite" or decoder="diffusion"')
        directions = 1 if self.directions is None else self.directions
        if min(self.steps, self.batch_size, self.width, self.depth, self.starts, directions) < 1:
            raise ValueError("steps, batch_size, width, depth, starts and directions must be at least 1")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate={self.learning_rate}: give a positive number, such as 3e-3")
        if not self.paired and self.start != "random":
            raise ValueError(
                f'start="{self.start}" is learned from what changes in pairs: with paired=False use start="random"'
            )
        if self.starts > 1 and self.start == "linear":
            raise ValueError(
                'start="linear" has one start, the lines of changes: use start="flow" or "random", or starts=1'
            )

    def _new_module(self, seed: int, total: int) -> PairNetworks:
        with seeded(seed):
            return PairNetworks(
                new_encoder(self.whitening_.size, self.n_latents, self.width, self.depth, self.code),
                self.whitening_.size,
                self.n_latents,
                width=self.width,
                depth=self.depth,
                decoder=self.decoder,
                code=self.code,
                guidance=self.guidance,
                sees_others=self.context == "others",
                hypotheses=torch.from_numpy(self._hypotheses()),
                paired=self.paired,
                total=total,
            )

    def _begun(self, tensors: tuple[Tensor, ...], checkpoint: Path | None) -> PairNetworks:
        """The networks to train: from the lines of changes, from the most likely flow, or the best of random starts."""
        n = len(tensors[0])
        total = self._epochs(self.steps, n) * n
        if self.start != "random":
            module = self._new_module(self.seed, total)
            if self.whitening_.size >= self.n_latents:
                arrays = (part.numpy() for part in tensors)
                begin_at(module, lines_of(*arrays, hypotheses=module.hypotheses, seed=self.seed))
            if self.start == "flow":
                settle(
                    module,
                    tensors,
                    torch.from_numpy(self.whitening_.spread),
                    self._recipe(self.steps, n, clip_norm=20.0),
                    width=self.width,
                    depth=self.depth,
                    starts=self.starts,
                    seed=self.seed,
                    device=self.device,
                    checkpoint=checkpoint,
                )
            return module
        if self.starts == 1:
            return self._new_module(self.seed, total)
        trials = []
        for k in range(self.starts):
            trial = self._new_module(self.seed + k, total)
            result = self._trained(trial, tensors, round(TRIAL_SHARE * self.steps), f"start {k + 1} of {self.starts}")
            trials.append((result.history[-1]["train_loss"], k, trial))
        best = min(trials, key=lambda entry: entry[:2])[2]
        module = self._new_module(self.seed, total)
        weights = {**best.state_dict(), "seen": torch.zeros((), dtype=torch.float64)}
        module.load_state_dict(weights)
        return module

    def _epochs(self, steps: int, n: int) -> int:
        return max(1, round(steps / math.ceil(n / self.batch_size)))

    def _recipe(self, steps: int, n: int, **more: Any) -> Recipe:
        batch, rate = min(self.batch_size, n), self.learning_rate
        return Recipe(self._epochs(steps, n), batch, rate, schedule="cosine", warm_up=0.03, held_out=0.0, **more)

    def _trained(
        self,
        module: PairNetworks,
        tensors: tuple[Tensor, ...],
        steps: int,
        label: str,
        checkpoint: Path | None = None,
        log: Path | None = None,
    ) -> Any:
        """Minimise the loss in so many steps, in which all phases pass."""
        n = len(tensors[0])
        module.total = self._epochs(steps, n) * n
        module.train()
        return train(
            module,
            module.loss,
            tensors,
            self._recipe(steps, n),
            seed=self.seed,
            draw=module.draw,
            device=self.device,
            label=label,
            checkpoint=checkpoint,
            log=log,
        )

    def _best_time(self, pairs: InterventionPairs) -> float:
        """Where a mixture of moves, each in units of its code's sd, is sharpest."""
        self.time_ = None
        scores, step = [], max(1, len(pairs) // ROWS_AT_ONCE)
        for t in TIMES:
            first, second = (self._codes(part[::step], t) for part in (pairs.before, pairs.after))
            moved = (second - first) / np.maximum(first.std(axis=0), 1e-9)
            scores.append(ChangeMixture.fit(moved, self._hypotheses()).mean_log_density(moved))
        return TIMES[int(np.argmax(scores))]

    def _refit(self) -> None:
        first, second, chosen = self._read
        hit = np.eye(self.n_latents + 1)[chosen][:, :-1]
        directions = directions_of(second - first, hit)
        empty = hit.sum(axis=0) < 2
        directions[empty] = np.eye(self.n_latents)[empty]
        directions *= np.sign(np.diag(directions))[:, None] + (np.diag(directions) == 0)[:, None]
        self.refit_ = Lines.along(first, second, directions, hit)

    @torch.no_grad()
    def _solved_where_learned(self, codes: np.ndarray) -> np.ndarray:
        return self._in_parts(lambda part: self.module_.solutions(part, FURTHEST)[0], codes)

    def _straight(self, codes: np.ndarray) -> np.ndarray:
        return self.refit_.codes(codes)

    @property
    def _device(self) -> torch.device:
        return next(self.module_.parameters()).device

    def _in_parts(self, function: Any, rows: np.ndarray) -> np.ndarray:
        """A function of rows, on the device of the networks, float64."""
        tensor = torch.from_numpy(np.asarray(rows, dtype=np.float32))
        parts = [function(part.to(self._device)).cpu() for part in tensor.split(ROWS_AT_ONCE)]
        return np.asarray(torch.cat(parts).double().numpy())
