from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest, norm

from latentcause.discovery.holm import holm
from latentcause.graph import CausalGraph
from latentcause.metrics import structural_hamming_distance
from latentcause.models.pairs.linear_reading import LinearReading, weight_errors

NAMES = ("a", "b", "c")
WEIGHTS = np.array([[0.0, 0.0, 0.0], [0.8, 0.0, 0.0], [0.0, -0.6, 0.0]])  # a -> b -> c, and a does not cause c


def pairs(n: int, seed: int, weights: np.ndarray = WEIGHTS, law: str = "standard_normal"):
    """Codes before and after, in units of their own, and what was hit."""
    rng, m = np.random.default_rng(seed), len(weights)
    total = np.linalg.inv(np.eye(m) - weights)
    u, hit = rng.standard_normal((n, m)), rng.integers(m, size=n)
    after = u.copy()
    for i in range(m):
        rows = hit == i
        z = getattr(rng, law)(size=rows.sum()) if law != "uniform" else rng.uniform(-np.sqrt(3), np.sqrt(3), rows.sum())
        after[rows, i] = (z - np.delete(u[rows], i, 1) @ np.delete(total[i], i)) / total[i, i]
    unit = rng.uniform(0.5, 2, m) * rng.choice([-1, 1], m)
    return u * unit, after * unit, np.eye(m)[hit], unit


def reading(n: int = 3000, seed: int = 0, **settings) -> LinearReading:
    noise, after, hit, _ = pairs(n, seed, **settings)
    m = hit.shape[1]
    return LinearReading.of(noise, after, hit, tuple(f"z{k}" for k in range(m)), 0.01, 0.02)


def test_weights_and_graph_are_those_of_the_system():
    noise, after, hit, unit = pairs(100_000, 0)
    found = LinearReading.of(noise, after, hit, NAMES, 0.01, 0.02)
    sign = np.sign(unit)
    np.testing.assert_allclose(found.weights * np.outer(sign, sign), WEIGHTS, atol=0.03)
    assert found.graph.edges == (("a", "b"), ("b", "c"))
    total = np.linalg.inv(np.eye(3) - WEIGHTS)
    sd = np.sqrt((total**2).sum(axis=1))
    np.testing.assert_allclose(found.effects, np.abs(WEIGHTS) * sd / sd[:, None], atol=0.03)
    assert np.isnan(np.diag(found.p_values)).all()
    assert not np.diag(found.weights).any()


@pytest.mark.parametrize("law", ["standard_normal", "uniform"])
def test_p_values_are_uniform_where_there_is_no_edge(law):
    readings = [reading(600, seed, law=law) for seed in range(300)]
    for j, i in ((0, 2), (1, 0), (2, 0), (2, 1)):
        p_values = [found.p_values[i, j] for found in readings]
        assert kstest(p_values, "uniform").pvalue > 1e-4, (j, i)
        assert np.mean(np.array(p_values) < 0.05) == pytest.approx(0.05, abs=4 * np.sqrt(0.05 * 0.95 / 300))


def test_intervals_cover_weights_that_are_nothing():
    readings = [reading(600, seed) for seed in range(300)]
    for j, i in ((0, 2), (2, 1)):
        weight = np.array([found.weights[i, j] for found in readings])
        sd = np.abs(weight) / norm.isf(np.array([found.p_values[i, j] for found in readings]) / 2)
        assert sd.mean() == pytest.approx(weight.std(), rel=0.15)
        assert (np.abs(weight) < 1.96 * sd).mean() == pytest.approx(0.95, abs=0.04)


def test_errors_fall_as_the_root_of_the_number_of_pairs():
    few, many = (np.array([reading(n, seed).weights[2, 0] for seed in range(100)]).std() for n in (500, 8000))
    assert few / many == pytest.approx(4, rel=0.3)


@pytest.mark.parametrize("m", [2, 8, 16])
def test_larger_systems(m):
    rng = np.random.default_rng(m)
    weights = np.tril(rng.choice([-0.7, 0.7], (m, m)) * (rng.random((m, m)) < 2 / m), -1)
    found = reading(6000 * m, 0, weights=weights)
    names = found.graph.nodes
    truth = CausalGraph(names, tuple((names[j], names[i]) for i, j in np.argwhere(weights)))
    assert structural_hamming_distance(found.graph, truth) == 0


def test_small_effects_and_weak_evidence_are_no_edges():
    noise, after, hit, _ = pairs(3000, 0)
    strict = LinearReading.of(noise, after, hit, NAMES, 0.01, 0.7)
    assert not strict.graph.edges
    found = LinearReading.of(noise, after, hit, NAMES, 0.01, 0.0)
    edges = holm(found.p_values, 0.01)
    assert {("abc"[j], "abc"[i]) for i, j in np.argwhere(edges)} == set(found.graph.edges)


def test_latents_that_nothing_hits_have_no_causes():
    noise, after, hit, _ = pairs(3000, 0)
    kept = hit[:, 1] == 0
    found = LinearReading.of(noise[kept], after[kept], hit[kept], NAMES, 0.01, 0.02)
    np.testing.assert_allclose(found.weights[1], 0, atol=1e-12)
    assert found.p_values[1, [0, 2]].tolist() == [1, 1]
    assert "b" not in {effect for _, effect in found.graph.edges}
    nothing = LinearReading.of(noise[:0], after[:0], hit[:0], NAMES, 0.01, 0.02)
    assert nothing.graph == CausalGraph(NAMES, ())
    alone = LinearReading.of(noise[:, :1], after[:, :1], hit[:, :1], ("a",), 0.01, 0.02)
    assert alone.graph.nodes == ("a",)


def test_the_weakest_edge_of_a_cycle_is_dropped():
    """Interventions that let the arrows in: what looks like an edge back."""
    rng = np.random.default_rng(0)
    e, hit = rng.standard_normal((4000, 2)), np.eye(2)[rng.integers(2, size=4000)]
    after = e.copy()
    for i, weight in ((0, 0.3), (1, 2.0)):
        rows = hit[:, i] > 0
        after[rows, i] = rng.standard_normal(rows.sum()) - weight * e[rows, 1 - i]
    found = LinearReading.of(e, after, hit, ("a", "b"), 0.01, 0.02)
    assert found.p_values[0, 1] < 1e-6
    assert found.p_values[1, 0] < 1e-6
    stronger = ("a", "b") if found.effects[1, 0] > found.effects[0, 1] else ("b", "a")
    assert found.graph.edges == (stronger,)


def test_standard_errors_follow_from_those_of_the_solution():
    rng = np.random.default_rng(0)
    total = np.diag([1.5, 0.7, 2.0]) + 0.02 * rng.standard_normal((3, 3))
    root = 3e-3 * rng.standard_normal((9, 9))

    def weights(solution: np.ndarray) -> np.ndarray:
        inverse = np.linalg.inv(solution)
        return np.eye(3) - inverse / np.diag(inverse)[:, None]

    moved = [weights(total + (root @ step).reshape(3, 3)) for step in rng.standard_normal((4000, 9))]
    sd = weight_errors(total, root @ root.T)
    off = ~np.eye(3, dtype=bool)
    np.testing.assert_allclose(sd[off], np.std(moved, axis=0)[off], rtol=0.05)
    reading = LinearReading.of_solution(total, sd, NAMES, 0.01, 0.0)
    np.testing.assert_allclose(reading.weights, weights(total))
    np.testing.assert_allclose(reading.p_values[off], 2 * norm.sf(np.abs(weights(total)[off] / sd[off])), rtol=1e-6)
