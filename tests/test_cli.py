"""The command line, from options to files: what a user sees and what is left on disk."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import latentcause as lc
from latentcause.cli import app
from latentcause.datasets import InterventionalSample, interventional_system

HEAVY = ("torch", "scipy", "matplotlib", "pandas", "sklearn", "xarray", "networkx", "numpy")
RUN = "from latentcause.cli import main; main()"


def run(*args: object) -> Any:
    return CliRunner().invoke(app, [str(arg) for arg in args])


@pytest.fixture(scope="module")
def sample() -> InterventionalSample:
    return interventional_system(3, n_measurements=12, noise_variance=1.0, seed=0).sample(150, seed=1)


@pytest.fixture(scope="module")
def folder(sample: InterventionalSample, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table, its targets, the truth, and what ``fit`` made of them."""
    home = tmp_path_factory.mktemp("cli")
    table(sample).to_csv(home / "data.csv", index=False)
    (home / "targets.yaml").write_text("do(z1): z1\ndo(z2): z2\ndo(z3): [z3]\n")
    truth = pd.DataFrame(sample.latents, columns=["z1", "z2", "z3"])
    truth.insert(0, "domain", table(sample)["condition"])
    truth.to_csv(home / "truth.csv", index=False)
    pd.DataFrame(sample.system.loadings, columns=["z1", "z2", "z3"]).to_csv(home / "loadings.csv", index=False)
    done = fit(home, "--out", home / "out")
    assert done.exit_code == 0, done.output
    (home / "stdout.txt").write_text(done.stdout)
    return home


def table(sample: InterventionalSample) -> pd.DataFrame:
    x = next(x for _, _, x in sample.data.batches())
    frame = pd.DataFrame(x, columns=[f"m{j}" for j in range(x.shape[1])])
    frame["condition"] = np.array(sample.data.domains)[sample.data.domain_index]
    return frame


def fit(
    home: Path, *more: object, data: object = None, targets: object = None, graph: str = "z1 -> z2; z2 -> z3"
) -> Any:
    named = ["--domain", "condition", "--targets", targets or home / "targets.yaml", "--graph", graph]
    return run("fit", data or home / "data.csv", *named, *more)


def latents_of(path: Path) -> tuple[np.ndarray, np.ndarray]:
    frame = pd.read_csv(path)
    nodes = ["z1", "z2", "z3"]
    return frame[nodes].to_numpy(), frame[[f"{node}_sd" for node in nodes]].to_numpy()


# --- fit -------------------------------------------------------------------------------------------------------------


def test_fit_writes_everything_that_the_model_in_python_holds(folder: Path, sample: InterventionalSample) -> None:
    out = folder / "out"
    names = {path.name for path in out.iterdir() if not path.name.startswith(".")}
    assert names == {"model.safetensors", "latents.csv", "loadings.csv", "summary.json", "report.html", "figures"}
    model = lc.FModeling(sample.system.graph).fit(sample.data)
    means, sds = latents_of(out / "latents.csv")
    np.testing.assert_allclose(means, model.latents_, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(sds**2, model.latent_variances_, rtol=1e-6)
    loadings = pd.read_csv(out / "loadings.csv", index_col="measurement")
    assert list(loadings.index) == [f"m{j}" for j in range(12)]
    np.testing.assert_allclose(loadings[["z1", "z2", "z3"]], model.loadings_, atol=1e-10)
    np.testing.assert_array_equal(lc.load(out / "model.safetensors").loadings_, model.loadings_)
    frame = pd.read_csv(out / "latents.csv")
    assert list(frame["index"]) == list(range(450))
    assert list(frame["domain"]) == list(table(sample)["condition"])
    summary = json.loads((out / "summary.json").read_text())
    assert summary["noise_variance"] == model.noise_variance_
    assert summary["domains"]["do(z3)"] == {"samples": 150, "targets": ["z3"]}
    assert summary["graph"] == "z1 -> z2; z2 -> z3"
    assert "FModeling fitted to data.csv: 450 samples of 12 measurements" in (out / "report.html").read_text()
    assert {path.stem for path in (out / "figures").iterdir()} >= {"graph", "latents", "loadings"}


def test_fit_says_what_it_found(folder: Path) -> None:
    said = (folder / "stdout.txt").read_text()
    assert "FModeling of 450 samples" in said
    assert re.search(r"z2 +1 +yes", said)
    assert re.search(r"noise variance [\d.]+; \d+ iterations", said)


def test_g_modeling_reports_its_mechanisms_and_unseen_combinations(folder: Path) -> None:
    done = fit(folder, "--method", "g", "--out", folder / "g")
    assert done.exit_code == 0, done.output
    assert "GModeling of 450 samples" in done.stdout
    html = (folder / "g" / "report.html").read_text()
    assert "do(z1, z3)" in html
    assert (folder / "g" / "figures" / "mechanisms.png").is_file()
    done = fit(folder, "--method", "g", "--score", "empty", "--out", folder / "g")
    assert done.exit_code == 2
    assert "--score belongs to --method f" in done.stderr


def test_transform_and_standardise_are_done_to_the_measurements(folder: Path, sample: InterventionalSample) -> None:
    done = fit(folder, "--transform", "arcsinh", "--cofactor", 2, "--standardise", "--out", folder / "prepared")
    assert done.exit_code == 0, done.output
    x = np.arcsinh(next(x for _, _, x in sample.data.batches()) / 2)
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    data = lc.MultiDomainData(x, table(sample)["condition"], sample.data.targets)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the rough score of few samples
        expected = lc.FModeling(sample.system.graph).fit(data)
    np.testing.assert_allclose(latents_of(folder / "prepared" / "latents.csv")[0], expected.latents_, atol=1e-3)


def test_known_panel_holds_the_loadings_at_the_identity(folder: Path, sample: InterventionalSample) -> None:
    panel = pd.DataFrame(sample.latents + np.random.default_rng(2).normal(size=(450, 3)), columns=["z3", "z1", "z2"])
    panel["unrelated"] = 1.5
    panel["condition"] = table(sample)["condition"]
    panel.to_csv(folder / "panel.csv", index=False)
    done = fit(folder, "--known-panel", "--noise-variance", 1, "--out", folder / "panel", data=folder / "panel.csv")
    assert done.exit_code == 0, done.output
    loadings = pd.read_csv(folder / "panel" / "loadings.csv", index_col="measurement")
    np.testing.assert_allclose(loadings.loc[["z1", "z2", "z3"], ["z1", "z2", "z3"]], np.eye(3), atol=1e-12)
    means, sds = latents_of(folder / "panel" / "latents.csv")
    assert np.corrcoef(means[:, 0], panel["z1"])[0, 1] > 0.9
    assert (sds < 1).mean() > 0.9  # a latent is better known than its noisy measurement
    assert "nothing was iterated" in done.stdout
    done = fit(folder, "--known-panel", "--out", folder / "panel", data=folder / "panel.csv")
    assert done.exit_code == 2
    assert "give --noise-variance" in done.stderr
    done = fit(folder, "--known-panel", "--noise-variance", 1, "--out", folder / "panel2")
    assert "has no column 'z1', 'z2', 'z3'" in done.stderr


@pytest.mark.parametrize("suffix", ["tsv", "parquet", "npy", "h5ad"])
def test_every_format_gives_the_same_latents(folder: Path, sample: InterventionalSample, suffix: str) -> None:
    frame = table(sample)
    x, path, domain = frame.drop(columns="condition"), folder / f"data.{suffix}", "condition"
    if suffix == "tsv":
        frame.to_csv(path, sep="\t", index=False)
    elif suffix == "parquet":
        frame.to_parquet(path, index=False)
    elif suffix == "npy":
        np.save(path, x.to_numpy())
        domain = str(folder / "labels.npy")
        np.save(domain, frame["condition"].to_numpy(dtype=str))
    else:
        anndata = pytest.importorskip("anndata")
        obs = pd.DataFrame({"condition": frame["condition"].to_numpy()}, index=[f"cell{i}" for i in range(len(frame))])
        anndata.AnnData(x.to_numpy(), obs=obs, var=pd.DataFrame(index=list(x.columns))).write_h5ad(path)
    targets, graph = folder / "targets.yaml", "z1 -> z2; z2 -> z3"
    done = run("fit", path, "--domain", domain, "--targets", targets, "--graph", graph, "--out", folder / suffix)
    assert done.exit_code == 0, done.output
    for ours, first in zip(
        latents_of(folder / suffix / "latents.csv"), latents_of(folder / "out" / "latents.csv"), strict=True
    ):
        np.testing.assert_allclose(ours, first, rtol=1e-6, atol=1e-8)


def test_numeric_domains_and_graph_files(folder: Path, sample: InterventionalSample) -> None:
    frame = table(sample)
    frame["condition"] = sample.data.domain_index
    frame.to_parquet(folder / "numbered.parquet")
    (folder / "numbered.csv").write_text("domain,target\n0,z1\n1,z2\n2,z3\n")
    (folder / "graph.csv").write_text("cause,effect\nz1,z2\nz2,z3\n")
    done = fit(
        folder,
        *("--out", folder / "numbered"),
        data=folder / "numbered.parquet",
        targets=folder / "numbered.csv",
        graph=str(folder / "graph.csv"),
    )
    assert done.exit_code == 0, done.output
    frame["condition"] = frame["condition"].astype(str)
    frame.to_csv(folder / "numbered_new.csv", index=False)
    done = run(
        "encode", folder / "numbered", folder / "numbered_new.csv", "--domain", "condition", "--out", folder / "n.csv"
    )
    assert done.exit_code == 0, done.output
    means = latents_of(folder / "out" / "latents.csv")[0]
    np.testing.assert_allclose(latents_of(folder / "n.csv")[0], means, rtol=1e-6, atol=1e-8)


def test_what_the_library_warns_of_is_a_note_and_in_the_report(folder: Path, sample: InterventionalSample) -> None:
    frame = table(sample)
    frame["flat"] = 3.0
    frame.to_csv(folder / "flat.csv", index=False)
    done = fit(folder, "--out", folder / "flat", data=folder / "flat.csv")
    assert done.exit_code == 0, done.output
    assert done.stderr.startswith("note: constant column 'flat'")
    assert "constant column" in json.loads((folder / "flat" / "summary.json").read_text())["notes"][0]
    assert "constant column" in (folder / "flat" / "report.html").read_text()


# --- encode and evaluate ---------------------------------------------------------------------------------------------


def test_encoding_the_data_of_the_fit_gives_its_latents(folder: Path) -> None:
    for model in (folder / "out", folder / "out" / "model.safetensors"):
        done = run("encode", model, folder / "data.csv", "--domain", "condition", "--out", folder / "encoded.csv")
        assert done.exit_code == 0, done.output
        assert (folder / "encoded.csv").read_text() == (folder / "out" / "latents.csv").read_text()


def test_encode_prepares_as_the_fit_did_and_finds_columns_by_name(folder: Path, sample: InterventionalSample) -> None:
    done = fit(folder, "--method", "g", "--standardise", "--transform", "arcsinh", "--out", folder / "model")
    assert done.exit_code == 0, done.output
    part = table(sample).iloc[140:160, ::-1]  # the end of one domain and the beginning of another, columns reversed
    part.to_csv(folder / "part.csv", index=False)
    done = run("encode", folder / "model", folder / "part.csv", "--domain", "condition", "--out", folder / "part_z.csv")
    assert done.exit_code == 0, done.output
    for ours, whole in zip(
        latents_of(folder / "part_z.csv"), latents_of(folder / "model" / "latents.csv"), strict=True
    ):
        np.testing.assert_allclose(ours, whole[140:160], rtol=1e-5, atol=1e-6)


def test_encode_takes_targets_for_domains_that_the_fit_did_not_see(folder: Path, sample: InterventionalSample) -> None:
    fit(folder, "--method", "g", "--out", folder / "g_model")
    frame = table(sample).assign(condition="both")
    frame.to_csv(folder / "both.csv", index=False)
    (folder / "both.json").write_text('{"both": ["z1", "z2"]}')
    named = ["encode", folder / "g_model", folder / "both.csv", "--domain", "condition", "--out", folder / "both_z.csv"]
    done = run(*named)
    assert done.exit_code == 2
    assert "domain 'both' was not in the fit" in done.stderr
    done = run(*named, "--targets", folder / "both.json")
    assert done.exit_code == 0, done.output
    assert len(pd.read_csv(folder / "both_z.csv")) == 450


def test_encode_refuses_what_does_not_fit(folder: Path, sample: InterventionalSample) -> None:
    table(sample).drop(columns="m3").to_csv(folder / "short.csv", index=False)
    named = ["--domain", "condition", "--out", folder / "never.csv"]
    assert "has no column 'm3'" in run("encode", folder / "out", folder / "short.csv", *named).stderr
    np.save(folder / "narrow.npy", np.zeros((3, 2)))
    np.save(folder / "narrow_labels.npy", ["do(z1)"] * 3)
    domain = ["--domain", folder / "narrow_labels.npy", "--out", folder / "never.csv"]
    assert "has 2 columns where the fit had 12" in run("encode", folder / "out", folder / "narrow.npy", *domain).stderr
    assert "there is no model at" in run("encode", folder / "nowhere", folder / "data.csv", *named).stderr
    bare = lc.FModeling(sample.system.graph).fit(sample.data)
    lc.save(bare, folder / "bare.safetensors")
    assert (
        "not written by `latentcause fit`"
        in run("encode", folder / "bare.safetensors", folder / "data.csv", *named).stderr
    )
    assert not (folder / "never.csv").exists()


def test_evaluate_prints_and_writes_the_metrics_of_the_library(folder: Path, sample: InterventionalSample) -> None:
    from latentcause.metrics import align_columns, frobenius_error, mean_correlation_coefficient, relative_mse

    truth = ["--truth", folder / "truth.csv", "--json", folder / "metrics.json"]
    done = run("evaluate", folder / "out", *truth, "--loadings", folder / "loadings.csv")
    assert done.exit_code == 0, done.output
    found = json.loads((folder / "metrics.json").read_text())
    model = lc.load(folder / "out" / "model.safetensors")
    latents = align_columns(model.loadings_, sample.system.loadings).latents(model.latents_)
    assert found["relative_mse"] == pytest.approx(relative_mse(latents, sample.latents))
    first = slice(0, 150)
    assert found["relative_mse_by_domain"]["do(z1)"] == pytest.approx(
        relative_mse(latents[first], sample.latents[first])
    )
    assert found["mean_correlation_coefficient"] == pytest.approx(mean_correlation_coefficient(latents, sample.latents))
    assert found["frobenius_error"] == pytest.approx(frobenius_error(model.loadings_, sample.system.loadings))
    assert 0.8 < found["coverage_90"] < 0.97
    assert f"{found['relative_mse']:.4g}" in done.stdout
    assert "in domain do(z3)" in done.stdout
    without = run("evaluate", folder / "out" / "model.safetensors", *truth)
    assert "Frobenius" not in without.stdout
    assert json.loads((folder / "metrics.json").read_text())["relative_mse"] == pytest.approx(found["relative_mse"])


def test_evaluate_refuses_truth_that_does_not_fit(folder: Path) -> None:
    truth = pd.read_csv(folder / "truth.csv")
    truth.iloc[:-1].to_csv(folder / "short_truth.csv", index=False)
    assert (
        "has 449 rows for the 450 samples"
        in run("evaluate", folder / "out", "--truth", folder / "short_truth.csv").stderr
    )
    truth.drop(columns="z2").to_csv(folder / "less_truth.csv", index=False)
    assert "lacks column 'z2'" in run("evaluate", folder / "out", "--truth", folder / "less_truth.csv").stderr
    truth.assign(z3="high").to_csv(folder / "text_truth.csv", index=False)
    assert (
        "column 'z3' holds values that are no"
        in run("evaluate", folder / "out", "--truth", folder / "text_truth.csv").stderr
    )
    assert (
        "give the true ones with --loadings"
        in run("evaluate", folder / "out", "--truth", folder / "truth.csv", "--scale").stderr
    )


# --- errors and interruptions ----------------------------------------------------------------------------------------


def test_errors_are_one_line_and_exit_code_2(folder: Path) -> None:
    cases = {
        "there is no file": fit(folder, data=folder / "absent.csv"),
        "the graph has a cycle: z1 -> z2 -> z1": fit(folder, graph="z1 -> z2; z2 -> z1"),
        "target 'z3' of domain 'do(z3)' is not a node of the graph": fit(folder, graph="z1 -> z2"),
        "there is no file graf.csv": fit(folder, graph="graf.csv"),
        "must end in .csv": fit(folder, data=folder / "targets.yaml"),
        "has no column 'q'": fit(folder, "--measurements", "m1,q,m2"),
    }
    for message, done in cases.items():
        assert done.exit_code == 2, message
        assert done.stderr.startswith("error: "), done.stderr
        assert message in done.stderr
        assert done.stderr.count("\n") == 1
        assert "Traceback" not in done.output


def test_debug_lets_the_error_through(folder: Path) -> None:
    arguments = [
        "fit",
        folder / "absent.csv",
        "--domain",
        "d",
        "--targets",
        folder / "targets.yaml",
        "--graph",
        "a -> b",
    ]
    assert isinstance(run("--debug", *arguments).exception, FileNotFoundError)


def test_a_foreign_folder_is_not_written_into(folder: Path) -> None:
    (folder / "mine").mkdir()
    (folder / "mine" / "thesis.txt").write_text("years of work")
    done = fit(folder, "--out", folder / "mine")
    assert done.exit_code == 2
    assert "has contents that latentcause did not write" in done.stderr
    assert [path.name for path in (folder / "mine").iterdir()] == ["thesis.txt"]


def test_a_stopped_fit_leaves_the_last_result_as_it_was(folder: Path, tmp_path: Path) -> None:
    started = tmp_path / "started"
    code = (
        "import time, pathlib\n"
        "from latentcause.models.f_modeling import FModeling\n"
        f"def fit(self, data): pathlib.Path({str(started)!r}).touch(); time.sleep(60)\n"
        f"FModeling.fit = fit\n{RUN}"
    )
    out = tmp_path / "results" / "fit"
    out.mkdir(parents=True)
    (out / ".latentcause-output").touch()
    (out / "report.html").write_text("the last run")
    named = [
        "--domain",
        "condition",
        "--targets",
        folder / "targets.yaml",
        "--graph",
        "z1 -> z2; z2 -> z3",
        "--out",
        out,
    ]
    process = subprocess.Popen([sys.executable, "-c", code, "fit", folder / "data.csv", *map(str, named)])
    try:
        deadline = time.monotonic() + 60
        while not started.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        assert started.exists()
        assert len(list(out.parent.iterdir())) == 2  # the last result, and the hidden folder being filled
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 143
    finally:
        process.kill()
    assert [path.name for path in out.parent.iterdir()] == ["fit"]
    assert (out / "report.html").read_text() == "the last run"


# --- demo and help ---------------------------------------------------------------------------------------------------


def test_demo_prints_the_limit_first_and_writes_the_report(tmp_path: Path) -> None:
    done = run("demo", "--quick", "--out", tmp_path / "demo")
    assert done.exit_code == 0, done.output
    rows = [re.match(r"\s*(\S.*?)\s{2,}(\d\.\d+)\s+(\d+\.\d\d)\s", line) for line in done.stdout.splitlines()]
    ratios = {row[1]: float(row[3]) for row in rows if row}
    assert next(iter(ratios)).startswith("Bayes limit")
    assert 1 <= ratios["g-modeling"] < 1.2
    assert 1 <= ratios["f-modeling"] < 1.3
    assert ratios["PCA"] > 3
    assert "VAE" not in done.stdout
    assert (tmp_path / "demo" / "report.html").stat().st_size > 100_000
    assert len(list((tmp_path / "demo" / "figures").glob("*.png"))) == 8


def test_help_loads_nothing_heavy_and_every_command_shows_an_example() -> None:
    code = (
        "import sys\ntry:\n    from latentcause.cli import main; main()\nexcept SystemExit: pass\n"
        f"print('loaded:', [name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=True)
    assert "loaded: []" in done.stdout
    for command in ("demo", "fit", "encode", "evaluate", "discover", "scm", "reproduce"):
        assert command in done.stdout
    asked = [["scm", question] for question in ("fit", "sample", "counterfactual", "effect")]
    for command in (["demo"], ["fit"], ["encode"], ["evaluate"], ["discover"], *asked, ["reproduce", "eb-crl"]):
        shown = run(*command, "--help")
        assert shown.exit_code == 0
        assert f"Example: latentcause {' '.join(command)}" in " ".join(shown.stdout.split())


def test_version() -> None:
    assert run("--version").stdout.strip() == f"latentcause {lc.__version__}"
