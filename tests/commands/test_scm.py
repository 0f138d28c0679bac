"""``latentcause scm``: what its commands write and print is what the library answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import latentcause as lc
from latentcause.cli import app
from latentcause.commands.scm_checks import implied_independences, mechanism_table
from latentcause.data.variables import Variables
from latentcause.discovery.independence import FisherZ
from latentcause.scm import LinearMechanism, Shift, StructuralCausalModel

GRAPH = "age -> treatment; age -> y; treatment -> y; site"


def run(*args: object) -> Any:
    return CliRunner().invoke(app, [str(arg) for arg in args])


def patients(n: int = 600, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    age = rng.normal(50, 10, n)
    treated = rng.random(n) < 1 / (1 + np.exp((50 - age) / 10))
    y = 0.1 * age + 2 * treated + rng.normal(size=n)
    return pd.DataFrame(
        {
            "id": [f"p{i}" for i in range(n)],
            "age": age,
            "treatment": np.where(treated, "a=b", "None"),
            "site": rng.integers(1, 4, n),
            "y": y,
        }
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tables and the models of them: one with categories, one of numbers alone."""
    folder = tmp_path_factory.mktemp("scm")
    patients().to_csv(folder / "data.csv", index=False)
    done = run("scm", "fit", folder / "data.csv", "--graph", GRAPH, "--categorical", "site", "--out", folder / "model")
    assert done.exit_code == 0, done.output
    (folder / "stdout.txt").write_text(done.stdout)
    noise = np.random.default_rng(1).normal(size=(500, 3))
    x, t = noise[:, 0], noise[:, 0] + noise[:, 1]
    pd.DataFrame({"x": x, "t": t, "y": 2 * t - x + noise[:, 2]}).to_csv(folder / "numbers.csv", index=False)
    done = run("scm", "fit", folder / "numbers.csv", "--graph", "x -> t -> y; x -> y", "--out", folder / "numbers")
    assert done.exit_code == 0, done.output
    return folder


def fitted(home: Path) -> StructuralCausalModel:
    frame = patients().astype({"site": "category"})
    return StructuralCausalModel.fit(lc.CausalGraph.from_string(GRAPH), frame)


def refused(done: Any, message: str) -> None:
    assert done.exit_code == 2, done.output
    assert done.stderr.startswith("error: "), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert message in done.stderr, done.stderr


# --- fit -------------------------------------------------------------------------------------------------------------


def test_fit_writes_the_model_that_python_fits(home: Path) -> None:
    out, model = home / "model", fitted(home)
    names = {path.name for path in out.iterdir() if not path.name.startswith(".")}
    assert names == {
        *("model.safetensors", "mechanisms.csv", "parents.csv", "independences.csv", "summary.json"),
        *("report.html", "figures"),
    }
    loaded = lc.load(out / "model.safetensors")
    assert loaded.graph == model.graph
    assert loaded.levels == model.levels == {"treatment": ("None", "a=b"), "site": (1, 2, 3)}
    np.testing.assert_array_equal(loaded.sample(50, generator=3), model.sample(50, generator=3))
    parents = pd.read_csv(out / "parents.csv", float_precision="round_trip")
    pd.testing.assert_frame_equal(parents, model.redundant_parents(patients()), check_exact=True)
    summary = json.loads((out / "summary.json").read_text())
    assert summary["graph"] == GRAPH
    assert summary["rows"] == 600
    assert {path.stem for path in (out / "figures").iterdir()} == {"graph", "mechanisms"}
    assert "Linear mechanisms with empirical noise, fitted to 600 rows of data.csv" in (out / "report.html").read_text()
    assert "shares of the levels" in (home / "stdout.txt").read_text()


@pytest.mark.parametrize(
    ("asked", "shown"),
    [("spline", "spline"), ("boosted", "boosted"), ("post-nonlinear", "post-nonlinear"), ("auto", "linear")],
)
def test_kinds_of_mechanism_and_noise(home: Path, asked: str, shown: str) -> None:
    named = ["--mechanisms", asked, "--noise", "gaussian", "--seed", 4, "--out", home / "kind"]
    done = run("scm", "fit", home / "numbers.csv", "--graph", "t -> y", *named)
    assert done.exit_code == 0, done.output
    table = pd.read_csv(home / "kind" / "mechanisms.csv", index_col="node")
    assert list(table["kind"]) == ["mean", shown]
    assert 0.6 < table.loc["y", "held out"] < 0.8
    model = lc.load(home / "kind" / "model.safetensors")
    assert (model.settings.noise, model.settings.seed, model.settings.kinds["y"]) == ("gaussian", 4, asked)


def test_the_share_in_sample_is_r_squared_and_the_one_held_out_is_smaller(home: Path) -> None:
    frame = pd.read_csv(home / "numbers.csv", float_precision="round_trip").head(40)
    model = StructuralCausalModel.fit(lc.CausalGraph.from_string("x -> y; t -> y"), frame)
    table, why_not = mechanism_table(model, Variables.read(frame, model.graph.nodes))
    own = table.set_index("node").loc["y"]
    design = np.column_stack([np.ones(40), frame["x"], frame["t"]])
    left = frame["y"] - design @ np.linalg.lstsq(design, frame["y"], rcond=None)[0]
    assert own["in sample"] == pytest.approx(1 - left.var() / frame["y"].var())
    assert own["noise sd"] == pytest.approx(np.sqrt((left**2).mean()))
    assert own["held out"] < own["in sample"]
    assert why_not == ""
    few = frame.head(6)
    _, why_not = mechanism_table(StructuralCausalModel.fit(model.graph, few), Variables.read(few, model.graph.nodes))
    assert why_not == "6 rows are too few for 5 folds"


def test_a_mechanism_that_explains_nothing_has_no_share_held_out(home: Path) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=300), "b": rng.normal(size=300), "c": rng.choice(["u", "v"], 300)})
    model = StructuralCausalModel.fit(lc.CausalGraph.from_string("a -> b; a -> c; b -> c"), frame)
    table = mechanism_table(model, Variables.read(frame, model.graph.nodes))[0].set_index("node")
    assert (table.loc[["b", "c"], "held out"] < 0.01).all()
    assert (table.loc[["b", "c"], "in sample"] >= 0).all()
    assert table.loc["a", ["in sample", "held out"]].isna().all()


def test_independences_of_the_graph_are_tested(home: Path) -> None:
    frame = pd.read_csv(home / "numbers.csv", float_precision="round_trip")
    model = StructuralCausalModel.fit(lc.CausalGraph.from_string("x -> t -> y"), frame)
    table, test = implied_independences(model, Variables.read(frame, model.graph.nodes))
    (row,) = table.to_dict("records")
    assert (row["a"], row["b"], row["given"], test) == ("x", "y", "t", "fisher-z")
    assert row["p_value"] == pytest.approx(FisherZ(frame).p_value("x", "y", ["t"]))
    assert row["refused"]
    done = run("scm", "fit", home / "numbers.csv", "--graph", "x -> t -> y", "--out", home / "lacking")
    assert "independences of the graph that the data refuse: x and y given t" in done.stdout
    assert "Here 1 of 1 are refused" in (home / "lacking" / "report.html").read_text()
    noise = pd.DataFrame(np.random.default_rng(0).normal(size=(300, 8)), columns=list("abcdefgh"))
    empty = StructuralCausalModel.fit(lc.CausalGraph(tuple("abcdefgh")), noise)
    table, _ = implied_independences(empty, Variables.read(noise))
    assert len(table) == 28
    assert not table["refused"].any()
    written = pd.read_csv(home / "model" / "independences.csv", keep_default_na=False)
    assert set(zip(written["a"], written["b"], written["given"], strict=True)) == {
        ("age", "site", ""),
        ("treatment", "site", ""),
        ("y", "site", ""),
    }


def test_parents_that_are_not_needed_are_named(home: Path) -> None:
    patients().assign(extra=np.random.default_rng(5).normal(size=600)).to_csv(home / "extra.csv", index=False)
    done = run("scm", "fit", home / "extra.csv", "--graph", "age -> y; extra -> y", "--out", home / "extra")
    assert done.exit_code == 0, done.output
    assert "parents that the mechanism does not need: extra -> y" in done.stdout


def test_a_table_of_few_rows_is_fitted_without_checks_that_need_more(home: Path) -> None:
    pd.read_csv(home / "numbers.csv", float_precision="round_trip").head(3).to_csv(home / "three.csv", index=False)
    done = run("scm", "fit", home / "three.csv", "--graph", "x -> t -> y; x -> y", "--out", home / "three")
    assert done.exit_code == 0, done.output
    notes = json.loads((home / "three" / "summary.json").read_text())["notes"]
    assert any("no share explained on held-out rows: 3 rows are too few" in note for note in notes)
    assert any("parents were not tested: 3 rows are too few" in note for note in notes)


# --- sample, counterfactual, effect ----------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "tsv", "parquet"])
def test_sample_writes_what_the_model_draws(home: Path, suffix: str) -> None:
    out = home / f"drawn.{suffix}"
    named = ["--do", "treatment=a=b", "--do", "site=2", "--shift", "age=1.5", "--n", 40, "--seed", 7, "--out", out]
    done = run("scm", "sample", home / "model", *named)
    assert done.exit_code == 0, done.output
    model = fitted(home)
    do = {"treatment": "a=b", "site": 2, "age": Shift(1.5)}
    expected = model.to_frame(model.sample(40, do, generator=7))
    if suffix == "parquet":
        found = pd.read_parquet(out)
    else:
        found = pd.read_csv(out, sep="\t" if suffix == "tsv" else ",", float_precision="round_trip")
    assert list(found.columns) == list(model.graph.nodes)
    for name in found.columns:
        np.testing.assert_array_equal(found[name].to_numpy(), expected[name].astype(found[name].dtype).to_numpy())
    assert "40 rows under do(treatment = a=b, site = 2, age + 1.5)" in done.stdout
    assert "treatment: None 0%, a=b 100%" in done.stdout


def test_sample_without_do_draws_from_the_model_as_it_is(home: Path) -> None:
    done = run("scm", "sample", home / "numbers" / "model.safetensors", "--n", 1, "--out", home / "one.csv")
    assert done.exit_code == 0, done.output
    assert "1 rows under no intervention" in done.stdout
    assert len(pd.read_csv(home / "one.csv")) == 1


def test_counterfactual_finds_columns_by_name_and_levels_by_text(home: Path) -> None:
    rows = patients(20, seed=9).iloc[:, ::-1].assign(other=np.nan)
    rows.to_csv(home / "rows.csv", index=False)
    named = ["scm", "counterfactual", home / "model", home / "rows.csv", "--out", home / "would.csv"]
    done = run(*named, "--do", "treatment=a=b", "--shift", "age=-2")
    assert done.exit_code == 0, done.output
    frame = patients(20, seed=9).astype({"site": "category"})
    expected = fitted(home).counterfactual(frame, do={"treatment": "a=b", "age": Shift(-2.0)})
    found = pd.read_csv(home / "would.csv", float_precision="round_trip")
    np.testing.assert_array_equal(found["y"], expected["y"])
    np.testing.assert_array_equal(found["site"], frame["site"])
    assert (found["treatment"] == "a=b").all()
    refused(run(*named, "--do", "age=60"), "the counterfactual of node 'treatment' is not determined")
    refused(run(*named), "nothing is asked: name at least one --do NODE=VALUE")


def test_effect_prints_and_writes_what_the_library_finds(home: Path) -> None:
    model = StructuralCausalModel.fit(
        lc.CausalGraph.from_string("x -> t -> y; x -> y"),
        pd.read_csv(home / "numbers.csv", float_precision="round_trip"),
    )
    asked = ["scm", "effect", home / "numbers", "--outcome", "y", "--do", "x=1", "--json", home / "effect.json"]
    done = run(*asked, "--versus", "x=0")
    assert done.exit_code == 0, done.output
    value = json.loads((home / "effect.json").read_text())["value"]
    assert value == model.effect("y", {"x": 1.0}, {"x": 0.0}).value
    assert "for an interval, name the table of the fit" in done.stdout
    more = ["--versus", "x=0", "--data", home / "numbers.csv", "--level", 0.8, "--resamples", 50, "--seed", 2]
    done = run(*asked, *more)
    frame = pd.read_csv(home / "numbers.csv", float_precision="round_trip")
    expected = model.effect("y", {"x": 1.0}, {"x": 0.0}, data=frame, level=0.8, resamples=50, generator=2)
    found = json.loads((home / "effect.json").read_text())
    assert (found["value"], found["low"], found["high"]) == (expected.value, expected.low, expected.high)
    assert (found["level"], found["resamples"]) == (0.8, 50)
    assert f"{expected.value:.4g} (80% interval {expected.low:.4g} to {expected.high:.4g}" in done.stdout
    frame.head(5).to_csv(home / "five.csv", index=False)
    done = run(*asked, "--rows", home / "five.csv")
    assert "conditional effect on y of do(x = 1.0) versus no intervention" in done.stdout
    assert (
        json.loads((home / "effect.json").read_text())["value"]
        == model.effect("y", {"x": 1.0}, rows=frame.head(5)).value
    )


def test_effects_on_and_of_categories(home: Path) -> None:
    named = ["scm", "effect", home / "model", "--json", home / "effect.json"]
    model = fitted(home)
    done = run(*named, "--outcome", "treatment=a=b", "--do", "age=60", "--versus", "age=40")
    assert done.exit_code == 0, done.output
    expected = model.effect(("treatment", "a=b"), {"age": 60.0}, {"age": 40.0})
    assert json.loads((home / "effect.json").read_text())["value"] == expected.value
    done = run(*named, "--outcome", "y", "--do", "treatment=a=b", "--versus", "treatment=None")
    assert done.exit_code == 0, done.output
    assert json.loads((home / "effect.json").read_text())["value"] == pytest.approx(2, abs=0.3)
    done = run(*named, "--outcome", "y", "--shift", "age=10")
    expected = model.effect("y", {"age": Shift(10.0)})
    assert json.loads((home / "effect.json").read_text())["value"] == expected.value


# --- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("named", "message"),
    [
        (["--do", "q=1"], "--do names 'q', which is not a node of the model: its nodes are age, treatment, y, site"),
        (["--shift", "q=1"], "--shift names 'q'"),
        (["--do", "age"], "--do 'age' has no equals sign: write NODE=VALUE"),
        (["--do", "age=old"], "--do age=old: 'old' is no number"),
        (["--do", "age=nan"], "--do age=nan: 'nan' is not finite"),
        (["--do", "treatment=c"], "'c' is no level of 'treatment': its levels are None, a=b"),
        (["--do", "age=1", "--shift", "age=2"], "'age' is intervened on twice"),
        (["--shift", "treatment=1"], "do(treatment) is a shift, but 'treatment' is a category"),
        (["--n", "0"], "n is 0: give the number of rows to draw"),
        (["--out", "rows.xlsx"], "rows.xlsx: the name must end in .csv, .csv.gz, .tsv or .parquet"),
    ],
)
def test_questions_that_can_not_be_asked_are_one_line(home: Path, named: list[str], message: str) -> None:
    refused(run("scm", "sample", home / "model", "--out", home / "never.csv", *named), message)
    assert not (home / "never.csv").exists()


@pytest.mark.parametrize(
    ("named", "message"),
    [
        (["--outcome", "q", "--do", "age=1"], "the outcome 'q' is not a node of the model"),
        (
            ["--outcome", "treatment", "--do", "age=1"],
            "ask for the chance of one level, --outcome treatment=LEVEL (None, a=b)",
        ),
        (["--outcome", "treatment=c", "--do", "age=1"], "'c' is no level of 'treatment'"),
        (["--outcome", "y=1", "--do", "age=1"], "the outcome 'y' is a number and has no levels"),
        (["--outcome", "y"], "nothing is asked"),
        (["--outcome", "y", "--do", "age=1", "--level", "2"], "level is 2.0"),
    ],
)
def test_effects_that_can_not_be_asked_are_one_line(home: Path, named: list[str], message: str) -> None:
    refused(run("scm", "effect", home / "model", *named), message)


def test_files_that_do_not_fit_are_one_line(home: Path) -> None:
    patients(10).drop(columns="age").to_csv(home / "short.csv", index=False)
    ask = ["scm", "counterfactual", home / "model", home / "short.csv", "--do", "y=1", "--out", home / "never.csv"]
    refused(run(*ask), "short.csv has no column 'age'")
    patients(10).assign(age=np.nan).to_csv(home / "short.csv", index=False)
    refused(run(*ask), "missing or infinite values in column 'age'")
    patients(10).assign(treatment="c").to_csv(home / "short.csv", index=False)
    refused(run(*ask), "column 'treatment' holds 'c'")
    patients(10).to_csv(home / "ten.csv", index=False)
    effect = ["scm", "effect", home / "model", "--outcome", "y", "--do", "age=1", "--data"]
    refused(run(*effect, home / "ten.csv"), "ten.csv has 10 rows, but the model was fitted to 600 (data.csv)")
    refused(run("scm", "sample", home / "nowhere", "--out", home / "never.csv"), "there is no model at")
    fit = ["scm", "fit", home / "data.csv", "--out", home / "never"]
    refused(run(*fit, "--graph", "age -> q"), "data.csv has no column 'q'")
    refused(run(*fit, "--graph", "age -> y; y -> age"), "the graph has a cycle")
    refused(run("scm", "fit", home / "absent.csv", "--graph", "a -> b"), "there is no file")
    assert not (home / "never").exists()


def test_models_of_another_kind_are_refused(home: Path) -> None:
    x = np.random.default_rng(0).normal(size=(60, 4))
    data = lc.MultiDomainData(x, np.repeat([0, 1], 30), {0: "a", 1: "b"})
    from latentcause.models.baselines import PCA

    lc.save(PCA(lc.CausalGraph.from_string("a -> b")).fit(data), home / "pca.safetensors")
    refused(run("scm", "sample", home / "pca.safetensors", "--out", home / "never.csv"), "holds a PCA")
    given = StructuralCausalModel(
        lc.CausalGraph.from_string("a -> b"), {"a": LinearMechanism(), "b": LinearMechanism((2.0,))}
    )
    lc.save(given, home / "given.safetensors")
    done = run("scm", "effect", home / "given.safetensors", "--outcome", "b", "--do", "a=1", "--versus", "a=0")
    assert "effect on b of do(a = 1.0) versus do(a = 0.0): 2" in done.stdout
