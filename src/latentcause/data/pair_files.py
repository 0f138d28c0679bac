"""Files of pairs: arrays in .npz, tables in Parquet."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from latentcause.data.labels import listing

KEYS = ("before", "after", "targets", "names", "group")


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of KEYS that a .npz file has, the first two at least; errors as `InterventionPairs.from_npz` has them."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        with zipfile.ZipFile(path), np.load(path, allow_pickle=False) as file:
            present = file.files
            arrays = {key: file[key] for key in KEYS if key in present}
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise ValueError(f"{path.name} is no .npz file, or is cut short ({error}): write it anew") from None
    except ValueError as error:
        raise ValueError(
            f"{path.name} has an array that can't be read ({error}): use arrays of numbers, and of text for targets, empty "
            "where unknown"
        ) from None
    missing = [key for key in ("before", "after") if key not in arrays]
    if missing:
        raise ValueError(f"{path.name} has no array {listing(missing)} (arrays: {listing(present)}): add it")
    return arrays


def read_parquet(path: Path) -> pd.DataFrame:
    """The table of a Parquet file; errors as `InterventionPairs.from_parquet` has them."""
    import pyarrow

    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        return pd.read_parquet(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"{path.name} is no Parquet file, or is cut short ({error}): write it anew") from None


def paired_columns(path: Path, columns: Sequence[str], targets: str) -> tuple[list[str], list[str]]:
    """The columns NAME_before and NAME_after, each in the order of the first."""
    names = [name.removesuffix("_before") for name in columns if name.endswith("_before")]
    ends = [name.removesuffix("_after") for name in columns if name.endswith("_after")]
    if not names:
        raise ValueError(
            f"{path.name} has no columns NAME_before and NAME_after (columns: {listing(columns)}): say which to read with "
            "before=[...] and after=[...]"
        )
    alone = sorted({*names} ^ {*ends})
    if alone:
        raise ValueError(f"{path.name} has only one of before and after of {listing(alone)}: add the other column")
    others = [name for name in columns if not name.endswith(("_before", "_after")) and name != targets]
    if others:
        raise ValueError(
            f"{path.name} has column {listing(others)}, which is neither before, after nor {targets!r}: leave it out, or choose "
            "the columns with before=[...] and after=[...]; how strong an intervention was is not modelled"
        )
    return [f"{name}_before" for name in names], [f"{name}_after" for name in names]
