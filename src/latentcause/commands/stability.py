"""How sure the edges of a learned graph are: the share of resampled tables in which they are found again."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from latentcause.commands.edges import edges_of
from latentcause.commands.search import Search
from latentcause.data.variables import Variables
from latentcause.discovery.cpdag import CPDAG
from latentcause.discovery.pag import PAG
from latentcause.plots import BASE, INK, QUIET, SERIES, TARGETED
from latentcause.progress import progress

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_BARS = 40
GREY = "#6b747d"  # of names of pairs that are not in the graph
RARE = 0.05  # pairs that are joined less often, and not in the graph, are not drawn


@dataclass(frozen=True)
class Stability:
    """Edges in resamples of the rows.

    Attributes
    ----------
    resamples : int
        Tables that could be searched.
    failed : tuple of str
        Why the others could not.
    pairs : DataFrame
        A row per pair that was ever joined, the most frequent first: ``a``, ``b``; ``edge``, its kind in the graph learned
        from all rows, empty for none; the share of resamples with the pair ``adjacent``, with an arrowhead at b only
        (``arrow_at_b``), at a only (``arrow_at_a``), at both ends (``arrow_at_both``), and at none (``no_arrow``).
    """

    resamples: int
    failed: tuple[str, ...]
    pairs: pd.DataFrame


def bootstrap(
    search: Search, variables: Variables, labels: np.ndarray | None, graph: CPDAG | PAG, resamples: int, seed: int
) -> Stability:
    """Search in ``resamples`` tables of as many rows, drawn with replacement (within each domain), and count edges.

    N. Friedman, M. Goldszmidt and A. Wyner, Data analysis with Bayesian networks: a bootstrap approach (UAI 1999).

    Raises
    ------
    ValueError
        If no resample could be searched.
    """
    rng = np.random.default_rng(seed)
    groups = [np.arange(len(variables))] if labels is None else [np.flatnonzero(labels == e) for e in np.unique(labels)]
    d = len(variables.names)
    joined, arrows, both = (np.zeros((d, d), dtype=np.int64) for _ in range(3))
    failed: list[str] = []
    with progress("bootstrap", resamples, "edges") as report:
        for done in range(resamples):
            rows = np.concatenate([rng.choice(group, len(group)) for group in groups])
            resample = Variables(variables.names, variables.values[rows], variables.levels)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # what they say was said of the data
                    found, _ = search.run(resample, None if labels is None else labels[rows])
            except ValueError as error:
                failed.append(str(error))
                continue
            edges = edges_of(found)
            for edge in edges:
                i, j = variables.index(edge.a), variables.index(edge.b)
                joined[[i, j], [j, i]] += 1
                arrows[i, j] += edge.at_b == "arrow"
                arrows[j, i] += edge.at_a == "arrow"
                both[[i, j], [j, i]] += edge.at_a == edge.at_b == "arrow"
            report(done + 1, len(edges))
    count = resamples - len(failed)
    if not count:
        raise ValueError(f"no resample of the rows could be searched ({failed[0]}): leave --bootstrap out")
    return Stability(count, tuple(failed), _table(variables.names, graph, joined, arrows, both, count))


def _table(
    names: tuple[str, ...], graph: CPDAG | PAG, joined: np.ndarray, arrows: np.ndarray, both: np.ndarray, count: int
) -> pd.DataFrame:
    kinds = {(edge.a, edge.b): edge.kind for edge in edges_of(graph)}
    rows = []
    for i, j in np.argwhere(np.triu(joined + joined.T + _joined_in(graph, names))):
        forward = arrows[i, j] >= arrows[j, i]  # where the graph does not say, the commoner direction
        if (names[j], names[i]) in kinds or ((names[i], names[j]) not in kinds and not forward):
            i, j = j, i
        at_b, at_a, at_both = arrows[i, j] - both[i, j], arrows[j, i] - both[i, j], both[i, j]
        none = joined[i, j] - at_b - at_a - at_both
        shares = (value / count for value in (joined[i, j], at_b, at_a, at_both, none))
        rows.append((names[i], names[j], kinds.get((names[i], names[j]), ""), *shares))
    columns = ["a", "b", "edge", "adjacent", "arrow_at_b", "arrow_at_a", "arrow_at_both", "no_arrow"]
    return pd.DataFrame(rows, columns=columns).sort_values(
        "adjacent", ascending=False, kind="stable", ignore_index=True
    )


def _joined_in(graph: CPDAG | PAG, names: tuple[str, ...]) -> np.ndarray:
    pairs = graph.skeleton
    return np.array([[frozenset((a, b)) in pairs for b in names] for a in names], dtype=np.int64)


def shown_pairs(stability: Stability) -> pd.DataFrame:
    """The pairs for the report: those of the graph, and those that are joined in more than a few resamples."""
    pairs = stability.pairs
    return pairs[(pairs["edge"] != "") | (pairs["adjacent"] >= RARE)]


def plot(stability: Stability) -> Axes:
    """A bar per pair, as long as the share of resamples that join it, in the colours of the arrowheads."""
    import matplotlib.pyplot as plt

    pairs = shown_pairs(stability).head(MOST_BARS)
    _, ax = plt.subplots(figsize=(6.4, 0.9 + 0.24 * max(1, len(pairs))), layout="constrained")
    places, left = -np.arange(len(pairs)), np.zeros(len(pairs))
    parts = (
        ("arrow_at_b", "to the second", BASE),
        ("arrow_at_a", "to the first", TARGETED),
        ("arrow_at_both", "to both", SERIES[2]),
        ("no_arrow", "no arrowhead", QUIET),
    )
    for column, label, colour in parts:
        width = pairs[column].to_numpy()
        if width.any():
            ax.barh(places, width, left=left, color=colour, height=0.72, label=label)
            left += width
    names = [
        f"{a} {edge} {b}" if edge else f"{a}, {b}"
        for a, b, edge in zip(pairs["a"], pairs["b"], pairs["edge"], strict=True)
    ]
    ax.set_yticks(places, names, fontsize=8)
    for text, edge in zip(ax.get_yticklabels(), pairs["edge"], strict=True):
        text.set_color(INK if edge else GREY)
        text.set_parse_math(False)
    ax.set_xlim(0, 1)
    ax.set_ylim(0.6 - len(pairs), 0.6)
    ax.set_xlabel(f"share of {stability.resamples} resamples")
    ax.spines[["top", "right"]].set_visible(False)
    if ax.get_legend_handles_labels()[0]:
        ax.legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0), title="arrowhead")
    return ax
