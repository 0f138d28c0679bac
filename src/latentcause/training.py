"""The one training loop of all neural models."""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, distributed, nn

from latentcause.progress import progress
from latentcause.writing import write_atomically

Rows = tuple[Tensor, ...]  # tensors that share their first axis
Loss = Callable[[Rows], Tensor]
Draw = Callable[[Rows, torch.Generator], Rows]

DROPS = 2  # how often the plateau schedule lowers the learning rate, each time to a fifth, before the training stops
EVALUATION_ROWS = 8192
CHECKPOINT_FORMAT = 1


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Attributes
    ----------
    max_epochs : int
        Passes over the rows at most.
    batch_size, learning_rate, weight_decay
        Of AdamW (Loshchilov and Hutter 2019).
    schedule : {"plateau", "cosine"}
        ``plateau``: after ``patience`` epochs without a gain of ``min_gain`` on the held-out rows the learning rate falls to a
        fifth; the third time, the training ends as converged. ``cosine``: it rises over the first ``warm_up`` share of the
        steps and falls along a half cosine to 0 at the last, when the training ends as converged.
    average : float
        Decay of the moving average of the weights, which then is what is scored and kept; 0 for none. It starts
        smaller, so that the first steps are forgotten.
    clip_norm : float
        Longest gradient that a step follows.
    precision : {"float32", "bfloat16"}
        Of the loss's matrix products (autocast).
    held_out : float
        Share of the rows that is set aside to score the weights after each epoch; the best are kept. With 0 none are,
        and the last weights are kept: only with ``cosine``.
    """

    max_epochs: int
    batch_size: int = 256
    learning_rate: float = 3e-3
    weight_decay: float = 0.0
    schedule: Literal["plateau", "cosine"] = "plateau"
    warm_up: float = 0.05
    patience: int = 5
    min_gain: float = 1e-3
    average: float = 0.0
    clip_norm: float = 10.0
    precision: Literal["float32", "bfloat16"] = "float32"
    held_out: float = 0.1

    def __post_init__(self) -> None:
        if self.held_out == 0 and self.schedule == "plateau":
            raise ValueError('held_out=0 leaves the plateau schedule nothing to watch: use schedule="cosine"')


@dataclass(frozen=True)
class Training:
    """What ``train`` did: an entry per epoch, whether it settled, and the epoch whose values were kept."""

    history: list[dict[str, float]]
    converged: bool
    best_epoch: int


def train(
    module: nn.Module,
    loss: Loss,
    tensors: Rows,
    recipe: Recipe,
    *,
    seed: int,
    draw: Draw | None = None,
    device: str = "auto",
    label: str = "training",
    checkpoint: Path | None = None,
    log: Path | None = None,
) -> Training:
    """Minimise the mean of ``loss`` over the rows of ``tensors`` and leave ``module`` at the best values found.

    ``loss(batch)`` gives one value per row; ``batch`` holds the same rows of each tensor, followed by what
    ``draw(batch, generator)`` gave for them: all random numbers come from there. Held-out rows always meet the same ones,
    and the starting values count as epoch 0, so the held-out loss never gets worse. Nothing is drawn from the global
    random state: the same seed gives the same result.

    Parameters
    ----------
    checkpoint : Path, optional
        File that holds the state after each epoch, whole or absent. Where it exists the training goes on from there, to the
        identical result; it must come from the same recipe, seed and rows.
    log : Path, optional
        Folder for ``history.csv`` and, where the package tensorboard is installed, its events.

    Under torchrun each process takes its share of every batch and the gradients are summed: the same result, up to rounding,
    as one process on the whole batches.

    Raises
    ------
    ValueError
        For too few rows, an absent device, or a checkpoint that is damaged or of another training.
    FloatingPointError
        Where the loss is not finite.
    """
    with _ranks() as (rank, world):
        state = _State(module, tensors, recipe, seed, resolve_device(device))
        if checkpoint is not None and checkpoint.exists():
            state.load(checkpoint)
        elif recipe.held_out:
            state.best_loss = state.mark = _evaluate(state, loss, draw, rank, world)
        rounds = range(len(state.history) + 1, recipe.max_epochs + 1)
        with progress(label, recipe.max_epochs) as report:
            for epoch in rounds if not state.done else ():
                mean = _one_epoch(state, loss, draw, rank, world)
                score = _evaluate(state, loss, draw, rank, world) if recipe.held_out else mean
                if not (math.isfinite(mean) and math.isfinite(score)):
                    raise FloatingPointError(f"{label}: loss not finite in epoch {epoch}; use a smaller learning_rate")
                state.finish_epoch(epoch, mean, score)
                if rank == 0 and checkpoint is not None:
                    state.save(checkpoint)
                if rank == 0 and log is not None:
                    _write_log(log, state.history)
                report(epoch, score)
                if state.done:
                    break
        module.load_state_dict(state.best)
        return Training(state.history, state.done, state.best_epoch)


def resolve_device(device: str) -> torch.device:
    """The torch device that ``device`` names; "auto" is a CUDA device (under torchrun, the process's own), or the CPU."""
    if device == "auto":
        device = f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"
    kind, _, number = device.partition(":")
    if kind not in ("cpu", "cuda") or (kind == "cuda" and int(number or 0) >= torch.cuda.device_count()):
        raise ValueError(f'device {device!r} is not present here: use "auto" or "cpu"')
    return torch.device(device)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Modules made inside this block draw their weights from ``seed``; the global random state is put back after."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def _one_epoch(state: _State, loss: Loss, draw: Draw | None, rank: int, world: int) -> float:
    """Every kept row once; the mean loss. The gradient is that of the mean over the whole batch, of all processes."""
    recipe, total = state.recipe, torch.zeros((), dtype=torch.float64, device=state.device)
    shuffled = torch.randperm(len(state.kept[0]), generator=state.order).to(state.device)
    for rows in shuffled.split(recipe.batch_size):
        batch = _with_draws(tuple(t[rows] for t in state.kept), draw, state.noise)
        own = tuple(t[rank::world] for t in batch)
        state.optimiser.zero_grad()
        with torch.autocast(state.device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
            values = loss(own).float()
        (values.sum() / len(rows)).backward()
        _sum_over_ranks([p.grad for p in state.module.parameters() if p.grad is not None], world)
        nn.utils.clip_grad_norm_(state.module.parameters(), recipe.clip_norm)
        state.step()
        total += values.detach().double().sum()
    _sum_over_ranks([total], world)
    return float(total) / len(state.kept[0])


@torch.no_grad()
def _evaluate(state: _State, loss: Loss, draw: Draw | None, rank: int, world: int) -> float:
    """The mean loss over the held-out rows, with the averaged weights where there are some."""
    generator = torch.Generator(state.device).manual_seed(state.seed + 1)
    total = torch.zeros((), dtype=torch.float64, device=state.device)
    with state.averaged_weights():
        for rows in torch.arange(len(state.tested[0]), device=state.device).split(EVALUATION_ROWS):
            batch = _with_draws(tuple(t[rows] for t in state.tested), draw, generator)
            with torch.autocast(state.device.type, torch.bfloat16, enabled=state.recipe.precision == "bfloat16"):
                total += loss(tuple(t[rank::world] for t in batch)).double().sum()
    _sum_over_ranks([total], world)
    return float(total) / len(state.tested[0])


class _State:
    """Everything that changes while training; what a checkpoint holds."""

    def __init__(self, module: nn.Module, tensors: Rows, recipe: Recipe, seed: int, device: torch.device) -> None:
        self.module, self.recipe, self.seed, self.device = module.to(device), recipe, seed, device
        self.order, self.noise = torch.Generator().manual_seed(seed), torch.Generator(device).manual_seed(seed)
        self.kept, self.tested = _split(tensors, recipe.held_out, self.order, device)
        self.optimiser = torch.optim.AdamW(
            module.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
        )
        self.average = {name: value.detach().clone() for name, value in module.named_parameters()}
        self.history: list[dict[str, float]] = []
        self.steps = self.stale = self.drops = self.best_epoch = 0
        self.best, self.best_loss, self.mark, self.done = deepcopy(module.state_dict()), math.inf, math.inf, False
        self.steps_in_all = recipe.max_epochs * math.ceil(len(self.kept[0]) / recipe.batch_size)

    def step(self) -> None:
        """One step of the optimiser, and of the average."""
        if self.recipe.schedule == "cosine":
            for group in self.optimiser.param_groups:
                group["lr"] = self.recipe.learning_rate * self._cosine()
        self.optimiser.step()
        self.steps += 1
        if self.recipe.average:
            decay = min(self.recipe.average, (1 + self.steps) / (10 + self.steps))
            with torch.no_grad():
                for name, value in self.module.named_parameters():
                    self.average[name].lerp_(value, 1 - decay)

    def _cosine(self) -> float:
        warm = max(1, round(self.recipe.warm_up * self.steps_in_all))
        if self.steps < warm:
            return (self.steps + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * (self.steps - warm) / max(1, self.steps_in_all - warm)))

    def finish_epoch(self, epoch: int, mean: float, score: float) -> None:
        """Keep the best weights; lower the learning rate or end where nothing is gained."""
        self.history.append({"epoch": epoch, "train_loss": mean, "held_out_loss": score})
        if score < self.best_loss or not self.recipe.held_out:
            with self.averaged_weights():
                self.best_loss, self.best, self.best_epoch = score, deepcopy(self.module.state_dict()), epoch
        if self.recipe.schedule == "cosine":
            self.done = epoch == self.recipe.max_epochs
            return
        if self.best_loss < self.mark - self.recipe.min_gain:
            self.mark, self.stale = self.best_loss, 0
            return
        self.stale += 1
        if self.stale == self.recipe.patience:
            if self.drops == DROPS:
                self.done = True
                return
            # A lower rate refines the best point found, not the one the noise has carried us to since.
            self.module.load_state_dict(self.best)
            self.drops, self.stale = self.drops + 1, 0
            self.optimiser = torch.optim.AdamW(
                self.module.parameters(),
                lr=self.recipe.learning_rate / 5**self.drops,
                weight_decay=self.recipe.weight_decay,
                fused=True,
            )

    @contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """Inside, the module has the averaged weights, where there is an average."""
        if not self.recipe.average:
            yield
            return
        own = {name: value.detach().clone() for name, value in self.module.named_parameters()}
        with torch.no_grad():
            for name, value in self.module.named_parameters():
                value.copy_(self.average[name])
            yield
            for name, value in self.module.named_parameters():
                value.copy_(own[name])

    def save(self, path: Path) -> None:
        """Write the checkpoint, whole or not at all."""
        content = {
            "format": CHECKPOINT_FORMAT,
            "training": self._identity(),
            "module": self.module.state_dict(),
            "average": self.average,
            "best": self.best,
            "optimiser": self.optimiser.state_dict(),
            "order": self.order.get_state(),
            "noise": self.noise.get_state(),
            "history": self.history,
            **{name: getattr(self, name) for name in _COUNTERS},
        }
        with write_atomically(path) as temporary:
            torch.save(content, temporary)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint."""
        try:
            content: dict[str, Any] = torch.load(path, map_location=self.device, weights_only=True)  # runs no code
        except Exception as error:
            raise ValueError(f"checkpoint {path.name} is damaged or none ({error}): delete it to start anew") from error
        if not isinstance(content, dict) or content.get("format") != CHECKPOINT_FORMAT:
            raise ValueError(f"checkpoint {path.name} is of another version of latentcause: delete it to start anew")
        for what, value in self._identity().items():
            if content["training"].get(what) != value:
                raise ValueError(
                    f"checkpoint {path.name} is of another training ({what}: {content['training'].get(what)}, not {value}): "
                    "delete it, or name another file"
                )
        self.module.load_state_dict(content["module"])
        self.optimiser.load_state_dict(content["optimiser"])
        self.order.set_state(content["order"].cpu())
        self.noise.set_state(content["noise"].cpu())
        self.average, self.best, self.history = content["average"], content["best"], content["history"]
        for name in _COUNTERS:
            setattr(self, name, content[name])

    def _identity(self) -> dict[str, Any]:
        shapes = [list(t.shape) for t in self.kept]
        weights = {name: list(value.shape) for name, value in self.module.named_parameters()}
        data = [zlib.crc32(t[:: max(1, len(t) // 256)].cpu().contiguous().numpy().tobytes()) for t in self.kept]
        return {"recipe": asdict(self.recipe), "seed": self.seed, "rows": shapes, "weights": weights, "data": data}


_COUNTERS = ("steps", "stale", "drops", "best_epoch", "best_loss", "mark", "done")


def _split(tensors: Rows, share: float, order: torch.Generator, device: torch.device) -> tuple[Rows, Rows]:
    n_rows = len(tensors[0])
    n_tested = round(share * n_rows)
    if share and not n_tested:
        raise ValueError(f"{n_rows} rows are too few to hold some out for the stopping rule: at least 6 are needed")
    tested, kept = torch.randperm(n_rows, generator=order).split([n_tested, n_rows - n_tested])
    return tuple(t[kept].to(device) for t in tensors), tuple(t[tested].to(device) for t in tensors)


def _with_draws(batch: Rows, draw: Draw | None, generator: torch.Generator) -> Rows:
    return batch if draw is None else (*batch, *draw(batch, generator))


@contextmanager
def _ranks() -> Iterator[tuple[int, int]]:
    """(rank, number of processes); under torchrun the processes are joined here if nobody has done so."""
    joins = "RANK" in os.environ and distributed.is_available() and not distributed.is_initialized()
    if joins:
        distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        together = distributed.is_available() and distributed.is_initialized()
        yield (distributed.get_rank(), distributed.get_world_size()) if together else (0, 1)
    finally:
        if joins:
            distributed.destroy_process_group()


def _sum_over_ranks(tensors: list[Tensor], world: int) -> None:
    """Sum each tensor over the processes, in place and in one message."""
    if world == 1:
        return
    flat = torch.cat([t.reshape(-1) for t in tensors])
    distributed.all_reduce(flat)
    for tensor, part in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
        tensor.copy_(part.reshape(tensor.shape))


def _write_log(folder: Path, history: list[dict[str, float]]) -> None:
    """The whole history as CSV; the last epoch as TensorBoard events."""
    folder.mkdir(parents=True, exist_ok=True)
    with write_atomically(folder / "history.csv") as temporary:
        lines = [",".join(history[0]), *(",".join(f"{value:.9g}" for value in entry.values()) for entry in history)]
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return
    with SummaryWriter(str(folder)) as writer:
        for name in ("train_loss", "held_out_loss"):
            writer.add_scalar(name, history[-1][name], int(history[-1]["epoch"]))
