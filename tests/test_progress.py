from __future__ import annotations

import io

import pytest
from rich.console import Console

from latentcause import progress as module
from latentcause.progress import progress


def test_nothing_is_printed_where_nobody_watches(capsys):
    with progress("fitting", 3) as report:
        for step in range(3):
            report(step + 1, 0.5)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("delay", "seen"), [(-1.0, True), (60.0, False)], ids=["lasting", "quick"])
def test_a_bar_is_drawn_on_a_terminal_once_the_work_lasts(monkeypatch, delay, seen):
    screen = io.StringIO()
    monkeypatch.setattr(module, "DELAY_S", delay)
    monkeypatch.setattr("rich.console.Console", lambda **_: Console(file=screen, force_terminal=True, width=100))
    with progress("fitting", 3, "held-out loss") as report:
        report(2, 0.51234)
    assert ("fitting (held-out loss 0.5123)" in screen.getvalue()) is seen


def test_errors_of_the_work_go_through_and_the_bar_is_taken_down(monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(module, "DELAY_S", -1.0)
    monkeypatch.setattr("rich.console.Console", lambda **_: Console(file=screen, force_terminal=True, width=100))

    def work() -> None:
        with progress("fitting", 3) as report:
            report(1, 1.0)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert "\x1b[?25h" in screen.getvalue()  # the cursor is shown again


def test_work_within_work_shows_the_outer_bar_only(monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(module, "DELAY_S", -1.0)
    monkeypatch.setattr("rich.console.Console", lambda **_: Console(file=screen, force_terminal=True, width=100))
    with progress("resampling", 2) as outer:
        outer(1, 1.0)
        with progress("fitting", 3) as inner:
            inner(2, 0.5)
        outer(2, 1.0)
    with progress("afterwards", 1) as last:
        last(1, 1.0)
    assert "resampling" in screen.getvalue()
    assert "fitting" not in screen.getvalue()
    assert "afterwards" in screen.getvalue()
