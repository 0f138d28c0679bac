"""``latentcause demo``: simulate four experiments, fit every method, and show how far each is from the best possible."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch

from latentcause import plots
from latentcause.console import say, show_table
from latentcause.datasets import InterventionalSample, interventional_system
from latentcause.experiments.contest import Contestant, Outcome, compete, limit
from latentcause.io import output_folder
from latentcause.models.baselines import IVAE, PCA, SCMVAE, VAE, ConditionalVAE, FastICA, ProbabilisticPCA
from latentcause.models.f_modeling import FModeling
from latentcause.models.g_modeling import GModeling
from latentcause.report import Report
from latentcause.scm import AdditiveMechanism, FunctionMechanism, StructuralCausalModel

SAMPLES, QUICK_SAMPLES = 2000, 300  # of each domain
DRAWS = 50_000

G_MODELING, F_MODELING = "g-modeling", "f-modeling"

CONTESTANTS = (
    Contestant(G_MODELING, lambda graph, seed: GModeling(graph, seed=seed)),
    Contestant(F_MODELING, lambda graph, seed: FModeling(graph, seed=seed)),
    Contestant("f: score sees parents", lambda graph, seed: FModeling(graph, score="parents", seed=seed)),
    Contestant("f: score sees all", lambda graph, seed: FModeling(graph, score="full", seed=seed)),
    Contestant("f: empty graph", lambda graph, seed: FModeling(graph, score="empty", seed=seed)),
    Contestant("f: no shrinkage", lambda graph, seed: FModeling(graph, damping=0.0, seed=seed)),
    Contestant(
        "f: as published",
        lambda graph, seed: FModeling(
            graph, score="parents", base=None, initialisation="pca", columns="orthogonal", n_splines=8, seed=seed
        ),
        align="signed-permutation",
    ),
    Contestant("f: pooled", lambda graph, seed: FModeling(graph, pooled=True, seed=seed), align="signed-permutation"),
    Contestant("PCA", lambda graph, _: PCA(graph), align="signed-permutation"),
    Contestant("probabilistic PCA", lambda graph, _: ProbabilisticPCA(graph), align="signed-permutation"),
    Contestant("FastICA", lambda graph, seed: FastICA(graph, seed=seed), align="signed-permutation"),
    Contestant("VAE", lambda graph, seed: VAE(graph, seed=seed), align="signed-permutation", slow=True),
    Contestant("conditional VAE", lambda g, seed: ConditionalVAE(g, seed=seed), align="signed-permutation", slow=True),
    Contestant("iVAE", lambda graph, seed: IVAE(graph, seed=seed), align="signed-permutation", slow=True),
    Contestant("VAE, causal prior", lambda graph, seed: SCMVAE(graph, seed=seed), slow=True),
)

HEADER = ["method", "RelMSE", "x limit", "A error", "MCC", "in bars", "seconds"]

Results = dict[str, tuple[Outcome, Any, np.ndarray]]


def demo(out: Path, seed: int, quick: bool) -> None:
    """Run it, print the table, and write figures and report into the folder ``out``."""
    with output_folder(out) as folder:
        system = interventional_system(4, seed=seed)
        sample = system.sample(QUICK_SAMPLES if quick else SAMPLES, seed=seed + 1)
        say(
            f"Simulated: {sample.data.n_samples} samples of {sample.data.n_measurements} measurements from "
            f"{len(sample.data.domains)} experiments; hidden causes {system.graph}."
        )
        best = limit(sample)
        contestants = [c for c in CONTESTANTS if not (quick and c.slow)]
        results: Results = {}
        for contestant in contestants:
            results[contestant.name] = compete(contestant, sample, seed)
        rows = _rows(best, results)
        show_table("How far the recovered causes are from the true ones", HEADER, rows)
        report = _report(sample, best["relative_mse"], results, rows)
        report.save(folder / "report.html")
        report.save_figures(folder / "figures")
    say(
        "RelMSE: squared error as a share of the causes' squared size. x limit: 1.00 is what nobody can beat. A error: of the"
    )
    say("loadings, squared. MCC: mean correlation. In bars: true values within the 90 % error bars.")
    say(f"report: {out / 'report.html'}; pictures: {out / 'figures'}")


def _rows(best: dict[str, Any], results: Results) -> list[list[str]]:
    floor = best["relative_mse"]
    rows = [["Bayes limit (all known)", f"{floor:.4f}", "1.00", "0", f"{best['correlation']:.3f}", "", ""]]
    for name, (o, _, _) in results.items():
        errors = [f"{o.relative_mse:.4f}", f"{o.relative_mse / floor:.2f}", f"{o.frobenius_error:.3f}"]
        rows.append([name, *errors, f"{o.correlation:.3f}", f"{o.coverage:.0%}", f"{o.seconds:.1f}"])
    return rows


def _report(sample: InterventionalSample, floor: float, results: Results, rows: list[list[str]]) -> Report:
    system, data = sample.system, sample.data
    graph = system.graph
    g_outcome, g_model, g_latents = results[G_MODELING]
    _, f_model, f_latents = results[F_MODELING]
    report = Report(
        "latentcause on simulated data",
        f"Four hidden causes in a chain, {graph}, seen through {data.n_measurements} noisy measurements in four experiments "
        f"that each act on one of them. g-modeling comes within a factor {g_outcome.relative_mse / floor:.2f} of the best that "
        "any method could do.",
    )
    report.section(
        "All methods",
        "RelMSE is the squared error as a share of the squared size of the true causes. The Bayes limit knows the mechanisms, "
        "the loadings and the noise, so no method can beat it. Methods that do not say which column is which cause are matched "
        "to the truth first; so is the pooled and the published variant.",
    ).table(HEADER, rows)
    errors = {name: [outcome.relative_mse] for name, (outcome, _, _) in results.items()}
    report.figure(
        "comparison", plots.comparison(errors, floor), "Relative mean squared error; the line is the Bayes limit"
    )
    report.section("The hidden causes").figure(
        "graph", plots.graph(graph, data.targets), "The causal graph; orange: targeted by an experiment"
    )
    report.figure(
        "latents",
        plots.latents_by_domain(g_latents, data, graph, g_model.latent_variances_),
        "Causes recovered by g-modeling in each experiment",
    )
    for name, latents, model, key in (
        (G_MODELING, g_latents, g_model, "recovery_g"),
        (F_MODELING, f_latents, f_model, "recovery_f"),
    ):
        picture = plots.recovery(latents, sample.latents, graph.nodes, model.latent_variances_)
        report.figure(key, picture, f"True against recovered values, {name}, with two standard deviations")
    learned, intervened = _oriented(g_model, g_latents)
    report.section(
        "Mechanisms",
        "g-modeling learns how each cause makes the next, and what replaces that under an intervention. It can therefore be asked "
        "about interventions that no experiment has made.",
    ).figure(
        "mechanisms",
        plots.mechanisms(learned, intervened, g_latents, truth=system.baseline),
        "Learned mechanisms: mean and one standard deviation; shaded: where there are data",
    )
    header, pairs = _unseen_pairs(sample, g_model)
    report.table(
        header, pairs, "Two interventions at once, never seen: mean of the measurements, predicted against true"
    )
    report.section("Loadings and course of the fit").figure(
        "loadings", plots.loadings(g_model.loadings_, graph.nodes), "How each cause shows in each measurement"
    )
    return report.figure("history", plots.history(g_model.history_), "Log-likelihood per sample of g-modeling")


def _oriented(model: GModeling, latents: np.ndarray) -> tuple[StructuralCausalModel, dict[str, AdditiveMechanism]]:
    """The learned mechanisms with the signs of these latents, which are the model's own up to a sign a node."""
    graph = model.graph
    signs = torch.from_numpy(np.sign((model.latents_ * latents).sum(axis=0)))

    def turned(node: str, mechanism: AdditiveMechanism) -> AdditiveMechanism:
        above = [graph.index(parent) for parent in graph.parents(node)]
        sign = float(signs[graph.index(node)])
        return FunctionMechanism(lambda parents: sign * mechanism.mean(signs[above] * parents), mechanism.variance)

    baseline = {node: turned(node, mechanism) for node, mechanism in model.scm_.gaussian_mechanisms.items()}
    return StructuralCausalModel(graph, baseline), {node: turned(node, m) for node, m in model.intervened_.items()}


def _unseen_pairs(sample: InterventionalSample, model: GModeling) -> tuple[list[str], list[list[str]]]:
    """Error of the predicted mean of x for pairs of targets, as a share of its distance from the data's overall mean."""
    system = sample.system
    overall = sample.data.moments.mean.mean(axis=0)
    rows = []
    for pair in combinations(system.graph.nodes, 2):
        true = system.loadings @ system.scm(pair).sample(DRAWS, generator=0).mean(axis=0)
        predicted, _ = model.predict(pair)
        share = np.linalg.norm(predicted - true) / np.linalg.norm(true - overall)
        rows.append(
            [
                f"do({', '.join(pair)})",
                f"{np.linalg.norm(true):.2f}",
                f"{np.linalg.norm(predicted):.2f}",
                f"{share:.1%}",
            ]
        )
    return ["intervention", "true size", "predicted size", "error"], rows
