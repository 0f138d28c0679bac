"""``latentcause discover``: from a table to a causal graph, and what speaks for and against each of its edges."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import latentcause
from latentcause.commands.discover_report import Discovery, close_calls, discover_report, error_table
from latentcause.commands.edges import MOST_DAGS, edges_of, first_members
from latentcause.commands.reading import read_graph
from latentcause.commands.search import Search
from latentcause.commands.stability import bootstrap
from latentcause.commands.variables import read_table
from latentcause.console import say, show_table, shown_warnings
from latentcause.data.labels import listing
from latentcause.data.variables import Variables
from latentcause.discovery.cpdag import CPDAG
from latentcause.discovery.pag import PAG
from latentcause.graph import CausalGraph
from latentcause.io import output_folder
from latentcause.metrics import GraphErrors, graph_errors

MOST_SHOWN, MOST_CONFLICTS = 40, 10  # edges and conflicts on the screen; the files hold all


@dataclass(frozen=True)
class DiscoverRequest:
    """What was asked for; ``columns`` None are all, ``domain`` names the column with each row's domain."""

    data: Path
    search: Search
    out: Path
    columns: list[str] | None = None
    drop: Sequence[str] = ()
    categorical: Sequence[str] = ()
    transform: str = "none"
    cofactor: float = 5.0
    domain: str | None = None
    truth: str | None = None
    resamples: int = 0
    seed: int = 0


def discover(request: DiscoverRequest) -> None:
    """Learn the graph, write everything into the folder ``request.out``, and print its edges. Nothing is written on failure.

    Raises
    ------
    ValueError, OSError, ImportError
        For what the table, the search or the folder refuse.
    """
    with output_folder(request.out) as folder, shown_warnings() as notes:
        variables, labels = _read(request)
        truth = None if request.truth is None else _true_graph(request.truth, variables.names, notes)
        test = request.search.test_name(variables)
        begun = time.perf_counter()
        graph, domains = request.search.run(variables, labels)
        seconds = time.perf_counter() - begun
        stability = None
        if request.resamples:
            stability = bootstrap(request.search, variables, labels, graph, request.resamples, request.seed)
        errors = {} if truth is None else _errors(graph, truth)
        found = Discovery(
            request.data.name, variables, request.search, test, graph, domains, stability, errors, tuple(notes)
        )
        _write(folder, found, request, seconds)
    _tell(found, seconds)
    say(f"written to {request.out}: open report.html")


def _tell(found: Discovery, seconds: float) -> None:
    edges = edges_of(found.graph)
    say(
        f"{found.search_words} of {len(found.variables)} rows and {len(found.variables.names)} variables in {seconds:.1f} s"
    )
    if edges and found.search.alpha is None:
        show_table("", ["edge"], [[str(edge)] for edge in edges[:MOST_SHOWN]])
    elif edges:
        rows = [[str(edge), "" if edge.p_value is None else f"{edge.p_value:.2g}"] for edge in edges[:MOST_SHOWN]]
        show_table("", ["edge", "largest p-value"], rows)
    else:
        say(f"no edges: as far as the test ({found.test}) can see, no variable depends on another")
    if len(edges) > MOST_SHOWN:
        say(f"and {len(edges) - MOST_SHOWN} more, in edges.csv")
    if isinstance(found.graph, CPDAG):
        say(f"open directions: {len(found.graph.undirected)}; {found.class_words}")
    conflicts = found.graph.conflicts
    for conflict in conflicts[:MOST_CONFLICTS]:
        say(f"conflict: {conflict}")
    if len(conflicts) > MOST_CONFLICTS:
        say(f"and {len(conflicts) - MOST_CONFLICTS} more conflicts, in summary.json")
    if found.errors:
        show_table("Against the true graph", *error_table(found))


# --- what is read ----------------------------------------------------------------------------------------------------


def _read(request: DiscoverRequest) -> tuple[Variables, np.ndarray | None]:
    """The variables, transformed, and each row's domain as text."""
    domain, columns = request.domain, request.columns
    if domain is not None and domain in request.drop:
        raise ValueError(f"column {domain!r} is both the --domain and to be dropped: do one of the two")
    if domain is not None and columns is not None and domain not in columns:
        columns = [*columns, domain]
    categorical = [*request.categorical, *([domain] if domain is not None else [])]
    table = read_table(request.data, columns, request.drop, categorical)
    labels = None
    if domain is not None:
        labels = table.pop(domain).astype(object).map(str, na_action="ignore").fillna("").to_numpy()
    if table.shape[1] < 2:
        names = listing(table.columns) or "none"
        raise ValueError(f"a graph needs at least two variables, but {request.data.name} is left with {names}")
    return _transformed(Variables.read(table), request.transform, request.cofactor), labels


def _transformed(variables: Variables, transform: str, cofactor: float) -> Variables:
    """The numbers under arcsinh(x / cofactor) or log(1 + x); categories as they are."""
    if not 0 < cofactor < math.inf:
        raise ValueError(f"cofactor={cofactor} must be a positive number")
    numeric = [j for j, name in enumerate(variables.names) if name not in variables.levels]
    values = variables.values.copy()
    if transform == "arcsinh":
        values[:, numeric] = np.arcsinh(values[:, numeric] / cofactor)
    elif transform == "log1p":
        low = [variables.names[j] for j in numeric if values[:, j].min() <= -1]
        if low:
            raise ValueError(f"column {listing(low)} holds values of -1 or less, which log1p can't take")
        values[:, numeric] = np.log1p(values[:, numeric])
    return Variables(variables.names, values, variables.levels)


def _true_graph(text: str, names: Sequence[str], notes: list[str]) -> CausalGraph:
    """The true graph on all variables; those that it does not name have no edges in it."""
    truth = read_graph(text)
    unknown = [node for node in truth.nodes if node not in names]
    if unknown:
        raise ValueError(f"the true graph names {listing(unknown)}, which the data lack (columns: {listing(names)})")
    absent = [name for name in names if name not in truth]
    if absent:
        notes.append(f"the true graph does not name {listing(absent)}, which counts as having no edges")
    return CausalGraph(tuple(names), truth.edges)


def _errors(graph: CPDAG | PAG, truth: CausalGraph) -> dict[str, GraphErrors]:
    against = {"graph": graph_errors(graph, truth)}
    if isinstance(graph, CPDAG):
        against["its class"] = graph_errors(graph, CPDAG.from_dag(truth))
    return against


# --- what is written -------------------------------------------------------------------------------------------------


def _write(folder: Path, found: Discovery, request: DiscoverRequest, seconds: float) -> None:
    graph, search = found.graph, request.search
    (folder / "graph.dot").write_text(graph.to_dot(), encoding="utf-8")
    (folder / "graph.txt").write_text(f"{graph}\n", encoding="utf-8")
    rows = [(edge.a, edge.b, edge.kind, edge.p_value) for edge in edges_of(graph)]
    pd.DataFrame(rows, columns=["a", "b", "kind", "p_value"]).to_csv(folder / "edges.csv", index=False)
    cut = [(*_ordered(pair, graph.nodes), ";".join(s.given), s.p_value) for pair, s in graph.separations.items()]
    cut.sort(key=lambda row: (graph.nodes.index(row[0]), graph.nodes.index(row[1])))
    pd.DataFrame(cut, columns=["a", "b", "given", "p_value"]).to_csv(folder / "separations.csv", index=False)
    if isinstance(graph, CPDAG):
        dag = graph.consistent_extension()
        dag.to_file(folder / "dag.txt")
        dag.to_file(folder / "dag.dot")
    if found.stability is not None:
        found.stability.pairs.to_csv(folder / "stability.csv", index=False)
    if found.domains is not None:
        found.domains.changes.to_csv(folder / "changes.csv")
    (folder / "summary.json").write_text(
        json.dumps(_summary(found, request, search, seconds), indent=2) + "\n", encoding="utf-8"
    )
    report = discover_report(found)
    report.save(folder / "report.html")
    report.save_figures(folder / "figures")


def _ordered(pair: frozenset[str], nodes: tuple[str, ...]) -> tuple[str, str]:
    a, b = sorted(pair, key=nodes.index)
    return a, b


def _summary(found: Discovery, request: DiscoverRequest, search: Search, seconds: float) -> dict[str, Any]:
    summary: dict[str, Any] = {
        "latentcause": latentcause.__version__,
        "method": search.method,
        "test": found.test,
        "settings": search.describe(),
        "data": found.source,
        "rows": len(found.variables),
        "variables": list(found.variables.names),
        "categories": {name: [str(level) for level in levels] for name, levels in found.variables.levels.items()},
        "transform": request.transform,
        "graph": str(found.graph),
        "edges": len(edges_of(found.graph)),
        "conflicts": list(found.graph.conflicts),
        "close_calls": len(close_calls(found)),
        "notes": list(found.notes),
        "seconds": round(seconds, 3),
    }
    if isinstance(found.graph, CPDAG):
        members, is_all = first_members(found.graph)
        summary["dag"] = str(found.graph.consistent_extension())
        summary["open_edges"] = len(found.graph.undirected)
        summary["dags_in_class"] = len(members) if is_all else f"more than {MOST_DAGS}"
    if found.domains is not None:
        summary["targets"] = {str(domain): list(nodes) for domain, nodes in found.domains.targets.items()}
        summary["reference"] = found.domains.reference
    if found.stability is not None:
        summary["bootstrap"] = {
            "resamples": found.stability.resamples,
            "failed": len(found.stability.failed),
            "seed": request.seed,
        }
    if found.errors:
        summary["errors"] = {
            name: {key: _finite(value) for key, value in errors.as_dict().items()}
            for name, errors in found.errors.items()
        }
    return summary


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
