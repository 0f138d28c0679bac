"""The Sachs cells: published counts, the consensus graph, the two variants, and files that are missing or changed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import latentcause.datasets
from latentcause.data import MultiDomainData
from latentcause.datasets import load_sachs
from latentcause.datasets.files import DataFiles
from latentcause.datasets.sachs import FILES, SachsCells

PROTEINS = ("Raf", "Mek", "PLCg", "PIP2", "PIP3", "Erk", "Akt", "PKA", "PKC", "P38", "JNK")


@pytest.fixture
def folder(shared_data: Callable[[str], Path]) -> Path:
    return shared_data("sachs")


@pytest.fixture
def cells(folder: Path) -> SachsCells:
    return load_sachs(folder)


def values(data: MultiDomainData) -> np.ndarray:
    return np.concatenate([x for _, _, x in data.batches()])


def test_cells_are_the_published_ones(cells: SachsCells, folder: Path) -> None:
    raw = pd.read_csv(folder / "cells.csv.gz")
    assert cells.frame.shape == (11672, 12)
    assert cells.frame["condition"].equals(raw["condition"])
    np.testing.assert_allclose(np.sinh(cells.frame[list(PROTEINS)]) * 5, raw[list(PROTEINS)], rtol=1e-12)
    np.testing.assert_array_equal(load_sachs(folder, transform="none").frame.iloc[0, 1:4], [26.4, 13.2, 8.82])
    assert cells.conditions["kind"].value_counts().to_dict() == {"inhibition": 10, "none": 2, "activation": 2}


def test_graph_is_the_consensus_network(cells: SachsCells) -> None:
    assert cells.graph.nodes == PROTEINS
    assert len(cells.graph.edges) == 17
    assert cells.graph.parents("Mek") == ("Raf", "PKA", "PKC")
    assert cells.graph.children("PLCg") == ("PIP2", "PIP3")


def test_data_have_the_conditions_as_domains(cells: SachsCells) -> None:
    data = cells.data()
    data.validate_for(cells.graph)
    assert data.measurements == PROTEINS
    assert data.domains == tuple(cells.conditions["condition"])
    assert data.moments.count.tolist() == cells.conditions["cells"].tolist()
    targeted = data.indicator(cells.graph).sum(axis=0)
    expected = {"Akt": 4, "PKC": 3, "PIP2": 2, "Mek": 2, "PKA": 1}
    assert {node: n for node, n in zip(PROTEINS, targeted, strict=True) if n} == expected


def test_known_panel_is_the_standardised_cells_plus_noise(cells: SachsCells) -> None:
    panel = cells.known_panel(0.5, seed=3)
    z = panel.latents
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(z.var(axis=0), 1, rtol=1e-12)
    ranks = cells.frame[list(PROTEINS)].rank(method="dense").to_numpy()
    np.testing.assert_array_equal(pd.DataFrame(z).rank(method="dense"), ranks)
    np.testing.assert_array_equal(panel.loadings, np.eye(11))
    noise = values(panel.data) - z
    np.testing.assert_allclose(noise.var(axis=0), 0.5, rtol=0.08)  # 5 standard errors of a variance at n = 11672
    assert np.abs(np.corrcoef(noise.T, z.T)[:11, 11:]).max() < 5 / np.sqrt(len(z))
    assert panel.data.targets == cells.data().targets


def test_unknown_mixing_keeps_latents_and_their_second_moment(cells: SachsCells) -> None:
    panel = cells.unknown_mixing(0.0, n_measurements=30, seed=3)
    np.testing.assert_allclose(panel.loadings.T @ panel.loadings, np.eye(11), atol=1e-12)
    np.testing.assert_allclose(values(panel.data) @ panel.loadings, panel.latents, atol=1e-10)
    noisy = cells.unknown_mixing(0.4, n_measurements=30, seed=3)
    np.testing.assert_array_equal(noisy.loadings, panel.loadings)
    assert (values(noisy.data) - values(panel.data)).var() == pytest.approx(0.4, rel=0.02)


def test_seeds_decide_the_noise(cells: SachsCells) -> None:
    same, again, other = (values(cells.known_panel(0.1, seed=seed).data) for seed in (1, 1, 2))
    np.testing.assert_array_equal(same, again)
    assert not np.array_equal(same, other)


def test_settings_that_do_not_fit(cells: SachsCells, folder: Path) -> None:
    with pytest.raises(ValueError, match="n_measurements=10 can't carry 11 proteins"):
        cells.unknown_mixing(0.1, n_measurements=10, seed=0)
    with pytest.raises(ValueError, match="noise_variance must be a number of at least 0, not -1"):
        cells.known_panel(-1, seed=0)
    with pytest.raises(ValueError, match="transform must be one of arcsinh, none, not 'log'"):
        load_sachs(folder, transform="log")  # type: ignore[arg-type]


# --- files -----------------------------------------------------------------------------------------------------------


def test_the_environment_variable_names_the_parent_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LATENTCAUSE_DATA", str(folder.parent))
    assert len(load_sachs().frame) == 11672


def test_missing_files_say_what_they_are_and_how_to_point_to_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LATENTCAUSE_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"Sachs et al\., Science 308 \(2005\).*LATENTCAUSE_DATA") as caught:
        load_sachs()
    assert str(tmp_path / "sachs") in str(caught.value)
    assert all(name in str(caught.value) for name in FILES.checksums)


def test_without_a_variable_the_cache_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LATENTCAUSE_DATA", raising=False)
    monkeypatch.setattr("pooch.os_cache", lambda project: tmp_path / project)
    with pytest.raises(FileNotFoundError, match="the sachs data are not in") as caught:
        load_sachs()
    assert str(tmp_path / "latentcause" / "sachs") in str(caught.value)


def test_a_changed_file_is_refused(folder: Path, tmp_path: Path) -> None:
    for name in FILES.checksums:
        shutil.copyfile(folder / name, tmp_path / name)
    with (tmp_path / "edges.csv").open("a") as file:
        file.write("JNK,P38\n")
    with pytest.raises(ValueError, match=r"edges\.csv is not the published file: its SHA-256 is"):
        load_sachs(tmp_path)


def test_only_what_is_missing_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    files = DataFiles("letters", {"a.txt": "0", "b.txt": "0"}, "two letters")
    with pytest.raises(FileNotFoundError, match=r": b\.txt missing\. They are two letters\."):
        files.find(tmp_path)


def test_every_public_name_is_there() -> None:
    for name in latentcause.datasets.__all__:
        assert getattr(latentcause.datasets, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'load_nothing'"):
        latentcause.datasets.load_nothing  # type: ignore[attr-defined]
