from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning

import latentcause as lc
from graph_strategies import graphs
from latent_samples import small_sample
from latentcause import CausalGraph, GModeling, StructuralCausalModel
from latentcause.scm import FunctionMechanism, GaussianNoise, GeneralMechanism, LinearMechanism, Shift
from scm_systems import clinic, clinic_rows, linear_model, wavy_model

EXACT = 1e-12


@given(graphs(least=2), st.integers(0, 2**31), st.data())
def test_linear_counterfactuals_are_those_of_the_closed_form(graph, seed, data):
    scm, B, intercepts, _ = linear_model(graph, seed)
    target = data.draw(st.sampled_from(graph.nodes))
    rows = scm.sample(4, generator=seed)
    answer = scm.counterfactual(rows, do={target: 2.0})
    noise = rows @ (np.eye(len(graph)) - B).T - intercepts
    j = graph.index(target)
    B[j], intercepts[j], noise[:, j] = 0.0, 2.0, 0.0
    wanted = (noise + intercepts) @ np.linalg.inv(np.eye(len(graph)) - B).T
    assert np.abs(answer - wanted).max() <= EXACT * max(1, np.abs(wanted).max())


def test_additive_nonlinear_counterfactuals_are_those_of_the_closed_form():
    graph = CausalGraph.from_string("x -> m -> y; x -> y")
    scm = StructuralCausalModel(
        graph,
        {
            "x": LinearMechanism(),
            "m": FunctionMechanism(lambda z: torch.tanh(2 * z[..., 0])),
            "y": FunctionMechanism(lambda z: z[..., 0] * z[..., 1] + z[..., 1] ** 2),  # parents in the order x, m
        },
    )
    rows = scm.sample(50, generator=1)
    x, m, y = rows.T
    new_x = np.linspace(-2, 2, 50)
    new_m = m - np.tanh(2 * x) + np.tanh(2 * new_x)
    new_y = y - (x * m + m**2) + (new_x * new_m + new_m**2)
    answer = scm.counterfactual(rows, do={"x": new_x})
    assert np.abs(answer - np.stack([new_x, new_m, new_y], axis=1)).max() < 1e-12
    shifted = scm.counterfactual(rows, do={"m": Shift(0.5)})
    wanted = y - (x * m + m**2) + (x * (m + 0.5) + (m + 0.5) ** 2)
    assert np.abs(shifted - np.stack([x, m + 0.5, wanted], axis=1)).max() < 1e-12


@given(graphs(least=2), st.integers(0, 2**31), st.data())
def test_composition_setting_nodes_to_what_they_are_changes_nothing(graph, seed, data):
    scm = wavy_model(graph, seed)
    targets = data.draw(st.lists(st.sampled_from(graph.nodes), unique=True))
    rows = scm.sample(3, generator=seed)
    do = {node: rows[:, graph.index(node)] for node in targets}
    assert np.array_equal(scm.counterfactual(rows, do=do), rows)


@given(graphs(least=2), st.integers(0, 2**31), st.data())
def test_effectiveness_what_is_set_is_what_it_is_set_to_and_only_descendants_move(graph, seed, data):
    scm = wavy_model(graph, seed)
    target = data.draw(st.sampled_from(graph.nodes))
    rows = scm.sample(3, generator=seed)
    answer = scm.counterfactual(rows, do={target: [1.0, -2.0, 0.5]})
    assert answer[:, graph.index(target)].tolist() == [1.0, -2.0, 0.5]
    kept = [j for j, node in enumerate(graph.nodes) if node not in {target, *graph.descendants(target)}]
    assert np.array_equal(answer[:, kept], rows[:, kept])


@given(graphs(least=2), st.integers(0, 2**31), st.data())
def test_reversibility_undoing_an_intervention_gives_the_rows_back(graph, seed, data):
    scm = wavy_model(graph, seed)
    target = data.draw(st.sampled_from(graph.nodes))
    rows = scm.sample(3, generator=seed)
    there = scm.counterfactual(rows, do={target: 3.0})
    back = scm.counterfactual(there, do={target: rows[:, graph.index(target)]})
    assert np.allclose(back, rows, rtol=0, atol=1e-11)


@given(graphs(least=2), st.integers(0, 2**31), st.data())
def test_a_counterfactual_is_the_draw_with_the_same_noise(graph, seed, data):
    scm = wavy_model(graph, seed)
    targets = data.draw(st.lists(st.sampled_from(graph.nodes), unique=True, min_size=1))
    do = {node: data.draw(st.sampled_from([1.0, Shift(-0.5)])) for node in targets}
    free, forced = scm.sample(3, generator=seed), scm.sample(3, do=do, generator=seed)
    assert np.allclose(scm.counterfactual(free, do=do), forced, rtol=0, atol=1e-11)


def test_a_frame_gives_a_frame_with_its_index_and_other_columns_are_ignored():
    scm, rows = clinic(), clinic_rows(6, seed=0)
    frame = rows[["pain", "treated", "site", "age"]].assign(note="x").set_index(pd.Index(list("uvwxyz")))
    answer = scm.counterfactual(frame, do={"treated": True})
    assert list(answer.columns) == list(scm.graph.nodes)
    assert list(answer.index) == list("uvwxyz")
    assert answer["treated"].all()
    assert list(answer["site"]) == list(frame["site"])
    assert np.allclose(answer["pain"] - frame["pain"], np.where(frame["treated"], 0.0, -3.0))
    array = scm.counterfactual(scm.read(rows).values, do={"treated": True})
    assert np.array_equal(array, scm.read(answer).values)
    by_row = scm.counterfactual(frame, do={"site": ["a", "b", "c"] * 2, "treated": False})
    assert list(by_row["site"]) == ["a", "b", "c"] * 2


def test_mechanisms_that_cannot_be_inverted_matter_only_where_noise_is_needed():
    graph = CausalGraph.from_string("a -> b -> c; d -> c")
    square = GeneralMechanism(lambda parents, noise: parents.sum(-1) + noise**2, GaussianNoise())
    plain = LinearMechanism()
    scm = StructuralCausalModel(graph, {"a": plain, "b": square, "c": LinearMechanism((1.0, 1.0)), "d": square})
    rows = scm.sample(3, generator=0)
    change = {"b": 2.0}  # b is set, and d does not descend from it
    assert np.allclose(scm.counterfactual(rows, do=change)[:, 2] - rows[:, 2], 2.0 - rows[:, 1])
    assert np.allclose(scm.counterfactual(rows, do={"a": 1.0, "b": 2.0})[:, 1], 2.0)
    # Its parents unchanged, a shifted node needs no noise either.
    assert np.allclose(scm.counterfactual(rows, do={"d": Shift(1.0)})[:, 3], rows[:, 3] + 1.0)
    with pytest.raises(
        ValueError, match="the counterfactual of node 'b' is not determined: its GeneralMechanism has no"
    ):
        scm.counterfactual(rows, do={"a": 1.0})
    invertible = GeneralMechanism(
        lambda parents, noise: parents.sum(-1) + noise**3,
        GaussianNoise(),
        inverse=lambda values, parents: (
            torch.sign(values - parents.sum(-1)) * (values - parents.sum(-1)).abs() ** (1 / 3)
        ),
    )
    cubic = StructuralCausalModel(graph, {**scm.mechanisms, "b": invertible, "d": plain})
    rows = cubic.sample(3, generator=0)
    assert np.allclose(cubic.counterfactual(rows, do={"a": 1.0})[:, 1] - rows[:, 1], 1.0 - rows[:, 0])


def test_a_category_that_descends_is_refused_by_name():
    rows = clinic_rows(3, seed=1)
    with pytest.raises(ValueError, match="the counterfactual of node 'site' is not determined: it is a category"):
        clinic().counterfactual(rows, do={"age": 40.0})


@pytest.mark.parametrize(
    ("do", "message"),
    [
        ({"pain": LinearMechanism()}, r"do\(pain\) is a mechanism, which draws new noise"),
        ({"pain": [1.0, 2.0]}, r"do\(pain\) has shape \(2,\): give one number, or one for each of the 3 rows"),
        ({"weight": 1.0}, r"do\(\) names 'weight', which is not a node"),
        ({"site": "d"}, "no level of 'site'"),
    ],
)
def test_interventions_that_do_not_fit_are_refused(do, message):
    with pytest.raises(ValueError, match=message):
        clinic().counterfactual(clinic_rows(3, seed=1), do=do)


def test_rows_that_do_not_fit_are_refused():
    scm, rows = clinic(), clinic_rows(3, seed=1)
    with pytest.raises(ValueError, match="lack column 'pain'"):
        scm.counterfactual(rows.drop(columns="pain"), do={"treated": True})
    with pytest.raises(ValueError, match="missing or infinite values in column 'age'"):
        scm.counterfactual(rows.assign(age=[1.0, np.nan, 2.0]), do={"treated": True})
    with pytest.raises(ValueError, match="column 'site' holds 'z'"):
        scm.counterfactual(rows.assign(site="z"), do={"treated": True})
    with pytest.raises(ValueError, match="one column for each of the 4 names"):
        scm.counterfactual(np.zeros((2, 3)), do={"treated": True})
    with pytest.raises(ValueError, match="column 'site' holds 7"):
        scm.counterfactual(np.full((2, 4), 7.0), do={"treated": True})


@pytest.mark.parametrize("kind", ["linear", "spline"])
def test_mechanisms_that_g_modeling_learned_are_the_same_objects_and_answer_as_any_other(tmp_path, kind):
    sample = small_sample("linear" if kind == "linear" else "saturating")
    learned = GModeling(
        sample.system.graph, mechanisms=kind, loadings=sample.system.loadings, noise_variance=2.0, max_iterations=5
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        scm = learned.fit(sample.data).scm_
    assert scm.gaussian_mechanisms["z2"] is scm.mechanisms["z2"]
    rows = scm.sample(20, generator=0)
    answer = scm.counterfactual(rows, do={"z1": 1.0})
    parents = [torch.tensor(values[:, :1]) for values in (rows, answer)]
    change = scm.mechanisms["z2"].mean(parents[1]) - scm.mechanisms["z2"].mean(parents[0])
    assert np.allclose(answer[:, 1], rows[:, 1] + change.numpy())
    conditional = scm.effect("z3", do={"z1": 1.0}, rows=rows)
    assert conditional.value == pytest.approx((answer - rows)[:, 2].mean())
    assert np.isfinite(scm.log_density(rows)).all()
    lc.save(scm, tmp_path / "scm.safetensors")
    assert lc.load(tmp_path / "scm.safetensors").mechanisms == scm.mechanisms
