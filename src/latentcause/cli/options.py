"""Options and arguments that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

Transform = StrEnum("Transform", ["none", "arcsinh", "log1p"])

Out = Annotated[Path, typer.Option(help="Folder to write; it appears, or replaces the last run's, once all is done.")]
Seed = Annotated[int, typer.Option(help="Same seed, same result.")]
Quick = Annotated[bool, typer.Option("--quick", help="Fewer and smaller runs, in a fraction of the time.")]
Categorical = Annotated[str | None, typer.Option(help="Columns of numbers that are categories, as a,b,c.")]
Table = Annotated[Path, typer.Argument(help="Table of .csv, .csv.gz, .tsv or .parquet; a column per variable.")]
Do = Annotated[list[str] | None, typer.Option(metavar="NODE=VALUE", help="Set a node; may be repeated.")]
ShiftBy = Annotated[
    list[str] | None,
    typer.Option(metavar="NODE=AMOUNT", help="Add to what a node's own mechanism gives; may be repeated."),
]
FittedModel = Annotated[Path, typer.Argument(help="What `fit` wrote: its folder, or the .safetensors file.")]


def names(text: str | None) -> list[str]:
    """The names in "a, b, c"."""
    return [name.strip() for name in text.split(",") if name.strip()] if text else []
