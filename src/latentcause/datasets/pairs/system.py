"""Random causal systems seen through a mixing, with pairs before and after an intervention.

The linear-Gaussian systems are those of Brehmer, de Haan, Lippe and Cohen, Weakly supervised causal representation learning,
NeurIPS 2022, section 5.1, but for the order of the variables, which tells nothing here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from latentcause.data.intervention_pairs import InterventionPairs
from latentcause.data.pair_targets import NONE, read_pair_targets
from latentcause.datasets.pairs.mechanisms import PairMechanism, PairMechanisms, random_mechanism
from latentcause.datasets.pairs.mixings import Mixing, PairMixing, random_mixing
from latentcause.datasets.pairs.simulated_pairs import SimulatedPairs, TrueTarget
from latentcause.graph import CausalGraph

PairNoise = Literal["gaussian", "laplace", "uniform", "skewed"]

TRIAL = 20_000
"""Rows that scales are measured on when a system is made."""


@dataclass(frozen=True, eq=False, repr=False)
class PairSystem:
    """A known system x = mixing(z), z_j = (location_j(parents) + scale_j(parents) u_j) / sd_j with independent u_j.

    Attributes
    ----------
    graph : CausalGraph
        Its nodes z0, z1, ... stand in an order that tells nothing of the causal one.
    mechanisms : tuple of PairMechanism
        In the order of the nodes; parents in that order too.
    noise : {"gaussian", "laplace", "uniform", "skewed"}
        Of u_j, which has mean 0 and variance 1.
    mixing : Mixing
    n_observed : int
        How many numbers x has.
    scales : ndarray (d,)
        sd_j: 1 unless the system is standardised.
    """

    graph: CausalGraph
    mechanisms: tuple[PairMechanism, ...]
    noise: PairNoise
    mixing: Mixing
    n_observed: int
    scales: np.ndarray

    def draw(
        self,
        n: int,
        *,
        seed: int,
        none: bool = True,
        softness: float = 0.0,
        measurement: float = 0.0,
        wrong: float = 0.0,
        targets_at_once: int = 1,
    ) -> SimulatedPairs:
        """n pairs: z from the system, z~ after an intervention on a variable drawn at random, all other noises kept.

        A target's value becomes z~_i = softness m_i(parents~) + e with e ~ N(0, 1), where m_i is what its parents explain.

        Parameters
        ----------
        n : int
            At least 2.
        seed : int
        none : bool
            Whether a pair has no intervention with the chance 1 / (nodes + 1).
        softness : float
            0: perfect interventions, which cut all arrows into the target; up to 1: the arrows keep this share of their effect.
        measurement : float
            Variance of independent Gaussian noise on every number of x and x~, as a share of the mean variance of x.
        wrong : float
            Share of the pairs, at random, that get the ``after`` of another of them.
        targets_at_once : int
            How many variables an intervention hits.

        Raises
        ------
        ValueError
            For n below 2, shares outside [0, 1] (``measurement``: negative), and more targets than variables or none.
        """
        _check_draw(n, softness, measurement, wrong, targets_at_once, len(self.graph))
        rng = np.random.default_rng(seed)
        u = _noise(self.noise, (n, len(self.graph)), rng)
        raw = self._raw(u)
        hit = _random_targets(n, len(self.graph), targets_at_once, none, rng)
        fresh = rng.standard_normal(raw.shape) * self.scales
        raw_after = self._after(raw, u, hit, fresh, softness)
        rows, swapped = _swap_some(n, wrong, rng)
        z, z_after = raw / self.scales, raw_after[rows] / self.scales
        x, x_after = self.mix(z), self.mix(z_after)
        if measurement:
            spread = np.sqrt(measurement * self._mean_variance)
            x, x_after = (seen + spread * rng.standard_normal(seen.shape) for seen in (x, x_after))
        names = list(self.graph.nodes)
        return SimulatedPairs(
            InterventionPairs(x, x_after),
            pd.DataFrame(z, columns=names),
            pd.DataFrame(z_after, columns=names),
            _named_targets(hit, names),
            self.graph,
            swapped,
        )

    def mix(self, z: Any) -> np.ndarray:
        """Observations (n, n_observed), float64, of the variables (n, d) in the order of ``graph.nodes``, without noise.

        Raises
        ------
        ValueError
            For another number of columns, or a frame that lacks one of the nodes.
        """
        return self.mixing(self._columns("z", z))

    def counterfactual(self, z_before: Any, target: str | Sequence[Any], value: Any) -> np.ndarray:
        """z~ (n, d): what the variables would have been had the target been set to the value, exactly.

        Abduct u_j from z, set the targets, and predict all that descends from them; nothing else changes, not even by rounding.

        Parameters
        ----------
        z_before : array (n, d) or DataFrame
        target : str, or sequence of n entries
            A name, ``"none"`` or, for several at once, a tuple of names: one for all rows, as text, or one per row.
        value : float, array (n,), or array or DataFrame (n, d)
            What targets are set to. Of a table, the columns of each row's targets are read.

        Raises
        ------
        ValueError
            For a target that is no node, or unknown (None), and for shapes that do not fit.
        """
        z = self._columns("z_before", z_before)
        named = read_pair_targets([target] * len(z) if isinstance(target, str) else target, len(z))
        hit = self._hit(named)
        if isinstance(value, pd.DataFrame) or np.ndim(value) == 2:
            values = self._columns("value", value)
        else:
            column = np.asarray(value, dtype=np.float64)
            if column.shape not in ((), (len(z),)):
                raise ValueError(
                    f"value has shape {column.shape}: give one number, or one for each of the {len(z)} rows"
                )
            values = np.broadcast_to(column.reshape(-1, 1), z.shape)
        if values.shape != z.shape:
            raise ValueError(f"value has {len(values)} rows for {len(z)} of z_before: give one per row")
        raw = z * self.scales
        u = np.empty_like(raw)
        for j, mechanism in enumerate(self.mechanisms):
            u[:, j] = mechanism.noise(raw[:, self._parents[j]], raw[:, j])
        after = self._after(raw, u, hit, values * self.scales) / self.scales
        return np.where(hit, values, np.where(self._reached(hit), after, z))

    def __repr__(self) -> str:
        size = f"{len(self.graph)} variables, {len(self.graph.edges)} edges, {self.n_observed} numbers observed"
        return f"PairSystem: {size}, {self.noise} noise"

    def _raw(self, u: np.ndarray) -> np.ndarray:
        """The variables (n, d) times sd_j, of the noises."""
        raw = np.empty_like(u)
        for j in self._order:
            raw[:, j] = self.mechanisms[j].value(raw[:, self._parents[j]], u[:, j])
        return raw

    def _after(
        self, raw: np.ndarray, u: np.ndarray, hit: np.ndarray, values: np.ndarray, softness: float = 0.0
    ) -> np.ndarray:
        """The variables (n, d) times sd_j after targets ``hit`` (n, d) get their values; the others keep u."""
        after, reached = raw.copy(), self._reached(hit)
        for j in self._order:
            parents, mechanism = after[:, self._parents[j]], self.mechanisms[j]
            moved = mechanism.value(parents, u[:, j])
            kept = softness * mechanism.explained(parents) if softness else 0.0
            after[:, j] = np.where(hit[:, j], values[:, j] + kept, np.where(reached[:, j], moved, raw[:, j]))
        return after

    def _reached(self, hit: np.ndarray) -> np.ndarray:
        """Targets and their descendants: bool (n, d)."""
        return (hit.astype(np.int64) @ self._ancestry) > 0

    def _hit(self, targets: Sequence[Any]) -> np.ndarray:
        """Bool (n, d) of the targets' names."""
        hit = np.zeros((len(targets), len(self.graph)), dtype=bool)
        place = {target: row for row, target in enumerate(dict.fromkeys(targets))}
        masks = np.zeros((len(place), len(self.graph)), dtype=bool)
        for target, row in place.items():
            if target is None:
                raise ValueError(f"the target of row {targets.index(None)} is unknown: name it, or say {NONE!r}")
            for name in (target,) if isinstance(target, str) else target:
                if name != NONE:
                    masks[row, self.graph.index(name)] = True
        hit[:] = masks[[place[target] for target in targets]]
        return hit

    def _columns(self, what: str, table: Any) -> np.ndarray:
        """A float64 array (n, d) in the order of the nodes."""
        if isinstance(table, pd.DataFrame):
            missing = [node for node in self.graph.nodes if node not in table.columns]
            if missing:
                raise ValueError(f"{what} lacks column {missing[0]!r}: give one for each of {list(self.graph.nodes)}")
            table = table[list(self.graph.nodes)]
        array = np.asarray(table, dtype=np.float64)
        if array.ndim != 2 or array.shape[1] != len(self.graph):
            raise ValueError(f"{what} has shape {array.shape}: give (n, {len(self.graph)}), a column per node")
        return array

    @cached_property
    def _order(self) -> list[int]:
        return [self.graph.index(node) for node in self.graph.topological_order]

    @cached_property
    def _parents(self) -> list[list[int]]:
        return [[self.graph.index(parent) for parent in self.graph.parents(node)] for node in self.graph.nodes]

    @cached_property
    def _ancestry(self) -> np.ndarray:
        """1 at [i, j] where node j is node i or descends from it."""
        matrix = np.eye(len(self.graph), dtype=np.int64)
        for i, node in enumerate(self.graph.nodes):
            matrix[i, [self.graph.index(other) for other in self.graph.descendants(node)]] = 1
        return matrix

    @cached_property
    def _mean_variance(self) -> float:
        """Of the numbers in x, over a fixed sample."""
        u = _noise(self.noise, (TRIAL, len(self.graph)), np.random.default_rng(TRIAL))
        return float(self.mix(self._raw(u) / self.scales).var(axis=0).mean())


def pair_system(
    nodes: int = 5,
    *,
    seed: int,
    mechanisms: PairMechanisms = "linear",
    noise: PairNoise = "gaussian",
    mixing: PairMixing = "rotation",
    edges: float = 0.5,
    standardised: bool = False,
    observed: int | None = None,
) -> PairSystem:
    """A random system of causal variables that only a mixing of them is observed of.

    Each pair of nodes in a hidden order is an edge with the chance ``edges``.

    Parameters
    ----------
    nodes : int
        At least 2; they are z0, z1, ..., in an order that tells nothing of the causal one.
    seed : int
    mechanisms : {"linear", "tanh", "mlp", "location-scale"}
        ``linear``: z_j = sum_k w_k z_k + u_j, w = sign(a) (1 + 0.3 b) with standard normal a and b; variances grow along the
        order. Others as in `latentcause.datasets.pairs.mechanisms`: parents explain a variance of 1, and noise adds about 1.
    noise : {"gaussian", "laplace", "uniform", "skewed"}
        Of mean 0 and variance 1; the skewed one is a gamma of shape 2 (skewness 1.41).
    mixing : {"rotation", "mlp", "flow", "linear"}
        ``rotation``: the exponential of a random skew-symmetric matrix; ``mlp``: three invertible layers with smooth leaky units;
        ``flow``: four couplings; ``linear``: a matrix whose columns' lengths spread evenly, in logarithms, from 1 to 20.
    edges : float
    standardised : bool
        Divide every z_j by its standard deviation (over 20,000 draws), so that scales say nothing of the order. Interventions set
        z_j ~ N(0, 1) in either case. Without it, standard deviations of linear systems with half of all edges reach some
        hundreds at 32 nodes and 1e5 at 64, where variables of scale 1 drown: choose fewer edges too.
    observed : int, optional
        How many numbers x has; as many as nodes by default, else more: then x fills a plane or curved surface.

    Raises
    ------
    ValueError
        For an unknown kind, fewer than 2 nodes, a share of edges outside [0, 1], or fewer observed numbers than nodes.
    """
    for given, kinds in ((mechanisms, PairMechanisms), (noise, PairNoise), (mixing, PairMixing)):
        if given not in get_args(kinds):
            raise ValueError(f"unknown kind {given!r}: choose one of {', '.join(get_args(kinds))}")
    n_observed = nodes if observed is None else observed
    if nodes < 2 or not 0 <= edges <= 1 or n_observed < nodes:
        raise ValueError(
            f"{nodes} nodes, a share {edges:g} of edges, {n_observed} numbers observed: give 2 nodes or more, a share in "
            "[0, 1], and at least as many numbers as nodes"
        )
    rng = np.random.default_rng(seed)
    order = rng.permutation(nodes)
    adjacency = np.zeros((nodes, nodes), dtype=np.int64)
    adjacency[np.ix_(order, order)] = np.triu(rng.random((nodes, nodes)) < edges, 1)
    graph = CausalGraph.from_adjacency(adjacency, [f"z{j}" for j in range(nodes)])
    chosen: dict[int, PairMechanism] = {}
    raw = _noise(noise, (TRIAL, nodes), rng)
    for j in order.tolist():
        parents = raw[:, np.flatnonzero(adjacency[:, j])]
        chosen[j] = random_mechanism(mechanisms, parents, rng)
        raw[:, j] = chosen[j].value(parents, raw[:, j])
    scales = raw.std(axis=0) if standardised else np.ones(nodes)
    mixed = random_mixing(mixing, n_observed, raw / scales, rng)
    return PairSystem(graph, tuple(chosen[j] for j in range(nodes)), noise, mixed, n_observed, scales)


def _noise(family: PairNoise, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    match family:
        case "gaussian":
            return rng.standard_normal(shape)
        case "laplace":
            return rng.laplace(0, np.sqrt(0.5), shape)
        case "uniform":
            return rng.uniform(-np.sqrt(3), np.sqrt(3), shape)
        case "skewed":
            return (rng.gamma(2.0, 1.0, shape) - 2) / np.sqrt(2)


def _random_targets(n: int, nodes: int, at_once: int, none: bool, rng: np.random.Generator) -> np.ndarray:
    """Which nodes each intervention hits: bool (n, nodes), ``at_once`` of them, or none of them in some rows."""
    if at_once == 1:
        hit = rng.integers(nodes, size=n)[:, None] == np.arange(nodes)
    else:
        hit = rng.random((n, nodes)).argsort(axis=1).argsort(axis=1) < at_once
    if none:
        untouched = rng.random(n) < 1 / (nodes + 1)
        untouched[0] &= not untouched.all()  # pairs without a single intervention would be none
        hit &= ~untouched[:, None]
    return hit


def _named_targets(hit: np.ndarray, names: Sequence[str]) -> tuple[TrueTarget, ...]:
    _, first, row = np.unique(np.packbits(hit, axis=1), axis=0, return_index=True, return_inverse=True)
    named: list[TrueTarget] = []
    for mask in hit[first]:
        several = tuple(sorted(name for name, is_hit in zip(names, mask, strict=True) if is_hit))
        named.append(several if len(several) > 1 else several[0] if several else NONE)
    return tuple(named[k] for k in row.reshape(-1).tolist())


def _swap_some(n: int, share: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Whose ``after`` each pair gets (n,), and whether it is another's (n,): a share of the pairs pass theirs round."""
    count = round(share * n)
    count = 2 if count == 1 else count  # one alone has nobody to change with
    chosen = rng.permutation(n)[:count]
    rows = np.arange(n)
    rows[chosen] = np.roll(chosen, 1)
    return rows, rows != np.arange(n)


def _check_draw(n: int, softness: float, measurement: float, wrong: float, at_once: int, nodes: int) -> None:
    if n < 2:
        raise ValueError(f"{n} pairs: draw at least 2")
    for name, share in (("softness", softness), ("wrong", wrong)):
        if not 0 <= share <= 1:
            raise ValueError(f"{name}={share:g} is no share: give a number in [0, 1]")
    if not 0 <= measurement < np.inf:
        raise ValueError(f"measurement={measurement:g} is no share of a variance: give a number of at least 0")
    if not 1 <= at_once <= nodes:
        raise ValueError(f"targets_at_once={at_once} of {nodes} variables: give 1 to {nodes}")
