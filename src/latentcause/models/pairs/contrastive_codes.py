"""Numbers read off observations that few interventions change: they tell which pairs were hit where."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from latentcause.networks.residual import residual_layers
from latentcause.training import Recipe, seeded, train

NUMBERS = 3  # codes of each latent: a curve in three dimensions hardly ever meets itself
GROUP = 256  # pairs that are told apart at once
STEPS, ROUNDS = 2000, 10
WIDTH, DEPTH = 128, 2
FREEDOM = 2.0  # degrees of freedom of what stays
AT_RANDOM = 0.2  # share of the groups that are drawn from all pairs
RECIPE = Recipe(ROUNDS, 1, 1e-3, schedule="cosine", warm_up=0.05, held_out=0.0)
SCALED_EVERY, SCALED_ON = 50, 5000  # steps, and pairs
FASTER = 5.0  # how much faster widths are learned than weights
SHARP = 0.05  # widest scale of what stays, in sds, of a code that tells pairs apart
CHANGED, STILL = 10.0, 4.0  # scales, above which a change is one, and below which there is none
LEAST_SHARE, MOST_SHARE = 0.1, 2.5  # of pairs that a code changes in, in units of 1 / (m + 1)
SHARED = 0.1  # of the pairs of an earlier latent that a new one may change in
HELD_OUT = 20  # of so many pairs one is not learned from: a code of pairs learned by heart moves in it
AGREED = 0.5  # of the pairs of its first code in which a further code of a latent has to change


class ContrastiveCode(nn.Module):
    """A number g(v) by which, beside the codes of k latents that are there, the other half of a pair is found among many.

    With d_j(a, b) = -log t((g_j(v~_b) - g_j(v_a)) / tau_j), Student's t, added up over the codes of the j-th of k + 1 latents, and
    hypotheses h of what was hit,

        score(a, b) = log sum_h exp(c_h(g(v~_b)) - sum_{j not in h} d_j(a, b)),

    the loss of pair a is log sum_b exp score(a, b) - score(a, a): noise-contrastive estimation (van den Oord, Li and Vinyals,
    Representation learning with contrastive predictive coding, 2018, equation 4) of the ratio p(v~ | v) / p(v~), in which all
    but the hit ones stay. Most pairs leave any one latent as it is, so that a number that is a function of one latent alone
    gains most. In groups in which earlier codes are alike they have nothing left to say, and another latent is found. Nothing
    has to be decoded, and a number may wind as it likes.

    Parameters
    ----------
    v, after : Tensor (n, r)
        All pairs.
    codes, codes_after : Tensor (n, k, 3)
        Codes that are there.
    log_tau : Tensor (k, 3)
        Their scales.
    hypotheses : Tensor (h, k + 1)
        0 or 1.
    """

    shift: Tensor
    scale: Tensor
    steps: Tensor
    v: Tensor
    after: Tensor
    codes: Tensor
    codes_after: Tensor
    hypotheses: Tensor

    def __init__(
        self, v: Tensor, after: Tensor, codes: Tensor, codes_after: Tensor, log_tau: Tensor, hypotheses: Tensor
    ) -> None:
        super().__init__()
        known, r = codes[0].numel(), v.shape[1]
        self.linear = nn.Linear(r, 1)
        self.network = nn.Sequential(nn.Linear(r, WIDTH), *residual_layers(WIDTH, DEPTH), nn.Linear(WIDTH, 1))
        self.bias = nn.Sequential(
            nn.Linear(2 * known + 1, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, len(hypotheses))
        )
        self.log_tau = nn.Parameter(torch.zeros(1))
        self.log_tau_of_codes = nn.Parameter(log_tau / FASTER)
        self.register_buffer("shift", torch.zeros(()))
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        given = {"v": v, "after": after, "codes": codes, "codes_after": codes_after, "hypotheses": hypotheses}
        for name, value in given.items():
            self.register_buffer(name, value, persistent=False)

    def forward(self, v: Tensor) -> Tensor:
        """g (...) of observations (..., r)."""
        return ((self.linear(v) + self.network(v))[..., 0] - self.shift) / self.scale

    @property
    def tau(self) -> Tensor:
        """The scale of what stays."""
        return (FASTER * self.log_tau[0]).exp()

    @torch.no_grad()
    def draw(self, batch: tuple[Tensor, ...], generator: torch.Generator) -> tuple[Tensor, ...]:
        """Nothing. Now and then the number is given median 0 and mean size 4/5 again."""
        if self.steps % SCALED_EVERY == 0:
            step = max(1, len(self.v) // SCALED_ON)
            g = self(torch.cat([self.v[::step], self.after[::step]])) * self.scale + self.shift
            self.shift.copy_(g.median())
            self.scale.copy_(((g - self.shift).abs().mean() * 1.25).clamp(min=1e-6))
        self.steps += 1
        return ()

    def loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        """The mean loss (b,) in groups of pairs: their indices (b, g), and 1 where earlier codes are alike in them, else 0."""
        group, alike = batch[:2]
        own, own_after = self(torch.cat([self.v[group], self.after[group]], dim=1)).chunk(2, dim=1)
        codes, codes_after = self.codes[group], self.codes_after[group]
        tau = (FASTER * self.log_tau_of_codes).exp()
        stay = [_stays(codes[:, :, j], codes_after[:, :, j], tau[j]) for j in range(codes.shape[2])]
        stays = torch.stack([*stay, _stays(own[..., None], own_after[..., None], self.tau)], dim=3)
        flat = codes_after.flatten(2)
        about = flat.median(dim=1, keepdim=True).values.expand_as(flat) * alike[:, None, None]
        bias = self.bias(torch.cat([flat, own_after[..., None], about], dim=2))
        score = (bias[:, None] + stays @ (1 - self.hypotheses).T).logsumexp(3)
        return (score.logsumexp(2) - score.diagonal(dim1=1, dim2=2)).mean(1)


def told_apart(
    v: Tensor,
    after: Tensor,
    most: int,
    at_once: int,
    *,
    seed: int,
    device: str,
    checkpoint: Path | None,
) -> tuple[Tensor, Tensor]:
    """In which pairs each of k <= ``most`` latents changes, and in which it stays, (n, k) of bool: those that codes are learned of.

    In some pairs neither is sure. Latents follow one another until a code is not sharp, or changes in the pairs of earlier ones.
    The further codes of a latent are learned from the pairs in which it stays by the earlier ones: they are about the same
    latent, and where it moves from one point to another at which one code is the same, others hardly are.

    Parameters
    ----------
    v, after : Tensor (n, r)
        Observations on a common scale.
    at_once : int
        Latents that one intervention may hit.
    checkpoint
        Beside it lie the states of the codes' trainings, numbered.
    """
    n, none = len(v), v.new_zeros(len(v), 0, NUMBERS)
    codes, codes_after, log_tau = none, none, v.new_zeros(0, NUMBERS)
    changed = stays = torch.zeros((n, 0), dtype=torch.bool)
    learned = torch.arange(n) % HELD_OUT > 0
    for k in range(most):
        own: list[tuple[Tensor, Tensor, Tensor]] = []
        new = torch.zeros(n, dtype=torch.bool)
        for number in range(NUMBERS):
            rows, which = (learned & ~new).nonzero()[:, 0], NUMBERS * k + number
            with seeded(seed + which):
                code = ContrastiveCode(
                    v[rows], after[rows], codes[rows], codes_after[rows], log_tau, hypotheses_of(k + 1, at_once)
                )
            group, alike = _groups(codes_after[rows].flatten(1), STEPS // ROUNDS, seed + which)
            whose = (v[rows[group]] + 2 * after[rows[group]]).sum((1, 2))  # so that a checkpoint knows its data
            train(
                code,
                code.loss,
                (group, alike, whose),
                RECIPE,
                seed=seed,
                draw=code.draw,
                device=device,
                label=f"latent {k + 1} of {most}, code {number + 1} of {NUMBERS}",
                checkpoint=None if checkpoint is None else checkpoint.with_stem(f"{checkpoint.stem}{which + 1}"),
            )
            with torch.no_grad():
                g, g_after = (code.to("cpu")(part) for part in (v, after))
            tau = code.tau.detach()
            moves = (g_after - g).abs() > CHANGED * tau
            if not own and not _is_another(moves[~learned], changed[~learned], float(tau), most, at_once):
                return changed, stays
            if not own or float(moves[new].float().mean()) > AGREED:
                own.append((g, g_after, tau.log()))
                new |= moves
        own += own[:1] * (NUMBERS - len(own))
        codes, codes_after = (
            torch.cat([part, torch.stack([entry[half] for entry in own], dim=1)[:, None]], dim=1)
            for half, part in enumerate((codes, codes_after))
        )
        log_tau = torch.cat([log_tau, torch.stack([entry[2] for entry in own])[None]])
        moved = torch.stack([(g_after - g).abs() / log_scale.exp() for g, g_after, log_scale in own])
        most_of_them = (moved > CHANGED).float().mean(0) > 0.5
        changed = torch.cat([changed, most_of_them[:, None]], dim=1)
        stays = torch.cat([stays, (moved < STILL).all(0)[:, None]], dim=1)
    return changed, stays


def _is_another(moves: Tensor, changed: Tensor, tau: float, most: int, at_once: int) -> bool:
    """Whether a code that ``moves`` in some pairs (n,) it has not seen is sharp, and none of those that ``changed`` (n, k)."""
    share = float(moves.float().mean()) * (most + 1) / at_once
    shared = [float(moves[old].float().mean()) for old in changed.T if old.any()] if at_once == 1 else []
    return tau < SHARP and LEAST_SHARE < share < MOST_SHARE and max(shared, default=0.0) < SHARED


def _stays(codes: Tensor, codes_after: Tensor, tau: Tensor) -> Tensor:
    """log t up to a constant (b, g, g) between codes (b, g, d) of all pairs and those (b, g, d) after of all pairs."""
    moved = (codes_after[:, None] / tau - (codes / tau)[:, :, None]).square()
    return -(FREEDOM + 1) / 2 * torch.log1p(moved / FREEDOM).sum(3)


def hypotheses_of(k: int, at_once: int) -> Tensor:
    """(h, k), 0 or 1: none of k, each of them, and with two ``at_once`` each two."""
    single = torch.eye(k)
    double = [single[i] + single[j] for i in range(k) for j in range(i)] if at_once == 2 else []
    return torch.stack([torch.zeros(k), *single, *double])


def _groups(codes: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Indices (count, g) of pairs whose codes (n, k) are alike, or of any; and 1.0 for the former (count,)."""
    n, k = codes.shape
    size, generator = min(GROUP, n), torch.Generator().manual_seed(seed)
    ranks = codes.argsort(0).argsort(0).float() / n
    alike = (torch.rand(count, generator=generator) >= AT_RANDOM) & (k > 0)
    groups = []
    for near in alike.tolist():
        if near:
            centre = int(torch.randint(n, (), generator=generator))
            groups.append((ranks - ranks[centre]).square().sum(1).topk(size, largest=False).indices)
        else:
            groups.append(torch.randperm(n, generator=generator)[:size])
    return torch.stack(groups), alike.float()
