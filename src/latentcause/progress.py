"""A progress bar for work that lasts, seen only where a person is watching."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

DELAY_S = 2.0  # work that takes less than this shows no bar

_is_inside: ContextVar[bool] = ContextVar("is_inside", default=False)
"""Whether a bar belongs to the work already: a terminal has room for one."""


@contextmanager
def progress(label: str, total: int, quantity: str = "held-out loss") -> Iterator[Callable[[int, float], None]]:
    """Give a ``report(steps done, value)`` that draws a bar once the work has lasted and stderr is a terminal.

    Of work within work, only the outermost is shown.
    """
    if _is_inside.get():
        yield lambda done, value: None
        return
    from rich.console import Console
    from rich.progress import Progress

    bar, opens = Progress(console=Console(stderr=True), transient=True), time.monotonic() + DELAY_S
    task = bar.add_task(label, total=total)

    def report(done: int, value: float) -> None:
        bar.update(task, completed=done, description=f"{label} ({quantity} {value:.4g})")
        if bar.console.is_terminal and time.monotonic() > opens:
            bar.start()

    before = _is_inside.set(True)
    try:
        yield report
    finally:
        _is_inside.reset(before)
        if bar.live.is_started:  # else it would print an empty line
            bar.stop()
