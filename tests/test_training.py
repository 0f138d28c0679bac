from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch._dynamo  # the first optimiser loads it, and it sets an environment variable
from torch import nn

from latentcause.training import Recipe, resolve_device, seeded, train


def line(n: int = 400, noise: float = 0.1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(n, 1, generator=generator)
    return x, 3 * x - 1 + noise * torch.randn(n, 1, generator=generator)


def fit_line(seed: int = 0, **settings) -> tuple[nn.Linear, object]:
    with seeded(seed):
        module = nn.Linear(1, 1)

    def loss(batch):
        return (module(batch[0]) - batch[1]).square().sum(dim=1)

    recipe = {"max_epochs": 200, "batch_size": 50, "learning_rate": 0.05} | settings
    run = {name: recipe.pop(name) for name in ("device", "label", "checkpoint", "log") if name in recipe}
    return module, train(module, loss, line(), Recipe(**recipe), seed=seed, **{"device": "cpu"} | run)


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

    def loss(batch):
        return (module(batch[0]) - batch[1]).square().sum(dim=1)

    x, _ = line()
    result = train(module, loss, (x, 3 * x - 1), Recipe(50, learning_rate=1.0), seed=0, device="cpu")
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


def test_random_numbers_come_from_the_generator_and_are_fixed_for_held_out_rows():
    drawn = []
    module = linear()

    def draw(batch, generator):
        drawn.append(torch.rand(len(batch[0]), generator=generator))
        return (drawn[-1],)

    def loss(batch):
        x, _, noise = batch
        return module(x)[:, 0].square() + noise

    for _ in range(2):
        train(module, loss, line(20), Recipe(2, 18), seed=5, draw=draw, device="cpu")
    assert all(torch.equal(one, two) for one, two in zip(drawn[:5], drawn[5:], strict=True))
    start, first, after_first, second, after_second = drawn[:5]
    assert torch.equal(start, after_first)
    assert torch.equal(start, after_second)
    assert not torch.equal(first, second)


def test_too_few_rows_and_broken_losses_are_refused():
    module = linear()
    with pytest.raises(ValueError, match="5 rows are too few"):
        train(module, lambda batch: batch[0][:, 0], line(5), Recipe(1), seed=0, device="cpu")
    with pytest.raises(FloatingPointError, match="demo: loss not finite in epoch 1"):
        train(
            module, lambda batch: (module(batch[0]) / 0.0)[:, 0], line(), Recipe(1), seed=0, device="cpu", label="demo"
        )
    with pytest.raises(ValueError, match="held_out=0 leaves the plateau schedule nothing to watch"):
        Recipe(1, held_out=0)


# --- schedule, average, precision ------------------------------------------------------------------------------------


def test_the_cosine_schedule_warms_up_and_ends_at_zero(monkeypatch):
    rates = []
    genuine = torch.optim.AdamW.step

    def step(self, *arguments):
        rates.append(self.param_groups[0]["lr"])
        return genuine(self, *arguments)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    _, result = fit_line(schedule="cosine", max_epochs=10, warm_up=0.1, held_out=0.0)
    assert len(rates) == 80
    assert result.converged
    assert result.best_epoch == 10
    assert np.argmax(rates) == 7
    assert rates[7] == pytest.approx(0.05)
    assert rates[0] == pytest.approx(0.05 / 8)
    middle = 8 + (80 - 8) // 2
    assert rates[middle] == pytest.approx(0.025)
    assert 0 < rates[-1] < 1e-4


def test_the_average_is_what_is_kept_and_is_steadier():
    noisy = {"max_epochs": 8, "learning_rate": 0.3, "batch_size": 4, "schedule": "cosine", "held_out": 0.0}
    # At a constant rate (a cosine cut short is nearly one) the last weights rattle about the solution.
    spread = {}
    for average in (0.0, 0.99):
        weights = [
            fit_line(seed=seed, average=average, **noisy | {"warm_up": 1.0})[0].weight.item() for seed in range(8)
        ]
        spread[average] = np.std(weights)
    assert spread[0.99] < 0.5 * spread[0.0]


def test_bfloat16_reaches_nearly_the_same():
    module, _ = fit_line(precision="bfloat16", schedule="cosine", max_epochs=40)
    assert module.weight.dtype == torch.float32
    assert module.weight.item() == pytest.approx(3, abs=0.05)


def test_the_gradient_is_clipped(monkeypatch):
    norms = []
    genuine = torch.optim.AdamW.step

    def step(self, *arguments):
        gradients = [p.grad for group in self.param_groups for p in group["params"]]
        norms.append(float(torch.cat([g.flatten() for g in gradients]).norm()))
        return genuine(self, *arguments)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    fit_line(max_epochs=2, clip_norm=0.1)
    assert max(norms) == pytest.approx(0.1, rel=1e-3)


# --- checkpoints -----------------------------------------------------------------------------------------------------

RESUMABLE = {"max_epochs": 12, "batch_size": 30, "average": 0.9, "learning_rate": 0.5, "patience": 2}


@pytest.mark.parametrize("schedule", ["plateau", "cosine"])
@pytest.mark.parametrize("stop", [1, 5, 11])
def test_a_training_that_was_cut_off_goes_on_to_the_identical_result(tmp_path, monkeypatch, schedule, stop):
    whole, expected = fit_line(schedule=schedule, **RESUMABLE)
    path = tmp_path / "state.pt"
    genuine = torch.save

    def save(content, target):
        genuine(content, target)
        if len(content["history"]) == stop + 1:
            raise KeyboardInterrupt  # while the next checkpoint is being written

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(KeyboardInterrupt):
        fit_line(schedule=schedule, checkpoint=path, **RESUMABLE)
    monkeypatch.setattr(torch, "save", genuine)
    assert [file.name for file in tmp_path.iterdir()] == ["state.pt"]
    module, result = fit_line(schedule=schedule, checkpoint=path, **RESUMABLE)
    assert result == expected
    assert torch.equal(module.weight, whole.weight)
    again, _ = fit_line(schedule=schedule, checkpoint=path, **RESUMABLE)  # nothing is left to do
    assert torch.equal(again.weight, whole.weight)


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_training import fit_line, RESUMABLE
import latentcause.training as training
genuine = training._State.save
def save(self, path):
    genuine(self, path)
    print(len(self.history), flush=True)
    if len(self.history) == 4:
        import os, signal
        os.kill(os.getpid(), signal.SIGKILL)
training._State.save = save
fit_line(checkpoint=Path({path!r}), **RESUMABLE)
"""


def test_a_killed_training_goes_on_to_the_identical_result(tmp_path):
    path = tmp_path / "state.pt"
    code = KILLED.format(tests=str(Path(__file__).parent), path=str(path))
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert killed.stdout.split() == ["1", "2", "3", "4"]
    whole, expected = fit_line(**RESUMABLE)
    module, result = fit_line(checkpoint=path, **RESUMABLE)
    assert result == expected
    assert torch.equal(module.weight, whole.weight)


def test_a_checkpoint_that_does_not_belong_is_refused(tmp_path):
    path = tmp_path / "state.pt"
    fit_line(checkpoint=path, max_epochs=2)
    with pytest.raises(ValueError, match=r"of another training \(seed: 0, not 1\): delete it"):
        fit_line(seed=1, checkpoint=path, max_epochs=2)
    with pytest.raises(ValueError, match=r"of another training \(recipe"):
        fit_line(checkpoint=path, max_epochs=3)
    module = linear()
    other = tuple(t + 1 for t in line())
    with pytest.raises(ValueError, match=r"of another training \(data"):
        train(
            module,
            lambda batch: module(batch[0])[:, 0].square(),
            other,
            Recipe(2, 50, 0.05),
            seed=0,
            device="cpu",
            checkpoint=path,
        )
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"checkpoint state\.pt is damaged or none"):
        fit_line(checkpoint=path, max_epochs=2)
    torch.save({"format": 99}, path)
    with pytest.raises(ValueError, match="of another version of latentcause"):
        fit_line(checkpoint=path, max_epochs=2)


def test_a_checkpoint_runs_no_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    path = tmp_path / "state.pt"
    torch.save({"format": 1, "training": Evil()}, path)
    with pytest.raises(ValueError, match="damaged or none"):
        fit_line(checkpoint=path, max_epochs=2)
    assert not (tmp_path / "ran").exists()


def test_the_log_holds_every_epoch(tmp_path):
    _, result = fit_line(max_epochs=3, log=tmp_path / "log")
    header, *rows = (tmp_path / "log" / "history.csv").read_text().splitlines()
    assert header == "epoch,train_loss,held_out_loss"
    assert [float(row.split(",")[2]) for row in rows] == pytest.approx(
        [entry["held_out_loss"] for entry in result.history]
    )


# --- several processes -----------------------------------------------------------------------------------------------

RANKS = """
import sys
sys.path.insert(0, {tests!r})
import torch
from test_training import fit_noisy
module, result = fit_noisy()
if torch.distributed.is_initialized():
    raise SystemExit("the processes were not parted again")
import os
if os.environ["RANK"] == "0":
    torch.save((module.state_dict(), [entry["held_out_loss"] for entry in result.history]), {path!r})
"""


def fit_noisy() -> tuple[nn.Module, object]:
    with seeded(0):
        module = nn.Sequential(nn.Linear(1, 8), nn.SiLU(), nn.Linear(8, 1)).double()

    def draw(batch, generator):
        return (0.1 * torch.randn(batch[0].shape, generator=generator, dtype=batch[0].dtype),)

    def loss(batch):
        x, y, noise = batch
        return (module(x + noise) - y).square().sum(dim=1)

    tensors = tuple(t.double() for t in line(203))  # batches and shares of them are uneven
    return module, train(module, loss, tensors, Recipe(4, 32), seed=0, draw=draw, device="cpu")


def test_two_processes_give_the_result_of_one_on_the_joint_batch(tmp_path):
    path = str(tmp_path / "two.pt")
    code = tmp_path / "rank.py"
    code.write_text(RANKS.format(tests=str(Path(__file__).parent), path=path))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(code)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    weights, losses = torch.load(path, weights_only=True)
    module, result = fit_noisy()
    assert losses == pytest.approx([entry["held_out_loss"] for entry in result.history], rel=1e-9)
    for name, value in module.state_dict().items():
        assert torch.allclose(weights[name], value, rtol=1e-8, atol=1e-10)


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
