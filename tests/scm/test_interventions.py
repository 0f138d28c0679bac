from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from graph_strategies import graphs
from latentcause import CausalGraph, StructuralCausalModel
from latentcause.scm import (
    CategoricalMechanism,
    EmpiricalNoise,
    GaussianNoise,
    GeneralMechanism,
    LinearMechanism,
    Shift,
    UniformNoise,
)
from scm_systems import SITES, clinic, linear_model


def test_a_shift_moves_a_node_and_what_descends_from_it():
    graph = CausalGraph.from_string("a -> b; a -> c; b -> d; c -> d")
    scm, B, _, _ = linear_model(graph, seed=0)
    free, shifted = scm.sample(9, generator=1), scm.sample(9, do={"b": Shift(1.5)}, generator=1)
    moved = shifted - free
    assert np.allclose(moved[:, [0, 2]], 0)
    assert np.allclose(moved[:, 1], 1.5)
    assert np.allclose(moved[:, 3], 1.5 * B[3, 1])
    amounts = np.arange(9.0)
    by_row = scm.sample(9, do={"b": Shift(amounts)}, generator=1) - free
    assert np.allclose(by_row[:, 1], amounts)


@given(graphs(least=2), st.integers(0, 2**31), st.data())
def test_shifts_of_several_nodes_add_up_in_linear_models(graph, seed, data):
    scm, B, _, _ = linear_model(graph, seed)
    amounts = {node: data.draw(st.floats(-5, 5)) for node in graph.nodes}
    free = scm.sample(3, generator=seed)
    shifted = scm.sample(3, do={node: Shift(amount) for node, amount in amounts.items()}, generator=seed)
    response = np.linalg.inv(np.eye(len(graph)) - B)
    assert np.allclose(shifted - free, response @ np.array(list(amounts.values())), atol=1e-9)


def test_levels_are_given_by_name_one_for_all_rows_or_one_per_row():
    scm = clinic()
    site = scm.graph.index("site")
    assert (scm.sample(5, do={"site": "b"}, generator=0)[:, site] == 1).all()
    named = ["c", "a", "b"]
    for given_levels in (named, np.array(named), pd.Series(named), pd.Categorical(named)):
        assert scm.sample(3, do={"site": given_levels}, generator=0)[:, site].tolist() == [2, 0, 1]
    assert (scm.sample(5, do={"treated": True}, generator=0)[:, scm.graph.index("treated")] == 1).all()
    with_rows = scm.sample(2, do={"treated": np.array([True, False])}, generator=0)
    assert with_rows[:, scm.graph.index("treated")].tolist() == [1, 0]


def test_a_category_can_be_drawn_from_another_distribution():
    scm = clinic()
    sites = scm.sample(20_000, do={"site": CategoricalMechanism(tuple(np.log([0.2, 0.3, 0.5])))}, generator=0)[:, 1]
    assert np.abs(np.bincount(sites.astype(int)) / 20_000 - [0.2, 0.3, 0.5]).max() < 5 * np.sqrt(0.25 / 20_000)


@pytest.mark.parametrize(
    ("do", "message"),
    [
        ({"site": "d"}, r"do\(site\) is 'd', which is no level of 'site': its levels are \['a', 'b', 'c'\]"),
        ({"site": 1.0}, r"do\(site\) is 1.0, which is no level of 'site'"),
        ({"site": ["a", "x", "b"]}, r"do\(site\) is 'x', which is no level"),
        ({"site": ["a", "b"]}, r"do\(site\) has shape \(2,\): give one number, or one for each of the 3 rows"),
        ({"site": Shift(1.0)}, r"do\(site\) is a shift, but 'site' is a category"),
        ({"site": LinearMechanism()}, r"do\(site\) gives a mechanism of numbers to a node of a category of 3 levels"),
        (
            {"site": CategoricalMechanism((0.0, 0.0))},
            r"do\(site\) gives a mechanism of a category of 2 levels to a node of a category of 3 levels",
        ),
        (
            {"age": CategoricalMechanism((0.0, 0.0))},
            r"do\(age\) gives a mechanism of a category of 2 levels to a node of numbers",
        ),
        ({"age": "old"}, r"do\(age\) is 'old', but the values of 'age' are numbers"),
        ({"age": Shift([1.0, 2.0])}, r"do\(age\) has shape \(2,\)"),
        ({"age": Shift(np.nan)}, r"do\(age\) is not finite"),
        ({"weight": 3.0}, r"do\(\) names 'weight', which is not a node of the graph"),
    ],
)
def test_interventions_that_make_no_sense_are_named(do, message):
    with pytest.raises(ValueError, match=message):
        clinic().sample(3, do=do, generator=0)


def test_a_negative_number_of_rows_is_refused():
    with pytest.raises(ValueError, match="n is -1"):
        clinic().sample(-1, generator=0)


def test_the_same_seed_gives_the_same_interventional_sample_whatever_ran_before():
    do = {"site": "b", "age": Shift(2.0), "pain": LinearMechanism((), 0.0, 1.0)}
    first = clinic().sample(20, do=do, generator=3)
    scm = clinic()
    scm.sample(7, generator=4)
    scm.effect("pain", do={"treated": True}, draws=50, generator=5)
    scm.counterfactual(scm.sample(4, generator=8), do={"pain": 3.0})
    assert np.array_equal(scm.sample(20, do=do, generator=3), first)


def test_a_general_mechanism_takes_its_noise_as_it_likes():
    graph = CausalGraph.chain(2)
    scale = GeneralMechanism(lambda parents, noise: parents[:, 0].exp() * noise, GaussianNoise(1.0))
    scm = StructuralCausalModel(graph, {"z1": LinearMechanism(), "z2": scale})
    free = scm.sample(10, generator=0)
    doubled = scm.sample(10, do={"z1": Shift(np.log(2))}, generator=0)
    assert np.allclose(doubled[:, 1], 2 * free[:, 1])


def test_probabilities_of_a_category_are_those_of_the_logit_and_draws_follow_them():
    mechanism = CategoricalMechanism((0.0, 0.4, -1.0), ((0.0, 0.0), (1.0, -0.5), (0.3, 2.0)))
    parents = torch.tensor([[0.5, 1.0], [-2.0, 0.2]], dtype=torch.float64)
    logits = np.array([0.0, 0.4, -1.0]) + parents.numpy() @ np.array([[0.0, 0.0], [1.0, -0.5], [0.3, 2.0]]).T
    wanted = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert np.allclose(mechanism.probabilities(parents), wanted)
    uniform = torch.linspace(0, 1, 10_001, dtype=torch.float64)[:-1]
    for row in range(2):
        codes = mechanism.predict(parents[row].expand(10_000, 2), uniform)
        assert np.allclose(np.bincount(codes.long(), minlength=3) / 10_000, wanted[row], atol=2e-4)
        codes = torch.arange(3, dtype=torch.float64)
        assert np.allclose(mechanism.log_density(codes, parents[row].expand(3, 2)).exp(), wanted[row])


def test_a_level_of_no_probability_never_occurs():
    mechanism = CategoricalMechanism((-np.inf, 0.0, -np.inf))
    parents = torch.zeros(1000, 0, dtype=torch.float64)
    assert (mechanism.sample(parents, torch.Generator().manual_seed(0)) == 1).all()


def test_indicators_stand_for_levels():
    mechanism = clinic().mechanisms["pain"]
    parents = torch.tensor([[10.0, 0, 0], [10.0, 1, 0], [10.0, 2, 1]], dtype=torch.float64)
    assert mechanism.expand(parents).tolist() == [[10, 0, 0, 0], [10, 1, 0, 0], [10, 0, 1, 1]]
    assert mechanism.mean(parents).tolist() == pytest.approx([2.0, 3.0, -3.0])
    with pytest.raises(ValueError, match="a mechanism for 3 parents on a node with 2"):
        mechanism.mean(parents[:, :2])


def test_what_a_mechanism_cannot_say_is_refused_with_the_reason():
    parents, values = torch.zeros(2, 1, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    category, general = CategoricalMechanism((0.0, 0.0)), GeneralMechanism(lambda p, u: u**2, GaussianNoise())
    with pytest.raises(ValueError, match="a range of noise gives the same level"):
        category.abduct(values, parents)
    with pytest.raises(ValueError, match="a category has no mean"):
        category.mean(parents)
    with pytest.raises(ValueError, match="has no inverse"):
        general.abduct(values, parents)
    with pytest.raises(ValueError, match="no mean in closed form"):
        general.mean(parents)
    with pytest.raises(ValueError, match="no density in closed form"):
        general.log_density(values, parents)
    with pytest.raises(ValueError, match="2 weights on a node with 1 parents"):
        CategoricalMechanism((0.0, 0.0), ((0.0, 0.0), (1.0, 2.0))).predict(parents, values)


def test_levels_must_fit_the_mechanisms():
    graph = CausalGraph(("s",))
    category = {"s": CategoricalMechanism((0.0, 0.0, 0.0))}
    assert StructuralCausalModel(graph, category).levels == {"s": (0, 1, 2)}
    assert StructuralCausalModel(graph, category, {"s": SITES}).levels == {"s": SITES}
    with pytest.raises(ValueError, match="node 's' has 3 levels, but 2 names are given"):
        StructuralCausalModel(graph, category, {"s": ("x", "y")})
    with pytest.raises(ValueError, match="levels are given for 't', which is not a node"):
        StructuralCausalModel(graph, category, {"t": ("x", "y")})
    with pytest.raises(ValueError, match="a category with 1 levels"):
        CategoricalMechanism((0.0,))
    with pytest.raises(ValueError, match="2 rows of weights for 3 levels"):
        CategoricalMechanism((0.0, 0.0, 0.0), ((1.0,), (2.0,)))


def test_moments_of_noise():
    like, generator = torch.zeros(0, dtype=torch.float64), torch.Generator().manual_seed(0)
    for noise in (UniformNoise(), GaussianNoise(2.0), EmpiricalNoise(np.array([1.0, 2.0, 6.0]))):
        draws = noise.sample(40_000, like, generator)
        assert abs(float(draws.mean()) - noise.mean) < 5 * (noise.variance / 40_000) ** 0.5
        assert float(draws.var()) == pytest.approx(noise.variance, rel=0.05)
    assert UniformNoise().log_density(torch.tensor([0.5, 1.5])).tolist() == [0.0, -np.inf]
