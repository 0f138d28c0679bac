"""How many intervention distributions a graph gets wrong."""

from __future__ import annotations

import networkx as nx
import numpy as np

from latentcause.discovery import meek
from latentcause.discovery.cpdag import CPDAG
from latentcause.discovery.pag import PAG
from latentcause.graph import CausalGraph
from latentcause.metrics.alignment import aligned_marks


def structural_intervention_distance(estimate: CausalGraph | CPDAG, truth: CausalGraph) -> int | tuple[int, int]:
    """Number of ordered pairs (i, j) for which ``estimate`` gives a false p(x_j | do(x_i)), if ``truth`` made the data.

    The estimate computes p(x_j | do(x_i)) by adjusting for its parents Z of i; where j is itself in Z, it says that
    i has no effect on j. That is right for every distribution that factorises over the truth if and only if

    - where j is in Z: j is no descendant of i in the truth;
    - otherwise: in the truth no node of Z is a descendant of a node other than i on a directed path from i to j, and Z
      blocks every other path between i and j (the adjustment criterion of Shpitser, VanderWeele and Robins 2010).

    0 means that every intervention distribution is right, which too many edges do not spoil: a complete graph in an
    order that the truth agrees with has distance 0. It is no metric: it is not symmetric.

    Parameters
    ----------
    estimate : CausalGraph or CPDAG
    truth : CausalGraph
        Over the same names, in any order.

    Returns
    -------
    int, or (int, int)
        For a CPDAG, the smallest and the largest distance of a DAG of its class. Both are exact. Costs of the
        undirected components add up, and within one the best source is sought recursively, each distinct rest once,
        so DAGs are not enumerated.

    Raises
    ------
    ValueError
        If the names differ, or no DAG belongs to the CPDAG.
    TypeError
        For a PAG, which leaves open whether adjustment is possible at all, or a truth that is not a DAG.

    References
    ----------
    J. Peters and P. Buehlmann, Structural intervention distance for evaluating causal graphs, Neural Computation
    27(3), 2015: the definition and its graphical form in section 2, the bounds for a CPDAG after it.
    """
    if not isinstance(truth, CausalGraph):
        raise TypeError(
            f"the truth is a {type(truth).__name__}, but the intervention distance needs a DAG: what an intervention "
            "does is not determined otherwise"
        )
    if isinstance(estimate, PAG):
        raise TypeError(
            "the intervention distance is not defined for a PAG: with latent confounders, adjusting for the parents "
            "need not give p(x_j | do(x_i)); compare adjacencies instead (adjacency_scores)"
        )
    guess, true = aligned_marks(estimate, truth)
    if isinstance(estimate, CausalGraph):
        return int(_wrong(true, np.arange(len(true)), guess.T).sum())
    estimate.consistent_extension()  # raises where there is none
    return _Bounds(true).of(meek.close(guess)[0])


def _wrong(truth: np.ndarray, sources: np.ndarray, parents: np.ndarray) -> np.ndarray:
    """Whether adjusting for a set of parents gives a false p(x_j | do(x_i)).

    Parameters
    ----------
    truth : bool ndarray (d, d)
    sources : int ndarray (m,)
        The node i of each row.
    parents : bool ndarray (m, d)
        The set that is adjusted for in each row.

    Returns
    -------
    bool ndarray (m, d)
        At [row, j].
    """
    reach = meek.descendants(truth) | np.eye(len(truth), dtype=bool)
    rows = np.arange(len(sources))
    below = reach[sources]
    below[rows, sources] = False
    spoiled = below & _joined(parents, reach.T)  # on a directed path to j for every j below, with a Z-node below
    wrong = _joined(spoiled, reach) | _met_by_other_paths(truth, sources, parents)
    wrong = np.where(parents, below, wrong)
    wrong[rows, sources] = False
    return wrong


def _met_by_other_paths(truth: np.ndarray, sources: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Nodes (m, d) that each source reaches on an open path that is not directed from it (the Bayes ball).

    A walk is open where its colliders are given and its other nodes are not. It may not come back to the source.
    """
    away = np.ones_like(given)
    away[np.arange(len(sources)), sources] = False
    straight = truth[sources]  # met at the end of a directed walk
    downwards = np.zeros_like(given)  # met along an arrow, after a turn
    upwards = truth.T[sources]  # met against an arrow
    while True:
        free = ~given
        turned = (upwards & free) | ((straight | downwards) & given)
        new_straight = straight | _joined(straight & free, truth)
        new_upwards = upwards | (_joined(turned, truth.T) & away)
        new_downwards = downwards | (_joined((upwards | downwards) & free, truth) & away)
        if (
            np.array_equal(new_straight, straight)
            and np.array_equal(new_upwards, upwards)
            and np.array_equal(new_downwards, downwards)
        ):
            return upwards | downwards
        straight, upwards, downwards = new_straight, new_upwards, new_downwards


class _Bounds:
    """The smallest and largest distance over the members of a class of DAGs.

    A member's distance is a sum over nodes, and what a node adds depends on its parents alone. Undirected components are
    oriented independently of each other. Within one, every member has exactly one source; once its edges point away,
    Meek's rules leave smaller components, to which the same applies.
    """

    def __init__(self, truth: np.ndarray) -> None:
        self.truth = truth
        self.costs: dict[tuple[int, bytes], int] = {}
        self.solved: dict[tuple[bytes, bytes], tuple[int, int]] = {}

    def of(self, marks: np.ndarray) -> tuple[int, int]:
        return self._sum(marks, np.arange(len(marks)))

    def _sum(self, marks: np.ndarray, nodes: np.ndarray) -> tuple[int, int]:
        """Over the undirected components among ``nodes``."""
        undirected = (marks & marks.T)[np.ix_(nodes, nodes)]
        parts = [nodes[sorted(part)] for part in nx.connected_components(nx.from_numpy_array(undirected))]
        bounds = [self._component(marks, part) for part in parts]
        return sum(low for low, _ in bounds), sum(high for _, high in bounds)

    def _component(self, marks: np.ndarray, nodes: np.ndarray) -> tuple[int, int]:
        key = nodes.tobytes(), marks[:, nodes].tobytes()
        if key not in self.solved:
            if len(nodes) == 1:
                cost = self._cost(int(nodes[0]), marks[:, nodes[0]])
                self.solved[key] = cost, cost
            else:
                rooted = [self._rooted(marks, nodes, source) for source in range(len(nodes))]
                bounds = [self._sum(oriented, nodes) for oriented in rooted if oriented is not None]
                self.solved[key] = min(low for low, _ in bounds), max(high for _, high in bounds)
        return self.solved[key]

    def _rooted(self, marks: np.ndarray, nodes: np.ndarray, source: int) -> np.ndarray | None:
        """``marks`` with the component turned away from its ``source``; None where an arrow must enter the source."""
        inside = marks[np.ix_(nodes, nodes)]
        for other in range(len(nodes)):
            if inside[source, other] and inside[other, source]:
                inside[other, source] = False
                inside, _ = meek.close(inside)
        if inside[:, source].any():
            return None
        oriented = marks.copy()
        oriented[np.ix_(nodes, nodes)] = inside
        return oriented

    def _cost(self, node: int, parents: np.ndarray) -> int:
        key = node, parents.tobytes()
        if key not in self.costs:
            self.costs[key] = int(_wrong(self.truth, np.array([node]), parents[None]).sum())
        return self.costs[key]


def _joined(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return (first.astype(np.float32) @ second.astype(np.float32)) > 0
