from __future__ import annotations

import numpy as np
import pytest

from latentcause import CausalGraph
from latentcause.datasets import interventional_system
from latentcause.metrics import bayes_optimal_latents, relative_mse


def test_in_the_linear_family_the_limit_is_the_gaussian_posterior_mean():
    system = interventional_system(4, family="linear", n_measurements=8, scales=[0.5, 1.0, 2.0, 1.0], seed=0)
    sample = system.sample(40, {"none": [], "first": ["z1"], "two": ["z2", "z4"]}, seed=1)
    x = next(sample.data.batches())[2]
    expected = np.empty_like(sample.latents)
    for e, targets in enumerate(sample.data.targets.values()):
        mechanisms = system.scm(targets).mechanisms.values()
        B = np.zeros((4, 4))
        for j, mechanism in enumerate(mechanisms):
            if mechanism.weights:
                B[j, j - 1] = mechanism.weights[0]
        response = np.linalg.inv(np.eye(4) - B)
        mean = response @ [mechanism.intercept for mechanism in mechanisms]
        prior = response @ np.diag([mechanism.variance for mechanism in mechanisms]) @ response.T
        A = system.loadings
        gain = prior @ A.T @ np.linalg.inv(A @ prior @ A.T + 2.0 * np.eye(8))
        rows = sample.data.domain_index == e
        expected[rows] = mean + (x[rows] - A @ mean) @ gain.T
    assert np.allclose(bayes_optimal_latents(sample), expected, atol=1e-5)


@pytest.mark.parametrize("family", ["bounded", "saturating", "linear"])
@pytest.mark.parametrize("intervention", ["hard", "shift", "variance"])
def test_no_other_estimate_has_a_smaller_error(family, intervention):
    system = interventional_system(3, family=family, intervention=intervention, n_measurements=10, seed=2)
    sample, other = system.sample(1500, seed=3), system.sample(1500, seed=4)
    limit = relative_mse(bayes_optimal_latents(sample), sample.latents)
    raw = next(sample.data.batches())[2] @ system.loadings
    wiener = np.empty_like(raw)  # the best linear estimate of every domain, from the true latents of other samples
    for e in range(3):
        rows = other.data.domain_index == e
        design = np.column_stack([next(other.data.batches())[2][rows] @ system.loadings, np.ones(rows.sum())])
        weights = np.linalg.lstsq(design, other.latents[rows], rcond=None)[0]
        rows = sample.data.domain_index == e
        wiener[rows] = np.column_stack([raw[rows], np.ones(rows.sum())]) @ weights
    slack = 1.002 if family == "linear" else 1.0  # there the two are the same, up to the error of the regression
    assert 0 < limit < slack * relative_mse(wiener, sample.latents)
    assert limit < relative_mse(raw, sample.latents)


def test_rows_of_a_domain_are_estimated_alike_whatever_the_others_are():
    system = interventional_system(3, family="saturating", n_measurements=10, seed=4)
    both = system.sample(400, {"a": ["z1"], "b": ["z3"]}, seed=5)
    limit = bayes_optimal_latents(both)
    rows = np.r_[0:200, 500:700]
    part = type(both)(both.data.subset(rows), both.latents[rows], system)
    assert np.allclose(bayes_optimal_latents(part), limit[rows], atol=1e-4)


def test_graphs_that_are_no_forests_are_refused_by_node():
    system = interventional_system(CausalGraph.from_string("a -> c; b -> c"), n_measurements=4, seed=0)
    with pytest.raises(
        ValueError, match="node 'c' has several parents: the Bayes-optimal limit is computed on forests"
    ):
        bayes_optimal_latents(system.sample(5, seed=0))
