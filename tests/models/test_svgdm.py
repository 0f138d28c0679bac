"""SVGDM against posteriors known in closed form."""

import numpy as np
import pytest
import torch
import torch._dynamo
from sklearn.exceptions import NotFittedError

from latentcause import SVGDM, CausalGraph, GriddedObservations
from latentcause.datasets import random_field_system, three_fields
from latentcause.fields import JointGaussian
from latentcause.models.field_scores import FieldScores
from latentcause.observation import Observation
from latentcause.training import seeded

SYSTEM = three_fields((16,))
SMALL = {"draws": 512, "epochs": 1, "channels": 4, "blocks": 1, "device": "cpu"}
NEGATIVE = r"in \d+\.\d% of the samples' steps the learned scores gave the fields a negative variance"


def observed(scenario="LFO", seed=0):
    return SYSTEM.observe(scenario, torch.Generator().manual_seed(seed))[1]


@pytest.fixture(scope="module")
def exact():
    return SVGDM(SYSTEM.graph, SYSTEM.fields, scores="exact", device="cpu").fit(observed())


@pytest.fixture(scope="module")
def learned():
    return SVGDM(SYSTEM.graph, SYSTEM.fields, steps=16, **SMALL).fit(observed())


def test_with_exact_scores_samples_have_the_exact_moments(exact):
    found = exact.sample_posterior(2000, generator=1)
    mean, covariance = SYSTEM.fields.posterior(observed())
    sd = covariance.diagonal().sqrt().reshape(3, 16).numpy()
    for i, node in enumerate(SYSTEM.graph.nodes):
        z = found[node].to_numpy()
        assert np.abs((z.mean(0) - mean[i].numpy()) / sd[i]).max() < 0.15
        assert np.mean(z.var(0, ddof=1) / sd[i] ** 2) == pytest.approx(1, abs=0.03)


def test_a_posterior_is_a_dataset_on_the_grid(exact):
    found = exact.sample_posterior(3, generator=2)
    assert list(found) == ["z1", "z2", "z3"]
    assert found["z1"].dims == ("sample", "x")
    np.testing.assert_array_equal(found["x"], np.arange(16) + 0.5)
    again = exact.sample_posterior(3, generator=torch.Generator().manual_seed(2))
    assert found.equals(again)
    other = exact.sample_posterior(3, generator=2, observations=observed("child"))
    assert not other.equals(found)


def test_learned_moments_come_near_the_exact_ones():
    model = SVGDM(SYSTEM.graph, SYSTEM.fields, scores="gaussian", draws=20_000, device="cpu").fit(observed())
    found, exact = model.joint_, SYSTEM.fields.joint("dense")
    for joint in (found, exact):
        assert joint.form == "dense"
    v = torch.randn(20, 3, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(found.covariance_times(v), exact.covariance_times(v), atol=0.35, rtol=0.05)


def test_networks_learn_what_is_not_gaussian():
    """z2 = z1^2: its mean given z1 is no linear function, and no Gaussian knows more than its variance."""
    graph = CausalGraph.from_edges([("z1", "z2")])
    z1 = torch.randn(4096, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    z = torch.stack([z1, z1.square()], 1)
    model = SVGDM(graph, z, form="sites", epochs=30, learning_rate=5e-3, channels=16, device="cpu")
    model.fit(GriddedObservations(graph, (4,), {"z1": Observation([2.0, -2.0, 0.0, 1.0], noise=0.1)}))
    with pytest.warns(UserWarning, match=NEGATIVE):  # z1 says all of z2: there is no variance left to be sure of
        z2 = model.sample_posterior(300, generator=0)["z2"].mean("sample").to_numpy()
    np.testing.assert_allclose(z2, [3.93, 3.93, 0.01, 0.99], atol=0.2)
    gaussian = SVGDM(graph, z, form="sites", scores="gaussian", device="cpu").fit(model.observations_)
    z2 = gaussian.sample_posterior(300, generator=0)["z2"].mean("sample").to_numpy()
    np.testing.assert_allclose(z2, 1, atol=0.3)


def test_networks_start_from_the_moments(learned):
    with seeded(0):
        scores = FieldScores(learned.joint_.to("cpu", torch.float32), SYSTEM.graph, "blanket", 4, 1)
    x, t = torch.randn(5, 3, 16, generator=torch.Generator().manual_seed(0)), torch.full((5,), 0.4)
    alpha, sigma = scores.gaussian.levels(x, 0.4)
    torch.testing.assert_close(scores(x, t), learned.joint_.denoise(x, alpha, sigma))
    assert len(learned.history_) == 1


def test_a_node_sees_only_what_it_may():
    graph = CausalGraph.chain(3)
    joint = JointGaussian.dense(torch.zeros(3, 8), torch.eye(24).double() + 0.5).to("cpu", torch.float32)
    with seeded(0):
        scores = FieldScores(joint, graph, "parents", 4, 2)
    generator = torch.Generator().manual_seed(0)
    for parameter in scores.parameters():
        parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    x = torch.randn(1, 3, 8, generator=generator).requires_grad_()
    for i, seen in enumerate(([0], [0, 1], [1, 2])):
        (gradient,) = torch.autograd.grad(scores(x, torch.tensor([0.3]))[:, i].sum(), x)
        assert [j for j in range(3) if gradient[:, j].abs().sum() > 0] == seen


@pytest.mark.parametrize("form", ["dense", "reflected", "torus", "sites"])
def test_variances_of_a_node_are_those_of_the_moments(form):
    z = torch.randn(400, 2, 6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    z[:, 1] *= 3
    joint = JointGaussian.from_samples(z, form)
    with seeded(0):
        scores = FieldScores(joint, CausalGraph.chain(2), "blanket", 4, 1)
    torch.testing.assert_close(scores.variance, torch.tensor([1.0, 9.0]).double(), rtol=0.1, atol=0)


def test_sites_do_not_see_each_other():
    system = random_field_system(4, 4, seed=0, sites=6)
    model = SVGDM(system.graph, system.fields, form="sites", **SMALL).fit(
        system.observe("all", torch.Generator().manual_seed(0))[1]
    )
    x = torch.randn(1, 4, 6, generator=torch.Generator().manual_seed(0)).requires_grad_()
    (gradient,) = torch.autograd.grad(model.scores_(x, torch.tensor([0.3]))[..., 2].sum(), x)
    assert gradient[..., 2].abs().sum() > 0
    assert gradient[..., [0, 1, 3, 4, 5]].abs().sum() == 0


class Folded(torch.nn.Module):
    """Scores whose derivative is negative wherever a field is below a level, as no variance is."""

    def __init__(self, level):
        super().__init__()
        self.level = level

    def forward(self, x_t, t):
        return 0.3 * (x_t - self.level).abs()


def test_scores_without_a_variance_are_told_of_with_their_share():
    model = SVGDM(SYSTEM.graph, SYSTEM.fields, steps=16, **SMALL).fit(observed())
    model.scores_ = Folded(0.0)
    with pytest.warns(UserWarning, match=NEGATIVE):
        model.sample_posterior(8, generator=0)
    model.scores_ = Folded(-1000.0)
    model.sample_posterior(8, generator=0)  # a warning would be an error


def test_scores_that_see_parents_alone_are_told_of():
    model = SVGDM(SYSTEM.graph, SYSTEM.fields, scores="exact", sees="parents", device="cpu").fit(observed())
    with pytest.warns(
        UserWarning, match=r"solved to \d+\.\d% only: scores that see parents alone .* use sees='blanket'"
    ):
        model.sample_posterior(2, generator=0)


# --- bad input -------------------------------------------------------------------------------------------------------


def test_bad_input_is_refused(exact):
    with pytest.raises(NotFittedError, match="call fit"):
        SVGDM(SYSTEM.graph, SYSTEM.fields).sample_posterior(2, generator=0)
    with pytest.raises(ValueError, match="n is 0"):
        exact.sample_posterior(0, generator=0)
    with pytest.raises(
        ValueError, match=r"the prior's fields have the shape \(3, 16\), the observations are of \(3, 32\)"
    ):
        exact.sample_posterior(2, generator=0, observations=three_fields((32,)).observe("LFO", torch.Generator())[1])
    with pytest.raises(ValueError, match="needs GaussianFields"):
        SVGDM(SYSTEM.graph, torch.zeros(9, 3, 16), scores="exact").fit(observed())
    with pytest.raises(ValueError, match="unknown scores 'known'"):
        SVGDM(SYSTEM.graph, SYSTEM.fields, scores="known").fit(observed())
    with pytest.raises(ValueError, match="the prior is a str"):
        SVGDM(SYSTEM.graph, "smooth").fit(observed())
    with pytest.raises(ValueError, match="the observations are of nodes"):
        SVGDM(CausalGraph.chain(2), SYSTEM.fields).fit(observed())
    with pytest.raises(ValueError, match="too few for form 'dense'"):
        SVGDM(SYSTEM.graph, SYSTEM.fields, draws=10).fit(observed())
    with pytest.raises(ValueError, match="a score sees one of"):
        SVGDM(SYSTEM.graph, SYSTEM.fields, scores="exact", sees="children").fit(observed()).sample_posterior(
            1, generator=0
        )
