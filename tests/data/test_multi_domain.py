"""MultiDomainData: the same data from every kind of file, its moments, its parts, and bad input refused at the door."""

from __future__ import annotations

import gzip
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from latentcause.data import MultiDomainData
from latentcause.graph import CausalGraph

TARGETS = {"ctl": None, "ko": ["z1"], "both": ["z2", "z1"]}
GRAPH = CausalGraph.chain(2)
FORMATS = ["frame", "csv", "csv.gz", "tsv", "parquet", "npy", "h5ad"]


def frame_of(n: int = 24, d_x: int = 3, seed: int = 0) -> pd.DataFrame:
    """Random measurements in the domains of ``TARGETS``, their rows mixed."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(rng.normal(size=(n, d_x)), columns=[f"p{j}" for j in range(d_x)])
    frame.insert(1, "condition", np.array(list(TARGETS))[rng.permutation(np.arange(n) % 3)])
    return frame


def values(data: MultiDomainData) -> np.ndarray:
    return np.concatenate([x for _, _, x in data.batches(5)])


def read_back(frame: pd.DataFrame, kind: str, folder: Path, targets: Any = TARGETS) -> MultiDomainData:
    """Write the frame in one format and open it again."""
    path = folder / f"cells.{kind}"
    columns = [name for name in frame if name != "condition"]
    if kind == "frame":
        return MultiDomainData.from_dataframe(frame, "condition", targets)
    if kind in ("csv", "csv.gz"):
        frame.to_csv(path, index=False)
    elif kind == "tsv":
        frame.to_csv(path, index=False, sep="\t")
    elif kind == "parquet":
        frame.to_parquet(path, row_group_size=7)
    elif kind == "npy":
        np.save(path, frame[columns].to_numpy())
        np.save(folder / "labels.npy", frame["condition"].to_numpy().astype(str))
        return MultiDomainData.from_file(path, str(folder / "labels.npy"), targets, columns)
    else:
        ad = pytest.importorskip("anndata")
        obs = frame[["condition"]].astype("category").set_index(frame.index.astype(str))
        ad.AnnData(frame[columns].to_numpy(), obs=obs, var=pd.DataFrame(index=columns)).write_h5ad(path)
    return MultiDomainData.from_file(path, "condition", targets)


# --- the same data from everywhere -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_gives_the_same_data(kind: str, tmp_path: Path) -> None:
    frame = frame_of()
    data = read_back(frame, kind, tmp_path)
    np.testing.assert_array_equal(values(data), frame.drop(columns="condition"))
    assert data.measurements == ("p0", "p1", "p2")
    assert data.domains == tuple(frame["condition"].unique())
    assert [data.domains[i] for i in data.domain_index] == frame["condition"].tolist()
    assert data.targets == {d: tuple(TARGETS[d] or ()) for d in data.domains}
    assert list(data.targets) == list(data.domains)
    assert data.domain_index.dtype == np.int64
    assert (len(data), data.n_samples, data.n_measurements) == (24, 24, 3)
    assert data.is_streamed == (kind in ("parquet", "npy"))
    data.validate_for(GRAPH)


@given(n=st.integers(6, 40), d_x=st.integers(1, 9), seed=st.integers(0, 99), group=st.integers(1, 50))
def test_streamed_equals_in_memory(
    n: int, d_x: int, seed: int, group: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    frame = frame_of(n, d_x, seed)
    path = tmp_path_factory.mktemp("round") / "x.parquet"
    frame.to_parquet(path, row_group_size=group)
    memory = MultiDomainData.from_dataframe(frame, "condition", TARGETS)
    streamed = MultiDomainData.from_parquet(path, "condition", TARGETS)
    np.testing.assert_array_equal(values(streamed), values(memory))
    np.testing.assert_array_equal(streamed.domain_index, memory.domain_index)
    np.testing.assert_array_equal(streamed.moments.mean, memory.moments.mean)
    np.testing.assert_array_equal(streamed.moments.second, memory.moments.second)


def test_real_cells_from_their_csv(shared_data: Callable[[str], Path]) -> None:
    path, conditions = shared_data("sachs/cells.csv.gz"), shared_data("sachs/conditions.csv")
    data = MultiDomainData.from_file(path, "condition", conditions)
    expected = pd.read_csv(conditions).set_index("condition")["cells"]
    assert dict(zip(data.domains, data.moments.count, strict=True)) == expected.to_dict()
    assert (data.n_samples, data.n_measurements) == (11672, 11)
    assert data.targets["b2camp"] == ("PKA",)


def test_columns_can_be_chosen(tmp_path: Path) -> None:
    frame = frame_of().assign(batch="first")
    for kind in ("csv", "parquet"):
        path = tmp_path / f"x.{kind}"
        frame.to_csv(path, index=False) if kind == "csv" else frame.to_parquet(path)
        data = MultiDomainData.from_file(path, "condition", TARGETS, ["p2", "p0"])
        np.testing.assert_array_equal(values(data), frame[["p2", "p0"]])
        with pytest.raises(ValueError, match="non-numeric column 'batch'"):
            MultiDomainData.from_file(path, "condition", TARGETS)
        with pytest.raises(ValueError, match="has no column 'p9'"):
            MultiDomainData.from_file(path, "condition", TARGETS, ["p0", "p9"])
        with pytest.raises(ValueError, match="has no column 'plate'"):
            MultiDomainData.from_file(path, "plate", TARGETS)
        with pytest.raises(ValueError, match="'condition' holds the domains"):
            MultiDomainData.from_file(path, "condition", TARGETS, ["p0", "condition"])


def test_csv_labels_stay_text(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("condition,p0\n007,1\nNone,2\nNA,4\n")
    data = MultiDomainData.from_csv(path, "condition", {"007": "z1", "None": None, "NA": None})
    assert data.domains == ("007", "None", "NA")


def test_frame_dtypes() -> None:
    frame = frame_of().assign(p0=np.arange(24), p1=pd.array(range(24), dtype="Int64"), p2=np.arange(24) % 2 == 0)
    data = MultiDomainData.from_dataframe(frame, "condition", TARGETS)
    np.testing.assert_array_equal(values(data), np.stack([np.arange(24), np.arange(24), np.arange(24) % 2 == 0], 1))


# --- AnnData ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def adata() -> Any:
    ad = pytest.importorskip("anndata")
    frame = frame_of()
    x = np.maximum(frame.drop(columns="condition").to_numpy(dtype=np.float32), 0)
    obs = frame[["condition"]].set_index(frame.index.astype(str))
    var = pd.DataFrame(index=["g1", "g2", "g3"])
    return ad.AnnData(csr_matrix(x), obs=obs, var=var, layers={"dense": x + 1})


def test_anndata_sparse_layer_and_backed(adata: Any, tmp_path: Path) -> None:
    ad = sys.modules["anndata"]
    adata.write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    x = adata.X.toarray()
    for source in (adata, tmp_path / "cells.h5ad", str(tmp_path / "cells.h5ad"), backed):
        data = MultiDomainData.from_anndata(source, "condition", TARGETS)
        np.testing.assert_array_equal(values(data), x)
        np.testing.assert_array_equal(values(data.subset([5, 2, 5])), x[[5, 2, 5]])
        assert data.measurements == ("g1", "g2", "g3")
        assert data.is_streamed == (source is backed)
    backed.file.close()
    layer = MultiDomainData.from_anndata(adata, "condition", TARGETS, layer="dense", measurements=["g3", "g1"])
    np.testing.assert_array_equal(values(layer), x[:, [2, 0]] + 1)
    assert layer.measurements == ("g3", "g1")


def test_backed_dense_anndata_is_streamed(adata: Any, tmp_path: Path) -> None:
    ad = sys.modules["anndata"]
    adata.X = adata.X.toarray()
    adata.write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    data = MultiDomainData.from_anndata(backed, "condition", TARGETS)
    assert data.is_streamed
    np.testing.assert_array_equal(values(data), adata.X)
    np.testing.assert_array_equal(values(data.subset([5, 2, 5])), adata.X[[5, 2, 5]])
    backed.file.close()


def test_anndata_that_does_not_fit(adata: Any) -> None:
    for call, message in [
        ({"domain": "plate"}, r"obs has no column 'plate' \(columns: 'condition'\)"),
        ({"domain": "condition", "layer": "counts"}, r"no layer 'counts' \(layers: 'dense'\)"),
        ({"domain": "condition", "measurements": ["g9"]}, "var_names lacks 'g9'"),
    ]:
        with pytest.raises(ValueError, match=message):
            MultiDomainData.from_anndata(adata, targets=TARGETS, **call)
    del adata.X
    with pytest.raises(ValueError, match="no X: name a layer"):
        MultiDomainData.from_anndata(adata, "condition", TARGETS)


def test_without_anndata_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "anndata", None)
    with pytest.raises(ImportError, match=r"pip install latentcause\[cell\]"):
        MultiDomainData.from_file("cells.h5ad", "condition", TARGETS)


# --- moments, parts, targets -----------------------------------------------------------------------------------------


@given(n=st.integers(6, 300), d_x=st.integers(1, 6), seed=st.integers(0, 99))
def test_moments_equal_numpy(n: int, d_x: int, seed: int) -> None:
    frame = frame_of(n, d_x, seed)
    data = MultiDomainData.from_dataframe(frame, "condition", TARGETS)
    x = values(data)
    by_domain = frame.groupby("condition", sort=False)
    np.testing.assert_array_equal(data.moments.count, by_domain.size())
    np.testing.assert_allclose(data.moments.mean, by_domain.mean(), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(data.moments.second, x.T @ x / n, rtol=1e-12, atol=1e-14)
    assert data.moments is data.moments


def test_moments_of_float32_are_summed_in_float64() -> None:
    x = np.full((4096, 1), 0.1, dtype=np.float32)
    x[0] = 3
    with np.errstate(all="raise"):
        second = MultiDomainData(x, np.zeros(4096), {0.0: None}).moments.second
    assert second[0, 0] == pytest.approx((x.astype(np.float64) ** 2).mean(), rel=1e-13)


@given(data=st.data())
def test_subset_equals_the_rows_picked_by_numpy(data: st.DataObject) -> None:
    frame = frame_of()
    whole = MultiDomainData.from_dataframe(frame, "condition", TARGETS)
    rows = data.draw(st.lists(st.integers(-24, 23), min_size=1, max_size=30))
    part = whole.subset(rows)
    np.testing.assert_array_equal(values(part), values(whole)[rows])
    assert [part.domains[i] for i in part.domain_index] == frame["condition"].iloc[rows].tolist()
    assert part.targets == {d: whole.targets[d] for d in whole.domains if d in set(frame["condition"].iloc[rows])}
    assert part.measurements == whole.measurements


def test_subset_of_streamed_data_stays_streamed(tmp_path: Path) -> None:
    frame = frame_of()
    data = read_back(frame, "parquet", tmp_path)
    mask = np.arange(24) % 4 > 0
    part = data.subset(mask)
    assert part.is_streamed
    memory = MultiDomainData.from_dataframe(frame, "condition", TARGETS).subset(mask)
    np.testing.assert_array_equal(part.moments.second, memory.moments.second)


def test_subset_without_rows_or_beyond_them() -> None:
    data = MultiDomainData.from_dataframe(frame_of(), "condition", TARGETS)
    with pytest.raises(ValueError, match="at least one row"):
        data.subset([False] * 24)
    with pytest.raises(IndexError):
        data.subset([24])


def test_pooled_is_one_domain_without_targets() -> None:
    data = MultiDomainData.from_dataframe(frame_of(), "condition", TARGETS)
    pooled = data.pooled()
    assert pooled.targets == {"pooled": ()}
    np.testing.assert_array_equal(values(pooled), values(data))
    np.testing.assert_array_equal(pooled.indicator(GRAPH), [[False, False]])


def test_indicator_follows_the_order_of_domains_and_nodes() -> None:
    data = MultiDomainData(np.eye(4), ["ko", "ctl", "both", "ko"], TARGETS)
    np.testing.assert_array_equal(data.indicator(GRAPH), [[True, False], [False, False], [True, True]])
    with pytest.raises(ValueError, match=r"target 'z2' of domain 'both' is not a node .*\(nodes: 'z1'\)"):
        data.indicator(CausalGraph.chain(1))


def test_repr_says_what_is_inside(tmp_path: Path) -> None:
    data = MultiDomainData(np.eye(4), ["ko", "ctl", "both", "ko"], TARGETS)
    assert repr(data).splitlines() == [
        "MultiDomainData: 4 samples x 4 measurements, 3 domains",
        "  ko: 2 samples, targets z1",
        "  ctl: 1 samples, targets none",
        "  both: 1 samples, targets z2, z1",
    ]
    many = MultiDomainData(np.eye(30), range(30), dict.fromkeys(range(30)))
    assert repr(many).endswith("and 18 more")
    assert "streamed" in repr(read_back(frame_of(), "parquet", tmp_path))


# --- bad input -------------------------------------------------------------------------------------------------------


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
