"""Fitted linear-Gaussian systems: draws give back what they were made of, and no neighbour is likelier."""

from itertools import pairwise

import pytest
import torch

from latentcause import SVGDM, CausalGraph, GriddedObservations
from latentcause.fields import (
    GaussianFields,
    Matern,
    SquaredExponential,
    StructuralFields,
    White,
    fitted_fields,
    log_evidence,
)
from latentcause.observation import BernoulliError, GaussianError, Observation, block_mean, identity

GRAPH = CausalGraph.from_string("a -> b -> c; a -> c")
TRUTH = GaussianFields(
    GRAPH,
    {("a", "b"): 0.8, ("b", "c"): -0.5, ("a", "c"): 1.2},
    {"a": Matern(5.0, 2.0), "b": SquaredExponential(2.0, 0.3, nugget=0.01), "c": White(0.25)},
    (30, 36),
    {"a": 1.0, "c": -2.0},
)
ELSEWHERE = GaussianFields(
    GRAPH,
    dict.fromkeys(GRAPH.edges, 0.0),
    {"a": Matern(2.0, 0.5), "b": SquaredExponential(4.0, 1.0, nugget=0.01), "c": White(3.0)},
    (30, 36),
)


def test_draws_give_back_what_they_were_made_of():
    found = fitted_fields(ELSEWHERE, TRUTH.sample(40, torch.Generator().manual_seed(0)))
    for edge, weight in TRUTH.weights.items():
        assert found.weights[edge] == pytest.approx(weight, abs=0.02)
    for node, kernel in TRUTH.kernels.items():
        assert type(found.kernels[node]) is type(kernel)
        assert found.kernels[node].variance == pytest.approx(kernel.variance, rel=0.1)
    assert found.kernels["a"].length == pytest.approx(5, rel=0.05)
    assert found.kernels["b"].length == pytest.approx(2, rel=0.05)
    assert found.intercepts["c"] == pytest.approx(-2, abs=0.05)


def test_no_neighbour_is_likelier():
    """Sites: for white kernels the likelihood is exact, and the fit is least squares."""
    graph = CausalGraph.chain(2)
    start = GaussianFields(graph, {("z1", "z2"): 0.0}, {"z1": White(), "z2": White()}, (5,))
    z = torch.randn(30, 2, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    z[:, 1] += 0.7 * z[:, 0]
    found = fitted_fields(start, z)
    best = float(found.log_density(z).sum())
    for change in (-0.05, 0.05):
        weights = {("z1", "z2"): found.weights["z1", "z2"] + change}
        others = [
            GaussianFields(graph, weights, found.kernels, (5,), found.intercepts),
            GaussianFields(
                graph,
                found.weights,
                {**found.kernels, "z2": White(found.kernels["z2"].variance + change)},
                (5,),
                found.intercepts,
            ),
            GaussianFields(
                graph, found.weights, found.kernels, (5,), {**found.intercepts, "z1": found.intercepts["z1"] + change}
            ),
        ]
        assert all(float(other.log_density(z).sum()) < best for other in others)


def test_rounds_raise_the_evidence_and_come_near_the_truth():
    graph = CausalGraph.chain(2)
    truth = GaussianFields(graph, {("z1", "z2"): 0.8}, {"z1": Matern(4.0, 1.0), "z2": White(0.3)}, (20, 24))
    start = GaussianFields(graph, {("z1", "z2"): 0.0}, {"z1": Matern(2.0, 0.3), "z2": White(1.0)}, (20, 24))
    sensors = {"z1": [(identity((20, 24)), GaussianError(0.3))], "z2": [(block_mean((20, 24), 2), GaussianError(0.1))]}
    z = truth.sample(1, torch.Generator().manual_seed(0))[0]
    observations = GriddedObservations.simulate(graph, z, sensors, torch.Generator().manual_seed(1))

    def evidence(fields: GaussianFields) -> float:
        return log_evidence(fields.joint("reflected"), observations)

    found = [
        SVGDM(graph, start, scores="exact", rounds=rounds, device="cpu").fit(observations).prior_ for rounds in (2, 12)
    ]
    assert evidence(start) < evidence(found[0]) < evidence(found[1])
    assert found[1].weights["z1", "z2"] == pytest.approx(0.8, abs=0.12)
    assert found[1].kernels["z1"].length == pytest.approx(4, rel=0.4)


def coupled() -> tuple[GaussianFields, GriddedObservations]:
    """A start, and observations of a strong coupling, which plain rounds learn slowly."""
    graph, shape = CausalGraph.chain(2), (12, 14)
    truth = GaussianFields(graph, {("z1", "z2"): 2.0}, {"z1": Matern(4.0, 1.0), "z2": White(0.05)}, shape)
    sensors = {node: [(block_mean(shape, 2), GaussianError(0.3))] for node in graph.nodes}
    z = truth.sample(1, torch.Generator().manual_seed(0))[0]
    seen = GriddedObservations.simulate(graph, z, sensors, torch.Generator().manual_seed(1))
    return GaussianFields(graph, {("z1", "z2"): 0.0}, {"z1": Matern(2.0, 0.3), "z2": White(1.0)}, shape), seen


def test_accelerated_rounds_never_fall_and_are_ahead_of_plain_ones(monkeypatch):
    start, seen = coupled()

    def evidences(*rounds: int) -> list[float]:
        models = [SVGDM(start.graph, start, scores="exact", rounds=k, device="cpu") for k in rounds]
        return [log_evidence(model.fit(seen).prior_.joint("dense"), seen) for model in models]

    fast = evidences(1, 4, 10)
    assert all(after >= before for before, after in pairwise(fast))
    monkeypatch.setattr("latentcause.models.field_prior.MOST_CELLS", 0)
    plain = evidences(1, 16)
    assert fast[0] == pytest.approx(plain[0], rel=1e-10)  # nothing to go on from
    assert fast[2] > plain[1] > fast[1]


def test_the_evidence_is_the_density_of_the_observations():
    start, seen = coupled()
    unit = torch.eye(len(seen.values), dtype=torch.float64)
    a = seen.adjoint(unit).flatten(1)
    total = a @ start.covariance() @ a.mT + seen.noise_times(unit)
    law = torch.distributions.MultivariateNormal(a @ start.mean.flatten(), total)
    assert log_evidence(start.joint("dense"), seen) == pytest.approx(float(law.log_prob(seen.values)))
    refused = GriddedObservations(start.graph, (40, 40), {"z1": Observation(torch.zeros(40, 40), noise=1.0)})
    with pytest.raises(ValueError, match="the evidence of 1600 cells"):
        log_evidence(start.joint("dense"), refused)
    classes = GriddedObservations(
        start.graph, (12, 14), {"z1": Observation(torch.zeros(12, 14), noise=BernoulliError())}
    )
    with pytest.raises(ValueError, match="linear operators and Gaussian noise"):
        log_evidence(start.joint("dense"), classes)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match=r"draws of shape \(2, 3, 5\) for fields of \(n, 3, 30, 36\)"):
        fitted_fields(TRUTH, torch.zeros(2, 3, 5))
    with pytest.raises(ValueError, match="not finite"):
        fitted_fields(TRUTH, torch.full((2, 3, 30, 36), torch.nan))
    graph = CausalGraph.chain(2)
    prior = StructuralFields(graph, {"z2": torch.tanh}, {"z1": White(), "z2": White()}, (4,))
    seen = GriddedObservations.simulate(
        graph, torch.zeros(2, 4), {"z1": [(identity((4,)), GaussianError(1.0))]}, torch.Generator().manual_seed(0)
    )
    with pytest.raises(ValueError, match="rounds=3 fit a prior of GaussianFields, not a StructuralFields"):
        SVGDM(graph, prior, rounds=3, device="cpu").fit(seen)
    with pytest.raises(ValueError, match="rounds=-1: give 0 or more"):
        SVGDM(GRAPH, TRUTH, rounds=-1, device="cpu").fit(
            GriddedObservations.simulate(
                GRAPH,
                torch.zeros(3, 30, 36),
                {"a": [(identity((30, 36)), GaussianError(1.0))]},
                torch.Generator().manual_seed(0),
            )
        )
