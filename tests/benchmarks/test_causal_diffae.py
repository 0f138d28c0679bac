"""The benchmark of counterfactual images, on as little as it takes to go through all of it."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
SETTINGS = {
    "images": 500,
    "held_out": 300,
    "judged": 8,
    "composed": 4,
    "predictor_images": 100,
    "do": {"ink": "marginal", "intensity": [80, 240]},
    "model": {
        "bounds": {"ink": [12, 28], "intensity": [64, 255]},
        "channels": [8, 8],
        "epochs": 1,
        "steps": 3,
        "refinements": 1,
    },
}
CONFIG: dict[str, Any] = {"column": "20 CPU-minutes", "sets": {"digits": SETTINGS}}


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.delitem(sys.modules, "causal_diffae", raising=False)
    return import_module("causal_diffae")


def test_a_run_is_judged_and_continues_where_it_stopped(benchmark, tmp_path, capsys):
    results = benchmark.images_part(CONFIG, range(7, 8), tmp_path, 1)
    (run,) = results["digits"]
    for node in ("ink", "intensity"):
        by_method = {name: report["l1"] for name, report in run[node].items()}
        assert by_method["re-rendered, labels observed"] < 1e-3
        assert by_method["re-rendered, image alone"] < 1e-3 < by_method["factual, labels observed"]
        assert 0 < by_method["CausalDiffAE, labels observed"] < 1
        assert by_method["pixel scaling, labels observed"] < by_method["factual, labels observed"]
    assert run["dci"]["true labels"]["D"] > 0.9
    assert set(run["composition"]["image alone"]) == {"1", "10"}
    printed = capsys.readouterr().out
    assert "digits, do(ink), 8 images not trained on" in printed
    assert "PCA, 10 components" in printed

    journal = tmp_path / "journal.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    assert len(lines) == 1 + 4
    journal.write_text("".join(lines[:3]))  # as if it had been killed after two answers
    benchmark.halves.cache_clear(), benchmark.fitted.cache_clear(), benchmark.trained_predictor.cache_clear()
    (again,) = benchmark.images_part(CONFIG, range(7, 8), tmp_path, 1)["digits"]
    assert again["composition"] == run["composition"]  # from the checkpoint: the very same weights
    assert again["dci"] == run["dci"]
    assert journal.read_text().splitlines(keepends=True)[:3] == lines[:3]


def test_more_refinements_invert_better(benchmark, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "INVERSION_STEPS", (3, 6))
    monkeypatch.setattr(benchmark, "INVERTED_IMAGES", 4)
    rows = benchmark.inversion(benchmark.task_of("digits", SETTINGS, 7), tmp_path)
    error = {(row["steps"], row["refinements"]): row["l1"] for row in rows}
    assert error[6, 5] < error[6, 1] < error[6, 0]
    plot = tmp_path / "figures" / "inversion.png"
    benchmark.tables.print_inversion(rows, plot)
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert "6 steps" in capsys.readouterr().out


@pytest.mark.parametrize("path", sorted(BENCHMARKS.glob("causal_diffae_*.yaml")), ids=lambda path: path.stem)
def test_configurations_name_what_there_is(benchmark, path):
    import yaml

    from latentcause import CausalDiffAE

    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert config["column"] in benchmark.tables.WANTED_DCI
    for name, settings in config["sets"].items():
        assert name in benchmark.BASE_OF
        assert settings["judged"] <= settings["held_out"] < settings["images"]
        model = CausalDiffAE.__init__.__kwdefaults__
        assert set(settings["model"]) <= set(model)


def test_what_training_does_not_depend_on_does_not_train_anew(benchmark):
    task = benchmark.task_of("digits", SETTINGS, 7)
    other = {**SETTINGS, "judged": 4, "model": {**SETTINGS["model"], "guidance": 1.5, "steps": 9}}
    assert benchmark.training_of(benchmark.task_of("digits", other, 7)) == benchmark.training_of(task)
    longer = {**SETTINGS, "model": {**SETTINGS["model"], "epochs": 2}}
    assert benchmark.training_of(benchmark.task_of("digits", longer, 7)) != benchmark.training_of(task)
