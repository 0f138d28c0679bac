"""Pairs together with the truth about them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd

from latentcause.data.intervention_pairs import InterventionPairs
from latentcause.data.labelled_images import split_rows
from latentcause.graph import CausalGraph

TrueTarget = str | tuple[str, ...]
"""The variable that was intervened on, several of them, or ``"none"``."""


@dataclass(frozen=True, eq=False, repr=False)
class SimulatedPairs:
    """n pairs as a method sees them, and what it is to find out.

    Attributes
    ----------
    pairs : InterventionPairs
        Without targets.
    factors_before, factors_after : DataFrame (n, d)
        The causal variables behind ``pairs.before`` and ``pairs.after``, a column for each node of the graph.
    targets : tuple of n entries
        What the intervention of each pair hit: a name, a tuple of names, or ``"none"``.
    graph : CausalGraph
    wrong : ndarray (n,), bool
        Pairs whose ``after`` (and ``factors_after``) belongs to another pair; ``targets`` is still that of ``before``.
    """

    pairs: InterventionPairs
    factors_before: pd.DataFrame
    factors_after: pd.DataFrame
    targets: tuple[TrueTarget, ...]
    graph: CausalGraph
    wrong: np.ndarray

    def subset(self, rows: Any) -> Self:
        """The pairs of those numbers (or where a mask is true), in that order."""
        chosen = np.atleast_1d(np.arange(len(self))[rows])
        return type(self)(
            self.pairs.subset(chosen),
            self.factors_before.iloc[chosen].reset_index(drop=True),
            self.factors_after.iloc[chosen].reset_index(drop=True),
            tuple(self.targets[row] for row in chosen.tolist()),
            self.graph,
            self.wrong[chosen],
        )

    def split(self, held_out: float, *, seed: int) -> tuple[Self, Self]:
        """Two parts at random: the rest, and ``held_out`` of the pairs (a share below 1, or a number of pairs)."""
        rest, held = split_rows(len(self), held_out, seed)
        return self.subset(rest), self.subset(held)

    def __len__(self) -> int:
        return len(self.pairs)

    def __repr__(self) -> str:
        counts = Counter("several" if isinstance(target, tuple) else target for target in self.targets)
        hit = ", ".join(f"{target} {n}" for target, n in sorted(counts.items()))
        wrong = f", {self.wrong.sum()} of them wrong" if self.wrong.any() else ""
        size = f"{len(self.graph)} variables, {len(self.graph.edges)} edges"
        return f"SimulatedPairs: {size}\n  {self.pairs!r}{wrong}\n  true targets: {hit}"
