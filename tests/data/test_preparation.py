"""Measurements are prepared as asked, alike in memory and streamed, and new data by the constants of the fit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from latentcause.data import MultiDomainData
from latentcause.data.preparation import Preparation

TARGETS = {"p": None, "q": None}


def rows(data: MultiDomainData) -> np.ndarray:
    return np.concatenate([x for _, _, x in data.batches(7)])


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(0).gamma(1.0, 50.0, size=(40, 3))


@pytest.fixture
def domain() -> np.ndarray:
    return np.repeat(["p", "q"], 20)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(("transform", "function"), [("arcsinh", lambda x: np.arcsinh(x / 2)), ("log1p", np.log1p)])
def test_transform_then_standardise(x, domain, tmp_path: Path, streamed, transform, function) -> None:
    np.save(tmp_path / "x.npy", x)
    data = MultiDomainData(tmp_path / "x.npy" if streamed else x, domain, TARGETS)
    prepared = Preparation.learn(data, transform, 2.0, standardise=True).apply(data)
    expected = function(x)
    expected = (expected - expected.mean(axis=0)) / expected.std(axis=0)
    np.testing.assert_allclose(rows(prepared), expected)
    np.testing.assert_allclose(prepared.moments.second, expected.T @ expected / 40, atol=1e-12)
    np.testing.assert_allclose(rows(prepared.subset([5, 3])), expected[[5, 3]])
    assert prepared.is_streamed is streamed


def test_new_data_are_prepared_by_the_constants_of_the_fit(x: np.ndarray, domain: np.ndarray) -> None:
    learned = Preparation.learn(MultiDomainData(x, domain, TARGETS), "none", 5.0, standardise=True)
    again = Preparation.from_dict(json.loads(json.dumps(learned.to_dict())))
    assert again == learned
    other = MultiDomainData(2 * x, domain, TARGETS)
    np.testing.assert_allclose(rows(again.apply(other)), (2 * x - x.mean(axis=0)) / x.std(axis=0))


def test_nothing_to_do_gives_the_same_data(x: np.ndarray, domain: np.ndarray) -> None:
    data = MultiDomainData(x, domain, TARGETS)
    assert Preparation.learn(data, "none", 5.0, standardise=False).apply(data) is data


def test_what_can_not_be_prepared_is_named(x: np.ndarray, domain: np.ndarray, tmp_path: Path) -> None:
    data = MultiDomainData(x - 200, domain, TARGETS)
    with pytest.raises(ValueError, match="column 'x0', 'x1', 'x2' holds values of -1 or less"):
        Preparation.learn(data, "log1p", 5.0, standardise=True)
    with pytest.raises(ValueError, match="cofactor=0"):
        Preparation.learn(data, "arcsinh", 0, standardise=False)
    with pytest.raises(ValueError, match="unknown transform 'sqrt'"):
        Preparation.learn(data, "sqrt", 5.0, standardise=False)  # type: ignore[arg-type]
    x[:, 1] = 1e6 / 3
    with pytest.warns(UserWarning, match="constant column 'x1'"):
        constant = MultiDomainData(x, domain, TARGETS)
    with pytest.raises(ValueError, match="constant column 'x1' can't be standardised"):
        Preparation.learn(constant, "none", 5.0, standardise=True)
    x[3, 2] = np.nan
    np.save(tmp_path / "x.npy", x)
    with pytest.raises(ValueError, match="NaN or infinity in column 'x2' \\(1 values, first in row 3\\)"):
        Preparation.learn(MultiDomainData(tmp_path / "x.npy", domain, TARGETS), "arcsinh", 5.0, standardise=True)
