"""Row sources: however rows are stored, batches and look-ups give the same numbers in the same order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.sparse import csr_array, csr_matrix

from latentcause.data.sources import (
    ArrayRows,
    MatrixRows,
    NpyRows,
    ParquetRows,
    RowSource,
    SelectedRows,
    open_rows,
    regroup,
)

TABLES = hnp.arrays(
    st.sampled_from([np.float64, np.float32, np.int32]),
    st.tuples(st.integers(1, 40), st.integers(1, 11)),
    elements=st.integers(-1000, 1000),
)
KINDS = st.sampled_from(["array", "columns first", "npy", "npy columns first", "parquet", "sparse", "selected"])


def stored(x: np.ndarray, kind: str, folder: Path, group: int = 7) -> RowSource:
    """The table x in one of the ways that rows are kept."""
    if kind in ("array", "columns first"):
        return ArrayRows(np.asfortranarray(x) if kind == "columns first" else x)
    if kind.startswith("npy"):
        np.save(folder / "x.npy", np.asfortranarray(x) if kind == "npy columns first" else x)
        return NpyRows(folder / "x.npy")
    if kind == "parquet":
        frame = pd.DataFrame(x, columns=[f"x{j}" for j in range(x.shape[1])]).assign(d="a")
        frame.to_parquet(folder / "x.parquet", row_group_size=group)
        return ParquetRows(folder / "x.parquet", "d")
    if kind == "sparse":
        return MatrixRows(csr_array(x), None, is_streamed=False)
    twice = np.repeat(x, 2, axis=0)
    return SelectedRows(stored(twice, "parquet", folder), np.arange(0, len(twice), 2))


@given(x=TABLES, kind=KINDS, rows=st.integers(1, 50), group=st.integers(1, 50))
def test_batches_concatenate_to_x(
    x: np.ndarray, kind: str, rows: int, group: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    source = stored(x, kind, tmp_path_factory.mktemp("rows"), group)
    batches = list(source.batches(rows))
    assert source.shape == x.shape
    assert source.names == tuple(f"x{j}" for j in range(x.shape[1]))
    assert [start for start, _, _ in batches] == list(range(0, len(x), rows))
    for start, stop, part in batches:
        assert part.dtype == np.float64
        assert part.flags.c_contiguous
        assert part.flags.writeable
        np.testing.assert_array_equal(part, x[start:stop])
    assert batches[-1][1] == len(x)


@given(x=TABLES, kind=KINDS, data=st.data())
def test_rows_by_number(
    x: np.ndarray, kind: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rows = np.array(data.draw(st.lists(st.integers(0, len(x) - 1), min_size=1)))
    source = stored(x, kind, tmp_path_factory.mktemp("rows"))
    np.testing.assert_array_equal(source.take(rows), x[rows])


@given(x=TABLES, kind=KINDS, data=st.data(), rows=st.integers(1, 20), increasing=st.booleans())
def test_selected_rows_stream_in_their_order(
    x: np.ndarray, kind: str, data: st.DataObject, rows: int, increasing: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:  # fmt: skip
    chosen = np.array(data.draw(st.lists(st.integers(0, len(x) - 1), min_size=1, unique=increasing)))
    chosen = np.sort(chosen) if increasing else chosen
    source = SelectedRows(stored(x, kind, tmp_path_factory.mktemp("rows")), chosen)
    np.testing.assert_array_equal(np.concatenate([part for _, _, part in source.batches(rows)]), x[chosen])
    again = np.arange(len(chosen))[::-1]
    np.testing.assert_array_equal(source.take(again), x[chosen][again])


@given(lengths=st.lists(st.integers(0, 9), min_size=1, max_size=9), rows=st.integers(1, 12))
def test_regroup_cuts_anew_whatever_the_chunks(lengths: list[int], rows: int) -> None:
    x = np.arange(2.0 * sum(lengths)).reshape(-1, 2)
    chunks = np.split(x, np.cumsum(lengths)[:-1])
    batches = list(regroup(chunks, rows, x.shape))
    assert [stop - start for start, stop, _ in batches] == [min(rows, len(x) - s) for s in range(0, len(x), rows)]
    np.testing.assert_array_equal(np.concatenate([np.empty((0, 2)), *(part for *_, part in batches)]), x)


def test_kinds_of_input() -> None:
    x = np.array([[1.5, 2.0], [0.0, 4.0], [5.0, 6.0]])
    frame = pd.DataFrame(x, columns=["p", "q"])
    kinds = [x, x.tolist(), torch.tensor(x), torch.tensor(x, dtype=torch.bfloat16, requires_grad=True), frame]
    for table in [*kinds, csr_matrix(x), x.astype(object)]:
        source = open_rows(table)
        np.testing.assert_array_equal(next(source.batches(9))[2], x)
        assert source.names == (("p", "q") if table is frame else ("x0", "x1"))
        assert not source.is_streamed
    assert open_rows(source) is source


@pytest.mark.parametrize("dtype", [np.float64, np.int32])
def test_memory_maps_are_streamed_and_give_writeable_copies(tmp_path: Path, dtype: type) -> None:
    x = np.arange(6, dtype=dtype).reshape(3, 2)
    np.save(tmp_path / "x.npy", x)
    for table in (np.load(tmp_path / "x.npy", mmap_mode="r"), tmp_path / "x.npy", str(tmp_path / "x.npy")):
        source = open_rows(table)
        assert source.is_streamed
        assert source.take(np.array([2, 0])).dtype == dtype
        _, _, part = next(source.batches(2))
        assert part.dtype == np.float64
        part[:] = -1
        np.testing.assert_array_equal(next(source.batches(9))[2], x)


def test_arrays_are_not_copied_and_keep_their_floats() -> None:
    x = np.ones((4, 2))
    assert np.shares_memory(next(ArrayRows(x).batches(2))[2], x)
    assert ArrayRows(x.astype(np.float32)).take(np.array([0])).dtype == np.float32
    assert ArrayRows(x.astype(np.int8)).take(np.array([0])).dtype == np.float64
    assert ArrayRows(x.astype(np.longdouble)).take(np.array([0])).dtype == np.float64
    x.flags.writeable = False
    assert next(ArrayRows(x).batches(2))[2].flags.writeable


def test_parquet_of_every_numeric_type(tmp_path: Path) -> None:
    from decimal import Decimal

    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {
        "d": ["a", "b"],
        "float": pa.array([1.5, None]),
        "int": pa.array([2, None]),
        "bool": pa.array([True, None]),
        "decimal": pa.array([Decimal("2.5"), None]),
    }
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    _, _, x = next(ParquetRows(tmp_path / "x.parquet", "d").batches(9))
    np.testing.assert_array_equal(x, [[1.5, 2, 1, 2.5], [np.nan] * 4])


def test_parquet_leaves_out_a_saved_row_index(tmp_path: Path) -> None:
    frame = pd.DataFrame({"p": [1.0, 2.0], "d": ["a", "b"]}, index=[5, 7])
    frame.to_parquet(tmp_path / "x.parquet")
    source = ParquetRows(tmp_path / "x.parquet", "d")
    assert source.names == ("p",)
    assert source.column("d").tolist() == ["a", "b"]


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.ones(3), r"x has shape \(3,\)"),
        (np.ones((0, 3)), r"x has shape \(0, 3\)"),
        (np.ones((3, 0)), r"x has shape \(3, 0\)"),
        ([["a", "b"]], "non-numeric column 'x0', 'x1'"),
        (np.array([[1.0, None], [2.0, 3.0]], dtype=object), "non-numeric column 'x1'"),
        (np.ones((2, 2), dtype=complex), "non-numeric column 'x0', 'x1'"),
        (csr_array(np.ones((2, 2), dtype=complex)), "non-numeric column"),
        ("x.csv", r"x\.csv, which is no \.npy file"),
        (pd.DataFrame({"p": [1.0], "q": ["text"]}), "non-numeric column 'q'"),
        (pd.DataFrame([[1.0, 2.0]], columns=["p", "p"]), "duplicate column 'p'"),
    ],
)
def test_tables_that_are_refused(x: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        open_rows(x)


def test_names_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="measurements has 1 names but x has 2 columns"):
        open_rows(np.ones((3, 2)), ["a"])
    with pytest.raises(ValueError, match="duplicate column 'a'"):
        open_rows(np.ones((3, 2)), ["a", "a"])
    with pytest.raises(ValueError, match="column 1 has no name"):
        open_rows(np.ones((3, 2)), ["a", ""])


def test_batches_of_no_rows() -> None:
    with pytest.raises(ValueError, match="rows must be at least 1"):
        next(ArrayRows(np.ones((3, 2))).batches(0))
