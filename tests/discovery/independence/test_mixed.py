"""The test by regressions: closed forms, level under nonlinear confounding, power, and its rule for two directions."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from confounded_tables import response, sibling_tests, siblings
from latentcause.data import Variables
from latentcause.discovery.independence import FisherZ, MixedRegression
from latentcause.discovery.independence import mixed as module
from latentcause.discovery.independence.bases import Bases


def f_test(frame: pd.DataFrame, response_: int, tested: int, given: list[int]) -> float:
    """The F-test of two least-squares fits with all rows."""
    bases = Bases(Variables.read(frame))
    most = bases.functions_per_condition(len(given))
    small = np.column_stack([np.ones(len(frame)), *(bases.columns[:, bases.of(s, most)] for s in given)])
    large = np.column_stack([small, bases.columns[:, bases.of(tested, 4)]])
    target = frame.iloc[:, response_].to_numpy()
    rest = [((target - m @ np.linalg.lstsq(m, target)[0]) ** 2).sum() for m in (small, large)]
    added, left = large.shape[1] - small.shape[1], len(frame) - large.shape[1]
    return float(stats.f.sf((rest[0] - rest[1]) / added / (rest[1] / left), added, left))


def test_numbers_meet_the_f_test_in_both_directions() -> None:
    table = siblings(300, "nnn2", seed=0)
    test = MixedRegression(table)
    for x, y, given in ((0, 1, []), (0, 1, [4]), (0, 2, [1, 5]), (1, 2, [3, 4, 5])):
        there, back = f_test(table, x, y, given), f_test(table, y, x, given)
        expected = min(2 * min(there, back), max(there, back))
        found = test.p_values(np.array([x]), np.array([y]), np.array([given], dtype=int))[0]
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-12)


def test_batches_are_cut_to_fit_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    table = siblings(200, "nnnn2", seed=1)
    tests = sibling_tests(table)
    whole = MixedRegression(table).p_values(*tests)
    monkeypatch.setattr(module, "CELLS", 1000)
    np.testing.assert_allclose(MixedRegression(table).p_values(*tests), whole, rtol=1e-10)


def test_each_regression_of_a_category_is_fitted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    fits = []

    class Counted(module.MultinomialRegression):
        def __init__(self, codes: np.ndarray, predictors: np.ndarray) -> None:
            fits.append(predictors.shape)
            super().__init__(codes, predictors)

    monkeypatch.setattr(module, "MultinomialRegression", Counted)
    table = siblings(200, "n2n3n2", seed=2)
    MixedRegression(table).p_values(*sibling_tests(table))
    assert len(fits) == 3


@pytest.mark.parametrize("kinds", ["nn", "n2", "23"])
def test_nonlinear_confounding_is_taken_out(kinds: str) -> None:
    p = []
    for seed in range(60):
        table = siblings(400, kinds, seed)
        p.append(MixedRegression(table).p_values(*sibling_tests(table))[0])
    assert stats.kstest(p, "uniform", alternative="greater").pvalue > 0.01
    assert np.mean(np.array(p) < 0.05) <= 0.12


def test_fisher_z_takes_nonlinear_confounding_for_dependence_and_misses_curves() -> None:
    p = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        z = rng.normal(size=600)
        x, y = z**2 + rng.normal(size=(2, 600))
        table = pd.DataFrame({"x": x, "y": y, "z": z})
        assert FisherZ(table).p_value("x", "y", "z") < 1e-10
        p.append(MixedRegression(table).p_value("x", "y", "z"))
        assert MixedRegression(table).p_value("x", "z") < 1e-50
    assert np.mean(np.array(p) < 0.05) <= 0.15
    assert FisherZ(table).p_value("x", "z") > 0.001


def test_power_on_lines_is_close_to_fisher_z() -> None:
    found = {FisherZ: 0, MixedRegression: 0}
    for seed in range(60):
        rng = np.random.default_rng(seed)
        z, u = rng.normal(size=(2, 300))
        x = z + u
        table = pd.DataFrame({"x": x, "y": 0.22 * u + z + rng.normal(size=300), "z": z})
        for test in found:
            found[test] += test(table).p_value("x", "y", "z") < 0.05
    assert found[FisherZ] >= 50
    assert found[MixedRegression] >= 0.7 * found[FisherZ]


@pytest.mark.parametrize("kinds", ["n2", "n3", "22", "33"])
def test_weak_dependence_of_categories_is_found(kinds: str) -> None:
    hits = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        z = rng.normal(size=800)
        x = response(np.sin(z), kinds[0], rng)
        push = (x - x.mean()) / x.std() if kinds[0] == "n" else np.where(x == "low", 1.5, 0.0)
        table = pd.DataFrame({"x": x, "y": response(np.cos(2 * z) + 0.5 * push, kinds[1], rng), "z": z})
        hits += MixedRegression(table).p_value("x", "y", "z") < 0.01
    assert hits >= 16


def test_nothing_is_left_where_the_condition_determines_a_variable() -> None:
    rng = np.random.default_rng(0)
    z, level = rng.normal(size=300), rng.choice(["u", "v", "w"], 300)
    table = pd.DataFrame({"sum": z + (level == "u"), "part": level == "u", "z": z, "level": level})
    table["y"], table["c"] = rng.normal(size=300), rng.choice(["p", "q", "r"], 300)
    test = MixedRegression(table)
    for y in ("y", "c", "sum"):
        assert test.p_value("part", y, ["z", "level"]) > 0.99
    for y in ("y", "c"):
        assert test.p_value("sum", y, ["z", "level"]) > 0.05
