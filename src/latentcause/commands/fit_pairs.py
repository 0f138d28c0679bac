"""``latentcause fit`` of pairs: their causal variables and graph, a saved model and a report."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import latentcause
from latentcause.commands.fit_pairs_report import (
    FoundGraph,
    HeldOut,
    edge_table,
    latent_table,
    measure_held_out,
    pairs_report,
    state_of,
)
from latentcause.commands.pairs import pair_table, read_pairs
from latentcause.console import say, show_table, shown_warnings
from latentcause.data.intervention_pairs import InterventionPairs
from latentcause.io import output_folder, save
from latentcause.models.dcrl import DCRL
from latentcause.models.linear_pairs import LinearPairs
from latentcause.models.noisy_linear_pairs import NoisyLinearPairs
from latentcause.models.pairs.starts import checkpoints_beside

Model = DCRL | LinearPairs | NoisyLinearPairs
METHODS: dict[str, type[Model]] = {
    "dcrl": DCRL,
    "linear-pairs": LinearPairs,
    "noisy-linear-pairs": NoisyLinearPairs,
}
MOST_SHOWN = 40  # edges on the screen; the files hold all


@dataclass(frozen=True)
class PairFitRequest:
    """What was asked for; ``settings`` are parameters of the model."""

    pairs: Path
    method: str
    settings: Mapping[str, Any]
    out: Path
    held_out: float = 0.1
    checkpoint: Path | None = None


def fit_pairs(request: PairFitRequest) -> None:
    """Fit, write everything into the folder ``request.out``, and print two short tables. Nothing is written on failure.

    Raises
    ------
    ValueError, OSError
        For what the pairs, the model or the folder refuse.
    """
    with output_folder(request.out) as folder, shown_warnings() as notes:
        pairs = read_pairs(request.pairs)
        training, tested = _split(pairs, request)
        model = METHODS[request.method](**request.settings)
        begun = time.perf_counter()
        if isinstance(model, DCRL):
            model.fit(training, checkpoint=request.checkpoint)
        else:
            model.fit(training)
        seconds = time.perf_counter() - begun
        table, graph = pair_table(model, pairs), FoundGraph.of(model)
        found = measure_held_out(model, tested)
        _write(folder, request, model, training, found, graph, table, notes, seconds)
    if request.checkpoint is not None:
        for file in (request.checkpoint, *checkpoints_beside(request.checkpoint)):
            file.unlink(missing_ok=True)
    say(
        f"{type(model).__name__} of {len(training)} pairs in {seconds:.1f} s, {state_of(model)}; {len(tested)} pairs held out"
    )
    show_table("", *latent_table(model, table, found))
    if found.known:
        say(f"of {found.known} held-out pairs with known targets, {found.right} are found without being told")
    _tell_graph(graph)
    say(f"written to {request.out}: open report.html")


def _split(pairs: InterventionPairs, request: PairFitRequest) -> tuple[InterventionPairs, InterventionPairs]:
    """Pairs to learn from, and to measure on."""
    if not 0 < request.held_out < 1:
        raise ValueError(f"--held-out {request.held_out:g}: give a share between 0 and 1")
    try:
        return pairs.split(request.held_out, seed=int(request.settings["seed"]))
    except ValueError:
        raise ValueError(
            f"--held-out {request.held_out:g} of {len(pairs)} pairs leaves one part empty: give another share, or more pairs"
        ) from None


def _tell_graph(graph: FoundGraph) -> None:
    if not graph.edges:
        say("no latent causes another")
        return
    header, rows = edge_table(graph)
    show_table("Graph", header, rows[:MOST_SHOWN])
    if len(rows) > MOST_SHOWN:
        say(f"and {len(rows) - MOST_SHOWN} more, in edges.csv")


# --- what is written -------------------------------------------------------------------------------------------------


def _write(
    folder: Path,
    request: PairFitRequest,
    model: Model,
    training: InterventionPairs,
    found: HeldOut,
    graph: FoundGraph,
    table: pd.DataFrame,
    notes: list[str],
    seconds: float,
) -> None:
    save(model, folder / "model.safetensors", notes={"data": request.pairs.name, "held_out": request.held_out})
    table.to_csv(folder / "variables.csv", index=False, float_format="%.10g")
    pd.DataFrame([edge._asdict() for edge in graph.edges], columns=graph.columns).to_csv(
        folder / "edges.csv", index=False, float_format="%.6g"
    )
    (folder / "graph.txt").write_text(f"{graph.graph}\n", encoding="utf-8")
    (folder / "graph.dot").write_text(graph.graph.to_dot(), encoding="utf-8")
    summary = {
        "latentcause": latentcause.__version__,
        "model": type(model).__name__,
        "settings": model.get_params(deep=False),
        "data": request.pairs.name,
        "observation_shape": list(training.shape),
        "pairs": {"training": len(training), "held_out": found.pairs, "known_targets": int(training.known.sum())},
        "latents": list(model.names_),
        "targets": {str(target): int(n) for target, n in table["target"].value_counts().items()},
        "graph": str(graph.graph),
        "edges": [{key: value for key, value in edge._asdict().items() if value is not None} for edge in graph.edges],
        "converged": model.converged_,
        "unhit": list(model.unhit_),
        "mixed": list(model.mixed_),
        "held_out": {
            "share_of_change_predicted": found.predicted,
            "known_targets": found.known,
            "known_targets_found": found.right,
        },
        "notes": notes,
        "seconds": round(seconds, 3),
    }
    if isinstance(model, NoisyLinearPairs):
        summary["sd_given_one_observation"] = dict(
            zip(model.names_, np.sqrt(model.latent_variances_).tolist(), strict=True)
        )
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    report = pairs_report(model, training, found, graph, table, request.pairs.name, notes)
    report.save(folder / "report.html")
    report.save_figures(folder / "figures")
