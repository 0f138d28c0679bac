"""Domain labels: one per row, and the columns' names."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any

import numpy as np
import pandas as pd


def encode_labels(labels: Any, n_rows: int) -> tuple[tuple[Hashable, ...], np.ndarray]:
    """Split one label per row into the distinct labels, in order of first appearance, and each row's index into them.

    Raises
    ------
    ValueError
        Where there is not exactly one label per row, or a label is missing (None, NaN or empty text).
    """
    if isinstance(labels, (list, tuple)):  # as objects: NumPy would turn None or NaN beside text into text
        values = np.empty(len(labels), dtype=object)
        values[:] = labels
    else:
        values = np.asarray(labels)
    if values.ndim != 1:
        raise ValueError(f"domain must hold one label per row, but its shape is {values.shape}")
    if len(values) != n_rows:
        raise ValueError(f"domain has {len(values)} labels but x has {n_rows} rows: give one label per row")
    codes, found = pd.factorize(values)
    domains = tuple(label.item() if isinstance(label, np.generic) else label for label in found)
    missing = codes < 0
    if "" in domains:
        missing |= codes == domains.index("")
    if missing.any():
        raise ValueError(
            f"{missing.sum()} rows have no domain label (first: row {missing.argmax()}, counted from 0): "
            "label them or leave them out"
        )
    return domains, codes.astype(np.int64)


def check_names(names: Iterable[Any]) -> tuple[str, ...]:
    """The measurements' names as text; a ValueError names those that stand twice or are empty."""
    checked = tuple(str(name) for name in names)
    if "" in checked:
        raise ValueError(
            f"column {checked.index('')} has no name (a saved row index?): name it or choose the columns with "
            "measurements=[...]"
        )
    twice = {name: None for name in checked if checked.count(name) > 1} if len(set(checked)) < len(checked) else {}
    if twice:
        raise ValueError(f"duplicate column {listing(twice)}: every measurement needs a name of its own")
    return checked


def listing(labels: Iterable[Hashable], most: int = 8) -> str:
    """The labels, quoted and separated by commas, for messages; past ``most`` only how many more there are."""
    names = [repr(label) for label in labels]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
