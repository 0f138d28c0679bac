"""The command ``latentcause``: reads options, and hands over to ``latentcause.commands``, which is loaded only then."""

from __future__ import annotations

import signal
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import latentcause

# What can go wrong with what a user brings; anything else is a fault of ours and shows its traceback.
EXPECTED = (ValueError, OSError, ImportError)

Method = StrEnum("Method", ["f", "g"])
Score = StrEnum("Score", ["blanket", "parents", "full", "empty", "none"])
Base = StrEnum("Base", ["gaussian", "mixture", "none"])
Interventions = StrEnum("Interventions", ["hard", "soft"])
Columns = StrEnum("Columns", ["orthonormal", "orthogonal", "psd"])
Transform = StrEnum("Transform", ["none", "arcsinh", "log1p"])
Alignment = StrEnum("Alignment", [("sign", "sign"), ("signed_permutation", "signed-permutation")])
Family = StrEnum("Family", ["bounded", "saturating", "linear"])


class Commands(TyperGroup):
    """Shows an expected error as one line and ends with exit code 2; with --debug, its traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was named."""
        try:
            return super().invoke(ctx)
        except EXPECTED as error:
            if ctx.params.get("debug"):
                raise
            from latentcause.console import show_error

            missing = error.filename if isinstance(error, FileNotFoundError) else None
            show_error(f"there is no file {missing}" if missing else str(error))
            raise typer.Exit(2) from None


app = typer.Typer(cls=Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
reproduce_app = typer.Typer(no_args_is_help=True, help="Reproduce the figures of a paper.")
app.add_typer(reproduce_app, name="reproduce")

Out = Annotated[Path, typer.Option(help="Folder to write; it appears, or replaces the last run's, once all is done.")]
Seed = Annotated[int, typer.Option(help="Same seed, same result.")]
Quick = Annotated[bool, typer.Option("--quick", help="Fewer and smaller runs, in a fraction of the time.")]
DomainColumn = Annotated[
    str, typer.Option(help="Column with each row's domain (.h5ad: of obs; .npy: the path of a .npy file of labels).")
]


def main() -> None:
    """The entry point. A polite request to stop (SIGTERM) unwinds like Ctrl-C does, so nothing half-written is left."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    app()


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"latentcause {latentcause.__version__}")
        raise typer.Exit


@app.callback()
def latentcause_command(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Print the version.")
    ] = False,
) -> None:
    """Recover the latent causes behind data from several experiments, with error bars, and answer do(...) questions."""


@app.command(epilog="Example: latentcause demo --out out/demo")
def demo(out: Out = Path("out/demo"), seed: Seed = 0, quick: Quick = False) -> None:
    """Simulate four experiments, fit every method, print how far each is from the best possible, write a report."""
    from latentcause.commands.demo import demo as run

    run(out, seed, quick)


@app.command(
    epilog="Example: latentcause fit cells.csv --domain condition --targets targets.csv "
    '--graph "PKC -> PKA; PKC -> Raf; PKA -> Raf" --transform arcsinh --standardise --out out/cells'
)
def fit(
    data: Annotated[Path, typer.Argument(help="Table of .csv, .csv.gz, .tsv, .parquet, .npy or .h5ad.")],
    domain: DomainColumn,
    targets: Annotated[
        Path, typer.Option(help="Which nodes each domain targets: .csv with columns domain, target; .yaml; .json.")
    ],
    graph: Annotated[str, typer.Option(help='Edges as "a -> b; b -> c", or a .csv, .dot or .txt file.')],
    method: Annotated[
        Method, typer.Option(help="f: from the score of the data; g: learns the mechanisms too.")
    ] = Method.f,
    score: Annotated[
        Score | None, typer.Option(help="What a node's score may see (method f; default blanket).")
    ] = None,
    base: Annotated[
        Base | None, typer.Option(help="The part of the score that sees all nodes (method f; default gaussian).")
    ] = None,
    interventions: Annotated[
        Interventions, typer.Option(help="hard: a targeted node ignores its causes.")
    ] = Interventions.hard,
    columns: Annotated[Columns, typer.Option(help="Form of the loading matrix.")] = Columns.orthonormal,
    known_panel: Annotated[
        bool, typer.Option("--known-panel", help="Each node is measured once, in the column of its name.")
    ] = False,
    noise_variance: Annotated[float | None, typer.Option(help="Of the measurements, where it is known.")] = None,
    measurements: Annotated[
        str | None, typer.Option(help="Columns to use, as a,b,c; default: all but the domain.")
    ] = None,
    transform: Annotated[Transform, typer.Option(help="Of every measurement.")] = Transform.none,
    cofactor: Annotated[float, typer.Option(help="arcsinh(x / cofactor).")] = 5.0,
    standardise: Annotated[
        bool, typer.Option("--standardise", help="To mean 0 and variance 1, after the transform.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    seed: Seed = 0,
    out: Out = Path("out/fit"),
) -> None:
    """Fit a model to a table: latents with error bars, loadings, the saved model, and a report."""
    from latentcause.commands.fit import FitRequest
    from latentcause.commands.fit import fit as run

    settings: dict[str, Any] = {
        "interventions": interventions.value,
        "columns": columns.value,
        "noise_variance": noise_variance,
        "device": device,
        "seed": seed,
    }
    for name, choice in (("score", score), ("base", base)):
        if choice is not None:
            if method is Method.g:
                raise ValueError(f"--{name} belongs to --method f: g-modeling learns a prior and no score")
            settings[name] = None if choice.value == "none" else choice.value
    run(
        FitRequest(
            data=data,
            domain=domain,
            targets=targets,
            graph=graph,
            method=method.value,
            settings=settings,
            out=out,
            known_panel=known_panel,
            measurements=None if measurements is None else [name.strip() for name in measurements.split(",")],
            transform=transform.value,
            cofactor=cofactor,
            standardise=standardise,
        )
    )


@app.command(epilog="Example: latentcause encode out/cells new_cells.csv --domain condition --out new_latents.csv")
def encode(
    model: Annotated[Path, typer.Argument(help="What `fit` wrote: its folder, or the .safetensors file.")],
    data: Annotated[Path, typer.Argument(help="Table with the same measurements.")],
    domain: DomainColumn,
    out: Annotated[Path, typer.Option(help="CSV file to write.")],
    targets: Annotated[Path | None, typer.Option(help="Targets of the domains; default: those of the fit.")] = None,
) -> None:
    """Recover the latents of new samples with a fitted model."""
    from latentcause.commands.encode import encode as run

    run(model, data, domain, targets, out)


@app.command(epilog="Example: latentcause evaluate out/cells --truth latents.csv --loadings loadings.csv")
def evaluate(
    model: Annotated[Path, typer.Argument(help="What `fit` wrote: its folder, or the .safetensors file.")],
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
