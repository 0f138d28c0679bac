"""What a model of images is worth on images that it was not fitted to, and the report of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from latentcause import plots
from latentcause.data.labelled_images import LabelledImages
from latentcause.image_plots import image_rows
from latentcause.models.causal_diffae import CausalDiffAE
from latentcause.report import Report

ANSWERED = 32  # held-out images at most that are asked for counterfactuals: each takes many passes of the network
MOST_ACTED_ON = 6  # factors that the examples act on
LOW, HIGH = 0.1, 0.9  # quantiles of the labels that the examples set a factor to

Table = tuple[list[str], list[list[str]]]


@dataclass(frozen=True)
class HeldOut:
    """Measured on held-out images.

    Attributes
    ----------
    labels, encoded : DataFrame
        Factors as labelled, and as the encoder finds them.
    errors : dict from factor to dict
        ``error`` of the encoder and of the ``floor``, a constant guess: the mean absolute error in own units, of a category the
        share that is wrong.
    null_error : float
        Mean absolute difference of pixels between images and their counterfactuals under no intervention.
    spread : float
        The same between one image and another.
    examples : dict from row's name to images (n, c, h, w)
    interventions : list of dict
        What was set, and per factor the ``error`` between what the encoder finds in the answers and what was predicted.
    """

    labels: pd.DataFrame
    encoded: pd.DataFrame
    errors: dict[str, dict[str, Any]]
    null_error: float
    spread: float
    examples: dict[str, np.ndarray]
    interventions: list[dict[str, Any]]


def measure_held_out(model: CausalDiffAE, training: LabelledImages, tested: LabelledImages) -> HeldOut:
    """Encode the held-out images, answer null and real interventions on the first of them, and compare."""
    nodes = list(model.graph_.nodes)
    labels, known = tested.labels[nodes], training.subset(training.labelled).labels[nodes]
    encoded = model.encode(tested)
    errors = {name: _encoding_error(encoded[name], labels[name], known[name]) for name in nodes}
    few = tested.subset(slice(0, ANSWERED))
    noise = model.invert(few)  # once for all that is asked: it takes most of the time
    null = model.decode(model.encode(few), noise, guidance=1.0)
    examples = {"held out": few.pixels, "no change": null}
    interventions = []
    for do in _example_interventions(model, known):
        predicted = model.counterfactual_factors(few, do)
        answers = model.decode(predicted, noise, guidance=1.0)
        seen = model.encode(answers)
        name = ", ".join(f"{node} = {_short(value)}" for node, value in do.items())
        examples[f"do({name})"] = answers
        interventions.append({"do": name, "error": {node: _difference(seen[node], predicted[node]) for node in nodes}})
    return HeldOut(
        labels=labels,
        encoded=encoded,
        errors=errors,
        null_error=float(np.abs(null - few.pixels).mean()),
        spread=float(np.abs(tested.pixels - np.roll(tested.pixels, 1, axis=0)).mean()),
        examples=examples,
        interventions=interventions,
    )


def factor_table(found: HeldOut) -> Table:
    """Header and rows: the encoder's error for every factor, beside that of a constant guess."""
    header = ["factor", "measure", "encoder", "constant guess"]
    rows = [
        [name, entry["measure"], f"{entry['error']:.3g}", f"{entry['floor']:.3g}"]
        for name, entry in found.errors.items()
    ]
    return header, rows


def image_report(
    model: CausalDiffAE, training: LabelledImages, found: HeldOut, source: str, notes: list[str]
) -> Report:
    """The report to read after ``latentcause fit --method causal-diffae``."""
    shape = " x ".join(map(str, model.image_shape_))
    lead = (
        f"{type(model).__name__} fitted to {len(training)} images of {shape} in {source} "
        f"({int(training.labelled.sum())} of them labelled), and measured on {len(found.labels)} that it has not seen."
    )
    report = Report("Counterfactual images", lead)
    if notes:
        report.section("Notes").items(notes)
    report.section(
        "What the encoder finds",
        "The factors of images that the model has not seen, against their labels, in the labels' units. A constant guess says the "
        "median (of a category, the most common level) of the labels learned from: an encoder that is no better has learned "
        "nothing about that factor.",
    ).table(*factor_table(found))
    report.section("Causal graph").figure("graph", plots.graph(model.graph_), "The given causal graph of the factors")
    report.section(
        "Examples",
        "Held-out images; the same after an intervention that changes nothing, which shows what is lost on the way through the "
        f"model (a pixel changes by {found.null_error:.2g} on average; from one image to another by {found.spread:.2g}); and "
        "what they would have been with one factor set low or high. The factors below it in the graph follow.",
    ).figure("examples", image_rows(found.examples), "Held-out images and their counterfactuals, one column each")
    if found.interventions:
        header = ["intervention", *model.graph_.nodes]
        rows = [[entry["do"], *(f"{error:.3g}" for error in entry["error"].values())] for entry in found.interventions]
        report.section(
            "Does the answer hold what was asked?",
            "How far the factors that the encoder finds in the answers are from those that they should hold, in the measures of "
            "the first table. The model is its own judge here, and a lenient one: where there is another instrument, measure "
            "the answers with that.",
        ).table(header, rows)
    course = plots.history(model.history_, "train_loss")
    course.set_xlabel("epoch")
    report.section("Course of the fit").figure(
        "history", course, "Loss in training; where it still falls at the end, allow more epochs"
    )
    return report


# --- inside ----------------------------------------------------------------------------------------------------------


def _example_interventions(model: CausalDiffAE, labels: pd.DataFrame) -> list[dict[str, Any]]:
    """One factor low, and high, for every factor whose effects on an image are determined (no category follows it)."""
    chosen: list[dict[str, Any]] = []
    for name in model.graph_.nodes[:MOST_ACTED_ON]:
        if any(node in model.scm_.levels for node in model.graph_.descendants(name)):
            continue
        if name in model.scm_.levels:
            levels = model.scm_.levels[name]
            chosen += [{name: levels[0]}, {name: levels[-1]}]
        else:
            chosen += [{name: float(f"{labels[name].quantile(share):.3g}")} for share in (LOW, HIGH)]
    return chosen


def _encoding_error(found: pd.Series, labels: pd.Series, known: pd.Series) -> dict[str, Any]:
    numeric = pd.api.types.is_float_dtype(labels)
    guess = known.median() if numeric else known.mode().iloc[0]
    return {
        "measure": "mean absolute error" if numeric else "share wrong",
        "error": _difference(found, labels),
        "floor": _difference(pd.Series([guess] * len(labels), dtype=labels.dtype), labels),
    }


def _difference(found: pd.Series, wanted: pd.Series) -> float:
    """Mean absolute difference, of categories the share that differs."""
    if pd.api.types.is_float_dtype(wanted):
        return float(np.abs(found.to_numpy() - wanted.to_numpy()).mean())
    return float((found.astype(object).to_numpy() != wanted.astype(object).to_numpy()).mean())


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
