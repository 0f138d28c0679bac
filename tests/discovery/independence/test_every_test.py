"""What every test of independence on data must do, whatever the kind of data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kstest

from confounded_tables import response, sibling_tests, siblings
from latentcause.discovery.independence import (
    ChiSquared,
    FisherZ,
    GeneralisedCovariance,
    GSquared,
    IndependenceTest,
    KernelIndependence,
    MixedRegression,
)

Kind = Callable[[Any], IndependenceTest]

# The test, kinds of columns that it reads, their common causes, and the rows that show its level.
TESTS = [
    pytest.param(FisherZ, "nnnn", "", 200, id="fisher-z"),
    pytest.param(ChiSquared, "2323", "c", 600, id="chi-squared"),
    pytest.param(GSquared, "2323", "c", 600, id="g-squared"),
    pytest.param(MixedRegression, "n2n3", "zc", 600, id="mixed"),
    pytest.param(GeneralisedCovariance, "n2n3", "zc", 600, id="gcm"),
    pytest.param(KernelIndependence, "n2n3", "zc", 120, id="kci"),
]
DATA_TESTS = pytest.mark.parametrize(("test", "kinds", "causes", "n"), TESTS)


def needed(test: Kind) -> Kind:
    if test is KernelIndependence:
        pytest.importorskip("causallearn")
    return test


@DATA_TESTS
def test_p_values_are_uniform_under_independence(test: Kind, kinds: str, causes: str, n: int) -> None:
    repeats = 3 if test is KernelIndependence else 6
    table = siblings(n, kinds * repeats, seed=1, causes=causes)
    p = needed(test)(table).p_values(*sibling_tests(table))
    assert len(p) == len(kinds) * repeats * (len(kinds) * repeats - 1) // 2
    assert ((p >= 0) & (p <= 1)).all()
    # Two-sided, but for the combination of two directions, which may err on the safe side: there, are they too small?
    side = "greater" if test is MixedRegression else "two-sided"
    assert kstest(p, "uniform", alternative=side).pvalue > 0.01
    assert (p < 0.05).mean() < 0.09


@DATA_TESTS
def test_common_causes_are_seen_unless_they_are_given(test: Kind, kinds: str, causes: str, n: int) -> None:
    rng = np.random.default_rng(2)
    cause = rng.integers(0, 3, 400)
    level = np.array(["red", "green", "blue"])[cause] if kinds[0] != "n" else cause + 0.5 * rng.normal(size=400)
    mean = 1.5 * (cause if kinds[0] != "n" else level)
    table = pd.DataFrame({"a": response(mean, kinds[0], rng), "b": response(mean, kinds[1], rng), "cause": level})
    ask = needed(test)(table)
    assert ask.p_value("a", "b") < 1e-4
    assert ask.p_value("a", "b", ["cause"]) > 0.05
    assert ask.p_value("a", "cause", "b") < 1e-4


@DATA_TESTS
def test_x_and_y_are_treated_alike(test: Kind, kinds: str, causes: str, n: int) -> None:
    table = siblings(n, kinds, seed=3, causes=causes)
    ask = needed(test)(table)
    x, y, given = sibling_tests(table)
    for condition in (given, given[:, :1], given[:, :0]):
        np.testing.assert_allclose(ask.p_values(x, y, condition), ask.p_values(y, x, condition), rtol=1e-8, atol=1e-14)


@DATA_TESTS
def test_a_batch_is_its_tests_one_by_one(test: Kind, kinds: str, causes: str, n: int) -> None:
    table = siblings(n, kinds, seed=4, causes=causes)
    ask = needed(test)(table)
    rng = np.random.default_rng(0)
    for k in (0, 1, 2):
        tests = np.array([rng.permutation(table.shape[1])[: 2 + k] for _ in range(12)])
        x, y, given = tests[:, 0], tests[:, 1], tests[:, 2:]
        single = [
            ask.p_value(ask.nodes[i], ask.nodes[j], [ask.nodes[s] for s in condition])
            for i, j, condition in zip(x, y, given, strict=True)
        ]
        np.testing.assert_allclose(ask.p_values(x, y, given), single, rtol=1e-8, atol=1e-14)
    assert ask.p_values(x[:0], y[:0], given[:0]).shape == (0,)


@DATA_TESTS
def test_neither_the_order_of_columns_and_conditions_nor_that_of_rows_matters(
    test: Kind, kinds: str, causes: str, n: int
) -> None:
    table = siblings(n, kinds, seed=5, causes=causes)
    names = list(table.columns)
    ask = needed(test)(table)
    shuffled = needed(test)(table[names[::-1]].sample(frac=1, random_state=0))
    for x, y, *given in (names[:2], names[1:4], names[:4], [*names[::-1][:2], *names[::-1][2:4]]):
        expected = ask.p_value(x, y, given)
        assert shuffled.p_value(x, y, given[::-1]) == pytest.approx(expected, rel=1e-6, abs=1e-12)


@DATA_TESTS
def test_a_condition_too_large_for_the_rows_is_refused(test: Kind, kinds: str, causes: str, n: int) -> None:
    table = siblings(14, (kinds * 3)[:12], seed=6, causes="")
    ask = needed(test)(table)
    everything = np.arange(2, 12)[None]
    small = siblings(12, (kinds * 3)[:12], seed=6, causes="")
    with pytest.raises(ValueError, match=r"rows are too few to condition on 10 .*limit the condition with max_given"):
        (needed(test)(small) if test in (FisherZ, KernelIndependence) else ask).p_values(
            np.array([0]), np.array([1]), everything
        )
    assert 0 <= ask.p_values(np.array([0]), np.array([1]), everything[:, :0])[0] <= 1


@DATA_TESTS
def test_columns_that_say_nothing_are_refused(test: Kind, kinds: str, causes: str, n: int) -> None:
    table = siblings(50, kinds, seed=7, causes="")
    needed(test)
    with pytest.raises(ValueError, match="columns 'v0' and 'copy' are copies of each other"):
        test(table.assign(copy=table["v0"]))
    with pytest.raises(ValueError, match=r"'same' (is constant|has one level)"):
        test(table.assign(same=1.0 if kinds[0] == "n" else "one"))
    with pytest.raises(ValueError, match=r"missing or infinite values in column 'v1' \(1 values, first in row 3\)"):
        test(table.assign(v1=table["v1"].where(np.arange(50) != 3, None)))
    with pytest.raises(ValueError, match="unknown variable 'w'"):
        test(table).p_value("v0", "w")
