from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning

from latentcause.scm import NeuralMechanism
from latentcause.scm.fitting import linear, neural
from latentcause.scm.fitting.table import Table


def tables(n: int, seed: int = 0) -> list[Table]:
    """A curve of one parent, and an interaction of two on scales of their own; noise of standard deviation 0.3."""
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, n))
    u, v = 0.3 * rng.normal(size=(2, n))
    return [
        Table("y", a[:, None], np.sin(2 * a) + u, ("a",)),
        Table("z", np.column_stack([a, 100 + 50 * b]), 1000 * (a * b + v) - 5, ("a", "b")),
    ]


def test_curves_and_interactions_are_learned():
    fitted = neural.fit(tables(2000), "gaussian", 0)
    lines = linear.fit(tables(2000), "gaussian", 0)
    for new, scale in zip(tables(3000, seed=1), (1.0, 1000.0), strict=True):
        errors = [
            float(np.sqrt(np.square(new.values - m[new.node].mean(torch.from_numpy(new.parents)).numpy()).mean()))
            / scale
            for m in (fitted, lines)
        ]
        assert errors[0] < 0.33  # 0.3 is the noise
        assert errors[1] > 0.65
        assert fitted[new.node].variance ** 0.5 / scale == pytest.approx(0.3, rel=0.06)


def test_a_linear_system_costs_little():
    rng = np.random.default_rng(0)
    parents = rng.normal(size=(2000, 2))
    table = Table("z", parents, parents @ [2.0, -1.0] + 3 + rng.normal(size=2000), ("a", "b"))
    mechanism = neural.fit([table], "empirical", 0)["z"]
    found = mechanism.mean(torch.from_numpy(parents)).numpy()
    assert np.sqrt(np.square(found - (parents @ [2.0, -1.0] + 3)).mean()) < 0.15


def test_the_seed_decides_and_other_nodes_do_not():
    both = neural.fit(tables(80), "gaussian", 5)
    again = neural.fit(tables(80), "gaussian", 5)
    other = neural.fit(tables(80), "gaussian", 6)
    alone = neural.fit(tables(80)[:1], "gaussian", 5)
    asked = torch.linspace(-2, 2, 50, dtype=torch.float64)[:, None]
    assert torch.equal(both["y"].mean(asked), again["y"].mean(asked))
    assert not torch.equal(both["y"].mean(asked), other["y"].mean(asked))
    assert torch.allclose(both["y"].mean(asked), alone["y"].mean(asked), atol=0.02)


def test_slopes_are_those_of_finite_differences():
    mechanism = neural.fit(tables(300), "gaussian", 0)["z"]
    parents = torch.from_numpy(tables(20, seed=2)[1].parents)
    mean, slopes = mechanism.mean_and_slopes(parents)
    assert torch.allclose(mean, mechanism.mean(parents))
    for k in range(2):
        step = torch.zeros(2, dtype=parents.dtype)
        step[k] = 1e-4
        numeric = (mechanism.mean(parents + step) - mechanism.mean(parents - step)) / 2e-4
        assert torch.allclose(slopes[:, k], numeric, rtol=1e-5, atol=1e-5)


def test_nodes_that_still_improve_are_named(monkeypatch):
    monkeypatch.setattr(neural, "MAX_ROUNDS", 2)
    with pytest.warns(ConvergenceWarning, match=r"networks of nodes \['y', 'z'\] were still improving after 50 steps"):
        neural.fit(tables(300), "gaussian", 0)


def test_too_few_rows_and_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="9 rows are too few to fit a network to node 'y'"):
        neural.fit(tables(9), "gaussian", 0)
    weights, biases = (np.ones((2, 3)), np.ones((3, 1))), (np.zeros(3),)
    mechanism = NeuralMechanism(np.ones(2), weights, biases)
    assert repr(mechanism).startswith("NeuralMechanism(2 parents, hidden layers of 3")
    with pytest.raises(ValueError, match="a network of 2 parents on a node with 1 parents"):
        mechanism.mean(torch.zeros(4, 1))
    with pytest.raises(ValueError, match=r"they must be \[\(1, 3\), \(3, 1\)\]"):
        NeuralMechanism(np.ones(1), weights, biases)
