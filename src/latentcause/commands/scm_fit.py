"""``latentcause scm fit``: from a table and a graph to mechanisms, and how well they hold."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

import latentcause
from latentcause.commands.reading import read_graph
from latentcause.commands.scm_checks import implied_independences, mechanism_table
from latentcause.commands.scm_report import scm_report
from latentcause.commands.variables import read_table
from latentcause.console import say, show_table, shown_warnings
from latentcause.data.variables import Variables
from latentcause.io import output_folder, save
from latentcause.scm import StructuralCausalModel

MOST_SHOWN = 10  # doubts on the screen
ALPHA = 0.05  # of the test for parents that a mechanism does not use


@dataclass(frozen=True)
class ScmFitRequest:
    """What was asked for; ``mechanisms`` and ``noise`` are kinds that `StructuralCausalModel.fit` knows."""

    data: Path
    graph: str
    out: Path
    mechanisms: str = "linear"
    noise: str = "empirical"
    categorical: Sequence[str] = ()
    seed: int = 0


def fit(request: ScmFitRequest) -> None:
    """Fit, write everything into the folder ``request.out``, and print a short table. Nothing is written on failure.

    Raises
    ------
    ValueError, OSError
        For what the table, the graph, the fit or the folder refuse.
    """
    graph = read_graph(request.graph)
    with output_folder(request.out) as folder, shown_warnings() as notes:
        data = Variables.read(read_table(request.data, graph.nodes, categorical=request.categorical))
        begun = time.perf_counter()
        model = StructuralCausalModel.fit(
            graph, data, mechanisms=request.mechanisms, noise=request.noise, seed=request.seed
        )
        seconds = time.perf_counter() - begun
        table, why_not = mechanism_table(model, data)
        if why_not:
            notes.append(f"no share explained on held-out rows: {why_not}")
        parents = _tested_parents(model, data, notes)
        independences, test = _tested_independences(model, data, notes)
        _write(folder, request, model, data, table, parents, independences, test, notes, seconds)
    shown = [[_cell(value) for value in row] for row in table.itertuples(index=False)]
    say(f"structural causal model of {len(data)} rows, fitted in {seconds:.1f} s")
    show_table("", list(table.columns), shown)
    if table["held out"].notna().any() or table["in sample"].notna().any():
        say(
            "in sample, held out: share of the variance (of a category: of the log likelihood) that the parents explain"
        )
    for name, found in _doubts(parents, independences).items():
        if found:
            more = f"; and {len(found) - MOST_SHOWN} more, in summary.json" if len(found) > MOST_SHOWN else ""
            say(f"{name}: {'; '.join(found[:MOST_SHOWN])}{more}")
    say(f"written to {request.out}: open report.html")


def _tested_parents(model: StructuralCausalModel, data: Variables, notes: list[str]) -> pd.DataFrame:
    try:
        return model.redundant_parents(data, ALPHA)
    except ValueError as error:
        notes.append(f"parents were not tested: {error}")
        return pd.DataFrame(columns=["parent", "node", "test", "p_value", "drop", "redundant"])


def _tested_independences(model: StructuralCausalModel, data: Variables, notes: list[str]) -> tuple[pd.DataFrame, str]:
    try:
        return implied_independences(model, data)
    except ValueError as error:
        notes.append(f"independences were not tested: {error}")
        return pd.DataFrame(columns=["a", "b", "given", "p_value", "refused"]), ""


def _doubts(parents: pd.DataFrame, independences: pd.DataFrame) -> dict[str, list[str]]:
    """What a user should look at before trusting the model."""
    unused = parents[parents["redundant"].astype(bool)]
    refused = independences[independences["refused"].astype(bool)]
    return {
        "parents that the mechanism does not need": [f"{row.parent} -> {row.node}" for row in unused.itertuples()],
        "independences of the graph that the data refuse": [_statement(*row) for row in refused.iloc[:, :3].to_numpy()],
    }


def _statement(a: str, b: str, given: str) -> str:
    return f"{a} and {b}" + (f" given {given.replace(';', ', ')}" if given else "")


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "" if pd.isna(value) else f"{value:.3g}"
    return str(value)


# --- what is written -------------------------------------------------------------------------------------------------


def _write(
    folder: Path,
    request: ScmFitRequest,
    model: StructuralCausalModel,
    data: Variables,
    table: pd.DataFrame,
    parents: pd.DataFrame,
    independences: pd.DataFrame,
    test: str,
    notes: list[str],
    seconds: float,
) -> None:
    save(model, folder / "model.safetensors", notes={"data": request.data.name, "rows": len(data)})
    table.to_csv(folder / "mechanisms.csv", index=False)
    parents.to_csv(folder / "parents.csv", index=False)
    independences.to_csv(folder / "independences.csv", index=False)
    summary = {
        "latentcause": latentcause.__version__,
        "model": type(model).__name__,
        "graph": str(model.graph),
        "data": request.data.name,
        "rows": len(data),
        "settings": {"mechanisms": request.mechanisms, "noise": request.noise, "seed": request.seed},
        "categories": {node: [str(level) for level in levels] for node, levels in model.levels.items()},
        "mechanisms": json.loads(table.to_json(orient="records")),
        **{name.replace(" ", "_"): found for name, found in _doubts(parents, independences).items()},
        "notes": notes,
        "seconds": round(seconds, 3),
    }
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    lead = (
        f"{request.mechanisms.capitalize()} mechanisms with {request.noise} noise, fitted to {len(data)} rows of "
        f"{request.data.name} on a graph of {len(model.graph)} variables and {len(model.graph.edges)} edges."
    )
    report = scm_report(model, data, lead, table, parents, independences, test, notes)
    report.save(folder / "report.html")
    report.save_figures(folder / "figures")
