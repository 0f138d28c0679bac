from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graph_strategies import graphs
from latentcause import CausalGraph, StructuralCausalModel
from latentcause.scm import EmpiricalNoise, FunctionMechanism, LinearMechanism, Shift, linear_effects
from scm_systems import CLINIC, clinic, clinic_rows, linear_model, wavy_model

CONFOUNDED = CausalGraph.from_string("w -> x; w -> y; x -> m; m -> y")


def draw_do(data: st.DataObject, graph: CausalGraph) -> dict:
    targets = data.draw(st.lists(st.sampled_from(graph.nodes), unique=True, min_size=1))
    return {node: data.draw(st.sampled_from([2.0, Shift(-1.5), 0.0])) for node in targets}


@given(graphs(least=2, most=5), st.integers(0, 2**31), st.data())
def test_linear_effects_are_differences_of_closed_form_means(graph, seed, data):
    scm, B, intercepts, _ = linear_model(graph, seed)
    outcome = data.draw(st.sampled_from(graph.nodes))
    do, versus = draw_do(data, graph), data.draw(st.none() | st.just(draw_do(data, graph)))

    def mean(actions):
        cut, constant = B.copy(), intercepts.copy()
        for node, action in (actions or {}).items():
            j = graph.index(node)
            if isinstance(action, Shift):
                constant[j] += action.amount
            else:
                cut[j], constant[j] = 0.0, action
        return np.linalg.inv(np.eye(len(graph)) - cut) @ constant

    effect = scm.effect(outcome, do, versus)
    wanted = (mean(do) - mean(versus))[graph.index(outcome)]
    assert effect.value == pytest.approx(wanted, abs=1e-10)
    assert (effect.error, effect.low, effect.high) == (0.0, None, None)


@given(graphs(least=2, most=5), st.integers(0, 2**31), st.data())
def test_conditional_effects_are_means_of_counterfactual_differences(graph, seed, data):
    scm = data.draw(st.sampled_from([linear_model(graph, seed)[0], wavy_model(graph, seed)]))
    outcome = data.draw(st.sampled_from(graph.nodes))
    rows = scm.sample(3, generator=seed)
    do, versus = draw_do(data, graph), data.draw(st.none() | st.just(draw_do(data, graph)))
    wanted = scm.counterfactual(rows, do) - scm.counterfactual(rows, versus or {})
    effect = scm.effect(outcome, do, versus, rows=rows)
    assert effect.value == pytest.approx(wanted[:, graph.index(outcome)].mean(), abs=1e-10)


def test_a_linear_mechanism_in_place_of_a_nodes_own_is_closed_form_too():
    scm, B, intercepts, _ = linear_model(CONFOUNDED, seed=1)
    j, w = CONFOUNDED.index("x"), CONFOUNDED.index("w")
    effect = scm.effect("y", {"x": LinearMechanism((0.5,), 2.0, 1.0)})
    change = (2.0 + 0.5 * intercepts[w]) - (intercepts[j] + B[j, w] * intercepts[w])
    through = B[CONFOUNDED.index("m"), j] * B[CONFOUNDED.index("y"), CONFOUNDED.index("m")]
    assert effect.value == pytest.approx(change * through)
    assert effect.error == 0.0


def test_noise_with_a_mean_counts():
    lopsided = LinearMechanism((), 1.0, noise=EmpiricalNoise(np.array([0.0, 4.0])))
    scm = StructuralCausalModel(CausalGraph.chain(2), {"z1": lopsided, "z2": LinearMechanism((2.0,))})
    assert scm.effect("z2", {"z1": 0.0}).value == pytest.approx(-6.0)


def test_paired_draws_give_nonlinear_effects_within_their_error():
    graph = CausalGraph.chain(2)
    square = FunctionMechanism(lambda z: z[..., 0] ** 2, 0.3)
    scm = StructuralCausalModel(graph, {"z1": LinearMechanism((), 1.0, 2.0), "z2": square})
    fixed = scm.effect("z2", {"z1": 2.0}, {"z1": 1.0}, draws=100, generator=0)
    assert fixed.value == pytest.approx(3.0, abs=1e-12)  # the same noise in both arms cancels
    free = scm.effect("z2", {"z1": 2.0}, draws=40_000, generator=0)  # E z1^2 = 3
    assert 0 < free.error < 0.03
    assert abs(free.value - 1.0) < 5 * free.error
    assert free == scm.effect("z2", {"z1": 2.0}, draws=40_000, generator=0)
    assert free != scm.effect("z2", {"z1": 2.0}, draws=40_000, generator=1)


def test_categories_as_causes_and_as_outcomes():
    scm = clinic()
    pain = scm.effect("pain", {"treated": True}, {"treated": False}, draws=200)
    assert pain.value == pytest.approx(-3.0)
    older = scm.effect(("treated", True), {"age": 70.0}, {"age": 50.0, "site": "b"}, draws=40_000)

    def chance(age, sites):
        codes = np.array([[0.0, 0.0], [0.5, 0.0], [0.0, -0.5]]).sum(1)
        return sites @ (1 / (1 + np.exp(1.0 - 0.02 * age - codes)))

    weights = np.exp([0.0, 1.0 - 0.02 * 70, 0.5 + 0.01 * 70])
    wanted = chance(70.0, weights / weights.sum()) - chance(50.0, np.array([0.0, 1.0, 0.0]))
    assert abs(older.value - wanted) < 5 * older.error
    assert repr(older).startswith("effect on P(treated = True) of do(age = 70.0) versus do(age = 50.0, site = b): ")


def test_resampled_lines_are_those_of_fits_to_the_resampled_rows():
    graph = CausalGraph.from_string("a -> c; b -> c")
    rows = linear_model(graph, seed=0)[0].sample(25, generator=0) * [1.0, 100.0, 0.01] + [0.0, 5000.0, 3.0]
    data = StructuralCausalModel.fit(graph, rows).read(rows)
    lines = linear_effects.resampled_lines(graph, data, graph.nodes, 6, np.random.default_rng(3))
    chosen = np.random.default_rng(3).integers(25, size=(6, 25))
    for r in range(6):
        refit = StructuralCausalModel.fit(graph, rows[chosen[r]])
        for node, line in lines.items():
            mechanism = refit.mechanisms[node]
            found = [float(line.intercept[r]), *line.weights[:, r]]
            assert np.allclose(found, [mechanism.intercept, *mechanism.weights], rtol=1e-9)


def test_the_interval_of_a_linear_effect_is_that_of_the_refits():
    rows = linear_model(CONFOUNDED, seed=2)[0].sample(80, generator=0)
    scm = StructuralCausalModel.fit(CONFOUNDED, rows)
    effect = scm.effect("y", {"x": 1.0}, {"x": 0.0}, data=rows, resamples=300, generator=5)
    rng = np.random.default_rng(0)
    refits = [
        StructuralCausalModel.fit(CONFOUNDED, rows[rng.integers(80, size=80)]).effect("y", {"x": 1.0}, {"x": 0.0}).value
        for _ in range(300)
    ]
    low, high = np.quantile(refits, [0.05, 0.95])
    assert effect.resamples == 300
    assert effect.low < effect.value < effect.high
    assert effect.low == pytest.approx(low, abs=0.15 * (high - low))
    assert effect.high == pytest.approx(high, abs=0.15 * (high - low))
    wider = scm.effect("y", {"x": 1.0}, {"x": 0.0}, data=rows, level=0.99, resamples=300, generator=5)
    assert wider.low < effect.low
    assert wider.high > effect.high
    assert repr(effect).startswith("effect on y of do(x = 1.0) versus do(x = 0.0): ")
    assert "(90% interval " in repr(effect)
    assert effect == scm.effect("y", {"x": 1.0}, {"x": 0.0}, data=rows, resamples=300, generator=5)


def test_refits_one_by_one_give_the_interval_of_all_at_once():
    """The same model with its treatment as a category of 3 levels is refitted in a loop: a second road to one interval."""
    rng = np.random.default_rng(0)
    arm = rng.integers(0, 3, 120)
    frame = pd.DataFrame({"arm": np.array(["a", "b", "c"])[arm], "y": 1.5 * (arm == 1) + rng.normal(size=120)})
    category = StructuralCausalModel.fit(CausalGraph.from_string("arm -> y"), frame)
    looped = category.effect("y", {"arm": "b"}, {"arm": "a"}, data=frame, draws=2, resamples=200)
    numbers = pd.DataFrame({"b": arm == 1, "c": arm == 2, "y": frame["y"]}, dtype=float)
    graph = CausalGraph.from_string("b -> y; c -> y")
    line = StructuralCausalModel.fit(graph, numbers)
    batched = line.effect("y", {"b": 1.0, "c": 0.0}, {"b": 0.0, "c": 0.0}, data=numbers, resamples=200)
    width = batched.high - batched.low
    assert looped.value == pytest.approx(batched.value, abs=1e-10)
    assert looped.low == pytest.approx(batched.low, abs=0.2 * width)
    assert looped.high == pytest.approx(batched.high, abs=0.2 * width)


def test_intervals_cover_as_often_as_they_say():
    truth = linear_model(CONFOUNDED, seed=3)[0]
    wanted = truth.effect("y", {"x": 1.0}, {"x": 0.0}).value
    covered = 0
    for seed in range(200):
        rows = truth.sample(200, generator=seed)
        scm = StructuralCausalModel.fit(CONFOUNDED, rows)
        effect = scm.effect("y", {"x": 1.0}, {"x": 0.0}, data=rows, resamples=200, generator=seed)
        covered += effect.low <= wanted <= effect.high
    assert 0.86 <= covered / 200 <= 0.94


def test_a_conditional_effect_has_an_interval_too():
    frame = clinic_rows(150, seed=1)
    scm = StructuralCausalModel.fit(CLINIC, frame)
    effect = scm.effect("pain", {"treated": True}, rows=frame[:10], data=frame, resamples=30)
    assert effect.low < effect.value < effect.high
    assert repr(effect).startswith("conditional effect on pain of do(treated = True) versus no intervention: ")


def test_resamples_that_do_not_determine_a_mechanism_are_left_out_with_a_warning():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"rare": (np.arange(40) < 2).astype(float), "y": rng.normal(size=40)})
    scm = StructuralCausalModel.fit(CausalGraph.from_string("rare -> y"), frame)
    with pytest.warns(RuntimeWarning, match="of 100 resamples did not determine a mechanism"):
        effect = scm.effect("y", {"rare": 1.0}, {"rare": 0.0}, data=frame, resamples=100)
    assert 70 < effect.resamples < 100
    assert np.isfinite([effect.low, effect.high]).all()
    graph = CausalGraph.from_string("rare -> y; other -> y")
    looped = frame.assign(rare=frame["rare"] == 1, other=np.array(["a", "b", "c"])[np.arange(40) % 3])
    model = StructuralCausalModel.fit(graph, looped)
    with pytest.warns(RuntimeWarning, match="of 60 resamples did not determine a mechanism"):
        effect = model.effect("y", {"rare": True}, {"rare": False}, data=looped, resamples=60, draws=50)
    assert 35 < effect.resamples < 60


@pytest.mark.parametrize(
    ("outcome", "do", "options", "message"),
    [
        ("weight", {"age": 1.0}, {}, "the outcome 'weight' is not a node of the graph"),
        ("site", {"age": 1.0}, {}, r"the outcome 'site' is a category: give \('site', level\)"),
        (("site", "d"), {"age": 1.0}, {}, "the outcome 'site' has no level 'd'"),
        (("pain", 1.0), {"age": 1.0}, {}, "the outcome 'pain' is a number and has no levels"),
        ("pain", {}, {}, "do is empty"),
        ("pain", {"age": [1.0, 2.0]}, {}, r"do\(age\) has shape \(2,\): give one number$"),
        ("pain", {"weight": 1.0}, {}, r"do\(\) names 'weight'"),
        ("pain", {"age": 1.0}, {"level": 90}, "level is 90: give a share between 0 and 1"),
        ("pain", {"age": 1.0}, {"draws": 1}, "draws is 1: give at least 2"),
        ("pain", {"age": 1.0}, {"resamples": 0}, "resamples is 0: give at least 2"),
        ("pain", {"age": 1.0}, {"data": clinic_rows(5, seed=0)}, "the mechanisms of this one were given"),
        (
            "pain",
            {"treated": LinearMechanism()},
            {"rows": clinic_rows(5, seed=0)},
            r"do\(treated\) gives a mechanism of numbers",
        ),
        ("pain", {"age": LinearMechanism()}, {"rows": clinic_rows(5, seed=0)}, r"do\(age\) is a mechanism"),
    ],
)
def test_questions_that_make_no_sense_are_refused(outcome, do, options, message):
    with pytest.raises(ValueError, match=message):
        clinic().effect(outcome, do, **options)
