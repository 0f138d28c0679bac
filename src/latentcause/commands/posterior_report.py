"""The report of ``latentcause posterior``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from latentcause.commands.posterior_check import HEADER, Predicted
from latentcause.commands.posterior_config import PosteriorConfig
from latentcause.commands.posterior_problem import Problem
from latentcause.fields import GaussianFields
from latentcause.plots import graph as graph_picture
from latentcause.posterior_plots import calibration, maps
from latentcause.report import Report

if TYPE_CHECKING:
    import xarray as xr

NODE_HEADER = ["node", "values", "mean", "sd", "prior sd", "above threshold"]
MOST_LINES, FEWEST_CELLS = 5, 30  # of the calibration plot: observations with a line of their own, and cells that takes


def node_rows(problem: Problem, summary: xr.Dataset, thresholds: Mapping[str, float]) -> list[list[str]]:
    """For each node: values seen, mean over the map, root of the mean posterior and prior variance, expected share above."""
    prior, prior_sd = problem.prior, [""] * len(problem.graph)
    if prior is not None:
        own = np.array([kernel.variance for kernel in prior.kernels.values()])
        prior_sd = [f"{sd:.3g}" for sd in np.sqrt(np.square(prior.response.numpy()) @ own)]
    counts = dict.fromkeys(problem.graph.nodes, 0)
    for node, observation in problem.observations.per_node:
        counts[node] += len(observation.values)
    return [
        [
            node,
            str(counts[node]),
            f"{float(summary[f'{node}_mean'].mean()):.3g}",
            f"{float(np.sqrt(np.square(summary[f'{node}_sd']).mean())):.3g}",
            prior_sd[number],
            f"{100 * float(summary[f'{node}_exceedance'].mean()):.1f} %" if node in thresholds else "",
        ]
        for number, node in enumerate(problem.graph.nodes)
    ]


def prior_rows(prior: GaussianFields) -> dict[str, list[list[str]]]:
    """What the posterior was drawn with: kernel and intercept of each node, weight of each edge."""
    return {
        "nodes": [[node, str(kernel), f"{prior.intercepts[node]:.4g}"] for node, kernel in prior.kernels.items()],
        "weights": [[f"{a} -> {b}", f"{weight:.4g}"] for (a, b), weight in prior.weights.items()],
    }


def posterior_report(
    problem: Problem,
    config: PosteriorConfig,
    summary: xr.Dataset,
    predicted: Sequence[Predicted],
    samples: int,
    quick: bool,
    notes: Sequence[str],
) -> Report:
    """Maps, what the observations taught, the check by cells that were withheld, and what all was made from."""
    grid, observations = problem.observations.grid, problem.observations
    report = Report(
        "Posterior maps",
        f"{len(problem.graph)} fields of {' x '.join(map(str, grid.shape))} pixels given {len(observations.values)} values, "
        f"from {samples} samples of their joint posterior."
        + (
            " A quick look: few samples, and variances that may be off by a quarter, since steps were few."
            if quick
            else ""
        ),
    )
    report.section(
        "Maps",
        "Posterior mean and standard deviation of every field, and where there is a threshold the chance "
        "to be above it. They are in the folder as GeoTIFF.",
    )
    report.figure("maps", maps(summary), "Posterior maps: a row for each field.")
    report.table(
        NODE_HEADER,
        node_rows(problem, summary, config.thresholds),
        "values: cells seen; mean: over the map; sd, prior sd: root mean variance over the map after and before the "
        "observations; above threshold: expected share of the map.",
    )
    if config.thresholds:
        report.text("Thresholds: " + ", ".join(f"{node} {value:g}" for node, value in config.thresholds.items()) + ".")
    _add_check(report, predicted, config)
    report.section("What it was made from")
    report.figure("graph", graph_picture(problem.graph), "The causal graph.")
    report.items(repr(observations).splitlines()[1:])
    prior, settings = problem.prior, (config.causes or config.sampler).model_dump()
    if prior is not None:
        rows, said = prior_rows(prior), "Lengths are in pixels."
        if config.sampler.rounds:
            said += f" Fitted to all values, those that the check withholds among them, in {config.sampler.rounds} rounds at most."
        report.table(["node", "kernel of its own noise", "intercept"], rows["nodes"], said)
        if prior.weights:
            report.table(["edge", "weight"], rows["weights"])
    report.table(["setting", "value"], [[name, str(value)] for name, value in settings.items()])
    if notes:
        report.section("Notes").items(notes)
    return report


def _add_check(report: Report, predicted: Sequence[Predicted], config: PosteriorConfig) -> None:
    if not predicted:
        report.section("Check", "No cells were withheld, so nothing says whether the error bars hold.")
        return
    report.section(
        "Check",
        f"About {100 * config.check.share:g} % of the cells of each observation were left out, in fine rasters several neighbours "
        f"at a time, and predicted from {config.check.samples} samples given the rest: what these cells see, and noise. Where "
        "prior, noise and sampler are right, half of what was measured lies within the 50 % interval and 90 % within the 90 % "
        "interval; with few cells the shares stray by chance.\n\n"
        "The CRPS is an error in the units of the values: the smaller, the better. One that is not below that of the values of "
        "the other cells, taken as the forecast, says that the model knows nothing of these cells.",
    )
    report.table(HEADER, [one.row for one in predicted])
    every = np.concatenate([one.draws for one in predicted], axis=1), np.concatenate([one.values for one in predicted])
    most = sorted(predicted, key=lambda one: -len(one.values))[:MOST_LINES]
    alone = {one.withheld.label: (one.draws, one.values) for one in most if len(one.values) >= FEWEST_CELLS}
    picture = calibration({f"all {len(every[1])} cells": every} | (alone if len(predicted) > 1 else {}))
    said = (
        "Cells that were withheld: place among the draws, and coverage; of all observations together, and of each with"
    )
    report.figure("calibration", picture, f"{said} {FEWEST_CELLS} or more.")
