"""The reproduction of the SVGDM paper: tables hold what is measured, checks can fail, and runs go on where they stopped."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch._dynamo
from typer.testing import CliRunner

from latentcause.cli import app
from latentcause.datasets import three_fields
from latentcause.experiments import hokkaido, svgdm
from latentcause.experiments.checks import Check
from latentcause.experiments.fire_forecasts import FireSettings
from latentcause.experiments.journal import Journal
from latentcause.experiments.svgdm import Settings, reproduce
from latentcause.metrics import forecasts

TINY = Settings(points=16, draws=300, epochs=1, truths=2, samples=9, steps=8, nodes=4, edges=(3, 4, 6))

TODAY = {"mask": 0.1, "SVGDM": 0.2, "filter": 0.3}
TOMORROW = {"persistence": 0.1, "logistic": 0.2, "U-Net": 0.3, "SVGDM, mechanism": 0.25, "filter": 0.4}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Check]]:
    out = tmp_path_factory.mktemp("svgdm") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hokkaido, "load_hokkaido", without_rasters)
        patch.setattr(svgdm, "fire_rows", fires)
        return out, reproduce(out, settings=TINY)


def fires(settings: FireSettings, seed: int) -> Iterator[dict[str, Any]]:
    """Made up: SVGDM is better than masks today, and worse than a forecast tomorrow."""
    yield from ({"method": name, "target": "today", "ap": ap, "f1": ap} for name, ap in TODAY.items())
    yield from ({"method": name, "target": "tomorrow", "ap": ap, "f1": ap} for name, ap in TOMORROW.items())


def without_rasters() -> None:
    raise FileNotFoundError("no rasters here")


def test_every_method_is_measured_in_every_scenario(run: tuple[Path, list[Check]]) -> None:
    out, checks = run
    results = json.loads((out / "results.json").read_text())
    assert len(results["posteriors"]) == 10 * 3 + 9 * 3  # an exact posterior of the linear system only
    verdicts = [check["holds"] for check in results["checks"] if check["claim"].startswith("wildfires")]
    assert verdicts == [True, False]
    assert results["hokkaido"] == "Hokkaido is left out: no rasters here"
    assert [check["holds"] for check in results["checks"]] == [check.holds for check in checks]
    assert sum(check.holds for check in checks) > 0
    assert "Posteriors of linked fields" in (out / "report.html").read_text()


def test_the_exact_row_is_the_exact_posteriors(run: tuple[Path, list[Check]]) -> None:
    results = json.loads((run[0] / "results.json").read_text())
    (found,) = (row for row in results["posteriors"] if row["task"] == ["linear", "exact posterior", "LFO"])
    system, generator = three_fields((16,)), torch.Generator().manual_seed(1_000_000)
    errors = []
    for _ in range(TINY.truths):
        truth, observations = system.observe("LFO", generator)
        mean, covariance = system.fields.posterior(observations)
        white = torch.Generator().manual_seed(int(torch.randint(2**31, (), generator=generator)))
        root = torch.linalg.cholesky(covariance).mT
        z = mean + (torch.randn(9, 48, generator=white, dtype=torch.float64) @ root).reshape(9, 3, 16)
        errors.append(forecasts.crps(z.numpy(), truth.numpy()).mean())
    np.testing.assert_allclose(found["crps"], errors)


def test_a_run_goes_on_where_it_stopped(run: tuple[Path, list[Check]], monkeypatch: pytest.MonkeyPatch) -> None:
    out, checks = run
    journal = out / "journal.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(lines[:-1]))
    monkeypatch.setattr(svgdm, "_posteriors", None)  # all of these are there
    monkeypatch.setattr(svgdm, "fire_rows", fires)
    monkeypatch.setattr(hokkaido, "load_hokkaido", without_rasters)
    again = reproduce(out, settings=TINY)
    assert [check.claim for check in again] == [check.claim for check in checks]
    assert len(journal.read_text().splitlines()) == len(lines)


def test_claims_fail_where_figures_do(run: tuple[Path, list[Check]]) -> None:
    results = json.loads((run[0] / "results.json").read_text())
    found = {tuple(row.pop("task")): row for row in results["posteriors"]}
    found["linear", "SVGDM", "LPO"]["crps"] = [1e-3]
    found["linear", "SVGDM", "VFO"]["coverage"] = 0.5
    verdicts = {check.claim: check.holds for check in svgdm._checks(found, TINY, [1.0, 1.0, 5.0])}
    assert not verdicts["linear: worse sensors, worse posteriors: CRPS grows from VFO to LFO to LPO"]
    as_exact = "linear: 90% intervals hold as many truths as exact ones, within 3%"
    assert not verdicts[as_exact]
    assert not verdicts["cost grows at most in proportion to the edges"]
    for scenario in svgdm.SCENARIOS:
        for key in (("linear", "SVGDM"), ("linear", "exact posterior"), ("nonlinear", "SVGDM")):
            found[*key, scenario]["coverage"] = 0.8
    verdicts = {check.claim: check.holds for check in svgdm._checks(found, TINY, [1.0, 1.0, 5.0])}
    assert verdicts[as_exact]
    assert not verdicts["nonlinear: 90% intervals hold 90% of the truths, within 3%"]


def test_the_earthquake_is_judged_where_its_rasters_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    journal, task = Journal(tmp_path / "journal.jsonl"), {"folds": 2, "epochs": 1, "seed": 0}
    rows = {"map of change": dict.fromkeys(hokkaido.FIGURES, 0.5)}
    monkeypatch.setattr(hokkaido, "mapped_landslides", lambda asked: {"rows": rows})
    assert svgdm._earthquake(journal, task) == ""
    assert hokkaido.table(journal[task]["rows"])[1] == [["map of change", "0.500", "0.500", "0.500", "0.500"]]


def test_figures_of_probabilities_are_known_for_a_perfect_forecast() -> None:
    truth = np.array([0.0, 1.0, 1.0, 0.0])
    assert hokkaido.judged(truth, truth) == {"AUROC": 1, "AP": 1, "calibration error": 0, "Brier": 0}


def test_the_command_has_an_example() -> None:
    done = CliRunner().invoke(app, ["reproduce", "svgdm", "--help"])
    assert done.exit_code == 0
    assert "--quick" in done.stdout
