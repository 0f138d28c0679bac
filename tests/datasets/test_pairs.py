"""Pairs from random systems: counterfactuals are exact, interventions have the law they say, mixings lose nothing."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from latentcause.datasets import PairSystem, SimulatedPairs, pair_system
from latentcause.datasets.pairs.mechanisms import PairMechanisms
from latentcause.datasets.pairs.system import PairNoise

KINDS = [(kind, standardised) for kind in get_args(PairMechanisms) for standardised in (False, True)]


@pytest.fixture(params=KINDS, ids=lambda kind: f"{kind[0]}{'-standardised' if kind[1] else ''}", scope="module")
def system(request: pytest.FixtureRequest) -> PairSystem:
    kind, standardised = request.param
    return pair_system(6, seed=3, mechanisms=kind, noise="skewed", mixing="mlp", standardised=standardised, edges=0.7)


def hits(data: SimulatedPairs) -> np.ndarray:
    """Which nodes each intervention hit: bool (n, d)."""
    named = [(target,) if isinstance(target, str) else target for target in data.targets]
    return np.array([[node in target for node in data.graph.nodes] for target in named])


def noises(system: PairSystem, z: np.ndarray) -> np.ndarray:
    """u (n, d), node by node."""
    raw, graph = z * system.scales, system.graph
    columns = [[graph.index(parent) for parent in graph.parents(node)] for node in graph.nodes]
    return np.stack([m.noise(raw[:, columns[j]], raw[:, j]) for j, m in enumerate(system.mechanisms)], axis=1)


def explained(system: PairSystem, z: np.ndarray) -> np.ndarray:
    """What parents explain of z (n, d), node by node."""
    raw, graph = z * system.scales, system.graph
    columns = [[graph.index(parent) for parent in graph.parents(node)] for node in graph.nodes]
    return np.stack([m.explained(raw[:, columns[j]]) for j, m in enumerate(system.mechanisms)], axis=1) / system.scales


# --- exactness --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at_once", [1, 2])
def test_counterfactuals_are_what_the_simulator_drew(system: PairSystem, at_once: int) -> None:
    data = system.draw(500, seed=1, targets_at_once=at_once)
    found = system.counterfactual(data.factors_before, data.targets, data.factors_after)
    np.testing.assert_allclose(found, data.factors_after, rtol=0, atol=1e-12)
    np.testing.assert_allclose(system.mix(found), data.pairs.after, rtol=1e-5, atol=1e-5)
    assert data.pairs.targets == (None,) * 500


def test_only_targets_and_what_descends_from_them_change(system: PairSystem) -> None:
    data = system.draw(500, seed=2)
    before, after = data.factors_before.to_numpy(), data.factors_after.to_numpy()
    for j, node in enumerate(system.graph.nodes):
        rows = hits(data)[:, j]
        moved = {node, *system.graph.descendants(node)}
        for i, other in enumerate(system.graph.nodes):
            assert (before[rows, i] != after[rows, i]).all() == (other in moved)
            assert (before[rows, i] == after[rows, i]).all() == (other not in moved)
        set_to = system.counterfactual(before, node, 0.25)
        np.testing.assert_array_equal(set_to[:, j], 0.25)
        same = [i for i, other in enumerate(system.graph.nodes) if other not in moved]
        np.testing.assert_array_equal(set_to[:, same], before[:, same])
    untouched = np.array(data.targets) == "none"
    np.testing.assert_array_equal(before[untouched], after[untouched])
    np.testing.assert_array_equal(data.pairs.before[untouched], data.pairs.after[untouched])


def test_noises_of_all_but_the_targets_are_kept(system: PairSystem) -> None:
    data = system.draw(500, seed=3, targets_at_once=2)
    before, after = (noises(system, z.to_numpy()) for z in (data.factors_before, data.factors_after))
    kept = ~hits(data)
    np.testing.assert_allclose(after[kept], before[kept], rtol=0, atol=1e-10)
    assert np.abs(after[~kept] - before[~kept]).min() > 1e-6


@given(st.permutations(range(8)), st.integers(0, 5))
@settings(max_examples=10)
def test_each_row_is_answered_by_itself(order: list[int], seed: int) -> None:
    own = pair_system(4, seed=seed, mechanisms="mlp", mixing="flow", observed=5)
    data = own.draw(8, seed=seed)
    z, value = data.factors_before.to_numpy(), data.factors_after.to_numpy()
    moved = own.counterfactual(z[order], [data.targets[row] for row in order], value[order])
    np.testing.assert_allclose(moved, own.counterfactual(z, data.targets, value)[order], rtol=0, atol=1e-12)
    np.testing.assert_allclose(own.mix(z[order]), own.mix(z)[order], rtol=0, atol=1e-12)
    columns = [*reversed(own.graph.nodes)]
    np.testing.assert_array_equal(own.mix(data.factors_before[columns]), own.mix(z))


@given(st.integers(2, 12), st.data())
@settings(max_examples=20)
def test_rows_of_parts_stay_together(n: int, data: st.DataObject) -> None:
    own = pair_system(3, seed=1)
    drawn = own.draw(n, seed=n, wrong=0.5)
    rows = data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=n))
    parts = [drawn.subset(rows), *drawn.split(data.draw(st.integers(1, n - 1)), seed=0)]
    for part in parts:
        np.testing.assert_allclose(own.mix(part.factors_before), part.pairs.before, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(own.mix(part.factors_after), part.pairs.after, rtol=1e-5, atol=1e-5)
        assert len(part) == len(part.targets) == len(part.wrong) == len(part.pairs)
        right = ~part.wrong
        found = own.counterfactual(part.factors_before, part.targets, part.factors_after)
        np.testing.assert_allclose(found[right], part.factors_after[right], atol=1e-12)
    assert parts[0].targets == tuple(drawn.targets[row] for row in rows)
    assert len(parts[1]) + len(parts[2]) == n


# --- laws -------------------------------------------------------------------------------------------------------------


def test_targets_get_values_from_the_normal_law(system: PairSystem) -> None:
    data = system.draw(8000, seed=4)
    after = data.factors_after.to_numpy()
    for j, node in enumerate(system.graph.nodes):
        rows = hits(data)[:, j]
        assert stats.kstest(after[rows, j], stats.norm.cdf).pvalue > 1e-3
        for parent in system.graph.parents(node):
            assert (
                abs(np.corrcoef(after[rows, j], after[rows, system.graph.index(parent)])[0, 1]) < 4 / rows.sum() ** 0.5
            )


@pytest.mark.parametrize("softness", [0.5, 1.0])
def test_soft_interventions_keep_a_share_of_what_parents_explain(system: PairSystem, softness: float) -> None:
    data = system.draw(4000, seed=5, softness=softness)
    after, hit = data.factors_after.to_numpy(), hits(data)
    fresh = after - softness * explained(system, after)
    assert stats.kstest(fresh[hit], stats.norm.cdf).pvalue > 1e-3
    assert (
        abs(np.corrcoef(fresh[hit], explained(system, after)[hit])[0, 1]) < 4 / hit.sum() ** 0.5
    )  # the new noise is independent
    kept = noises(system, after)[~hit] - noises(system, data.factors_before.to_numpy())[~hit]
    assert np.abs(kept).max() < 1e-10


def test_all_targets_are_hit_alike() -> None:
    own = pair_system(4, seed=0)
    counts = pd.Series(own.draw(20_000, seed=1).targets).value_counts()
    assert set(counts.index) == {*own.graph.nodes, "none"}
    assert stats.chisquare(counts).pvalue > 1e-3
    assert "none" not in own.draw(2000, seed=1, none=False).targets
    several = own.draw(20_000, seed=1, targets_at_once=3, none=False)
    assert {len(target) for target in several.targets} == {3}
    assert stats.chisquare(pd.Series(several.targets).value_counts()).pvalue > 1e-3
    assert all(
        any(target != "none" for target in pair_system(2, seed=0).draw(2, seed=seed).targets) for seed in range(30)
    )


@pytest.mark.parametrize(("noise", "skewness", "tails"), [("gaussian", 0, 0), ("laplace", 0, 3), ("uniform", 0, -1.2)])
def test_noises_have_their_moments(noise: PairNoise, skewness: float, tails: float) -> None:
    u = pair_system(4, seed=1, noise=noise, edges=0).draw(50_000, seed=2).factors_before.to_numpy()
    np.testing.assert_allclose(u.mean(axis=0), 0, atol=0.025)
    np.testing.assert_allclose(u.var(axis=0), 1, atol=0.05)
    np.testing.assert_allclose(stats.skew(u), skewness, atol=0.15)
    np.testing.assert_allclose(stats.kurtosis(u), tails, atol=0.5)
    assert np.abs(np.corrcoef(u.T) - np.eye(4)).max() < 0.02


def test_skewed_noise_is_that_of_a_gamma_variable() -> None:
    u = pair_system(4, seed=1, noise="skewed", edges=0).draw(5000, seed=2).factors_before.to_numpy()
    assert stats.kstest(u.ravel() * 2**0.5 + 2, stats.gamma(2).cdf).pvalue > 1e-3


def test_weights_of_linear_systems_follow_the_paper() -> None:
    weights = np.concatenate(
        [m.location.weights for s in range(20) for m in pair_system(8, seed=s).mechanisms if m.location]
    )  # type: ignore[attr-defined]
    assert stats.kstest(np.abs(weights), lambda w: stats.norm.cdf(w, 1, 0.3) - stats.norm.cdf(-w, 1, 0.3)).pvalue > 1e-3
    assert abs(np.mean(weights > 0) - 0.5) < 2 / len(weights) ** 0.5


def test_order_of_names_tells_nothing_of_causes() -> None:
    edges = [
        graph.index(a) < graph.index(b)
        for seed in range(60)
        for graph in [pair_system(6, seed=seed).graph]
        for a, b in graph.edges
    ]
    assert abs(np.mean(edges) - 0.5) < 0.08
    assert abs(len(edges) / (60 * 15) - 0.5) < 0.07


@pytest.mark.parametrize("kind", get_args(PairMechanisms))
def test_standardised_systems_have_unit_variances_and_nonlinear_ones_stay_tame(kind: PairMechanisms) -> None:
    plain = pair_system(15, seed=2, mechanisms=kind, standardised=True).draw(6000, seed=1).factors_before
    np.testing.assert_allclose(plain.std(), 1, atol=0.05)
    raw = pair_system(15, seed=2, mechanisms=kind).draw(6000, seed=1).factors_before.std()
    assert (raw.max() > 2) == (kind == "linear")
    assert raw.min() > 0.9
    bend = pair_system(3, seed=2, mechanisms=kind, edges=1)
    z = bend.draw(3000, seed=0).factors_before.to_numpy()
    last = bend.graph.index(bend.graph.topological_order[-1])
    parents = np.delete(z, last, axis=1)
    target = explained(bend, z)[:, last]
    left = target - parents @ np.linalg.lstsq(parents, target, rcond=None)[0]
    assert (left.var() > 0.03 * target.var()) == (kind != "linear")


def test_scales_of_noise_depend_on_parents_in_location_scale_systems_only() -> None:
    for kind in get_args(PairMechanisms):
        own = pair_system(3, seed=2, mechanisms=kind, edges=1)
        z = own.draw(3000, seed=0).factors_before.to_numpy()
        last = own.graph.index(own.graph.topological_order[-1])
        ratio = (z - explained(own, z))[:, last] / noises(own, z)[:, last]
        assert (np.ptp(ratio) > 0.5) == (kind == "location-scale")
        assert ratio.min() > 0.49
        assert ratio.max() < 2.02


# --- what spoils pairs --------------------------------------------------------------------------------------------------


def test_measurements_get_the_noise_that_was_asked_for() -> None:
    own = pair_system(5, seed=1)
    data = own.draw(40_000, seed=2, measurement=0.1)
    error = np.stack([data.pairs.before - own.mix(data.factors_before), data.pairs.after - own.mix(data.factors_after)])
    share = 0.1 * own.mix(data.factors_before).var(axis=0).mean()
    np.testing.assert_allclose(error.var(axis=1), share, rtol=0.05)
    assert abs(np.corrcoef(error[0].ravel(), error[1].ravel())[0, 1]) < 0.02


@given(st.integers(2, 40), st.floats(0, 1))
@settings(max_examples=30)
def test_wrong_pairs_pass_their_after_round(n: int, share: float) -> None:
    own = pair_system(3, seed=1)
    data, right = own.draw(n, seed=3, wrong=share, none=False), own.draw(n, seed=3, none=False)
    count = round(share * n)
    assert data.wrong.sum() == (2 if count == 1 else count)
    same = (data.factors_after.to_numpy() == right.factors_after.to_numpy()).all(axis=1)
    np.testing.assert_array_equal(same, ~data.wrong)
    rows = np.lexsort(data.pairs.after.T), np.lexsort(right.pairs.after.T)
    np.testing.assert_array_equal(data.pairs.after[rows[0]], right.pairs.after[rows[1]])
    assert data.targets == right.targets


def test_same_seed_same_pairs() -> None:
    first, second, other = (pair_system(4, seed=1).draw(50, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.pairs.after, second.pairs.after)
    assert first.targets == second.targets
    assert not np.array_equal(first.pairs.before, other.pairs.before)
    assert pair_system(4, seed=1).graph == pair_system(4, seed=1, mixing="flow", standardised=True).graph


def test_repr_counts() -> None:
    own = pair_system(3, seed=1, edges=1, observed=7)
    assert repr(own) == "PairSystem: 3 variables, 3 edges, 7 numbers observed, gaussian noise"
    shown = repr(own.draw(10, seed=0, wrong=0.2, targets_at_once=2, none=False))
    assert shown.splitlines()[1:] == [
        "  InterventionPairs: 10 pairs of 7 columns, targets unknown, 2 of them wrong",
        "  true targets: several 10",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mechanisms": "cubic"}, "unknown kind 'cubic': choose one of linear, tanh"),
        ({"noise": "none"}, "unknown kind 'none': choose one of gaussian"),
        ({"mixing": "blend"}, "unknown kind 'blend': choose one of rotation"),
        ({"nodes": 1}, "1 nodes.*give 2 nodes or more"),
        ({"edges": 1.5}, r"a share 1.5 of edges.*a share in \[0, 1\]"),
        ({"observed": 4}, "4 numbers observed: .*at least as many numbers as nodes"),
    ],
)
def test_systems_that_cannot_be_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pair_system(**{"seed": 0, **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 1}, "1 pairs: draw at least 2"),
        ({"softness": 1.5}, "softness=1.5 is no share"),
        ({"wrong": -0.1}, "wrong=-0.1 is no share"),
        ({"measurement": -1}, "measurement=-1 is no share of a variance"),
        ({"targets_at_once": 4}, "targets_at_once=4 of 3 variables: give 1 to 3"),
        ({"targets_at_once": 0}, "targets_at_once=0 of 3 variables"),
    ],
)
def test_draws_that_cannot_be_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pair_system(3, seed=0).draw(**{"n": 10, "seed": 0, **options})


@pytest.mark.parametrize(
    ("z", "target", "value", "message"),
    [
        (np.zeros((2, 4)), "z0", 0.0, r"z_before has shape \(2, 4\): give \(n, 3\)"),
        (pd.DataFrame({"z0": [0.0], "z1": [1.0]}), "z0", 0.0, "z_before lacks column 'z2'"),
        (np.zeros((2, 3)), "z7", 0.0, "unknown node 'z7'"),
        (np.zeros((2, 3)), ["z0", None], 0.0, "the target of row 1 is unknown: name it, or say 'none'"),
        (np.zeros((2, 3)), ["z0"], 0.0, "1 targets for 2 pairs"),
        (np.zeros((2, 3)), "z0", np.zeros(3), r"value has shape \(3,\)"),
        (np.zeros((2, 3)), "z0", np.zeros((3, 3)), "value has 3 rows for 2 of z_before"),
    ],
)
def test_questions_that_do_not_fit_are_refused(z: Any, target: Any, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pair_system(3, seed=0).counterfactual(z, target, value)
