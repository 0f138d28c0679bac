from __future__ import annotations

import numpy as np
import pytest
import torch
import torch._dynamo  # the first optimiser loads it, and it sets an environment variable
from torch import nn

from latentcause.training import resolve_device, seeded, train


def line(n: int = 400, noise: float = 0.1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(n, 1, generator=generator)
    return x, 3 * x - 1 + noise * torch.randn(n, 1, generator=generator)


def fit_line(seed: int = 0, **settings) -> tuple[nn.Linear, object]:
    with seeded(seed):
        module = nn.Linear(1, 1)

    def loss(batch, generator):
        return (module(batch[0]) - batch[1]).square().sum(dim=1)

    settings = {"max_epochs": 200, "batch_size": 50, "learning_rate": 0.05, "device": "cpu"} | settings
    return module, train(module, loss, line(), seed=seed, **settings)


def test_finds_the_least_squares_line_and_says_so():
    module, result = fit_line()
    assert result.converged
    assert module.weight.item() == pytest.approx(3, abs=0.03)
    assert module.bias.item() == pytest.approx(-1, abs=0.03)
    assert [entry["epoch"] for entry in result.history] == list(range(1, len(result.history) + 1))
    assert result.history[-1]["held_out_loss"] < 0.02 < result.history[0]["held_out_loss"]


def test_stopped_by_the_epoch_limit_is_not_converged():
    _, result = fit_line(max_epochs=2)
    assert not result.converged
    assert len(result.history) == 2


def test_keeps_the_best_values_not_the_last():
    module, result = fit_line(learning_rate=1.0, batch_size=10, max_epochs=12, patience=20)
    losses = [entry["held_out_loss"] for entry in result.history]
    assert result.best_epoch == 1 + int(np.argmin(losses))
    assert losses[-1] > min(losses)

    again, _ = fit_line(learning_rate=1.0, batch_size=10, max_epochs=result.best_epoch, patience=20)
    assert torch.equal(module.weight, again.weight)


def linear() -> nn.Linear:
    with seeded(0):
        return nn.Linear(1, 1)


def test_starting_values_that_are_never_beaten_come_back():
    module = linear()
    with torch.no_grad():
        module.weight.fill_(3.0)
        module.bias.fill_(-1.0)

    def loss(batch, generator):
        return (module(batch[0]) - batch[1]).square().sum(dim=1)

    x, _ = line()
    result = train(module, loss, (x, 3 * x - 1), seed=0, max_epochs=50, learning_rate=1.0, device="cpu")
    assert result.best_epoch == 0
    assert (module.weight.item(), module.bias.item()) == (3.0, -1.0)


def test_same_seed_same_result_whatever_was_drawn_before():
    first, one = fit_line(seed=3, max_epochs=5)
    with torch.random.fork_rng(devices=[]):
        torch.rand(17)
        second, two = fit_line(seed=3, max_epochs=5)
    other, _ = fit_line(seed=4, max_epochs=5)
    assert torch.equal(first.weight, second.weight)
    assert one.history == two.history
    assert not torch.equal(first.weight, other.weight)


def test_seeded_gives_the_global_random_state_back():
    before = torch.get_rng_state()
    with seeded(1):
        drawn = torch.rand(3)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(drawn, torch.rand(3, generator=torch.Generator().manual_seed(1)))


def test_loss_draws_from_the_generator_it_is_given():
    drawn = []
    module = linear()

    def loss(batch, generator):
        drawn.append(torch.rand(1, generator=generator).item())
        return module(batch[0]).square().sum(dim=1)

    for _ in range(2):
        train(module, loss, line(20), seed=5, max_epochs=2, batch_size=18, device="cpu")
    start, first, after_first, second, after_second = drawn[:5]
    assert drawn[:5] == drawn[5:]
    assert start == after_first == after_second  # held-out rows always meet the same noise
    assert len({start, first, second}) == 3


def test_too_few_rows_and_broken_losses_are_refused():
    module = linear()
    with pytest.raises(ValueError, match="5 rows are too few"):
        train(module, lambda batch, generator: batch[0][:, 0], line(5), seed=0, max_epochs=1, device="cpu")
    with pytest.raises(FloatingPointError, match="demo: loss not finite in epoch 1"):
        train(
            module,
            lambda batch, generator: (module(batch[0]) / 0.0)[:, 0],
            line(),
            seed=0,
            max_epochs=1,
            device="cpu",
            label="demo",
        )


def test_devices():
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    for absent in ("cuda:99", "abacus"):
        with pytest.raises(ValueError, match=f"device '{absent}' is not present here"):
            resolve_device(absent)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_trains_on_a_gpu():
    module, result = fit_line(device="cuda")
    assert result.converged
    assert module.weight.item() == pytest.approx(3, abs=0.03)


@pytest.mark.parametrize("watched", [True, False])
def test_progress_shows_only_to_a_person(monkeypatch, capsys, watched):
    monkeypatch.setattr("latentcause.progress.DELAY_S", 0.0)
    monkeypatch.setattr("rich.console.Console.is_terminal", watched)
    fit_line(max_epochs=3, label="fitting a line")
    assert ("fitting a line" in capsys.readouterr().err) == watched
