"""One small table of measurements, written in every format and opened again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

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
