from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch._dynamo  # (the first optimiser loads it, and it sets an environment variable)
from torch import Tensor

from latentcause.datasets.pairs.system import pair_system
from latentcause.models.pairs.lines import Lines
from latentcause.models.pairs.networks import PairNetworks, new_encoder
from latentcause.models.pairs.single_changes import SingleChanges
from latentcause.models.pairs.starts import (
    EXACT,
    ROWS_AT_ONCE,
    WORTH,
    begin_at,
    checkpoint_of_codes,
    encoded,
    settle,
)
from latentcause.models.pairs.whitening import Whitening
from latentcause.training import Recipe, seeded

M, N = 3, 3000
SINGLE = torch.from_numpy(np.vstack([np.zeros((1, M)), np.eye(M)]))
RECIPE = Recipe(25, 250, 1e-2, schedule="cosine", held_out=0.0, clip_norm=1.0)
Pairs = tuple[Tensor, Tensor, Tensor]


def pairs(**system: Any) -> Pairs:
    drawn = pair_system(M, seed=1, **system).draw(N, seed=2)
    whitening = Whitening.of(drawn.pairs.before, drawn.pairs.after, None)
    v, v_after = (torch.from_numpy(whitening(part)) for part in (drawn.pairs.before, drawn.pairs.after))
    return v, v_after, torch.full((N,), -1)


def networks(code: Any = "finite", lines: Lines | None = None) -> PairNetworks:
    with seeded(0):
        made = PairNetworks(
            new_encoder(M, M, 16, 2, code),
            M,
            M,
            width=16,
            depth=2,
            decoder="diffusion",
            code=code,
            guidance="head",
            sees_others=True,
            hypotheses=SINGLE,
            paired=True,
            total=N,
        )
    if lines is not None:
        begin_at(made, lines)
    return made


def lines_of(rows: Pairs) -> Lines:
    return Lines.fit(rows[0].numpy(), rows[1].numpy(), M, 0, False)


def beside(made: PairNetworks, rows: Pairs) -> float:
    return SingleChanges(made.encoder, made.encode, made.hypotheses, 1).beside(rows)


def weights(made: PairNetworks) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in made.state_dict().items()}


# --- lines -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["finite", "trajectory"])
def test_networks_begin_at_the_lines(code):
    rows = pairs()
    lines = lines_of(rows)
    made, v = networks(code, lines), rows[0]
    codes = lines.codes(v.numpy())
    for t in (0.0, 0.7):
        np.testing.assert_allclose(encoded(made, v, t), codes, atol=1e-4)
    torch.testing.assert_close(made.decoder.head(encoded(made, v)), v, rtol=0, atol=1e-3)
    assert not made.settled


def test_codes_of_many_rows_come_in_parts_and_in_their_order():
    made, v = networks("trajectory"), torch.randn((2 * ROWS_AT_ONCE + 5, M), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        made.encoder.skip.weight.fill_(0.3)
        torch.testing.assert_close(encoded(made, v, 0.4), made.encode(v, 0.4))
    assert not encoded(made, v).requires_grad


# --- codes that change one at a time ---------------------------------------------------------------------------------


def test_exact_lines_stay_as_they_are(tmp_path):
    rows = pairs()
    made = networks(lines=lines_of(rows))
    before = weights(made)
    assert beside(made, rows) < 0.2 * EXACT
    assert not settle(made, rows, RECIPE, 0, "cpu", tmp_path / "codes.pt")
    assert not (tmp_path / "codes.pt").exists()  # nothing was trained
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())


@pytest.mark.parametrize("code", ["finite", "trajectory"])
def test_where_lines_leave_others_changing_codes_are_learned(code):
    rows = pairs(mixing="mlp")
    made = networks(code, lines_of(rows))
    before, at_first = weights(made), beside(made, rows)
    assert at_first > EXACT
    assert settle(made, rows, RECIPE, 0, "cpu", None)
    assert beside(made, rows) < (1 - WORTH) * at_first
    codes = encoded(made, rows[0])
    torch.testing.assert_close(codes.mean(0), torch.zeros(M), rtol=0, atol=1e-4)
    torch.testing.assert_close(codes.std(0), torch.ones(M), rtol=1e-3, atol=0)
    changed = {name for name, value in made.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {name for name in before if name.startswith("encoder.")}


def test_where_training_hardly_helps_codes_stay_as_they_were(monkeypatch):
    rows = pairs(mixing="mlp")
    made = networks(lines=lines_of(rows))
    before, at_first = weights(made), beside(made, rows)
    losses = []
    loss = SingleChanges.loss
    monkeypatch.setattr(SingleChanges, "loss", lambda *args: losses.append(1) or loss(*args))
    assert not settle(made, rows, replace(RECIPE, max_epochs=2, learning_rate=1e-5), 0, "cpu", None)
    assert len(losses) == 2 * 12
    assert at_first > EXACT
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())


def test_training_that_was_cut_off_goes_on_to_the_same_codes(tmp_path, monkeypatch):
    rows, file = pairs(mixing="mlp"), tmp_path / "run.codes.pt"
    lines = lines_of(rows)
    whole = networks(lines=lines)
    settle(whole, rows, RECIPE, 0, "cpu", None)
    loss, calls = SingleChanges.loss, []

    def cut_off(changes, batch):
        calls.append(1)
        if len(calls) == 30:  # of 12 batches an epoch
            raise KeyboardInterrupt
        return loss(changes, batch)

    monkeypatch.setattr(SingleChanges, "loss", cut_off)
    with pytest.raises(KeyboardInterrupt):
        settle(networks(lines=lines), rows, RECIPE, 0, "cpu", file)
    resumed = networks(lines=lines)
    assert settle(resumed, rows, RECIPE, 0, "cpu", file)
    assert len(calls) == 30 + 23 * 12  # two of 25 epochs were done
    expected = whole.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in resumed.state_dict().items())


def test_the_state_of_codes_lies_beside_that_of_the_training():
    assert checkpoint_of_codes(Path("out/run.v1.pt")) == Path("out/run.v1.codes.pt")
    assert checkpoint_of_codes(Path("run")) == Path("run.codes")
