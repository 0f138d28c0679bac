"""DCI of codes whose scores are known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from latentcause.metrics import dci


def factors(n: int = 400, seed: int = 0) -> pd.DataFrame:
    """Two factors that go together, and one that does not."""
    e = np.random.default_rng(seed).normal(size=(n, 3))
    return pd.DataFrame({"a": e[:, 0], "b": 0.6 * e[:, 0] + 0.8 * e[:, 1], "c": e[:, 2]})


def test_the_factors_themselves_are_a_perfect_code_in_any_order_and_scale():
    truth = factors()
    code = pd.DataFrame({"z1": np.exp(truth["c"]), "z2": -3 * truth["a"], "z3": truth["b"] ** 3})
    score = dci(code, truth, seed=0)
    assert score.disentanglement > 0.97
    assert score.completeness > 0.97
    assert score.informativeness > 0.9
    assert list(score.importances.idxmax()) == ["z2", "z3", "z1"]
    np.testing.assert_allclose(score.importances.sum(), 1)


def test_monotone_changes_of_a_code_change_nothing():
    truth = factors()
    first, second = (dci(code, truth, seed=0) for code in (truth, 5 * truth.to_numpy() - 2))
    np.testing.assert_allclose(first.importances, second.importances, atol=0.02)


def test_a_code_that_mixes_all_factors_is_not_disentangled():
    truth = factors(800)
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    mixed, own = dci(truth.to_numpy() @ rotation, truth, seed=0), dci(truth, truth, seed=0)
    assert mixed.disentanglement < 0.6 < own.disentanglement
    assert mixed.completeness < 0.6 < own.completeness
    assert mixed.informativeness > 0.5  # nothing is lost


def test_a_factor_spread_over_two_columns_costs_completeness_alone():
    truth = factors(1000)
    rng = np.random.default_rng(2)
    noise = [0.2 * rng.normal(size=1000) for _ in range(2)]
    code = np.column_stack([truth["a"] + noise[0], truth["a"] + noise[1], truth["b"], truth["c"]])
    score = dci(code, truth, seed=0)
    assert score.disentanglement > 0.85
    shares = score.importances["a"].to_numpy()
    expected = 1 + (shares[shares > 0] * np.log(shares[shares > 0])).sum() / np.log(4)
    assert 0.3 < expected < 0.8
    others = [dci(truth, truth, seed=0).completeness] * 2
    assert score.completeness == pytest.approx((expected + sum(others)) / 3, abs=0.05)


def test_scores_follow_the_definition_from_the_importances():
    score = dci(
        np.random.default_rng(3).normal(size=(300, 2)) + factors(300)[["a", "c"]].to_numpy(), factors(300), seed=0
    )
    weights = score.importances.to_numpy()

    def entropy(shares: np.ndarray) -> float:
        return float(-(shares[shares > 0] * np.log(shares[shares > 0])).sum() / np.log(len(shares)))

    rows = [1 - entropy(row / row.sum()) for row in weights]
    columns = [1 - entropy(column / column.sum()) for column in weights.T]
    assert score.disentanglement == pytest.approx(np.average(rows, weights=weights.sum(1)))
    assert score.completeness == pytest.approx(np.mean(columns))
    assert score.informativeness == pytest.approx(np.mean(list(score.by_factor.values())))


def test_a_code_of_noise_or_of_constants_informs_of_nothing():
    truth = factors()
    noise = dci(np.random.default_rng(4).normal(size=(400, 3)), truth, seed=0)
    assert noise.informativeness < 0.05
    assert noise.disentanglement < 0.2
    silent = dci(np.zeros((400, 2)), truth, seed=0)
    assert (silent.disentanglement, silent.completeness) == pytest.approx((0, 0), abs=1e-12)
    assert silent.informativeness == pytest.approx(0, abs=1e-9)


def test_categories_are_scored_by_their_levels():
    truth = factors()
    truth["kind"] = pd.cut(truth.pop("b"), [-9, -0.5, 0.5, 9], labels=["low", "middle", "high"])
    good = dci(factors(), truth, seed=0)
    assert good.by_factor["kind"] > 0.9
    assert good.importances["kind"].idxmax() == "b"
    assert dci(factors()[["a", "c"]], truth, seed=0).by_factor["kind"] < 0.6


def test_the_seed_fixes_the_score():
    first, second, other = (dci(factors()[["c", "a"]], factors(), seed=seed) for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(first.importances, second.importances)
    assert first.by_factor == second.by_factor != other.by_factor


def test_what_cannot_be_scored_is_refused():
    truth = factors(60)
    with pytest.raises(ValueError, match="59 rows of codes and 60"):
        dci(truth[:59], truth, seed=0)
    with pytest.raises(ValueError, match="40 or more"):
        dci(truth[:20], truth[:20], seed=0)
    with pytest.raises(ValueError, match="codes have one column"):
        dci(truth[["a"]], truth, seed=0)
    with pytest.raises(ValueError, match="'b' does not vary"):
        dci(truth, truth.assign(b=1.0), seed=0)
    with pytest.raises(ValueError, match="'c'"):
        dci(truth.assign(c=np.nan), truth, seed=0)
