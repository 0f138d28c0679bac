"""Runs are kept as they come and done once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from latentcause.experiments import eb_crl
from latentcause.experiments.journal import Journal


def squared(task: dict[str, Any]) -> dict[str, Any]:
    return {"square": task["n"] ** 2}


def tasks(count: int) -> list[dict[str, Any]]:
    return [{"n": n, "name": "a"} for n in range(count)]


def test_every_task_is_done_and_kept(tmp_path: Path) -> None:
    Journal(tmp_path / "runs.jsonl").complete(tasks(3), squared)
    again = Journal(tmp_path / "runs.jsonl")
    assert [again[task]["square"] for task in tasks(3)] == [0, 1, 4]
    assert {"name": "a", "n": 2} in again  # whatever the order of its keys
    assert {"name": "b", "n": 2} not in again


def test_several_processes_give_what_one_gives(tmp_path: Path) -> None:
    config = eb_crl.Config(nodes=2, samples=20, measurements=5)
    fits = [eb_crl.task(config, "", "PCA", seed) for seed in range(3)]
    one, two = Journal(tmp_path / "one.jsonl"), Journal(tmp_path / "two.jsonl")
    one.complete(fits, eb_crl.run)
    two.complete(fits, eb_crl.run, processes=2)
    assert [two[fit]["relative_mse"] for fit in fits] == [one[fit]["relative_mse"] for fit in fits]


def test_an_interrupted_experiment_continues(tmp_path: Path) -> None:
    done: list[int] = []

    def stops_at_two(task: dict[str, Any]) -> dict[str, Any]:
        if task["n"] == 2 and len(done) == 2:
            raise KeyboardInterrupt
        done.append(task["n"])
        return squared(task)

    path = tmp_path / "runs.jsonl"
    with pytest.raises(KeyboardInterrupt):
        Journal(path).complete(tasks(4), stops_at_two)
    assert done == [0, 1]
    done.append(-1)
    Journal(path).complete(tasks(4), stops_at_two)
    assert done == [0, 1, -1, 2, 3]


def test_a_line_cut_short_is_done_again(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    Journal(path).complete(tasks(3), squared)
    whole = path.read_text()
    path.write_text(whole[:-5])
    journal = Journal(path)
    assert [task in journal for task in tasks(3)] == [True, True, False]
    journal.complete(tasks(3), squared)
    assert path.read_text() == whole


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    Journal(path).complete(tasks(2), squared)
    lines = path.read_text().splitlines()
    assert json.loads(lines[0])["result"] == {"square": 0}
    path.write_text(f"{lines[0][:-4]}\n{lines[1]}\n")
    with pytest.raises(ValueError, match="line 1 is damaged"):
        Journal(path)
