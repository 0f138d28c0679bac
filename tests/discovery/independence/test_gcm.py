"""The generalised covariance measure: its statistic, its law for categories, and what it is robust to."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from confounded_tables import sibling_tests, siblings
from latentcause.data import Variables
from latentcause.discovery.independence import GeneralisedCovariance, MixedRegression
from latentcause.discovery.independence.bases import Bases


def test_the_statistic_is_the_papers() -> None:
    table = siblings(300, "nn", seed=0, causes="z")
    bases = Bases(Variables.read(table))
    predictors = np.column_stack([np.ones(300), bases.columns[:, bases.of(2, bases.functions_per_condition(1))]])
    left = [table[v] - predictors @ np.linalg.lstsq(predictors, table[v])[0] for v in ("v0", "v1")]
    product = (left[0] * left[1]).to_numpy()
    T = np.sqrt(300) * product.mean() / np.sqrt((product**2).mean() - product.mean() ** 2)
    expected = 2 * stats.norm.sf(abs(T))
    assert GeneralisedCovariance(table).p_value("v0", "v1", "z") == pytest.approx(expected, rel=1e-9)


def test_the_largest_statistic_follows_the_multiplier_bootstrap() -> None:
    """Multipliers are drawn row by row here, as in the paper; the class draws from the law that they have."""
    table = siblings(250, "n3", seed=3, causes="")
    x = (table["v0"] - table["v0"].mean()).to_numpy()
    levels = pd.get_dummies(table["v1"]).to_numpy(dtype=float)
    products = x[:, None] * (levels - levels.mean(axis=0))
    spread = products.std(axis=0)
    largest = np.abs(np.sqrt(250) * products.mean(axis=0) / spread).max()
    multipliers = np.random.default_rng(1).normal(size=(20_000, 250))
    drawn = np.abs(multipliers @ ((products - products.mean(axis=0)) / spread) / np.sqrt(250)).max(axis=1)
    expected = (drawn >= largest).mean()
    found = GeneralisedCovariance(table).p_value("v0", "v1")
    assert found == pytest.approx(expected, abs=0.025)
    assert 0.02 < found < 0.98


def test_the_seed_decides_the_draws_and_hardly_the_p_value() -> None:
    table = siblings(300, "33", seed=4)
    first, again, other = (GeneralisedCovariance(table, seed=s).p_value("v0", "v1", ["z", "c"]) for s in (0, 0, 1))
    assert first == again
    assert first != other
    assert first == pytest.approx(other, abs=0.03)


def test_strong_dependence_of_categories_is_not_cut_off_by_the_number_of_draws() -> None:
    rng = np.random.default_rng(0)
    a = rng.choice(["u", "v", "w"], 400)
    table = pd.DataFrame({"a": a, "b": np.where(rng.random(400) < 0.7, a, "w")})
    assert GeneralisedCovariance(table).p_value("a", "b") < 1e-20


def test_noise_of_varying_size_is_no_dependence() -> None:
    """Both variables are noisier where the condition is large: the F-test takes their products for dependence."""
    p: dict[type, list[float]] = {GeneralisedCovariance: [], MixedRegression: []}
    for seed in range(80):
        rng = np.random.default_rng(seed)
        z = rng.normal(size=400)
        x, y = np.sin(z) + np.exp(z) * rng.normal(size=(2, 400))
        for test, values in p.items():
            values.append(test(np.column_stack([x, y, z])).p_value("x0", "x1", "x2"))
    assert np.mean(np.array(p[GeneralisedCovariance]) < 0.05) <= 0.12
    assert np.mean(np.array(p[MixedRegression]) < 0.05) >= 0.2


def test_jointly_acting_causes_are_taken_out() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 600))
    c = rng.choice([0.0, 1.0], 600)
    table = pd.DataFrame({"a": a, "b": b, "c": c > 0, "x": a * b + a * c, "y": a * b - a * c})
    table[["x", "y"]] += rng.normal(size=(600, 2))
    assert GeneralisedCovariance(table).p_value("x", "y", ["a", "b"]) < 1e-4
    assert GeneralisedCovariance(table).p_value("x", "y", ["a", "b", "c"]) > 0.05


def test_nothing_is_left_where_the_condition_determines_a_variable() -> None:
    rng = np.random.default_rng(0)
    level = rng.choice(["u", "v", "w"], 200)
    table = pd.DataFrame(
        {"a": level, "b": level == "u", "c": rng.choice(["p", "q", "r"], 200), "x": rng.normal(size=200)}
    )
    test = GeneralisedCovariance(table)
    assert test.p_value("b", "x", "a") == 1
    assert test.p_value("b", "c", "a") == 1


def test_all_pairs_given_one_condition_are_one_regression(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    table = siblings(200, "n2n3", seed=5)
    test = GeneralisedCovariance(table)
    ask = test._predictors
    monkeypatch.setattr(test, "_predictors", lambda condition: calls.append(tuple(condition)) or ask(condition))
    test.p_values(*sibling_tests(table))
    assert calls == [(4, 5)]
