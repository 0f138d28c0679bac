from __future__ import annotations

import numpy as np
import pytest

from latentcause import CausalGraph, MultiDomainData
from latentcause.datasets import interventional_system
from latentcause.metrics import align_columns, frobenius_error
from latentcause.models.interventional_gaussian import (
    DomainMoments,
    GaussianFit,
    InterventionalGaussian,
    find_contexts,
)
from latentcause.models.subspace import Subspace

LARGE = 0.15
"""Radians. At the maximum of a likelihood that is flat but for sampling noise the information is small, never zero."""


def fit_to(
    data: MultiDomainData, graph: CausalGraph, noise: float, *, restarts: int = 8, **settings
) -> tuple[GaussianFit, Subspace]:
    subspace = Subspace.principal(data, len(graph))
    moments = DomainMoments.of(subspace.coordinates, data.domain_index, len(data.domains))
    model = InterventionalGaussian(graph, data.indicator(graph), moments, noise, **settings)
    return model.fit(restarts=restarts), subspace


def linear_sample(n: int, seed: int, intervention: str = "hard"):
    system = interventional_system(3, family="linear", intervention=intervention, n_measurements=8, seed=1)
    return system.sample(n, {"none": [], "a": ["z1"], "b": ["z2"], "c": ["z3"]}, seed=seed)


def test_moments_are_those_of_each_domain():
    rng = np.random.default_rng(0)
    coordinates, domain = rng.normal(size=(60, 2)), rng.integers(0, 3, 60)
    moments = DomainMoments.of(coordinates, domain, 3)
    for e in range(3):
        group = coordinates[domain == e]
        assert float(moments.counts[e]) == len(group)
        assert np.allclose(moments.means[e], group.mean(0))
        assert np.allclose(moments.covariances[e], np.cov(group.T, bias=True))


def test_the_error_of_the_loadings_falls_like_one_over_n_and_its_estimate_says_so():
    errors = {}
    for n in (400, 3200):
        angles, claimed = [], []
        for seed in range(5):
            sample = linear_sample(n, seed)
            fit, subspace = fit_to(sample.data, sample.system.graph, 2.0, restarts=2)
            assert fit.converged
            assert np.allclose(np.linalg.norm(fit.mixing, axis=0), 1)
            found = subspace.basis @ fit.mixing
            aligned = align_columns(found, sample.system.loadings).loadings(found)
            inside = subspace.basis @ (
                subspace.basis.T @ sample.system.loadings
            )  # what the subspace leaves to be found
            angles.append(np.square(aligned - inside).sum(0))
            claimed.append(np.square(fit.column_errors))
        errors[n] = np.mean(angles, axis=0)
        ratio = np.sqrt(errors[n] / np.mean(claimed, axis=0))
        assert (ratio > 0.5).all()
        assert (ratio < 2.0).all()
    assert 4.0 < errors[400].sum() / errors[3200].sum() < 16.0


@pytest.mark.parametrize("intervention", ["shift", "variance"])
def test_soft_interventions_identify_the_loadings_too(intervention):
    sample = linear_sample(4000, 3, intervention)
    fit, subspace = fit_to(sample.data, sample.system.graph, 2.0, interventions="soft")
    error = frobenius_error(subspace.basis @ fit.mixing, sample.system.loadings)
    assert error < 6 * np.square(fit.column_errors).sum()
    assert error < {"shift": 0.01, "variance": 0.3}[intervention]  # a mean that moves tells more than a variance
    assert (fit.column_errors < 0.2).all()


def test_any_columns_of_norm_one_are_found_where_they_are_not_orthogonal():
    sample = linear_sample(4000, 4)
    rng = np.random.default_rng(5)
    loadings = np.linalg.qr(rng.normal(size=(8, 3)))[0] @ np.array([[1, 0.6, 0], [0, 0.8, 0.5], [0, 0, 0.75**0.5]])
    x = sample.latents @ loadings.T + np.sqrt(0.5) * rng.normal(size=(len(sample.latents), 8))
    data = MultiDomainData(x, np.array(sample.data.domains)[sample.data.domain_index], sample.data.targets)
    free, subspace = fit_to(data, sample.system.graph, 0.5, orthonormal=False)
    assert frobenius_error(subspace.basis @ free.mixing, loadings) < 0.02
    tied, _ = fit_to(data, sample.system.graph, 0.5)
    assert frobenius_error(subspace.basis @ tied.mixing, loadings) > 0.1


@pytest.mark.parametrize("seed", range(3))
def test_without_targets_and_with_equal_variances_nothing_is_identified(seed):
    rng = np.random.default_rng(seed)
    loadings = np.linalg.qr(rng.normal(size=(8, 3)))[0]
    x = 2 * rng.normal(size=(2000, 3)) @ loadings.T + rng.normal(size=(2000, 8))
    empty = CausalGraph.from_edges([], nodes=["z1", "z2", "z3"])
    fit, _ = fit_to(MultiDomainData(x, ["all"] * 2000, {"all": []}), empty, 1.0, restarts=2)
    assert (fit.column_errors > LARGE).all()


@pytest.mark.parametrize("seed", range(3))
def test_nodes_that_no_domain_tells_apart_are_those_with_large_errors(seed):
    # z1 and z2 are exchangeable, and only z3 is ever targeted.
    rng = np.random.default_rng(seed)
    loadings = np.linalg.qr(rng.normal(size=(8, 3)))[0]
    z = 2 * rng.normal(size=(2000, 3))
    z[1000:, 2] = 10 + rng.normal(size=1000)
    x = z @ loadings.T + rng.normal(size=(2000, 8))
    graph = CausalGraph.from_edges([], nodes=["z1", "z2", "z3"])
    data = MultiDomainData(x, np.repeat(["none", "c"], 1000), {"none": [], "c": ["z3"]})
    fit, subspace = fit_to(data, graph, 1.0, restarts=2)
    assert (fit.column_errors[:2] > LARGE).all()
    assert fit.column_errors[2] < 0.05
    assert abs(subspace.basis @ fit.mixing[:, 2] @ loadings[:, 2]) > 0.999


def test_a_chain_whose_last_nodes_are_easily_swapped_comes_out_in_order():
    system = interventional_system(4, family="bounded", seed=4)
    sample = system.sample(2000, seed=104)
    fit, subspace = fit_to(sample.data, system.graph, 2.0, restarts=16)
    cosines = np.abs((subspace.basis @ fit.mixing).T @ system.loadings)
    assert np.array_equal(cosines.argmax(1), np.arange(4))
    assert (cosines.diagonal() > 0.97).all()
    assert frobenius_error(subspace.basis @ fit.mixing, system.loadings) < 0.05


def test_the_same_seed_gives_the_same_fit():
    sample = linear_sample(300, 8)
    first, second = (fit_to(sample.data, sample.system.graph, 2.0)[0] for _ in range(2))
    assert np.array_equal(first.mixing, second.mixing)
    assert np.array_equal(first.column_errors, second.column_errors)


# --- contexts ------------------------------------------------------------------------------------------------------


def groups(graph: CausalGraph, indicator: np.ndarray, interventions: str, *, shared: bool) -> dict:
    contexts = find_contexts(graph, indicator, interventions, shared=shared)
    return {node: sorted((c.parents, c.domains) for c in contexts if c.node == j) for j, node in enumerate(graph.nodes)}


def test_shared_contexts_split_by_the_node_itself_and_local_ones_by_its_ancestors():
    chain = CausalGraph.chain(3)
    indicator = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=bool)
    assert groups(chain, indicator, "hard", shared=True) == {
        "z1": [((), (0, 2, 3)), ((), (1,))],
        "z2": [((), (2,)), ((0,), (0, 1, 3))],
        "z3": [((), (3,)), ((1,), (0, 1, 2))],
    }
    assert groups(chain, indicator, "hard", shared=False) == {
        "z1": [((), (0, 2, 3)), ((), (1,))],
        "z2": [((), (2,)), ((0,), (0, 3)), ((0,), (1,))],
        "z3": [((), (3,)), ((1,), (0,)), ((1,), (1,)), ((1,), (2,))],
    }


def test_soft_interventions_keep_their_parents():
    chain = CausalGraph.chain(2)
    indicator = np.array([[0, 0], [0, 1], [1, 1]], dtype=bool)
    assert groups(chain, indicator, "soft", shared=True)["z2"] == [((0,), (0,)), ((0,), (1, 2))]
    assert groups(chain, indicator, "soft", shared=False)["z2"] == [((0,), (0,)), ((0,), (1,)), ((0,), (2,))]
    assert groups(chain, indicator, "hard", shared=False)["z2"] == [((), (1, 2)), ((0,), (0,))]


@pytest.mark.parametrize("shared", [True, False])
def test_every_domain_is_in_one_context_of_every_node(shared):
    graph = CausalGraph.from_string("a -> c; b -> c; c -> d")
    indicator = np.random.default_rng(9).random((7, 4)) < 0.4
    for contexts in groups(graph, indicator, "hard", shared=shared).values():
        assert sorted(e for _, domains in contexts for e in domains) == list(range(7))
