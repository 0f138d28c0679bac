"""Variables: frames and arrays in, codes and levels out, and one clear error for each kind of bad table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentcause.data import Variables

FINITE = st.floats(-1e300, 1e300)
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=4)
COLUMNS = {
    "number": st.tuples(st.just("float64"), FINITE),
    "count": st.tuples(st.just("int32"), st.integers(-(2**31), 2**31 - 1)),
    "flag": st.tuples(st.just("bool"), st.booleans()),
    "text": st.tuples(st.just("object"), TEXT),
    "category": st.tuples(st.just("category"), st.sampled_from(["lo", "mid", "hi"])),
}


@st.composite
def frames(draw: st.DrawFn) -> pd.DataFrame:
    """Frames of one to five columns of any supported kind."""
    rows = draw(st.integers(1, 6))
    kinds = draw(st.lists(st.sampled_from(sorted(COLUMNS)), min_size=1, max_size=5))
    columns: dict[str, Any] = {}
    for j, kind in enumerate(kinds):
        cells = [draw(COLUMNS[kind]) for _ in range(rows)]
        dtype: Any = cells[0][0] if kind != "category" else pd.CategoricalDtype(["mid", "hi", "lo", "never"])
        columns[f"{kind}{j}"] = pd.Series([value for _, value in cells], dtype=dtype)
    return pd.DataFrame(columns)


@given(frame=frames())
def test_a_frame_comes_back_with_its_values(frame: pd.DataFrame) -> None:
    table = Variables.read(frame)
    back = table.to_frame()
    assert table.names == tuple(frame.columns)
    assert table.values.dtype == np.float64
    assert table.values.shape == frame.shape
    for name in table.names:
        assert back[name].tolist() == frame[name].tolist()
        assert table.is_numeric(name) == name.startswith(("number", "count"))
        assert table.is_numeric(name) == (name not in table.levels)


@given(frame=frames())
def test_reading_again_changes_nothing(frame: pd.DataFrame) -> None:
    table = Variables.read(frame)
    for source in (table, table.to_frame()):
        again = Variables.read(source)
        assert again.names == table.names
        assert again.levels == table.levels
        np.testing.assert_array_equal(again.values, table.values)
    first_row = Variables.read(frame.iloc[:1], levels=table.levels)
    np.testing.assert_array_equal(first_row.values, table.values[:1])


@given(frame=frames(), data=st.data())
def test_columns_are_chosen_in_their_order(frame: pd.DataFrame, data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.sampled_from(list(frame.columns)), min_size=1, unique=True))
    table, part = Variables.read(frame), Variables.read(frame, chosen)
    assert part.names == tuple(chosen)
    np.testing.assert_array_equal(part.values, table.values[:, [table.index(name) for name in chosen]])
    assert part.levels == {name: table.levels[name] for name in chosen if name in table.levels}


def test_levels_are_sorted_or_keep_their_order() -> None:
    frame = pd.DataFrame(
        {
            "text": ["b", "a", "b"],
            "string": pd.array(["q", "p", "q"], dtype="string"),
            "flag": [True, True, True],
            "nullable": pd.array([False, True, False], dtype="boolean"),
            "dose": pd.Categorical([10, 2, 10], categories=[10, 2, 5]),
        }
    )
    table = Variables.read(frame)
    assert table.levels == {
        "text": ("a", "b"),
        "string": ("p", "q"),
        "flag": (False, True),
        "nullable": (False, True),
        "dose": (10, 2, 5),
    }
    np.testing.assert_array_equal(table.values[0], [1, 1, 1, 0, 0])
    assert repr(table) == (
        "Variables(3 rows: text (2 levels), string (2 levels), flag (2 levels), nullable (2 levels), dose (3 levels))"
    )
    assert len(table) == 3
    np.testing.assert_array_equal(table.column("dose"), [0, 1, 0])


def test_arrays_and_tensors() -> None:
    import torch

    values = np.arange(6.0).reshape(3, 2)
    for source in (values, torch.as_tensor(values), values.tolist(), values.astype(np.float32)):
        table = Variables.read(source)
        assert table.names == ("x0", "x1")
        np.testing.assert_array_equal(table.values, values)
    assert Variables.read(values, ["a", "b"]).names == ("a", "b")
    assert Variables.read(values > 2).levels == {"x0": (False, True), "x1": (False, True)}


def test_the_values_are_a_read_only_copy() -> None:
    values = np.ones((2, 1))
    table = Variables.read(values)
    values[0, 0] = 5
    assert table.values[0, 0] == 1
    with pytest.raises(ValueError, match="read-only"):
        table.values[0, 0] = 2
    frame = table.to_frame()
    frame.loc[0, "x0"] = 3.0
    assert table.values[0, 0] == 1


def test_other_rows_become_a_frame_with_levels() -> None:
    table = Variables.read(pd.DataFrame({"x": [0.5, 1.5], "c": ["lo", "hi"], "b": [True, False]}))
    frame = table.to_frame([[2.5, 1, 1], [3.5, 0, 0], [4.5, 0, 1]], index=["p", "q", "r"])
    assert frame["c"].tolist() == ["lo", "hi", "hi"]
    assert frame["b"].dtype == bool
    assert frame.index.tolist() == ["p", "q", "r"]
    assert table.to_frame([[1.0, np.nan, 0.0]])["c"].isna().all()
    with pytest.raises(
        ValueError, match=r"'c' holds 2 \(first in row 1\), which is no code of its 2 levels: use 0 to 1"
    ):
        table.to_frame([[1, 1, 1], [1, 2, 1]])
    with pytest.raises(ValueError, match=r"'c' holds 0.5"):
        table.to_frame([[1, 0.5, 1]])
    with pytest.raises(ValueError, match=r"shape \(1, 2\): give one column for each of 'x', 'c', 'b'"):
        table.to_frame([[1, 1]])


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (
            pd.DataFrame({"a": [1.0, np.nan, np.inf], "b": 1.0}),
            r"column 'a' \(2 values, first in row 1\): remove those",
        ),
        (
            pd.DataFrame({"a": [1.0, 2.0], "b": ["u", None]}),
            r"missing or infinite values in column 'b' \(1 values, first in",
        ),
        (pd.DataFrame({"b": pd.Categorical(["u", None])}), r"column 'b' \(1 values, first in row 1\)"),
        (pd.DataFrame({"b": pd.array([1, None], dtype="Int64")}), r"column 'b' \(1 values, first in row 1\)"),
        (pd.DataFrame({"b": pd.array([True, None], dtype="boolean")}), r"column 'b' \(1 values, first in row 1\)"),
        (pd.DataFrame({"b": [None, None]}), r"column 'b' \(2 values, first in row 0\)"),
        (pd.DataFrame({f"a{j}": [np.nan] for j in range(7)}), "and 2 more columns"),
        (
            pd.DataFrame({"t": pd.date_range("2020-01-01", periods=2)}),
            r"'t' has dtype datetime64\[\w+\] .*not supported",
        ),
        (pd.DataFrame({"z": [1j, 2j]}), r"'z' has dtype complex128 .*convert it to numbers, text, bool or category"),
        (pd.DataFrame({"m": [1, "a"]}), r"'m' has dtype object \(mixed-integer values\), which is not supported"),
        (pd.DataFrame({"m": [(1, 2), (3, 4)]}), r"'m' has dtype object \(mixed values\)"),
        (
            pd.DataFrame({"o": np.array([1, 2], dtype=object)}),
            r"'o' holds numbers as Python objects: convert it with astype",
        ),
        (
            pd.DataFrame([[1.0, 2.0]], columns=["a", "a"]),
            "duplicate column 'a': every variable needs a name of its own",
        ),
        (pd.DataFrame([[1.0, 2.0]], columns=[1, "1"]), "duplicate column '1'"),
        (pd.DataFrame([[1.0, 2.0]], columns=["a", ""]), "column 1 has no name"),
        (pd.DataFrame({"a": []}, dtype=float), "the table has no rows"),
        (pd.DataFrame(index=[0, 1]), "the table has no columns"),
        (np.zeros(3), r"DataFrame or an \(n, d\) array, but its shape is \(3,\)"),
        ({"a": [1]}, r"DataFrame or an \(n, d\) array, but its shape is \(\)"),
    ],
)
def test_tables_that_are_refused(frame: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Variables.read(frame)


def test_chosen_columns_that_are_refused() -> None:
    frame = pd.DataFrame([[1.0, 2.0, 3.0]], columns=["a", "b", "b"])
    assert Variables.read(frame, ["a"]).names == ("a",)
    for columns, message in [
        (["a", "c"], "the data lack column 'c': add it .their columns are 'a', 'b', 'b'"),
        (["a", "b"], "duplicate column 'b'"),
        (["a", "a"], "duplicate column 'a'"),
        ([], "no columns"),
        ("a", r"a list of names, not the text 'a': write \['a'\]"),
    ]:
        with pytest.raises(ValueError, match=message):
            Variables.read(frame, columns)
    with pytest.raises(ValueError, match="1 column names for an array of 2 columns"):
        Variables.read(np.zeros((2, 2)), ["a"])


def test_known_levels_that_do_not_fit() -> None:
    levels = {"c": ("lo", "hi")}
    rows = pd.DataFrame({"x": [1.0, 2.0], "c": ["hi", "hi"]})
    np.testing.assert_array_equal(Variables.read(rows, levels=levels).values, [[1, 1], [2, 1]])
    with pytest.raises(
        ValueError, match=r"'c' holds 'mid' \(first in row 1\), which is not among its levels 'lo', 'hi'"
    ):
        Variables.read(rows.assign(c=["hi", "mid"]), levels=levels)
    with pytest.raises(ValueError, match="column 'x' must hold numbers"):
        Variables.read(rows.assign(x=["u", "v"]), levels=levels)
    with pytest.raises(ValueError, match=r"missing .* 'c' \(1 values, first in row 0\)"):
        Variables.read(rows.assign(c=[None, "lo"]), levels=levels)


@pytest.mark.parametrize(
    ("names", "values", "levels", "message"),
    [
        (("a",), np.zeros((2, 2)), {}, r"shape \(2, 2\): give one column for each of the 1 names"),
        (("a",), np.zeros((2, 1)), {"b": (1, 2)}, "levels are given for 'b', which is not a column"),
        (("a",), np.array([[0.0], [2.0]]), {"a": ("u", "v")}, r"'a' holds 2 \(first in row 1\), which is no code"),
        (("a",), np.array([[0.0], [1.0]]), {"a": ("u", "u")}, "'a' has a level twice"),
    ],
)
def test_direct_construction_is_checked(names: Any, values: np.ndarray, levels: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Variables(names, values, levels)


def test_unknown_names_are_listed() -> None:
    table = Variables.read(np.zeros((1, 2)))
    for ask in (table.index, table.column, table.is_numeric):
        with pytest.raises(ValueError, match="there is no column 'y': the columns are 'x0', 'x1'"):
            ask("y")


def varied() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {"a": rng.normal(size=30), "b": rng.normal(size=30) * 1e-9, "c": rng.choice(["u", "v", "w"], 30)}
    )


def test_variation_is_returned_where_it_is() -> None:
    table = Variables.read(varied())
    assert table.require_variation() is table
    nearly = varied().assign(d=lambda frame: frame["a"] + 1e-7 * frame["b"] / frame["b"].std())
    assert Variables.read(nearly).require_variation()  # noise of a ten-millionth is noise


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"d": 4.5}, r"column 'd' is constant \(4.5\): leave it out"),
        ({"d": "one"}, "category 'd' has one level, 'one', in all rows"),
        ({"d": True}, "category 'd' has one level, True"),
        ({"d": lambda frame: frame["a"]}, "columns 'a' and 'd' are copies of each other, up to units"),
        ({"d": lambda frame: 32 - 1.8 * frame["a"]}, "columns 'a' and 'd' are copies"),
        ({"d": lambda frame: 1e6 + frame["a"]}, "columns 'a' and 'd' are copies"),
        ({"d": lambda frame: 3e9 * frame["b"]}, "columns 'b' and 'd' are copies"),
        (
            {"d": lambda frame: frame["c"].map({"u": "z", "v": "x", "w": "y"})},
            "categories 'c' and 'd' are the same but for",
        ),
        ({"d": lambda frame: frame["c"].map({"u": 0, "v": 1, "w": 2})}, "columns 'c' and 'd' are copies"),
    ],
)
def test_columns_without_variation_of_their_own(extra: dict[str, Any], message: str) -> None:
    table = Variables.read(varied().assign(**extra))
    with pytest.raises(ValueError, match=message):
        table.require_variation()


def test_fewer_rows_than_columns() -> None:
    table = Variables.read(np.random.default_rng(0).normal(size=(3, 4)))
    with pytest.raises(ValueError, match="3 rows for 4 columns: give at least as many rows as columns"):
        table.require_variation()
