"""What a model of pairs is worth on pairs that it was not fitted to, and the report of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from latentcause import plots
from latentcause.data.intervention_pairs import InterventionPairs
from latentcause.data.labels import listing
from latentcause.data.pair_targets import NONE
from latentcause.discovery.cpdag import CPDAG
from latentcause.graph import CausalGraph
from latentcause.image_plots import image_rows
from latentcause.models.dcrl import DCRL
from latentcause.models.noisy_linear_pairs import NoisyLinearPairs
from latentcause.models.pairs.linear_reading import LinearReading
from latentcause.models.pairs.observations import halves
from latentcause.models.pairs.pair_model import PairModel
from latentcause.pair_plots import moves, weighted_graph
from latentcause.report import Report

EXAMPLES = 8  # pairs of images that are shown

Table = tuple[list[str], list[list[str]]]


class Edge(NamedTuple):
    """One edge: kind ``->``, or ``-`` where the direction is open; weight and effect of linear mechanisms only."""

    a: str
    kind: str
    b: str
    weight: float | None
    effect: float | None
    p_value: float | None


@dataclass(frozen=True)
class FoundGraph:
    """The graph of the latents and what is known of its edges.

    Attributes
    ----------
    graph : CausalGraph or CPDAG
        The latter where the pairs leave a direction open.
    edges : list of Edge
    is_linear : bool
    """

    graph: CausalGraph | CPDAG
    edges: list[Edge]
    is_linear: bool

    @classmethod
    def of(cls, model: PairModel) -> FoundGraph:
        """As the model's ``reading_`` has it."""
        reading = model.reading_
        if isinstance(reading, LinearReading):
            at = {node: number for number, node in enumerate(model.names_)}
            edges = []
            for a, b in reading.graph.edges:
                entry = at[b], at[a]
                values = (float(values[entry]) for values in (reading.weights, reading.effects, reading.p_values))
                edges.append(Edge(a, "->", b, *values))
            return cls(reading.graph, edges, True)
        cpdag = reading.cpdag
        directed = [Edge(a, "->", b, None, None, _p_value(reading.p_values, a, b)) for a, b in cpdag.directed]
        undirected = [Edge(a, "-", b, None, None, None) for a, b in cpdag.undirected]
        return cls(cpdag if undirected else reading.dag(), [*directed, *undirected], False)

    @property
    def columns(self) -> list[str]:
        """Of a table of the edges."""
        return list(Edge._fields)


@dataclass(frozen=True)
class HeldOut:
    """Measured on held-out pairs.

    Attributes
    ----------
    pairs : int
    predicted : dict from target to float or None
        Of the pairs with that likeliest target: 1 - |x~ - f(x)|^2 / |x~ - x|^2, with f the counterfactual under do(target = its
        value in x~), columns (but not pixels) in units of their sd. None where no such pair changed.
    known, right : int
        Pairs with a known target, and those among them whose target is found when it is not told.
    examples : dict from row's name to images (n, c, h, w)
    """

    pairs: int
    predicted: dict[str, float | None]
    known: int
    right: int
    examples: dict[str, np.ndarray]


def measure_held_out(model: PairModel, tested: InterventionPairs) -> HeldOut:
    """Predict every ``after`` from its ``before`` and one number, the new value of the target."""
    before, after = halves(tested)
    changed = model.mixture_.of_pairs(model.noise(before).to_numpy(), model.noise(after).to_numpy())
    labels = model.infer_targets(tested).columns
    found = np.array([labels[-1], *labels[:-1]], dtype=object)[changed.argmax(axis=1)]  # the first hypothesis is "none"
    x, x_after = tested.before.astype(np.float64), tested.after.astype(np.float64)
    predicted, variables = x.copy(), model.encode(after)
    for target in set(found) - {NONE}:
        rows = np.flatnonzero(found == target)
        do = {name: variables[name].to_numpy()[rows] for name in target.split(";")}
        predicted[rows] = model.counterfactual(x[rows], do)
    unit = 1.0 if tested.is_images else np.maximum(np.concatenate([x, x_after]).std(axis=0), 1e-12)
    error = (((predicted - x_after) / unit) ** 2).reshape(len(x), -1).sum(axis=1)
    change = (((x_after - x) / unit) ** 2).reshape(len(x), -1).sum(axis=1)
    shares = {
        str(target): float(1 - error[found == target].sum() / change[found == target].sum())
        if change[found == target].any()
        else None
        for target in labels
        if target != NONE
    }
    told = [(";".join(t) if isinstance(t, tuple) else t, f) for t, f in zip(tested.targets, found, strict=True) if t]
    shown = slice(0, EXAMPLES)
    examples = {"before": x[shown], "after": x_after[shown], "predicted": predicted[shown]} if tested.is_images else {}
    return HeldOut(len(tested), shares, len(told), sum(_same(a, b) for a, b in told), examples)


def state_of(model: PairModel) -> str:
    """Whether the fit settled, and which latents speak against it."""
    if model.converged_:
        return "converged"
    doubts = [
        f"{what}: {listing(names)}"
        for what, names in (("never hit", model.unhit_), ("several in one", model.mixed_))
        if names
    ]
    return "not converged" + (f" ({'; '.join(doubts)})" if doubts else "")


def latent_table(model: PairModel, table: pd.DataFrame, found: HeldOut) -> Table:
    """Header and rows: for each target the pairs it was hit in, how sure that is, and how much of the change it predicts."""
    header = ["target", "likeliest in", "mean probability", "change predicted", "state"]
    rows = []
    for target in [*found.predicted, NONE]:
        own = table["target"] == target
        share = found.predicted.get(target)
        doubts = {"never hit": target in model.unhit_, "several in one": target in model.mixed_}
        rows.append(
            [
                target,
                str(int(own.sum())),
                f"{table['probability'][own].mean():.3f}" if own.any() else "",
                "" if share is None else f"{share:.3f}",
                ", ".join(name for name, is_so in doubts.items() if is_so) or ("" if target == NONE else "fine"),
            ]
        )
    return header, rows


def edge_table(graph: FoundGraph) -> Table:
    """Header and rows, an edge each; the strongest first where mechanisms are linear."""
    if not graph.is_linear:
        rows = [[f"{edge.a} {edge.kind} {edge.b}", _short(edge.p_value)] for edge in graph.edges]
        return ["edge", "p-value"], rows
    edges = sorted(graph.edges, key=lambda edge: -(edge.effect or 0.0))
    rows = [[f"{e.a} {e.kind} {e.b}", f"{e.weight:.3f}", f"{e.effect:.3f}", _short(e.p_value)] for e in edges]
    return ["edge", "weight", "effect", "p-value"], rows


def pairs_report(
    model: PairModel,
    training: InterventionPairs,
    found: HeldOut,
    graph: FoundGraph,
    table: pd.DataFrame,
    source: str,
    notes: list[str],
) -> Report:
    """The report to read after ``latentcause fit`` of pairs."""
    kind = f"images of {' x '.join(map(str, training.shape))}" if training.is_images else f"{training.size} columns"
    lead = (
        f"{type(model).__name__} fitted to {len(training)} pairs of {kind} in {source}, and measured on {found.pairs} that it has "
        f"not seen. {len(model.names_)} latent variables, {len(graph.edges)} edges; {state_of(model)}."
    )
    report = Report("Causal variables from pairs", lead)
    if notes:
        report.section("Notes").items(notes)
    report.section(
        "What was hit",
        "For how many pairs each latent is the likeliest target, and the mean probability of it there. Change predicted is "
        "measured on held-out pairs: the share of the squared change from before to after that the model foretells from the "
        "observation before and one number, the target's new value; 1 is all of it, 0 is no better than no change. A latent that "
        "is never hit, or that is several in one, is not a causal variable: do not read a cause into it. Latents come in no "
        "order, and with no sign: their unit is the standard deviation that an intervention gives them.",
    ).table(*latent_table(model, table, found))
    if found.known:
        report.text(f"Of {found.known} held-out pairs with known targets, {found.right} are found without being told.")
    if isinstance(model, NoisyLinearPairs):
        bars = zip(model.names_, np.sqrt(model.latent_variances_), strict=True)
        known = ", ".join(f"{name} +-{sd:.2g}" for name, sd in bars)
        report.text(
            f"Observations are measured with errors. What one of them tells of each variable, with its sd: {known}."
        )
    first, second = halves(training)
    targets = model.infer_targets(training).idxmax(axis=1).astype(str).to_list()
    report.section("Whose code moved").figure(
        "moves",
        moves(model.noise(second) - model.noise(first), targets),
        "Moves of each noise code, in pairs that hit it and in all others: the further apart, the surer the targets",
    )
    _add_graph(report, graph)
    if found.examples:
        report.section("Examples").figure(
            "examples",
            image_rows(found.examples),
            "Held-out pairs, and what was predicted of each from the image before and the target's new value",
        )
    if isinstance(model, DCRL):
        course = plots.history(model.history_, "train_loss")
        course.set_xlabel("epoch")
        report.section("Course of the fit").figure(
            "history",
            course,
            "Loss in training: steps where its phases change; where it still falls at the end, allow more steps",
        )
    return report


def _add_graph(report: Report, graph: FoundGraph) -> None:
    drawn = graph.graph
    report.section("Causal graph")
    if isinstance(drawn, CPDAG):
        report.figure("graph", drawn.plot(), "The graph of the latents; a plain line: the direction is open")
    else:
        weights = {(edge.a, edge.b): edge.weight for edge in graph.edges if edge.weight is not None}
        report.figure(
            "graph",
            weighted_graph(drawn, weights),
            "The graph of the latents, with weights where mechanisms are linear",
        )
    if graph.edges:
        caption = (
            "Weight: of the cause in the effect. Effect: what one standard deviation of the cause moves, in standard deviations "
            "of the effect"
        )
        report.table(*edge_table(graph), caption if graph.is_linear else "")
    else:
        report.text("There are no edges: as far as the pairs show, no latent causes another.")


# --- inside ----------------------------------------------------------------------------------------------------------


def _p_value(p_values: pd.DataFrame, a: str, b: str) -> float | None:
    value = float(p_values.to_numpy()[p_values.index.get_loc(a), p_values.columns.get_loc(b)])
    return None if np.isnan(value) else value


def _short(p_value: float | None) -> str:
    return "" if p_value is None else f"{p_value:.2g}"


def _same(told: str, found: str) -> bool:
    return set(told.split(";")) == set(found.split(";"))
