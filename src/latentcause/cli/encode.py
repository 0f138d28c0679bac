"""Options of ``latentcause encode``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from latentcause.cli.options import DomainColumn, FittedModel
from latentcause.cli.program import app


@app.command(epilog="Example: latentcause encode out/cells new_cells.csv --domain condition --out new_latents.csv")
def encode(
    model: FittedModel,
    data: Annotated[Path, typer.Argument(help="Table with the same measurements.")],
    domain: DomainColumn,
    out: Annotated[Path, typer.Option(help="CSV file to write.")],
    targets: Annotated[Path | None, typer.Option(help="Targets of the domains; default: those of the fit.")] = None,
) -> None:
    """Recover the latents of new samples with a fitted model."""
    from latentcause.commands.encode import encode as run

    run(model, data, domain, targets, out)
