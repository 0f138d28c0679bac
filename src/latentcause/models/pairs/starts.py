"""Where the training of `PairNetworks` starts: at the lines of changes, and at codes that change one at a time."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from latentcause.models.pairs.lines import Lines
from latentcause.models.pairs.networks import PairNetworks
from latentcause.models.pairs.single_changes import SingleChanges
from latentcause.training import Recipe, train

ROWS_AT_ONCE = 8192
MOMENTS_OF = 20_000  # pairs, for the scale of codes and what changes beside the target
EXACT = 0.1  # of a change beside the target, for each other code: below it lines are right but for a few wrong pairs
WORTH = 0.2  # share of the changes beside the target that training has to take away


@torch.no_grad()
def encoded(module: PairNetworks, v: Tensor, t: float = 0.0) -> Tensor:
    """Codes (n, m), float32 on the CPU, of standardised observations."""
    module.eval()
    device = module.hypotheses.device
    return torch.cat([module.encode(part.to(device), t).cpu() for part in v.split(ROWS_AT_ONCE)])


@torch.no_grad()
def begin_at(module: PairNetworks, lines: Lines) -> None:
    """Linear parts of encoder, solution functions and decoder as the lines of changes have them."""
    size = len(lines.unmix)
    module.encoder.skip.weight[:, :size] = torch.from_numpy(lines.unmix.T)
    module.decoder.head.skip.weight.copy_(torch.from_numpy(np.linalg.pinv(lines.unmix).T))
    module.decoder.head.skip.bias.zero_()
    own = np.diag(lines.solution)
    if module.solutions.others.any():
        module.solutions.linear.copy_(torch.from_numpy(lines.solution.T))
    module.solutions.networks.biases[-1][:, 0, 0] = torch.from_numpy(
        2 * np.arctanh(np.clip(np.log(own) / 2, -0.9, 0.9))
    )


def checkpoint_of_codes(checkpoint: Path) -> Path:
    """The file in which `settle` keeps its state, beside that of the whole training: run.codes.pt for run.pt."""
    return checkpoint.with_suffix(".codes" + checkpoint.suffix)


def settle(
    module: PairNetworks, tensors: tuple[Tensor, ...], recipe: Recipe, seed: int, device: str, checkpoint: Path | None
) -> bool:
    """Train the encoder until its codes change one at a time (`SingleChanges`), and give them mean 0 and variance 1.

    Where they do from the start, nothing is trained; where training hardly helps, as often with noisy measurements, codes stay
    as they were. Tells whether they are new. ``tensors`` are standardised observations before and after, and the numbers of known
    hypotheses (n,), -1 where unknown.
    """
    n = len(tensors[0])
    changes = SingleChanges(module.encoder, module.encode, module.hypotheses, recipe.max_epochs * n)
    some = tuple(part[:: max(1, n // MOMENTS_OF)] for part in tensors)
    at_first = changes.beside(some)
    if at_first < EXACT:
        return False
    weights = copy.deepcopy(module.encoder.state_dict())
    train(
        changes,
        changes.loss,
        tensors,
        recipe,
        seed=seed,
        draw=changes.draw,
        device=device,
        label="codes",
        checkpoint=checkpoint,
    )
    changes.to("cpu")  # where the module still is, but for the encoder
    if changes.beside(some) > (1 - WORTH) * at_first:
        module.encoder.load_state_dict(weights)
        return False
    codes = encoded(module, some[0])
    module.encoder.standardise(codes.mean(0), codes.std(0))
    return True
