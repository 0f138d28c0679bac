from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from latentcause import InterventionPairs, LinearPairs
from latentcause.datasets.pairs.simulated_pairs import SimulatedPairs
from latentcause.datasets.pairs.system import pair_system
from latentcause.metrics import mean_correlation_coefficient
from latentcause.metrics.pairs import matched_latents, pair_scores
from latentcause.models.linear_pairs import matched


def drawn(
    nodes: int = 4, n: int = 4000, *, system: dict[str, Any] | None = None, seed: int = 1, **how: Any
) -> SimulatedPairs:
    return pair_system(nodes, seed=seed, **system or {}).draw(n, seed=seed + 1, **how)


def told(data: SimulatedPairs, share: float = 1.0) -> InterventionPairs:
    """The pairs with the true targets of a share of them."""
    known = np.random.default_rng(0).random(len(data)) < share
    targets = [target if k else None for target, k in zip(data.targets, known, strict=True)]
    return InterventionPairs(data.pairs.before, data.pairs.after, targets)


@pytest.fixture(scope="module")
def data() -> SimulatedPairs:
    return drawn()


@pytest.fixture(scope="module")
def fitted(data) -> LinearPairs:
    return LinearPairs(4).fit(data.pairs)


# --- what is recovered -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("nodes", "n", "system", "correlation", "wrong"),
    [
        (2, 2000, {}, 0.999, 0),
        (5, 8000, {"mixing": "linear"}, 0.998, 0),
        (5, 8000, {"standardised": True}, 0.995, 1),
        (5, 8000, {"noise": "uniform", "observed": 9}, 0.998, 0),
        (10, 20_000, {}, 0.998, 0),
        (32, 12_000, {"edges": 0.1}, 0.975, 30),
    ],
    ids=["two", "scales spread 20-fold", "standardised", "uniform, nine observed", "ten", "thirty-two"],
)
def test_linear_systems_are_recovered(nodes, n, system, correlation, wrong):
    data = drawn(nodes, n, system=system)
    model = LinearPairs(nodes).fit(data.pairs)
    code = model.encode(data.pairs.before)
    assert mean_correlation_coefficient(code.to_numpy(), data.factors_before.to_numpy()) > correlation
    scores = pair_scores(model, data)
    assert scores.target_accuracy > 0.999
    assert scores.counterfactual_r2 > 0.9999
    assert scores.shd1 <= wrong
    assert model.converged_
    assert (model.unhit_, model.mixed_) == ((), ())


def test_variables_are_in_the_unit_of_interventions(data, fitted):
    latent_of = matched_latents(fitted.encode(data.pairs.before), data.factors_before)
    after = fitted.encode(data.pairs.after)
    for name, latent in latent_of.items():
        hit = np.array(data.targets) == name
        assert after[latent][hit].std(ddof=4) == pytest.approx(1, abs=1e-3)  # of the regression on the three others
        ratio = (after[latent] / data.factors_after[name]).abs().median()
        assert ratio == pytest.approx(1, abs=0.1)  # the truth has unit variance


def test_units_and_maps_of_what_is_observed_play_no_part(data, fitted):
    turn = np.random.default_rng(0).standard_normal((4, 4)) * np.array([1e-4, 1.0, 30.0, 1e3])
    moved = LinearPairs(4).fit(InterventionPairs(data.pairs.before @ turn + 5, data.pairs.after @ turn + 5))
    code, again = fitted.encode(data.pairs.before), moved.encode(data.pairs.before @ turn + 5)
    together = np.abs(np.corrcoef(code.T, again.T)[:4, 4:])
    np.testing.assert_allclose(together.max(axis=1), 1, atol=1e-4)


def test_errors_of_measurement_beside_many_numbers():
    data = drawn(4, 8000, system={"observed": 20}, measurement=0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # errors look like latents that move together
        model = LinearPairs(4).fit(data.pairs)
    code = model.encode(data.pairs.before).to_numpy()
    assert mean_correlation_coefficient(code, data.factors_before.to_numpy()) > 0.95


def test_wrong_pairs_do_little_harm():
    data = drawn(4, 8000, wrong=0.05)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        model = LinearPairs(4).fit(data.pairs)
    scores = pair_scores(model, data)
    assert scores.target_accuracy > 0.97
    assert (
        mean_correlation_coefficient(model.encode(data.pairs.before).to_numpy(), data.factors_before.to_numpy()) > 0.99
    )


# --- targets ---------------------------------------------------------------------------------------------------------


def test_known_targets_name_the_latents(data):
    model = LinearPairs(4).fit(told(data, 0.02))
    assert model.names_ == ("z0", "z1", "z2", "z3")
    code = model.encode(data.pairs.before)
    for name in model.names_:
        assert abs(np.corrcoef(code[name], data.factors_before[name])[0, 1]) > 0.99
    assert set(model.graph_.edges) == set(data.graph.edges)


def test_named_and_unnamed_latents_stand_side_by_side(data):
    targets = ["heat" if target == "z2" else None for target in data.targets]
    model = LinearPairs(4).fit(InterventionPairs(data.pairs.before, data.pairs.after, targets))
    assert model.names_ == ("heat", "z0", "z1", "z2")
    assert matched_latents(model.encode(data.pairs.before), data.factors_before)["z2"] == "heat"


def test_known_targets_are_certain_and_others_probabilities(data, fitted):
    model = LinearPairs(4).fit(told(data))
    swapped = InterventionPairs(data.pairs.before[:3], data.pairs.after[:3], ["z1", None, "none"])
    found = model.infer_targets(swapped)
    assert list(found.columns) == ["z0", "z1", "z2", "z3", "none"]
    assert found.loc[0, "z1"] == found.loc[2, "none"] == 1
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert found.idxmax(axis=1)[1] == data.targets[1]


def test_pairs_without_intervention_are_seen(data, fitted):
    found = fitted.infer_targets(data.pairs).idxmax(axis=1)
    np.testing.assert_array_equal(found == "none", np.array(data.targets) == "none")


def test_two_targets_at_once():
    one, two = drawn(4, 6000), drawn(4, 3000, targets_at_once=2)
    pairs = InterventionPairs(
        np.vstack([one.pairs.before, two.pairs.before]), np.vstack([one.pairs.after, two.pairs.after])
    )
    model = LinearPairs(4, max_targets=2).fit(pairs)
    assert model.converged_
    for part in (one, two):
        scores = pair_scores(model, part)
        assert scores.target_accuracy > 0.99
        assert scores.shd1 <= 1
        assert scores.counterfactual_r2 > 0.9999
    assert model.infer_targets(pairs).shape == (9000, 4 + 6 + 1)
    latent_of = matched_latents(model.encode(two.pairs.before), two.factors_before)
    first = two.targets.index(("z0", "z1"))
    names = sorted((latent_of["z0"], latent_of["z1"]))
    assert model.infer_targets(two.pairs)[";".join(names)][first] > 0.99


def test_more_than_two_and_undeclared_targets_are_refused(data):
    before, after = data.pairs.before[:100], data.pairs.after[:100]
    for targets, cure in ((("a", "b"), "set max_targets=2"), (("a", "b", "c"), "three or more at once are beyond")):
        with pytest.raises(ValueError, match=f"a pair has the targets a, b.*max_targets is 1: {cure}"):
            LinearPairs(4).fit(InterventionPairs(before, after, [targets] + [None] * 99))
    with pytest.raises(ValueError, match=r"targets name 3 variables \(a, b, c\), but n_latents is 2: raise n_latents"):
        LinearPairs(2).fit(InterventionPairs(before, after, ["a", "b", "c"] + [None] * 97))
    model = LinearPairs(4).fit(data.pairs)
    for targets, culprit in ((["warmth", None], "'warmth' is no latent"), ([("z0", "z1"), None], "z0 and z1 at once")):
        with pytest.raises(ValueError, match=culprit):
            model.infer_targets(InterventionPairs(before[:2], after[:2], targets))


def test_lines_are_matched_to_what_moves_in_known_pairs():
    moved = np.array([[0.0, 9.0, 0.1], [0.1, 5.0, 0.0], [3.0, 0.0, 0.0], [2.0, 2.0, 2.0]])
    assert matched(moved, np.array([1, 1, 3, -1]), 3).tolist() == [1, 2, 0]
    assert matched(moved, np.full(4, -1), 3).tolist() == [0, 1, 2]
    assert matched(moved, np.array([0, 0, 4, 5]), 3).tolist() == [0, 1, 2]  # "none", and two at once


# --- what if ---------------------------------------------------------------------------------------------------------


def test_counterfactuals_are_those_of_the_system(data):
    model, system = LinearPairs(4).fit(told(data)), pair_system(4, seed=1)
    code, z = model.encode(data.pairs.before), data.factors_before
    sign = {name: np.sign(np.corrcoef(code[name], z[name])[0, 1]) for name in z}
    for name in z:
        true = system.mix(system.counterfactual(z, name, 1.5))
        found = model.counterfactual(data.pairs.before, {name: 1.5 * sign[name]})
        assert np.abs(found - true).std() < 0.05 * (true - data.pairs.before).std()
    several = model.counterfactual(data.pairs.before, {"z0": 1.0, "z2": np.linspace(-1, 1, 4000)})
    np.testing.assert_allclose(model.encode(several)["z0"], 1, atol=1e-5)
    np.testing.assert_allclose(model.encode(several)["z2"], np.linspace(-1, 1, 4000), atol=1e-5)
    kept = model.noise(several)[["z1", "z3"]] - model.noise(data.pairs.before)[["z1", "z3"]]
    np.testing.assert_allclose(kept, 0, atol=1e-5)


def test_nothing_done_changes_nothing_and_what_is_done_can_be_undone(data, fitted):
    x = data.pairs.before[:50]
    np.testing.assert_allclose(fitted.counterfactual(x, {}), x, atol=1e-6)
    code = fitted.encode(x)
    done = fitted.counterfactual(x, {"z1": 2.0})
    np.testing.assert_allclose(fitted.counterfactual(done, {"z1": code["z1"].to_numpy()}), x, atol=1e-4)


def test_decoding_undoes_encoding(data, fitted):
    code = fitted.encode(data.pairs.before)
    for given in (code, code[code.columns[::-1]], code.to_numpy()):
        np.testing.assert_allclose(fitted.decode(given), data.pairs.before, atol=1e-4)


def test_what_observations_hold_beside_the_code_stays():
    data = drawn(3, 4000, system={"observed": 6}, measurement=0.001)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        model = LinearPairs(3).fit(data.pairs)
    x = data.pairs.before[:100]
    moved = model.counterfactual(x, {"z0": 1.0}) - x
    assert np.linalg.matrix_rank(moved, tol=1e-3 * np.abs(moved).max()) == 1


def test_the_scm_of_the_latents(data, fitted):
    scm = fitted.scm_
    assert scm.graph == fitted.graph_
    code = fitted.encode(data.pairs.before)
    root = next(name for name in fitted.names_ if fitted.graph_.descendants(name) and not fitted.graph_.parents(name))
    node = next(iter(fitted.graph_.descendants(root)))
    moved = scm.counterfactual(code, {root: code[root] + 1})
    x = fitted.counterfactual(data.pairs.before, {root: code[root].to_numpy() + 1})
    np.testing.assert_allclose(fitted.encode(x)[node] - code[node], moved[node] - code[node], atol=0.1)
    assert len(scm.sample(10, generator=0)) == 10


def test_splines_read_the_same_graph(data):
    model = LinearPairs(4, mechanisms="spline").fit(told(data))
    assert set(model.graph_.edges) == set(data.graph.edges)


# --- what is wrong is said -------------------------------------------------------------------------------------------


def test_a_target_that_is_never_hit_is_named(data):
    kept = data.subset(np.array(data.targets) != "z2")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model = LinearPairs(4).fit(kept.pairs)
    texts = [str(warning.message) for warning in said]
    assert len(texts) == 2
    assert texts[0].startswith("the changes after - before have rank 3, less than n_latents=4")
    assert texts[1].startswith(f"hardly any pair hits {model.unhit_[0]}:")
    assert len(model.unhit_) == 1
    assert not model.converged_
    assert said[0].filename == __file__
    found = model.infer_targets(kept.pairs).idxmax(axis=1)
    assert (found != model.unhit_[0]).all()
    rest = LinearPairs(3).fit(kept.pairs)  # one latent less
    assert rest.converged_


def test_pairs_in_the_order_of_their_targets_have_the_same_rank():
    data = drawn(4, 60_000)
    ordered = data.subset(np.argsort(np.array(data.targets), kind="stable"))
    assert LinearPairs(4).fit(ordered.pairs).converged_


def test_latents_that_are_always_hit_together_are_named():
    data = drawn(3, 3000, targets_at_once=2)
    with pytest.warns(UserWarning, match="too few pairs hit .* alone to tell what causes it: add some"):
        model = LinearPairs(3, max_targets=2).fit(data.pairs)
    assert not model.converged_
    assert not model.graph_.edges


def test_mixed_latents_are_named():
    data = drawn(4, 4000, system={"mixing": "mlp"})
    with pytest.warns(UserWarning, match="may be several causal variables in one: others move in the same pairs"):
        model = LinearPairs(4).fit(data.pairs)
    assert model.mixed_
    assert not model.converged_


@pytest.mark.filterwarnings("ignore:the changes after")
def test_errors_at_the_door(data):
    with pytest.raises(ValueError, match="29 pairs are too few for 4 latents: give at least 30"):
        LinearPairs(4).fit(data.pairs.subset(slice(29)))
    with pytest.raises(ValueError, match="observations vary in 4 directions, fewer than n_latents=6"):
        LinearPairs(6).fit(data.pairs)
    for settings in ({"n_latents": 0}, {"n_latents": 2, "max_targets": 3}):
        with pytest.raises(ValueError, match="give at least one latent, and 1 or 2 targets at once"):
            LinearPairs(**settings).fit(data.pairs)
    for wrong in (data, data.pairs.before):
        with pytest.raises(TypeError, match=f"fit takes InterventionPairs, not {type(wrong).__name__}"):
            LinearPairs(4).fit(wrong)


def test_errors_of_use(data, fitted):
    x = data.pairs.before
    with pytest.raises(TypeError, match="infer_targets takes InterventionPairs, not SimulatedPairs"):
        fitted.infer_targets(data)
    with pytest.raises(ValueError, match="observations of 3, but the model was fitted to 4"):
        fitted.encode(x[:, :3])
    with pytest.raises(ValueError, match="observation 2 holds NaN or infinity"):
        fitted.encode(np.where(np.arange(4000)[:, None] == 2, np.nan, x))
    with pytest.raises(ValueError, match="LinearPairs has one code, not a trajectory"):
        fitted.encode(x, t=0.5)
    with pytest.raises(ValueError, match=r"do\(z9\): no such latent; they are z0, z1, z2, z3"):
        fitted.counterfactual(x, {"z9": 1.0})
    for value in (np.zeros(3), np.nan, np.zeros((4000, 1))):
        with pytest.raises(ValueError, match=r"do\(z0\) has shape .*: give a number, or one for each of the 4000"):
            fitted.counterfactual(x, {"z0": value})
    with pytest.raises(ValueError, match="variables have no column 'z3'"):
        fitted.decode(pd.DataFrame(np.zeros((2, 3)), columns=["z0", "z1", "z2"]))
    for values in (np.zeros((2, 3)), np.zeros(4), np.full((2, 4), np.nan)):
        with pytest.raises(ValueError, match="give a column of finite numbers for each of z0, z1, z2, z3"):
            fitted.decode(values)


def test_use_before_fit_is_one_clear_error(data):
    uses = [
        lambda model: model.encode(data.pairs.before),
        lambda model: model.noise(data.pairs.before),
        lambda model: model.infer_targets(data.pairs),
        lambda model: model.counterfactual(data.pairs.before, {}),
        lambda model: model.decode(np.zeros((1, 4))),
        lambda model: model.graph_,
        lambda model: model.scm_,
        lambda model: model.fitted_state(),
    ]
    for use in uses:
        with pytest.raises(NotFittedError, match="this LinearPairs is not fitted yet: call fit"):
            use(LinearPairs(4))


# --- forms of data, and the rules of estimators ----------------------------------------------------------------------


def test_frames_arrays_and_tensors_give_the_same(data):
    names = ["a", "b", "c", "d"]
    frames = [pd.DataFrame(part, columns=names) for part in (data.pairs.before, data.pairs.after)]
    model = LinearPairs(4).fit(InterventionPairs(*frames))
    code = model.encode(frames[0])
    for same in (data.pairs.before, torch.from_numpy(data.pairs.before.copy()), frames[0][names[::-1]].assign(e=1.0)):
        pd.testing.assert_frame_equal(model.encode(same), code)
    shuffled = InterventionPairs(*(frame[names[::-1]] for frame in frames))
    pd.testing.assert_frame_equal(model.infer_targets(shuffled), model.infer_targets(data.pairs))
    with pytest.raises(ValueError, match="observations have no column 'd' of the model"):
        model.encode(frames[0].drop(columns="d"))


def test_images_are_read_in_their_leading_directions():
    rng = np.random.default_rng(0)
    data = drawn(3, 600)
    patterns = rng.random((3, 64))
    z, z_after = (0.5 + 0.02 * part.to_numpy() @ patterns for part in (data.factors_before, data.factors_after))
    before, after = (part.clip(0, 1).reshape(-1, 1, 8, 8) for part in (z, z_after))
    model = LinearPairs(3).fit(InterventionPairs(before, after))
    assert model.shape_ == (1, 8, 8)
    code = model.encode(before)
    assert mean_correlation_coefficient(code.to_numpy(), data.factors_before.to_numpy()) > 0.95
    found = model.counterfactual(before[:5], {"z0": 3.0})
    assert found.shape == (5, 1, 8, 8)
    assert 0 <= found.min() <= found.max() <= 1
    eighths = (before * 255).round().astype(np.uint8)
    np.testing.assert_allclose(model.encode(eighths), model.encode(eighths / 255.0), atol=1e-3)
    with pytest.raises(ValueError, match="pixels outside"):
        model.encode(before * 255)


def test_the_rules_of_estimators(data, fitted):
    twin = clone(fitted)
    assert not hasattr(twin, "lines_")
    assert twin.get_params() == {"n_latents": 4, "max_targets": 1, "mechanisms": "linear", "seed": 0}
    assert repr(LinearPairs(4)) == "LinearPairs(n_latents=4)"
    before = data.pairs.before.copy()
    assert twin.fit(data.pairs) is twin
    assert np.array_equal(data.pairs.before, before)
    pd.testing.assert_frame_equal(twin.encode(before), fitted.encode(before))
    again = twin.fit(drawn(4, 2000, seed=5).pairs)  # a second fit forgets the first
    assert again.graph_ != fitted.graph_
    assert set(again.scm_.graph.edges) == set(again.graph_.edges)
