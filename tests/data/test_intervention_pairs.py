"""Intervention pairs: what goes in comes out, rows stay together, and what does not fit is refused by name."""

from __future__ import annotations

import dataclasses
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import latentcause as lc
from latentcause.data import InterventionPairs

BEFORE = np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]])
AFTER = BEFORE + np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])

numbers = st.floats(-1e6, 1e6, width=32)
names = st.sampled_from(["angle", "light", "z1", "z2"])
targets = st.one_of(st.none(), st.just("none"), names, st.sets(names, min_size=1, max_size=3).map(tuple))


@st.composite
def pairs_with_targets(draw: st.DrawFn) -> InterventionPairs:
    shape = draw(
        st.one_of(st.tuples(st.integers(2, 8), st.integers(1, 4)), st.just((3, 1, 4, 5)), st.just((2, 3, 4, 4)))
    )
    elements = numbers if len(shape) == 2 else st.floats(0, 1, width=32)
    before = draw(hnp.arrays(np.float32, shape, elements=elements))
    after = before.copy()
    after[0] = 1 - after[0]
    after[0, ..., 0] = np.where(after[0, ..., 0] == before[0, ..., 0], 0, after[0, ..., 0])  # where x is 0.5
    return InterventionPairs(before, after, draw(st.lists(targets, min_size=shape[0], max_size=shape[0])))


def as_tuple(target: Any) -> Any:
    """A target in the one form that it is kept in."""
    distinct = (target,) if target is None or isinstance(target, str) else tuple(sorted(set(target)))
    return distinct[0] if len(distinct) == 1 else distinct


@given(hnp.arrays(np.float32, (6, 3), elements=numbers), st.lists(targets, min_size=6, max_size=6))
def test_values_and_targets_come_back_as_given(before: np.ndarray, known: list[Any]) -> None:
    after = np.where(np.eye(6, 3, dtype=bool), before / 2 + 1.5e6, before)
    pairs = InterventionPairs(before, after, known)
    np.testing.assert_array_equal(pairs.before, before)
    np.testing.assert_array_equal(pairs.after, after.astype(np.float32))
    assert pairs.before.dtype == pairs.after.dtype == np.float32
    assert pairs.targets == tuple(as_tuple(target) for target in known)
    np.testing.assert_array_equal(pairs.known, [target is not None for target in known])
    listed = [as_tuple(target) for target in known if target not in (None, "none")]
    assert pairs.latents == tuple(sorted({n for t in listed for n in ((t,) if isinstance(t, str) else t)}))
    assert (pairs.names, pairs.size, pairs.shape, len(pairs)) == (("x0", "x1", "x2"), 3, (3,), 6)
    again = InterventionPairs(torch.from_numpy(before), pd.DataFrame(after), pairs.targets)
    np.testing.assert_array_equal(again.after, pairs.after)
    assert again.targets == pairs.targets
    assert again.names == ("0", "1", "2")


@given(pairs_with_targets())
def test_npz_files_bring_everything_back(tmp_path_factory: pytest.TempPathFactory, pairs: InterventionPairs) -> None:
    path = tmp_path_factory.mktemp("pairs") / "pairs.npz"
    pairs.to_npz(path)
    found = InterventionPairs.from_npz(path)
    np.testing.assert_array_equal(found.before, pairs.before)
    np.testing.assert_array_equal(found.after, pairs.after)
    assert (found.targets, found.names, found.group) == (pairs.targets, pairs.names, None)
    assert repr(found) == repr(pairs)
    assert [file.name for file in path.parent.iterdir()] == ["pairs.npz"]


@given(pairs_with_targets(), st.data())
def test_rows_stay_together_in_any_order(pairs: InterventionPairs, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(pairs))))
    moved = pairs.subset(order)
    np.testing.assert_array_equal(moved.before, pairs.before[order])
    np.testing.assert_array_equal(moved.after, pairs.after[order])
    assert moved.targets == tuple(pairs.targets[row] for row in order)
    assert (moved.latents, moved.names, repr(moved)) == (pairs.latents, pairs.names, repr(pairs))
    direct = InterventionPairs(pairs.before[order], pairs.after[order], moved.targets)
    assert direct.targets == moved.targets


@given(st.integers(3, 30), st.data())
def test_split_is_a_partition_that_the_seed_fixes(n: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, n - 1))
    before = np.arange(n, dtype=float)[:, None]
    pairs = InterventionPairs(before, before + 0.5, [f"z{row}" for row in range(n)])
    rest, held = pairs.split(count, seed=4)
    assert len(held) == count
    assert sorted([*rest.before[:, 0], *held.before[:, 0]]) == list(range(n))
    for part in (rest, held):
        np.testing.assert_array_equal(part.after, part.before + 0.5)
        assert part.targets == tuple(f"z{row:.0f}" for row in part.before[:, 0])
    assert pairs.split(count, seed=4)[1].targets == held.targets


@given(st.lists(st.integers(1, 4), min_size=2, max_size=6), st.data())
def test_groups_become_pairs_and_stay_whole(counts: list[int], data: st.DataObject) -> None:
    before = np.arange(len(counts), dtype=float)[:, None] * np.ones(2)
    after = [np.full((count, 2), 10.0 * k) + np.arange(1, count + 1)[:, None] for k, count in enumerate(counts)]
    known = data.draw(st.one_of(st.none(), st.tuples(*(st.lists(targets, min_size=c, max_size=c) for c in counts))))
    pairs = InterventionPairs.from_groups(before, after, known)
    assert pairs.group is not None
    np.testing.assert_array_equal(pairs.group, np.repeat(np.arange(len(counts)), counts))
    np.testing.assert_array_equal(pairs.before, before[pairs.group])
    np.testing.assert_array_equal(pairs.after, np.concatenate(after))
    flat = [None] * sum(counts) if known is None else [as_tuple(target) for part in known for target in part]
    assert pairs.targets == tuple(flat)
    rest, held = pairs.split(1, seed=0)
    assert rest.group is not None
    assert held.group is not None
    assert set(rest.group).isdisjoint(held.group)
    assert len(set(held.group)) == 1
    assert len(rest) + len(held) == len(pairs)
    assert f"in {len(counts)} groups" in repr(pairs)


def test_groups_survive_files(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [0.0, 1.0], "b": [2.0, 3.0]})
    pairs = InterventionPairs.from_groups(frame, [[[1.0, 2.0], [0.0, 3.0]], [[1.0, 4.0]]], [["a", "b"], None])
    pairs.to_npz(tmp_path / "groups.npz")
    found = InterventionPairs.from_npz(tmp_path / "groups.npz")
    assert (found.names, found.targets) == (("a", "b"), ("a", "b", None))
    np.testing.assert_array_equal(found.group, [0, 0, 1])
    assert repr(found) == "InterventionPairs: 3 pairs of 2 columns in 2 groups, targets known for 2 (a 1, b 1)"


def test_columns_of_frames_are_matched_by_name() -> None:
    before = pd.DataFrame({"a": [0.0, 1.0], "b": [2, 3]}, index=[7, 8])
    after = pd.DataFrame({"b": [5, 6], "a": [0.0, 1.0]})
    pairs = InterventionPairs(before, after)
    assert pairs.names == ("a", "b")
    np.testing.assert_array_equal(pairs.after, [[0, 5], [1, 6]])


def test_images_are_read_as_labelled_images_are() -> None:
    images = np.zeros((2, 3, 4, 4), dtype=np.uint8)
    images[1] = 51
    pairs = InterventionPairs(images, np.full((2, 3, 4, 4), 0.5))
    assert pairs.is_images
    assert (pairs.shape, pairs.size, pairs.names) == ((3, 4, 4), 48, ())
    assert pairs.before[1].max() == np.float32(0.2)
    assert InterventionPairs(images[:, 0], images[:, 1] + np.uint8(1)).shape == (1, 4, 4)
    assert repr(pairs) == "InterventionPairs: 2 pairs of images of 3 x 4 x 4, targets unknown"


def test_nothing_can_be_changed() -> None:
    source = AFTER.astype(np.float32)
    pairs = InterventionPairs(BEFORE, source)
    source[:] = 9
    assert pairs.after.max() == 5
    for array in (pairs.before, pairs.after, pairs.subset([0]).after):
        assert array.flags.c_contiguous
        with pytest.raises(ValueError, match="read-only"):
            array[:] = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        pairs.targets = ()  # type: ignore[misc]


def test_known_targets_are_counted() -> None:
    pairs = InterventionPairs(BEFORE, AFTER, ["b", ("b", "a"), []])
    assert pairs.targets == ("b", ("a", "b"), "none")
    assert repr(pairs).endswith("targets known for 3 (a and b 1, b 1, none 1)")
    assert InterventionPairs(BEFORE, AFTER, np.array(["b", "a;b", "none"])).targets == pairs.targets


def nan_in_row_1() -> np.ndarray:
    values = BEFORE.copy()
    values[1, 1] = np.nan
    return values


@pytest.mark.parametrize(
    ("before", "after", "known", "message"),
    [
        (BEFORE, AFTER[:2], None, r"before has shape \(3, 2\) but after \(2, 2\)"),
        (BEFORE, np.ones((3, 1, 4, 4)), None, r"but after \(3, 1, 4, 4\)"),
        (nan_in_row_1(), AFTER, None, r"before has 1 values .* \(first: row 1, column 'x1'\): remove"),
        (BEFORE, pd.DataFrame(AFTER, columns=["a", "b"]) * 1e300, None, r"after has 6 values .* column 'a'"),
        (BEFORE, BEFORE, None, "the same in all 3 pairs"),
        (BEFORE[:1], AFTER[:1], None, "1 pair: give at least 2"),
        (BEFORE[0], AFTER[0], None, r"before has shape \(2,\): give \(n, d\)"),
        (BEFORE, [[1.0], [2.0, 3.0], [4.0]], None, "after has rows of unequal length"),
        (BEFORE.astype(object), AFTER, None, "before has dtype object: give an array of real numbers"),
        (BEFORE, AFTER + 1j, None, "after has dtype complex128"),
        (pd.DataFrame({"a": [1, 2], "b": ["u", "v"]}), BEFORE[:2], None, "column 'b' of before holds no numbers"),
        (
            pd.DataFrame({"a": [1, 2]}),
            pd.DataFrame({"c": [1, 2]}),
            None,
            "column 'a', 'c' is in one of before and after only",
        ),
        (np.zeros((2, 1, 4, 4)), np.full((2, 1, 4, 4), 2.0), None, r"after: 2 images have pixels outside \[0, 1\]"),
        (np.zeros((2, 8, 8, 3)), np.ones((2, 8, 8, 3)), None, "before: .*channels last: use np.moveaxis"),
        (BEFORE, AFTER, ["a", None], "2 targets for 3 pairs: give one per pair"),
        (BEFORE, AFTER, "abc", "targets are a str: give a list"),
        (BEFORE, AFTER, {"a": 1}, "targets are a dict: give a list"),
        (BEFORE, AFTER, [None, 0.5, None], "target of pair 1 is 0.5.*how strong an intervention was is not modelled"),
        (BEFORE, AFTER, np.array([0, 1, 1]), "target of pair 0 is .*0.*made names with str"),
        (BEFORE, AFTER, ["a", "", None], "target of pair 1 holds '': a target is a name"),
        (BEFORE, AFTER, ["a", ("b", 2.0), None], "target of pair 1 holds 2.0: a target is a name"),
        (BEFORE, AFTER, ["a", ("b", "none"), None], "target of pair 1 is 'none' together with others"),
    ],
)
def test_what_does_not_fit_is_refused(before: Any, after: Any, known: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        InterventionPairs(before, after, known)


@pytest.mark.parametrize(
    ("after", "known", "message"),
    [
        ([AFTER[:1]], None, "2 rows of before but 1 groups of after"),
        ([AFTER, AFTER[:0]], None, "group 1 has no after"),
        ([AFTER, AFTER[:, :1]], None, r"after of group 1 has shape \(3, 1\)"),
        ([AFTER, nan_in_row_1()], None, "after of group 1 has 1 values"),
        ([AFTER, AFTER], [["a", "b", "a"]], "targets of 1 groups for 2 groups"),
        ([AFTER, AFTER], [["a", "b", "a"], ["a"]], "group 1 has 3 rows of after but 1 targets"),
    ],
)
def test_groups_that_do_not_fit_are_refused(after: Any, known: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        InterventionPairs.from_groups(BEFORE[:2], after, known)


def test_parts_must_hold_pairs() -> None:
    pairs = InterventionPairs(BEFORE, AFTER)
    with pytest.raises(ValueError, match="at least one pair"):
        pairs.subset([])
    with pytest.raises(ValueError, match="leaves one part empty"):
        pairs.split(3, seed=0)
    with pytest.raises(IndexError):
        pairs.subset([3])


def test_parquet_files_are_read_by_the_ends_of_names(tmp_path: Path) -> None:
    frame = pd.DataFrame({"b_before": [0.0, 1.0], "a_after": [2, 3], "a_before": [4, 5], "b_after": [6.0, 1.0]})
    frame.to_parquet(tmp_path / "pairs.parquet")
    pairs = InterventionPairs.from_parquet(tmp_path / "pairs.parquet")
    assert pairs.names == ("b", "a")
    np.testing.assert_array_equal(pairs.before, [[0, 4], [1, 5]])
    np.testing.assert_array_equal(pairs.after, [[6, 2], [1, 3]])
    assert pairs.targets == (None, None)
    frame.assign(target=["a;b", None]).to_parquet(tmp_path / "pairs.parquet")
    assert InterventionPairs.from_parquet(tmp_path / "pairs.parquet").targets == (("a", "b"), None)
    frame.assign(hit=[["a"], ["b", "a"]], other=1).to_parquet(tmp_path / "pairs.parquet")
    chosen = InterventionPairs.from_parquet(tmp_path / "pairs.parquet", ["b_before"], ["b_after"], "hit")
    assert (chosen.names, chosen.targets) == (("b",), ("a", ("a", "b")))


@pytest.mark.parametrize(
    ("columns", "chosen", "message"),
    [
        ({"a": [1, 2], "b": [3, 4]}, {}, r"has no columns NAME_before and NAME_after \(columns: 'a', 'b'\)"),
        ({"a_before": [1, 2], "b_after": [3, 4]}, {}, "only one of before and after of 'a', 'b'"),
        (
            {"a_before": [1, 2], "a_after": [3, 4], "dose": [0.1, 0.2]},
            {},
            "has column 'dose', which is neither before, after nor 'target'.*how strong",
        ),
        (
            {"a_before": [1, 2], "a_after": [3, 4], "target": [0.1, 0.2]},
            {},
            "target of pair 0 is 0.1, which is no name",
        ),
        ({"a_before": [1, 2], "a_after": [3, 4]}, {"targets": "hit"}, "has no column 'hit'"),
        ({"a": [1, 2], "b": [3, 4]}, {"before": ["a"], "after": ["c"]}, "has no column 'c'"),
        ({"a": [1, 2], "b": [3, 4]}, {"before": ["a"]}, "both before and after, or of neither"),
        ({"a": [1, 2], "b": [3, 4]}, {"before": ["a"], "after": ["a", "b"]}, "1 columns of before but 2 of after"),
        ({"a": [1, 2], "b": [3, 4]}, {"before": "a", "after": "b"}, "lists of names"),
    ],
)
def test_parquet_files_that_do_not_fit_are_refused(
    tmp_path: Path, columns: dict[str, Any], chosen: dict[str, Any], message: str
) -> None:
    pd.DataFrame(columns).to_parquet(tmp_path / "pairs.parquet")
    with pytest.raises(ValueError, match=message):
        InterventionPairs.from_parquet(tmp_path / "pairs.parquet", **chosen)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"before": BEFORE}, r"pairs.npz has no array 'after' \(arrays: 'before'\)"),
        (
            {"before": BEFORE, "after": AFTER, "targets": np.array(["a", None, "b"], dtype=object)},
            "use arrays of numbers",
        ),
        ({"before": BEFORE, "after": AFTER, "targets": np.arange(3.0)}, "target of pair 0 is .*how strong"),
        ({"before": BEFORE, "after": AFTER, "targets": np.array(["a"])}, "1 targets for 3 pairs"),
        ({"before": BEFORE, "after": AFTER, "names": np.array(["a"])}, "pairs.npz names 1 columns but before has 2"),
        ({"before": BEFORE, "after": AFTER, "group": np.arange(2)}, r"group in pairs.npz has shape \(2,\)"),
    ],
)
def test_npz_files_that_do_not_fit_are_refused(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "pairs.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        InterventionPairs.from_npz(tmp_path / "pairs.npz")


def test_other_arrays_of_a_file_are_not_looked_at(tmp_path: Path) -> None:
    np.savez(tmp_path / "pairs.npz", before=BEFORE, after=AFTER, note=np.array([{"by": "me"}], dtype=object))
    assert InterventionPairs.from_npz(tmp_path / "pairs.npz").names == ("x0", "x1")


def without_an_end(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def with_other_bytes(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 4] ^= 255
    path.write_bytes(bytes(content))


def of_another_kind(path: Path) -> None:
    path.write_text("before,after\n1,2\n")


def with_half_an_array(path: Path) -> None:
    array = io.BytesIO()
    np.save(array, BEFORE)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("before.npy", array.getvalue()[:-8])
        file.writestr("after.npy", array.getvalue())


@pytest.mark.parametrize("spoil", [without_an_end, with_other_bytes, of_another_kind, with_half_an_array])
def test_spoilt_npz_files_are_refused(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    path = tmp_path / "pairs.npz"
    InterventionPairs(np.arange(400.0).reshape(200, 2), np.zeros((200, 2))).to_npz(path)
    spoil(path)
    with pytest.raises(
        ValueError, match=r"pairs.npz (is no .npz file, or is cut short|has an array that can't be read)"
    ):
        InterventionPairs.from_npz(path)


@pytest.mark.parametrize("spoil", [without_an_end, of_another_kind])
def test_spoilt_parquet_files_are_refused(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    path = tmp_path / "pairs.parquet"
    pd.DataFrame({"a_before": [1.0], "a_after": [2.0]}).to_parquet(path)
    spoil(path)
    with pytest.raises(ValueError, match=r"pairs.parquet is no Parquet file, or is cut short"):
        InterventionPairs.from_parquet(path)


def test_absent_files_and_folders_are_named(tmp_path: Path) -> None:
    for read in (InterventionPairs.from_npz, InterventionPairs.from_parquet):
        with pytest.raises(FileNotFoundError, match=r"there is no file .*absent"):
            read(tmp_path / "absent")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        InterventionPairs(BEFORE, AFTER).to_npz(tmp_path / "nowhere" / "pairs.npz")


def test_class_is_at_the_top() -> None:
    assert lc.InterventionPairs is InterventionPairs
