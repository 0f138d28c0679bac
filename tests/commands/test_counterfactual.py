"""``latentcause fit --method causal-diffae`` and ``counterfactual``: their files hold what the library answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

import latentcause as lc
from latentcause.cli import app
from latentcause.commands.images import read_labelled_images
from latentcause.data.labelled_images import LabelledImages
from latentcause.datasets.images.digits import digits
from latentcause.datasets.images.morphomnist import measure_strokes

GRAPH = "ink -> intensity"
QUICK = ("--epochs", 2, "--channels", "8,16", "--held-out", 0.2)
BOUNDS = ("--bounds", "intensity=64:255")


def run(*args: object) -> Any:
    return CliRunner().invoke(app, [str(arg) for arg in args])


def refused(done: Any, message: str) -> None:
    assert done.exit_code == 2, done.output
    assert done.stderr.count("error: ") == 1, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: "), done.stderr
    assert message in last, done.stderr


def fit(home: Path, *more: object, images: object = None, labels: object = None, graph: str = GRAPH) -> Any:
    named = ["--labels", labels or home / "labels.csv", "--graph", graph, "--method", "causal-diffae"]
    return run("fit", images or home / "digits", *named, *QUICK, *more)


def write_folder(home: Path, pixels: np.ndarray, labels: pd.DataFrame) -> None:
    (home / "digits").mkdir()
    files = [f"{row:03d}.png" for row in range(len(pixels))]
    for file, image in zip(files, pixels, strict=True):
        Image.fromarray(np.round(255 * image[0]).astype(np.uint8)).save(home / "digits" / file)
    labels.assign(file=files)[["file", *labels.columns]].to_csv(home / "labels.csv", index=False)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 60 digits, their labels, and what ``fit`` made of them."""
    folder = tmp_path_factory.mktemp("images")
    drawn = digits(60, seed=0)
    write_folder(folder, drawn.images.pixels, drawn.images.labels)
    done = fit(folder, *BOUNDS, "--checkpoint", folder / "state.pt", "--out", folder / "model")
    assert done.exit_code == 0, done.output
    (folder / "stdout.txt").write_text(done.stdout)
    return folder


def read_png(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def of_folder(home: Path) -> LabelledImages:
    return LabelledImages.from_folder(home / "digits", home / "labels.csv")


# --- fit -------------------------------------------------------------------------------------------------------------


def test_fit_writes_the_model_that_python_fits(home: Path) -> None:
    out = home / "model"
    names = {path.name for path in out.iterdir() if not path.name.startswith(".")}
    assert names == {"model.safetensors", "factors.csv", "summary.json", "report.html", "figures"}
    assert {path.stem for path in (out / "figures").iterdir()} == {"graph", "examples", "history"}
    rest, held = of_folder(home).split(0.2, seed=0)
    bounds = {"intensity": (64, 255)}
    model = lc.CausalDiffAE(lc.CausalGraph.from_string(GRAPH), bounds=bounds, channels=(8, 16), epochs=2).fit(rest)
    written = pd.read_csv(out / "factors.csv")
    files = pd.read_csv(home / "labels.csv")
    assert list(written["image"]) == list(files["file"][np.isin(files["ink"], held.labels["ink"])])
    np.testing.assert_allclose(written[["label_ink", "label_intensity"]], held.labels, rtol=1e-8)
    encoded = model.encode(held)
    np.testing.assert_allclose(written[["encoded_ink", "encoded_intensity"]], encoded, rtol=1e-4)
    np.testing.assert_allclose(lc.load(out / "model.safetensors").encode(held), encoded, rtol=1e-4)
    summary = json.loads((out / "summary.json").read_text())
    assert summary["images"] == {"training": 48, "labelled": 48, "held_out": 12}
    found, labels = summary["held_out"]["factors"], held.labels
    assert found["ink"]["error"] == pytest.approx((encoded["ink"] - labels["ink"]).abs().mean(), rel=1e-4)
    assert found["ink"]["floor"] == pytest.approx((rest.labels["ink"].median() - labels["ink"]).abs().mean())
    assert np.abs(model.counterfactual(held, {}) - held.pixels).mean() < 1e-6
    assert summary["held_out"]["null_intervention_error"] < 1e-4  # factors set to what they are, but for rounding
    do = {"ink": float(f"{rest.labels['ink'].quantile(0.1):.3g}")}
    answers, wanted = model.counterfactual(held, do), model.counterfactual_factors(held, do)
    error = (model.encode(answers)["intensity"] - wanted["intensity"]).abs().mean()
    first = summary["held_out"]["interventions"][0]
    assert first["do"] == f"ink = {do['ink']:g}"
    assert first["error"]["intensity"] == pytest.approx(error, rel=0.01)
    html = (out / "report.html").read_text()
    assert "fitted to 48 images of 1 x 8 x 8 in digits" in html
    assert f"{found['intensity']['error']:.3g}" in html


def test_fit_says_how_good_it_is_and_removes_the_checkpoint(home: Path) -> None:
    said = (home / "stdout.txt").read_text()
    assert "CausalDiffAE of 48 images (48 labelled), 2 epochs" in said
    error = json.loads((home / "model" / "summary.json").read_text())["held_out"]["factors"]["ink"]["error"]
    assert f"{error:.3g}" in said
    assert not list(home.glob("state*"))


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_arrays_are_read_as_the_folder_is(home: Path, tmp_path: Path, suffix: str) -> None:
    pixels = np.round(255 * of_folder(home).pixels[:, 0]).astype(np.uint8)
    path = tmp_path / f"images.{suffix}"
    if suffix == "npy":
        np.save(path, pixels)
    else:
        np.savez(path, images=pixels[:, None], other=np.zeros(3))
    ours, numbers = read_labelled_images(path, home / "labels.csv", few_labels=False, categorical=[])
    theirs, files = read_labelled_images(home / "digits", home / "labels.csv", few_labels=False, categorical=[])
    np.testing.assert_array_equal(ours.pixels, theirs.pixels)
    pd.testing.assert_frame_equal(ours.labels, theirs.labels)
    assert [f"{int(number):03d}.png" for number in numbers] == files


def test_a_stopped_training_goes_on_to_the_same_model(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from latentcause import training

    save, saved = training._State.save, []

    def save_and_stop(self: Any, path: Path) -> None:
        save(self, path)
        saved.append(path.name)
        if len(saved) == 3:  # two epochs of the encoder, one of the whole
            raise KeyboardInterrupt

    named = [*BOUNDS, "--checkpoint", tmp_path / "state.pt", "--out", tmp_path / "model"]
    with monkeypatch.context() as patched:
        patched.setattr(training._State, "save", save_and_stop)
        assert fit(home, *named).exit_code != 0
    assert {path.name for path in tmp_path.iterdir()} == {"state.pt", "state.encoder.pt"} == set(saved)
    with monkeypatch.context() as patched:
        patched.setattr(training._State, "save", lambda self, path: saved.append(path.name) or save(self, path))
        done = fit(home, *named)
    assert done.exit_code == 0, done.output
    assert len(saved) == 4  # one epoch was left
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    written = [(folder / "model" / "factors.csv").read_text() for folder in (home, tmp_path)]
    assert written[0] == written[1]


def test_few_labels_learn_from_all_and_measure_on_the_labelled(home: Path, tmp_path: Path) -> None:
    labels = pd.read_csv(home / "labels.csv")
    labels.iloc[:40].to_csv(tmp_path / "some.csv", index=False)
    named = [*BOUNDS, "--out", tmp_path / "model"]
    refused(fit(home, *named, labels=tmp_path / "some.csv"), "20 of 60 images")
    done = fit(home, *named, labels=tmp_path / "some.csv")
    assert "--few-labels" in done.stderr
    done = fit(home, *named, "--few-labels", labels=tmp_path / "some.csv")
    assert done.exit_code == 0, done.output
    counts = json.loads((tmp_path / "model" / "summary.json").read_text())["images"]
    assert counts == {"training": 52, "labelled": 32, "held_out": 8}
    assert set(pd.read_csv(tmp_path / "model" / "factors.csv")["image"]) < set(labels["file"][:40])


def test_categories_are_judged_by_the_share_that_is_wrong(home: Path, tmp_path: Path) -> None:
    drawn = digits(60, seed=0)
    labels = pd.DataFrame({"heavy": np.where(drawn.images.labels["ink"] > 20, 7, 3), **drawn.images.labels})
    labels.drop(columns="ink").to_csv(tmp_path / "labels.csv", index=False)
    np.save(tmp_path / "images.npy", drawn.images.pixels)
    named = ["--categorical", "heavy", "--bounds", "intensity=64:255", "--out", tmp_path / "model"]
    files = {"images": tmp_path / "images.npy", "labels": tmp_path / "labels.csv", "graph": "heavy -> intensity"}
    done = fit(tmp_path, *named, **files)
    assert done.exit_code == 0, done.output
    summary = json.loads((tmp_path / "model" / "summary.json").read_text())
    table = pd.read_csv(tmp_path / "model" / "factors.csv")
    wrong = summary["held_out"]["factors"]["heavy"]
    assert wrong["measure"] == "share wrong"
    assert wrong["error"] == pytest.approx((table["label_heavy"] != table["encoded_heavy"]).mean())
    assert [entry["do"] for entry in summary["held_out"]["interventions"]][:2] == ["heavy = 3", "heavy = 7"]
    asked = ["counterfactual", tmp_path / "model", tmp_path / "images.npy", "--do", "heavy=7", "--n", 3]
    done = run(*asked, "--labels", tmp_path / "labels.csv", "--out", tmp_path / "cf")
    assert done.exit_code == 0, done.output
    assert list(pd.read_csv(tmp_path / "cf" / "factors.csv")["counterfactual_heavy"]) == [7, 7, 7]
    refused(run(*asked[:-3], "heavy=5", "--out", tmp_path / "no"), "'5' is no level of 'heavy': its levels are 3, 7")


def test_options_of_the_other_methods_are_refused(home: Path, tmp_path: Path) -> None:
    out = ["--out", tmp_path / "never"]
    refused(fit(home, "--domain", "condition", *out), "--domain belongs to --method f and g, not to causal-diffae")
    refused(fit(home, "--score", "full", *out), "--score belongs to --method f, not to causal-diffae")
    table = ["fit", home / "labels.csv", "--graph", GRAPH]
    refused(run(*table, "--labels", "x.csv", *out), "--labels belongs to --method causal-diffae, not to f")
    refused(run(*table, "--method", "causal-diffae", *out), "needs --labels")
    refused(run(*table, "--domain", "condition", *out), "needs --domain and --targets")
    assert not (tmp_path / "never").exists()


def test_fit_refuses_images_and_labels_that_do_not_belong_together(home: Path, tmp_path: Path) -> None:
    labels = pd.read_csv(home / "labels.csv")
    factors = labels.drop(columns="file")
    factors.to_csv(tmp_path / "labels.csv", index=False)
    labels.assign(slant=range(60)).to_csv(tmp_path / "more.csv", index=False)
    labels.assign(ink=labels["ink"].where(labels.index > 2)).to_csv(tmp_path / "gaps.csv", index=False)
    factors.iloc[:50].to_csv(tmp_path / "short.csv", index=False)
    pixels = of_folder(home).pixels.astype(float)
    np.save(tmp_path / "images.npy", pixels)
    pixels[3, 0, 1, 1] = pixels[5, 0, 1, 1] = np.nan
    np.save(tmp_path / "nan.npy", pixels)
    np.savez(tmp_path / "two.npz", a=pixels, b=pixels)
    (tmp_path / "cut.npy").write_bytes((tmp_path / "images.npy").read_bytes()[:5000])
    (tmp_path / "uneven").mkdir()
    for name, side in (("a.png", 8), ("b.png", 9)):
        Image.new("L", (side, 8)).save(tmp_path / "uneven" / name)
    (tmp_path / "uneven.csv").write_text("file,ink,intensity\na.png,13,70\nb.png,14,80\n")
    table, more = tmp_path / "labels.csv", tmp_path / "more.csv"
    cases = {
        "images of unequal size: b.png has 9 x 8": fit(
            home, images=tmp_path / "uneven", labels=tmp_path / "uneven.csv"
        ),
        "labels are missing for 3 of 60 images": fit(home, labels=tmp_path / "gaps.csv"),
        "label column 'slant' is no node of the graph": fit(home, labels=more),
        "node 'slant' of the graph has no label column": fit(home, graph=f"{GRAPH}; slant -> ink"),
        "2 images have NaN pixels (first: image 3)": fit(home, images=tmp_path / "nan.npy", labels=table),
        "short.csv has 50 rows for the 60 images": fit(
            home, images=tmp_path / "images.npy", labels=tmp_path / "short.csv"
        ),
        "it holds the arrays 'a', 'b': call the images": fit(home, images=tmp_path / "two.npz", labels=table),
        "cut.npy can't be read as an array": fit(home, images=tmp_path / "cut.npy", labels=table),
        "there is no folder or file": fit(home, images=tmp_path / "absent"),
        "there is no file": fit(home, labels=tmp_path / "absent.csv"),
        "write FACTOR=LOW:HIGH": fit(home, "--bounds", "ink=12"),
        "bounds are given for 'slant', which is no factor": fit(home, "--bounds", "slant=0:1"),
        "--categorical names 'slant', which is no column": fit(home, "--categorical", "slant"),
        "--held-out 0.001 of 60 labelled images leaves one part empty": fit(home, "--held-out", 0.001),
        "--channels '8,x'": fit(home, "--channels", "8,x"),
    }
    for message, done in cases.items():
        refused(done, message)
    assert not Path("out/fit").exists()


# --- counterfactual --------------------------------------------------------------------------------------------------


def ask(home: Path, out: Path, *more: object, images: object = None) -> Any:
    return run("counterfactual", home / "model", images or home / "digits", *more, "--out", out)


def test_counterfactual_writes_what_the_model_answers(home: Path, tmp_path: Path) -> None:
    named = ["--do", "ink=20", "--labels", home / "labels.csv", "--n", 5, "--guidance", 1.5, "--measure", "strokes"]
    done = ask(home, tmp_path / "cf", *named)
    assert done.exit_code == 0, done.output
    images, model = of_folder(home).subset(slice(0, 5)), lc.load(home / "model" / "model.safetensors")
    expected = model.counterfactual(images, {"ink": 20.0}, images.labels, guidance=1.5)
    with np.load(tmp_path / "cf" / "counterfactuals.npz") as arrays:
        np.testing.assert_allclose(arrays["images"], expected, atol=1e-6)
        np.testing.assert_allclose(arrays["factual"], images.pixels, atol=1e-6)
    files = sorted(path.name for path in (tmp_path / "cf" / "images").iterdir())
    assert files == [f"{row:04d}_{row:03d}.png" for row in range(5)]
    shown = read_png(tmp_path / "cf" / "images" / files[2]) / 255
    np.testing.assert_allclose(shown, expected[2, 0], atol=0.5 / 255 + 1e-6)
    table = pd.read_csv(tmp_path / "cf" / "factors.csv")
    assert list(table["image"]) == [f"{row:03d}.png" for row in range(5)]
    np.testing.assert_allclose(table[["factual_ink", "factual_intensity"]], images.labels, rtol=1e-8)
    changed = model.counterfactual_factors(images, {"ink": 20.0}, images.labels)
    np.testing.assert_allclose(table[["counterfactual_ink", "counterfactual_intensity"]], changed, rtol=1e-6)
    measured = measure_strokes(expected)
    columns = ["measured_counterfactual_thickness", "measured_counterfactual_intensity"]
    np.testing.assert_allclose(table[columns], measured, rtol=1e-4)
    assert read_png(tmp_path / "cf" / "grid.png").shape[1] > 500
    assert "5 images as they would have been under do(ink = 20)" in done.stdout
    assert "measured thickness" in done.stdout


def test_without_labels_the_encoder_says_what_was(home: Path, tmp_path: Path) -> None:
    done = ask(home, tmp_path / "cf", "--shift", "intensity=10")
    assert done.exit_code == 0, done.output
    images, model = of_folder(home).subset(slice(0, 8)), lc.load(home / "model" / "model.safetensors")
    table = pd.read_csv(tmp_path / "cf" / "factors.csv")
    factual = model.encode(images)
    np.testing.assert_allclose(table[["factual_ink", "factual_intensity"]], factual, rtol=1e-5)
    np.testing.assert_allclose(table["counterfactual_ink"], factual["ink"], rtol=1e-5)
    np.testing.assert_allclose(table["counterfactual_intensity"], factual["intensity"] + 10, rtol=1e-5)


def test_answers_can_be_asked_again(home: Path, tmp_path: Path) -> None:
    assert ask(home, tmp_path / "one", "--do", "ink=20", "--n", 4).exit_code == 0
    for images in (tmp_path / "one" / "counterfactuals.npz", tmp_path / "one" / "images"):
        assert ask(home, tmp_path / "two", "--do", "ink=15", "--n", 1, images=images).exit_code == 0
    single = tmp_path / "one" / "images" / "0003_003.png"
    assert ask(home, tmp_path / "three", "--do", "ink=15", images=single).exit_code == 0
    assert list(pd.read_csv(tmp_path / "three" / "factors.csv")["image"]) == ["0003_003.png"]
    refused(ask(home, tmp_path / "no", "--do", "ink=15", "--labels", home / "labels.csv", images=single), "one image")


def test_far_outside_the_seen_range_is_said(home: Path, tmp_path: Path) -> None:
    done = ask(home, tmp_path / "cf", "--do", "ink=27.9", "--n", 2)
    assert "note: " not in done.stderr
    kept = of_folder(home).split(0.2, seed=0)[0].labels["ink"]
    done = ask(home, tmp_path / "cf", "--do", "ink=60", "--n", 2)
    assert done.exit_code == 0, done.output
    assert done.stderr.count("note: do(ink = 60) lies far outside the labels seen") == 1
    assert f"{kept.min():g} to {kept.max():g}" in done.stderr
    assert "far outside" in json.loads((tmp_path / "cf" / "summary.json").read_text())["notes"][0]


def test_counterfactual_refuses_what_the_model_cannot_answer(home: Path, tmp_path: Path) -> None:
    labels = pd.read_csv(home / "labels.csv")
    labels.drop(columns="ink").to_csv(tmp_path / "less.csv", index=False)
    labels.assign(ink=labels["ink"].where(labels.index != 1)).to_csv(tmp_path / "gaps.csv", index=False)
    whole = (home / "model" / "model.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(50, 2)), columns=["ink", "intensity"])
    lc.save(lc.StructuralCausalModel.fit(lc.CausalGraph.from_string(GRAPH), frame), tmp_path / "scm.safetensors")
    np.save(tmp_path / "large.npy", np.zeros((2, 12, 12)))
    np.save(tmp_path / "nan.npy", np.full((2, 8, 8), np.nan))
    (tmp_path / "empty").mkdir()
    do, out = ("--do", "ink=20"), tmp_path / "never"
    other = ["counterfactual", tmp_path / "scm.safetensors", home / "digits", *do, "--out", out]
    cut = ["counterfactual", tmp_path / "cut.safetensors", home / "digits", *do, "--out", out]
    cases = {
        "--do names 'slant', which is not a node of the model: its nodes are ink, intensity": ask(
            home, out, "--do", "slant=1"
        ),
        "nothing is asked": ask(home, out),
        "'thick' is no number": ask(home, out, "--do", "ink=thick"),
        "do(intensity) is not strictly inside its bounds": ask(home, out, "--do", "intensity=300"),
        "images of 1 x 12 x 12, but the model was fitted to 1 x 8 x 8": ask(
            home, out, *do, images=tmp_path / "large.npy"
        ),
        "2 images have NaN pixels": ask(home, out, *do, images=tmp_path / "nan.npy"),
        "holds no images": ask(home, out, *do, images=tmp_path / "empty"),
        "the labels have no column 'ink' of the model": ask(home, out, *do, "--labels", tmp_path / "less.csv"),
        "labels are missing for 1 of 8 images (first: image 1)": ask(home, out, *do, "--labels", tmp_path / "gaps.csv"),
        "holds a StructuralCausalModel, not a model of images": run(*other),
        "cut.safetensors is cut short or damaged": run(*cut),
        "there is no model at": run("counterfactual", tmp_path / "absent", home / "digits", *do, "--out", out),
    }
    for message, done in cases.items():
        refused(done, message)
    assert not out.exists()


def test_colour_images_are_fitted_and_answered_in_colour(tmp_path: Path) -> None:
    drawn = digits(40, seed=1)
    pixels = drawn.images.pixels * np.array([1.0, 0.5, 0.0], dtype=np.float32)[:, None, None]
    np.save(tmp_path / "images.npy", pixels)
    drawn.images.labels.to_csv(tmp_path / "labels.csv", index=False)
    done = fit(tmp_path, *BOUNDS, "--out", tmp_path / "model", images=tmp_path / "images.npy")
    assert done.exit_code == 0, done.output
    done = ask(tmp_path, tmp_path / "cf", "--do", "ink=20", "--n", 2, images=tmp_path / "images.npy")
    assert done.exit_code == 0, done.output
    assert read_png(tmp_path / "cf" / "images" / "0001_1.png").shape == (8, 8, 3)
    Image.new("L", (8, 8), 200).save(tmp_path / "grey.png")
    done = ask(tmp_path, tmp_path / "grey", "--do", "ink=20", images=tmp_path / "grey.png")
    assert done.exit_code == 0, done.output
    strokes = ask(tmp_path, tmp_path / "no", "--do", "ink=20", "--measure", "strokes", images=tmp_path / "images.npy")
    refused(strokes, "strokes are measured on grey images")
