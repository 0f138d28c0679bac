"""How commands speak: tables on stdout; notes and errors, one line each, on stderr."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from latentcause.report import looks_numeric

WIDTH = 120  # of tables where there is no terminal to ask


def say(text: str) -> None:
    """One line on stdout."""
    Console().print(text, markup=False, highlight=False, soft_wrap=True)


def show_error(message: str) -> None:
    """One red line on stderr."""
    _to_stderr(f"error: {' '.join(message.split())}", "red")


def show_table(title: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A table on stdout, columns of numbers to the right; as wide as it needs where there is no terminal."""
    table = Table(title=Text(title, style="bold"), title_justify="left", box=box.SIMPLE_HEAD)
    cells = [[str(cell) for cell in row] for row in rows]
    for column, name in enumerate(header):
        numbers = all(looks_numeric(row[column]) for row in cells)
        table.add_column(Text(name), justify="right" if numbers else "left", overflow="fold", no_wrap=numbers)
    for row in cells:
        table.add_row(*map(Text, row))
    Console(width=None if sys.stdout.isatty() else WIDTH).print(table)


@contextmanager
def shown_warnings() -> Iterator[list[str]]:
    """Show the library's warnings as yellow lines on stderr, each once, and collect them in the list given here."""
    notes: list[str] = []

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        text = " ".join(str(message).split())
        if text not in notes:
            notes.append(text)
            _to_stderr(f"note: {text}", "yellow")

    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = show
        yield notes


def _to_stderr(text: str, style: str) -> None:
    Console(stderr=True).print(text, style=style, markup=False, highlight=False, soft_wrap=True)
