"""Exact posterior draws, against the closed form."""

import numpy as np
import pytest
import torch

from latentcause import GriddedObservations
from latentcause.datasets import three_fields
from latentcause.fields import JointGaussian, conditioned_draws
from latentcause.observation import BernoulliError, CorrelatedError, LogNormalError, Observation, identity

SYSTEM = three_fields((16,))


@pytest.mark.parametrize("scenario", ["VFO", "LPO", "child"])
def test_draws_have_the_moments_of_the_posterior(scenario):
    _, observations = SYSTEM.observe(scenario, torch.Generator().manual_seed(0))
    z = conditioned_draws(SYSTEM.fields.joint("dense"), observations, 6000, torch.Generator().manual_seed(1))
    mean, covariance = SYSTEM.fields.posterior(observations)
    sd = covariance.diagonal().sqrt()
    assert ((z.mean(0) - mean).flatten() / sd).abs().max() < 4.5 / 6000**0.5
    correlation = torch.cov(z.flatten(1).mT) / sd[:, None] / sd
    torch.testing.assert_close(correlation, covariance / sd[:, None] / sd, atol=0.08, rtol=0)


def test_noise_is_drawn_as_each_sensor_has_it():
    root = torch.tril(torch.ones(4, 4, dtype=torch.float64))
    sensors = {
        "z1": Observation(torch.zeros(16), identity((16,)), noise=0.5),
        "z2": [
            Observation(torch.ones(16), identity((16,)), noise=LogNormalError(0.3)),
            Observation(torch.zeros(4), identity((16,)).rows(np.arange(4)), noise=CorrelatedError(root @ root.mT)),
        ],
    }
    observations = GriddedObservations(SYSTEM.graph, (16,), sensors)
    e = observations.noise_draws(20_000, torch.Generator().manual_seed(0))
    wanted = observations.noise_times(torch.eye(36, dtype=torch.float64))
    torch.testing.assert_close(torch.cov(e.mT), wanted, atol=0.15, rtol=0)
    assert e.mean(0).abs().max() < 0.08


def test_a_solver_that_ends_early_says_so():
    _, observations = SYSTEM.observe("child", torch.Generator().manual_seed(0))
    with pytest.warns(UserWarning, match="after 1 passes a draw is solved to"):
        conditioned_draws(SYSTEM.fields.joint("dense"), observations, 4, torch.Generator().manual_seed(1), passes=1)


def test_other_noise_is_refused():
    seen = GriddedObservations(SYSTEM.graph, (16,), {"z1": Observation(torch.ones(16), noise=BernoulliError())})
    with pytest.raises(ValueError, match="linear operators and Gaussian noise"):
        conditioned_draws(
            JointGaussian.dense(torch.zeros(3, 16), torch.eye(48)), seen, 2, torch.Generator().manual_seed(0)
        )
