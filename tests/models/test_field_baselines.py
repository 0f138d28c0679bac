"""Other ways to the posterior of fields, against the exact one of a linear-Gaussian system."""

import importlib.util

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError

from latentcause import CausalGraph, GriddedObservations
from latentcause.datasets import random_field_system, three_fields
from latentcause.fields import JointGaussian, StructuralFields, White
from latentcause.models.baselines.fields import NUTS, NodeByNode, VariationalFields
from latentcause.models.baselines.fields.log_posterior import LogPosterior
from latentcause.observation import Observation, identity

needs_pyro = pytest.mark.skipif(importlib.util.find_spec("pyro") is None, reason="needs pyro-ppl (extra bench)")
GRAPH = CausalGraph.chain(2)
NOISES = {"z1": White(1.0), "z2": White(0.5)}
FIELDS = StructuralFields(GRAPH, {"z2": lambda z1: 0.8 * z1}, NOISES, (3,))
OBSERVED = GriddedObservations(GRAPH, (3,), {"z2": Observation([1.0, -0.5, 2.0], identity((3,)), noise=0.5)})


def exact() -> tuple[np.ndarray, np.ndarray]:
    """Means (2, 3) and covariance (2, 2) of each site."""
    prior = np.array([[1, 0.8], [0.8, 0.64 + 0.5]])
    gain = prior[:, 1] / (prior[1, 1] + 0.25)
    return np.outer(gain, [1.0, -0.5, 2.0]), prior - np.outer(gain, prior[1])


def moments(dataset) -> tuple[np.ndarray, np.ndarray]:
    z = np.stack([dataset[node] for node in ("z1", "z2")], 1)
    return z.mean(0), np.mean([np.cov(z[:, :, k].T) for k in range(3)], axis=0)


@needs_pyro
def test_nuts_draws_from_the_posterior():
    model = NUTS(GRAPH, FIELDS, warm_up=200).fit(OBSERVED)
    found = model.sample_posterior(1500, generator=0)
    assert found["z1"].shape == (1500, 3)
    mean, covariance = moments(found)
    np.testing.assert_allclose(mean, exact()[0], atol=0.12)
    np.testing.assert_allclose(covariance, exact()[1], atol=0.08)


def test_chains_start_where_bounded_noises_have_a_density():
    system = random_field_system(6, 8, "gamma", sites=8, seed=0)
    _, observations = system.observe("half", torch.Generator().manual_seed(0))
    target = LogPosterior(system.fields, observations, 0)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn((20, target.size), generator=generator, dtype=torch.float64)
    assert not torch.isfinite(target(drawn)).all()
    starts = torch.stack([target.start(generator) for _ in range(5)])
    assert torch.isfinite(target(starts)).all()


@needs_pyro
def test_nuts_with_bounded_noises():
    system = random_field_system(3, 3, "gamma", sites=4, seed=0)
    _, observations = system.observe("half", torch.Generator().manual_seed(0))
    found = NUTS(system.graph, system.fields, warm_up=50, chains=1).fit(observations).sample_posterior(20, generator=0)
    z = torch.from_numpy(np.stack([found[node].to_numpy() for node in system.graph.nodes], 1))
    assert torch.isfinite(system.fields.log_density(z)).all()


@needs_pyro
@pytest.mark.parametrize(("family", "steps"), [("full_rank", 600), ("mean_field", 600), ("black_box", 2000)])
def test_variational_families_find_their_best_gaussian(family, steps):
    model = VariationalFields(GRAPH, FIELDS, family=family, steps=steps, learning_rate=0.05, particles=64).fit(OBSERVED)
    mean, covariance = moments(model.sample_posterior(4000, generator=0))
    truth = exact()[1]
    np.testing.assert_allclose(mean, exact()[0], atol=0.15)
    if family != "full_rank":  # the best diagonal Gaussian has the variances of the conditionals
        truth = np.diag(1 / np.linalg.inv(truth).diagonal())
    np.testing.assert_allclose(covariance, truth, atol=0.1)
    assert np.mean(model.losses_[-50:]) < np.mean(model.losses_[:50])


@needs_pyro
def test_what_cannot_be_fitted_is_refused():
    with pytest.raises(ValueError, match="knows no density"):
        NUTS(GRAPH, torch.zeros(5, 2, 3)).fit(OBSERVED)
    with pytest.raises(ValueError, match="unknown family 'full'"):
        VariationalFields(GRAPH, FIELDS, family="full").fit(OBSERVED)
    for model in (NUTS(GRAPH, FIELDS), VariationalFields(GRAPH, FIELDS)):
        with pytest.raises(NotFittedError, match="call fit"):
            model.sample_posterior(1, generator=0)


def test_node_by_node_is_kriging():
    system = three_fields((16,))
    _, observations = system.observe("LFO", torch.Generator().manual_seed(0))
    model = NodeByNode(system.graph, system.fields, {"scores": "exact"}).fit(observations)
    found = model.sample_posterior(3000, generator=0)
    prior = system.fields.covariance().reshape(3, 16, 3, 16)
    for i, (node, observation) in enumerate(observations.per_node):
        a = torch.from_numpy(observation.operator.matrix.toarray())
        own = prior[i, :, i]
        gain = own @ a.mT @ torch.linalg.inv(a @ own @ a.mT + 0.04 * torch.eye(len(a)))
        sd = (own - gain @ a @ own).diagonal().sqrt().numpy()
        z, mean = found[node].to_numpy(), (gain @ torch.as_tensor(observation.values)).numpy()
        assert np.abs((z.mean(0) - mean) / sd).max() < 0.1
        assert np.mean(z.var(0) / sd**2) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("form", ["dense", "reflected", "torus", "sites"])
def test_unlinked_keeps_each_nodes_own_covariance_and_no_other(form):
    z = torch.randn(300, 2, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    z[:, 1] += z[:, 0]
    joint = JointGaussian.from_samples(z, form)
    alone = joint.unlinked()
    v = torch.randn(2, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for i in range(2):
        own = torch.zeros_like(v)
        own[i] = v[i]
        torch.testing.assert_close(alone.covariance_times(own)[i], joint.covariance_times(own)[i])
        assert alone.covariance_times(own)[1 - i].abs().max() < 1e-10
        assert joint.covariance_times(own)[1 - i].abs().max() > 0.1


def test_without_pyro_the_cure_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyro", None)
    with pytest.raises(ImportError, match=r"latentcause\[bench\]"):
        NUTS(GRAPH, FIELDS).fit(OBSERVED).sample_posterior(1, generator=0)
