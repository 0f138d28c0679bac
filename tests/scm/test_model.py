from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from graph_strategies import graphs
from latentcause import CausalGraph, StructuralCausalModel
from latentcause.scm import FunctionMechanism, LinearMechanism, SplineMechanism
from latentcause.splines import UniformBSpline
from scm_systems import linear_model

DIAMOND = CausalGraph.from_string("a -> b; a -> c; b -> d; c -> d")
MECHANISMS = {
    "a": LinearMechanism((), 1.0, 2.0),
    "b": LinearMechanism((0.8,), -0.5, 0.5),
    "c": LinearMechanism((-1.2,), 0.0, 1.0),
    "d": LinearMechanism((0.7, 0.4), 2.0, 0.3),
}


@pytest.fixture
def diamond() -> StructuralCausalModel:
    return StructuralCausalModel(DIAMOND, MECHANISMS)


def assert_moments(sample: np.ndarray, mean: np.ndarray, covariance: np.ndarray) -> None:
    """Sample mean and covariance lie within 5 of their standard errors."""
    n = len(sample)
    spread = covariance.diagonal()
    assert (np.abs(sample.mean(0) - mean) <= 5 * np.sqrt(spread / n) + 1e-12).all()
    error = np.sqrt((np.outer(spread, spread) + covariance**2) / n)
    assert (np.abs(np.cov(sample.T) - covariance) <= 5 * error + 1e-12).all()


def test_samples_have_the_moments_of_the_closed_form():
    scm, B, intercepts, variances = linear_model(DIAMOND, seed=0)
    response = np.linalg.inv(np.eye(4) - B)
    sample = scm.sample(50_000, generator=1)
    assert sample.dtype == np.float64
    assert_moments(sample, response @ intercepts, response @ np.diag(variances) @ response.T)


def test_samples_under_do_have_the_moments_of_the_cut_graph():
    scm, B, intercepts, variances = linear_model(DIAMOND, seed=2)
    B[1], intercepts[1], variances[1] = 0.0, 3.0, 0.0
    response = np.linalg.inv(np.eye(4) - B)
    sample = scm.sample(50_000, do={"b": 3.0}, generator=3)
    assert (sample[:, 1] == 3.0).all()
    assert_moments(sample, response @ intercepts, response @ np.diag(variances) @ response.T)


def test_do_takes_a_number_an_array_or_a_mechanism(diamond):
    free = diamond.sample(6, generator=4)
    values = np.arange(6)
    with_array = diamond.sample(6, do={"b": values}, generator=4)
    assert np.array_equal(with_array[:, 1], values)
    # With its noise unchanged, d moves by exactly its weight times the change of b.
    assert np.allclose(with_array[:, 3] - free[:, 3], 0.7 * (values - free[:, 1]))
    shifted = diamond.sample(6, do={"b": LinearMechanism((0.8,), 9.5, 0.5)}, generator=4)
    assert np.allclose(shifted[:, 1] - free[:, 1], 10.0)
    assert np.allclose(shifted[:, 3] - free[:, 3], 7.0)


@given(graphs(most=6), st.integers(0, 2**32), st.data())
def test_do_leaves_the_values_of_nodes_that_do_not_descend_bit_for_bit(graph, seed, data):
    scm = linear_model(graph, seed)[0]
    target = data.draw(st.sampled_from(graph.nodes))
    action = data.draw(st.sampled_from([2.5, LinearMechanism((), 10.0, 1.0)]))
    free, forced = scm.sample(7, generator=seed), scm.sample(7, do={target: action}, generator=seed)
    touched = {target, *graph.descendants(target)}
    for j, node in enumerate(graph.nodes):
        if node not in touched:
            assert np.array_equal(free[:, j], forced[:, j]), node
    assert not np.array_equal(free[:, graph.index(target)], forced[:, graph.index(target)])


def test_the_same_seed_gives_the_same_sample_whatever_ran_before(diamond):
    first = diamond.sample(10, generator=5)
    torch.rand(3, generator=torch.Generator().manual_seed(1))
    diamond.sample(17, do={"a": 0.0}, generator=6)
    assert np.array_equal(diamond.sample(10, generator=5), first)
    assert np.array_equal(diamond.sample(10, generator=np.int64(5)), first)
    assert not np.array_equal(diamond.sample(10, generator=6), first)


def test_one_generator_goes_on_from_sample_to_sample(diamond):
    generator = torch.Generator().manual_seed(7)
    first, second = diamond.sample(10, generator=generator), diamond.sample(10, generator=generator)
    assert not np.array_equal(first, second)
    assert np.array_equal(first, diamond.sample(10, generator=torch.Generator().manual_seed(7)))


def test_columns_follow_the_order_of_the_nodes_not_the_causal_order():
    graph = CausalGraph.from_edges([("late", "early")], nodes=["early", "late"])
    scm = StructuralCausalModel(
        graph, {"early": LinearMechanism((2.0,), 0.0, 1e-12), "late": LinearMechanism((), 0.0, 1.0)}
    )
    sample = scm.sample(50, generator=8)
    assert np.allclose(sample[:, 0], 2 * sample[:, 1], atol=1e-4)


def test_replaced_mechanisms_are_those_of_the_new_model_only(diamond):
    changed = diamond.replace({"c": LinearMechanism((), 10.0, 1.0)})
    assert changed.mechanisms["c"].intercept == 10.0
    assert diamond.mechanisms["c"] == MECHANISMS["c"]
    free, forced = diamond.sample(5, generator=9), changed.sample(5, generator=9)
    assert np.array_equal(free[:, :2], forced[:, :2])


def test_log_density_integrates_to_one_and_has_the_mean_of_the_mechanism():
    spline = UniformBSpline(-2.0, 2.0, 6)
    mechanism = SplineMechanism((spline,), ((0.3, -1.0, 2.0, 0.5, 0.1, -0.4),), 1.5, 0.49)
    parents = torch.tensor([[-3.0], [0.1], [1.9]], dtype=torch.float64)
    values = torch.linspace(-15, 15, 6001, dtype=torch.float64)
    density = mechanism.log_density(values[None], parents[:, None]).exp()
    step = float(values[1] - values[0])
    assert torch.allclose(density.sum(1) * step, torch.ones(3, dtype=torch.float64), atol=1e-9)
    assert torch.allclose((density * values).sum(1) * step, mechanism.mean(parents), atol=1e-9)


def test_a_spline_mechanism_adds_up_over_its_parents():
    first, second = UniformBSpline(-1.0, 1.0, 5), UniformBSpline(0.0, 4.0, 7)
    coefficients = (tuple(np.linspace(-1, 1, 5)), tuple(np.cos(np.arange(7.0))))
    mechanism = SplineMechanism((first, second), coefficients, 0.25, 1.0)
    parents = torch.tensor([[0.3, 1.0], [2.0, -1.0], [-0.9, 3.9]], dtype=torch.float64)
    parts = [spline.design(parents[:, k]) for k, spline in enumerate((first, second))]
    total = 0.25 + parts[0] @ torch.tensor(coefficients[0]) + parts[1] @ torch.tensor(coefficients[1])
    assert torch.allclose(mechanism.mean(parents), total)


@pytest.mark.parametrize(
    "mechanism",
    [
        LinearMechanism((0.7, -0.4), 2.0, 0.3),
        LinearMechanism((), 2.0, 0.3),
        SplineMechanism(
            (UniformBSpline(-1.0, 1.0, 5), UniformBSpline(0.0, 4.0, 7)),
            (tuple(np.linspace(-1, 1, 5) ** 2), tuple(np.cos(np.arange(7.0)))),
        ),
        FunctionMechanism(lambda parents: torch.sin(parents[..., 0]) * parents[..., 1] ** 2),
    ],
    ids=["linear", "constant", "spline", "function"],
)
def test_slopes_are_those_of_finite_differences(mechanism):
    parents = torch.tensor([[0.3, 1.1], [1.7, -1.0], [-0.9, 3.3]], dtype=torch.float64)
    mean, slopes = mechanism.mean_and_slopes(parents)
    assert torch.allclose(mean, mechanism.mean(parents))
    for k in range(2):
        step = torch.zeros(2, dtype=torch.float64)
        step[k] = 1e-6
        assert torch.allclose(
            slopes[:, k], (mechanism.mean(parents + step) - mechanism.mean(parents - step)) / 2e-6, atol=1e-7
        )


def test_mechanisms_given_as_code_are_sampled_as_any_other():
    graph = CausalGraph.chain(2)
    square = FunctionMechanism(lambda parents: parents[..., 0] ** 2, 1e-12)
    scm = StructuralCausalModel(graph, {"z1": LinearMechanism(), "z2": square})
    sample = scm.sample(20, generator=10)
    assert np.allclose(sample[:, 1], sample[:, 0] ** 2, atol=1e-4)
    assert repr(scm) == "StructuralCausalModel(z1 -> z2; FunctionMechanism, LinearMechanism)"


def test_what_does_not_fit_the_graph_is_named(diamond):
    with pytest.raises(ValueError, match="no mechanism for node 'd': give one for each of"):
        StructuralCausalModel(DIAMOND, {node: MECHANISMS[node] for node in "abc"})
    with pytest.raises(ValueError, match="a mechanism is given for 'e', which is not a node"):
        StructuralCausalModel(DIAMOND, {**MECHANISMS, "e": LinearMechanism()})
    with pytest.raises(ValueError, match="a mechanism is given for 'e', which is not a node"):
        diamond.replace({"e": LinearMechanism()})
    with pytest.raises(ValueError, match=r"do\(\) names 'e', which is not a node of the graph: its nodes are"):
        diamond.sample(3, do={"e": 1.0}, generator=0)


@pytest.mark.parametrize("value", [np.zeros(4), np.zeros((3, 1)), np.zeros((3, 2))])
def test_values_of_a_wrong_shape_are_refused(diamond, value):
    with pytest.raises(ValueError, match=r"do\(b\) has shape .*: give one number, or one for each of the 3 rows"):
        diamond.sample(3, do={"b": value}, generator=0)


@pytest.mark.parametrize("value", [np.nan, np.inf, [1.0, np.nan, 2.0]])
def test_values_that_are_not_finite_are_refused(diamond, value):
    with pytest.raises(ValueError, match=r"do\(b\) is not finite"):
        diamond.sample(3, do={"b": value}, generator=0)


def test_a_mechanism_for_another_number_of_parents_is_refused():
    short = {**MECHANISMS, "d": LinearMechanism((0.7,))}
    with pytest.raises(ValueError, match="1 weights on a node with 2 parents: give one per parent"):
        StructuralCausalModel(DIAMOND, short).sample(3, generator=0)
    spline = SplineMechanism((UniformBSpline(0.0, 1.0, 4),), ((0.0,) * 4,))
    with pytest.raises(ValueError, match="1 splines on a node with 2 parents"):
        StructuralCausalModel(DIAMOND, {**MECHANISMS, "d": spline}).sample(3, generator=0)
