from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
import torch._dynamo  # the first optimiser loads it, and it sets an environment variable
from hypothesis import given
from hypothesis import strategies as st

from graph_strategies import graphs
from latentcause import CausalGraph
from latentcause.scores.causal import NodeView, node_views
from latentcause.scores.composite import CausalScore, matching_losses

COLLIDER = CausalGraph.from_edges([("a", "c"), ("b", "c"), ("c", "d")], nodes=list("abcd"))
FLAGS = np.array([[0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]], dtype=bool)


def sample(n: int = 800, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Points of a noisy collider, their domains, and the covariance of their noise."""
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, n))
    c = np.tanh(2 * a) + 0.5 * b + 0.4 * rng.normal(size=n)
    d = np.abs(c) + 0.4 * rng.normal(size=n)
    u = np.column_stack([a, b, c, d]) + 0.3 * rng.normal(size=(n, 4))
    return torch.from_numpy(u), torch.from_numpy(rng.integers(0, 4, n)), 0.09 * torch.eye(4, dtype=torch.float64)


# --- what a node sees ----------------------------------------------------------------------------------------------


def test_views_of_a_collider():
    assert node_views(COLLIDER, "empty") == [NodeView((j,), (j,)) for j in range(4)]
    assert node_views(COLLIDER, "parents") == [
        NodeView((0,), (0,)),
        NodeView((1,), (1,)),
        NodeView((2, 0, 1), (2,)),
        NodeView((3, 2), (3,)),
    ]
    assert node_views(COLLIDER, "blanket") == [
        NodeView((0, 1, 2), (0, 2)),  # its child, and that child's other parent
        NodeView((1, 0, 2), (1, 2)),
        NodeView((2, 0, 1, 3), (2, 3)),
        NodeView((3, 2), (3,)),
    ]
    assert [set(view.columns) for view in node_views(COLLIDER, "full")] == [{0}, {0, 1}, {0, 1, 2}, {0, 1, 2, 3}]


@given(graphs(most=6), st.sampled_from(["blanket", "parents", "full", "empty"]))
def test_every_node_sees_itself_first_and_nothing_twice(graph, visibility):
    for j, view in enumerate(node_views(graph, visibility)):
        assert view.columns[0] == view.flags[0] == j
        assert len(set(view.columns)) == len(view.columns)
        assert set(view.flags) <= set(view.columns)


@given(graphs(most=6))
def test_blankets_hold_parents_and_the_complete_graph_holds_parents(graph):
    views = {kind: node_views(graph, kind) for kind in ("empty", "parents", "blanket", "full")}
    for j, node in enumerate(graph.nodes):
        columns = {kind: set(views[kind][j].columns) for kind in views}
        assert columns["empty"] <= columns["parents"] <= columns["blanket"]
        assert columns["parents"] <= columns["full"]
        assert columns["blanket"] == {j, *map(graph.index, graph.markov_blanket(node))}


def test_domains_are_in_the_same_state_where_the_visible_flags_agree():
    assert NodeView((0,), (0,)).states(FLAGS).tolist() == [0, 1, 0, 0]
    assert NodeView((2, 3), (2, 3)).states(FLAGS).tolist() == [0, 0, 1, 2]
    assert NodeView((1,), (1,)).states(FLAGS).tolist() == [0, 0, 0, 0]


def test_an_unknown_visibility_is_refused():
    with pytest.raises(
        ValueError, match=r"unknown score 'children': choose one of \['blanket', 'parents', 'full', 'empty'\]"
    ):
        node_views(COLLIDER, "children")


# --- base and remainder --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("visibility", "base"),
    [("blanket", "gaussian"), ("blanket", None), ("empty", "mixture"), ("empty", "gaussian"), (None, "mixture")],
)
def test_jacobians_are_those_of_finite_differences_for_every_part(visibility, base):
    u, domain, noise = sample(300)
    score = CausalScore(COLLIDER, FLAGS, visibility=visibility, base=base, n_splines=4)
    score.fit(u, domain, noise)
    u, domain = u[:25], domain[:25]
    _, jacobian = score.score_and_jacobian(u, domain, full=True)
    assert torch.allclose(jacobian.diagonal(dim1=1, dim2=2), score.score_and_jacobian(u, domain)[1], atol=1e-10)
    for k in range(4):
        step = torch.zeros(4, dtype=torch.float64)
        step[k] = 1e-6
        above, below = (score.score_and_jacobian(u + sign * step, domain)[0] for sign in (1, -1))
        assert torch.allclose(jacobian[:, :, k], (above - below) / 2e-6, atol=1e-5)


@pytest.mark.parametrize("full", [False, True])
def test_fitting_returns_what_evaluation_gives_and_holds_rows_back(full):
    u, domain, noise = sample()
    score = CausalScore(COLLIDER, FLAGS, n_splines=4)
    fitted = score.fit(u, domain, noise, None, 600, full=full)
    again = score.score_and_jacobian(u, domain, full=full)
    assert fitted[1].shape == ((800, 4, 4) if full else (800, 4))
    assert all(torch.allclose(a, b, atol=1e-10) for a, b in zip(fitted, again, strict=True))
    first = CausalScore(COLLIDER, FLAGS, n_splines=4)
    first.fit(u[:600], domain[:600], noise)
    assert all(
        torch.allclose(a, b, atol=1e-8)
        for a, b in zip(again, first.score_and_jacobian(u, domain, full=full), strict=True)
    )


def test_a_remainder_lowers_the_loss_on_new_points():
    u, domain, noise = sample(3000)
    new, new_domain, _ = sample(3000, seed=1)
    metric = torch.ones(4, dtype=torch.float64)
    losses = {}
    for visibility in (None, "empty", "blanket"):
        score = CausalScore(COLLIDER, FLAGS, visibility=visibility, n_splines=5)
        score.fit(u, domain, noise)
        losses[visibility] = float(matching_losses(*score.score_and_jacobian(new, new_domain), metric).mean())
    assert losses["blanket"] < losses["empty"] - 0.05
    assert losses["blanket"] < losses[None] - 0.1


def test_matching_losses_by_hand_and_in_any_form_of_the_metric():
    score = torch.tensor([[1.0, -2.0]], dtype=torch.float64)
    jacobian = torch.tensor([[[0.5, 0.3], [0.1, -1.0]]], dtype=torch.float64)
    metric = torch.tensor([2.0, 3.0], dtype=torch.float64)
    short = matching_losses(score, jacobian.diagonal(dim1=1, dim2=2), metric)
    assert float(short) == pytest.approx(2 * (0.5 + 0.5) + 3 * (2.0 - 1.0))
    assert torch.allclose(matching_losses(score, jacobian, torch.diag(metric)), short)


def test_the_mean_loss_is_stein_s_estimate_of_the_denoising_error():
    # z ~ N(0, 4), u = z + N(0, 1): with the exact score the error is 4/5, and 1 + 2 * loss says so without z.
    u = torch.from_numpy(np.random.default_rng(2).normal(scale=5**0.5, size=(40_000, 1)))
    losses = matching_losses(-u / 5, torch.full_like(u, -1 / 5), torch.ones(1, dtype=torch.float64))
    assert 1 + 2 * float(losses.mean()) == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize(("visibility", "base"), [("blanket", "gaussian"), ("parents", None), (None, "mixture")])
def test_its_state_makes_the_same_score_again(visibility, base):
    u, domain, noise = sample()
    score = CausalScore(COLLIDER, FLAGS, visibility=visibility, base=base, n_splines=5)
    score.fit(u, domain, noise)
    arrays, values = score.state()
    assert all(isinstance(array, np.ndarray) for array in arrays.values())
    again = CausalScore(COLLIDER, FLAGS, visibility=visibility, base=base, n_splines=5)
    again.restore(arrays, values)
    for a, b in zip(
        score.score_and_jacobian(u, domain, full=True), again.score_and_jacobian(u, domain, full=True), strict=True
    ):
        assert torch.equal(a, b)


# --- the neural score ----------------------------------------------------------------------------------------------


def with_network(**settings) -> CausalScore:
    with pytest.warns(UserWarning, match=r"for c \(4 variables\): a neural score takes over there"):
        return CausalScore(COLLIDER, FLAGS, n_splines=5, max_functions=200, **settings)


def test_a_neural_score_takes_over_where_the_basis_is_too_large_and_comes_back_from_a_file():
    u, domain, noise = sample(400)
    score = with_network(seed=3)
    values, slopes = score.fit(u, domain, noise)
    without = CausalScore(COLLIDER, FLAGS, n_splines=5)
    others = without.fit(u, domain, noise)
    assert torch.allclose(
        values[:, [0, 1, 3]], others[0][:, [0, 1, 3]], atol=1e-9
    )  # the other nodes keep their splines
    assert not torch.allclose(values[:, 2], others[0][:, 2], atol=1e-3)
    u, domain = u[:20], domain[:20]
    step = torch.tensor([0.0, 0.0, 1e-3, 0.0], dtype=torch.float64)
    above, below = (score.score_and_jacobian(u + sign * step, domain)[0][:, 2] for sign in (1, -1))
    assert torch.allclose(slopes[:20, 2], (above - below) / 2e-3, atol=1e-2)
    again = with_network(seed=3)
    again.restore(*score.state())
    for a, b in zip(score.score_and_jacobian(u, domain), again.score_and_jacobian(u, domain), strict=True):
        assert torch.equal(a, b)


def test_whole_jacobians_are_refused_with_a_neural_score():
    u, domain, noise = sample(100)
    score = with_network()
    with pytest.raises(ValueError, match="needs every derivative of the score, which the neural score does not give"):
        score.fit(u, domain, noise, full=True)


def test_no_warning_where_the_splines_suffice():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        CausalScore(COLLIDER, FLAGS, n_splines=5, max_functions=5**4)


def test_scores_of_nothing_are_refused():
    with pytest.raises(ValueError, match=r"unknown base 'student': choose one of \['gaussian', 'mixture'\], or None"):
        CausalScore(COLLIDER, FLAGS, base="student")
    with pytest.raises(ValueError, match="needs a base, a causal part"):
        CausalScore(COLLIDER, FLAGS, base=None, visibility=None)
