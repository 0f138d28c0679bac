"""Functions of single variables: orthonormal, from smooth to wiggly, and rich enough."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentcause.data import Variables
from latentcause.discovery.independence.bases import MOST, Bases

COLUMNS = {
    "normal": lambda rng, n: rng.normal(size=n),
    "heavy tails": lambda rng, n: rng.standard_t(1.5, size=n),
    "far from zero": lambda rng, n: 1e6 + rng.normal(size=n),
    "two values": lambda rng, n: rng.permutation(np.arange(n) % 2),
    "counts": lambda rng, n: rng.permutation(np.arange(n) % 4),
    "mostly zero": lambda rng, n: np.where(rng.permutation(n) < 0.85 * n, 0.0, rng.normal(size=n)),
    "one other value": lambda rng, n: np.eye(n)[rng.integers(n)],
    "category": lambda rng, n: np.array(list("abc"))[rng.permutation(np.arange(n) % 3)],
    "rare level": lambda rng, n: np.array(list("abb"))[rng.permutation(np.minimum(np.arange(n), 2))],
}


@given(seed=st.integers(0, 2**20), n=st.integers(8, 400), kind=st.sampled_from(sorted(COLUMNS)))
def test_functions_are_orthonormal_and_centred(seed: int, n: int, kind: str) -> None:
    column = COLUMNS[kind](np.random.default_rng(seed), n)
    bases = Bases(Variables.read(pd.DataFrame({"v": column})))
    assert bases.columns.shape == (n, bases.count[0])
    assert 1 <= bases.count[0] <= MOST
    np.testing.assert_allclose(bases.columns.T @ bases.columns / n, np.eye(bases.count[0]), atol=1e-6)
    np.testing.assert_allclose(bases.columns.mean(axis=0), 0, atol=1e-6)
    if bases.numeric[0]:
        np.testing.assert_allclose(np.abs(np.corrcoef(column, bases.columns[:, 0])[0, 1]), 1, atol=1e-6)


def test_functions_of_a_number_grow_wigglier() -> None:
    x = np.sort(np.random.default_rng(0).normal(size=2000))
    functions = Bases(Variables.read(x[:, None])).columns
    turns = [(np.diff(np.sign(f)) != 0).sum() for f in functions.T]
    assert turns[:8] == list(range(1, 9))


def test_the_leading_functions_approximate_smooth_ones() -> None:
    x = np.random.default_rng(0).normal(size=4000)
    bases = Bases(Variables.read(x[:, None]))
    curves = [(x, 1, 1e-9), (x**2, 4, 0.06), (x**2, 9, 0.004), (np.sin(2 * x), 9, 0.02), (np.sin(3 * x), 15, 0.005)]
    for truth, most, error in curves:
        functions = bases.columns[:, bases.of(0, most)]
        assert functions.shape[1] == most
        centred = truth - truth.mean()
        left = centred - functions @ (functions.T @ centred) / len(x)
        assert np.mean(left**2) < error * np.mean(centred**2)


def test_categories_span_their_indicators() -> None:
    frame = pd.DataFrame({"x": np.arange(30.0), "c": list("abcab" * 6)})
    bases = Bases(Variables.read(frame))
    own = bases.columns[:, bases.of(1, 1)]  # all of them, however few of a number are asked for
    assert own.shape == (30, 2)
    indicator = (frame["c"] == "b").to_numpy() - np.mean(frame["c"] == "b")
    np.testing.assert_allclose(own @ (own.T @ indicator) / 30, indicator, atol=1e-12)
    assert bases.start.tolist() == [0, bases.count[0]]


@pytest.mark.parametrize(
    ("n", "k", "count"), [(1000, 1, 10), (1000, 20, 5), (100, 20, 1), (10**4, 3, 15), (27, 0, 2), (216, 1, 6)]
)
def test_functions_of_a_condition_follow_the_rows(n: int, k: int, count: int) -> None:
    bases = Bases(Variables.read(np.arange(float(n))[:, None]))
    assert bases.functions_per_condition(k) == count
