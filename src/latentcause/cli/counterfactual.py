"""Options of ``latentcause counterfactual``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from latentcause.cli.options import FittedModel, Out
from latentcause.cli.program import app

Measure = StrEnum("Measure", ["strokes"])


@app.command(
    epilog="Example: latentcause counterfactual out/digits digits/ --do thickness=4 --measure strokes --out out/thick"
)
def counterfactual(
    model: FittedModel,
    images: Annotated[
        Path, typer.Argument(help="A folder of PNG or JPEG files, one such file, or .npy or .npz as for `fit`.")
    ],
    do: Annotated[list[str] | None, typer.Option(metavar="FACTOR=VALUE", help="Set a factor; may be repeated.")] = None,
    shift: Annotated[
        list[str] | None,
        typer.Option(metavar="FACTOR=AMOUNT", help="Add to what a factor's own mechanism gives; may be repeated."),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help=".csv of the observed factors, as for `fit`; default: what the model sees in the images."),
    ] = None,
    guidance: Annotated[
        float | None, typer.Option(help="Weight of the factors: 1 is none, more exaggerates; default: the model's.")
    ] = None,
    measure: Annotated[
        Measure | None,
        typer.Option(help="Measure the images too. strokes: thickness and intensity of bright strokes on black."),
    ] = None,
    n: Annotated[int, typer.Option(min=1, help="How many images at most: the first ones.")] = 8,
    out: Out = Path("out/counterfactual"),
) -> None:
    """What given images would have been under an intervention: images, factors, and a picture of both and the change."""
    from latentcause.commands.counterfactual import CounterfactualRequest
    from latentcause.commands.counterfactual import counterfactual as run

    run(
        CounterfactualRequest(
            model=model,
            images=images,
            do=do or [],
            shift=shift or [],
            out=out,
            labels=labels,
            guidance=guidance,
            measure=None if measure is None else measure.value,
            n=n,
        )
    )
