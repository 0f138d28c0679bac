"""Graphs from several domains: an edge is turned by what stays the same when its other end is changed."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from latentcause.data import MultiDomainData
from latentcause.data.labels import encode_labels, listing
from latentcause.data.targets import Targets, match_targets
from latentcause.data.variables import Variables
from latentcause.discovery import meek
from latentcause.discovery.arrows import Arrows
from latentcause.discovery.cpdag import CPDAG
from latentcause.discovery.holm import holm
from latentcause.discovery.invariance import DomainMoments, WithinDomains, invariance
from latentcause.discovery.pc import pc
from latentcause.graph import CausalGraph

MOST_SETS = 2**17  # parent sets of one node that are looked at


@dataclass(frozen=True, eq=False, repr=False)
class DomainsResult:
    """A graph learned from several domains, and why.

    Attributes
    ----------
    cpdag : CPDAG
        Arrows where observations and interventions tell the direction; open edges where they do not. ``conflicts`` tells
        what evidence was dropped.
    targets : dict
        ``{domain: (node, ...)}``: as given, or as inferred.
    reference : hashable or None
        The domain that inferred targets are relative to; None where targets were given.
    changes : DataFrame (domains, nodes)
        p-values of "the mechanism of the node is the same in this domain as in the reference" (known targets: as in the
        other domains that do not target the node). NaN where there is nothing to compare with. The largest over all parent
        sets, so it is small only where no set keeps the mechanism (an intersection-union test: no correction for the
        number of sets is needed).
    evidence : DataFrame
        What each node says of the edge to each neighbour: the largest invariance p-value of the node over the sets with the
        neighbour (``p_with``, ``set_with``) and without it (``p_without``, ``set_without``); the ``arrow`` (cause, effect)
        that they speak for, or () for none; whether a set passes (``exact``); and the ``strength`` of the arrow in nats.
    alpha : float
        Level of the tests.
    """

    cpdag: CPDAG
    targets: Targets
    reference: Hashable | None
    changes: pd.DataFrame
    evidence: pd.DataFrame
    alpha: float

    def __repr__(self) -> str:
        how = "given" if self.reference is None else f"inferred against {self.reference!r}"
        named = [f"{domain}: {', '.join(nodes) or 'none'}" for domain, nodes in self.targets.items()]
        more = [f"and {len(named) - 12} more"] if len(named) > 12 else []
        lines = [f"DomainsResult: {self.cpdag}", f"  targets ({how}, alpha {self.alpha:g})"]
        return "\n".join([*lines, *(f"    {line}" for line in [*named[:12], *more])])


def from_domains(
    values: Any,
    domain: Any = None,
    targets: Mapping[Any, Any] | str | Path | None = None,
    *,
    alpha: float = 0.01,
    start: CPDAG | None = None,
    reference: Hashable | None = None,
    nearest: bool = False,
    max_parents: int | None = None,
) -> DomainsResult:
    """Learn a graph from domains in which different mechanisms were changed, softly or by surgery.

    It assumes linear Gaussian mechanisms within each domain, no hidden common causes, one graph of which a domain may
    lose arrows, and faithfulness. Then, as rows grow, the result is the interventional essential graph
    (`interventional_cpdag`). Skewed or heavy-tailed noise makes the test of variances reject too often: targets are then
    inferred that are none, and edges stay open. The steps, none of which depends on the order of columns or domains:

    1. Skeleton and v-structures: ``start``, or else `pc` on independences that hold inside every domain (`WithinDomains`).
    2. Unknown targets: node j is a target of a domain where no set S of its neighbours keeps p(z_j | z_S) the same as in the
       reference domain. Holm's correction over all domains and nodes: given the skeleton, any false target has probability alpha.
    3. For every node j, every set S of its neighbours: is p(z_j | z_S) the same in all the domains that do not target j
       (`latentcause.discovery.invariance`)? The true parents are such a set. So if sets with neighbour i pass at
       level alpha and none without it does, i -> j; if only sets without it pass, j -> i; else j says nothing.
    4. Arrows of step 3 enter by strength: the nats by which the best set with i is nearer to invariance than the best
       without it, or the reverse, added up over both ends of an edge (opposite ones subtract); equal ones in the order of
       the names. One that would close a cycle is dropped. Then the v-structures of step 1 and its other arrows enter where
       they contradict none of these, and Meek's rules.

    Step 3 decides each edge i - j for which two domains that do not target j differ in i: with an observational domain,
    each edge of which some domain targets exactly one end. Meek's rules give the rest, as every rule that involves a
    context variable of the joint graph is one of these cases.

    Parameters
    ----------
    values : DataFrame, array (n, d), Variables or MultiDomainData
        Numbers, one column per node. With `MultiDomainData` the measurements are the nodes, and domain and targets come
        from it.
    domain : array (n,)
        One label per row.
    targets : mapping from domain to nodes, or path of a file, optional
        As `MultiDomainData` takes them. None: unknown.
    alpha : float
        Level of the tests, in (0, 1).
    start : CPDAG, optional
        On the same nodes: its skeleton is kept.
    reference : hashable, optional
        The domain that unknown targets are relative to, observational where there is one; by default the first to appear.
    nearest : bool
        Where no set passes in step 3, because domains differ in more than their targets, or mechanisms are not linear:
        turn the edge by the set that comes nearest (smallest ``gaps`` of `latentcause.discovery.invariance`), where some
        domain targets i and not j, and after all edges that a passing set turns. A guess without an error level.
    max_parents : int, optional
        Largest set S; without it, all neighbours. It must not be below the largest number of parents.

    Raises
    ------
    ValueError
        For fewer than two domains, a domain with fewer rows than columns + 2, a target that is not a column, what
        `Variables` and `match_targets` refuse (missing values, constant columns, labels without rows ...), categories, an
        alpha outside (0, 1), a start on other nodes, a reference that is no domain or stands beside known targets, and a
        node with so many neighbours that ``max_parents`` is needed.

    References
    ----------
    J. Peters, P. Buehlmann, N. Meinshausen, JRSS B 78 (2016): invariant sets. A. Hauser, P. Buehlmann, JMLR 13 (2012) and
    K. Yang, A. Katcoff, C. Uhler, ICML 2018, Theorem 3.9: what interventions identify. C. Squires, Y. Wang, C. Uhler, UAI
    2020: unknown targets. J. M. Mooij, S. Magliacane, T. Claassen, JMLR 21 (2020): domains as context variables.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> a = rng.normal(size=2000) * np.repeat([1, 3], 1000)
    >>> values = np.column_stack([a, a + rng.normal(size=2000)])
    >>> from_domains(values, np.repeat(["observed", "changed"], 1000), {"observed": None, "changed": "x0"})
    DomainsResult: x0 -> x1
      targets (given, alpha 0.01)
        observed: none
        changed: x0
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is {alpha}: give a level between 0 and 1, such as 0.01")
    if max_parents is not None and max_parents < 1:
        raise ValueError(f"max_parents is {max_parents}: give the largest number of parents of a node, at least 1")
    domains, moments, known = _read(values, domain, targets)
    if known is not None and reference is not None:
        raise ValueError(f"reference {reference!r} is for unknown targets, but targets are given: leave one out")
    start = pc(WithinDomains(moments), alpha) if start is None else _on_nodes(start, moments.nodes)
    sets = _neighbour_sets(start, max_parents)
    if known is None:
        reference = domains[0] if reference is None else reference
        if reference not in domains:
            raise ValueError(f"reference {reference!r} is no domain: they are {listing(domains)}")
        changes = _changes_from(moments, sets, domains.index(reference))
        hit = holm(changes, alpha)
    else:
        hit = np.array([[node in known[label] for node in moments.nodes] for label in domains])
        changes = _changes_from_others(moments, sets, hit)
    evidence = _evidence(moments, sets, hit, alpha)
    named = {
        label: tuple(node for node, is_hit in zip(moments.nodes, row, strict=True) if is_hit)
        for label, row in zip(domains, hit, strict=True)
    }
    frame = pd.DataFrame(changes, index=pd.Index(domains, name="domain", tupleize_cols=False), columns=moments.nodes)
    return DomainsResult(_oriented(start, evidence, nearest), named, reference, frame, evidence, alpha)


def interventional_cpdag(graph: CausalGraph, targets: Mapping[Any, Iterable[str]] | Iterable[Iterable[str]]) -> CPDAG:
    """What domains with these targets tell of ``graph`` at best: its interventional essential graph.

    Two DAGs are equivalent where they share the skeleton and the v-structures of the graph that has one more node per
    pair of domains, with an arrow to each node whose mechanism differs between the two (K. Yang, A. Katcoff and C. Uhler,
    ICML 2018, Theorem 3.9 and, without an observational domain, section 5). So an edge with exactly one end that
    differs keeps its direction, and Meek's rules give the rest. A mechanism differs where either domain targets its node:
    each intervention is taken to be different from every other.

    For interventions by surgery that include an observational domain this is the class of Hauser and Buehlmann (2012) too.

    Parameters
    ----------
    graph : CausalGraph
    targets : mapping from domain to nodes, or one collection of nodes per domain
        The nodes that each domain targets; none for an observational one.

    Raises
    ------
    ValueError
        For a target that is not a node.
    """
    listed = [tuple(nodes) for nodes in (targets.values() if isinstance(targets, Mapping) else targets)]
    hit = np.zeros((len(listed), len(graph)), dtype=bool)
    for row, nodes in zip(hit, listed, strict=True):
        row[[graph.index(node) for node in nodes]] = True
    dag, known = graph.adjacency.astype(bool), np.zeros((len(graph), len(graph)), dtype=bool)
    for first, second in combinations(hit, 2):
        differs = first | second
        known |= differs[:, None] != differs
    return CPDAG.from_adjacency(meek.class_of(dag, known), graph.nodes)


# --- reading -------------------------------------------------------------------------------------------------------------


def _read(values: Any, domain: Any, targets: Any) -> tuple[tuple[Hashable, ...], DomainMoments, Targets | None]:
    if isinstance(values, MultiDomainData):
        if domain is not None or targets is not None:
            raise ValueError("MultiDomainData brings its own domains and targets: give it alone")
        domain, targets = [values.domains[e] for e in values.domain_index], values.targets
        rows = np.concatenate([x for _, _, x in values.batches()])
        values = pd.DataFrame(rows, columns=list(values.measurements))
    elif domain is None:
        raise ValueError("domain is missing: give one label per row")
    variables = Variables.read(values)
    if variables.levels:
        raise ValueError(f"column {next(iter(variables.levels))!r} holds categories: invariance tests need numbers")
    domains, index = encode_labels(domain, len(variables))
    if len(domains) < 2:
        raise ValueError(f"all rows are of domain {domains[0]!r}: give at least two domains, or use pc")
    least = len(variables.names) + 2
    for label, count in zip(domains, np.bincount(index), strict=True):
        if count < least:
            raise ValueError(
                f"domain {label!r} has {count} rows for {len(variables.names)} columns: give at least {least} rows, or "
                "leave the domain out"
            )
    known = None if targets is None else match_targets(domains, targets)
    for label, nodes in (known or {}).items():
        if unknown := [node for node in nodes if node not in variables.names]:
            raise ValueError(
                f"target {unknown[0]!r} of domain {label!r} is not a column: they are {listing(variables.names)}"
            )
    variables.require_variation()
    return domains, DomainMoments.of_rows(variables.values, index, variables.names), known


def _on_nodes(start: CPDAG, nodes: tuple[str, ...]) -> CPDAG:
    if sorted(start.nodes) != sorted(nodes):
        raise ValueError(f"start has the nodes {listing(start.nodes)}, the values the columns {listing(nodes)}")
    return CPDAG(nodes, start.directed, start.undirected, start.separations, start.p_values, start.conflicts)


def _neighbour_sets(start: CPDAG, most: int | None) -> list[list[np.ndarray]]:
    """For every node the sets of its neighbours: one int array (m, k) per size k."""
    found = []
    for node, row in zip(start.nodes, start.adjacency | start.adjacency.T, strict=True):
        neighbours = np.flatnonzero(row)
        sizes = range(min(len(neighbours), len(neighbours) if most is None else most) + 1)
        if (total := sum(comb(len(neighbours), k) for k in sizes)) > MOST_SETS:
            raise ValueError(
                f"node {node!r} has {len(neighbours)} neighbours, which make {total} sets of parents: limit them with "
                "max_parents, or use a smaller alpha"
            )
        found.append(
            [
                np.array(list(combinations(neighbours, k)), dtype=np.int64).reshape(comb(len(neighbours), k), k)
                for k in sizes
            ]
        )
    return found


# --- which mechanisms changed --------------------------------------------------------------------------------------------


def _largest(moments: DomainMoments, node: int, sets: list[np.ndarray]) -> float:
    """The largest invariance p-value of a node over all sets."""
    return max(float(invariance(moments, node, given)[0].max()) for given in sets)


def _changes_from(moments: DomainMoments, sets: list[list[np.ndarray]], reference: int) -> np.ndarray:
    changes = np.full(moments.mean.shape, np.nan)
    for e in range(len(changes)):
        if e != reference:
            pair = moments.subset(np.array([reference, e]))
            changes[e] = [_largest(pair, j, sets[j]) for j in range(len(sets))]
    return changes


def _changes_from_others(moments: DomainMoments, sets: list[list[np.ndarray]], hit: np.ndarray) -> np.ndarray:
    changes = np.full(hit.shape, np.nan)
    for e, j in np.ndindex(hit.shape):
        others = np.flatnonzero(~hit[:, j] & (np.arange(len(hit)) != e))
        if len(others):
            changes[e, j] = _largest(moments.merged([np.array([e]), others]), j, sets[j])
    return changes


# --- which edges that turns ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Tested:
    """A set of neighbours, by names, and how invariant a node is given it."""

    p: float
    gap: float
    names: tuple[str, ...]

    @property
    def rank(self) -> tuple[float, float]:
        return self.p, -self.gap


def _evidence(moments: DomainMoments, sets: list[list[np.ndarray]], hit: np.ndarray, alpha: float) -> pd.DataFrame:
    rows = []
    for j, node in enumerate(moments.nodes):
        untouched = np.flatnonzero(~hit[:, j])
        if len(untouched) > 1 and len(sets[j]) > 1:
            tested = _all_tested(moments.subset(untouched), j, sets[j])
            n = moments.count[untouched].sum()
            changed = hit[untouched].sum(axis=0) > 0
            rows += [_row(node, moments.nodes[i], tested, n, alpha, changed[i]) for i in sets[j][1][:, 0]]
    columns = ["node", "neighbour", "p_with", "set_with", "p_without", "set_without", "arrow", "exact", "strength"]
    return pd.DataFrame(rows, columns=columns)


def _all_tested(moments: DomainMoments, node: int, sets: list[np.ndarray]) -> list[_Tested]:
    found = []
    for given in sets:
        for p, gap, columns in zip(*invariance(moments, node, given), given.tolist(), strict=True):
            found.append(_Tested(float(p), float(gap), tuple(moments.nodes[i] for i in columns)))
    return found


def _row(node: str, other: str, tested: list[_Tested], n: int, alpha: float, changed: bool) -> tuple[Any, ...]:
    """What a node says of the edge to one neighbour, which the domains compared do target or not: a row of ``evidence``."""
    inside, outside = (
        max((t for t in tested if (other in t.names) == wanted), key=lambda t: t.rank) for wanted in (True, False)
    )
    exact = max(inside.p, outside.p) > alpha
    open_ = min(inside.p, outside.p) > alpha or not (exact or changed)
    arrow = () if open_ else (other, node) if inside.rank > outside.rank else (node, other)
    strength = n * abs(inside.gap - outside.gap)
    return node, other, inside.p, inside.names, outside.p, outside.names, arrow, exact, strength


def _oriented(start: CPDAG, evidence: pd.DataFrame, nearest: bool) -> CPDAG:
    """Step 4 of `from_domains`."""
    arrows = Arrows(start)
    asked: set[frozenset[str]] = set()
    for exact in (True, False)[: 1 + nearest]:
        strength: dict[tuple[str, str], float] = {}
        rows = evidence[evidence["exact"] == exact]
        for ends, gain in zip(rows["arrow"], rows["strength"], strict=True):
            if ends and frozenset(ends) not in asked:
                strength[ends] = strength.get(ends, 0.0) + gain
        asked |= {frozenset(ends) for ends in strength}
        net = {ends: s - strength.get(ends[::-1], 0.0) for ends, s in strength.items()}
        for ends in sorted(strength, key=lambda ends: (-net[ends], ends)):
            if net[ends] > 0:
                arrows.enter(ends, "stronger evidence")
            else:
                arrows.drop(ends, "what the other end says of this edge")
    return arrows.finished()
