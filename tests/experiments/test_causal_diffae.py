"""The reproduction of the CausalDiffAE paper: its tables hold what is measured, and its checks can fail."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

import latentcause as lc
from latentcause.cli import app
from latentcause.datasets.images.digits import digits
from latentcause.experiments.causal_diffae import Settings, _interventions, reproduce
from latentcause.experiments.checks import Check
from latentcause.metrics import counterfactual_report, dci

TINY = replace(
    Settings.quick(),
    images=300,
    held_out=100,
    judged=16,
    model={**Settings.quick().model, "channels": (8, 16), "epochs": 2},
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Check]]:
    out = tmp_path_factory.mktemp("causal_diffae") / "out"
    return out, reproduce(out, settings=TINY)


def test_results_are_those_of_the_saved_model(run: tuple[Path, list[Check]]) -> None:
    out, checks = run
    results, model = json.loads((out / "results.json").read_text()), lc.load(out / "model.safetensors")
    held = digits(300, seed=0).split(100, seed=0)[1]
    code = dci(model.encode(held.images), held.images.labels, seed=0)
    assert results["dci"]["CausalDiffAE"]["D"] == pytest.approx(code.disentanglement, abs=1e-3)
    assert results["dci"]["the labels"]["I"] > results["dci"]["CausalDiffAE"]["I"]
    truth = held.subset(slice(0, 16))
    do = {"ink": _interventions(truth, TINY.do, 0)["ink"]}
    expected = counterfactual_report(model, truth, do, observed=True)
    found = results["interventions"]["ink"]["w = 1"]
    assert found["l1"] == pytest.approx(expected.l1, rel=1e-3)
    assert found["factors"]["intensity"]["slope"] == pytest.approx(expected.factors["intensity"].slope, rel=1e-2)
    factual = results["interventions"]["ink"]["factual image"]
    assert factual["factors"]["ink"]["moved"] == 0
    assert results["interventions"]["ink"]["w = 0"]["l1"] == pytest.approx(factual["l1"], rel=0.05)
    assert [check["holds"] for check in results["checks"]] == [check.holds for check in checks]
    assert {path.stem for path in (out / "figures").iterdir()} == {"ink", "intensity"}
    assert not list(out.parent.glob(".*checkpoint*"))


def test_two_epochs_fail_checks_that_the_report_names(run: tuple[Path, list[Check]]) -> None:
    out, checks = run
    failed = [check for check in checks if not check.holds]
    assert 0 < len(failed) < len(checks)
    html = (out / "report.html").read_text()
    assert html.count("FAILS") == len(failed)
    assert f"{len(checks) - len(failed)} of {len(checks)} checks hold" in html
    claims = " ".join(check.claim for check in checks)
    assert "do(intensity) does not move ink" in claims
    assert "do(ink) moves intensity by the mechanism" in claims
    assert not re.search(r"do\(ink\) does not move", claims)


def test_command_names_what_is_missing(tmp_path: Path) -> None:
    done = CliRunner().invoke(
        app, ["reproduce", "causal-diffae", "--mnist", str(tmp_path), "--out", str(tmp_path / "out")]
    )
    assert done.exit_code == 2
    assert done.stderr.startswith("error: ")
    assert "train-images-idx3-ubyte.gz" in done.stderr
    quick = CliRunner().invoke(app, ["reproduce", "causal-diffae", "--quick", "--mnist", str(tmp_path)])
    assert quick.exit_code == 2
    assert "leave --mnist out" in quick.stderr
