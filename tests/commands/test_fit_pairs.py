"""``latentcause fit`` of pairs and ``encode`` with what it wrote: their files hold what the library answers."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch._dynamo  # noqa: F401  # the first optimiser loads it, and it sets an environment variable
from typer.testing import CliRunner

import latentcause as lc
from latentcause.cli import app
from latentcause.commands.fit_pairs_report import FoundGraph, edge_table
from latentcause.datasets import SimulatedPairs, pair_system
from latentcause.discovery.pairs import PairsResult

QUICK = ("--method", "dcrl", "--steps", 6)


def run(*args: object) -> Any:
    return CliRunner().invoke(app, [str(arg) for arg in args])


def refused(done: Any, message: str) -> None:
    assert done.exit_code == 2, done.output
    assert done.stderr.count("error: ") == 1, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: "), done.stderr
    assert message in last, done.stderr


def as_frame(pairs: lc.InterventionPairs) -> pd.DataFrame:
    names = ["a", "b", "c"]
    before = pd.DataFrame(pairs.before, columns=[f"{name}_before" for name in names])
    return pd.concat([before, pd.DataFrame(pairs.after, columns=[f"{name}_after" for name in names])], axis=1)


@pytest.fixture(scope="module")
def truth() -> SimulatedPairs:
    return pair_system(3, seed=4).draw(2000, seed=1)


@pytest.fixture(scope="module")
def home(truth: SimulatedPairs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs in both formats, the second with a tenth of the targets, and what ``fit`` made of it."""
    folder = tmp_path_factory.mktemp("pairs")
    truth.pairs.to_npz(folder / "pairs.npz")
    known = [target if row % 10 == 0 else None for row, target in enumerate(truth.targets)]
    as_frame(truth.pairs).assign(target=known).to_parquet(folder / "pairs.parquet", index=False)
    done = run("fit", folder / "pairs.parquet", "--method", "linear-pairs", "--latents", 3, "--out", folder / "model")
    assert done.exit_code == 0, done.output
    (folder / "stdout.txt").write_text(done.stdout)
    return folder


# --- fit -------------------------------------------------------------------------------------------------------------


def test_fit_writes_everything_that_the_model_in_python_holds(home: Path, truth: SimulatedPairs) -> None:
    out = home / "model"
    names = {path.name for path in out.iterdir() if not path.name.startswith(".")}
    files = {"model.safetensors", "variables.csv", "edges.csv", "graph.txt", "graph.dot", "summary.json", "report.html"}
    assert names == {*files, "figures"}
    assert {path.stem for path in (out / "figures").iterdir()} == {"graph", "moves"}
    pairs = lc.InterventionPairs.from_parquet(home / "pairs.parquet")
    model = lc.LinearPairs(3).fit(pairs.split(0.1, seed=0)[0])
    table = pd.read_csv(out / "variables.csv")
    assert list(table["pair"]) == list(range(2000))
    for side, x in (("before", pairs.before), ("after", pairs.after)):
        expected = model.encode(x)
        np.testing.assert_allclose(table[[f"{name}_{side}" for name in model.names_]], expected, rtol=1e-6, atol=1e-8)
    probabilities = model.infer_targets(pairs)
    assert list(table["target"]) == list(probabilities.idxmax(axis=1)) == list(truth.targets)
    np.testing.assert_allclose(table["probability"], probabilities.max(axis=1), rtol=1e-6)
    assert lc.CausalGraph.from_file(out / "graph.txt") == model.graph_ == truth.graph
    edges = pd.read_csv(out / "edges.csv")
    assert {(a, b) for a, b in zip(edges["a"], edges["b"], strict=True)} == set(truth.graph.edges)
    at = model.names_.index
    weights = [model.reading_.weights[at(b), at(a)] for a, b in zip(edges["a"], edges["b"], strict=True)]
    np.testing.assert_allclose(edges["weight"], weights, rtol=1e-4)
    loaded = lc.load(out / "model.safetensors")
    assert loaded.encode(pairs.before).equals(model.encode(pairs.before))


def test_summary_and_report_say_what_was_found(home: Path, truth: SimulatedPairs) -> None:
    summary = json.loads((home / "model" / "summary.json").read_text())
    assert summary["model"] == "LinearPairs"
    assert summary["settings"] == {"n_latents": 3, "max_targets": 1, "mechanisms": "linear", "seed": 0}
    assert summary["pairs"]["held_out"] == 200
    assert summary["targets"] == dict(pd.Series(truth.targets).value_counts())
    assert summary["converged"] is True
    held = summary["held_out"]
    assert all(share > 0.999 for share in held["share_of_change_predicted"].values())
    assert held["known_targets_found"] == held["known_targets"] > 5
    said = (home / "stdout.txt").read_text()
    assert "LinearPairs of 1800 pairs" in said
    assert "converged; 200 pairs held out" in said
    assert " -> " in said
    assert "fitted to 1800 pairs of 3 columns in pairs.parquet" in (home / "model" / "report.html").read_text()


def test_dcrl_takes_its_options_and_says_that_it_did_not_settle(home: Path) -> None:
    out = home / "dcrl"
    named = ["--latents", 4, "--decoder", "gaussian", "--starts", 2, "--seed", 3, "--checkpoint", home / "state.pt"]
    done = run("fit", home / "pairs.npz", *QUICK, *named, "--out", out)
    assert done.exit_code == 0, done.output
    settings = json.loads((out / "summary.json").read_text())["settings"]
    expected = {"n_latents": 4, "steps": 6, "decoder": "gaussian", "start": "flow", "starts": 2, "seed": 3}
    assert settings.items() >= expected.items()
    assert "note: the changes after - before have rank 3, less than n_latents=4" in done.stderr
    assert "not converged (" in done.stdout
    assert "not converged (" in (out / "report.html").read_text()
    assert not (home / "state.pt").exists()
    assert (out / "figures" / "history.png").is_file()
    assert lc.load(out / "model.safetensors").names_ == ("z0", "z1", "z2", "z3")


def test_pairs_with_errors_get_error_bars(home: Path) -> None:
    pair_system(2, seed=4).draw(3000, seed=1, measurement=0.1).pairs.to_npz(home / "noisy.npz")
    named = ["--method", "noisy-linear-pairs", "--latents", 2, "--steps", 150, "--starts", 1]
    done = run("fit", home / "noisy.npz", *named, "--out", home / "noisy")
    assert done.exit_code == 0, done.output
    model = lc.load(home / "noisy" / "model.safetensors")
    summary = json.loads((home / "noisy" / "summary.json").read_text())
    assert summary["settings"].items() >= {"starts": 1, "steps": 150}.items()
    told = [summary["sd_given_one_observation"][name] for name in model.names_]
    np.testing.assert_allclose(told, np.sqrt(model.latent_variances_))
    assert "z0 +-" in (home / "noisy" / "report.html").read_text()
    refused(
        run("fit", home / "noisy.npz", *named, "--mechanisms", "spline"), "--mechanisms belongs to --method dcrl and"
    )


def test_no_state_of_a_finished_training_is_left(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of the codes, which are learned first where the mixing is not linear."""
    pair_system(3, seed=4, mixing="mlp").draw(1000, seed=1).pairs.to_npz(home / "bent.npz")
    left: list[set[str]] = []
    fit = lc.DCRL.fit

    def watched(*args: Any, **settings: Any) -> Any:
        model = fit(*args, **settings)
        left.append({file.name for file in home.glob("bent*.pt")})
        return model

    monkeypatch.setattr(lc.DCRL, "fit", watched)
    named = ["--latents", 3, "--decoder", "gaussian", "--checkpoint", home / "bent.pt", "--out", home / "bent"]
    done = run("fit", home / "bent.npz", *QUICK, *named)
    assert done.exit_code == 0, done.output
    assert left == [{"bent.pt", "bent.codes.pt"}]
    assert not list(home.glob("*.pt"))


def test_splines_are_read_too(home: Path, truth: SimulatedPairs) -> None:
    done = run(
        *("fit", home / "pairs.parquet", "--method", "linear-pairs", "--latents", 3, "--mechanisms", "spline"),
        *("--out", home / "spline"),
    )
    assert done.exit_code == 0, done.output
    edges = pd.read_csv(home / "spline" / "edges.csv")
    assert set(zip(edges["a"], edges["b"], strict=True)) >= set(truth.graph.edges)
    assert edges["weight"].isna().all()
    assert "p-value" in done.stdout


def test_edges_whose_direction_is_open_are_told_as_such() -> None:
    nodes = ["a", "b", "c", "d", "e"]
    p_values = pd.DataFrame(np.nan, index=nodes, columns=nodes)
    p_values.loc["a", "c"] = 0.001
    cpdag = lc.CPDAG(nodes, [("a", "c"), ("b", "c")], [("d", "e")])
    reading = PairsResult(cpdag, (None,), pd.DataFrame(), ("d", "e"), p_values, 0.01)
    found = FoundGraph.of(SimpleNamespace(reading_=reading, names_=nodes))  # type: ignore[arg-type]
    assert found.graph == cpdag
    assert edge_table(found)[1] == [["a -> c", "0.001"], ["b -> c", ""], ["d - e", ""]]


def test_images_come_with_examples(home: Path) -> None:
    drawn = lc.datasets.pendulum_pairs(80, 16, seed=0)
    drawn.pairs.to_npz(home / "images.npz")
    done = run("fit", home / "images.npz", *QUICK, "--latents", 2, "--out", home / "images")
    assert done.exit_code == 0, done.output
    assert (home / "images" / "figures" / "examples.png").is_file()
    assert "72 pairs of images of 3 x 16 x 16" in (home / "images" / "report.html").read_text()
    done = run("encode", home / "images", home / "images.npz", "--out", home / "images.csv")
    assert done.exit_code == 0, done.output
    assert len(pd.read_csv(home / "images.csv")) == 80
    refused(
        run("encode", home / "images", home / "pairs.npz", "--out", home / "never.csv"),
        "images have shape (2000, 3)",
    )


# --- encode ----------------------------------------------------------------------------------------------------------


def test_encoding_the_pairs_of_the_fit_gives_its_variables(home: Path) -> None:
    done = run("encode", home / "model", home / "pairs.parquet", "--out", home / "again.csv")
    assert done.exit_code == 0, done.output
    assert (home / "again.csv").read_text() == (home / "model" / "variables.csv").read_text()
    done = run("encode", home / "model", home / "pairs.npz", "--out", home / "again.parquet")  # x0, x1, x2: by position
    assert done.exit_code == 0, done.output
    fitted = pd.read_csv(home / "model" / "variables.csv")
    again = pd.read_parquet(home / "again.parquet")
    variables = [column for column in fitted if column not in ("target", "probability")]  # this file knows no targets
    pd.testing.assert_frame_equal(again[variables], fitted[variables], rtol=1e-6)
    assert (again["target"] == fitted["target"]).all()


def test_encode_finds_columns_by_name(home: Path) -> None:
    frame = pd.read_parquet(home / "pairs.parquet").iloc[100:130, ::-1]
    frame.assign(more_before=1.0, more_after=range(30)).to_parquet(home / "part.parquet")
    done = run("encode", home / "model", home / "part.parquet", "--out", home / "part.csv")
    assert done.exit_code == 0, done.output
    whole = pd.read_csv(home / "model" / "variables.csv")[100:130].reset_index(drop=True)
    ours = pd.read_csv(home / "part.csv")
    pd.testing.assert_frame_equal(ours.drop(columns="pair"), whole.drop(columns="pair"), rtol=1e-6)
    pd.read_parquet(home / "pairs.parquet").drop(columns=["b_before", "b_after"]).to_parquet(home / "less.parquet")
    out = ("--out", home / "never.csv")
    refused(run("encode", home / "model", home / "less.parquet", *out), "have no column 'b' of the model")
    assert not (home / "never.csv").exists()


def test_encode_refuses_what_belongs_to_tables(home: Path) -> None:
    asked = ["encode", home / "model", home / "pairs.npz"]
    refused(run(*asked, "--domain", "d", "--out", home / "never.csv"), "--domain and --targets belong to tables")
    refused(run(*asked, "--out", home / "never.txt"), "must end in .csv or .parquet")
    (home / "truth.csv").write_text("z0\n1\n")
    refused(
        run("evaluate", home / "model", "--truth", home / "truth.csv"), "holds a LinearPairs, not a model of a table"
    )


# --- what is refused -------------------------------------------------------------------------------------------------


def test_options_of_other_methods_are_refused(home: Path) -> None:
    pairs = ["fit", home / "pairs.npz", "--out", home / "never", "--latents", 3, "--method"]
    cases = {
        "--graph belongs to --method f, g and causal-diffae, not to dcrl": [*pairs, "dcrl", "--graph", "a -> b"],
        "--steps belongs to --method dcrl and noisy-linear-pairs, not to linear-pairs": [
            *pairs,
            "linear-pairs",
            "--steps",
            9,
        ],
        "--checkpoint belongs to --method causal-diffae and dcrl, not to": [
            *pairs,
            "linear-pairs",
            "--checkpoint",
            "s",
        ],
        "--latents belongs to --method dcrl, linear-pairs and noisy-linear-pairs, not to g": [
            *pairs,
            "g",
            "--graph",
            "a -> b",
        ],
        "--method dcrl needs --latents": ["fit", home / "pairs.npz", "--method", "dcrl"],
        "--method f needs --graph": ["fit", home / "pairs.npz"],
    }
    for message, asked in cases.items():
        refused(run(*asked), message)


def test_fit_refuses_pairs_that_it_can_not_use(home: Path, truth: SimulatedPairs) -> None:
    before, after = truth.pairs.before, truth.pairs.after
    np.savez(home / "half.npz", before=before)
    np.savez(home / "uneven.npz", before=before, after=after[:-1])
    np.savez(home / "same.npz", before=before, after=before)
    np.savez(home / "hole.npz", before=np.where(before == before[3, 1], np.nan, before), after=after)
    np.savez(home / "few.npz", before=before[:12], after=after[:12])
    (home / "cut.npz").write_bytes((home / "pairs.npz").read_bytes()[:900])
    as_frame(truth.pairs).assign(strength=1.0).to_parquet(home / "strength.parquet")
    cases = {
        "pairs come in a .npz file": "stdout.txt",
        "there is no file": "absent.npz",
        "half.npz has no array 'after'": "half.npz",
        "must have the same shape": "uneven.npz",
        "the same in all 2000 pairs": "same.npz",
        "row 3": "hole.npz",
        "11 pairs are too few for 3 latents": "few.npz",
        "is cut short": "cut.npz",
        "how strong an intervention was is not modelled": "strength.parquet",
    }
    for message, file in cases.items():
        for method in ("dcrl", "linear-pairs"):
            refused(run("fit", home / file, "--latents", 3, "--method", method, "--out", home / "never"), message)
    pairs = ["fit", home / "pairs.npz", "--method", "linear-pairs", "--out", home / "never"]
    refused(run(*pairs, "--latents", 4), "vary in 3 directions, fewer than n_latents=4")
    refused(run(*pairs, "--latents", 3, "--held-out", 1.5), "--held-out 1.5: give a share between 0 and 1")
    refused(run(*pairs, "--latents", 3, "--held-out", 0.0001), "leaves one part empty")
    refused(
        run("fit", home / "pairs.parquet", "--method", "dcrl", "--latents", 2, "--out", home / "never"),
        "raise n_latents",
    )
    assert not (home / "never").exists()
