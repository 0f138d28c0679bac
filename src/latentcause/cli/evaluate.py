"""Options of ``latentcause evaluate``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from latentcause.cli.options import FittedModel
from latentcause.cli.program import app

Alignment = StrEnum("Alignment", [("sign", "sign"), ("signed_permutation", "signed-permutation")])


@app.command(epilog="Example: latentcause evaluate out/cells --truth latents.csv --loadings loadings.csv")
def evaluate(
    model: FittedModel,
    truth: Annotated[
        Path, typer.Option(help="CSV file of true latents: a column per node, a row per sample of the fit.")
    ],
    loadings: Annotated[Path | None, typer.Option(help="CSV file of true loadings: a column per node.")] = None,
    domain: Annotated[str, typer.Option(help="Column of the true values' file with each row's domain.")] = "domain",
    align: Annotated[Alignment, typer.Option(help="What of the latents is arbitrary.")] = Alignment.sign,
    scale: Annotated[bool, typer.Option("--scale", help="Equalise the column norms of the loadings too.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the values here too.")] = None,
) -> None:
    """Compare a fit with known true values: errors overall and per domain, correlation, coverage of the error bars."""
    from latentcause.commands.evaluate import evaluate as run

    run(model, truth, loadings, domain, align.value, scale, json_file)
