"""Options of ``latentcause encode``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from latentcause.cli.options import FittedModel
from latentcause.cli.program import app


@app.command(
    epilog="Example: latentcause encode out/cells new_cells.csv --domain condition --out new_latents.csv"
    "\n\n"
    "Of pairs: latentcause encode out/pairs new_pairs.npz --out new_variables.csv"
)
def encode(
    model: FittedModel,
    data: Annotated[Path, typer.Argument(help="Table with the same measurements; or pairs, as for `fit`.")],
    out: Annotated[Path, typer.Option(help="File to write: .csv or .parquet.")],
    domain: Annotated[
        str | None,
        typer.Option(
            help="Column with each row's domain (.h5ad: of obs; .npy: the path of a .npy file of labels). Needed for tables."
        ),
    ] = None,
    targets: Annotated[
        Path | None, typer.Option(help="Targets of a table's domains; default: those of the fit.")
    ] = None,
) -> None:
    """Recover the latents of new samples, or the variables and targets of new pairs, with a fitted model."""
    from latentcause.commands.encode import encode as run

    run(model, data, domain, targets, out)
