"""Where the training of `PairNetworks` starts: at the lines of changes, and at the codes of the most likely flow."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from latentcause.models.linear_pairs import matched
from latentcause.models.pairs.contrastive_codes import told_apart
from latentcause.models.pairs.coordinates import Coordinates
from latentcause.models.pairs.flow_codes import FlowEncoder, late_part
from latentcause.models.pairs.lines import Lines
from latentcause.models.pairs.networks import PairNetworks
from latentcause.models.pairs.pair_likelihood import PairLikelihood
from latentcause.networks.coupling_flow import CouplingFlow
from latentcause.networks.skip_mlp import SkipMLP
from latentcause.training import Recipe, seeded, train

ROWS_AT_ONCE = 8192
MOMENTS_OF = 20_000  # pairs, for the scale of codes and what changes beside the target
EXACT = 0.1  # of a change beside the target, for each other code: below it lines are right but for a few wrong pairs
FINEST = 0.05  # change that counts as one half, in sds of the code
LAYERS, WIDTH = 8, 64  # of the flow
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
    size, encoder, head = len(lines.unmix), module.encoder, module.decoder.head
    if not (isinstance(encoder, SkipMLP) and isinstance(head, SkipMLP)):
        raise TypeError("these networks have learned their codes already")
    encoder.skip.weight[:, :size] = torch.from_numpy(lines.unmix.T)
    head.skip.weight.copy_(torch.from_numpy(np.linalg.pinv(lines.unmix).T))
    head.skip.bias.zero_()
    own = np.diag(lines.solution)
    if module.solutions.others.any():
        module.solutions.linear.copy_(torch.from_numpy(lines.solution.T))
    module.solutions.networks.biases[-1][:, 0, 0] = torch.from_numpy(
        2 * np.arctanh(np.clip(np.log(own) / 2, -0.9, 0.9))
    )


def checkpoint_of_codes(checkpoint: Path, part: str = "codes") -> Path:
    """A file in which `settle` keeps a state, beside that of the whole training: run.codes.pt for run.pt."""
    return checkpoint.with_suffix(f".{part}{checkpoint.suffix}")


def checkpoints_beside(checkpoint: Path) -> list[Path]:
    """The files of that kind that are there, and no others: they are deleted in the end."""
    name = re.compile(
        re.escape(checkpoint.stem) + r"\.(codes\d*|contrast\d+|coordinates)" + re.escape(checkpoint.suffix)
    )
    return sorted(file for file in checkpoint.parent.glob("*") if name.fullmatch(file.name))


def beside(first: Tensor, second: Tensor, hypotheses: Tensor, known: Tensor) -> float:
    """What changes beside the target, for each other code: mean over pairs of codes (n, m), known hypotheses or -1 (n,).

    A change of d sds of the codes before counts d^2 / (d^2 + .05^2) (Geman and McClure 1987); of an unknown target, the hypothesis
    that explains most.
    """
    sd = first.std(0, correction=0).clamp(min=1e-6)
    changed = ((second - first) / sd).square()
    changed = changed / (changed + FINEST**2)
    explained = changed @ hypotheses.T
    own = torch.where(known >= 0, explained.gather(1, known.clamp(min=0)[:, None])[:, 0], explained.amax(1))
    return float((changed.sum(1) - own).mean()) / max(1, first.shape[1] - 1)


def settle(
    module: PairNetworks,
    tensors: tuple[Tensor, ...],
    spread: Tensor,
    recipe: Recipe,
    *,
    width: int,
    depth: int,
    starts: int,
    seed: int,
    device: str,
    checkpoint: Path | None,
) -> bool:
    """Give the networks codes in which one number at a time changes: those of the most likely flow (`PairLikelihood`).

    Where the codes do so from the start, nothing is trained; where training hardly helps, as often with noisy measurements, they
    stay as they were. Tells whether they are new. Of ``starts`` flows the first begins at the lines of changes, the others
    anywhere; the likelihood chooses. Observations of more numbers than there are latents are first given as many `Coordinates`;
    where no latent can be told apart for that (`told_apart`), codes stay as they were, too.

    Parameters
    ----------
    tensors
        Standardised observations (n, r) before and after, and the numbers of known hypotheses (n,), -1 where unknown.
    spread : Tensor (r,)
        sds of the standardised directions, in the unit of the observations.
    """
    v, v_after, known = tensors
    n, m = len(v), module.n_latents
    some = tuple(part[:: max(1, n // MOMENTS_OF)] for part in tensors)
    hypotheses = module.hypotheses.cpu()
    at_first = beside(encoded(module, some[0]), encoded(module, some[1]), hypotheses, some[2])
    if at_first < EXACT or v.shape[1] < m:
        return False
    total = recipe.max_epochs * n

    def kept(part: str) -> Path | None:
        return None if checkpoint is None else checkpoint_of_codes(checkpoint, part)

    def trained(learner: Coordinates | PairLikelihood, rows: tuple[Tensor, ...], label: str, part: str) -> float:
        result = train(
            learner,
            learner.loss,
            rows,
            recipe,
            seed=seed,
            draw=learner.draw,
            device=device,
            label=label,
            checkpoint=kept(part),
        )
        learner.to("cpu")
        return result.history[-1]["train_loss"]

    coordinates, rows = None, [v, v_after]
    if v.shape[1] > m:
        scale, at_once = (spread / spread.mean()).sqrt().float(), int(hypotheses.sum(1).max())
        changed, stays = told_apart(
            v * scale, v_after * scale, m, at_once, seed=seed, device=device, checkpoint=kept("contrast")
        )
        alone = changed.shape[1]
        if alone == 0 or (alone < m and at_once > 1):
            return False
        with seeded(seed):
            coordinates = Coordinates.of(v, v_after, spread, changed, stays, m, width, depth, seed)
        if coordinates is None:
            return False
        with torch.no_grad():
            rows = [torch.cat([coordinates(p) for p in part.split(ROWS_AT_ONCE)]) for part in rows]
        trained(coordinates, (v, v_after, *rows), "way back", "coordinates")
    found = []
    for k in range(starts):
        with seeded(seed + k):
            flow, solutions = CouplingFlow(m, LAYERS, WIDTH), copy.deepcopy(module.solutions)
        if k == 0:
            lines = lines_of(*(part.numpy() for part in (*rows, known)), hypotheses=hypotheses, seed=seed)
            flow.begin_at(torch.from_numpy(lines.unmix).float())
        likelihood = PairLikelihood(flow, solutions, hypotheses, total)
        label = "codes" if starts == 1 else f"codes, start {k + 1} of {starts}"
        loss = trained(likelihood, (*rows, known), label, "codes" if k == 0 else f"codes{k + 1}")
        found.append((loss, k, likelihood))
    best = min(found, key=lambda entry: entry[:2])[2]
    with torch.no_grad():
        first, second = (best.flow(part[:: max(1, n // MOMENTS_OF)])[0] for part in rows)
    if beside(first, second, hypotheses, some[2]) > (1 - WORTH) * at_first:
        return False
    module.take(FlowEncoder(coordinates, best.flow, _late(module, v.shape[1], width, depth, seed)), best.solutions)
    return True


def with_flow(module: PairNetworks, spread: Tensor, width: int, depth: int, alone: int | None) -> None:
    """Give networks the parts that `settle` gives them, with no values yet: for a file to fill.

    ``alone`` is that of `Coordinates`, None where there are none.
    """
    with seeded(0):
        coordinates = None if alone is None else Coordinates(spread, module.n_latents, alone, width, depth)
        flow = CouplingFlow(module.n_latents, LAYERS, WIDTH)
    module.take(FlowEncoder(coordinates, flow, _late(module, len(spread), width, depth, 0)), module.solutions)


def _late(module: PairNetworks, size: int, width: int, depth: int, seed: int) -> SkipMLP | None:
    with seeded(seed):
        return late_part(size, module.n_latents, width, depth) if module.has_trajectory else None


def lines_of(v: np.ndarray, v_after: np.ndarray, known: np.ndarray, *, hypotheses: Tensor, seed: int) -> Lines:
    """The lines of changes, in the order that known targets give them."""
    m = hypotheses.shape[1]
    lines = Lines.fit(v, v_after, m, seed, bool((hypotheses.sum(1) > 1).any()))
    return lines.taking(matched(lines.codes(v_after) - lines.codes(v), known, m))
