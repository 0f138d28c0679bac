"""What is known about a graph before any data are seen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from latentcause.graph import CausalGraph
from latentcause.graph_text import Edge


@dataclass(frozen=True)
class BackgroundKnowledge:
    """Edges that must be, edges that can't be, and tiers of time.

    Parameters
    ----------
    required : iterable of (cause, effect)
        Edges of the graph, whatever the data say.
    forbidden : iterable of (cause, effect)
        Edges that the graph does not have. The effect may still cause the cause.
    tiers : sequence of iterables of names
        Earlier tiers first: no variable causes one of an earlier tier. Variables may be left out.

    Raises
    ------
    ValueError
        Where the knowledge contradicts itself: an edge both required and forbidden (by name or by the tiers), required
        edges that form a cycle, or a variable in two tiers.

    Examples
    --------
    >>> BackgroundKnowledge(required=[("a", "b")], tiers=[["a", "b"], ["c"]])
    BackgroundKnowledge(required=(('a', 'b'),), forbidden=(), tiers=(('a', 'b'), ('c',)))
    """

    required: tuple[Edge, ...] = ()
    forbidden: tuple[Edge, ...] = ()
    tiers: tuple[tuple[str, ...], ...] = ()

    def __init__(
        self,
        required: Iterable[Edge] = (),
        forbidden: Iterable[Edge] = (),
        tiers: Sequence[Iterable[str]] = (),
    ) -> None:
        object.__setattr__(self, "required", _checked_pairs("required", required))
        object.__setattr__(self, "forbidden", _checked_pairs("forbidden", forbidden))
        if isinstance(tiers, str) or any(isinstance(tier, str) for tier in tiers):
            raise ValueError("tiers are lists of names: give [['a', 'b'], ['c']], not text")
        object.__setattr__(self, "tiers", tuple(tuple(tier) for tier in tiers))
        self._refuse_contradictions()

    @property
    def names(self) -> tuple[str, ...]:
        """Every variable that is named, in the order of first mention."""
        pairs = [name for pair in (*self.required, *self.forbidden) for name in pair]
        return tuple(dict.fromkeys([*pairs, *(name for tier in self.tiers for name in tier)]))

    def forbids(self, cause: str, effect: str) -> bool:
        """Whether ``cause -> effect`` is excluded: by name, by the tiers, or because the opposite edge is required."""
        if (cause, effect) in self.forbidden or (effect, cause) in self.required:
            return True
        tier = {name: level for level, names in enumerate(self.tiers) for name in names}
        return cause in tier and effect in tier and tier[cause] > tier[effect]

    def matrices(self, nodes: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
        """``required`` and ``forbidden`` (d, d), bool, [i, j] for nodes[i] -> nodes[j].

        Raises
        ------
        ValueError
            If the knowledge names a variable that is not among the nodes.
        """
        if unknown := [name for name in self.names if name not in nodes]:
            raise ValueError(
                f"the background knowledge names {unknown[0]!r}, which the data lack: they have {', '.join(nodes)}"
            )
        required = np.zeros((len(nodes), len(nodes)), dtype=bool)
        for cause, effect in self.required:
            required[nodes.index(cause), nodes.index(effect)] = True
        forbidden = np.array([[self.forbids(a, b) for b in nodes] for a in nodes], dtype=bool)
        return required, forbidden

    def _refuse_contradictions(self) -> None:
        tier: dict[str, int] = {}
        for level, names in enumerate(self.tiers):
            for name in names:
                if name in tier:
                    raise ValueError(f"{name!r} stands in tiers {tier[name] + 1} and {level + 1}: name it once")
                tier[name] = level
        for cause, effect in self.required:
            if (effect, cause) in self.required:
                raise ValueError(f"{cause} -> {effect} and {effect} -> {cause} are both required: drop one")
            if self.forbids(cause, effect):
                by = "forbidden" if (cause, effect) in self.forbidden else "excluded by the tiers"
                raise ValueError(f"{cause} -> {effect} is required and {by}: drop one of the two")
        if self.required:
            try:
                CausalGraph.from_edges(self.required)
            except ValueError as error:
                raise ValueError(f"the required edges contradict each other: {error}") from None


def _checked_pairs(what: str, pairs: Iterable[Edge]) -> tuple[Edge, ...]:
    checked: dict[Edge, None] = {}
    for pair in pairs:
        ends = tuple(pair) if not isinstance(pair, str) else ()
        if len(ends) != 2 or ends[0] == ends[1] or not all(isinstance(end, str) for end in ends):
            raise ValueError(f"{what} edge {pair!r} is no pair of two names: give (cause, effect)")
        checked[(ends[0], ends[1])] = None
    return tuple(checked)
