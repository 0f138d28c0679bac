"""A table of numeric and categorical variables, checked once: what discovery and structural causal models read."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from latentcause.data.labels import listing

SAME_RESIDUAL = 1e-10
"""Two columns count as affine copies when the largest residual is this small beside the range of the values."""


@dataclass(frozen=True, eq=False)
class Variables:
    """Named columns of finite numbers; categories are codes 0..K-1 of their levels.

    ``Variables.read`` makes one of a DataFrame or an array.

    Parameters
    ----------
    names : tuple of str
        One per column, all different.
    values : ndarray (n, d), float64
        Numbers in their own units and codes of categories. A read-only copy is kept.
    levels : dict from name to tuple
        The levels of each categorical column, in the order of the codes. A column that is not named here is numeric.

    Raises
    ------
    ValueError
        For values that are not a table of at least one row and column, missing or infinite values, duplicate names, levels
        of an unknown column, and codes that no level has. The message names the column and the first row (from 0).
    """

    names: tuple[str, ...]
    values: np.ndarray
    levels: dict[str, tuple[Hashable, ...]]

    def __post_init__(self) -> None:
        names = _checked_names(self.names)
        values = np.array(self.values, dtype=np.float64, order="C")
        if values.ndim != 2 or values.shape[1] != len(names):
            raise ValueError(f"values have shape {values.shape}: give one column for each of the {len(names)} names")
        if not len(values):
            raise ValueError("the table has no rows: give at least one")
        _refuse_non_finite(names, values)
        levels = {name: tuple(self.levels[name]) for name in names if name in self.levels}
        unknown = [name for name in self.levels if name not in names]
        if unknown:
            raise ValueError(f"levels are given for {unknown[0]!r}, which is not a column: they are {listing(names)}")
        for name, known in levels.items():
            _refuse_odd_codes(name, values[:, names.index(name)], known)
        values.flags.writeable = False
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "levels", levels)

    @classmethod
    def read(
        cls,
        data: Any,
        columns: Sequence[str] | None = None,
        levels: Mapping[str, Sequence[Hashable]] | None = None,
    ) -> Variables:
        """Read a DataFrame, an (n, d) array or tensor, or another `Variables`.

        Numbers stay as they are. Columns of bool, text and category dtype become codes: of (False, True), of the sorted
        texts, and of the categories in their own order.

        Parameters
        ----------
        data : DataFrame, array (n, d) or Variables
            The columns of an array are named x0, x1, ... unless ``columns`` names them.
        columns : sequence of str, optional
            Read exactly these columns, in this order, and ignore others.
        levels : mapping from name to levels, optional
            Read categories by these levels, such as those of the table that a model was fitted to. All other columns must
            then be numeric.

        Raises
        ------
        ValueError
            Besides what the class refuses: a column that is missing, that holds neither numbers nor text, bool or
            categories, or that holds a level other than ``levels`` says.
        """
        frame = _as_frame(data, columns)
        names = _checked_names(frame.columns)
        if not levels and all(isinstance(kind, np.dtype) and kind.kind in "iuf" for kind in frame.dtypes):
            return cls(names, frame.to_numpy(dtype=np.float64), {})  # all at once: columns one by one take much longer
        found: dict[str, tuple[Hashable, ...]] = {}
        values = np.empty(frame.shape)
        for j, name in enumerate(names):
            column = frame.iloc[:, j]
            if levels is not None and name in levels:
                values[:, j], found[name] = _codes_of(name, column, tuple(levels[name])), tuple(levels[name])
            elif _is_numeric(column):
                values[:, j] = column.to_numpy(dtype=np.float64, na_value=np.nan)
            elif levels is not None:
                raise ValueError(f"column {name!r} must hold numbers, but its dtype is {column.dtype}: convert it")
            else:
                values[:, j], found[name] = _categories(name, column)
        return cls(names, values, found)

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.values)

    def __repr__(self) -> str:
        shown = [f"{name} ({len(self.levels[name])} levels)" if name in self.levels else name for name in self.names]
        return f"Variables({len(self)} rows: {', '.join(shown)})"

    def index(self, name: str) -> int:
        """Column number of a variable; a ValueError for an unknown name lists the known ones."""
        if name not in self.names:
            raise ValueError(f"there is no column {name!r}: the columns are {listing(self.names)}")
        return self.names.index(name)

    def is_numeric(self, name: str) -> bool:
        """Whether a column holds numbers, not codes of levels."""
        return self.names[self.index(name)] not in self.levels

    def column(self, name: str) -> np.ndarray:
        """Values (n,) of one variable."""
        return self.values[:, self.index(name)]

    def require_variation(self) -> Variables:
        """Return self if graphs can be learned from this table.

        Raises
        ------
        ValueError
            For fewer rows than columns, a constant column, a category with one level, and two columns that say the same:
            equal or affine copies (largest residual 1e-10 of the range), or categories that differ in their levels' names only.
        """
        n, d = self.values.shape
        if n < d:
            raise ValueError(f"{n} rows for {d} columns: give at least as many rows as columns")
        constant = [self.names[j] for j in np.flatnonzero(np.ptp(self.values, axis=0) == 0)]
        for name in constant:
            if name in self.levels:
                level = self.levels[name][int(self.column(name)[0])]
                raise ValueError(f"category {name!r} has one level, {level!r}, in all rows: leave the column out")
            raise ValueError(f"column {name!r} is constant ({self.column(name)[0]:g}): leave it out")
        _refuse_affine_copies(self.names, self.values)
        seen: dict[bytes, str] = {}
        for name in self.levels:
            twin = seen.setdefault(pd.factorize(self.column(name))[0].tobytes(), name)
            if twin != name:
                raise ValueError(
                    f"categories {twin!r} and {name!r} are the same but for their levels' names: leave one out"
                )
        return self

    def to_frame(self, values: Any = None, index: Any = None, *, copy: bool = True) -> pd.DataFrame:
        """Give a DataFrame back, codes turned into levels: bool where the levels are False and True, else category dtype.

        Parameters
        ----------
        values : array (m, d), optional
            Other rows of these variables, such as samples; this table's own if left out. NaN in a category stays missing.
        index : index (m,), optional
            Row labels.
        copy : bool
            Without it, the frame may share the memory of ``values``, where all columns are numbers.

        Raises
        ------
        ValueError
            If the shape of ``values`` does not fit, or a code has no level.
        """
        table = self.values if values is None else np.asarray(values, dtype=np.float64)
        if table.ndim != 2 or table.shape[1] != len(self.names):
            raise ValueError(f"values have shape {table.shape}: give one column for each of {listing(self.names)}")
        if not self.levels:
            own = table.copy(order="K") if copy or values is None else table
            return pd.DataFrame(own, columns=list(self.names), index=index, copy=False)
        columns: dict[str, Any] = {}
        for j, name in enumerate(self.names):
            known = self.levels.get(name)
            columns[name] = table[:, j].copy() if known is None else _named(name, table[:, j], known)
        return pd.DataFrame(columns, index=index)


def _as_frame(data: Any, columns: Sequence[str] | None) -> pd.DataFrame:
    """A frame of the columns to read, in their order."""
    if isinstance(columns, str):
        raise ValueError(f"columns must be a list of names, not the text {columns!r}: write [{columns!r}]")
    if isinstance(data, Variables):
        data = data.to_frame()
    if not isinstance(data, pd.DataFrame):
        array = np.asarray(data)
        if array.ndim != 2:
            raise ValueError(f"data must be a DataFrame or an (n, d) array, but its shape is {array.shape}")
        names = [f"x{j}" for j in range(array.shape[1])] if columns is None else list(columns)
        if len(names) != array.shape[1]:
            raise ValueError(f"{len(names)} column names for an array of {array.shape[1]} columns: give one each")
        return pd.DataFrame(array, columns=names)
    if columns is None:
        return data
    texts = [str(name) for name in data.columns]
    wanted = _checked_names(columns)
    missing = [name for name in wanted if name not in texts]
    if missing:
        raise ValueError(f"the data lack column {listing(missing)}: add it (their columns are {listing(texts)})")
    twice = [name for name in wanted if texts.count(name) > 1]
    if twice:
        raise ValueError(f"duplicate column {listing(twice)}: every variable needs a name of its own")
    if list(wanted) == texts:
        return data
    return data.iloc[:, [texts.index(name) for name in wanted]]


def _checked_names(names: Any) -> tuple[str, ...]:
    texts = tuple(str(name) for name in names)
    if not texts:
        raise ValueError("the table has no columns: give at least one")
    if "" in texts:
        raise ValueError(f"column {texts.index('')} has no name: every variable needs one")
    twice = dict.fromkeys(name for name in texts if texts.count(name) > 1)
    if twice:
        raise ValueError(f"duplicate column {listing(twice)}: every variable needs a name of its own")
    return texts


def _is_numeric(column: pd.Series) -> bool:
    kind = column.dtype
    is_kind = pd.api.types
    return is_kind.is_numeric_dtype(kind) and not is_kind.is_bool_dtype(kind) and not is_kind.is_complex_dtype(kind)


def _categories(name: str, column: pd.Series) -> tuple[np.ndarray, tuple[Hashable, ...]]:
    """Codes (n,), NaN where missing, and levels of a column of bool, text or category dtype."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        levels = tuple(column.cat.categories.tolist())
        codes = column.cat.codes.to_numpy(dtype=np.float64)
        return np.where(codes < 0, np.nan, codes), levels
    kind = pd.api.types.infer_dtype(column, skipna=True)
    if kind in ("integer", "floating", "mixed-integer-float", "decimal"):
        raise ValueError(
            f"column {name!r} holds numbers as Python objects: convert it with astype(float), or with astype('category') "
            "if they are labels"
        )
    if kind not in ("string", "boolean", "empty"):
        raise ValueError(
            f"column {name!r} has dtype {column.dtype} ({kind} values), which is not supported: convert it to numbers, "
            "text, bool or category"
        )
    if kind == "boolean":
        levels = (False, True)
    else:
        levels = tuple(sorted(str(level) for level in column.dropna().unique()))
    return _codes_of(name, column, levels), levels


def _codes_of(name: str, column: pd.Series, levels: tuple[Hashable, ...]) -> np.ndarray:
    """Codes (n,) of a column by known levels, NaN where a value is missing."""
    code = {level: float(number) for number, level in enumerate(levels)}
    values = column.astype(object)
    missing = values.isna().to_numpy()
    codes = np.array(values.map(code), dtype=np.float64)
    odd = np.isnan(codes) & ~missing
    if odd.any():
        row = int(odd.argmax())
        raise ValueError(
            f"column {name!r} holds {values.iloc[row]!r} (first in row {row}), which is not among its levels {listing(levels)}"
        )
    return codes


def _refuse_non_finite(names: tuple[str, ...], values: np.ndarray) -> None:
    bad = ~np.isfinite(values)
    if not bad.any():
        return
    columns = np.flatnonzero(bad.any(axis=0))
    shown = [f"{names[j]!r} ({bad[:, j].sum()} values, first in row {bad[:, j].argmax()})" for j in columns[:5]]
    more = f" and {len(columns) - 5} more columns" if len(columns) > 5 else ""
    raise ValueError(
        f"missing or infinite values in column {', '.join(shown)}{more}: remove those rows or fill the values in "
        "(rows count from 0)"
    )


def _refuse_odd_codes(name: str, codes: np.ndarray, levels: tuple[Hashable, ...]) -> None:
    if len(set(levels)) < len(levels):
        raise ValueError(f"column {name!r} has a level twice: {listing(levels)}")
    odd = (codes < 0) | (codes >= len(levels)) | (codes != np.round(codes))
    if odd.any():
        row = int(odd.argmax())
        raise ValueError(
            f"column {name!r} holds {codes[row]:g} (first in row {row}), which is no code of its {len(levels)} levels: "
            f"use 0 to {len(levels) - 1}"
        )


def _refuse_affine_copies(names: tuple[str, ...], values: np.ndarray) -> None:
    """Look at pairs that are all but perfectly correlated: is one exactly a + b times the other?"""
    scale = np.abs(values).max(axis=0)
    scaled = values / scale  # sums of squares of very large or very small numbers would leave the range of floats
    centred = scaled - scaled.mean(axis=0)
    norm = np.sqrt((centred**2).sum(axis=0))
    correlation = (centred / norm).T @ (centred / norm)
    first, second = np.nonzero(np.triu(np.abs(correlation) > 1 - 1e-8, k=1))
    for i, j in zip(first, second, strict=True):
        slope = correlation[i, j] * norm[j] / norm[i]
        residual = np.abs(centred[:, j] - slope * centred[:, i]).max()
        rounding = 16 * np.finfo(float).eps * (1 + abs(slope))
        if residual <= SAME_RESIDUAL * np.ptp(scaled[:, j]) + rounding:
            raise ValueError(
                f"columns {names[i]!r} and {names[j]!r} are copies of each other, up to units: leave one out"
            )


def _named(name: str, codes: np.ndarray, levels: tuple[Hashable, ...]) -> Any:
    missing = np.isnan(codes)
    _refuse_odd_codes(name, np.where(missing, 0, codes), levels)
    if all(type(level) is bool for level in levels) and levels == (False, True) and not missing.any():
        return codes.astype(bool)
    numbers = np.where(missing, -1, codes).astype(np.int64)
    return pd.Categorical.from_codes(numbers.tolist(), categories=pd.Index(levels, tupleize_cols=False))
