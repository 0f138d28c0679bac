"""Tables of measurements with their domain labels: DataFrames, CSV, Parquet and .npy files, AnnData."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from latentcause.data.labels import check_names, listing
from latentcause.data.sources import (
    ArrayRows,
    MatrixRows,
    NpyRows,
    ParquetRows,
    RowSource,
    choose_measurements,
    refuse_columns,
)

RowsAndLabels = tuple[RowSource, np.ndarray]


def split_frame(frame: pd.DataFrame, domain: Hashable, measurements: Sequence[Hashable] | None) -> RowsAndLabels:
    """Split a frame into the measured columns and the column of domains."""
    twice = frame.columns[frame.columns.duplicated()]
    if len(twice):
        raise ValueError(f"duplicate column {listing(twice.unique())}: every measurement needs a name of its own")
    names = choose_measurements(list(frame.columns), domain, measurements, "the table")
    kinds = {str(name): frame[name].dtype for name in names}
    numeric, imaginary = pd.api.types.is_numeric_dtype, pd.api.types.is_complex_dtype
    refuse_columns([name for name, kind in kinds.items() if not numeric(kind) or imaginary(kind)])
    dtype = np.float32 if all(kind == np.float32 for kind in kinds.values()) else np.float64
    x = frame[list(names)].to_numpy(dtype=dtype, na_value=np.nan)
    return ArrayRows(x, [str(name) for name in names]), frame[domain].to_numpy()


def read_file(path: str | Path, domain: str, measurements: Sequence[str] | None = None) -> RowsAndLabels:
    """Read a file by its suffix: .csv, .csv.gz, .tsv, .parquet, .h5ad, or .npy (``domain``: a .npy of labels)."""
    name = Path(path).name.lower()
    if name.endswith((".csv", ".csv.gz", ".tsv")):
        return read_csv(path, domain, measurements)
    if name.endswith(".parquet"):
        return read_parquet(path, domain, measurements)
    if name.endswith(".h5ad"):
        return read_anndata(path, domain, None, measurements)
    if name.endswith(".npy"):
        return read_npy(path, domain, measurements)
    raise ValueError(f"{Path(path).name}: the name must end in .csv, .csv.gz, .tsv, .parquet, .h5ad or .npy")


def read_parquet(path: str | Path, domain: str, measurements: Sequence[str] | None) -> RowsAndLabels:
    """Open a Parquet file, whose measurements stay on disk."""
    rows = ParquetRows(path, domain, measurements)
    return rows, rows.column(domain)


def read_npy(path: str | Path, domain: Any, measurements: Sequence[str] | None) -> RowsAndLabels:
    """Open a .npy file, which stays on disk; ``domain`` holds the labels or is the path of a .npy file of them."""
    labels = np.load(domain, allow_pickle=False) if isinstance(domain, (str, Path)) else domain
    return NpyRows(path, measurements), labels


def read_csv(path: str | Path, domain: str, measurements: Sequence[str] | None) -> RowsAndLabels:
    """Read a .csv, .csv.gz or .tsv file; labels stay text, and only an empty field is a missing label."""
    path = Path(path)
    separator = "\t" if ".tsv" in path.suffixes else ","
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", newline="", encoding="utf-8-sig") as file:
        header = next(csv.reader(file, delimiter=separator), None)
    if header is None:
        raise ValueError(f"{path.name} is empty: the first line must name the columns")
    twice = [name for name in dict.fromkeys(header) if header.count(name) > 1]
    if twice:  # pandas would rename them
        raise ValueError(f"duplicate column {listing(twice)} in {path.name}: every measurement needs a name of its own")
    names = choose_measurements(header, domain, measurements, path.name)
    # pandas' own list of missing values holds "None" and "NA", which are sensible labels of a condition.
    missing = {name: [""] if name == domain else ["", "NA", "N/A", "NaN", "nan", "null", "None"] for name in header}
    frame = pd.read_csv(
        path,
        sep=separator,
        usecols=[domain, *names],
        dtype={domain: str},
        na_values=missing,
        keep_default_na=False,
        float_precision="round_trip",
        encoding="utf-8-sig",
    )
    return split_frame(frame, domain, names)


def read_anndata(adata: Any, domain: str, layer: str | None, measurements: Sequence[str] | None) -> RowsAndLabels:
    """Take X (or a layer) and one column of ``obs`` out of an AnnData object or an .h5ad file."""
    if isinstance(adata, (str, Path)):
        try:
            import anndata
        except ImportError:
            raise ImportError("reading .h5ad files needs anndata: pip install latentcause[cell]") from None
        adata = anndata.read_h5ad(adata)
    if domain not in adata.obs:
        raise ValueError(f"obs has no column {domain!r} (columns: {listing(adata.obs.columns)})")
    if layer is not None and layer not in adata.layers:
        raise ValueError(f"there is no layer {layer!r} (layers: {listing(adata.layers)})")
    names = check_names(adata.var_names)
    if measurements is not None:
        absent = [name for name in measurements if name not in names]
        if absent:
            raise ValueError(f"var_names lacks {listing(absent)} (names: {listing(names)})")
        adata, names = adata[:, list(measurements)], check_names(measurements)
    matrix = adata.X if layer is None else adata.layers[layer]
    if matrix is None:
        raise ValueError("the AnnData has no X: name a layer with layer=...")
    labels = adata.obs[domain].to_numpy()
    if isinstance(matrix, np.ndarray):
        return ArrayRows(matrix, names), labels
    return MatrixRows(matrix, names, is_streamed=bool(adata.isbacked)), labels
