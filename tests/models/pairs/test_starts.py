from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch._dynamo  # (the first optimiser loads it, and it sets an environment variable)
from torch import Tensor

import latentcause.models.pairs.starts as starts_module
from latentcause.datasets.pairs.system import pair_system
from latentcause.models.pairs.lines import Lines
from latentcause.models.pairs.networks import PairNetworks, new_encoder
from latentcause.models.pairs.pair_likelihood import PairLikelihood
from latentcause.models.pairs.starts import (
    EXACT,
    ROWS_AT_ONCE,
    WORTH,
    begin_at,
    beside,
    checkpoint_of_codes,
    checkpoints_beside,
    encoded,
    settle,
    with_flow,
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


def networks(code: Any = "finite", lines: Lines | None = None, size: int = M) -> PairNetworks:
    with seeded(0):
        made = PairNetworks(
            new_encoder(size, M, 16, 2, code),
            size,
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


# --- codes of a flow -------------------------------------------------------------------------------------------------


def settled(
    made: PairNetworks, rows: Pairs, recipe: Recipe = RECIPE, checkpoint: Path | None = None, starts: int = 1
) -> bool:
    spread = torch.ones(rows[0].shape[1], dtype=torch.float64)
    return settle(
        made, rows, spread, recipe, width=16, depth=2, starts=starts, seed=0, device="cpu", checkpoint=checkpoint
    )


def changes_beside(made: PairNetworks, rows: Pairs) -> float:
    return beside(encoded(made, rows[0]), encoded(made, rows[1]), SINGLE.float(), rows[2])


@pytest.mark.parametrize("known", [-1, 0, 2])
def test_what_changes_beside_the_target_by_hand(known):
    first = torch.tensor([[1.0, 0.0, 2.0], [-1.0, 1.0, -2.0]])
    second = first + torch.tensor([[0.5, 0.0, 0.1], [0.0, 0.02, 0.0]])
    sd = first.numpy().std(axis=0)
    count = ((second - first).numpy() / sd) ** 2
    count = count / (count + 0.05**2)
    own = count.max(axis=1) if known == -1 else count[:, known - 1] if known else np.zeros(2)
    found = beside(first, second, SINGLE.float(), torch.full((2,), known))
    assert found == pytest.approx((count.sum(axis=1) - own).mean() / 2, rel=1e-5)


def test_exact_lines_stay_as_they_are(tmp_path):
    rows = pairs()
    made = networks(lines=lines_of(rows))
    before = weights(made)
    assert changes_beside(made, rows) < 0.2 * EXACT
    assert not settled(made, rows, checkpoint=tmp_path / "run.pt")
    assert not list(tmp_path.iterdir())  # nothing was trained
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())


@pytest.mark.parametrize("code", ["finite", "trajectory"])
def test_where_lines_leave_others_changing_a_flow_is_learned_and_kept(code):
    rows = pairs(mixing="mlp")
    made = networks(code, lines_of(rows))
    at_first = changes_beside(made, rows)
    assert at_first > EXACT
    assert settled(made, rows)
    assert made.settled
    assert changes_beside(made, rows) < (1 - WORTH) * at_first
    torch.testing.assert_close(made.decoder.head(encoded(made, rows[0])), rows[0], rtol=0, atol=1e-3)
    with torch.no_grad():
        torch.testing.assert_close(made.encode(rows[0], 0.9), made.encode(rows[0], 0.1))  # the same at all times so far
    learned = {name for name, value in made.named_parameters() if not value.requires_grad}
    assert learned == {name for name, _ in made.named_parameters() if "flow." in name or "solutions." in name}


@pytest.mark.usefixtures("quick_contrast")
def test_more_numbers_than_latents_are_given_coordinates_first():
    drawn = pair_system(M, seed=1, observed=6, mixing="mlp").draw(N, seed=2)
    whitening = Whitening.of(drawn.pairs.before, drawn.pairs.after, None)
    v, v_after = (torch.from_numpy(whitening(part)) for part in (drawn.pairs.before, drawn.pairs.after))
    rows = v, v_after, torch.full((N,), -1)
    lines = Lines.fit(v.numpy(), v_after.numpy(), M, 0, False)
    made = networks(lines=lines, size=6)
    assert settled(made, rows)
    error = (made.decoder.head(encoded(made, v)) - v).square().mean()
    assert error < 0.5 * (1 - M / 6)  # half of what as many principal directions leave, were all alike
    fresh = networks(size=6)
    with_flow(fresh, torch.ones(6, dtype=torch.float64), 16, 2, made.encoder.coordinates.alone)
    fresh.load_state_dict(made.state_dict())
    torch.testing.assert_close(encoded(fresh, v), encoded(made, v), rtol=0, atol=0)


def test_the_most_likely_of_several_starts_is_kept(monkeypatch):
    rows, losses = pairs(mixing="mlp"), []
    train = starts_module.train

    def watched(learner, *args, **kwargs):
        result = train(learner, *args, **kwargs)
        losses.append((result.history[-1]["train_loss"], kwargs["label"], learner.flow))
        return result

    monkeypatch.setattr(starts_module, "train", watched)
    made = networks(lines=lines_of(rows))
    assert settled(made, rows, starts=3)
    assert [label for _, label, _ in losses] == [f"codes, start {k} of 3" for k in (1, 2, 3)]
    assert made.encoder.flow is min(losses, key=lambda entry: entry[0])[2]


def test_where_training_hardly_helps_codes_stay_as_they_were(monkeypatch):
    rows = pairs(mixing="mlp")
    made = networks(lines=lines_of(rows))
    before = weights(made)
    losses = []
    loss = PairLikelihood.loss
    monkeypatch.setattr(PairLikelihood, "loss", lambda *args: losses.append(1) or loss(*args))
    assert not settled(made, rows, replace(RECIPE, max_epochs=2, learning_rate=1e-5))
    assert len(losses) == 2 * 12
    assert not made.settled
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())


def test_training_that_was_cut_off_goes_on_to_the_same_codes(tmp_path, monkeypatch):
    rows, file = pairs(mixing="mlp"), tmp_path / "run.pt"
    lines = lines_of(rows)
    whole = networks(lines=lines)
    settled(whole, rows)
    loss, calls = PairLikelihood.loss, []

    def cut_off(likelihood, batch):
        calls.append(1)
        if len(calls) == 30:  # of 12 batches an epoch
            raise KeyboardInterrupt
        return loss(likelihood, batch)

    monkeypatch.setattr(PairLikelihood, "loss", cut_off)
    with pytest.raises(KeyboardInterrupt):
        settled(networks(lines=lines), rows, checkpoint=file)
    assert checkpoints_beside(file) == [tmp_path / "run.codes.pt"]
    resumed = networks(lines=lines)
    assert settled(resumed, rows, checkpoint=file)
    assert len(calls) == 30 + 23 * 12  # two of 25 epochs were done
    expected = whole.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in resumed.state_dict().items())


def test_the_states_of_codes_lie_beside_that_of_the_training(tmp_path):
    assert checkpoint_of_codes(Path("out/run.v1.pt")) == Path("out/run.v1.codes.pt")
    assert checkpoint_of_codes(Path("run"), "coordinates") == Path("run.coordinates")
    for name in (
        "run.pt",
        "run.codes.pt",
        "run.codes2.pt",
        "run.contrast1.pt",
        "run.contrast12.pt",
        "run.contrast.pt",
        "run.coordinates.pt",
        "run2.codes.pt",
        "run.copy.pt",
        "run.codes.pth",
    ):
        (tmp_path / name).touch()
    found = [file.name for file in checkpoints_beside(tmp_path / "run.pt")]
    assert found == ["run.codes.pt", "run.codes2.pt", "run.contrast1.pt", "run.contrast12.pt", "run.coordinates.pt"]
