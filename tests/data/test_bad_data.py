"""Bad data are refused at the door of MultiDomainData, by name."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_formats import FORMATS, GRAPH, TARGETS, frame_of, read_back
from latentcause.data import MultiDomainData
from latentcause.graph import CausalGraph


@pytest.mark.parametrize("kind", FORMATS)
def test_nan_and_infinity_name_columns_and_rows(kind: str, tmp_path: Path) -> None:
    frame = frame_of()
    frame.loc[[3, 7], "p0"] = np.nan
    frame.loc[9, "p2"] = np.inf
    with pytest.raises(ValueError, match=r"'p0' \(2 values, first in row 3\), 'p2' \(1 values, first in row 9\)"):
        read_back(frame, kind, tmp_path).validate_for(GRAPH)


def test_non_finite_rows_count_over_batches(tmp_path: Path) -> None:
    x = np.zeros((70000, 130))
    x[np.arange(70000), np.arange(70000) % 130] = np.arange(70000)
    x[69999, 4] = -np.inf
    np.save(tmp_path / "x.npy", x)
    for table in (x, tmp_path / "x.npy"):
        with pytest.raises(ValueError, match=r"'x4' \(1 values, first in row 69999\)"):
            MultiDomainData(table, np.zeros(70000), {0: None}).moments


@pytest.mark.parametrize(
    ("domain", "message"),
    [
        (["a", "b"], "domain has 2 labels but x has 4 rows"),
        ("condition", r"one label per row, but its shape is \(\)"),
        (np.zeros((4, 1)), r"one label per row, but its shape is \(4, 1\)"),
        (["a", None, "b", "b"], r"1 rows have no domain label \(first: row 1"),
        (["a", "a", "", "b"], r"1 rows have no domain label \(first: row 2"),
        (["a", "a", "b", np.nan], r"1 rows have no domain label \(first: row 3"),
        (np.array([1, np.nan, np.nan, 2]), r"2 rows have no domain label \(first: row 1"),
        (pd.Categorical(["a", None, "b", "b"]), r"1 rows have no domain label \(first: row 1"),
    ],
)
def test_domain_labels_that_do_not_fit(domain: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MultiDomainData(np.eye(4), domain, {"a": None, "b": None})


def test_kinds_of_labels() -> None:
    import torch

    for labels in ([1, 0, 1, 0], np.array([1, 0, 1, 0]), torch.tensor([1, 0, 1, 0]), pd.Series([1, 0, 1, 0])):
        data = MultiDomainData(np.eye(4), labels, {0: None, 1: "z1"})
        assert data.domains == (1, 0)
        assert all(type(label) is int for label in data.domains)


@pytest.mark.parametrize("kind", FORMATS)
def test_targets_that_do_not_fit(kind: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no targets entry for domain 'both'"):
        read_back(frame_of(), kind, tmp_path, {"ctl": None, "ko": "z1"})
    with pytest.raises(ValueError, match="domain 'other', which has no rows"):
        read_back(frame_of(), kind, tmp_path, {**TARGETS, "other": None})


@pytest.mark.parametrize("kind", FORMATS)
def test_identical_domains_are_named_even_where_rows_are_shuffled(kind: str, tmp_path: Path) -> None:
    frame = frame_of().sort_values("condition", ignore_index=True)
    copied = frame.loc[frame["condition"] == "ctl", ["p0", "p1", "p2"]].to_numpy()
    frame.loc[frame["condition"] == "ko", ["p0", "p1", "p2"]] = copied[::-1]
    with pytest.raises(ValueError, match="domains 'ctl' and 'ko' hold identical rows"):
        read_back(frame, kind, tmp_path).validate_for(GRAPH)


@given(seed=st.integers(0, 999), d_x=st.integers(1, 3))
def test_only_the_same_rows_make_domains_identical(seed: int, d_x: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.integers(-1, 2, size=(8, d_x)).astype(np.float32)
    x[0] = -2  # no column is constant
    labels = rng.permutation(np.repeat(["a", "b"], 4))
    rows = [sorted(map(tuple, x[labels == label].tolist())) for label in ("a", "b")]
    if rows[0] == rows[1]:
        with pytest.raises(ValueError, match="identical rows"):
            MultiDomainData(x, labels, {"a": None, "b": None})
    else:
        assert len(MultiDomainData(x, labels, {"a": None, "b": None})) == 8


@pytest.mark.parametrize("kind", FORMATS)
def test_constant_columns_warn(kind: str, tmp_path: Path) -> None:
    frame = frame_of(d_x=4).assign(p1=2.0, p3=0.0)
    with pytest.warns(UserWarning, match="constant column 'p1', 'p3'"):
        read_back(frame, kind, tmp_path).validate_for(GRAPH)


def test_one_row_has_no_constant_columns() -> None:
    assert len(MultiDomainData([[1.0, 2.0]], ["a"], {"a": None})) == 1


@pytest.mark.parametrize("kind", ["frame", "csv"])
def test_non_numeric_columns_are_named(kind: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="non-numeric column 'p0', 'p2'"):
        read_back(frame_of().assign(p0="text", p2=["1.5", "n.d."] * 12), kind, tmp_path)
    if kind == "frame":
        with pytest.raises(ValueError, match="non-numeric column 'p1'"):
            read_back(frame_of().assign(p1=1j), kind, tmp_path)


def test_duplicate_and_unnamed_columns(tmp_path: Path) -> None:
    frame = frame_of().set_axis(["p0", "condition", "p0", "p2"], axis=1)
    with pytest.raises(ValueError, match="duplicate column 'p0'"):
        MultiDomainData.from_dataframe(frame, "condition", TARGETS)
    frame.to_csv(tmp_path / "twice.csv", index=False)
    with pytest.raises(ValueError, match=r"duplicate column 'p0' in twice\.csv"):
        MultiDomainData.from_csv(tmp_path / "twice.csv", "condition", TARGETS)
    frame_of().to_csv(tmp_path / "index.csv")
    with pytest.raises(ValueError, match=r"column 0 has no name \(a saved row index\?\)"):
        MultiDomainData.from_csv(tmp_path / "index.csv", "condition", TARGETS)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text("")
    with gzip.open(tmp_path / "empty.csv.gz", "wt") as file:
        file.write("")
    for name in ("empty.csv", "empty.csv.gz"):
        with pytest.raises(ValueError, match=f"{name} is empty"):
            MultiDomainData.from_file(tmp_path / name, "condition", TARGETS)
    with pytest.raises(ValueError, match=r"cells\.xlsx: the name must end in"):
        MultiDomainData.from_file(tmp_path / "cells.xlsx", "condition", TARGETS)
    with pytest.raises(FileNotFoundError):
        MultiDomainData.from_file(tmp_path / "absent.parquet", "condition", TARGETS)


# --- data and graph together -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FORMATS)
def test_graph_that_does_not_fit(kind: str, tmp_path: Path) -> None:
    data = read_back(frame_of(), kind, tmp_path)
    with pytest.raises(ValueError, match="3 measurements can't carry 4 latent nodes"):
        data.validate_for(CausalGraph.chain(4))
    with pytest.raises(ValueError, match="target 'z2' of domain 'both' is not a node"):
        data.validate_for(CausalGraph.chain(1))
    data.validate_for(CausalGraph.chain(3))


def test_domain_with_fewer_samples_than_parameters() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(["ctl", "ko", "both"], [5, 2, 1])
    data = MultiDomainData(rng.normal(size=(8, 4)), labels, TARGETS)
    with pytest.raises(ValueError, match=r"domain 'ko' \(2\), 'both' \(1\): a graph of 2 nodes needs at least 3"):
        data.validate_for(GRAPH)
    data.subset(labels == "ctl").validate_for(CausalGraph.chain(4))


@given(rank=st.integers(1, 5), seed=st.integers(0, 99), dtype=st.sampled_from([np.float64, np.float32]))
def test_rank_below_the_node_count(rank: int, seed: int, dtype: type) -> None:
    rng = np.random.default_rng(seed)
    units = 10.0 ** rng.integers(-6, 7, size=6)  # columns may be in any units
    x = (rng.normal(size=(60, rank)) @ rng.normal(size=(rank, 6)) * units).astype(dtype)
    data = MultiDomainData(x, np.arange(60) % 2, {0: None, 1: "z1"})
    data.validate_for(CausalGraph.chain(rank))
    with pytest.raises(ValueError, match=f"x has rank {rank}, below the {rank + 1} nodes"):
        data.validate_for(CausalGraph.chain(rank + 1))


def test_zero_columns_do_not_count_towards_the_rank() -> None:
    x = np.random.default_rng(0).normal(size=(20, 3)) * [1, 1, 0]
    with pytest.warns(UserWarning, match="constant column 'x2'"):
        data = MultiDomainData(x, np.arange(20) % 2, {0: None, 1: "z1"})
    with pytest.raises(ValueError, match="x has rank 2"):
        data.validate_for(CausalGraph.chain(3))
