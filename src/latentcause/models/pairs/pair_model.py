"""The one abstract class of models that learn causal variables from pairs before and after an intervention."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from itertools import combinations
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from latentcause.data.intervention_pairs import InterventionPairs
from latentcause.data.labels import listing
from latentcause.data.pair_targets import NONE
from latentcause.discovery.pairs import PairsResult, from_pairs
from latentcause.graph import CausalGraph
from latentcause.models.pairs.changes import ChangeMixture
from latentcause.models.pairs.linear_reading import LinearReading
from latentcause.models.pairs.noisy_lines import CodeMixture
from latentcause.models.pairs.observations import check_pairs, halves, read_observations, warn_of_rank
from latentcause.models.pairs.whitening import Whitening
from latentcause.scm import StructuralCausalModel

RARE = 0.1  # a latent is never hit where it has less than this share of its fair share of the pairs
LEAKY = 0.1  # a latent is mixed with others where they move by more than this share of its own squared moves
IMAGE_DIRECTIONS = 96  # leading principal ones, that are modelled of images
MOST_ROWS = 20_000  # pairs that the mixture of moves and the rank of changes are found from
SPLINE_EFFECT = 0.1  # least effect of an edge, in sds, where splines are fitted to codes that are not exact
ALPHA = 0.01  # level that all edges of the graph hold together


class PairModel(BaseEstimator, ABC):
    """Learns noise codes e, causal variables z and their graph from pairs, of which one latent at a time was intervened on.

    Constructors only store their arguments; ``fit`` returns ``self`` and sets the attributes below. Latents come in no order, and
    up to sign and scale (Brehmer et al. 2022, Theorem 1), but for those that known targets name.

    Attributes
    ----------
    names_ : tuple of str
        Of the latents: those that known targets name, then z0, z1, ...
    whitening_ : Whitening
        Of observations, images flattened.
    shape_ : tuple of int
        Of an observation.
    columns_ : tuple of str
        Of observations that are no images: DataFrames and pairs are read by them.
    mixture_ : ChangeMixture or CodeMixture
        What `infer_targets` asks.
    unhit_, mixed_ : tuple of str
        Latents that hardly any pair hits, and latents in whose pairs others move too: found without labels.
    converged_ : bool
    """

    n_latents: int
    max_targets: int
    mechanisms: Literal["linear", "spline"]
    seed: int
    names_: tuple[str, ...]
    whitening_: Whitening
    shape_: tuple[int, ...]
    columns_: tuple[str, ...]
    mixture_: ChangeMixture | CodeMixture
    unhit_: tuple[str, ...]
    mixed_: tuple[str, ...]
    converged_: bool

    @abstractmethod
    def fit(self, pairs: InterventionPairs) -> Self:
        """Learn from pairs and return the model."""

    @abstractmethod
    def _codes(self, x: np.ndarray, t: float | None) -> np.ndarray:
        """Noise codes (n, m) of observations (n, *shape)."""

    @abstractmethod
    def _solved(self, codes: np.ndarray) -> np.ndarray:
        """Causal variables (n, m) of noise codes."""

    @abstractmethod
    def _noise_for(self, codes: np.ndarray, wanted: dict[int, np.ndarray]) -> np.ndarray:
        """Codes in which some variables have given values (n,) and all other noises are as they were."""

    @abstractmethod
    def _decoded(self, codes: np.ndarray) -> np.ndarray:
        """Standardised observations of codes."""

    # --- what is recovered -------------------------------------------------------------------------------------------

    def encode(self, x: Any, t: float | None = None) -> pd.DataFrame:
        """The causal variables (n, m) behind observations, a column for each latent.

        Their unit is the sd that an intervention gives them.

        Parameters
        ----------
        x : array (n, d), DataFrame, or images (n, c, h, w)
        t : float, optional
            For models whose code is a trajectory: where on it, in [0, 1]; by default where targets are told apart best.

        Raises
        ------
        ValueError
            For observations of another shape, values that are no numbers, and a time outside [0, 1] or of a code that has none.
        """
        return self._frame(self._solved(self._codes(self._read_in(x), t)))

    def noise(self, x: Any, t: float | None = None) -> pd.DataFrame:
        """The noise codes (n, m): the part of each causal variable that no other one explains."""
        return self._frame(self._codes(self._read_in(x), t))

    def infer_targets(self, pairs: InterventionPairs) -> pd.DataFrame:
        """Probabilities (n, k) of what each intervention hit: a column for each latent, for two as "a;b", and for "none".

        A pair whose target is known has it with certainty.
        """
        self.check_fitted()
        check_pairs("infer_targets", pairs)
        before, after = (self._codes(self._read_in(part), None) for part in halves(pairs))
        labels = self._hypothesis_names()
        probabilities, known = self.mixture_.of_pairs(before, after), self._known(pairs)
        probabilities[known >= 0] = np.eye(len(labels))[known[known >= 0]]
        return pd.DataFrame(probabilities, columns=labels)[[*labels[1:], NONE]]

    # --- what if -----------------------------------------------------------------------------------------------------

    def counterfactual(self, x: Any, do: Mapping[str, Any]) -> np.ndarray:
        """What observations x would have been had an intervention set some latents, all noises kept; of the shape of x.

        x + g(e~) - g(e), with e the noise codes of x, e~ those in which the latents have the wanted values, g the decoder's mean:
        what the code does not say of x stays.

        Parameters
        ----------
        do : mapping from latent to float or array (n,)
            In the unit of `encode`.

        Raises
        ------
        ValueError
            For an unknown latent, a wrong number of values, and what `encode` refuses.
        """
        x = self._read_in(x)
        v, codes = self._standardised(x), self._codes(x, None)
        changed = self._noise_for(codes, self._wanted(do, len(v)))
        edited = self.whitening_.inverse(v + self._decoded(changed) - self._decoded(codes))
        return self._observations(edited + x.reshape(len(v), -1) - self.whitening_.inverse(v))

    def decode(self, variables: Any) -> np.ndarray:
        """Mean observations (n, ...) of causal variables (n, m): a DataFrame by name, or an array in the order of ``names_``."""
        codes = self._codes_behind(variables)
        return self._observations(self.whitening_.inverse(self._decoded(codes)))

    def _codes_behind(self, variables: Any) -> np.ndarray:
        """Noise codes (n, m) of causal variables that a user gives; errors as `decode` has them."""
        self.check_fitted()
        if isinstance(variables, pd.DataFrame):
            missing = [name for name in self.names_ if name not in variables.columns]
            if missing:
                raise ValueError(f"variables have no column {listing(missing)}: give one for each latent")
            variables = variables[list(self.names_)]
        z = np.asarray(variables, dtype=np.float64)
        if z.ndim != 2 or z.shape[1] != len(self.names_) or not np.isfinite(z).all():
            raise ValueError(
                f"variables have shape {z.shape}: give a column of finite numbers for each of {', '.join(self.names_)}"
            )
        return self._noise_for(np.zeros(z.shape), {i: z[:, i] for i in range(z.shape[1])})

    def _observations(self, flat: np.ndarray) -> np.ndarray:
        """Observations (n, ...) of their numbers (n, d); images within [0, 1]."""
        found = flat.reshape(len(flat), *self.shape_)
        return found.clip(0, 1) if len(self.shape_) == 3 else found

    # --- graph and mechanisms ----------------------------------------------------------------------------------------

    @property
    def graph_(self) -> CausalGraph:
        """The causal graph of the latents, as ``reading_`` gives it.

        Raises
        ------
        ValueError
            With ``mechanisms="spline"``, where pairs leave an edge open because some latents are never hit.
        """
        return self.reading_.graph if isinstance(self.reading_, LinearReading) else self.reading_.dag()

    @cached_property
    def scm_(self) -> StructuralCausalModel:
        """Mechanisms on ``graph_``, fitted to the variables before: samples, do() and counterfactuals of the latents."""
        self.check_fitted()
        variables = self._frame(self._variables_before())
        return StructuralCausalModel.fit(self.graph_, variables, mechanisms=self.mechanisms, seed=self.seed)

    @cached_property
    def reading_(self) -> LinearReading | PairsResult:
        """How the graph was read: weights and tests of linear mechanisms; or targets, tests and what is left open.

        Linear mechanisms are read from noise codes (`LinearReading`; effects count from .03 sd per sd on, in `LinearPairs` from
        .02, and weaker edges are missed), splines from how the variables of `encode` answer to
        interventions (`latentcause.discovery.from_pairs`).
        """
        self.check_fitted()
        if self.mechanisms == "linear":
            return self._linear_reading()
        before, after, hit = self._kept()
        labels: list[str | None] = [*self.names_, None]
        first, second = (self._frame(self._solved_where_learned(part)) for part in (before, after))
        targets = [labels[k] for k in hit]
        return from_pairs(first, second, targets, alpha=ALPHA, mechanisms="spline", min_effect=SPLINE_EFFECT)

    _min_effect: float = 0.03  # least effect of an edge of linear mechanisms: codes of networks err by about as much
    _read: tuple[np.ndarray, np.ndarray, np.ndarray]  # codes before and after, and what was hit

    def _linear_reading(self) -> LinearReading:
        before, after, hit = self._read
        own = np.eye(self.n_latents + 1)[hit][:, :-1]
        codes, codes_after = self._straight(before), self._straight(after)
        return LinearReading.of(codes, codes_after, own, self.names_, ALPHA, self._min_effect)

    def _variables_before(self) -> np.ndarray:
        """Causal variables (n, m) that mechanisms are fitted to."""
        return self._solved(self._kept()[0])

    def _solved_where_learned(self, codes: np.ndarray) -> np.ndarray:
        """Causal variables (n, m) that splines are read from."""
        return self._solved(codes)

    def _straight(self, codes: np.ndarray) -> np.ndarray:
        """Codes that linear mechanisms are read from."""
        return codes

    def _kept(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As many rows of ``_read`` as a file holds, so that a loaded model answers as the saved one."""
        before, after, hit = self._read
        step = max(1, len(before) // MOST_ROWS)
        return before[::step], after[::step], hit[::step]

    # --- for the models ----------------------------------------------------------------------------------------------

    def check_fitted(self) -> None:
        """Raise one clear error where ``fit`` has not run yet."""
        if not hasattr(self, "mixture_"):
            raise NotFittedError(f"this {type(self).__name__} is not fitted yet: call fit(pairs) first")

    def _door(self, pairs: InterventionPairs, most: int | None) -> tuple[np.ndarray, np.ndarray]:
        """Check the pairs, name the latents, and give standardised observations before and after."""
        m = self.n_latents
        check_pairs("fit", pairs)
        if m < 1 or self.max_targets not in (1, 2):
            raise ValueError(
                f"n_latents={m}, max_targets={self.max_targets}: give at least one latent, and 1 or 2 targets at once"
            )
        needed = (m + 1) * (m + 2)
        if len(pairs) < needed:
            raise ValueError(
                f"{len(pairs)} pairs are too few for {m} latents: give at least {needed}, better a thousand each"
            )
        if len(pairs.latents) > m:
            raise ValueError(
                f"targets name {len(pairs.latents)} variables ({', '.join(pairs.latents)}), but n_latents is {m}: raise n_latents"
            )
        for target in set(pairs.targets):
            if isinstance(target, tuple) and len(target) > self.max_targets:
                raise ValueError(
                    f"a pair has the targets {', '.join(target)}, and max_targets is {self.max_targets}"
                    + (": set max_targets=2" if len(target) == 2 else ": three or more at once are beyond the model")
                )
        before, after = (part.reshape(len(pairs), -1) for part in (pairs.before, pairs.after))
        self.__dict__.pop("reading_", None), self.__dict__.pop("scm_", None)
        self.shape_, self.columns_ = pairs.shape, pairs.names
        self.whitening_ = Whitening.of(before, after, most or (IMAGE_DIRECTIONS if pairs.is_images else None))
        v, v_after = self.whitening_(before), self.whitening_(after)
        warn_of_rank((v_after - v)[:: max(1, len(v) // MOST_ROWS)], m)
        numbered = (f"z{k}" for k in range(m + len(pairs.latents)))
        free = [name for name in numbered if name not in pairs.latents]
        self.names_ = (*pairs.latents, *free[: m - len(pairs.latents)])
        return v, v_after

    def _hypotheses(self) -> np.ndarray:
        """(k, m): none, every latent, and every pair of latents where two can be hit at once."""
        single = np.eye(self.n_latents)
        double = (
            [single[i] + single[j] for i, j in combinations(range(self.n_latents), 2)] if self.max_targets == 2 else []
        )
        return np.vstack([np.zeros((1, self.n_latents)), single, *double])

    def _hypothesis_names(self) -> list[str]:
        self.check_fitted()
        return [
            ";".join(self.names_[i] for i in np.flatnonzero(row)) if row.any() else NONE
            for row in self.mixture_.hypotheses
        ]

    def _hypothesis_of(self, target: Any) -> int:
        """The row of the hypotheses that a known target names; -1 for an unknown one."""
        if target is None:
            return -1
        hit = set() if target == NONE else {target} if isinstance(target, str) else set(target)
        unknown = hit - set(self.names_)
        if unknown:
            raise ValueError(
                f"target {sorted(unknown)[0]!r} is no latent of this model: they are {', '.join(self.names_)}"
            )
        row = np.array([name in hit for name in self.names_], dtype=float)
        same = (self._hypotheses() == row).all(axis=1)
        if not same.any():
            raise ValueError(f"{' and '.join(sorted(hit))} at once, but max_targets is {self.max_targets}: raise it")
        return int(same.argmax())

    def _known(self, pairs: InterventionPairs) -> np.ndarray:
        """Numbers of the hypotheses that known targets name (n,), -1 where unknown."""
        number = {target: self._hypothesis_of(target) for target in set(pairs.targets)}
        return np.array([number[target] for target in pairs.targets])

    def _finish(
        self, pairs: InterventionPairs, known: np.ndarray, settled: bool, mixture: CodeMixture | None = None
    ) -> None:
        """Fit the mixture of moves; keep what graph and mechanisms are read from; find latents that are not what they should be.

        With a ``mixture`` of codes that move with all errors nothing tells of mixed latents.
        """
        first, second = (self._codes(part, None) for part in (pairs.before, pairs.after))
        self.mixture_ = mixture or ChangeMixture.fit(second - first, self._hypotheses())
        probabilities = self.mixture_.of_pairs(first, second)
        probabilities[known >= 0] = np.eye(len(self.mixture_.hypotheses))[known[known >= 0]]
        hit = probabilities @ self.mixture_.hypotheses
        fair = (1 - probabilities[:, 0].mean()) / self.n_latents
        unhit = hit.mean(axis=0) < RARE * max(fair, 1e-9)
        squares = (second - first) ** 2 / np.maximum(first.var(axis=0), 1e-12)
        own = (hit * squares).sum(axis=0)
        others = (hit * (squares.sum(axis=1, keepdims=True) - squares)).sum(axis=0)
        leaky = others > LEAKY * np.maximum(own, 1e-12)
        mixed = ~unhit & leaky if self.max_targets == 1 and mixture is None else np.zeros_like(unhit)
        self.unhit_, self.mixed_ = (
            tuple(name for name, bad in zip(self.names_, marks, strict=True) if bad) for marks in (unhit, mixed)
        )
        single = probabilities[:, 1 : self.n_latents + 1]
        chosen = np.where(probabilities[:, 0] > single.max(axis=1), self.n_latents, single.argmax(axis=1))
        sure = probabilities[:, : self.n_latents + 1].sum(axis=1) > 0.5
        self._read = (first[sure], second[sure], chosen[sure])
        counts = np.bincount(chosen[sure], minlength=self.n_latents)
        few = [name for name, n in zip(self.names_, counts, strict=False) if n <= self.n_latents + 1]
        few = [name for name in few if name not in self.unhit_]
        self.converged_ = settled and not (self.unhit_ or self.mixed_ or few)
        said = {
            "hardly any pair hits {}: lower n_latents, or add pairs that intervene there": self.unhit_,
            "too few pairs hit {} alone to tell what causes it: add some": few,
            "{} may be several causal variables in one: others move in the same pairs. More steps, more starts or known targets "
            "for some pairs can part them; or errors of measurement move all of them (NoisyLinearPairs)": self.mixed_,
        }
        for text, found in said.items():
            if found:
                warnings.warn(text.format(", ".join(found)), UserWarning, stacklevel=3)

    def _shared_state(self) -> dict[str, Any]:
        """The fitted values that every model of pairs has."""
        first, second, chosen = self._kept()
        return {
            "names": self.names_,
            "shape": tuple(self.shape_),
            "columns": self.columns_,
            "whitening": self.whitening_,
            "mixture": self.mixture_,
            "unhit": self.unhit_,
            "mixed": self.mixed_,
            "converged": self.converged_,
            "reading": self.reading_ if isinstance(self.reading_, LinearReading) else None,
            "before": first,
            "after": second,
            "hit": chosen,
        }

    def _restore_shared(self, values: dict[str, Any]) -> None:
        for name in ("names", "shape", "columns"):
            setattr(self, f"{name}_", tuple(values[name]))
        for name in ("whitening", "mixture", "converged"):
            setattr(self, f"{name}_", values[name])
        self.unhit_, self.mixed_ = tuple(values["unhit"]), tuple(values["mixed"])
        self._read = (values["before"], values["after"], values["hit"])
        if values["reading"] is not None:
            self.__dict__["reading_"] = values["reading"]

    def _read_in(self, x: Any) -> np.ndarray:
        """Observations (n, *shape) that a user gives."""
        self.check_fitted()
        return read_observations(x, self.shape_, self.columns_)

    def _standardised(self, x: np.ndarray) -> np.ndarray:
        """Standardised observations (n, r)."""
        return self.whitening_(x.reshape(len(x), -1))

    def _wanted(self, do: Mapping[str, Any], n: int) -> dict[int, np.ndarray]:
        wanted = {}
        for name, value in do.items():
            if name not in self.names_:
                raise ValueError(f"do({name}): no such latent; they are {', '.join(self.names_)}")
            values = np.asarray(value, dtype=np.float64)
            if values.shape not in ((), (n,)) or not np.isfinite(values).all():
                raise ValueError(
                    f"do({name}) has shape {values.shape}: give a number, or one for each of the {n} observations"
                )
            wanted[self.names_.index(name)] = np.broadcast_to(values, (n,)).copy()
        return wanted

    def _frame(self, values: np.ndarray) -> pd.DataFrame:
        return pd.DataFrame(values, columns=list(self.names_))
