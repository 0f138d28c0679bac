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
    DummyCoded,
    EmpiricalNoise,
    FunctionMechanism,
    GaussianNoise,
    KernelNoise,
    LinearMechanism,
)
from scm_systems import CLINIC, clinic, clinic_rows, linear_model

CHAIN = CausalGraph.chain(3)


@given(graphs(least=2, most=5), st.integers(0, 2**31))
def test_linear_mechanisms_are_those_of_least_squares(graph, seed):
    truth = linear_model(graph, seed)[0]
    rows = truth.sample(40, generator=seed)
    fitted = StructuralCausalModel.fit(graph, rows, noise="gaussian")
    for node, mechanism in fitted.mechanisms.items():
        columns = [graph.index(parent) for parent in graph.parents(node)]
        design = np.column_stack([np.ones(40), rows[:, columns]])
        wanted, *_ = np.linalg.lstsq(design, rows[:, graph.index(node)], rcond=None)
        assert np.allclose([mechanism.intercept, *mechanism.weights], wanted, atol=1e-8)
        residuals = rows[:, graph.index(node)] - design @ wanted
        assert np.isclose(mechanism.variance, np.mean(residuals**2))


def test_noise_is_made_of_centred_residuals():
    rows = linear_model(CHAIN, seed=0)[0].sample(200, generator=0)
    kinds = {"empirical": EmpiricalNoise, "gaussian": GaussianNoise, "kernel": KernelNoise}
    for name, kind in kinds.items():
        fitted = StructuralCausalModel.fit(CHAIN, rows, noise=name)
        for mechanism in fitted.mechanisms.values():
            assert isinstance(mechanism.noise, kind)
            assert abs(mechanism.noise.mean) < 1e-12
    empirical = StructuralCausalModel.fit(CHAIN, rows)
    parents = torch.tensor(rows[:, :1])
    residuals = empirical.mechanisms["z2"].abduct(torch.tensor(rows[:, 1]), parents)
    assert np.allclose(residuals, empirical.mechanisms["z2"].noise.values)


def test_a_fitted_model_of_numbers_and_categories_is_close_to_the_truth():
    fitted = StructuralCausalModel.fit(CLINIC, clinic_rows(20_000, seed=0).assign(extra="ignored"), noise="gaussian")
    assert fitted.levels == {"site": ("a", "b", "c"), "treated": (False, True)}
    ages = torch.tensor([[30.0], [50.0], [70.0]], dtype=torch.float64)
    wanted = clinic().mechanisms["site"].probabilities(ages)
    assert torch.allclose(fitted.mechanisms["site"].probabilities(ages), wanted, atol=0.03)
    treated = fitted.mechanisms["treated"]
    assert isinstance(treated, DummyCoded)
    assert isinstance(treated.mechanism, CategoricalMechanism)
    parents = torch.tensor([[50.0, 0], [50.0, 1], [70.0, 2]], dtype=torch.float64)
    wanted = clinic().mechanisms["treated"].mechanism.probabilities(treated.expand(parents))
    assert torch.allclose(treated.mechanism.probabilities(treated.expand(parents)), wanted, atol=0.03)
    assert np.allclose(fitted.mechanisms["pain"].mechanism.weights, [0.1, 1.0, -2.0, -3.0], atol=0.05)


def test_a_logit_has_the_largest_likelihood():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 2))
    level = (x @ rng.normal(size=(2, 3)) + rng.gumbel(size=(300, 3))).argmax(1)
    frame = pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "c": pd.Categorical(np.array(["u", "v", "w"])[level])})
    graph = CausalGraph.from_string("a -> c; b -> c")
    mechanism = StructuralCausalModel.fit(graph, frame).mechanisms["c"]
    intercepts = torch.tensor(mechanism.intercepts, dtype=torch.float64, requires_grad=True)
    weights = torch.tensor(mechanism.weights, dtype=torch.float64, requires_grad=True)
    logits = intercepts + torch.tensor(x) @ weights.T
    torch.nn.functional.cross_entropy(logits, torch.tensor(level)).backward()
    assert intercepts.grad.abs().max() < 1e-6
    assert weights.grad.abs().max() < 1e-6


def test_a_category_without_parents_has_the_shares_of_its_levels_also_of_one_that_never_occurs():
    frame = pd.DataFrame({"s": pd.Categorical(["a"] * 3 + ["c"] * 7, categories=["a", "b", "c"])})
    mechanism = StructuralCausalModel.fit(CausalGraph(("s",)), frame).mechanisms["s"]
    assert np.allclose(mechanism.probabilities(torch.zeros(1, 0, dtype=torch.float64)), [[0.3, 0.0, 0.7]])


def test_levels_that_parents_tell_apart_are_warned_of():
    x = np.linspace(-1, 1, 40)
    frame = pd.DataFrame({"x": x, "s": np.where(x > 0, "high", "low")})
    with pytest.warns(RuntimeWarning, match="the parents of node 's' tell its levels apart without error"):
        fitted = StructuralCausalModel.fit(CausalGraph.from_string("x -> s"), frame)
    probabilities = fitted.mechanisms["s"].probabilities(torch.tensor([[-0.5], [0.5]], dtype=torch.float64))
    assert torch.allclose(probabilities, torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64), atol=1e-4)


def test_the_settings_of_a_fit_are_kept():
    rows = linear_model(CHAIN, seed=0)[0].sample(30, generator=0)
    fitted = StructuralCausalModel.fit(CHAIN, rows, noise="kernel", seed=4)
    assert fitted.settings.kinds == dict.fromkeys(CHAIN.nodes, "linear")
    assert (fitted.settings.noise, fitted.settings.seed) == ("kernel", 4)
    assert fitted.replace({"z1": LinearMechanism()}).settings is None


def test_data_that_do_not_determine_a_model_are_refused():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 30))
    graph = CausalGraph.from_string("a -> d; b -> d; c -> d")
    frame = pd.DataFrame({"a": x, "b": y, "c": x - 2 * y, "d": rng.normal(size=30)})
    with pytest.raises(ValueError, match=r"the parents \['a', 'b', 'c'\] of node 'd' are collinear"):
        StructuralCausalModel.fit(graph, frame)
    with pytest.raises(ValueError, match="lack column 'd'"):
        StructuralCausalModel.fit(graph, frame[["a", "b", "c"]])
    with pytest.raises(ValueError, match="column 'a' is constant"):
        StructuralCausalModel.fit(graph, frame.assign(a=1.0))
    with pytest.raises(ValueError, match="columns 'a' and 'c' are copies of each other"):
        StructuralCausalModel.fit(graph, frame.assign(c=frame["a"]))
    with pytest.raises(ValueError, match="category 'a' has one level"):
        StructuralCausalModel.fit(graph, frame.assign(a="one"))
    with pytest.raises(ValueError, match="3 rows for 4 columns"):
        StructuralCausalModel.fit(graph, frame[:3])
    with pytest.raises(ValueError, match="missing or infinite values in column 'b'"):
        StructuralCausalModel.fit(graph, frame.assign(b=np.nan))


def test_collinear_parents_of_a_category_are_refused():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 30))
    frame = pd.DataFrame({"a": x, "b": y, "c": x + y, "d": np.where(rng.normal(size=30) > 0, "u", "v")})
    with pytest.raises(ValueError, match=r"the parents \['a', 'b', 'c'\] of node 'd' are collinear"):
        StructuralCausalModel.fit(CausalGraph.from_string("a -> d; b -> d; c -> d"), frame)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mechanisms": "cubic"}, "unknown kind of mechanism 'cubic' for node 'age': choose one of"),
        ({"mechanisms": {"pain": "cubic"}}, "unknown kind of mechanism 'cubic' for node 'pain'"),
        ({"mechanisms": {"weight": "linear"}}, "mechanisms names 'weight', which is not a node"),
        ({"mechanisms": {"site": "linear"}}, "node 'site' is a category and gets a multinomial logit"),
        ({"noise": "pink"}, "unknown noise 'pink': choose one of"),
    ],
)
def test_settings_that_do_not_exist_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        StructuralCausalModel.fit(CLINIC, clinic_rows(50, seed=0), **options)


def test_log_density_is_that_of_the_joint_normal():
    graph = CausalGraph.from_string("a -> b; a -> c; b -> d; c -> d")
    scm, B, intercepts, variances = linear_model(graph, seed=3)
    rows = scm.sample(5, generator=0)
    response = np.linalg.inv(np.eye(4) - B)
    normal = torch.distributions.MultivariateNormal(
        torch.tensor(response @ intercepts), torch.tensor(response @ np.diag(variances) @ response.T)
    )
    assert np.allclose(scm.log_density(rows), normal.log_prob(torch.tensor(rows)))


def test_log_density_under_do_is_the_truncated_factorisation():
    scm = linear_model(CHAIN, seed=3)[0]
    rows = scm.sample(4, do={"z2": 1.0}, generator=0)
    rows[3, 1] = 2.0
    columns = torch.tensor(rows)
    wanted = scm.mechanisms["z1"].log_density(columns[:, 0], columns[:, :0])
    wanted = wanted + scm.mechanisms["z3"].log_density(columns[:, 2], columns[:, 1:2])
    wanted[3] = -np.inf
    assert np.allclose(scm.log_density(rows, do={"z2": 1.0}), wanted)
    from latentcause.scm import Shift

    shifted = rows - [0.0, 0.7, 0.0]
    by_shift = scm.log_density(rows, do={"z2": Shift(0.7)}) - scm.log_density(shifted)
    z3 = scm.mechanisms["z3"]
    moved = z3.log_density(columns[:, 2], columns[:, 1:2]) - z3.log_density(columns[:, 2], columns[:, 1:2] - 0.7)
    assert np.allclose(by_shift, moved)
    own = LinearMechanism((), 0.0, 1.0)
    replaced = scm.replace({"z2": own})
    assert np.allclose(scm.log_density(rows, do={"z2": own}), replaced.log_density(rows))


def test_probabilities_of_categories_count_into_the_density():
    frame = clinic_rows(3, seed=0)
    scm = clinic()
    values = torch.tensor(scm.read(frame).values)
    wanted = sum(
        scm.mechanisms[node].log_density(values[:, j], values[:, [scm.graph.index(p) for p in scm.graph.parents(node)]])
        for j, node in enumerate(scm.graph.nodes)
    )
    assert np.allclose(scm.log_density(frame), wanted)


def test_nodes_without_a_density_are_named():
    rows = linear_model(CHAIN, seed=0)[0].sample(30, generator=0)
    with pytest.raises(ValueError, match="node 'z1' has no density: empirical noise has no density"):
        StructuralCausalModel.fit(CHAIN, rows).log_density(rows)
    exact = StructuralCausalModel(CausalGraph.chain(1), {"z1": FunctionMechanism(lambda z: z.sum(-1), 0.0)})
    with pytest.raises(ValueError, match="Gaussian noise of variance 0 has no density"):
        exact.log_density(np.zeros((1, 1)))


def test_frames_name_columns_and_levels():
    frame = clinic_rows(4, seed=0)
    assert list(frame.columns) == list(CLINIC.nodes)
    assert frame["treated"].dtype == bool
    assert list(frame["site"].cat.categories) == ["a", "b", "c"]
    assert np.array_equal(clinic().read(frame).values, clinic().sample(4, generator=0))
