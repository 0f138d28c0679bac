"""Options of ``latentcause fit``: of a table of measurements, of images, and of pairs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from latentcause.cli.options import Out, Seed, Transform, names
from latentcause.cli.program import app

Method = StrEnum(
    "Method",
    [
        ("f", "f"),
        ("g", "g"),
        ("causal_diffae", "causal-diffae"),
        ("dcrl", "dcrl"),
        ("linear_pairs", "linear-pairs"),
        ("noisy_linear_pairs", "noisy-linear-pairs"),
    ],
)
Score = StrEnum("Score", ["blanket", "parents", "full", "empty", "none"])
Base = StrEnum("Base", ["gaussian", "mixture", "none"])
Interventions = StrEnum("Interventions", ["hard", "soft"])
Columns = StrEnum("Columns", ["orthonormal", "orthogonal", "psd"])
Mechanisms = StrEnum("Mechanisms", ["linear", "spline"])
Decoder = StrEnum("Decoder", ["diffusion", "gaussian"])

GRAPH = "Tables and images"
TABLES, METHOD_F, IMAGES = "Tables: methods f and g", "Tables: method f only", "Images: method causal-diffae"
PAIRS, EXACT_PAIRS = "Pairs", "Pairs: methods dcrl and linear-pairs"
TRAINED_PAIRS, METHOD_DCRL = "Pairs: methods dcrl and noisy-linear-pairs", "Pairs: method dcrl only"
HELD_OUT, TRAINING = "Images and pairs", "Images, and pairs by method dcrl"
OF_METHOD = {
    "f": (GRAPH, TABLES, METHOD_F),
    "g": (GRAPH, TABLES),
    "causal-diffae": (GRAPH, IMAGES, HELD_OUT, TRAINING),
    "dcrl": (PAIRS, EXACT_PAIRS, TRAINED_PAIRS, METHOD_DCRL, HELD_OUT, TRAINING),
    "linear-pairs": (PAIRS, EXACT_PAIRS, HELD_OUT),
    "noisy-linear-pairs": (PAIRS, TRAINED_PAIRS, HELD_OUT),
}
"""The panels of --help with options that not every method has."""


@app.command(
    epilog="Example: latentcause fit cells.csv --domain condition --targets targets.csv "
    '--graph "PKC -> PKA; PKC -> Raf; PKA -> Raf" --transform arcsinh --standardise --out out/cells'
    "\n\n"
    'Of images: latentcause fit digits/ --labels labels.csv --graph "thickness -> intensity" --method causal-diffae '
    "--bounds intensity=64:255 --out out/digits"
    "\n\n"
    "Of pairs before and after unknown interventions: latentcause fit pairs.npz --method dcrl --latents 5 --out out/pairs"
)
def fit(
    context: typer.Context,
    data: Annotated[
        Path,
        typer.Argument(
            help="Table of .csv, .csv.gz, .tsv, .parquet, .npy or .h5ad; or images: a folder of PNG or JPEG files, or .npy "
            "or .npz of (n, h, w) or (n, c, h, w); or pairs: .npz with the arrays before and after, or .parquet with columns "
            "NAME_before and NAME_after; targets, as far as known, in the array targets or the column target."
        ),
    ],
    method: Annotated[
        Method,
        typer.Option(
            help="f: from the score of the data; g: learns the mechanisms too; causal-diffae: images with labels; dcrl: pairs, "
            "with networks and a diffusion; linear-pairs: pairs of a linear system, in closed form; noisy-linear-pairs: such pairs "
            "measured with errors."
        ),
    ] = Method.f,
    graph: Annotated[
        str | None,
        typer.Option(help='Edges as "a -> b; b -> c", or a .csv, .dot or .txt file. Needed.', rich_help_panel=GRAPH),
    ] = None,
    domain: Annotated[
        str | None,
        typer.Option(
            help="Column with each row's domain (.h5ad: of obs; .npy: the path of a .npy file of labels). Needed.",
            rich_help_panel=TABLES,
        ),
    ] = None,
    targets: Annotated[
        Path | None,
        typer.Option(
            help="Which nodes each domain targets: .csv with columns domain, target; .yaml; .json. Needed.",
            rich_help_panel=TABLES,
        ),
    ] = None,
    interventions: Annotated[
        Interventions, typer.Option(help="hard: a targeted node ignores its causes.", rich_help_panel=TABLES)
    ] = Interventions.hard,
    columns: Annotated[
        Columns, typer.Option(help="Form of the loading matrix.", rich_help_panel=TABLES)
    ] = Columns.orthonormal,
    known_panel: Annotated[
        bool,
        typer.Option(
            "--known-panel", help="Each node is measured once, in the column of its name.", rich_help_panel=TABLES
        ),
    ] = False,
    noise_variance: Annotated[
        float | None, typer.Option(help="Of the measurements, where it is known.", rich_help_panel=TABLES)
    ] = None,
    measurements: Annotated[
        str | None, typer.Option(help="Columns to use, as a,b,c; default: all but the domain.", rich_help_panel=TABLES)
    ] = None,
    transform: Annotated[
        Transform, typer.Option(help="Of every measurement.", rich_help_panel=TABLES)
    ] = Transform.none,
    cofactor: Annotated[float, typer.Option(help="arcsinh(x / cofactor).", rich_help_panel=TABLES)] = 5.0,
    standardise: Annotated[
        bool,
        typer.Option("--standardise", help="To mean 0 and variance 1, after the transform.", rich_help_panel=TABLES),
    ] = False,
    score: Annotated[
        Score | None,
        typer.Option(help="What a node's score may see (default blanket).", rich_help_panel=METHOD_F),
    ] = None,
    base: Annotated[
        Base | None,
        typer.Option(help="The part of the score that sees all nodes (default gaussian).", rich_help_panel=METHOD_F),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            help=".csv with a column per factor. For a folder, the column `file` (or else the first) names the images; for "
            "an array there is a row per image. Needed.",
            rich_help_panel=IMAGES,
        ),
    ] = None,
    bounds: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FACTOR=LOW:HIGH", help="Where a factor saturates; may be repeated.", rich_help_panel=IMAGES
        ),
    ] = None,
    categorical: Annotated[
        str | None, typer.Option(help="Factors with numbers that are categories, as a,b,c.", rich_help_panel=IMAGES)
    ] = None,
    few_labels: Annotated[
        bool, typer.Option("--few-labels", help="Learn from images without labels too.", rich_help_panel=IMAGES)
    ] = False,
    held_out: Annotated[
        float,
        typer.Option(
            help="Share of the labelled images, or of the pairs, to measure on, not learned from.",
            rich_help_panel=HELD_OUT,
        ),
    ] = 0.1,
    epochs: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Passes over the images; default: as many as show it 180,000 images, but at least 3.",
            rich_help_panel=IMAGES,
        ),
    ] = None,
    channels: Annotated[
        str, typer.Option(help="Of the network, from fine to coarse, as 32,64.", rich_help_panel=IMAGES)
    ] = "32,64",
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="File for the state of the training: a run that was stopped goes on from there. Removed at the end.",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    latents: Annotated[
        int | None, typer.Option(min=1, help="How many causal variables to look for. Needed.", rich_help_panel=PAIRS)
    ] = None,
    max_targets: Annotated[
        int,
        typer.Option(
            min=1, max=2, help="Variables that one intervention may hit at once.", rich_help_panel=EXACT_PAIRS
        ),
    ] = 1,
    mechanisms: Annotated[
        Mechanisms, typer.Option(help="Of the edges, when the graph is read.", rich_help_panel=EXACT_PAIRS)
    ] = Mechanisms.linear,
    steps: Annotated[int, typer.Option(min=1, help="Of training.", rich_help_panel=TRAINED_PAIRS)] = 1500,
    decoder: Annotated[
        Decoder, typer.Option(help="How codes tell observations.", rich_help_panel=METHOD_DCRL)
    ] = Decoder.diffusion,
    starts: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="From how many places training starts, the closed form first; the most likely goes on. By default 1, without "
            "networks 3.",
            rich_help_panel=TRAINED_PAIRS,
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    seed: Seed = 0,
    out: Out = Path("out/fit"),
) -> None:
    """Fit a model: to a table, latents with error bars; to images, counterfactuals; to pairs, causal variables and their graph."""
    _refuse_foreign(context, method.value)
    if method in (Method.dcrl, Method.linear_pairs, Method.noisy_linear_pairs):
        from latentcause.commands.fit_pairs import PairFitRequest, fit_pairs

        if latents is None:
            raise ValueError(f"--method {method.value} needs --latents: how many causal variables to look for")
        chosen: dict[str, Any] = {"n_latents": latents, "seed": seed}
        if method is not Method.noisy_linear_pairs:
            chosen |= {"max_targets": max_targets, "mechanisms": mechanisms.value}
        if method is not Method.linear_pairs:
            chosen |= {"steps": steps, "device": device, **({} if starts is None else {"starts": starts})}
        if method is Method.dcrl:
            chosen |= {"decoder": decoder.value}
        fit_pairs(PairFitRequest(data, method.value, chosen, out, held_out, checkpoint))
        return
    if graph is None:
        raise ValueError(
            f'--method {method.value} needs --graph: its edges, such as "a -> b; b -> c", or a file of them'
        )
    if method is Method.causal_diffae:
        if labels is None:
            raise ValueError("--method causal-diffae needs --labels: a .csv file with a column for every factor")
        from latentcause.commands.fit_images import ImageFitRequest, fit_images

        fit_images(
            ImageFitRequest(
                images=data,
                labels=labels,
                graph=graph,
                out=out,
                bounds=bounds or [],
                categorical=names(categorical),
                few_labels=few_labels,
                held_out=held_out,
                epochs=epochs,
                channels=channels,
                checkpoint=checkpoint,
                device=device,
                seed=seed,
            )
        )
        return
    if domain is None or targets is None:
        raise ValueError(
            f"--method {method.value} needs --domain and --targets: the column of domains, and which nodes each targets "
            "(for images, give --method causal-diffae)"
        )
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
            measurements=None if measurements is None else names(measurements),
            transform=transform.value,
            cofactor=cofactor,
            standardise=standardise,
        )
    )


def _refuse_foreign(context: typer.Context, method: str) -> None:
    """Refuse options that were given and that this method does not have."""
    for parameter in context.command.params:
        panel, source = getattr(parameter, "rich_help_panel", None), context.get_parameter_source(parameter.name or "")
        owners = [owner for owner, panels in OF_METHOD.items() if panel in panels]
        if owners and method not in owners and source is not None and source.name == "COMMANDLINE":
            named = " and ".join([", ".join(owners[:-1]), owners[-1]] if owners[1:] else owners)
            raise ValueError(f"{parameter.opts[0]} belongs to --method {named}, not to {method}")
