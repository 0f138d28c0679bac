"""Gaussian estimates of each node from the nodes that it may see."""

import pytest
import torch

from latentcause import CausalGraph
from latentcause.diffusion import Cosine, Denoiser
from latentcause.fields import GaussianFields, LocalDenoiser, Matern, White

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
