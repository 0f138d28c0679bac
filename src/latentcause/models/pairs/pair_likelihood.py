"""The likelihood of pairs under an invertible encoder: what codes are learned by where they are as many as what is observed."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from latentcause.models.pairs.solution_functions import SolutionFunctions
from latentcause.networks.coupling_flow import CouplingFlow

WIDEST = 0.3  # added to the width of what stays, at first
NARROWED = 0.6  # share of the training at which nothing is added any more
FREEDOM = (
    2.0  # degrees of freedom of what stays: sensors and autoencoders err by more than a Gaussian does, now and then
)
HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


class PairLikelihood(nn.Module):
    """log p(u, u~) of coordinates before and after, for codes e = f(u) with f a diffeomorphism.

    The hypothesis h says which latents were hit. All others keep their noise, e~_j = e_j but for a small error that has Student's t
    distribution with scale tau_j; of those that were hit z~_i = s_i(e~_i; e~_-i) ~ N(0, 1), with s the solution functions
    (Brehmer et al., Weakly supervised causal representation learning, 2022, section 3):

        p(u, u~) = |det df/du| |det df/du~| N(e; 0, 1) sum_h pi_h p(e~ | e, h),
        p(e~ | e, h) = prod_{j not in h} t(e~_j - e_j; tau_j) prod_{i in h} p(e~_i | e~_-i).

    Unlike a loss that counts changes, or an autoencoder's, it charges for every fold: codes can neither hold two noises in one
    nor hide a change, as both cost volume. tau is wide at first.

    Parameters
    ----------
    flow : CouplingFlow
    solutions : SolutionFunctions
    hypotheses : Tensor (k, m)
        0 or 1; the first row is "none".
    total : int
        Pairs that the whole training sees.
    """

    hypotheses: Tensor
    seen: Tensor

    def __init__(self, flow: CouplingFlow, solutions: SolutionFunctions, hypotheses: Tensor, total: int) -> None:
        super().__init__()
        self.flow, self.solutions, self.total = flow, solutions, total
        self.log_tau = nn.Parameter(torch.full((hypotheses.shape[1],), -3.0))
        self.shares = nn.Parameter(torch.zeros(len(hypotheses)))
        self.register_buffer("hypotheses", hypotheses.float())
        self.register_buffer("seen", torch.zeros((), dtype=torch.float64))

    def draw(self, batch: tuple[Tensor, ...], generator: torch.Generator) -> tuple[Tensor, ...]:
        """Nothing. A batch is counted here, where it is whole."""
        self.seen += len(batch[0])
        return ()

    def loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        """-log p(u, u~) (n,) in nats of batches (u, u~, number of the hypothesis or -1); with that of a known hypothesis."""
        u, after, known = batch
        e, volume = self.flow(torch.cat([u, after]))
        first, second = e.chunk(2)
        prior = -0.5 * first.square().sum(1) - HALF_LOG_2PI * first.shape[1]
        joint = only_known(self.by_hypothesis(first, second), known)
        return -(volume.reshape(2, -1).sum(0) + prior + joint.logsumexp(1))

    def by_hypothesis(self, first: Tensor, second: Tensor) -> Tensor:
        """log pi_h p(e~ | e, h) (n, k) of codes before and after (n, m)."""
        left = max(0.0, 1 - float(self.seen) / (NARROWED * self.total))
        tau = self.log_tau.exp() + WIDEST * left**2
        t = (FREEDOM + 1) / 2
        constant = math.lgamma(t) - math.lgamma(FREEDOM / 2) - 0.5 * math.log(FREEDOM * math.pi)
        kept = constant - tau.log() - t * torch.log1p(((second - first) / tau).square() / FREEDOM)
        z, log_slope = self.solutions(second)
        hit = log_slope - 0.5 * z.square() - HALF_LOG_2PI
        return self.shares.log_softmax(0) + kept.sum(1, keepdim=True) + (hit - kept) @ self.hypotheses.T


def only_known(joint: Tensor, known: Tensor) -> Tensor:
    """log pi_h p (n, k) with next to nothing for all hypotheses but the known one, where it is known (n,), not -1."""
    others = known[:, None] != torch.arange(joint.shape[1], device=joint.device)
    return torch.where((known >= 0)[:, None] & others, -1e4, joint)
