"""MultiDomainData: the same data from every kind of file, its moments and its parts."""

from __future__ import annotations

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

from data_formats import FORMATS, GRAPH, TARGETS, frame_of, read_back, values
from latentcause.data import MultiDomainData
from latentcause.graph import CausalGraph

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
