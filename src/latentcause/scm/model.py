"""Structural causal models: one mechanism per node of a causal graph; sample them, intervene on them, ask what if."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
import pandas as pd
import torch

from latentcause.data.variables import Variables
from latentcause.graph import CausalGraph
from latentcause.graph_text import Edge
from latentcause.scm import counterfactuals, density, pictures, simulation
from latentcause.scm.categorical import levels_of
from latentcause.scm.effects import Effect, Outcome, estimate_effect
from latentcause.scm.fitting.nodes import FitSettings, fit_nodes, fit_settings
from latentcause.scm.interventions import Intervention, checked_actions, refuse_unknown
from latentcause.scm.mechanisms import AdditiveMechanism, Mechanism
from latentcause.scm.minimality import edge_tests
from latentcause.scm.noise import GaussianNoise

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

if TYPE_CHECKING:
    pass


class StructuralCausalModel:
    """A causal graph with a mechanism at every node.

    z_j = f_j(z_pa(j), u_j) for all nodes j, noises u_j independent (Pearl, *Causality*, 2nd edition, Eq. 1.40). Give the
    mechanisms, or learn them from data with `StructuralCausalModel.fit`. Arrays hold nodes as columns, in ``graph.nodes``
    order; categories are codes 0..K-1 in them, and levels by name in data frames and in do().

    Parameters
    ----------
    graph : CausalGraph
    mechanisms : mapping from node to Mechanism
        One for every node of the graph.
    levels : mapping from node to levels, optional
        Names of the levels of every node that is a category, in the order of the codes; 0..K-1 where left out.

    Attributes
    ----------
    graph, mechanisms, levels
    settings : FitSettings or None
        How `fit` learned the mechanisms; None where they were given.

    Raises
    ------
    ValueError
        If a node has no mechanism, a mechanism or levels belong to no node, or the number of levels is not the mechanism's.

    Examples
    --------
    >>> from latentcause.scm import LinearMechanism, Shift
    >>> graph = CausalGraph.from_string("x -> y")
    >>> scm = StructuralCausalModel(graph, {"x": LinearMechanism(), "y": LinearMechanism((2.0,), intercept=1.0)})
    >>> scm.counterfactual(np.array([[1.0, 3.5]]), do={"x": 2.0})
    array([[2. , 5.5]])
    >>> scm.effect("y", do={"x": 1.0}, versus={"x": 0.0}).value
    2.0
    """

    def __init__(
        self,
        graph: CausalGraph,
        mechanisms: Mapping[str, Mechanism],
        levels: Mapping[str, Sequence[Hashable]] | None = None,
    ) -> None:
        missing = [node for node in graph.nodes if node not in mechanisms]
        if missing:
            raise ValueError(f"no mechanism for node {missing[0]!r}: give one for each of {list(graph.nodes)}")
        refuse_unknown(graph, mechanisms, "a mechanism is given for")
        self.graph = graph
        self.mechanisms = {node: mechanisms[node] for node in graph.nodes}
        self.levels = _checked_levels(graph, self.mechanisms, levels or {})
        self.settings: FitSettings | None = None

    @classmethod
    def fit(
        cls,
        graph: CausalGraph,
        frame: Any,
        *,
        mechanisms: str | Mapping[str, str] = "linear",
        noise: str = "empirical",
        seed: int = 0,
    ) -> Self:
        """Learn the mechanism of every node from data.

        Nodes that are categories (text, bool or category dtype) get a multinomial logit in their parents by maximum
        likelihood. Nodes without parents get their mean, and noise. A parent of more than two levels enters as indicators.

        Parameters
        ----------
        graph : CausalGraph
        frame : DataFrame, Variables, or array (n, number of nodes)
            One column per node; other columns of a frame are ignored. The columns of an array follow ``graph.nodes``.
        mechanisms : str or mapping from node to str
            Kind of mechanism, of all nodes or by node (nodes left out are linear): one of
            `latentcause.scm.fitting.KINDS`.
        noise : {"empirical", "gaussian", "kernel"}
            What the centred residuals become: themselves, drawn with replacement; a normal; a kernel density estimate.
        seed : int
            Of kinds that draw random numbers.

        Raises
        ------
        ValueError
            For a node without a column, missing or infinite values, constant or duplicated columns, a category with one
            level, fewer rows than columns, collinear parents of a linear mechanism, an unknown node or kind, or a kind
            asked for a category. The message names the column.
        """
        variables = Variables.read(frame, graph.nodes).require_variation()
        settings = fit_settings(graph, variables.levels, mechanisms, noise, seed)
        model = cls(graph, fit_nodes(graph, variables, settings, graph.nodes), variables.levels)
        model.settings = settings
        return model

    def __repr__(self) -> str:
        kinds = sorted({type(m).__name__ for m in self.mechanisms.values()})
        return f"StructuralCausalModel({self.graph}; {', '.join(kinds)})"

    @property
    def gaussian_mechanisms(self) -> dict[str, AdditiveMechanism]:
        """The mechanisms, all of them additive with Gaussian noise, which exact posteriors of latents rely on.

        Raises
        ------
        ValueError
            If one of them is not.
        """
        for node, mechanism in self.mechanisms.items():
            if not (isinstance(mechanism, AdditiveMechanism) and isinstance(mechanism.noise, GaussianNoise)):
                raise ValueError(
                    f"node {node!r} has {mechanism}: posteriors of latents need additive mechanisms with Gaussian noise"
                )
        return cast(dict[str, AdditiveMechanism], self.mechanisms)

    def replace(self, mechanisms: Mapping[str, Mechanism]) -> StructuralCausalModel:
        """The model after an intervention that puts these mechanisms in place of its own (paper Definition 3.4)."""
        refuse_unknown(self.graph, mechanisms, "a mechanism is given for")
        return StructuralCausalModel(self.graph, {**self.mechanisms, **mechanisms}, self.levels)

    # --- questions ---------------------------------------------------------------------------------------------------

    def sample(
        self, n: int, do: Mapping[str, Intervention] | None = None, *, generator: torch.Generator | int
    ) -> np.ndarray:
        """Draw n independent rows (n, number of nodes), columns in ``graph.nodes`` order; `to_frame` names them.

        Parameters
        ----------
        n : int
        do : mapping from node to intervention, optional
            A number or an array of n numbers fixes the node, for a category a level or n levels (hard intervention);
            `Shift` adds to what the node's own mechanism gives; a `Mechanism` replaces it (stochastic intervention).
        generator : torch.Generator or int
            Source of randomness, or a seed. Each node draws from its own stream, so a do() on one node leaves the
            noise of all others as it was, and the same seed gives the same sample whatever was drawn before.

        Raises
        ------
        ValueError
            If ``do`` names an unknown node or level, a value that is not finite, or an array of another length than n.
        """
        if n < 0:
            raise ValueError(f"n is {n}: give the number of rows to draw")
        actions = checked_actions(do, self.graph, self.levels, n)
        return simulation.simulate(self.graph, self.mechanisms, actions, n, generator).T.numpy()

    def counterfactual(self, rows: Any, do: Mapping[str, Intervention]) -> Any:
        """What these rows would have been under do(): abduct the noise, act, predict (Pearl 2009, Theorem 7.1.7).

        Only nodes that descend from an intervened node, and are not set themselves, need their noise; all others keep
        their values. So a mechanism that can't be inverted matters only there.

        Parameters
        ----------
        rows : DataFrame or array (n, number of nodes)
            Columns of a frame go by name, others are ignored; those of an array follow ``graph.nodes``.
        do : mapping from node to intervention
            Numbers or levels, one for all rows or one per row, or `Shift`.

        Returns
        -------
        DataFrame or ndarray (n, number of nodes), as ``rows``
            The frame has the same index, and the nodes as columns.

        Raises
        ------
        ValueError
            For a missing column or value, an unknown node or level, a `Mechanism` as intervention (what it draws is not
            determined by the row), and where a mechanism that has to be inverted can't be; the message names the node.
        """
        variables = self.read(rows)
        actions = checked_actions(do, self.graph, self.levels, len(variables))
        factual = torch.tensor(variables.values.T)
        values = counterfactuals.answer(self.graph, self.mechanisms, factual, actions).T.numpy()
        return variables.to_frame(values, rows.index, copy=False) if isinstance(rows, pd.DataFrame) else values

    def log_density(self, rows: Any, do: Mapping[str, Intervention] | None = None) -> np.ndarray:
        """Log density (n,) of the rows, in nats, as the sum over nodes of log p(z_j | z_pa(j)).

        Under do(), nodes that are set drop out of the sum, and rows with another value there have density zero (truncated
        factorisation, Pearl 2009, Eq. 3.10). Categories count with their probabilities.

        Raises
        ------
        ValueError
            Where a node has no density, such as one with empirical noise; the message names it.
        """
        variables = self.read(rows)
        actions = checked_actions(do, self.graph, self.levels, len(variables))
        return density.log_density(self.graph, self.mechanisms, torch.tensor(variables.values.T), actions).numpy()

    def effect(
        self,
        outcome: Outcome,
        do: Mapping[str, Intervention],
        versus: Mapping[str, Intervention] | None = None,
        *,
        rows: Any = None,
        data: Any = None,
        level: float = 0.9,
        resamples: int = 200,
        draws: int = 10_000,
        generator: torch.Generator | int = 0,
    ) -> Effect:
        """Average effect E[outcome | do] - E[outcome | versus], with a bootstrap interval where ``data`` are given.

        Closed form where all mechanisms that matter are linear; else the mean over paired draws, which have the same noise
        in both arms. With ``rows`` it is the conditional effect: the mean over these rows of the outcome's counterfactual
        under ``do`` minus that under ``versus``.

        Parameters
        ----------
        outcome : str or (str, level)
            A node; for a category the node and one of its levels, whose probability is the outcome then.
        do, versus : mapping from node to intervention
            As in `sample` (with ``rows``: as in `counterfactual`), arrays only with ``rows``. By default ``versus`` is no
            intervention.
        rows : DataFrame or array, optional
            As in `counterfactual`.
        data : DataFrame or array, optional
            What the model was fitted to. The model is fitted again, with its own settings, to ``resamples`` draws of as many
            rows with replacement, and the interval holds the central share ``level`` of their effects, slightly expanded for
            small n (percentile intervals: Efron 1979; Hesterberg 2015, "What teachers should know about the bootstrap").
            Linear models are refitted all at once.
        level : float
        resamples : int
        draws : int
            Pairs of rows drawn per effect, where there is no closed form.
        generator : torch.Generator or int
            Source of randomness, or a seed.

        Raises
        ------
        ValueError
            For what `sample` and `counterfactual` refuse, an unknown outcome or level, and ``data`` for a model whose
            mechanisms were given.
        """
        return estimate_effect(
            self,
            outcome,
            do,
            versus,
            rows=rows,
            data=data,
            level=level,
            resamples=resamples,
            draws=draws,
            generator=generator,
        )

    # --- structural minimality, pictures -----------------------------------------------------------------------------

    def redundant_parents(self, data: Any, alpha: float = 0.05) -> pd.DataFrame:
        """Test for every edge whether the node's mechanism uses that parent at all, given the node's other parents.

        A structural causal model is minimal where every mechanism depends on all its parents (Peters, Janzing and
        Schoelkopf, *Elements of Causal Inference*, Remark 6.6). Linear mechanisms get an F-test, categories a likelihood-ratio
        test. Other kinds are fitted with and without the parent to four fifths of the rows, five times over, and a
        one-sided Wilcoxon signed-rank test compares their squared errors on the held-out rows.

        Parameters
        ----------
        data : DataFrame or array
            What the model was fitted to.
        alpha : float
            An edge whose p-value is larger counts as redundant. The tests are one by one, with no correction for their number.

        Returns
        -------
        DataFrame
            One row per edge: ``parent``, ``node``, ``test``, ``p_value``, ``drop`` (what R^2 loses without the parent; for a
            category McFadden's pseudo-R^2), ``redundant``. Of two parents that say nearly the same, each may be redundant
            given the other: drop one edge, then test again.

        Raises
        ------
        ValueError
            For a model whose mechanisms were given, and for too few rows.
        """
        return edge_tests(self, self.read(data), alpha)

    def drop(self, edges: Iterable[Edge], data: Any) -> StructuralCausalModel:
        """The model on the graph without these edges (parent, node), fitted to ``data`` with this model's settings.

        Raises
        ------
        ValueError
            For an edge that the graph does not have, and for a model whose mechanisms were given.
        """
        gone = [tuple(edge) for edge in edges]
        unknown = [edge for edge in gone if edge not in self.graph.edges]
        if unknown:
            raise ValueError(f"{unknown[0]} is not an edge of the graph: its edges are {list(self.graph.edges)}")
        if self.settings is None:
            raise ValueError("the mechanisms of this model were given, so it can't be fitted again")
        graph = CausalGraph(self.graph.nodes, tuple(edge for edge in self.graph.edges if edge not in gone))
        settings = self.settings
        return type(self).fit(
            graph, self.read(data), mechanisms=settings.kinds, noise=settings.noise, seed=settings.seed
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the graph."""
        return self.graph.plot(ax)

    def plot_mechanisms(self, data: Any) -> Figure:
        """How every node depends on each of its parents, the other parents at their median or commonest level.

        A panel per edge: the mechanism's mean over the data (the first 500 rows), or the probabilities of a category.

        Raises
        ------
        ValueError
            If the graph has no edges, and for data that `read` refuses.
        """
        return pictures.mechanisms(self, self.read(data))

    # --- tables ------------------------------------------------------------------------------------------------------

    def read(self, rows: Any) -> Variables:
        """The rows as a checked table with one column per node, categories as codes of the model's levels.

        Parameters
        ----------
        rows : DataFrame or array (n, number of nodes)
            Categories of a frame are levels, those of an array are codes.

        Raises
        ------
        ValueError
            For a missing column, a missing or infinite value, or an unknown level or code.
        """
        if isinstance(rows, (pd.DataFrame, Variables)):
            return Variables.read(rows, self.graph.nodes, self.levels)
        return Variables(self.graph.nodes, np.asarray(rows), self.levels)

    def to_frame(self, values: Any, index: Any = None) -> pd.DataFrame:
        """Rows (n, number of nodes) of `sample` as a DataFrame with the nodes as columns and codes turned into levels."""
        return Variables(self.graph.nodes, np.asarray(values), self.levels).to_frame(index=index)

    # --- files -------------------------------------------------------------------------------------------------------

    def get_params(self, deep: bool = False) -> dict[str, Any]:
        """The constructor's arguments, which `latentcause.save` writes."""
        return {"graph": self.graph, "mechanisms": self.mechanisms, "levels": self.levels}

    def fitted_state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """The settings of the fit; mechanisms are among the parameters."""
        return {}, {"settings": self.settings}

    def restore_state(self, arrays: dict[str, np.ndarray], values: dict[str, Any]) -> None:
        """Set what ``fitted_state`` gave."""
        self.settings = values["settings"]


def _checked_levels(
    graph: CausalGraph, mechanisms: Mapping[str, Mechanism], levels: Mapping[str, Sequence[Hashable]]
) -> dict[str, tuple[Hashable, ...]]:
    refuse_unknown(graph, levels, "levels are given for")
    checked: dict[str, tuple[Hashable, ...]] = {}
    for node, mechanism in mechanisms.items():
        count = levels_of(mechanism)
        if count or node in levels:
            checked[node] = tuple(levels.get(node, range(count)))
            if count and len(checked[node]) != count:
                raise ValueError(f"node {node!r} has {count} levels, but {len(checked[node])} names are given for them")
    return checked
