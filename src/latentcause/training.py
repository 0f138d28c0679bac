"""The one training loop: Adam on shuffled minibatches until held-out rows stop improving."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from latentcause.progress import progress

Rows = tuple[Tensor, ...]  # tensors that share their first axis
Loss = Callable[[Rows, torch.Generator], Tensor]

HELD_OUT = 0.1  # share of the rows that the stopping rule watches
CLIP_NORM = 10.0  # longest gradient that a step follows
DROPS = 2  # how often the learning rate falls, each time to a fifth, before the training stops
EVALUATION_ROWS = 8192


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
    *,
    seed: int,
    max_epochs: int,
    batch_size: int = 256,
    learning_rate: float = 3e-3,
    patience: int = 5,
    min_gain: float = 1e-3,
    device: str = "auto",
    label: str = "training",
) -> Training:
    """Minimise the mean of ``loss`` over the rows of ``tensors`` and leave ``module`` at its best held-out values.

    ``loss(batch, generator)`` gives one value per row of ``batch`` (the same rows of each tensor) and draws its noise
    from ``generator``. A tenth of the rows is set aside and scored after each epoch, always with the same noise. After
    ``patience`` epochs without a gain of ``min_gain`` the learning rate falls to a fifth; the third time, the training
    ends as converged. The starting values count as epoch 0, so the held-out loss never gets worse. Nothing is drawn
    from the global random state: the same seed gives the same result.

    Raises ``ValueError`` for too few rows or an absent device, ``FloatingPointError`` where the loss is not finite.
    """
    where = resolve_device(device)
    module.to(where)
    order, noise = torch.Generator().manual_seed(seed), torch.Generator(where).manual_seed(seed)
    kept, tested = _split(tensors, order, where)
    n_rows = len(kept[0])
    optimiser = torch.optim.Adam(module.parameters(), lr=learning_rate, fused=True)

    history: list[dict[str, float]] = []
    mark = best_loss = _evaluate(loss, tested, where, seed)
    best, best_epoch, stale, drops = deepcopy(module.state_dict()), 0, 0, 0
    with progress(label, max_epochs) as report:
        for epoch in range(1, max_epochs + 1):
            shuffled = torch.randperm(n_rows, generator=order).to(where)
            total = torch.zeros((), device=where)
            for rows in shuffled.split(batch_size):
                values = loss(tuple(t[rows] for t in kept), noise)
                optimiser.zero_grad()
                values.mean().backward()
                nn.utils.clip_grad_norm_(module.parameters(), CLIP_NORM)
                optimiser.step()
                total += values.detach().sum()
            mean, tested_loss = float(total) / n_rows, _evaluate(loss, tested, where, seed)
            if not (math.isfinite(mean) and math.isfinite(tested_loss)):
                raise FloatingPointError(f"{label}: loss not finite in epoch {epoch}; use a smaller learning_rate")
            history.append({"epoch": epoch, "train_loss": mean, "held_out_loss": tested_loss})
            report(epoch, tested_loss)
            if tested_loss < best_loss:
                best_loss, best, best_epoch = tested_loss, deepcopy(module.state_dict()), epoch
            if best_loss < mark - min_gain:
                mark, stale = best_loss, 0
                continue
            stale += 1
            if stale == patience:
                if drops == DROPS:
                    break
                # A lower rate refines the best point found, not the one the noise has carried us to since.
                module.load_state_dict(best)
                drops, stale = drops + 1, 0
                optimiser = torch.optim.Adam(module.parameters(), lr=learning_rate / 5**drops, fused=True)
    module.load_state_dict(best)
    return Training(history, converged=stale == patience, best_epoch=best_epoch)


def resolve_device(device: str) -> torch.device:
    """The torch device that ``device`` names; "auto" is the current CUDA device, or the CPU where there is none."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
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


def _split(tensors: Rows, order: torch.Generator, device: torch.device) -> tuple[Rows, Rows]:
    n_rows = len(tensors[0])
    if not (n_tested := round(HELD_OUT * n_rows)):
        raise ValueError(f"{n_rows} rows are too few to hold some out for the stopping rule: at least 6 are needed")
    tested, kept = torch.randperm(n_rows, generator=order).split([n_tested, n_rows - n_tested])
    return tuple(t[kept].to(device) for t in tensors), tuple(t[tested].to(device) for t in tensors)


@torch.no_grad()
def _evaluate(loss: Loss, tensors: Rows, device: torch.device, seed: int) -> float:
    generator = torch.Generator(device=device).manual_seed(seed + 1)
    batches = zip(*(t.split(EVALUATION_ROWS) for t in tensors), strict=True)
    return sum(float(loss(batch, generator).double().sum()) for batch in batches) / len(tensors[0])
