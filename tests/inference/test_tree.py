from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from latentcause import CausalGraph, StructuralCausalModel
from latentcause.inference.tree import Grid, TreePosterior, is_forest, tree_posterior
from latentcause.scm import FunctionMechanism, LinearMechanism

BRANCHING = CausalGraph.from_string("root -> left; root -> right; right -> low; right -> other")
TWO_ROOTS = CausalGraph.from_edges([("c", "a"), ("d", "e")], nodes=["a", "b", "c", "d", "e"])  # and b alone


class LinearForest:
    """A linear-Gaussian model on a forest, with its posterior and marginal likelihood in closed form."""

    def __init__(self, graph: CausalGraph, seed: int, steepest: float = 1.5) -> None:
        rng = np.random.default_rng(seed)
        d = len(graph)
        B = rng.uniform(-steepest, steepest, (d, d)) * graph.adjacency.T
        intercepts, variances = rng.normal(scale=2.0, size=d), rng.uniform(0.3, 4.0, d)
        self.noise = rng.uniform(0.3, 2.0, d)
        parents = [[graph.index(p) for p in graph.parents(node)] for node in graph.nodes]
        mechanisms = {
            node: LinearMechanism(tuple(B[j, parents[j]]), float(intercepts[j]), float(variances[j]))
            for j, node in enumerate(graph.nodes)
        }
        self.scm = StructuralCausalModel(graph, mechanisms)
        response = np.linalg.inv(np.eye(d) - B)
        self.mean, self.prior = response @ intercepts, response @ np.diag(variances) @ response.T
        self.marginal = self.prior + np.diag(self.noise)

    def draw(self, n: int, seed: int) -> np.ndarray:
        return np.random.default_rng(seed).multivariate_normal(self.mean, self.marginal, n)

    def posterior(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        gain = self.prior @ np.linalg.inv(self.marginal)
        return self.mean + (y - self.mean) @ gain.T, self.prior - gain @ self.prior

    def log_likelihood(self, y: np.ndarray) -> np.ndarray:
        offset = y - self.mean
        distance = (offset @ np.linalg.inv(self.marginal) * offset).sum(1)
        return -0.5 * (distance + np.linalg.slogdet(2 * np.pi * self.marginal)[1])

    def by_messages(self, y: np.ndarray) -> tuple[TreePosterior, Grid]:
        u, noise = torch.from_numpy(y), torch.from_numpy(self.noise)
        grid = Grid.covering(u, noise, self.scm)
        return tree_posterior(self.scm, u, noise, grid), grid


@st.composite
def forests(draw: st.DrawFn) -> CausalGraph:
    """Any forest of up to 6 nodes, whose order of nodes need not be a causal one."""
    size = draw(st.integers(1, 6))
    names = draw(st.permutations([f"n{j}" for j in range(size)]))
    parents = [draw(st.integers(-1, j - 1)) for j in range(size)]
    edges = [(names[parent], names[j]) for j, parent in enumerate(parents) if parent >= 0]
    return CausalGraph.from_edges(edges, nodes=sorted(names))


@pytest.mark.parametrize("graph", [CausalGraph.chain(4), BRANCHING, TWO_ROOTS, CausalGraph.chain(1)], ids=str)
def test_linear_gaussian_forests_have_their_closed_form(graph):
    model = LinearForest(graph, seed=1)
    y = model.draw(150, seed=2)
    found, _ = model.by_messages(y)
    mean, covariance = model.posterior(y)
    assert np.allclose(found.mean, mean, atol=1e-8, rtol=0)
    assert np.allclose(found.variance, covariance.diagonal(), atol=1e-8, rtol=0)
    assert np.allclose(found.log_likelihood, model.log_likelihood(y), atol=1e-8, rtol=0)


@given(forests(), st.integers(0, 2**32))
def test_random_forests_have_their_closed_form(graph, seed):
    model = LinearForest(graph, seed)
    y = model.draw(40, seed + 1)
    found, _ = model.by_messages(y)
    mean, covariance = model.posterior(y)
    assert np.allclose(found.mean, mean, atol=1e-5, rtol=0)
    assert np.allclose(found.variance, covariance.diagonal(), atol=1e-4, rtol=0)
    assert np.allclose(found.log_likelihood, model.log_likelihood(y), atol=1e-5, rtol=0)


@pytest.mark.parametrize("graph", [BRANCHING, TWO_ROOTS], ids=str)
def test_tables_are_the_summed_posteriors_of_nodes_and_edges(graph):
    model = LinearForest(graph, seed=3)
    y = model.draw(60, seed=4)
    found, grid = model.by_messages(y)
    mean, covariance = model.posterior(y)
    for j, node in enumerate(graph.nodes):
        table = found.node_tables[j]
        assert float(table.sum()) == pytest.approx(60, abs=1e-9)
        assert float(table @ grid.points[j]) == pytest.approx(mean[:, j].sum(), abs=1e-6)
        square = (mean[:, j] ** 2 + covariance[j, j]).sum()
        assert float(table @ grid.points[j].square()) == pytest.approx(square, abs=1e-5)
        if not graph.parents(node):
            assert found.edge_tables[j] is None
            continue
        p = graph.index(graph.parents(node)[0])
        edge = found.edge_tables[j]
        assert torch.allclose(edge.sum(0), table, atol=1e-8)
        assert torch.allclose(edge.sum(1), found.node_tables[p], atol=1e-8)
        product = (mean[:, p] * mean[:, j] + covariance[p, j]).sum()
        assert float(grid.points[p] @ edge @ grid.points[j]) == pytest.approx(product, abs=1e-5)


@pytest.mark.parametrize(
    ("function", "tolerance"),
    [
        (lambda z: 5 * torch.tanh(3 * z[..., 0] / 5), 1e-5),  # saturating
        (lambda z: torch.tanh(3 * z[..., 0] + (3 * z[..., 0]) ** 3), 5e-3),  # bounded: a step sharper than the grid
    ],
    ids=["saturating", "bounded"],
)
def test_a_nonlinear_chain_agrees_with_brute_force_quadrature(function, tolerance):
    noise = np.array([2.0, 1.5])
    scm = StructuralCausalModel(
        CausalGraph.chain(2), {"z1": LinearMechanism((), 0.5, 4.0), "z2": FunctionMechanism(function, 3.0)}
    )
    z = scm.sample(30, generator=5)
    y = z + np.sqrt(noise) * np.random.default_rng(6).standard_normal(z.shape)
    grid = Grid.covering(torch.from_numpy(y), torch.from_numpy(noise), scm)
    found = tree_posterior(scm, torch.from_numpy(y), torch.from_numpy(noise), grid)

    first, second = np.linspace(-20, 20, 4001), np.linspace(-20, 20, 401)
    centre = function(torch.from_numpy(first)[:, None]).numpy()
    prior = -0.5 * ((first - 0.5) ** 2 / 4)[:, None] - 0.5 * (second - centre[:, None]) ** 2 / 3
    for i in (0, 7, 19):
        joint = prior - 0.5 * (y[i, 0] - first)[:, None] ** 2 / noise[0] - 0.5 * (y[i, 1] - second) ** 2 / noise[1]
        weight = np.exp(joint)
        total = weight.sum()
        means = [(weight.sum(1) * first).sum() / total, (weight.sum(0) * second).sum() / total]
        squares = [(weight.sum(1) * first**2).sum() / total, (weight.sum(0) * second**2).sum() / total]
        constant = -0.5 * np.log((2 * np.pi) ** 4 * 4 * 3 * noise.prod())
        log_likelihood = np.log(total * (first[1] - first[0]) * (second[1] - second[0])) + constant
        assert np.allclose(found.mean[i], means, atol=tolerance)
        assert np.allclose(found.variance[i], np.array(squares) - np.square(means), atol=3 * tolerance)
        assert float(found.log_likelihood[i]) == pytest.approx(log_likelihood, abs=tolerance)


@pytest.mark.parametrize("slope", [3.0, 10.0])
def test_steep_mechanisms_get_grids_that_resolve_them(slope):
    model = LinearForest(CausalGraph.chain(2), seed=7)
    prior = np.array([[4.0, 4.0 * slope], [4.0 * slope, 4.0 * slope**2 + 0.5]])
    model.scm = model.scm.replace({"z1": LinearMechanism((), 0, 4.0), "z2": LinearMechanism((slope,), 0, 0.5)})
    model.noise = np.array([2.0, 2.0])
    model.mean, model.prior, model.marginal = np.zeros(2), prior, prior + 2 * np.eye(2)
    y = model.draw(100, seed=8)
    found, _ = model.by_messages(y)
    mean, covariance = model.posterior(y)
    assert np.allclose(found.mean, mean, atol=1e-5)
    assert np.allclose(found.variance, covariance.diagonal(), atol=1e-5)
    assert np.allclose(found.log_likelihood, model.log_likelihood(y), atol=1e-5)


def test_noise_far_below_the_range_of_the_values_is_refused_with_the_node():
    scm = StructuralCausalModel(CausalGraph.chain(2), {"z1": LinearMechanism(), "z2": LinearMechanism((1.0,))})
    y = torch.tensor([[0.0, 0.0], [1.0, 1000.0]], dtype=torch.float64)
    with pytest.raises(ValueError, match=r"node 'z2' would need \d+ grid points \(limit 513\): its noise is too small"):
        Grid.covering(y, torch.full((2,), 0.1, dtype=torch.float64), scm)


def test_a_row_beyond_the_range_of_float64_is_refused_by_number():
    scm = StructuralCausalModel(CausalGraph.chain(1), {"z1": LinearMechanism((), 0.0, 0.01)})
    y = torch.tensor([[0.0], [8.0]], dtype=torch.float64)
    noise = torch.tensor([0.01], dtype=torch.float64)
    grid = Grid.covering(y, noise, scm)
    with pytest.raises(ValueError, match=r"row 1 .* so far from all that the model expects"):
        tree_posterior(scm, y, noise, grid)


def test_forests_are_told_from_other_graphs():
    assert all(is_forest(graph) for graph in (BRANCHING, TWO_ROOTS, CausalGraph.chain(3)))
    assert not is_forest(CausalGraph.from_string("a -> c; b -> c"))
