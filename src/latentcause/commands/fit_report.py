"""The report of one fit: what was found for every node, and the pictures of it."""

from __future__ import annotations

from itertools import combinations, islice

import numpy as np

from latentcause import plots
from latentcause.data import MultiDomainData
from latentcause.models.base import LatentModel
from latentcause.models.g_modeling import GModeling
from latentcause.report import Report

DRAWS = 20_000  # of a predicted combination: its means are then exact to a hundredth of a standard deviation
MOST_PAIRS = 12

Table = tuple[list[str], list[list[str]]]


def node_table(model: LatentModel, data: MultiDomainData) -> Table:
    """Header and rows: how many domains target each node, its typical error, and the share of it that is known."""
    header = ["node", "domains that target it", "identified", "mean sd", "reliability"]
    rows = []
    for j, node in enumerate(model.graph.nodes):
        hits = sum(node in nodes for nodes in data.targets.values())
        error = float(model.latent_variances_[:, j].mean())
        spread = float(model.latents_[:, j].var())
        known = "no" if node in model.unidentified_ else "yes"
        rows.append([node, str(hits), known, f"{error**0.5:.3g}", f"{spread / (spread + error):.3f}"])
    return header, rows


def fit_report(model: LatentModel, data: MultiDomainData, source: str, notes: list[str]) -> Report:
    """The report to read after ``latentcause fit``."""
    graph = model.graph
    lead = (
        f"{type(model).__name__} fitted to {source}: {data.n_samples} samples of {data.n_measurements} measurements in "
        f"{len(data.domains)} domains, {len(graph)} latent variables. Noise variance {model.noise_variance_:.4g}."
    )
    report = Report("Latent causes", lead)
    if notes:
        report.section("Notes").items(notes)
    report.section(
        "What was found",
        "Mean sd is the root of the mean posterior variance: how far a recovered value is typically off, if the model "
        "holds. Reliability is the share of a variable's variance that the measurements settle: 1 is known exactly, 0 "
        "not at all. A variable that is not identified may be a mixture of several: do not read a cause into it.",
    ).table(*node_table(model, data))
    report.section("Causal graph").figure(
        "graph", plots.graph(graph, data.targets), "The given causal graph; orange: targeted by at least one domain"
    )
    counts = np.bincount(data.domain_index)
    targets = zip(data.targets.items(), counts, strict=True)
    report.table(["domain", "samples", "targets"], [[d, n, ", ".join(nodes) or "none"] for (d, nodes), n in targets])
    report.section("Latent variables").figure(
        "latents",
        plots.latents_by_domain(model.latents_, data, graph, model.latent_variances_, model.unidentified_),
        "Recovered latent variables in each domain",
    )
    if isinstance(model, GModeling):
        _add_mechanisms(report, model, data)
    report.section("Loadings").figure(
        "loadings",
        plots.loadings(model.loadings_, graph.nodes, data.measurements),
        "How each latent variable shows in each measurement",
    )
    if model.history_:
        report.section("Course of the fit").figure(
            "history", plots.history(model.history_), "Should level off; where it does not, allow more iterations"
        )
    return report


def _add_mechanisms(report: Report, model: GModeling, data: MultiDomainData) -> None:
    """Curves of the learned mechanisms, and what they predict for pairs of targets that no domain combined."""
    if model.graph.edges:
        report.section("Mechanisms").figure(
            "mechanisms",
            plots.mechanisms(model.scm_, model.intervened_, model.latents_),
            "Each variable given one of its causes: mean and one standard deviation; shaded: where there are data; "
            "blue: left alone, orange: under intervention",
        )
    seen = {frozenset(nodes) for nodes in data.targets.values()}
    pairs = islice((p for p in combinations(model.intervened_, 2) if frozenset(p) not in seen), MOST_PAIRS)
    rows = [
        [f"do({', '.join(pair)})", *(f"{m:.3g}" for m in model.scm(pair).sample(DRAWS, generator=0).mean(axis=0))]
        for pair in pairs
    ]
    if rows:
        report.section("Predicted: two interventions at once").table(
            ["intervention", *model.graph.nodes],
            rows,
            "Mean of every latent variable in combinations that no domain has shown",
        )
