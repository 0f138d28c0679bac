"""Where rows of measurements come from: memory, a memory-mapped .npy file, a Parquet file, a sparse or backed matrix.

Each is a ``RowSource``: shape, names, and rows in batches or by number.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from numbers import Real
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from latentcause.data.labels import check_names, listing

Batch = tuple[int, int, np.ndarray]


@runtime_checkable
class RowSource(Protocol):
    """Rows of measurements, in a fixed order."""

    shape: tuple[int, int]
    names: tuple[str, ...]
    is_streamed: bool

    def batches(self, rows: int) -> Iterator[Batch]:
        """Yield (start, stop, x) with x (stop - start, d_x) float64, C-contiguous and writeable, ``rows`` at a time."""

    def take(self, rows: np.ndarray) -> np.ndarray:
        """The rows of those numbers, in that order, as one array in memory."""


def open_rows(x: Any, measurements: Sequence[str] | None = None) -> RowSource:
    """Make a source of an array, tensor, nested list, DataFrame, sparse matrix, memory map or path to a .npy file.

    Raises
    ------
    ValueError
        Where x is not a table of numbers with at least one row and one column, or ``measurements`` does not fit it.
    """
    if isinstance(x, RowSource):
        return x
    if isinstance(x, (str, Path)):
        return NpyRows(x, measurements)
    if measurements is None and hasattr(x, "columns"):
        measurements = list(x.columns)
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(x, torch.Tensor):
        x = x.detach().cpu()
        x = x.float().numpy() if x.dtype == torch.bfloat16 else x.numpy()
    if hasattr(x, "toarray"):
        return MatrixRows(x, measurements, is_streamed=False)
    return ArrayRows(x, measurements)


class ArrayRows:
    """A dense array, kept as it is where it holds floats (float32 stays float32); integers become float64."""

    def __init__(self, x: Any, measurements: Sequence[str] | None = None) -> None:
        array = x if isinstance(x, np.ndarray) else np.asarray(x)
        self.shape = _table_shape(array.shape)
        self.names = _names_for(self.shape, measurements)
        self.is_streamed = isinstance(array, np.memmap)
        self._x = _as_floats(array, self.names)

    def batches(self, rows: int) -> Iterator[Batch]:
        """Yield (start, stop, x); where the array is float64 already, x is a view of it: do not write to it."""
        for start, stop in _cuts(self.shape[0], rows):
            x = np.ascontiguousarray(self._x[start:stop], dtype=np.float64)
            yield start, stop, x if x.flags.writeable and not self.is_streamed else x.copy()

    def take(self, rows: np.ndarray) -> np.ndarray:
        """The rows of those numbers, in that order."""
        return np.asarray(self._x[rows])


class NpyRows:
    """A .npy file read through a memory map that is opened anew for each batch, so that read pages are given back."""

    def __init__(self, path: str | Path, measurements: Sequence[str] | None = None) -> None:
        self.path = Path(path)
        if self.path.suffix != ".npy":
            raise ValueError(f"x is the path {self.path.name}, which is no .npy file: use from_file for other formats")
        x = self._open()
        self.shape = _table_shape(x.shape)
        self.names = _names_for(self.shape, measurements)
        self.is_streamed = True
        _refuse_kind(x.dtype, self.names)

    def batches(self, rows: int) -> Iterator[Batch]:
        """Yield (start, stop, x), each a copy in memory."""
        for start, stop in _cuts(self.shape[0], rows):
            yield start, stop, np.array(self._open()[start:stop], dtype=np.float64, order="C")

    def take(self, rows: np.ndarray) -> np.ndarray:
        """The rows of those numbers, in that order."""
        return np.array(self._open()[rows])

    def _open(self) -> np.ndarray:
        return np.load(self.path, mmap_mode="r", allow_pickle=False)


class MatrixRows:
    """A matrix that gives dense or sparse rows when sliced: SciPy sparse, or X of a backed AnnData file."""

    def __init__(self, matrix: Any, measurements: Sequence[str] | None, *, is_streamed: bool) -> None:
        self.shape = _table_shape(matrix.shape)
        self.names = _names_for(self.shape, measurements)
        self.is_streamed = is_streamed
        self._matrix = matrix.tocsr() if hasattr(matrix, "tocsr") else matrix
        _refuse_kind(np.dtype(matrix.dtype), self.names)

    def batches(self, rows: int) -> Iterator[Batch]:
        """Yield (start, stop, x), each made dense on its own."""
        for start, stop in _cuts(self.shape[0], rows):
            yield start, stop, self._dense(slice(start, stop))

    def take(self, rows: np.ndarray) -> np.ndarray:
        """The rows of those numbers, in that order."""
        distinct, back = np.unique(rows, return_inverse=True)  # files on disk take increasing numbers only
        return self._dense(distinct)[back]

    def _dense(self, rows: slice | np.ndarray) -> np.ndarray:
        part = self._matrix[rows]
        return np.array(part.toarray() if hasattr(part, "toarray") else part, dtype=np.float64, order="C")


class ParquetRows:
    """Numeric columns of a Parquet file, decoded a batch at a time."""

    def __init__(self, path: str | Path, domain: str, measurements: Sequence[str] | None = None) -> None:
        import pyarrow.types as types

        self.path = Path(path)
        with self._open() as file:
            schema, n_rows = file.schema_arrow, file.metadata.num_rows
        index = {name for name in (schema.pandas_metadata or {}).get("index_columns", ()) if isinstance(name, str)}
        check_names(schema.names)
        columns = [name for name in schema.names if name not in index]
        self.names = choose_measurements(columns, domain, measurements, self.path.name)
        self.shape = _table_shape((n_rows, len(self.names)))
        self.is_streamed = True
        numeric = (types.is_integer, types.is_floating, types.is_boolean, types.is_decimal)
        refuse_columns([name for name in self.names if not any(of(schema.field(name).type) for of in numeric)])

    def batches(self, rows: int) -> Iterator[Batch]:
        """Yield (start, stop, x), whatever the file's row groups are."""
        yield from regroup(self._chunks(rows), rows, self.shape)

    def take(self, rows: np.ndarray) -> np.ndarray:
        """The rows of those numbers, in that order, in one pass over the file up to the last of them."""
        distinct, back = np.unique(rows, return_inverse=True)
        picked = pick_increasing(self._chunks(65536), distinct)
        return np.concatenate(list(picked))[back]

    def column(self, name: str) -> np.ndarray:
        """One column (n,) in memory, of any type."""
        with self._open() as file:
            return file.read(columns=[name]).column(0).to_pandas().to_numpy()

    def _chunks(self, rows: int) -> Iterator[np.ndarray]:
        with self._open() as file:
            for batch in file.iter_batches(batch_size=rows, columns=list(self.names)):
                columns = [batch.column(name) for name in self.names]
                x = np.empty((batch.num_rows, len(columns)))
                for j in range(0, len(columns), 8):  # eight doubles fill a cache line: 10 times one column at a time
                    x[:, j : j + 8] = np.stack([_doubles(column) for column in columns[j : j + 8]], axis=1)
                yield x

    def _open(self) -> Any:
        import pyarrow.parquet

        # With the defaults, whole row groups (by habit a million rows) would be held in memory at once.
        return pyarrow.parquet.ParquetFile(self.path, pre_buffer=False, buffer_size=1 << 16)


def _doubles(column: Any) -> np.ndarray:
    return column.cast("float64", safe=False).to_numpy(zero_copy_only=False)  # null becomes NaN


class SelectedRows:
    """Some rows of a streamed source, in any order, still read in batches."""

    def __init__(self, source: RowSource, rows: np.ndarray) -> None:
        self.shape = (len(rows), source.shape[1])
        self.names = source.names
        self.is_streamed = source.is_streamed
        self._source = source
        self._rows = rows
        self._increasing = bool((np.diff(rows) > 0).all())

    def batches(self, rows: int) -> Iterator[Batch]:
        """Yield (start, stop, x): one pass over the source where the rows increase, one look-up per batch otherwise."""
        if self._increasing:
            chunks = (x for _, _, x in self._source.batches(rows))
            yield from regroup(pick_increasing(chunks, self._rows), rows, self.shape)
        else:
            for start, stop in _cuts(self.shape[0], rows):
                x = self._source.take(self._rows[start:stop])
                yield start, stop, np.ascontiguousarray(x, dtype=np.float64)

    def take(self, rows: np.ndarray) -> np.ndarray:
        """The rows of those numbers, in that order."""
        return self._source.take(self._rows[rows])


class MappedRows:
    """Another source's rows with a function applied to every batch as it is read."""

    def __init__(self, source: RowSource, function: Callable[[np.ndarray], np.ndarray]) -> None:
        self.shape = source.shape
        self.names = source.names
        self.is_streamed = source.is_streamed
        self._source = source
        self._function = function

    def batches(self, rows: int) -> Iterator[Batch]:
        """Yield (start, stop, x), x computed anew in each pass."""
        for start, stop, x in self._source.batches(rows):
            yield start, stop, np.ascontiguousarray(self._function(x), dtype=np.float64)

    def take(self, rows: np.ndarray) -> np.ndarray:
        """The rows of those numbers, in that order."""
        return self._function(np.asarray(self._source.take(rows), dtype=np.float64))


def choose_measurements(
    columns: Sequence[Any], domain: Any, measurements: Sequence[Any] | None, where: str
) -> tuple[Any, ...]:
    """The measured columns of a table: those asked for, or else all but the domain's.

    Raises
    ------
    ValueError
        Where the domain's column or a column asked for is not there, a name stands twice, or nothing is left.
    """
    wanted = [domain, *(measurements if measurements is not None else ())]
    absent = [name for name in wanted if name not in columns]
    if absent:
        raise ValueError(f"{where} has no column {listing(absent)} (columns: {listing(columns)})")
    chosen = tuple(name for name in columns if name != domain) if measurements is None else tuple(measurements)
    if domain in chosen:
        raise ValueError(f"column {domain!r} holds the domains, so it can't be a measurement too")
    check_names(chosen)
    return chosen


def regroup(chunks: Iterable[np.ndarray], rows: int, shape: tuple[int, int]) -> Iterator[Batch]:
    """Cut chunks of any length into batches of ``rows``, the last one shorter."""
    filled, start = 0, 0
    cuts = _cuts(shape[0], rows)
    batch = np.empty((0, shape[1]))
    for chunk in chunks:
        used = 0
        while used < len(chunk):
            if filled == 0:
                start, stop = next(cuts)
                batch = np.empty((stop - start, shape[1]))
            part = min(len(batch) - filled, len(chunk) - used)
            batch[filled : filled + part] = chunk[used : used + part]
            filled, used = filled + part, used + part
            if filled == len(batch):
                yield start, start + filled, batch
                filled = 0


def pick_increasing(chunks: Iterable[np.ndarray], rows: np.ndarray) -> Iterator[np.ndarray]:
    """The rows of those increasing numbers out of consecutive chunks, stopping after the last."""
    start = done = 0
    for chunk in chunks:
        end = int(np.searchsorted(rows, start + len(chunk)))
        if end > done:
            yield chunk[rows[done:end] - start]
        start, done = start + len(chunk), end
        if done == len(rows):
            return


def _cuts(n_rows: int, rows: int) -> Iterator[tuple[int, int]]:
    if rows < 1:
        raise ValueError(f"rows must be at least 1, not {rows}")
    for start in range(0, n_rows, rows):
        yield start, min(start + rows, n_rows)


def _table_shape(shape: Sequence[int]) -> tuple[int, int]:
    if len(shape) != 2 or 0 in shape:
        raise ValueError(
            f"x has shape {tuple(shape)}: it must be a table of samples by measurements with at least one of each"
        )
    return int(shape[0]), int(shape[1])


def _names_for(shape: tuple[int, int], measurements: Sequence[str] | None) -> tuple[str, ...]:
    if measurements is None:
        return tuple(f"x{j}" for j in range(shape[1]))
    if len(measurements) != shape[1]:
        raise ValueError(f"measurements has {len(measurements)} names but x has {shape[1]} columns: name each once")
    return check_names(measurements)


def _as_floats(x: np.ndarray, names: Sequence[str]) -> np.ndarray:
    if x.dtype == object:
        texts = [not all(isinstance(value, Real) for value in column) for column in x.T]
        refuse_columns([name for name, text in zip(names, texts, strict=True) if text])
        return x.astype(np.float64)
    _refuse_kind(x.dtype, names)
    if isinstance(x, np.memmap):  # converted batch by batch: the whole of it may not fit in memory
        return x
    return x if x.dtype.kind == "f" and x.dtype.itemsize <= 8 else x.astype(np.float64)


def _refuse_kind(dtype: np.dtype, names: Sequence[str]) -> None:
    if dtype.kind not in "fiub":
        refuse_columns(names)


def refuse_columns(names: Sequence[str]) -> None:
    """Raise the ValueError for columns that hold no real numbers, where there are any."""
    if names:
        raise ValueError(
            f"non-numeric column {listing(names)}: measurements must be real numbers; convert these columns, or choose "
            "the others with measurements=[...]"
        )
