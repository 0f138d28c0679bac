"""Multinomial regression against scikit-learn, and its score test against the likelihood ratio."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import LogisticRegression

from latentcause.discovery.independence import multinomial
from latentcause.discovery.independence.multinomial import RIDGE, MultinomialRegression


def sample(seed: int, n: int, levels: int, effect: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3))
    linear = np.column_stack([effect * x @ rng.normal(size=3) for _ in range(levels)])
    codes = (linear + rng.gumbel(size=linear.shape)).argmax(axis=1)
    return codes, np.column_stack([np.ones(n), x])


@pytest.mark.parametrize("levels", [2, 3, 5])
def test_probabilities_are_those_of_scikit_learn(levels: int) -> None:
    codes, predictors = sample(0, 500, levels)
    peer = LogisticRegression(C=1e6, tol=1e-10, max_iter=2000).fit(predictors[:, 1:], codes)
    ours = MultinomialRegression(codes, predictors)
    np.testing.assert_allclose(ours.probabilities, peer.predict_proba(predictors[:, 1:]), atol=2e-3)
    np.testing.assert_allclose(ours.probabilities.sum(axis=1), 1)


def test_without_predictors_they_are_shares_and_the_score_test_is_pearsons() -> None:
    codes, predictors = sample(1, 400, 3, effect=0.3)
    regression = MultinomialRegression(codes, predictors[:, :1])
    np.testing.assert_allclose(regression.probabilities[0], np.bincount(codes) / 400, atol=1e-4)
    group = (predictors[:, 1] > 0.3).astype(int)
    counts = np.histogram2d(codes, group, bins=(3, 2))[0]
    pearson = stats.chi2_contingency(counts, correction=False)
    expected = stats.chi2.sf(pearson.statistic * 399 / 400, pearson.dof)
    assert regression.score_test(group[:, None].astype(float)) == pytest.approx(expected, rel=1e-3)


def test_the_score_test_agrees_with_the_likelihood_ratio() -> None:
    for seed in range(5):
        codes, predictors = sample(seed, 5000, 3, effect=0.04)
        without, whole = (MultinomialRegression(codes, predictors[:, :q]) for q in (2, 4))
        gain = 2 * sum(
            np.log(m.probabilities[np.arange(5000), codes]).sum() * s for m, s in ((whole, 1), (without, -1))
        )
        assert without.score_test(predictors[:, 2:]) == pytest.approx(stats.chi2.sf(gain, 4), rel=0.1)


def test_separated_levels_and_repeated_predictors_are_survived() -> None:
    x = np.linspace(-1, 1, 100)
    codes = (x > 0).astype(int)
    separated = MultinomialRegression(codes, np.column_stack([np.ones(100), x]))
    assert (np.abs(separated.probabilities[:, 1] - codes) < 0.5).all()
    assert separated.score_test(x[:, None]) == 1  # nothing of x is left
    assert 0 < separated.score_test(np.random.default_rng(0).normal(size=(100, 2))) <= 1
    doubled = MultinomialRegression(codes, np.column_stack([np.ones(100), x, x]))
    assert np.isfinite(doubled.probabilities).all()


def test_the_penalised_score_vanishes() -> None:
    codes, predictors = sample(2, 200, 4)
    regression = MultinomialRegression(codes, predictors)
    linear = np.log(regression.probabilities[:, :-1]) - np.log(regression.probabilities[:, -1:])
    coefficients = np.linalg.lstsq(predictors, linear)[0]
    score = predictors.T @ (regression.observed - regression.probabilities)[:, :-1]
    np.testing.assert_allclose(score, RIDGE * coefficients, atol=0.05)


def test_a_fit_that_does_not_converge_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multinomial, "MOST_STEPS", 1)
    with pytest.raises(RuntimeError, match="did not converge in 1 steps"):
        MultinomialRegression(*sample(0, 100, 3))
