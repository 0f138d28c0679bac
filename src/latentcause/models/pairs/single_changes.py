"""Codes that change one at a time: what an encoder can learn from pairs before there is a decoder."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

COARSEST, FINEST = 1.0, 0.05  # sizes of changes that count as one half, at first and at last, in sds of the code
SETTLED = 0.7  # share of the training at which the finest is reached
SPREAD, PEAKED, CORRELATED = 0.1, 0.1, 0.1  # weights beside the changes
LEAST_CHANGED = 1e-4


class SingleChanges(nn.Module):
    """Trains an encoder so that between x and x~ no other code changes than those that the intervention hit.

    With d_i = (e~_i - e_i) / sd_i, in sds of the codes before, changes are counted by r_i = d_i^2 / (d_i^2 + s^2) (Geman and
    McClure 1987), which is 0 for none and near 1 for any that is large beside s. The loss of a pair is

        sum_i r_i - max_h sum_i h_i r_i,

    with h the hypotheses about what was hit (for a known target, that one): what changes beside the target. s falls from 1 to .05,
    so that large changes are settled before small ones. Three terms over the batch keep codes from changing rarely, or together:
    -.1 sum_i log mean r_i, for every code has to change in its share of the pairs; .1 times how far the fourth moment of a code
    before is above that of a Gaussian, because a spike changes rarely too; and .1 times the squared correlations before.

    Where interventions are perfect, functions of one noise of the causal model each are such codes (compare Theorem 1 of Brehmer et
    al. 2022). There is no likelihood in it, and so nothing to be traded for a change. A code that holds two noises while
    two others hold the same one is a local minimum, seen where a noise is hard to read off the observations.

    Parameters
    ----------
    encoder : Module
        What is trained.
    encode : callable
        Codes (n, n_latents) of observations by it, and of times (n,) in [0, 1], for codes that are a trajectory.
    hypotheses : Tensor (k, n_latents)
        0 or 1; the first row is "none".
    total : int
        Pairs that the whole training sees.
    """

    hypotheses: Tensor
    seen: Tensor

    def __init__(
        self, encoder: nn.Module, encode: Callable[[Tensor, Tensor], Tensor], hypotheses: Tensor, total: int
    ) -> None:
        super().__init__()
        self.encoder, self.encode, self.total = encoder, encode, total
        self.register_buffer("hypotheses", hypotheses.float())
        self.register_buffer("seen", torch.zeros((), dtype=torch.float64))

    def draw(self, batch: tuple[Tensor, ...], generator: torch.Generator) -> tuple[Tensor, ...]:
        """Times. A batch is counted here, where it is whole."""
        self.seen += len(batch[0])
        return (torch.rand(len(batch[0]), generator=generator, device=batch[0].device),)

    def loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        """The loss (n,) of batches (x, x~, number of the hypothesis or -1, times)."""
        x, after, known, t = batch
        scale = COARSEST * (FINEST / COARSEST) ** min(1.0, float(self.seen) / (SETTLED * self.total))
        changed, standard = self._changed(x, after, t, scale)
        correlations = standard.T @ standard / len(standard) - torch.eye(standard.shape[1], device=standard.device)
        peaks = (standard.pow(4).mean(0) - 3).clamp(min=0).sum()
        spread = changed.mean(0).clamp(min=LEAST_CHANGED).log().sum()
        beside = self._beside(changed, known)
        return beside - SPREAD * spread + PEAKED * peaks + CORRELATED * correlations.square().sum()

    @torch.no_grad()
    def beside(self, rows: tuple[Tensor, ...]) -> float:
        """What changes beside the target by the finest measure, for each other code: mean over pairs (x, x~, hypothesis or -1)."""
        x, after, known = (part.to(self.hypotheses.device) for part in rows)
        changed, _ = self._changed(x, after, torch.full((len(x),), 0.5, device=x.device), FINEST)
        return float(self._beside(changed, known).mean()) / max(1, changed.shape[1] - 1)

    def _changed(self, x: Tensor, after: Tensor, t: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        """r (n, n_latents), and the codes before on their standard scale."""
        first, second = self.encode(torch.cat([x, after]), torch.cat([t, t])).chunk(2)
        mean, sd = first.mean(0), first.std(0, correction=0).clamp(min=1e-6)
        squares = ((second - first) / sd).square()
        return squares / (squares + scale**2), (first - mean) / sd

    def _beside(self, changed: Tensor, known: Tensor) -> Tensor:
        """(n,): what no hypothesis, or the known one, explains."""
        explained = changed @ self.hypotheses.T
        told = explained.gather(1, known.clamp(min=0)[:, None])[:, 0]
        return changed.sum(1) - torch.where(known >= 0, told, explained.amax(1))
