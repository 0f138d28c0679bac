"""Options of ``latentcause posterior``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from latentcause.cli.options import Out, Seed
from latentcause.cli.program import app


@app.command(
    epilog="Example: latentcause posterior experiments/hazards.yaml --data hazards --samples 64 --out out/hazards"
)
def posterior(
    config: Annotated[
        Path, typer.Argument(help="YAML file: graph, observations with their noise, prior, sampler, thresholds.")
    ],
    data: Annotated[Path, typer.Option(help="Folder of the files that the config names.")] = Path(),
    samples: Annotated[int, typer.Option(help="To draw; 64 tell a chance to 6 %.")] = 64,
    seed: Seed = 0,
    quick: Annotated[
        bool, typer.Option("--quick", help="At most 8 samples in 32 steps: a look, not a result.")
    ] = False,
    netcdf: Annotated[bool, typer.Option("--netcdf", help="Write all samples too, as posterior.nc.")] = False,
    out: Out = Path("out/posterior"),
) -> None:
    """Posterior maps of causally linked fields, seen by sensors of different resolution: GeoTIFFs, a check, a report.

    A run that is stopped goes on where it was when it is called again.
    """
    from latentcause.commands.posterior import PosteriorRequest
    from latentcause.commands.posterior import posterior as run

    run(PosteriorRequest(config, data, out, samples, seed, quick, netcdf))
