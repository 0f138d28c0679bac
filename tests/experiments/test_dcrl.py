"""The reproduction of the DCRL paper: tables hold what is measured, checks can fail, and runs go on where they stopped."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch._dynamo  # noqa: F401  (its first import draws on the global random state)

from latentcause.experiments import dcrl
from latentcause.experiments.checks import Check
from latentcause.experiments.dcrl import Settings, reproduce
from latentcause.experiments.pair_contest import MODELS, SETTINGS
from latentcause.models.dcrl import DCRL, TIMES

TINY = Settings((3,), 600, 1, 12, 12, (300,), (6,), (8,))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Check]]:
    out = tmp_path_factory.mktemp("dcrl") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("latentcause.experiments.pair_contest.HELD_OUT", 100)
        return out, reproduce(out, settings=TINY)


def test_every_method_is_measured(run: tuple[Path, list[Check]]) -> None:
    out, checks = run
    results = json.loads((out / "results.json").read_text())
    assert set(results["runs"]["Linear-Gaussian, 3 variables"]) == set(dcrl.COMPARED)
    assert [check["holds"] for check in results["checks"]] == [check.holds for check in checks]
    assert "Causal variables from pairs" in (out / "report.html").read_text()


def test_the_closed_form_is_right_on_linear_systems_and_a_few_steps_are_not(run: tuple[Path, list[Check]]) -> None:
    rows = json.loads((run[0] / "results.json").read_text())["runs"]["Linear-Gaussian, 3 variables"]
    closed, untrained = rows["LinearPairs"][0], rows["beta-VAE"][0]
    assert closed["target_accuracy"] > 0.99
    assert closed["MCC"] > 0.95 > untrained["MCC"]
    assert set(rows["DCRL, trajectory"][0]["by_time"]) == {str(t) for t in TIMES}


def test_checks_hold_what_the_runs_say() -> None:
    row = {"D": 0.9, "by_time": {str(t): {"D": 0.5, "C": 0.5} for t in (0.1, 0.5, 0.9)}}
    linear = {name: [row] for name in dcrl.COMPARED}
    bent = {name: [{"D": value}] for name, value in zip(dcrl.MAPPED, (0.6, 0.9, 0.95, 0.8), strict=True)}
    found = {"Linear-Gaussian, 3 variables": linear, "Mixing: mlp, mechanisms: linear": bent}
    verdicts = [check.holds for check in dcrl._checks(found, TINY)]
    assert verdicts == [True, False, False, True, True, True]
    bent["DCRL"] = [{"D": 0.7}]
    assert [check.holds for check in dcrl._checks(found, TINY)] == [True, False, False, True, False, False]


def test_a_run_goes_on_where_it_stopped(run: tuple[Path, list[Check]], monkeypatch: pytest.MonkeyPatch) -> None:
    out, checks = run
    monkeypatch.setattr(dcrl, "_run", None)  # all of these are there
    again = reproduce(out, settings=TINY)
    assert [check.found for check in again] == [check.found for check in checks]
    assert np.all([a == b for a, b in zip(again, checks, strict=True)])


@pytest.mark.parametrize("case", ["linear", *SETTINGS])
@pytest.mark.parametrize("method", MODELS)
def test_every_method_takes_the_settings_of_every_case(method: str, case: str) -> None:
    model = MODELS[method](4, SETTINGS.get(case, {}), 0)
    if isinstance(model, DCRL):
        model._check_settings()
    assert (model.n_latents, model.seed) == (4, 0)
