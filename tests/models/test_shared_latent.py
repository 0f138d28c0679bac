"""Multimodal autoencoders of fields: their bounds against closed forms, missing views, and a posterior that is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from latentcause import CausalGraph, GriddedObservations
from latentcause.datasets import three_fields
from latentcause.models.baselines.fields import JMVAE, MMVAE, MoPoE, SharedLatent, SharedLatentNetwork
from latentcause.models.baselines.fields.experts import Gaussian, log_mixture, product
from latentcause.observation import FunctionOperator, GaussianError, LogNormalError, Observation, block_mean
from latentcause.posteriors import scores
from latentcause.training import seeded

KINDS = (JMVAE, MMVAE, MoPoE)
SUBSETS = {
    "singles": [(0,), (1,)],
    "all subsets": [(0,), (1,), (0, 1)],
}


def gaussian(seed: int, n: int = 3, k: int = 2) -> Gaussian:
    generator = torch.Generator().manual_seed(seed)
    mean = torch.randn(n, k, generator=generator, dtype=torch.float64)
    return Gaussian(mean, torch.rand(n, k, generator=generator, dtype=torch.float64) * 3 + 0.2)


def as_normal(q: Gaussian) -> Normal:
    return Normal(q.mean, q.precision.rsqrt())


def test_product_of_experts_is_the_normalised_product_of_densities() -> None:
    experts, u = [gaussian(1), gaussian(2), gaussian(3)], gaussian(4).mean
    found = product(experts)

    def unnormalised(at: Tensor) -> Tensor:
        own = [as_normal(e).log_prob(at) for e in experts]
        return -0.5 * at.square() + torch.stack(own).sum(0)

    ratio = as_normal(found).log_prob(u) - unnormalised(u)
    torch.testing.assert_close(ratio, as_normal(found).log_prob(u + 0.7) - unnormalised(u + 0.7))
    torch.testing.assert_close(found.log_density(u), as_normal(found).log_prob(u).sum(-1))


def test_product_is_the_posterior_of_views_that_are_independent_given_the_latent() -> None:
    loads, sd, y = torch.tensor([1.5, -0.7, 0.3]), torch.tensor([0.5, 0.8, 1.1]), torch.tensor([0.4, -1.0, 2.0])
    experts = [Gaussian((y / loads)[v].reshape(1, 1), (loads / sd)[v].square().reshape(1, 1)) for v in range(3)]
    precision = 1 + (loads / sd).square().sum()
    found = product(experts)
    assert float(found.precision) == pytest.approx(float(precision))
    assert float(found.mean) == pytest.approx(float((loads * y / sd.square()).sum() / precision))


def test_divergences_and_mixtures_are_those_of_torch() -> None:
    p, q, u = gaussian(5), gaussian(6), gaussian(7).mean
    torch.testing.assert_close(p.divergence(q), kl_divergence(as_normal(p), as_normal(q)).sum(-1))
    standard = Normal(torch.zeros_like(u), torch.ones_like(u))
    torch.testing.assert_close(p.divergence_from_prior(), kl_divergence(as_normal(p), standard).sum(-1))
    both = (as_normal(p).log_prob(u).sum(-1).exp() + as_normal(q).log_prob(u).sum(-1).exp()) / 2
    torch.testing.assert_close(log_mixture(u, [p, q]), both.log())


def linear_network(subsets: list, *, joint: bool = False, pull: float = 0.0, latents: int = 1) -> SharedLatentNetwork:
    """Affine encoders and decoder with random numbers: two views of 3 and 2 cells, 4 pixels, float64."""
    with seeded(0):
        network = SharedLatentNetwork([3, 2], 4, latents, 8, subsets, joint=joint, pull=pull).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "curved" not in name:
                parameter.copy_(0.7 * torch.randn(parameter.shape, generator=generator))
    return network


def rows(n: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    z, a, b = (torch.randn(n, size, generator=generator, dtype=torch.float64) for size in (4, 3, 2))
    return z, a, b


def expected(network: SharedLatentNetwork, z: Tensor, q: Gaussian) -> Tensor:
    """E_q[log p(z | u)] of a linear decoder, in closed form."""
    s2, w = network.log_noise.exp(), network.linear.weight
    misfit = (z - q.mean @ w.T - network.linear.bias).square() + (1 / q.precision) @ w.square().T
    return -0.5 * (misfit / s2 + s2.log() + math.log(2 * math.pi)).sum(-1)


@torch.no_grad()
def test_joint_bound_of_linear_networks_is_the_closed_form() -> None:
    network = linear_network([(0, 1)], joint=True, pull=0.3, latents=2)
    z, a, b = rows(2)
    n = 40_000
    batch = tuple(part.repeat(n, 1) for part in (z, a, b))
    noise = torch.randn(2 * n, 1, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    found = -network.negative_elbo((*batch, noise)).reshape(n, 2)
    encoder = network.joint_encoder
    assert encoder is not None
    mean, precision = torch.cat([a, b], 1) @ encoder.linear.weight.T + encoder.linear.bias, encoder.log_precision.exp()
    q = Gaussian(precision * mean / (1 + precision), (1 + precision).expand_as(mean))
    standard = Normal(torch.zeros(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64))
    closed = expected(network, z, q) - kl_divergence(as_normal(q), standard).sum(-1)
    for v, view in enumerate((a, b)):
        own = network.posterior((v,), [view if i == v else None for i in range(2)])
        closed = closed - 0.3 * kl_divergence(as_normal(q), as_normal(own)).sum(-1)
    assert ((found.mean(0) - closed).abs() < 5 * found.std(0) / n**0.5).all()


@torch.no_grad()
@pytest.mark.parametrize("subsets", SUBSETS.values(), ids=SUBSETS)
def test_bound_of_mixtures_is_the_closed_form(subsets: list) -> None:
    network = linear_network(subsets)
    z, a, b = rows(2)
    n = 40_000
    batch = tuple(part.repeat(n, 1) for part in (z, a, b))
    noise = torch.randn(2 * n, len(subsets), 1, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    found = -network.negative_elbo((*batch, noise)).reshape(n, 2)
    parts = [network.posterior(subset, [a, b]) for subset in subsets]
    grid = torch.linspace(-12, 12, 20_001, dtype=torch.float64)
    density = torch.stack([as_normal(q).log_prob(grid).exp() for q in parts]).mean(0)  # (2, grid)
    log_prior = -0.5 * (grid.square() + math.log(2 * math.pi))
    divergence = torch.trapezoid(density * (density.clamp(min=1e-300).log() - log_prior), grid)
    closed = torch.stack([expected(network, z, q) for q in parts]).mean(0) - divergence
    assert ((found.mean(0) - closed).abs() < 5 * found.std(0) / n**0.5).all()


@torch.no_grad()
@pytest.mark.parametrize("subsets", [[(0,)], [(0,), (0,)]], ids=["product", "mixture"])
def test_bound_is_the_evidence_where_the_encoder_is_exact(subsets: list) -> None:
    with seeded(0):
        network = SharedLatentNetwork([4], 4, 2, 8, subsets).double()
    w = torch.tensor([[1.0, 0.5], [0.5, -0.2], [-0.6, 0.1], [0.2, 0.4]], dtype=torch.float64)
    w = torch.linalg.qr(w)[0] * torch.tensor([1.3, 0.8])  # orthogonal, so that the posterior is diagonal
    s2 = torch.full((4,), 0.3, dtype=torch.float64)
    network.linear.weight.copy_(w)
    network.linear.bias.zero_()
    network.log_noise.copy_(s2.log())
    encoder = network.encoders[0]
    precision = (w.square() / s2[:, None]).sum(0)
    encoder.linear.weight.copy_((w / s2[:, None] / precision).T)  # type: ignore[union-attr, operator]
    encoder.linear.bias.zero_()  # type: ignore[union-attr, operator]
    encoder.log_precision.copy_(precision.log())  # type: ignore[union-attr, operator]
    z, n = rows(3)[0], 4000
    noise = torch.randn(3 * n, len(subsets), 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    bound = -network.negative_elbo((z.repeat(n, 1), z.repeat(n, 1), noise)).reshape(n, 3)
    evidence = MultivariateNormal(torch.zeros(4, dtype=torch.float64), w @ w.T + torch.diag(s2)).log_prob(z)
    if len(subsets) > 1:  # log p(z, u) - log q(u) is the evidence at every u
        torch.testing.assert_close(bound, evidence.expand_as(bound), rtol=1e-6, atol=1e-6)
    assert ((bound.mean(0) - evidence).abs() < 5 * bound.std(0) / n**0.5 + 1e-6).all()


def quick(kind: type[SharedLatent], **settings: int) -> SharedLatent:
    system = three_fields((16,))
    options = {"latents": 8, "hidden": 16, "draws": 1200, "epochs": 3, "device": "cpu"} | settings
    return kind(system.graph, system.fields, **options)


@pytest.mark.parametrize("kind", KINDS)
def test_posteriors_tell_more_than_the_prior_and_less_without_a_view(kind: type[SharedLatent]) -> None:
    system, generator = three_fields((16,)), torch.Generator().manual_seed(1)
    cases = [system.observe("VFO", generator) for _ in range(20)]
    model = quick(kind).fit(cases[0][1])
    assert model.views_ == ("z1", "z2", "z3")
    assert model.history_[-1]["held_out_elbo"] > model.history_[0]["held_out_elbo"] - 1
    found = {"all": 0.0, "without z1": 0.0, "prior": 0.0}
    for truth, observed in cases:
        draws = model.sample_posterior(60, generator=0, observations=observed)
        assert draws["z1"].shape == (60, 16)
        fewer = model.sample_posterior(60, generator=0, observations=observed.without("z1"))
        found["all"] += scores(draws, truth.numpy())["crps"]["z1"]
        found["without z1"] += scores(fewer, truth.numpy())["crps"]["z1"]
        found["prior"] += float(np.abs(truth[0].numpy()).mean()) - 1 / math.sqrt(math.pi)
        assert abs(float(draws["z1"].std("sample").mean()) - 0.6) < 0.45
    assert found["all"] < found["without z1"] < 20 * 0.6
    same = model.sample_posterior(5, generator=3)
    assert same.equals(model.sample_posterior(5, generator=torch.Generator().manual_seed(3)))


def test_a_linear_gaussian_posterior_is_met_by_the_mean() -> None:
    system, generator = three_fields((16,)), torch.Generator().manual_seed(2)
    cases = [system.observe("LFO", generator) for _ in range(10)]
    model = quick(JMVAE, latents=16, draws=3000, epochs=8).fit(cases[0][1])
    off = spread = 0.0
    for _, observed in cases:
        mean, covariance = system.fields.posterior(observed)
        draws = model.sample_posterior(400, generator=0, observations=observed)
        own = np.stack([draws[node] for node in system.graph.nodes], 1)
        sd = covariance.diagonal().sqrt().reshape(3, 16).numpy()
        off += float(np.abs((own.mean(0) - mean.numpy()) / sd).mean()) / 10
        spread += float((own.std(0) / sd).mean()) / 10
    assert off < 0.35  # of the posterior's sd
    assert 0.9 < spread < 1.6  # noise of the decoder counts what q leaves open once more


def test_log_normal_views_and_sensors_of_one_node_are_joined() -> None:
    graph = CausalGraph.chain(2)
    sensors = {
        "z1": [(block_mean((8,), 2), LogNormalError(0.2)), (block_mean((8,), 4), GaussianError(0.1))],
        "z2": [(FunctionOperator(lambda z: z**2, (8,)), GaussianError(0.1))],
    }
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(800, 2, 8, generator=generator, dtype=torch.float64)
    observed = GriddedObservations.simulate(graph, z[0], sensors, generator)
    model = MoPoE(graph, z, latents=4, hidden=8, epochs=2, device="cpu").fit(observed)
    assert model.network_.cells == [6, 8]
    assert np.isfinite(model.sample_posterior(3, generator=0)["z2"]).all()


def test_what_does_not_belong_together_is_refused() -> None:
    system, generator = three_fields((16,)), torch.Generator().manual_seed(0)
    _, observed = system.observe("VFO", generator)
    _, other = system.observe("LFO", generator)
    with pytest.raises(ValueError, match=r"fields have the shape \(3, 8\)"):
        JMVAE(system.graph, torch.zeros(50, 3, 8)).fit(observed)
    with pytest.raises(ValueError, match="the prior is a dict"):
        JMVAE(system.graph, {}).fit(observed)
    draws = torch.zeros(50, 3, 16)
    draws[3, 1, 2] = torch.nan
    with pytest.raises(ValueError, match="1 numbers of the prior's draws are not finite"):
        JMVAE(system.graph, draws).fit(observed)
    with pytest.raises(ValueError, match="latents is 60: give 1 to 48"):
        quick(MMVAE, latents=60).fit(observed)
    with pytest.raises(ValueError, match="pull is 0"):
        quick(JMVAE, pull=0).fit(observed)
    with pytest.raises(NotFittedError, match="this MoPoE is not fitted"):
        quick(MoPoE).sample_posterior(1, generator=0)
    nodes = CausalGraph.chain(9)
    many = {node: Observation([0.0], noise=1.0) for node in nodes.nodes}
    with pytest.raises(ValueError, match="9 observed nodes have 511 subsets"):
        MoPoE(nodes, torch.randn(50, 9, 1, generator=generator), latents=2).fit(GriddedObservations(nodes, (1,), many))
    model = quick(MMVAE, epochs=1, draws=200).fit(observed.without("z3"))
    with pytest.raises(ValueError, match="n is 0"):
        model.sample_posterior(0, generator=0)
    with pytest.raises(ValueError, match="node 'z3' was not observed in the fit"):
        model.sample_posterior(1, generator=0, observations=observed)
    with pytest.raises(ValueError, match="node 'z1' is observed by other sensors"):
        model.sample_posterior(1, generator=0, observations=other.without("z3"))
    noisier = {node: Observation(o.values, o.operator, 0.5) for node, o in observed.without("z3").per_node}
    with pytest.raises(ValueError, match="node 'z1' is observed by other sensors"):
        model.sample_posterior(1, generator=0, observations=GriddedObservations(system.graph, (16,), noisier))
    _, wider = three_fields((32,)).observe("VFO", generator)
    with pytest.raises(ValueError, match=r"the model is of fields \(16,\)"):
        model.sample_posterior(1, generator=0, observations=wider.without("z3"))
