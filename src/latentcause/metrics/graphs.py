"""How far a learned graph is from the true one."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from latentcause.discovery.pag import PAG
from latentcause.graph import CausalGraph
from latentcause.metrics.alignment import Graph, aligned_marks, aligned_skeletons
from latentcause.metrics.intervention_distance import structural_intervention_distance


def structural_hamming_distance(estimate: Graph, truth: Graph, reversal: int = 1) -> int:
    """Number of pairs of nodes that the two graphs join differently.

    A pair counts 0 where both graphs have the same edge or both have none. It counts 1 where one has an edge that the
    other lacks, or where one edge is directed and the other is not. A reversed arrow, i -> j in one and i <- j in the
    other, counts ``reversal``.

    Parameters
    ----------
    estimate, truth : CausalGraph or CPDAG
        Over the same names, in any order. The distance is symmetric.
    reversal : 1 or 2
        1 counts pairs that differ (Tsamardinos, Brown and Aliferis 2006); 2 counts a missing and an extra arrow, which
        is the number of differing entries of the adjacency matrices of two DAGs.

    Raises
    ------
    ValueError
        If the names differ, or ``reversal`` is neither 1 nor 2.
    TypeError
        For a PAG: its marks speak of ancestors, those of a DAG of edges.
    """
    if reversal not in (1, 2):
        raise ValueError(f"reversal is {reversal!r}: a reversed arrow counts 1 or 2")
    _refuse_pags(estimate, truth, "the structural Hamming distance")
    guess, true = aligned_marks(estimate, truth)
    differs = (guess != true) | (guess != true).T
    reversed_ = guess & ~guess.T & true.T & ~true  # [i, j]: i -> j in the estimate, j -> i in the truth
    return int(np.triu(differs).sum() + (reversal - 1) * reversed_.sum())


@dataclass(frozen=True)
class Scores:
    """Precision, recall and their harmonic mean; nan where nothing was there to count (0 / 0).

    Attributes
    ----------
    precision : float
        Share of what was found that is true; nan where nothing was found.
    recall : float
        Share of what is true that was found; nan where there is nothing to find.
    f1 : float
        2 hits / (found + true); nan where both are 0.
    """

    precision: float
    recall: float
    f1: float

    @classmethod
    def of(cls, found: np.ndarray, true: np.ndarray) -> Scores:
        """From two bool matrices."""
        hits = (found & true).sum()
        return cls(_ratio(hits, found.sum()), _ratio(hits, true.sum()), _ratio(2 * hits, found.sum() + true.sum()))


def adjacency_scores(estimate: Graph | PAG, truth: Graph | PAG) -> Scores:
    """Precision, recall and F1 of the adjacent pairs, whatever the marks of their edges.

    Raises
    ------
    ValueError
        If the names differ.
    """
    guess, true = aligned_skeletons(estimate, truth)
    return Scores.of(np.triu(guess), np.triu(true))


def arrowhead_scores(estimate: Graph, truth: Graph) -> Scores:
    """Precision, recall and F1 of the arrows: i -> j is right where the truth has i -> j.

    An undirected edge has no arrow. So against a CPDAG, an arrow that the class leaves open is a false one; compare a
    DAG with `CPDAG.from_dag(dag)` for it where that is not meant.

    Raises
    ------
    ValueError
        If the names differ.
    TypeError
        For a PAG: its marks speak of ancestors, those of a DAG of edges.
    """
    _refuse_pags(estimate, truth, "a count of right arrowheads")
    guess, true = aligned_marks(estimate, truth)
    return Scores.of(guess & ~guess.T, true & ~true.T)


@dataclass(frozen=True)
class GraphErrors:
    """Every figure of a comparison, made by `graph_errors`. What is not defined for the two graphs is None.

    Attributes
    ----------
    shd1, shd2 : int or None
        Structural Hamming distance with a reversal counted once and twice.
    sid : int, (int, int) or None
        Structural intervention distance; lower and upper bound for a CPDAG.
    adjacency, arrowhead : Scores
        ``arrowhead`` may be None.
    """

    shd1: int | None
    shd2: int | None
    sid: int | tuple[int, int] | None
    adjacency: Scores
    arrowhead: Scores | None

    def as_dict(self) -> dict[str, Any]:
        """Flat, for tables and JSON: ``shd1``, ``shd2``, ``sid_low``, ``sid_high``, ``adjacency_precision``, ...

        For a DAG, ``sid_low`` equals ``sid_high``. What is not defined is None.
        """
        low, high = self.sid if isinstance(self.sid, tuple) else (self.sid, self.sid)
        flat: dict[str, Any] = {"shd1": self.shd1, "shd2": self.shd2, "sid_low": low, "sid_high": high}
        for what, scores in (("adjacency", self.adjacency), ("arrowhead", self.arrowhead)):
            for name in ("precision", "recall", "f1"):
                flat[f"{what}_{name}"] = None if scores is None else asdict(scores)[name]
        return flat

    def __str__(self) -> str:
        sid = f"{self.sid[0]} to {self.sid[1]}" if isinstance(self.sid, tuple) else _shown(self.sid)
        lines = [f"SHD {_shown(self.shd1)} (reversals twice: {_shown(self.shd2)}), SID {sid}"]
        for what, scores in (("adjacencies", self.adjacency), ("arrowheads", self.arrowhead)):
            if scores is not None:
                precision, recall, f1 = scores.precision, scores.recall, scores.f1
                lines.append(f"{what}: precision {precision:.2f}, recall {recall:.2f}, F1 {f1:.2f}")
        return "\n".join(lines)


def graph_errors(estimate: Graph | PAG, truth: Graph | PAG) -> GraphErrors:
    """Compare a learned graph with the true one in every way that is defined for the two.

    Parameters
    ----------
    estimate, truth : CausalGraph, CPDAG or PAG
        Over the same names, in any order. Where one is a PAG, only adjacencies are compared. The intervention distance needs
        a DAG as truth.

    Raises
    ------
    ValueError
        If the names differ.
    """
    adjacency = adjacency_scores(estimate, truth)
    if isinstance(estimate, PAG) or isinstance(truth, PAG):
        return GraphErrors(None, None, None, adjacency, None)
    return GraphErrors(
        structural_hamming_distance(estimate, truth),
        structural_hamming_distance(estimate, truth, reversal=2),
        structural_intervention_distance(estimate, truth) if isinstance(truth, CausalGraph) else None,
        adjacency,
        arrowhead_scores(estimate, truth),
    )


def _refuse_pags(estimate: Graph | PAG, truth: Graph | PAG, what: str) -> None:
    if isinstance(estimate, PAG) or isinstance(truth, PAG):
        raise TypeError(
            f"{what} is not defined for a PAG, whose marks speak of ancestors and not of edges: compare "
            "adjacencies (adjacency_scores)"
        )


def _ratio(part: int, whole: int) -> float:
    return float(part / whole) if whole else float("nan")


def _shown(value: Any) -> str:
    return "undefined" if value is None else str(value)
