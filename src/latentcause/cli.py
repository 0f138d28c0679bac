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
scm_app = typer.Typer(no_args_is_help=True, help="Structural causal models: fit one to a graph, and ask it.")
app.add_typer(scm_app, name="scm")

Out = Annotated[Path, typer.Option(help="Folder to write; it appears, or replaces the last run's, once all is done.")]
Seed = Annotated[int, typer.Option(help="Same seed, same result.")]
Quick = Annotated[bool, typer.Option("--quick", help="Fewer and smaller runs, in a fraction of the time.")]
DomainColumn = Annotated[
    str, typer.Option(help="Column with each row's domain (.h5ad: of obs; .npy: the path of a .npy file of labels).")
]
Categorical = Annotated[str | None, typer.Option(help="Columns of numbers that are categories, as a,b,c.")]
Table = Annotated[Path, typer.Argument(help="Table of .csv, .csv.gz, .tsv or .parquet; a column per variable.")]
Model = Annotated[Path, typer.Argument(help="What `scm fit` wrote: its folder, or the .safetensors file.")]
Do = Annotated[list[str] | None, typer.Option(metavar="NODE=VALUE", help="Set a node; may be repeated.")]
ShiftBy = Annotated[
    list[str] | None,
    typer.Option(metavar="NODE=AMOUNT", help="Add to what a node's own mechanism gives; may be repeated."),
]
RowsOut = Annotated[Path, typer.Option(help="File to write: .csv, .csv.gz, .tsv or .parquet.")]


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
            measurements=None if measurements is None else _names(measurements),
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
            columns=None if columns is None else _names(columns),
            drop=_names(drop),
            categorical=_names(categorical),
            transform=transform.value,
            cofactor=cofactor,
            domain=domain,
            truth=truth,
            resamples=bootstrap,
            seed=seed,
        )
    )


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

    run(ScmFitRequest(data, graph, out, mechanisms.value, noise.value, _names(categorical), seed))


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


def _names(text: str | None) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()] if text else []


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
