"""What the estimated errors of a posterior say where the true ones are known."""

import pytest
import torch

from latentcause import SVGDM, CausalGraph, GriddedObservations
from latentcause.datasets import random_field_system
from latentcause.observation import Observation, identity

SYSTEM = random_field_system(3, 3, sites=2, seed=0)
TRUTH, OBSERVED = SYSTEM.observe("all", torch.Generator().manual_seed(0))


def exact(steps: int = 64) -> SVGDM:
    model = SVGDM(SYSTEM.graph, SYSTEM.fields, scores="exact", form="sites", steps=steps, device="cpu")
    return model.fit(OBSERVED)


def test_exact_scores_show_no_error_but_that_of_steps():
    tables = {steps: exact(steps).error_budget(128, generator=0) for steps in (12, 36)}
    for table in tables.values():
        assert list(table.index) == ["discretisation", "score", "local Gaussian", "Tweedie", "entropy"]
        assert table["size"]["score"] < 0.1
        assert table["size"]["local Gaussian"] < 0.1
        assert table["size"]["Tweedie"] < 0.1
    assert tables[36]["size"]["discretisation"] < 0.5 * tables[12]["size"]["discretisation"]


def test_a_score_that_misses_a_mechanism_shows():
    """z2 = z1^2 + noise is uncorrelated with z1: Gaussian moments know nothing of it."""
    graph = CausalGraph.from_edges([("z1", "z2")])
    z1, noise = torch.randn(2, 3000, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    z = torch.stack([z1, z1.square() + 0.3 * noise], 1)
    seen = GriddedObservations(graph, (4,), {"z1": Observation([1.0, -1.0, 0.0, 2.0], identity((4,)), noise=0.3)})
    model = SVGDM(graph, z, scores="gaussian", form="sites", steps=16, device="cpu").fit(seen)
    table = model.error_budget(256, generator=0)
    assert table["size"]["score"] > 0.25
    assert table["nats per coordinate"]["score"] == pytest.approx(table["size"]["score"] ** 2 / 2)
    assert table["size"]["local Gaussian"] > 0.2


def test_the_bound_is_the_evidence_where_everything_is_exact():
    bound, error = exact(32).elbo(32, generator=0, steps=25)
    covariance = SYSTEM.fields.covariance()
    values, noise = OBSERVED.values, OBSERVED.noise_variance
    evidence = torch.distributions.MultivariateNormal(torch.zeros(6).double(), covariance + noise.diag())
    truth = float(evidence.log_prob(values))
    assert error < 0.8
    assert abs(bound - truth) < 4 * error


def test_too_few_draws_are_refused():
    with pytest.raises(ValueError, match="n is 8: give at least 16"):
        exact().error_budget(8, generator=0)
    with pytest.raises(ValueError, match="n is 1: give at least 2"):
        exact().elbo(1, generator=0)
