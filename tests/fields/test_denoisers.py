"""Gaussian estimates of each node from the nodes that it may see."""

import pytest
import torch

from latentcause import CausalGraph
from latentcause.diffusion import Cosine, Denoiser
from latentcause.fields import GaussianFields, LocalDenoiser, Matern, White
from latentcause.fields.denoisers import seen_nodes

GRAPH = CausalGraph.from_string("a -> b -> c -> d; a -> c")


def denoiser(form: str, sees: str) -> LocalDenoiser:
    kernel = White() if form == "sites" else Matern(2.0, 1.0)
    fields = GaussianFields(GRAPH, dict.fromkeys(GRAPH.edges, 0.7), dict.fromkeys(GRAPH.nodes, kernel), (4, 5))
    return LocalDenoiser(fields.joint(form), GRAPH, sees, Cosine())


@pytest.mark.parametrize("sees", ["blanket", "parents"])
@pytest.mark.parametrize("form", ["dense", "reflected", "torus", "sites"])
def test_one_time_for_all_and_a_time_for_each_row_agree(form, sees):
    local = denoiser(form, sees)
    x, v = torch.randn(2, 3, 4, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for t in (0.8, 0.3, 0.8):  # back again: what is kept is of the last time
        (one, one_times), (rows, rows_times) = (
            local.linearised(x, when) for when in (t, torch.full((3,), t, dtype=torch.float64))
        )
        torch.testing.assert_close(one.data, rows.data, atol=1e-12, rtol=0)
        torch.testing.assert_close(one_times(v), rows_times(v), atol=1e-12, rtol=0)


def test_the_closed_form_is_the_derivative():
    local = denoiser("dense", "parents")  # whose derivative is not symmetric
    x, v = torch.randn(2, 2, 4, 4, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found, wanted = local.linearised(x, 0.5)[1](v), Denoiser.linearised(local, x, 0.5)[1](v)
    torch.testing.assert_close(found, wanted, atol=1e-12, rtol=0)
    assert (found - local.linearised(v, 0.5)[1](x)).abs().max() > 0.1


@pytest.mark.parametrize("sees", ["blanket", "parents"])
def test_a_score_is_the_marginal_term_and_that_of_causal_consistency(sees):
    """Paper 000, Proposition 1, with the second term by Theorem 3, which is exact for Gaussian fields.

    z_S(t) | z_i(t) ~ N(mu_c(zhat_i), Sigma_c) at Tweedie's estimate zhat_i, and the gradient goes through it.
    """
    kernel, n = Matern(2.0, 1.0), 5
    intercepts = {"a": 1.0, "c": -0.5}
    fields = GaussianFields(
        GRAPH, dict.fromkeys(GRAPH.edges, 0.7), dict.fromkeys(GRAPH.nodes, kernel), (n,), intercepts
    )
    local = LocalDenoiser(fields.joint("dense"), GRAPH, sees, Cosine())
    covariance, mean, t = fields.covariance().reshape(4, n, 4, n), fields.mean, 0.4
    x = torch.randn(1, 4, n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    alpha, sigma = local.levels(x, t)
    scores = local(x, t).to("score")
    for i, node in enumerate(GRAPH.nodes):
        near = [j for j in seen_nodes(GRAPH, node, sees) if j != i]
        own, across = covariance[i, :, i], covariance[near][:, :, i].flatten(0, 1)
        total = alpha**2 * own + sigma**2 * torch.eye(n)
        z = x[0, i].clone().requires_grad_()
        marginal = -torch.linalg.solve(total, z - alpha * mean[i])
        causal = torch.zeros(n).double()
        if near:
            zhat = (z + sigma**2 * marginal) / alpha
            mu_c = alpha * (mean[near].flatten() + across @ torch.linalg.solve(own, zhat - mean[i]))
            joint = covariance[near][:, :, near].reshape(len(near) * n, -1)
            sigma_c = alpha**2 * (joint - alpha**2 * across @ torch.linalg.solve(total, across.mT))
            sigma_c = sigma_c + sigma**2 * torch.eye(len(joint))
            log_density = torch.distributions.MultivariateNormal(mu_c, sigma_c).log_prob(x[0, near].flatten())
            (causal,) = torch.autograd.grad(log_density, z, retain_graph=True)
            assert causal.abs().max() > 0.05
        torch.testing.assert_close(scores[0, i], (marginal + causal).detach(), atol=1e-6, rtol=0)
