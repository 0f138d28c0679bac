from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression

import latentcause as lc
from latentcause import InterventionPairs, LinearPairs, NoisyLinearPairs
from latentcause.datasets.pairs.simulated_pairs import SimulatedPairs
from latentcause.datasets.pairs.system import PairSystem, pair_system
from latentcause.metrics import mean_correlation_coefficient
from latentcause.metrics.pairs import code_scores, matched_latents, pair_scores
from latentcause.models.pairs.noisy_lines import CodeMixture

QUICK = {"starts": 1, "steps": 600}


@pytest.fixture(scope="module")
def system() -> PairSystem:
    return pair_system(3, seed=5)


@pytest.fixture(scope="module")
def data(system: PairSystem) -> SimulatedPairs:
    return system.draw(20_000, seed=6, measurement=0.1)


@pytest.fixture(scope="module")
def held(system: PairSystem) -> SimulatedPairs:
    return system.draw(4000, seed=7, measurement=0.1)


@pytest.fixture(scope="module")
def fitted(data: SimulatedPairs) -> NoisyLinearPairs:
    return NoisyLinearPairs(3, **QUICK).fit(data.pairs)


# --- what is recovered -----------------------------------------------------------------------------------------------


def test_variables_are_as_good_as_a_regression_on_the_truth(data, held, fitted):
    truth = held.factors_before.to_numpy()
    best = LinearRegression().fit(data.pairs.before, data.factors_before).predict(held.pairs.before)
    limit = mean_correlation_coefficient(best, truth)
    ours = mean_correlation_coefficient(fitted.encode(held.pairs.before).to_numpy(), truth)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # errors look like latents that move together
        lines = LinearPairs(3).fit(data.pairs)
    assert limit < 0.98
    assert limit - 0.005 < ours < limit + 0.002
    apart, plain = (
        code_scores(model.encode(held.pairs.before), held.factors_before, seed=0, rows=1000).disentanglement
        for model in (fitted, lines)
    )
    assert apart > plain + 0.02
    assert pair_scores(fitted, held).target_accuracy > pair_scores(lines, held).target_accuracy + 0.02


def test_error_bars_are_right(held, fitted):
    code = fitted.encode(held.pairs.before)
    for name, latent in matched_latents(code, held.factors_before).items():
        sign = np.sign(np.corrcoef(code[latent], held.factors_before[name])[0, 1])
        error = (sign * code[latent] - held.factors_before[name]).to_numpy()
        said = fitted.latent_variances_[fitted.names_.index(latent)]
        assert (error**2).mean() == pytest.approx(said, rel=0.1)


def test_the_errors_of_what_is_observed_are_found(data, fitted):
    expected = 0.1 * data.pairs.before.var(axis=0).mean() / 1.1
    np.testing.assert_allclose(fitted.noise_variance_, expected, rtol=0.06)


def test_the_graph_is_read(data, fitted, held):
    scores = pair_scores(fitted, held)
    assert scores.shd1 == 0
    assert fitted.converged_
    assert (fitted.unhit_, fitted.mixed_) == ((), ())
    draws = fitted.scm_.sample(20_000, generator=0)
    own = fitted.lines_.solution
    np.testing.assert_allclose(np.cov(draws.T), own.T @ own, atol=0.1 * float((own.T @ own).max()))


def test_counterfactuals_explain_all_but_the_errors(data, held, fitted):
    changes = np.array(held.targets) != "none"
    left = 1 - pair_scores(fitted, held).counterfactual_r2
    noise, x = fitted.noise_variance_.sum(), held.pairs.after.astype(float)
    assert left < 2.2 * noise / x.var(axis=0).sum()  # of a pair's two errors
    assert changes.any()


def test_more_numbers_than_latents():
    data = pair_system(3, seed=5, observed=12).draw(20_000, seed=6, measurement=0.3)
    model = NoisyLinearPairs(3, **QUICK).fit(data.pairs)
    truth = data.factors_before
    best = LinearRegression().fit(data.pairs.before, truth).predict(data.pairs.before)
    code = model.encode(data.pairs.before).to_numpy()
    limit = mean_correlation_coefficient(best, truth.to_numpy())
    assert mean_correlation_coefficient(code, truth.to_numpy()) > limit - 0.01
    assert model.decode(code).shape == (len(data), 12)
    np.testing.assert_allclose(model.noise_variance_, 0.3 * data.pairs.before.var(axis=0).mean() / 1.3, rtol=0.25)


def test_many_numbers_of_a_strong_effect():
    """E[e e~'] + E[e~ e'] has a negative eigenvalue here: that the latents stay is not what tells them from errors."""
    rng = np.random.default_rng(0)
    n, hit = 20_000, np.random.default_rng(1).integers(2, size=20_000)
    e, fresh = rng.standard_normal((n, 2)), rng.standard_normal(n)
    after = np.where(hit[:, None] == 0, np.stack([fresh, e[:, 1]], 1), np.stack([e[:, 0], fresh - 5 * e[:, 0]], 1))
    mixing = rng.standard_normal((2, 8))
    before, second = (part @ mixing + 0.5 * rng.standard_normal((n, 8)) for part in (e, after))
    model = NoisyLinearPairs(2, steps=600).fit(InterventionPairs(before, second))
    assert mean_correlation_coefficient(model.noise(before).to_numpy(), e) > 0.96
    np.testing.assert_allclose(model.noise_variance_, 0.25, rtol=0.2)


def test_exact_pairs_are_no_trouble():
    data = pair_system(3, seed=5).draw(5000, seed=6)
    model = NoisyLinearPairs(3, **QUICK).fit(data.pairs)
    scores = pair_scores(model, data)
    assert scores.target_accuracy > 0.99
    assert scores.counterfactual_r2 > 0.999
    assert (model.noise_variance_ < 1e-3 * data.pairs.before.var(axis=0)).all()


def test_random_starts_find_the_same(data, fitted):
    other = NoisyLinearPairs(3, starts=2, steps=600, seed=3).fit(data.pairs)
    together = np.abs(np.corrcoef(fitted.encode(data.pairs.before).T, other.encode(data.pairs.before).T)[:3, 3:])
    np.testing.assert_allclose(together.max(axis=1), 1, atol=1e-3)


# --- targets ---------------------------------------------------------------------------------------------------------


def test_probabilities_of_targets_are_calibrated(held, fitted):
    found = fitted.infer_targets(held.pairs)
    latent_of = matched_latents(fitted.encode(held.pairs.before), held.factors_before)
    right = found.idxmax(axis=1).to_numpy() == np.array([latent_of.get(t, t) for t in held.targets])
    sure = found.max(axis=1).to_numpy()
    assert right.mean() == pytest.approx(sure.mean(), abs=0.03)
    assert right[sure > 0.9].mean() > 0.9


def test_known_targets_name_the_latents(data):
    known = np.random.default_rng(0).random(len(data)) < 0.05
    targets = [target if k else None for target, k in zip(data.targets, known, strict=True)]
    pairs = InterventionPairs(data.pairs.before, data.pairs.after, targets)
    model = NoisyLinearPairs(3, **QUICK).fit(pairs)
    code = model.encode(data.pairs.before)
    latent_of = matched_latents(code, data.factors_before)
    assert latent_of == {name: name for name in data.factors_before.columns}
    assert (model.infer_targets(pairs).max(axis=1).to_numpy()[known] == 1).all()


def test_a_latent_that_is_never_hit_is_named(data):
    rows = np.flatnonzero(np.array(data.targets) != "z1")
    pairs = InterventionPairs(data.pairs.before[rows], data.pairs.after[rows])
    with pytest.warns(UserWarning, match="hardly any pair hits z"):
        model = NoisyLinearPairs(3, **QUICK).fit(pairs)
    assert len(model.unhit_) == 1
    assert not model.converged_


def test_the_law_of_codes_tells_what_was_hit():
    covariances = np.stack([np.eye(2), np.diag([1.0, 9.0])])
    mixture = CodeMixture(np.array([[0.0], [1.0]]), covariances, np.array([0.25, 0.75]))
    odds = 3 * np.exp(-0.5 * 4 * (1 / 9 - 1)) / 3
    found = mixture.of_pairs(np.array([[0.3]]), np.array([[2.0]]))
    np.testing.assert_allclose(found, [[1 / (1 + odds), odds / (1 + odds)]])


# --- at the door, and files ------------------------------------------------------------------------------------------


def test_bad_settings_are_refused(data):
    with pytest.raises(ValueError, match="starts=0"):
        NoisyLinearPairs(3, starts=0).fit(data.pairs)
    with (
        pytest.warns(UserWarning, match="have rank 3"),
        pytest.raises(ValueError, match="3 directions, fewer than n_latents=4"),
    ):
        NoisyLinearPairs(4).fit(data.pairs)
    two = InterventionPairs(data.pairs.before, data.pairs.after, [("z0", "z1"), *[None] * (len(data) - 1)])
    with pytest.raises(ValueError, match="max_targets is 1"):
        NoisyLinearPairs(3).fit(two)
    with pytest.raises(NotFittedError):
        NoisyLinearPairs(3).encode(data.pairs.before)


def test_a_saved_model_answers_as_before(fitted, held, tmp_path: Path):
    lc.save(fitted, tmp_path / "model.safetensors")
    again = lc.load(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(again.encode(held.pairs.before), fitted.encode(held.pairs.before))
    np.testing.assert_array_equal(again.infer_targets(held.pairs), fitted.infer_targets(held.pairs))
    np.testing.assert_array_equal(again.latent_variances_, fitted.latent_variances_)
    assert again.graph_ == fitted.graph_
    with pytest.raises(ValueError, match="leave t out"):
        again.encode(held.pairs.before, 0.5)
