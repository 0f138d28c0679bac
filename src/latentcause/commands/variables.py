"""Tables of variables that users name on the command line: numbers and categories, read from files and written to them."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from latentcause.data.labels import listing
from latentcause.writing import write_atomically

if TYPE_CHECKING:
    from latentcause.scm import StructuralCausalModel

MISSING = ("", "NA", "N/A", "NaN", "nan", "null")
MOST_LEVELS = 20  # of a text column that is taken for a category though most of its values are different


def read_table(
    path: Path, columns: Sequence[str] | None = None, drop: Sequence[str] = (), categorical: Collection[str] = ()
) -> pd.DataFrame:
    """Columns of a .csv, .csv.gz, .tsv or .parquet file: numbers, and text, bool or category for categories.

    Parameters
    ----------
    path : Path
    columns : sequence of str, optional
        Columns to read, in this order; by default all.
    drop : sequence of str
        Columns to leave out.
    categorical : collection of str
        Columns to take for categories whatever they hold; of numbers, the levels are in their order.

    Raises
    ------
    FileNotFoundError
        Where there is no such file.
    ValueError
        For another suffix, a column that is not there, has no name or stands twice, none left, and text that is not a
        category: numbers with some text among them, or a name in nearly every row.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    frame = _read(path)
    names = [str(name) for name in frame.columns]
    frame.columns = pd.Index(names)
    absent = [name for name in [*(columns or ()), *drop, *categorical] if name not in names]
    if absent:
        raise ValueError(f"{path.name} has no column {listing(absent)} (columns: {listing(names)})")
    chosen = [name for name in (names if columns is None else columns) if name not in drop]
    if not chosen:
        raise ValueError(f"no column of {path.name} is left: drop fewer")
    unnamed = [name for name in chosen if not name or name.startswith("Unnamed: ")]
    if unnamed:
        raise ValueError(
            f"column {names.index(unnamed[0])} of {path.name} has no name (a saved row index?): name or drop it"
        )
    twice = [name for name in dict.fromkeys(chosen) if chosen.count(name) > 1]
    if twice:
        raise ValueError(f"column {listing(twice)} is named twice: name it once")
    table = frame[chosen].copy()
    for name in chosen:
        if name in categorical:
            table[name] = table[name].astype("category")
        elif pd.api.types.infer_dtype(table[name], skipna=True) == "string":
            table[name] = _category_or_numbers(path, name, table[name])
    return table


def read_rows(path: Path, model: StructuralCausalModel) -> pd.DataFrame:
    """The nodes' columns of a table; what stands for a level of a category becomes that level.

    Raises
    ------
    ValueError, FileNotFoundError
        As ``read_table``; unknown levels are left for the model to refuse.
    """
    table = read_table(path, model.graph.nodes, categorical=tuple(model.levels))
    for node, levels in model.levels.items():
        by_text = {str(level): level for level in levels}
        table[node] = table[node].astype(object).map(lambda value, known=by_text: known.get(str(value), value))
    return table


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a .csv, .csv.gz, .tsv or .parquet file, numbers with all their digits.

    Raises
    ------
    ValueError
        For another suffix.
    """
    kind = _kind(path)
    with write_atomically(path) as temporary:
        if kind == "parquet":
            table.to_parquet(temporary, index=False)
        else:
            table.to_csv(temporary, sep="\t" if kind == "tsv" else ",", index=False)


# --- inside ----------------------------------------------------------------------------------------------------------


def _kind(path: Path) -> str:
    for suffix in ("csv", "csv.gz", "tsv", "parquet"):
        if path.name.lower().endswith(f".{suffix}"):
            return suffix
    raise ValueError(f"{path.name}: the name must end in .csv, .csv.gz, .tsv or .parquet")


def _read(path: Path) -> pd.DataFrame:
    kind = _kind(path)
    if kind == "parquet":
        return pd.read_parquet(path)
    separator = "\t" if kind == "tsv" else ","
    with (gzip.open if kind == "csv.gz" else open)(path, "rt", newline="", encoding="utf-8-sig") as file:
        header = next(csv.reader(file, delimiter=separator), [])
    if not header:
        raise ValueError(f"{path.name} is empty: the first line must name the columns")
    twice = [name for name in dict.fromkeys(header) if header.count(name) > 1]
    if twice:  # pandas would rename them
        raise ValueError(f"duplicate column {listing(twice)} in {path.name}: every variable needs a name of its own")
    return pd.read_csv(
        path,
        sep=separator,
        na_values=list(MISSING),  # without "None", which is a sensible level
        keep_default_na=False,
        float_precision="round_trip",
        encoding="utf-8-sig",
        low_memory=False,
    )


def _category_or_numbers(path: Path, name: str, column: pd.Series) -> pd.Series:
    """A text column as it is; numbers where ``None`` is the only text among them, which then is a missing value."""
    texts = column.dropna().astype(str)
    numbers = pd.to_numeric(texts, errors="coerce")
    odd = texts[numbers.isna()]
    if len(odd) < len(texts):
        if set(odd) == {"None"}:
            return pd.to_numeric(column.where(column != "None"))
        raise ValueError(
            f"column {name!r} of {path.name} holds numbers, and text such as {odd.iloc[0]!r} (row {odd.index[0]}, counted "
            "from 0): correct it, or name it in --categorical"
        )
    if texts.nunique() > max(MOST_LEVELS, len(texts) / 2):
        raise ValueError(
            f"column {name!r} of {path.name} has {texts.nunique()} different texts in {len(texts)} rows, such as "
            f"{texts.iloc[0]!r}: leave it out with --drop or --columns"
        )
    return column
