"""Many runs whose results are kept as they come, so that an interrupted experiment continues where it stopped."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from latentcause.progress import progress
from latentcause.writing import write_atomically

Task = dict[str, Any]
Result = dict[str, Any]


class Journal:
    """Tasks and their results in a JSON-lines file, one line each, appended the moment a run is done.

    A task is everything that its result depends on, in values that JSON can hold; a result stands for equal tasks only.

    Parameters
    ----------
    path : Path
        Made where it is missing. A last line that was cut short is dropped: that run is done again.

    Raises
    ------
    ValueError
        If another line is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._results: dict[str, Result] = {}
        if path.exists():
            self._read()

    def __contains__(self, task: Task) -> bool:
        return _key(task) in self._results

    def __getitem__(self, task: Task) -> Result:
        return self._results[_key(task)]

    def add(self, task: Task, result: Result) -> None:
        """Keep a result, on disk before this returns."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"task": task, "result": result}) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._results[_key(task)] = result

    def complete(self, tasks: Iterable[Task], function: Callable[[Task], Result], processes: int = 1) -> None:
        """Do every task that has no result yet, in this process or in several, each with one torch thread.

        ``function`` must be importable by its name (a module's own function) where there are several processes.
        """
        left = [task for task in tasks if task not in self]
        with progress("runs", len(left), "of them done:") as report:
            if processes == 1:
                for done, task in enumerate(left, start=1):
                    self.add(task, function(task))
                    report(done, done)
                return
            # Spawned, not forked: a fork would copy torch's locks in whatever state they are.
            # Leaving the block ends the processes, also in the middle of a run.
            with multiprocessing.get_context("spawn").Pool(processes, _one_thread) as pool:
                for done, pair in enumerate(pool.imap_unordered(partial(_with_task, function), left), start=1):
                    self.add(*pair)
                    report(done, done)

    def _read(self) -> None:
        lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
        for number, line in enumerate(lines, start=1):
            try:
                entry = json.loads(line) if line.endswith("\n") else None
            except json.JSONDecodeError as error:
                raise ValueError(
                    f"{self.path}, line {number} is damaged: remove that line, its run is done again"
                ) from error
            if entry is None:
                with write_atomically(self.path) as temporary:
                    temporary.write_text("".join(lines[:-1]), encoding="utf-8")
            else:
                self._results[_key(entry["task"])] = entry["result"]


def _key(task: Task) -> str:
    return json.dumps(task, sort_keys=True)


def _with_task(function: Callable[[Task], Result], task: Task) -> tuple[Task, Result]:
    return task, function(task)


def _one_thread() -> None:
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this process
    torch.set_num_threads(1)
