"""Tables and the figure of benchmarks/causal_diffae.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from latentcause.writing import write_atomically

CONSOLE = Console(width=200)
MODEL = "CausalDiffAE"
MODES = ("labels observed", "image alone")
WANTED_DCI = {"20 CPU-minutes": 0.90, "longer": 0.95}
WANTED_SHARE = 0.5  # of the factual image's error, on Pendulum
WANTED_SPEED = {  # in what is measured on MorphoMNIST: (limit, at most)
    "training images per CPU-second": (200, False),
    "CPU-seconds of 64 counterfactuals": (8, True),
    "CPU-seconds of rendering 1,000 images": (5, True),
    "rendering error, thickness": (0.13, True),
}
Run = Mapping[str, Any]


@dataclass(frozen=True)
class Figure:
    """A figure to reach: where it stands in a run, and the limit by column of the configuration."""

    what: str
    known: str
    path: tuple[str, ...]
    limits: Mapping[str, Mapping[str, float]]
    at_most: bool = True


def _limits(short: float, longer: float, modes: tuple[str, ...] = MODES) -> dict[str, dict[str, float]]:
    return {"20 CPU-minutes": dict.fromkeys(modes, short), "longer": dict.fromkeys(modes, longer)}


FIGURES = [
    Figure("do(thickness): L1", "prototype .0143", ("thickness", "l1"), _limits(0.013, 0.010)),
    Figure("do(thickness): PSNR, dB", "prototype 30.6", ("thickness", "psnr"), _limits(31, 32), at_most=False),
    Figure(
        "do(thickness): thickness error, px",
        "prototype .187, ceiling .136",
        ("thickness", "factors", "thickness", "error"),
        _limits(0.17, 0.15),
    ),
    Figure(
        "do(thickness): thickness slope",
        "prototype .81",
        ("thickness", "factors", "thickness", "slope"),
        _limits(0.88, 0.95),
        at_most=False,
    ),
    Figure(
        "do(thickness): intensity error, levels",
        "prototype 4.1 / 9.4",
        ("thickness", "factors", "intensity", "error"),
        {
            "20 CPU-minutes": {"labels observed": 3.5, "image alone": 8.5},
            "longer": {"labels observed": 2, "image alone": 8},
        },
    ),
    Figure(
        "do(intensity): intensity error, levels",
        "prototype 5.3",
        ("intensity", "factors", "intensity", "error"),
        _limits(4, 2),
    ),
    Figure(
        "do(intensity): thickness moved, px",
        "prototype .129",
        ("intensity", "factors", "thickness", "moved"),
        _limits(0.10, 0.06),
    ),
    Figure(
        "do(thickness): reversibility, L1", "prototype .0137", ("thickness", "reversibility"), _limits(0.010, 0.007)
    ),
    Figure("composition, 1 cycle, L1", "prototype .0003", ("composition", "1"), _limits(0.0003, 0.0003)),
    Figure("composition, 10 cycles, L1", "prototype .0009", ("composition", "10"), _limits(0.001, 0.001)),
]


def print_images(name: str, settings: Mapping[str, Any], column: str, runs: Sequence[Run]) -> None:
    """All tables of one set of images: medians over the seeds."""
    for node in settings["do"]:
        CONSOLE.print(_methods(name, node, runs))
    CONSOLE.print(_codes(name, column, runs))
    if name == "morphomnist":
        CONSOLE.print(_figures(column, runs))
    else:
        CONSOLE.print(_against_factual(name, settings, runs))
    cpu = [run["training"]["cpu_s"] / 60 for run in runs]
    parameters = runs[0]["training"]["parameters"]
    CONSOLE.print(f"{name}: {parameters:,} parameters; training took {spread(cpu)} CPU-minutes\n")


def _methods(name: str, node: str, runs: Sequence[Run]) -> Table:
    first = next(iter(runs[0][node].values()))
    factors = first["factors"]
    table = Table(title=f"{name}, do({node}), {first['images']} images not trained on: medians of {len(runs)} seeds")
    table.add_column("method")
    for title in ("L1", "PSNR", "SSIM", "undone: L1", "still pixels moved"):
        table.add_column(title, justify="right")
    for factor, change in factors.items():
        what = "error (slope) predicted" if change["is_effect"] else "error (moved) predicted"
        table.add_column(f"{factor}: {what}", justify="right")
    for method in runs[0][node]:
        reports = [run[node][method] for run in runs]
        cells = [_median(reports, key) for key in ("l1", "psnr", "ssim", "reversibility", "pixels_moved")]
        changes = [[report["factors"][factor] for report in reports] for factor in factors]
        digits = (".4f", ".1f", ".3f", ".4f", ".4f")
        texts = [f"{cell:{form}}" for cell, form in zip(cells, digits, strict=True)]
        table.add_row(method, *texts, *(_change(change) for change in changes))
    return table


def _change(changes: Sequence[Mapping[str, Any]]) -> str:
    second = _median(changes, "slope" if changes[0]["is_effect"] else "moved")
    text = f"{_median(changes, 'error'):.3g} ({second:.3g}) {_median(changes, 'predicted_error'):.3g}"
    lost = sum(change["not_measured"] for change in changes)
    return f"{text}, {lost} not measured" if lost else text


def _codes(name: str, column: str, runs: Sequence[Run]) -> Table:
    table = Table(title=f"{name}: DCI on all held-out images, median (min - max) over seeds")
    for title in ("code", "disentanglement", "completeness", "informativeness"):
        table.add_column(title, justify="left" if title == "code" else "right")
    for code in runs[0]["dci"]:
        values = {key: [run["dci"][code][key] for run in runs] for key in "DCI"}
        cells = [spread(values[key]) for key in "DCI"]
        if code.startswith(MODEL) and name == "morphomnist":
            limit = WANTED_DCI[column]
            cells[:2] = [f"{cells[k]}, >= {limit}: {verdict(values[key], limit, False)}" for k, key in enumerate("DC")]
        table.add_row(code, *cells)
    return table


def _figures(column: str, runs: Sequence[Run]) -> Table:
    table = Table(title=f"Figures to reach ({column}): median (min - max) over {len(runs)} seeds")
    for title in ("what", "known", *MODES):
        table.add_column(title)
    for figure in FIGURES:
        cells = []
        for mode in MODES:
            values = [_found(run, figure.path, mode) for run in runs]
            limit, sign = figure.limits[column][mode], "<=" if figure.at_most else ">="
            cells.append(f"{spread(values)}, {sign} {limit:g}: {verdict(values, limit, figure.at_most)}")
        table.add_row(figure.what, figure.known, *cells)
    return table


def _found(run: Run, path: Sequence[str], mode: str) -> float:
    first, *rest = path
    here: Any = run[first][mode] if first == "composition" else run[first][f"{MODEL}, {mode}"]
    for key in rest:
        here = here[key]
    return float(here)


def _against_factual(name: str, settings: Mapping[str, Any], runs: Sequence[Run]) -> Table:
    """The error to the true counterfactual image as a share of the factual image's."""
    table = Table(
        title=f"{name}: L1 as a share of the factual image's (<= {WANTED_SHARE}), median (min - max) over seeds"
    )
    for title in ("do", *MODES):
        table.add_column(title)
    for node in settings["do"]:
        cells = []
        for mode in MODES:
            shares = [run[node][f"{MODEL}, {mode}"]["l1"] / run[node]["factual, labels observed"]["l1"] for run in runs]
            cells.append(f"{spread(shares)}: {verdict(shares, WANTED_SHARE, True)}")
        table.add_row(node, *cells)
    for cycles in runs[0]["composition"][MODES[0]]:
        values = [[run["composition"][mode][cycles] for run in runs] for mode in MODES]
        table.add_row(f"composition, {cycles} cycles, L1", *map(spread, values))
    return table


def print_speed(results: Mapping[str, Mapping[str, float]]) -> None:
    """Seconds of every set."""
    for name, figures in results.items():
        table = Table(title=f"{name}: speed")
        for title in ("what", "measured", "to reach"):
            table.add_column(title)
        for what, value in figures.items():
            limit, at_most = WANTED_SPEED.get(what, (0.0, True)) if name == "morphomnist" else (0.0, True)
            goal = f"{'<=' if at_most else '>='} {limit:g}: {verdict([value], limit, at_most)}" if limit else ""
            table.add_row(what, f"{value:.3g}", goal)
        CONSOLE.print(table)


def print_inversion(rows: Sequence[Mapping[str, float]], plot: Path | None) -> None:
    """The errors as a table, and as a figure where a file is named."""
    steps = sorted({int(row["steps"]) for row in rows})
    refinements = sorted({int(row["refinements"]) for row in rows})
    found = {(row["steps"], row["refinements"]): row["l1"] for row in rows}
    table = Table(title="DDIM inversion, then DDIM: L1 to the image")
    for title in ("refinements", *(f"{count} steps" for count in steps)):
        table.add_column(title, justify="right")
    for passes in refinements:
        table.add_row(str(passes), *(f"{found[count, passes]:.2g}" for count in steps))
    CONSOLE.print(table)
    if plot is None:
        return
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(6, 4), layout="constrained")
    axes = canvas.subplots()
    for passes in refinements:
        axes.loglog(steps, [found[count, passes] for count in steps], marker="o", label=f"{passes} refinements")
    axes.set_xticks(steps, [str(count) for count in steps], minor=False)
    axes.minorticks_off()
    axes.set_xlabel("steps")
    axes.set_ylabel("L1 to the image after inversion and sampling")
    axes.legend(frameon=False)
    plot.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(plot) as temporary:
        canvas.savefig(temporary, format="png", dpi=144, metadata={"Software": None})


def spread(values: Sequence[float]) -> str:
    """Median (min - max)."""
    if len(values) == 1:
        return f"{values[0]:.3g}"
    return f"{np.median(values):.3g} ({min(values):.3g} - {max(values):.3g})"


def verdict(values: Sequence[float], limit: float, at_most: bool) -> str:
    """Whether the median is within the limit."""
    median = np.median(values)
    return "reached" if (median <= limit if at_most else median >= limit) else "MISSED"


def _median(reports: Sequence[Mapping[str, Any]], key: str) -> float:
    return float(np.median([report[key] for report in reports]))
