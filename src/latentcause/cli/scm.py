"""Options of ``latentcause scm``: ``fit``, ``sample``, ``counterfactual`` and ``effect``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from latentcause.cli.options import Categorical, Do, Out, Seed, ShiftBy, Table, names
from latentcause.cli.program import app

scm_app = typer.Typer(no_args_is_help=True, help="Structural causal models: fit one to a graph, and ask it.")
app.add_typer(scm_app, name="scm")

Mechanisms = StrEnum(
    "Mechanisms",
    [
        ("linear", "linear"),
        ("spline", "spline"),
        ("boosted", "boosted"),
        ("neural", "neural"),
        ("post_nonlinear", "post-nonlinear"),
        ("auto", "auto"),
    ],
)
Noise = StrEnum("Noise", ["empirical", "gaussian", "kernel"])
Model = Annotated[Path, typer.Argument(help="What `scm fit` wrote: its folder, or the .safetensors file.")]
RowsOut = Annotated[Path, typer.Option(help="File to write: .csv, .csv.gz, .tsv or .parquet.")]


@scm_app.command("fit", epilog="Example: latentcause scm fit cells.csv --graph out/graph/dag.txt --out out/scm")
def scm_fit(
    data: Table,
    graph: Annotated[str, typer.Option(help='Edges as "a -> b; b -> c", or a .csv, .dot or .txt file.')],
    mechanisms: Annotated[Mechanisms, typer.Option(help="Kind; categories get a logit.")] = Mechanisms.linear,
    noise: Annotated[Noise, typer.Option(help="What the residuals become.")] = Noise.empirical,
    categorical: Categorical = None,
    seed: Seed = 0,
    out: Out = Path("out/scm"),
) -> None:
    """Fit the mechanism of every node of a graph: the saved model, how well it holds, and a report."""
    from latentcause.commands.scm_fit import ScmFitRequest
    from latentcause.commands.scm_fit import fit as run

    run(ScmFitRequest(data, graph, out, mechanisms.value, noise.value, names(categorical), seed))


@scm_app.command(
    "sample", epilog="Example: latentcause scm sample out/scm --n 1000 --do x=1 --do t=treated --out rows.csv"
)
def scm_sample(
    model: Model,
    out: RowsOut,
    n: Annotated[int, typer.Option(help="Rows to draw.")] = 1000,
    do: Do = None,
    shift: ShiftBy = None,
    seed: Seed = 0,
) -> None:
    """Draw rows, as they come or under an intervention."""
    from latentcause.commands.scm_ask import sample as run

    run(model, n, do or [], shift or [], seed, out)


@scm_app.command(
    "counterfactual", epilog="Example: latentcause scm counterfactual out/scm rows.csv --do x=1 --out new.csv"
)
def scm_counterfactual(
    model: Model,
    rows: Annotated[Path, typer.Argument(help="Table with a column per node; other columns are left out.")],
    out: RowsOut,
    do: Do = None,
    shift: ShiftBy = None,
) -> None:
    """What these very rows would have been under an intervention."""
    from latentcause.commands.scm_ask import counterfactual as run

    run(model, rows, do or [], shift or [], out)


@scm_app.command(
    "effect", epilog="Example: latentcause scm effect out/scm --outcome y --do x=1 --versus x=0 --data cells.csv"
)
def scm_effect(
    model: Model,
    outcome: Annotated[str, typer.Option(help="A node; of a category, NODE=LEVEL for the chance of that level.")],
    do: Do = None,
    shift: ShiftBy = None,
    versus: Annotated[
        list[str] | None, typer.Option(metavar="NODE=VALUE", help="What to compare with; default: no intervention.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="The table of the fit, for a bootstrap interval.")] = None,
    rows: Annotated[Path | None, typer.Option(help="Rows whose own effect is asked, on average over them.")] = None,
    level: Annotated[float, typer.Option(help="Of the interval.")] = 0.9,
    resamples: Annotated[int, typer.Option(help="Refits behind the interval.")] = 200,
    seed: Seed = 0,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the values here too.")] = None,
) -> None:
    """The effect of an intervention on an outcome, with an interval where the data of the fit are named."""
    from latentcause.commands.scm_ask import effect as run

    run(
        model,
        outcome,
        do or [],
        shift or [],
        versus or [],
        data=data,
        rows=rows,
        level=level,
        resamples=resamples,
        seed=seed,
        json_file=json_file,
    )
