"""The networks of DCRL and what they are trained on."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from latentcause.models.pairs.decoders import SIGMA_MAX, SIGMA_MIN, DiffusionDecoder, GaussianDecoder
from latentcause.models.pairs.flow_codes import FlowEncoder, FlowHead
from latentcause.models.pairs.solution_functions import SolutionFunctions
from latentcause.networks.skip_mlp import SkipMLP

DecoderKind = Literal["diffusion", "gaussian"]
CodeKind = Literal["finite", "trajectory"]
Guidance = Literal["head", "diffusion"]

PROJECTED, FULL, HARD = (
    0.1,
    0.3,
    0.65,
)  # shares of the training at which the phases begin; before the first, no projection
LIKELIEST = 6  # hypotheses that a pair is decoded under once solution functions are learned
SURELY = 2  # that many, once codes are settled
COLDEST = 0.02  # inverse temperature of the target posterior at first
HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
UNINFORMED_SD = 2.0  # of the intervened noise, before solution functions are learned


class PairNetworks(nn.Module):
    """Encoder q(e | x), target posterior, solution functions and decoder.

    A hypothesis says which latents an intervention hit: none, one, or (if asked for) two. Under it, both encodings of a
    pair share e_j of every latent j that was not hit (their mean, with half the variance), and e~_i of one that was follows from
    z~_i = s_i(e~_i; e~_-i) ~ N(0, 1). The loss of a pair is the sum over hypotheses h, weighed by their posterior q(h | x, x~), of

        -log p(x | e_h) - log p(x~ | e~_h) + KL(q(e_j) || N(0, 1)) summed over j + E[-log p(e~_i | e_-i)] - H(q(e~_i)) of the hit,

    less the entropy of q(h | x, x~), less that of its mean over the batch (Brehmer et al., Weakly supervised causal
    representation learning, 2022, section 4; the decoder is that of Diffusion based causal representation learning, arXiv
    2311.05421, 2023). Four phases: no projection; hypotheses, from warm (all alike) to cold, without solution functions; with
    them; the likeliest hypothesis of each pair alone.

    Parameters
    ----------
    encoder : SkipMLP or FlowEncoder
        Of standardised observations, followed by t and t^2 where ``code`` is a trajectory.
    size, n_latents : int
        Of standardised observations, and of codes.
    width, depth : int
    decoder, code, guidance, context : as in `DCRL`
    hypotheses : Tensor (k, n_latents)
        0 or 1; the first row is "none".
    paired : bool
        Without it, both halves of a pair are encoded on their own.
    total : int
        Pairs that the whole training sees.

    Attributes
    ----------
    settled : bool
        Codes were learned before, and are kept: hypotheses are cold at once.
    """

    hypotheses: Tensor
    seen: Tensor

    def __init__(
        self,
        encoder: SkipMLP | FlowEncoder,
        size: int,
        n_latents: int,
        *,
        width: int,
        depth: int,
        decoder: DecoderKind,
        code: CodeKind,
        guidance: Guidance,
        sees_others: bool,
        hypotheses: Tensor,
        paired: bool,
        total: int,
    ) -> None:
        super().__init__()
        self.n_latents, self.total, self.paired, self.guidance = n_latents, total, paired, guidance
        self.has_trajectory = code == "trajectory"
        self.settled = False
        self.encoder: SkipMLP | FlowEncoder = encoder
        self.log_sd = nn.Parameter(torch.full((n_latents,), -2.3))
        self.odds = nn.Parameter(torch.tensor([-1.0, 2.0, 0.0]))  # of a target, by how far its code moves
        self.solutions = SolutionFunctions(n_latents, width, sees_others)
        kind = DiffusionDecoder if decoder == "diffusion" else GaussianDecoder
        self.decoder = kind(size, n_latents, width, depth)
        self.register_buffer("hypotheses", hypotheses.float())
        self.register_buffer("seen", torch.zeros((), dtype=torch.float64))

    def take(self, encoder: FlowEncoder, solutions: SolutionFunctions) -> None:
        """Codes that were learned before, with the way back from them and their solution functions: all of them are kept."""
        self.encoder, self.solutions, self.settled = encoder, solutions, True
        self.decoder.head = FlowHead(encoder)
        for part in (encoder.flow, encoder.coordinates, solutions):
            if part is not None:
                part.requires_grad_(False)

    # --- what is encoded ---------------------------------------------------------------------------------------------

    def encode(self, x: Tensor, t: float | Tensor = 0.0) -> Tensor:
        """Means (n, n_latents) of q(e | x), at a time in [0, 1] of the trajectory if the code is one."""
        if not self.has_trajectory:
            return self.encoder(x)
        time = torch.as_tensor(t, dtype=x.dtype, device=x.device).expand(len(x))
        return self.encoder(torch.cat([x, time[:, None], time[:, None].square()], dim=1))

    def log_odds(self, moved: Tensor) -> Tensor:
        """Of every hypothesis against "none" (n, k), by the moves e~ - e (n, n_latents): a + b |d_i| + c d_i^2, with b, c > 0."""
        base, slope, curve = self.odds.unbind()
        size = moved.abs()
        return (base + slope.exp() * size + nn.functional.softplus(curve) * size.square()) @ self.hypotheses.T

    # --- training ----------------------------------------------------------------------------------------------------

    def draw(self, batch: tuple[Tensor, ...], generator: torch.Generator) -> tuple[Tensor, ...]:
        """Noise of both codes, and levels and noise of the diffusion.

        A batch is counted here, where it is whole, also where several processes share it.
        """
        x = batch[0]
        if self.training:
            self.seen += len(x)
        shape = (len(x), self.n_latents)
        codes = [torch.randn(shape, generator=generator, device=x.device) for _ in range(2)]
        if isinstance(self.decoder, GaussianDecoder):
            return (*codes, x.new_zeros(len(x)), x.new_zeros(len(x), 2, 0))
        noise = torch.randn((len(x), 2, x.shape[1]), generator=generator, device=x.device)
        return (*codes, self.decoder.levels(len(x), generator), noise)

    def loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        """The loss (n,), nats up to a constant, of batches (x, x~, number of the hypothesis or -1, draws)."""
        x, after, known, noise, noise_after, log_sigma, diffused = batch
        progress = float(self.seen) / self.total
        time = _time_of(log_sigma)
        mean, mean_after = self.encode(x, time), self.encode(after, time)
        log_sd = self.log_sd.clamp(-7, 1)
        sd = log_sd.exp()
        first, second = mean + sd * noise, mean_after + sd * noise_after
        decoder, both = self.decoder, torch.cat([x, after])
        levels, diffused = torch.cat([log_sigma, log_sigma]), diffused.transpose(0, 1).flatten(0, 1)
        through_head = isinstance(decoder, DiffusionDecoder) and self.guidance == "head" and progress < HARD

        def halves(cost: Tensor) -> Tensor:
            """Costs (k, 2n) of both halves of the batch, added up."""
            return cost[:, : len(x)] + cost[:, len(x) :]

        def decoded(codes: Tensor, codes_after: Tensor) -> Tensor:
            """Costs (k, n) of codes (k, n, m) for x, and for x~."""
            together = torch.cat([codes, codes_after], dim=1)
            return halves(
                decoder.head_cost(both, together) if through_head else decoder.cost(both, together, levels, diffused)
            )

        def beside(codes: Tensor, codes_after: Tensor) -> Tensor | float:
            """What the diffusion learns from while codes (n, m) learn through the head, (n,)."""
            if not (through_head and isinstance(decoder, DiffusionDecoder)):
                return 0.0
            return halves(decoder.cost_beside(both, torch.cat([codes, codes_after])[None], levels, diffused))[0]

        own = _divergence(mean, sd)
        if progress < PROJECTED or not self.paired:
            cost = decoded(first[None], second[None])[0] + own.sum(1) + _divergence(mean_after, sd).sum(1)
            return cost + beside(first, second)
        odds = self.log_odds(mean_after - mean)
        if progress < FULL and not self.settled:
            odds = odds * COLDEST ** ((FULL - progress) / (FULL - PROJECTED))
        odds = torch.where((known >= 0)[:, None], 1e4 * nn.functional.one_hot(known.clamp(min=0), odds.shape[1]), odds)
        shared_sd = sd / math.sqrt(2)
        shared = (mean + mean_after) / 2 + shared_sd * noise
        together = _divergence((mean + mean_after) / 2, shared_sd)
        several = SURELY if self.settled else LIKELIEST if progress >= FULL else odds.shape[1]
        kept = 1 if progress >= HARD else min(several, odds.shape[1])
        chosen_odds, chosen = odds.topk(kept, dim=1)
        hit = self.hypotheses[chosen.T]
        codes, codes_after = torch.lerp(shared, first, hit), torch.lerp(shared, second, hit)
        intervened = self._intervened(codes_after, hit, shared, second, progress) - log_sd - HALF_LOG_2PI - 0.5
        cost = decoded(codes, codes_after) + (together + hit * (own - together + intervened)).sum(-1)
        if progress >= HARD:
            return cost[0]
        mean_posterior = odds.softmax(1).mean(0)
        spread = -(mean_posterior * (mean_posterior + 1e-9).log()).sum()
        log_posterior = chosen_odds.log_softmax(1)
        bound = (log_posterior.exp() * (cost.T + log_posterior)).sum(1)
        return bound - spread + beside(codes[0], codes_after[0])

    def _intervened(self, codes_after: Tensor, hit: Tensor, shared: Tensor, second: Tensor, progress: float) -> Tensor:
        """-log p(e~_i | e~_-i, hit) of every latent, (k, n, m) or what broadcasts to it."""
        if progress < FULL and not self.settled:
            return 0.5 * (second / UNINFORMED_SD).square() + math.log(UNINFORMED_SD) + HALF_LOG_2PI
        if int(hit.sum(-1).max()) > 1:  # the others' codes differ between hypotheses
            log_slope, shift = self.solutions.at(codes_after.flatten(0, 1))
            log_slope, shift = log_slope.reshape(codes_after.shape), shift.reshape(codes_after.shape)
        else:  # e~_-i are the shared ones wherever i is hit
            log_slope, shift = self.solutions.at(shared)
        return 0.5 * (log_slope.exp() * second + shift).square() - log_slope + HALF_LOG_2PI


def new_encoder(size: int, n_latents: int, width: int, depth: int, code: CodeKind) -> SkipMLP:
    """The encoder of standardised observations (n, size): linear at first, and a random rotation."""
    encoder = SkipMLP(size + 2 * (code == "trajectory"), n_latents, width, depth)
    most = max(size, n_latents)
    with torch.no_grad():
        encoder.skip.weight.zero_()
        encoder.skip.weight[:, :size] = torch.linalg.qr(torch.randn(most, most))[0][:n_latents, :size]
        encoder.skip.bias.zero_()
    return encoder


def _divergence(mean: Tensor, sd: Tensor) -> Tensor:
    """KL(N(mean, sd^2) || N(0, 1)), entry by entry."""
    return 0.5 * (mean.square() + sd.square() - 1) - sd.log()


def _time_of(log_sigma: Tensor) -> Tensor:
    """Times in [0, 1] of noise levels on a logarithmic scale."""
    return (log_sigma - math.log(SIGMA_MIN)) / math.log(SIGMA_MAX / SIGMA_MIN)
