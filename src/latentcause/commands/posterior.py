"""``latentcause posterior``: from rasters and a graph to posterior maps, with a check that needs no truth."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

import latentcause
from latentcause.commands.posterior_batches import batch_seed, fingerprint, in_batches, sizes, unfinished
from latentcause.commands.posterior_check import HEADER, Predicted, predict, withhold
from latentcause.commands.posterior_config import Causes, PosteriorConfig, read_config
from latentcause.commands.posterior_problem import Problem, files_of, read_problem
from latentcause.commands.posterior_report import NODE_HEADER, node_rows, posterior_report, prior_rows
from latentcause.console import say, show_table, shown_warnings
from latentcause.data.gridded_observations import GriddedObservations
from latentcause.data.rasters import write_geotiff, write_netcdf
from latentcause.fields import GaussianFields
from latentcause.io import load, output_folder, save
from latentcause.models.causes_of_change import CausesOfChange
from latentcause.models.svgdm import SVGDM
from latentcause.posteriors import summarise
from latentcause.progress import progress

if TYPE_CHECKING:
    import xarray as xr

QUICK_SAMPLES, QUICK_STEPS = 8, 32
MODEL_FILE = "model.safetensors"

Model = TypeVar("Model", SVGDM, CausesOfChange)


@dataclass(frozen=True)
class PosteriorRequest:
    """What was asked for."""

    config: Path
    data: Path
    out: Path
    samples: int = 64
    seed: int = 0
    quick: bool = False
    netcdf: bool = False


def posterior(request: PosteriorRequest) -> None:
    """Draw, write everything into the folder ``request.out``, and print two short tables.

    Where it is stopped, what is drawn so far stays in a folder beside ``request.out``, from which the same call goes on.

    Raises
    ------
    ValueError, OSError
        For what the config, a file in it, the fit or the folder refuse.
    """
    config, samples = read_config(request.config), request.samples
    if samples < 2:
        raise ValueError(f"--samples {samples}: error bars need two or more")
    if request.quick:
        check = config.check.model_copy(update={"samples": QUICK_SAMPLES})
        sampler = config.sampler.model_copy(update={"steps": min(QUICK_STEPS, config.sampler.steps)})
        config, samples = config.model_copy(update={"sampler": sampler, "check": check}), min(samples, QUICK_SAMPLES)
    problem = read_problem(config, request.data)
    settings = fingerprint(
        request.config, files_of(config, request.data), seed=request.seed, steps=config.sampler.steps
    )
    begun = time.perf_counter()
    with (
        output_folder(request.out) as folder,
        shown_warnings() as notes,
        unfinished(request.out, settings) as (parts, goes_on),
    ):
        if goes_on:
            say(f"going on from {parts}")
        model: SVGDM | CausesOfChange
        if config.causes is None:
            model = _fitted(config, problem, request.seed, parts)
            assert isinstance(model.prior_, GaussianFields)  # rounds change its numbers only
            problem = replace(problem, prior=model.prior_)
            draws, predicted = _drawn(model, problem, config, samples, request.seed, parts)
            summary = summarise(draws, thresholds=config.thresholds)
        else:
            model, draws = _causes(config.causes, problem, samples, request.seed, parts)
            summary, predicted = _exact(summarise(draws, thresholds=config.thresholds), model), []
        seconds = time.perf_counter() - begun
        _write(folder, request, config, problem, model, draws, summary, predicted, notes, seconds)
    say(f"{samples} samples of {len(problem.graph)} fields in {seconds:.0f} s")
    show_table("", NODE_HEADER, node_rows(problem, summary, config.thresholds))
    if predicted:
        show_table("Cells that were withheld, and predicted", HEADER, [one.row for one in predicted])
    say(f"written to {request.out}: open report.html")


# --- sampling --------------------------------------------------------------------------------------------------------


def _fitted(config: PosteriorConfig, problem: Problem, seed: int, parts: Path) -> SVGDM:
    assert problem.prior is not None  # the config has one wherever it asks for no causes
    model = SVGDM(problem.graph, problem.prior, seed=seed, **config.sampler.model_dump())
    return _kept(model, problem, parts, "training.pt")


def _causes(
    settings: Causes, problem: Problem, samples: int, seed: int, parts: Path
) -> tuple[CausesOfChange, xr.Dataset]:
    """The model and its joint samples."""
    model = CausesOfChange(problem.graph, seed=seed, **settings.model_dump())
    model = _kept(model, problem, parts, "classes.pt")
    batches = sizes(samples, len(problem.graph) * math.prod(problem.observations.shape))
    with progress("posterior", samples, "samples:") as report:
        draws = in_batches(
            parts,
            "posterior",
            batches,
            seed,
            lambda size, number: model.sample_posterior(size, generator=number),
            lambda done: report(done, done),
        )
    return model, draws


def _kept(model: Model, problem: Problem, parts: Path, checkpoint: str) -> Model:
    """The model, fitted; from the file that an earlier run left where there is one."""
    path = parts / MODEL_FILE
    if path.is_file():
        found: Model = load(path)
        return found
    model.fit(problem.observations, checkpoint=parts / checkpoint)
    save(model, path)
    return model


def _exact(summary: xr.Dataset, model: CausesOfChange) -> xr.Dataset:
    """Means, spreads and exceedances of what is 0 or 1 by the model's own probabilities instead of counts of samples."""
    chances = model.probabilities()
    for node in model.graph.nodes:
        chance = chances[node].to_numpy().clip(0, 1)  # sums of probabilities may be off by rounding
        for kind, values in (("mean", chance), ("sd", np.sqrt(chance * (1 - chance))), ("exceedance", chance)):
            if f"{node}_{kind}" in summary:
                summary[f"{node}_{kind}"] = summary[f"{node}_{kind}"].copy(data=values)
    return summary


def _drawn(
    model: SVGDM, problem: Problem, config: PosteriorConfig, samples: int, seed: int, parts: Path
) -> tuple[xr.Dataset, list[Predicted]]:
    """Samples given all observations; and what samples given most of them predict of the rest."""
    kept, withheld = withhold(problem.observations, config.check.share, seed)
    checked = config.check.samples if withheld else 0
    numbers = model.joint_.mean.numel()

    def draw(name: str, n: int, observations: GriddedObservations, before: int) -> xr.Dataset:
        return in_batches(
            parts,
            name,
            sizes(n, numbers),
            seed,
            lambda size, number: model.sample_posterior(size, generator=number, observations=observations),
            lambda done: report(before + done, before + done),
        )

    with progress("posterior", samples + checked, "samples:") as report:
        draws = draw("posterior", samples, problem.observations, 0)
        if not withheld:
            return draws, []
        other = draw("check", checked, kept, samples)
    fields = {node: other[node].to_numpy() for node in problem.graph.nodes}
    return draws, predict(withheld, fields, batch_seed(seed, "noise", 0))


# --- what is written -------------------------------------------------------------------------------------------------


def _write(
    folder: Path,
    request: PosteriorRequest,
    config: PosteriorConfig,
    problem: Problem,
    model: SVGDM | CausesOfChange,
    draws: xr.Dataset,
    summary: xr.Dataset,
    predicted: list[Predicted],
    notes: list[str],
    seconds: float,
) -> None:
    grid = problem.observations.grid
    for node in problem.graph.nodes:
        for kind in ("mean", "sd", "exceedance"):
            if f"{node}_{kind}" in summary:
                write_geotiff(folder / f"{node}_{kind}.tif", {kind: summary[f"{node}_{kind}"]}, grid)
    if request.netcdf:
        write_netcdf(folder / "posterior.nc", draws, grid)
    save(model, folder / MODEL_FILE, notes={"config": request.config.name})
    said: dict[str, Any] = {
        "latentcause": latentcause.__version__,
        "model": type(model).__name__,
        "config": request.config.name,
        "settings": config.model_dump(mode="json"),
        "samples": draws.sizes["sample"],
        "seed": request.seed,
        "prior": None if problem.prior is None else prior_rows(problem.prior),
        "nodes": [dict(zip(NODE_HEADER, row, strict=True)) for row in node_rows(problem, summary, config.thresholds)],
        "withheld": [dict(zip(HEADER, one.row, strict=True)) for one in predicted],
        "notes": notes,
        "seconds": round(seconds, 1),
    }
    (folder / "summary.json").write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
    report = posterior_report(problem, config, summary, predicted, draws.sizes["sample"], request.quick, notes)
    report.save(folder / "report.html")
    report.save_figures(folder / "figures")
