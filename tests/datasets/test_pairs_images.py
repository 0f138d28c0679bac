"""Pairs of images: what is drawn shows the factors before and after, and all that was not changed stays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from latentcause.datasets import SimulatedPairs, morphomnist, morphomnist_pairs, pendulum_pairs
from latentcause.datasets.images.morphomnist import measure_strokes, morphomnist_scm
from latentcause.datasets.images.pendulum import measure_pendulum, pendulum_scm
from latentcause.scm import StructuralCausalModel


@pytest.fixture(scope="module")
def pendulums() -> SimulatedPairs:
    return pendulum_pairs(150, seed=3)


def follows(data: SimulatedPairs, scm: StructuralCausalModel) -> None:
    """Factors after are the model's answer to do(target = its value); what does not descend from it is the same to the bit."""
    for node in (*data.graph.nodes, "none"):
        rows = np.flatnonzero(np.array(data.targets) == node)
        before, after = data.factors_before.iloc[rows], data.factors_after.iloc[rows]
        if node == "none":
            pd.testing.assert_frame_equal(before, after)
            np.testing.assert_array_equal(data.pairs.before[rows], data.pairs.after[rows])
            continue
        pd.testing.assert_frame_equal(scm.counterfactual(before, {node: after[node].to_numpy()}), after)
        assert (before[node] != after[node]).all()
        for other in {*data.graph.nodes} - {node, *data.graph.descendants(node)}:
            np.testing.assert_array_equal(before[other], after[other])


def test_pendulums_follow_their_model_and_show_their_factors(pendulums: SimulatedPairs) -> None:
    assert pendulums.pairs.shape == (3, 64, 64)
    assert set(pendulums.targets) == {*pendulums.graph.nodes, "none"}
    assert not pendulums.wrong.any()
    follows(pendulums, pendulum_scm())
    for images, factors in (
        (pendulums.pairs.before, pendulums.factors_before),
        (pendulums.pairs.after, pendulums.factors_after),
    ):
        error = (measure_pendulum(images) - factors).abs().median()
        assert (error < [0.3, 0.1, 0.1, 0.1]).all()


def test_targets_get_values_from_their_own_law() -> None:
    data = pendulum_pairs(3000, 16, seed=1)
    marginal = pendulum_scm().sample(3000, generator=9)
    after = data.factors_after.to_numpy()
    for j, node in enumerate(data.graph.nodes):
        rows = np.array(data.targets) == node
        assert stats.ks_2samp(after[rows, j], marginal[:, j]).pvalue > 1e-3
        angle = data.factors_before["angle"].to_numpy()
        assert abs(stats.spearmanr(after[rows, j], angle[rows]).statistic) < 4 / rows.sum() ** 0.5
    counts = pd.Series(data.targets).value_counts()
    assert stats.chisquare(counts).pvalue > 1e-3


def test_seed_size_and_noise_are_obeyed() -> None:
    first, second = pendulum_pairs(5, 16, seed=2, noise=0.1), pendulum_pairs(5, 16, seed=2, noise=0.1)
    np.testing.assert_array_equal(first.pairs.after, second.pairs.after)
    assert first.pairs.shape == (3, 16, 16)
    follows(pendulum_pairs(60, 16, seed=2, noise=0.1), pendulum_scm(0.1))
    assert all({*pendulum_pairs(2, 16, seed=seed).targets} != {"none"} for seed in range(40))
    rest, held = pendulum_pairs(200, 16, seed=2).split(0.4, seed=0)
    assert (len(rest), len(held)) == (120, 80)
    follows(held, pendulum_scm())


def test_digits_follow_their_model_and_keep_their_style(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    folder = shared_data("mnist")
    data = morphomnist_pairs(40, seed=5, folder=folder, cache=tmp_path)
    assert data.pairs.shape == (1, 28, 28)
    follows(data, morphomnist_scm())
    error = (measure_strokes(data.pairs.after) - data.factors_after).abs()
    assert error["thickness"].median() < 0.1
    assert error["intensity"].max() < 0.1
    drawn = morphomnist(40, seed=5, folder=folder, cache=tmp_path)
    np.testing.assert_array_equal(drawn.images.pixels, data.pairs.before)
    for row in range(5):
        own = drawn.render(drawn.base[[row]], data.factors_after.iloc[[row]])[0]
        np.testing.assert_allclose(data.pairs.after[row], own, rtol=0, atol=1e-5)
    again = morphomnist_pairs(40, seed=5, folder=folder, cache=tmp_path)
    np.testing.assert_array_equal(again.pairs.after, data.pairs.after)
    assert sorted(file.name.rsplit("-", 3)[0] for file in tmp_path.iterdir()) == ["morphomnist", "morphomnist-pairs"]
    without = morphomnist_pairs(40, seed=5, folder=folder)
    np.testing.assert_array_equal(without.pairs.after, data.pairs.after)


def test_numbers_that_cannot_be_are_refused() -> None:
    for draw in (pendulum_pairs, morphomnist_pairs):
        with pytest.raises(ValueError, match="1 pairs: draw at least 2"):
            draw(1, seed=0)
    with pytest.raises(ValueError, match="at least 16 x 16"):
        pendulum_pairs(4, 8, seed=0)
