"""``latentcause scm sample``, ``counterfactual`` and ``effect``: questions to a fitted structural causal model."""

from __future__ import annotations

import json
from collections.abc import Hashable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from latentcause.commands.encode import model_file
from latentcause.commands.interventions import (
    in_words,
    read_interventions,
    read_level,
    read_question,
    split_assignment,
)
from latentcause.commands.variables import read_rows, write_table
from latentcause.console import say, show_table, shown_warnings
from latentcause.io import load, read_notes, write_atomically
from latentcause.scm import StructuralCausalModel


def sample(model: Path, n: int, do: Sequence[str], shift: Sequence[str], seed: int, out: Path) -> None:
    """Write n rows drawn under do(), and print mean and spread of each column.

    Raises
    ------
    ValueError, OSError
        For a file that is no such model, and for what do() refuses.
    """
    fitted = read_model(model)
    if n < 1:
        raise ValueError(f"n is {n}: give the number of rows to draw, at least 1")
    rows = fitted.to_frame(fitted.sample(n, read_interventions(fitted, do, shift), generator=seed))
    write_table(out, rows)
    _tell(rows, f"{n} rows under {in_words(do, shift)}: {out}")


def counterfactual(model: Path, rows: Path, do: Sequence[str], shift: Sequence[str], out: Path) -> None:
    """Write what the rows would have been under do(): the nodes' columns, in the order of the rows.

    Raises
    ------
    ValueError, OSError
        For a file that is no such model, rows that lack a column or hold missing values, and for what do() refuses.
    """
    fitted = read_model(model)
    answer = fitted.counterfactual(read_rows(rows, fitted), do=read_question(fitted, do, shift))
    write_table(out, answer)
    _tell(answer, f"{len(answer)} rows as they would have been under {in_words(do, shift)}: {out}")


def effect(
    model: Path,
    outcome: str,
    do: Sequence[str],
    shift: Sequence[str],
    versus: Sequence[str],
    *,
    data: Path | None,
    rows: Path | None,
    level: float,
    resamples: int,
    seed: int,
    json_file: Path | None,
) -> None:
    """Print the effect on the outcome, with its interval where ``data`` are given; write it to ``json_file`` too.

    Raises
    ------
    ValueError, OSError
        For a file that is no such model, data that it was not fitted to, and for what `StructuralCausalModel.effect` refuses.
    """
    fitted = read_model(model)
    actions = read_question(fitted, do, shift)
    other = read_interventions(fitted, versus, ())
    table = None if data is None else _table_of_the_fit(model, fitted, data)
    given = None if rows is None else read_rows(rows, fitted)
    with shown_warnings():
        found = fitted.effect(
            _outcome(fitted, outcome),
            actions,
            other or None,
            rows=given,
            data=table,
            level=level,
            resamples=resamples,
            generator=seed,
        )
    if json_file is not None:
        with write_atomically(json_file) as temporary:
            temporary.write_text(json.dumps(asdict(found), indent=2) + "\n", encoding="utf-8")
    say(repr(found))
    if data is None:
        say("for an interval, name the table of the fit with --data")


def read_model(path: Path) -> StructuralCausalModel:
    """The structural causal model that a file, or the folder of ``latentcause scm fit``, holds.

    Raises
    ------
    ValueError, FileNotFoundError
        Where there is none, or another kind of model.
    """
    found: Any = load(model_file(path))
    if not isinstance(found, StructuralCausalModel):
        raise ValueError(f"{path} holds a {type(found).__name__}: give what `latentcause scm fit` wrote")
    return found


# --- what is asked ---------------------------------------------------------------------------------------------------


def _outcome(model: StructuralCausalModel, text: str) -> str | tuple[str, Hashable]:
    if text in model.graph:
        if text in model.levels:
            levels = ", ".join(map(str, model.levels[text]))
            raise ValueError(
                f"the outcome {text!r} is a category: ask for the chance of one level, --outcome {text}=LEVEL ({levels})"
            )
        return text
    node, value = split_assignment(model, "--outcome", text) if "=" in text else (text, "")
    if node not in model.levels:
        problem = "is a number and has no levels" if node in model.graph else "is not a node of the model"
        raise ValueError(f"the outcome {node!r} {problem}: its nodes are {', '.join(model.graph.nodes)}")
    return node, read_level(model, node, value)


def _table_of_the_fit(model: Path, fitted: StructuralCausalModel, data: Path) -> pd.DataFrame:
    table, notes = read_rows(data, fitted), read_notes(model_file(model))
    if "rows" in notes and len(table) != notes["rows"]:
        raise ValueError(
            f"{data.name} has {len(table)} rows, but the model was fitted to {notes['rows']} ({notes['data']}): an interval "
            "needs the table of the fit"
        )
    return table


# --- what is told ----------------------------------------------------------------------------------------------------


def _tell(rows: pd.DataFrame, line: str) -> None:
    say(line)
    numbers = [name for name in rows.columns if pd.api.types.is_float_dtype(rows[name])]
    if numbers:
        spreads = ["" if len(rows) < 2 else f"{rows[name].std():.4g}" for name in numbers]
        means = [f"{rows[name].mean():.4g}" for name in numbers]
        show_table("", ["node", "mean", "sd"], zip(numbers, means, spreads, strict=True))
    shares = {name: rows[name].value_counts(normalize=True, sort=False) for name in rows.columns if name not in numbers}
    for name, share in shares.items():
        say(f"{name}: " + ", ".join(f"{level} {part:.0%}" for level, part in share.items()))
