from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from latentcause import CausalGraph
from latentcause.datasets import interventional_system, random_dag
from latentcause.datasets.interventional import random_orthonormal

FAMILIES = {
    "bounded": lambda z: np.tanh(3 * z + (3 * z) ** 3),
    "saturating": lambda z: 5 * np.tanh(3 * z / 5),
    "linear": lambda z: z,
    "literal": lambda z: np.tanh(3 * z) + (3 * z) ** 3,
}


@pytest.mark.parametrize("family", FAMILIES)
def test_mechanisms_are_weighted_sums_of_the_familys_function(family):
    graph = CausalGraph.from_string("a -> c; b -> c")
    system = interventional_system(graph, family=family, n_measurements=5, seed=1)
    parents = np.random.default_rng(2).normal(size=(40, 2))
    mean = system.baseline.mechanisms["c"].mean(torch.from_numpy(parents)).numpy()
    features = FAMILIES[family](parents)
    weights, residual, *_ = np.linalg.lstsq(features, mean, rcond=None)
    assert residual.sum() < 1e-16 * np.square(mean).sum()
    assert (np.abs(weights) <= 1).all()
    assert system.baseline.mechanisms["c"].variance == 4.0
    assert float(system.baseline.mechanisms["a"].mean(torch.zeros(1, 0))) == 0.0


def test_weights_are_uniform_between_minus_one_and_one():
    graph = random_dag(40, average_degree=20, seed=0)
    system = interventional_system(graph, family="linear", n_measurements=40, seed=3)
    weights = np.concatenate([mechanism.weights for mechanism in system.baseline.mechanisms.values()])
    assert np.abs(weights).max() <= 1
    assert abs(weights.mean()) < 5 * np.sqrt(1 / 3 / len(weights))
    assert weights.var() == pytest.approx(1 / 3, rel=0.2)


@pytest.mark.parametrize("family", ["bounded", "saturating", "linear"])
def test_kinds_of_intervention(family):
    def system(kind: str):
        return interventional_system(3, family=family, intervention=kind, n_measurements=3, seed=4)

    parents = torch.tensor([[-1.0], [0.5], [2.0]], dtype=torch.float64)
    baseline = system("hard").baseline.mechanisms["z2"]
    hard, shift, variance = (system(kind).intervened["z2"] for kind in ("hard", "shift", "variance"))
    assert torch.equal(hard.mean(parents), torch.full((3,), 10.0, dtype=torch.float64))
    assert hard.variance == 1.0
    assert torch.allclose(shift.mean(parents), baseline.mean(parents) + 10)
    assert shift.variance == 4.0
    assert torch.allclose(variance.mean(parents), baseline.mean(parents))
    assert variance.variance == 1.0


def test_only_targets_change_their_mechanism():
    system = interventional_system(4, n_measurements=4, seed=5)
    scm = system.scm(["z2", "z4"])
    assert scm.mechanisms["z2"] == system.intervened["z2"]
    assert scm.mechanisms["z4"] == system.intervened["z4"]
    assert scm.mechanisms["z3"] is system.baseline.mechanisms["z3"]
    assert system.scm("z2").mechanisms["z2"] == system.intervened["z2"]


def test_measurements_are_loadings_times_latents_plus_isotropic_noise():
    system = interventional_system(3, n_measurements=30, noise_variance=0.5, scales=[1.0, 2.0, 0.5], seed=6)
    sample = system.sample(2000, seed=7)
    x = next(sample.data.batches())[2]
    noise = x - sample.latents @ system.loadings.T
    assert noise.var() == pytest.approx(0.5, rel=5 * np.sqrt(2 / noise.size))
    assert np.abs(np.corrcoef(noise.T) - np.eye(30)).max() < 5 / np.sqrt(len(x))
    assert np.allclose(system.loadings.T @ system.loadings, np.diag([1.0, 4.0, 0.25]))


@given(st.integers(1, 8), st.integers(0, 6), st.integers(0, 2**32))
def test_random_loadings_are_orthonormal(columns, more, seed):
    matrix = random_orthonormal(columns + more, columns, np.random.default_rng(seed))
    assert np.allclose(matrix.T @ matrix, np.eye(columns), atol=1e-12)


def test_random_loadings_have_no_preferred_direction():
    rng = np.random.default_rng(8)
    draws = np.stack([random_orthonormal(3, 2, rng) for _ in range(4000)])
    assert np.abs(draws.mean(0)).max() < 5 * np.sqrt(1 / 3 / 4000)


def test_domains_and_targets_of_a_sample():
    system = interventional_system(3, n_measurements=6, seed=9)
    default = system.sample(20, seed=10)
    assert default.data.targets == {"do(z1)": ("z1",), "do(z2)": ("z2",), "do(z3)": ("z3",)}
    chosen = system.sample(20, {"rest": [], "both": ["z3", "z1"], "one": "z2"}, seed=10)
    assert chosen.data.targets == {"rest": (), "both": ("z3", "z1"), "one": ("z2",)}
    assert chosen.latents.shape == (60, 3)
    assert chosen.data.n_samples == 60
    both = chosen.latents[chosen.data.domain_index == 1]
    assert np.allclose(both[:, [0, 2]].mean(0), 10, atol=5 / np.sqrt(20))


def test_seeds_decide_systems_and_samples():
    def draw(system_seed: int, sample_seed: int) -> np.ndarray:
        return interventional_system(3, n_measurements=5, seed=system_seed).sample(10, seed=sample_seed).latents

    assert np.array_equal(draw(1, 2), draw(1, 2))
    assert not np.array_equal(draw(1, 2), draw(1, 3))
    assert not np.array_equal(draw(1, 2), draw(2, 2))
    # The random weights do not depend on the kind of intervention or of function.
    loadings = [
        interventional_system(3, family=family, intervention=kind, n_measurements=5, seed=1).loadings
        for family, kind in (("linear", "hard"), ("bounded", "shift"), ("saturating", "variance"))
    ]
    assert np.array_equal(loadings[0], loadings[1])
    assert np.array_equal(loadings[0], loadings[2])


def test_the_literal_equation_is_refused_beyond_its_depth_with_the_reason():
    with pytest.raises(ValueError, match=r"on a path of 3 edges: every edge cubes the value, .* float64 holds nothing"):
        interventional_system(4, family="literal", seed=0)
    shallow = CausalGraph.from_string("a -> c; b -> c; c -> d; a -> d")  # four nodes, two edges deep
    sample = interventional_system(shallow, family="literal", n_measurements=4, seed=0).sample(50, seed=1)
    assert np.isfinite(sample.latents).all()


def test_systems_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match=r"unknown family 'cubic': choose one of \['bounded'"):
        interventional_system(3, family="cubic", seed=0)
    with pytest.raises(ValueError, match=r"unknown intervention 'firm': choose one of \['hard', 'shift', 'variance'\]"):
        interventional_system(3, intervention="firm", seed=0)
    with pytest.raises(ValueError, match="n_measurements=2 is below the 3 nodes"):
        interventional_system(3, n_measurements=2, seed=0)
    with pytest.raises(ValueError, match="scales has 2 entries for 3 nodes"):
        interventional_system(3, scales=[1.0, 2.0], seed=0)
    with pytest.raises(ValueError, match="target 'z9' is not a node of the graph"):
        interventional_system(3, n_measurements=4, seed=0).sample(5, {"a": ["z9"]}, seed=0)


@given(st.integers(1, 12), st.floats(0, 20), st.integers(0, 2**32))
def test_random_dags_follow_the_order_of_their_nodes(n, degree, seed):
    graph = random_dag(n, degree, seed=seed)
    assert graph.nodes == tuple(f"z{j + 1}" for j in range(n))
    assert all(graph.index(cause) < graph.index(effect) for cause, effect in graph.edges)
    assert graph == random_dag(n, degree, seed=seed)


def test_random_dags_have_the_average_degree():
    degrees = [2 * len(random_dag(20, 3.0, seed=seed).edges) / 20 for seed in range(100)]
    assert np.mean(degrees) == pytest.approx(3.0, abs=0.25)
    assert len(random_dag(6, 100.0, seed=0).edges) == 15
    assert not random_dag(6, 0.0, seed=0).edges
