"""Labelled images: what goes in comes out, and what does not fit is refused by name."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

import latentcause as lc
from latentcause.data import LabelledImages, Variables

LABELS = {"thickness": [2.5, 3.0, 1.0], "bold": [True, False, True], "digit": ["two", "one", "two"]}

pixels = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 6), st.sampled_from([1, 3]), st.integers(1, 7), st.integers(5, 9)),
    elements=st.floats(0, 1, width=32),
)


@given(pixels, st.data())
def test_pixels_and_labels_come_back_as_given(images: np.ndarray, data: st.DataObject) -> None:
    n = len(images)
    numbers = data.draw(hnp.arrays(np.float64, n, elements=st.floats(-1e6, 1e6)))
    kinds = data.draw(st.lists(st.sampled_from(["a", "b", "c"]), min_size=n, max_size=n))
    found = LabelledImages(images, {"t": numbers, "kind": kinds})
    np.testing.assert_array_equal(found.pixels, images)
    np.testing.assert_array_equal(found.labels["t"], numbers)
    assert found.labels["kind"].tolist() == kinds
    assert found.levels == {"kind": tuple(sorted(set(kinds)))}
    assert found.labelled.all()
    np.testing.assert_array_equal(LabelledImages(torch.from_numpy(images), found.labels).values, found.values)


@given(pixels, st.data())
def test_missing_labels_are_counted_or_allowed(images: np.ndarray, data: st.DataObject) -> None:
    n = len(images)
    known = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    frame = pd.DataFrame({"t": np.arange(n, dtype=float), "kind": ["x"] * n})
    frame.loc[~known] = None
    if known.all():
        assert LabelledImages(images, frame, few_labels=True).labelled.all()
        return
    with pytest.raises(
        ValueError, match=rf"missing for {(~known).sum()} of {n} images \(first: image {known.argmin()}\)"
    ):
        LabelledImages(images, frame)
    if not known.any():
        with pytest.raises(ValueError, match="no image has labels"):
            LabelledImages(images, frame, few_labels=True)
        return
    found = LabelledImages(images, frame, few_labels=True)
    np.testing.assert_array_equal(found.labelled, known)
    np.testing.assert_array_equal(np.isnan(found.values), np.repeat(~known[:, None], 2, axis=1))
    np.testing.assert_array_equal(found.labels.isna(), frame.isna())
    np.testing.assert_array_equal(found.variables.column("t"), np.flatnonzero(known))
    assert f"{known.sum()} of them labelled" in repr(found)


@given(pixels, st.integers(1, 7), st.one_of(st.none(), st.integers(0, 9)))
def test_batches_hold_every_image_once(images: np.ndarray, size: int, seed: int | None) -> None:
    data = LabelledImages(images, {"row": np.arange(len(images))})
    batches = list(data.batches(size, seed=seed))
    rows = np.concatenate([batch[0] for batch in batches])
    assert sorted(rows) == list(range(len(images)))
    assert seed is not None or (np.diff(rows) == 1).all()
    np.testing.assert_array_equal(np.concatenate([batch[1] for batch in batches]), images[rows])
    np.testing.assert_array_equal(np.concatenate([batch[2] for batch in batches])[:, 0], rows)
    assert all(len(batch[0]) == size for batch in batches[:-1])


@given(st.integers(2, 30), st.data())
def test_split_is_a_partition_that_the_seed_fixes(n: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, n - 1))
    images = LabelledImages(np.zeros((n, 2, 2)), {"row": np.arange(n)})
    rest, held = images.split(count, seed=3)
    assert len(held) == count
    assert sorted([*rest.values[:, 0], *held.values[:, 0]]) == list(range(n))
    np.testing.assert_array_equal(images.split(count, seed=3)[1].values, held.values)


def test_split_takes_a_share_and_refuses_an_empty_part() -> None:
    images = LabelledImages(np.zeros((10, 2, 2)), {"row": np.arange(10)})
    assert [len(part) for part in images.split(0.3, seed=0)] == [7, 3]
    for held_out in (0.01, 10, 0):
        with pytest.raises(ValueError, match="leaves one part empty"):
            images.split(held_out, seed=0)


def test_units_levels_and_order_are_kept() -> None:
    order = pd.Categorical(["low", "high", "low"], categories=["low", "middle", "high"])
    data = LabelledImages(np.zeros((3, 4, 4)), {**LABELS, "dose": order})
    assert data.levels == {"bold": (False, True), "digit": ("one", "two"), "dose": ("low", "middle", "high")}
    np.testing.assert_array_equal(data.values, [[2.5, 1, 1, 0], [3.0, 0, 0, 2], [1.0, 1, 1, 0]])
    np.testing.assert_array_equal(data.values_of(["digit", "thickness"]), [[1, 2.5], [0, 3.0], [1, 1.0]])
    part = data.subset([2, 0])
    assert part.levels == data.levels
    np.testing.assert_array_equal(part.values, data.values[[2, 0]])
    assert data.labels["dose"].tolist() == ["low", "high", "low"]
    assert "thickness: 1 to 3" in repr(data)
    assert "3 images of 1 x 4 x 4" in repr(data)
    with pytest.raises(ValueError, match="no label 'size'"):
        data.values_of(["size"])
    with pytest.raises(ValueError, match="at least one image"):
        data.subset([])


def test_bytes_become_floats() -> None:
    data = LabelledImages(np.array([[[0, 51], [255, 102]]], dtype=np.uint8), {"t": [1.0]})
    np.testing.assert_allclose(data.pixels, [[[[0, 0.2], [1, 0.4]]]], rtol=1e-7)


def test_nothing_can_be_changed() -> None:
    source = np.zeros((3, 1, 4, 4), dtype=np.float32)
    data = LabelledImages(source, LABELS)
    source[:] = 1
    assert not data.pixels.any()
    for array in (data.pixels, data.values, data.labelled, data.subset([0]).pixels):
        with pytest.raises(ValueError, match="read-only"):
            array[:] = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        data.names = ("a",)  # type: ignore[misc]
    labels = data.labels
    labels.loc[0, "thickness"] = 9.0
    assert data.labels["thickness"][0] == 2.5


def test_tables_of_variables_are_read() -> None:
    table = Variables(("a", "b"), np.array([[0.0, 1.5], [1.0, 2.5]]), {"a": ("no", "yes")})
    assert LabelledImages(np.zeros((2, 3, 3)), table).labels["a"].tolist() == ["no", "yes"]
    assert LabelledImages(np.zeros((2, 3, 3)), {"t": torch.tensor([1.0, 2.0])}).labels["t"].tolist() == [1, 2]


def nan_in_image_1() -> np.ndarray:
    images = np.zeros((3, 1, 8, 8))
    images[1, 0, 2, 3] = np.nan
    return images


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (nan_in_image_1(), LABELS, r"1 images have NaN pixels \(first: image 1\)"),
        (np.full((3, 8, 8), 255.0), LABELS, r"first: image 0, 255 to 255\): divide by 255"),
        (np.full((3, 8, 8), -1.0), LABELS, "scale them"),
        (np.zeros((3, 8, 8), dtype=np.int64), LABELS, "dtype int64"),
        (np.zeros((3, 8)), LABELS, r"shape \(3, 8\)"),
        (np.zeros((0, 1, 8, 8)), LABELS, "give"),
        (np.zeros((3, 8, 8, 3)), LABELS, "channels last"),
        (np.zeros((4, 8, 8)), LABELS, "3 rows of labels for 4 images"),
        (np.zeros((3, 8, 8)), {"a": [1.0, 2.0, 3.0], "b": [1.0]}, "differ in length"),
        (np.zeros((3, 8, 8)), {}, "0 rows of labels"),
        (np.zeros((3, 8, 8)), pd.DataFrame(index=range(3)), "no columns"),
        (np.zeros((3, 8, 8)), np.zeros((3, 2)), "give a DataFrame or a dict"),
        (np.zeros((3, 8, 8)), {"a": [1.0, np.inf, 2.0]}, r"'a' \(1 values, first in row 1\)"),
        (np.zeros((3, 8, 8)), {"a": [1.0, None, 2.0]}, r"column 'a' \(1\).*few_labels=True"),
    ],
)
def test_bad_input_is_refused_by_name(images: np.ndarray, labels: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LabelledImages(images, labels)


def test_rows_with_some_labels_only_are_refused() -> None:
    labels = pd.DataFrame({"a": [1.0, 2.0, None], "b": [1.0, None, None]})
    with pytest.raises(ValueError, match=r"first: image 1, which lacks 'b'"):
        LabelledImages(np.zeros((3, 4, 4)), labels, few_labels=True)


def test_bad_values_among_few_labels_are_counted_in_rows_of_the_whole_table() -> None:
    labels = pd.DataFrame({"a": [None, 1.0, None, np.inf]})
    with pytest.raises(ValueError, match="first in row 3"):
        LabelledImages(np.zeros((4, 4, 4)), labels, few_labels=True)


def test_labels_and_graph_must_name_the_same_factors() -> None:
    data = LabelledImages(np.zeros((3, 4, 4)), {"t": [1.0, 2.0, 4.0], "i": [3.0, 1.0, 2.0]})
    data.validate_for(lc.CausalGraph.from_string("t -> i"))
    with pytest.raises(ValueError, match="label column 'i' is no node"):
        data.validate_for(lc.CausalGraph.from_string("t"))
    with pytest.raises(ValueError, match="node 'slant' of the graph has no label column"):
        data.validate_for(lc.CausalGraph.from_string("slant -> t -> i"))
    constant = LabelledImages(np.zeros((3, 4, 4)), {"t": [1.0, 1.0, 1.0]})
    with pytest.raises(ValueError, match="'t' is constant"):
        constant.validate_for(lc.CausalGraph.from_string("t"))


# --- folders ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("b.png", "a.png", "c.png"):
        Image.fromarray(rng.integers(0, 256, (5, 7), dtype=np.uint8)).save(tmp_path / name)
    (tmp_path / "labels.csv").write_text("file,t,kind\nb.png,1.5,x\na.png,2.5,y\nc.png,3.5,x\n")
    return tmp_path


def test_folder_is_read_in_the_order_of_the_table(folder: Path) -> None:
    data = LabelledImages.from_folder(folder, folder / "labels.csv")
    assert data.pixels.shape == (3, 1, 5, 7)
    np.testing.assert_allclose(data.pixels[0, 0] * 255, np.asarray(Image.open(folder / "b.png")), rtol=1e-6)
    assert data.labels["t"].tolist() == [1.5, 2.5, 3.5]
    assert data.labels["kind"].tolist() == ["x", "y", "x"]


def test_first_column_names_the_files_where_none_is_called_file(folder: Path) -> None:
    (folder / "labels.csv").write_text("picture,t\na.png,1\nb.png,2\nc.png,3\n")
    assert LabelledImages.from_folder(folder, folder / "labels.csv").names == ("t",)


def test_one_colour_image_makes_all_of_three_channels(folder: Path) -> None:
    colours = np.random.default_rng(1).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    Image.fromarray(colours).save(folder / "c.png")
    data = LabelledImages.from_folder(folder, folder / "labels.csv")
    assert data.pixels.shape == (3, 3, 5, 7)
    np.testing.assert_allclose(data.pixels[2] * 255, np.moveaxis(colours, -1, 0), rtol=1e-6)
    np.testing.assert_array_equal(data.pixels[0, 0], data.pixels[0, 2])


def test_images_without_a_row_need_few_labels(folder: Path) -> None:
    (folder / "labels.csv").write_text("file,t\nb.png,1.5\n")
    with pytest.raises(ValueError, match=r"2 of 3 images in .* have no row in labels.csv \('a.png', 'c.png'\)"):
        LabelledImages.from_folder(folder, folder / "labels.csv")
    data = LabelledImages.from_folder(folder, folder / "labels.csv", few_labels=True)
    assert data.labelled.tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("file,t\nb.png,1\nb.png,2\n", ValueError, "'b.png' twice"),
        ("file,t\nb.png,1\n,2\n", ValueError, "no file name in column 'file' of row 1"),
        ("file\nb.png\n", ValueError, "add a column"),
        ("file,t\nb.png,1\nz.png,2\n", FileNotFoundError, "1 files that labels.csv names are not in .*'z.png'"),
        ("file,t\nb.png,1\na.png,\nc.png,2\n", ValueError, "missing for 1 of 3 images"),
    ],
)
def test_bad_tables_are_refused(folder: Path, text: str, error: type[Exception], message: str) -> None:
    (folder / "labels.csv").write_text(text)
    with pytest.raises(error, match=message):
        LabelledImages.from_folder(folder, folder / "labels.csv")


def test_bad_files_are_refused_by_name(folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no folder"):
        LabelledImages.from_folder(folder / "none", folder / "labels.csv")
    with pytest.raises(FileNotFoundError, match=r"no file .*other.csv"):
        LabelledImages.from_folder(folder, folder / "other.csv")
    whole = (folder / "a.png").read_bytes()
    (folder / "a.png").write_bytes(whole[:40])
    with pytest.raises(ValueError, match=r"a.png can't be read as an image"):
        LabelledImages.from_folder(folder, folder / "labels.csv")
    Image.fromarray(np.zeros((5, 7, 4), dtype=np.uint8)).save(folder / "a.png")
    with pytest.raises(ValueError, match=r"a.png is an image of mode RGBA"):
        LabelledImages.from_folder(folder, folder / "labels.csv")
    Image.fromarray(np.zeros((6, 7), dtype=np.uint8)).save(folder / "a.png")
    with pytest.raises(ValueError, match=r"a.png has 7 x 6 pixels, b.png has 7 x 5"):
        LabelledImages.from_folder(folder, folder / "labels.csv")
