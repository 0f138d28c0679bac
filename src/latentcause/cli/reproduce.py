"""Options of ``latentcause reproduce``: one command for each paper."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from latentcause.cli.options import Out, Quick, Seed
from latentcause.cli.program import app

reproduce_app = typer.Typer(no_args_is_help=True, help="Reproduce the figures of a paper.")
app.add_typer(reproduce_app, name="reproduce")

Family = StrEnum("Family", ["bounded", "saturating", "linear"])


@reproduce_app.callback()
def reproduce_command() -> None:
    """Reproduce the figures of a paper."""


@reproduce_app.command("eb-crl", epilog="Example: latentcause reproduce eb-crl --quick --out out/eb-crl")
def reproduce_eb_crl(
    quick: Quick = False,
    out: Annotated[Path, typer.Option(help="Folder of results; a run that was interrupted continues there.")] = Path(
        "out/eb-crl"
    ),
    family: Annotated[Family | None, typer.Option(help="Of the simulated mechanisms; default bounded.")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file that changes the settings.")] = None,
) -> None:
    """Every panel of Figure 3 of "Multi-Domain Empirical Bayes for Linearly-Mixed Causal Representations"."""
    from latentcause.experiments.eb_crl import reproduce as run

    run(out, quick=quick, family=None if family is None else family.value, config=config)


@reproduce_app.command("causal-diffae", epilog="Example: latentcause reproduce causal-diffae --quick --out out/digits")
def reproduce_causal_diffae(
    quick: Quick = False,
    mnist: Annotated[
        Path | None,
        typer.Option(
            help="Folder with train-images-idx3-ubyte.gz; default: $LATENTCAUSE_DATA/mnist. Not with --quick."
        ),
    ] = None,
    seed: Seed = 0,
    out: Out = Path("out/causal-diffae"),
) -> None:
    """Counterfactual digits of "Causal Diffusion Autoencoders": DCI, interventions at four weights, checks that can fail."""
    from latentcause.experiments.causal_diffae import reproduce as run

    if quick and mnist is not None:
        raise ValueError("--quick draws on digits that scikit-learn brings: leave --mnist out")
    run(out, quick=quick, mnist=mnist, seed=seed)


@reproduce_app.command("dcrl", epilog="Example: latentcause reproduce dcrl --quick --out out/dcrl")
def reproduce_dcrl(
    quick: Quick = False,
    seed: Seed = 0,
    out: Annotated[Path, typer.Option(help="Folder of results; a run that was interrupted continues there.")] = Path(
        "out/dcrl"
    ),
) -> None:
    """Causal variables from pairs of "Diffusion based causal representation learning": linear systems, trajectory, and beyond."""
    from latentcause.experiments.dcrl import reproduce as run

    run(out, quick=quick, seed=seed)


@reproduce_app.command("svgdm", epilog="Example: latentcause reproduce svgdm --quick --out out/svgdm")
def reproduce_svgdm(
    quick: Quick = False,
    seed: Seed = 0,
    out: Annotated[Path, typer.Option(help="Folder of results; a run that was interrupted continues there.")] = Path(
        "out/svgdm"
    ),
) -> None:
    """Posteriors of linked fields of "Causal score conditioning": scenarios, ablations, cost, wildfires, Hokkaido."""
    from latentcause.experiments.svgdm import reproduce as run

    run(out, quick=quick, seed=seed)
