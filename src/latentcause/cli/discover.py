"""Options of ``latentcause discover``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from latentcause.cli.options import Categorical, Out, Seed, Table, Transform, names
from latentcause.cli.program import app

Discovery = StrEnum("Discovery", ["pc", "ges", "fci"])
Test = StrEnum(
    "Test",
    [
        ("auto", "auto"),
        ("fisher_z", "fisher-z"),
        ("chi_squared", "chi-squared"),
        ("g_squared", "g-squared"),
        ("mixed", "mixed"),
        ("gcm", "gcm"),
        ("kci", "kci"),
    ],
)


@app.command(epilog="Example: latentcause discover cells.csv --drop id --alpha 0.001 --bootstrap 100 --out out/graph")
def discover(
    data: Table,
    method: Annotated[
        Discovery, typer.Option(help="pc: independence tests; ges: a score; fci: tests, with hidden common causes.")
    ] = Discovery.pc,
    alpha: Annotated[float | None, typer.Option(help="Level of the tests (pc, fci; default 0.01).")] = None,
    test: Annotated[Test | None, typer.Option(help="Of independence (pc, fci; default auto, by the columns).")] = None,
    penalty: Annotated[float | None, typer.Option(help="Of an edge (ges; default 1, the BIC).")] = None,
    columns: Annotated[str | None, typer.Option(help="Columns to use, as a,b,c; default: all.")] = None,
    drop: Annotated[str | None, typer.Option(help="Columns to leave out, as a,b,c.")] = None,
    categorical: Categorical = None,
    transform: Annotated[Transform, typer.Option(help="Of every column of numbers.")] = Transform.none,
    cofactor: Annotated[float, typer.Option(help="arcsinh(x / cofactor).")] = 5.0,
    knowledge: Annotated[
        Path | None, typer.Option(help="YAML: required: [[a, b]], forbidden: [[b, a]], tiers: [[a], [b, c]] (pc, fci).")
    ] = None,
    max_given: Annotated[
        int | None, typer.Option(help="Most variables in a condition (pc, fci), or set of parents (--domain).")
    ] = None,
    domain: Annotated[
        str | None, typer.Option(help="Column with each row's experiment, to turn edges by what each changed (pc).")
    ] = None,
    targets: Annotated[
        Path | None, typer.Option(help="Which variables each domain targets: .csv, .yaml, .json; default: inferred.")
    ] = None,
    reference: Annotated[str | None, typer.Option(help="Domain that inferred targets are relative to.")] = None,
    nearest: Annotated[
        bool, typer.Option("--nearest", help="Turn edges by the nearest to invariant where nothing is (--domain).")
    ] = False,
    truth: Annotated[str | None, typer.Option(help="True graph to compare with: a file, or text as 'a -> b'.")] = None,
    bootstrap: Annotated[int, typer.Option(min=0, help="Resamples to count the edges in.")] = 0,
    seed: Seed = 0,
    out: Out = Path("out/discover"),
) -> None:
    """Learn a causal graph from a table: edges with p-values, what is open and why, how stable it is, and a report."""
    from latentcause.commands.discover import DiscoverRequest
    from latentcause.commands.discover import discover as run
    from latentcause.commands.reading import read_knowledge
    from latentcause.commands.search import Search

    if domain is None and (targets or reference or nearest):
        raise ValueError("--targets, --reference and --nearest are for --domain: name the column of domains")
    options = {
        "alpha": alpha,
        "test": None if test is None else test.value,
        "penalty": penalty,
        "knowledge": None if knowledge is None else read_knowledge(knowledge),
        "max_given" if domain is None else "max_parents": max_given,
        "targets": targets,
        "reference": reference,
        "nearest": nearest or None,
    }
    run(
        DiscoverRequest(
            data=data,
            search=Search.of(method.value, domain is not None, options),
            out=out,
            columns=None if columns is None else names(columns),
            drop=names(drop),
            categorical=names(categorical),
            transform=transform.value,
            cofactor=cofactor,
            domain=domain,
            truth=truth,
            resamples=bootstrap,
            seed=seed,
        )
    )
