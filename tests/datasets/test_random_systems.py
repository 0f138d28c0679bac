from __future__ import annotations

import numpy as np
import pytest

from latentcause.datasets import random_system


def test_the_degree_is_the_one_asked_for_and_the_order_tells_nothing():
    graphs = [random_system(20, 3.0, seed=seed).graph for seed in range(60)]
    assert np.mean([2 * len(graph.edges) / 20 for graph in graphs]) == pytest.approx(3.0, abs=0.2)
    forward = [graph.index(a) < graph.index(b) for graph in graphs for a, b in graph.edges]
    assert np.mean(forward) == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("family", ["linear", "additive"])
def test_samples_are_finite_and_seeded(family):
    scm = random_system(8, 3.0, family, seed=1)
    rows = scm.sample(500, generator=2)
    assert np.isfinite(rows).all()
    assert np.array_equal(rows, random_system(8, 3.0, family, seed=1).sample(500, generator=2))
    assert not np.array_equal(rows, random_system(8, 3.0, family, seed=3).sample(500, generator=2))


def test_additive_mechanisms_are_not_linear():
    scm = random_system(10, 4.0, "additive", seed=0)
    node = max(scm.graph.nodes, key=lambda name: len(scm.graph.parents(name)))
    rows = scm.sample(5000, generator=0)
    above = rows[:, [scm.graph.index(parent) for parent in scm.graph.parents(node)]]
    X = np.column_stack([np.ones(5000), above])
    left = rows[:, scm.graph.index(node)] - X @ np.linalg.lstsq(X, rows[:, scm.graph.index(node)])[0]
    assert left.var() > 1.2  # the noise has variance 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((5, 6.0), "average degree 6.0 for 5 nodes"), ((0, 0.0), "for 0 nodes"), ((3, 1.0, "cubic"), "unknown family")],
)
def test_what_cannot_be_made_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        random_system(*arguments, seed=0)
