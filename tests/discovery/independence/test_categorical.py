"""Chi-squared and G^2 against scipy, and against a plain loop over strata."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from latentcause.discovery.independence import ChiSquared, GSquared, IndependenceTest
from latentcause.discovery.independence import categorical as module


def table(seed: int, n: int, levels: tuple[int, ...]) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    shares = [rng.dirichlet(np.full(K, 3.0)) for K in levels]
    return pd.DataFrame(
        {f"v{j}": rng.choice(list("abcdef")[:K], n, p=p) for j, (K, p) in enumerate(zip(levels, shares, strict=True))}
    )


def by_loop(test: IndependenceTest, frame: pd.DataFrame, x: str, y: str, condition: list[str]) -> float:
    """Statistic and degrees of freedom stratum by stratum, from scipy's tables of those rows and columns that occur."""
    statistic = freedom = 0.0
    for _, rows in frame.groupby(condition, observed=True) if condition else [((), frame)]:
        codes = [np.unique(rows[name], return_inverse=True)[1] for name in (x, y)]
        counts = np.histogram2d(*codes, bins=[code.max() + 1 for code in codes])[0]
        if min(counts.shape) < 2:
            continue
        n, a, b = counts.sum(), counts.sum(axis=1), counts.sum(axis=0)
        kind = "log-likelihood" if isinstance(test, GSquared) else "pearson"
        found = stats.chi2_contingency(counts, correction=False, lambda_=kind)
        if isinstance(test, GSquared):
            statistic += found.statistic / (1 + (n * sum(1 / a) - 1) * (n * sum(1 / b) - 1) / (6 * n * found.dof))
        else:
            statistic += found.statistic * (n - 1) / n
        freedom += found.dof
    return float(stats.chi2.sf(statistic, freedom)) if freedom else 1.0


@pytest.mark.parametrize(("test", "kind"), [(ChiSquared, "pearson"), (GSquared, "log-likelihood")])
def test_without_a_condition_and_with_many_rows_it_is_the_textbook_test(test: type, kind: str) -> None:
    frame = table(0, 200_000, (2, 3, 5))
    frame["v2"] = frame["v2"].where(np.random.default_rng(1).random(len(frame)) > 0.01, frame["v1"])
    for x, y in (("v0", "v1"), ("v0", "v2"), ("v1", "v2")):
        expected = stats.chi2_contingency(pd.crosstab(frame[x], frame[y]), correction=False, lambda_=kind).pvalue
        assert test(frame).p_value(x, y) == pytest.approx(expected, rel=2e-2, abs=1e-300)


@pytest.mark.parametrize("test", [ChiSquared, GSquared])
@settings(max_examples=20)
@given(
    seed=st.integers(0, 2**20),
    n=st.integers(60, 200),
    levels=st.tuples(*[st.integers(2, 5)] * 2, *[st.integers(2, 3)] * 2),
)
def test_strata_are_added(test: type, seed: int, n: int, levels: tuple[int, ...]) -> None:
    frame = table(seed, n, levels)
    assume(all(frame[name].nunique() > 1 for name in frame))  # a rare level may not be drawn, and one alone is refused
    ask = test(frame)
    for condition in ([], ["v2"], ["v3"], ["v2", "v3"]):
        expected = by_loop(ask, frame, "v0", "v1", condition)
        assert ask.p_value("v0", "v1", condition) == pytest.approx(expected, rel=1e-8, abs=1e-12)


def test_the_statistic_has_its_mean_in_strata_of_any_size() -> None:
    """Over all ways to pair the values of x with those of y, the mean is the degrees of freedom exactly."""
    rng = np.random.default_rng(0)
    x, y = np.array([0, 0, 1, 1, 2, 2, 2]), np.array([0, 1, 1, 0, 0, 1, 0])
    parts = []
    for _ in range(20_000):
        counts = np.zeros((3, 2))
        np.add.at(counts, (x, rng.permutation(y)), 1)
        parts.append(float(module._pearson(module._Tables(counts[None, None]))[0, 0]))
    assert np.mean(parts) == pytest.approx(2, abs=4 * np.std(parts) / np.sqrt(len(parts)))
    assert module._Tables(counts[None, None]).freedom[0, 0] == 2


@pytest.mark.parametrize("test", [ChiSquared, GSquared])
def test_small_strata_do_not_reject_independence(test: type) -> None:
    """Four categories of three levels make strata of 12 rows: without correction G^2 rejects nearly always."""
    p = [test(table(seed, 1000, (3,) * 6)).p_value("v0", "v1", ["v2", "v3", "v4", "v5"]) for seed in range(100)]
    assert np.mean(np.array(p) < 0.05) <= 0.12


def test_dependence_within_strata_is_seen_where_the_margin_shows_none() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 2, (2, 500))
    frame = pd.DataFrame({"a": a, "b": b, "odd": (a + b) % 2}).astype(bool)
    for test in (ChiSquared(frame), GSquared(frame)):
        assert test.p_value("a", "b") > 0.05
        assert test.p_value("a", "b", "odd") < 1e-50


def test_nothing_is_left_where_the_condition_determines_a_variable() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.choice(["p", "q", "r"], 90), "b": rng.choice(["p", "q"], 90)})
    frame["c"] = np.where(frame["a"] == "p", "p", "qr")
    assert ChiSquared(frame).p_value("c", "b", "a") == 1
    assert GSquared(frame).p_value("c", "b", "a") == 1


def test_batches_are_cut_to_fit_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = table(3, 300, (2, 3, 4, 2, 3))
    x, y, s = np.array([(i, j, k) for i in range(5) for j in range(5) for k in range(5) if len({i, j, k}) == 3]).T
    whole = ChiSquared(frame).p_values(x, y, s[:, None])
    monkeypatch.setattr(module, "CELLS", 2000)
    np.testing.assert_allclose(ChiSquared(frame).p_values(x, y, s[:, None]), whole, rtol=1e-12)


def test_many_conditions_do_not_overflow() -> None:
    rng = np.random.default_rng(0)
    parts = {f"v{j}": rng.choice(list("ab"), 400) for j in range(2)}
    same = rng.choice(list("abcd"), 400)
    copies = {
        f"s{j}": np.where(rng.random(400) < 0.001, "a", same) for j in range(40)
    }  # 4^40 strata, few of which occur
    copies = {name: np.where(np.arange(400) == j, "a", column) for j, (name, column) in enumerate(copies.items())}
    frame = pd.DataFrame(parts | copies)
    frame = frame.loc[:, ~frame.T.duplicated()]
    condition = [name for name in frame.columns if name.startswith("s")]
    assert len(condition) > 32
    expected = by_loop(ChiSquared(frame), frame, "v0", "v1", condition)
    assert ChiSquared(frame).p_value("v0", "v1", condition) == pytest.approx(expected, rel=1e-9)


def test_numbers_are_refused_with_a_cure() -> None:
    frame = table(0, 50, (2, 2)).assign(dose=np.linspace(0, 1, 50))
    with pytest.raises(ValueError, match=r"'dose' is numeric, and chi-squared counts .*pandas.cut.*test=\"mixed\""):
        ChiSquared(frame)
    with pytest.raises(ValueError, match="'dose' is numeric, and g-squared counts"):
        GSquared(frame)


def test_the_rows_that_strata_need_are_named() -> None:
    frame = table(0, 60, (2, 2, 4, 5))
    message = "60 rows are too few to condition on 2 categories that show .* g-squared needs at least 5 rows for each"
    with pytest.raises(ValueError, match=message):
        GSquared(frame).p_value("v0", "v1", ["v2", "v3"])
    assert 0 < ChiSquared(frame).p_value("v0", "v1", ["v2", "v3"]) <= 1
