"""Cells that are withheld: the right share, in tiles, and predicted as the exact posterior would."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from latentcause.commands.posterior_batches import batch_seed, sizes
from latentcause.commands.posterior_check import Predicted, Withheld, predict, withhold
from latentcause.data.gridded_observations import GriddedObservations
from latentcause.observation import BernoulliError, GaussianError, Observation, block_mean, identity, points


def observations(shape: tuple[int, int], ratio: int = 4) -> GriddedObservations:
    rng = np.random.default_rng(0)
    blocks = block_mean(shape, ratio)
    return GriddedObservations(
        ["a", "b"],
        shape,
        {
            "a": [
                Observation(
                    rng.standard_normal(shape), identity(shape), GaussianError(0.1 + rng.random(shape)), "fine"
                ),
                Observation(rng.standard_normal(blocks.size), blocks, 0.3, "coarse"),
            ],
            "b": Observation([0.0, 1.0], points(shape, [[1.0, 1.0], [2.0, 3.0]]), BernoulliError(), "dots"),
        },
    )


@settings(max_examples=25)
@given(st.tuples(st.integers(8, 40), st.integers(8, 40)), st.floats(0.02, 0.5), st.integers(0, 99))
def test_each_cell_is_kept_or_withheld(shape: tuple[int, int], share: float, seed: int) -> None:
    whole = observations(shape)
    kept, withheld = withhold(whole, share, seed)
    assert "dots" not in [one.observation.name for one in withheld]  # two cells are too few
    z = torch.randn(1, 2, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    parts = [kept.apply(z)[0], *(one.observation.operator(z[0, 0]) for one in withheld)]
    torch.testing.assert_close(torch.cat(parts).sort()[0], whole.apply(z)[0].sort()[0])
    for one in withheld:
        before = next(o for node, o in whole.per_node if o.name == one.observation.name)
        assert len(one.others) + len(one.observation.values) == len(before.values)
        wanted = max(1, round(share * len(before.values)))
        tile = max(6, 3 * np.sqrt(z[0, 0].numel() / len(before.values))) ** 2
        assert 0 < len(one.observation.values) <= wanted + tile
        assert len(one.others)


def test_fine_cells_go_in_tiles_and_keep_their_noise() -> None:
    whole = observations((48, 48))
    fine = next(one for one in withhold(whole, 0.05, 1)[1] if one.observation.name == "fine").observation
    seen = np.zeros(48 * 48, dtype=bool)
    seen[fine.operator.matrix.indices] = True
    tiles = seen.reshape(8, 6, 8, 6).mean((1, 3))
    assert set(np.unique(tiles)) == {0.0, 1.0}
    assert tiles.sum() == 4  # of 64, 5 % are 3.2
    everything = whole.per_node[0][1]
    np.testing.assert_allclose(fine.noise.sd, everything.noise.sd.numpy()[seen])
    np.testing.assert_allclose(fine.values, everything.values[seen])


def test_no_share_withholds_nothing() -> None:
    kept, withheld = withhold(observations((8, 8)), 0.0, 0)
    assert not withheld
    assert len(kept.values) == len(observations((8, 8)).values)


def test_predictions_are_what_cells_see_and_noise() -> None:
    operator = block_mean((4, 4), 2)
    held = Withheld("a", Observation(np.zeros(4), operator, GaussianError([0.01, 1.0, 2.0, 3.0])), np.ones(5))
    fields = np.random.default_rng(0).standard_normal((4000, 4, 4))
    (found,) = predict([held], {"a": fields}, seed=0)
    assert found.draws.shape == (4000, 4)
    np.testing.assert_allclose(found.draws[:, 0], operator(torch.as_tensor(fields)).numpy()[:, 0], atol=0.06)
    np.testing.assert_allclose(found.draws.var(0), 0.25 + np.square([0.01, 1, 2, 3]), rtol=0.1)


def test_the_row_compares_with_the_other_cells() -> None:
    rng = np.random.default_rng(0)
    truth = rng.standard_normal(4000)
    observation = Observation(truth, identity((4000,)), GaussianError(1.0), "fine")
    sharp = truth + 0.1 * rng.standard_normal(4000) + 0.1 * rng.standard_normal((50, 4000))
    label, cells, half, most, own, others = Predicted(Withheld("a", observation, rng.standard_normal(9000)), sharp).row
    assert (label, cells) == ("a: fine", "4000")
    assert float(half.removesuffix(" %")) == pytest.approx(50, abs=3)
    assert float(most.removesuffix(" %")) == pytest.approx(90, abs=2)
    assert float(own) == pytest.approx(0.1 / np.sqrt(np.pi), rel=0.1)
    assert float(others) == pytest.approx(1 / np.sqrt(np.pi), rel=0.05)


@given(st.integers(1, 200), st.integers(1, 10**7))
def test_batches_hold_all_samples(n: int, numbers: int) -> None:
    found = sizes(n, numbers)
    assert sum(found) == n
    assert max(found) <= 8
    assert max(found) == 1 or max(found) * numbers <= 4_000_000


def test_every_batch_has_a_seed_of_its_own() -> None:
    seeds = [batch_seed(s, name, k) for s in range(3) for name in ("posterior", "check") for k in range(20)]
    assert len(set(seeds)) == len(seeds)
    assert batch_seed(1, "check", 2) == seeds[2 * 20 + 20 + 2]
