"""The diffusion core beside two independent libraries, step by step, in float64.

    python benchmarks/diffusion_core.py --json out/diffusion_core.json
    python benchmarks/diffusion_core.py --part samplers

Both sides get the same denoisers (an exact one of a mixture of three Gaussians, a random network), the same times and the same
random draws. "per step": the largest difference of any entry after one step from a common x_t, over all steps of our own path;
"at the end": after all steps, each side on its own path. diffusers is in the ``bench`` extra; azula asks for torchvision,
which it does not need here: ``pip install azula --no-deps`` and einops.

How their definitions map to ours, exactly:

- azula: ``VESchedule`` is `VarianceExploding`; ``CosineSchedule(alpha_min=0, sigma_min=0)`` is `Cosine`; ``VPSchedule(exp(-b / 4),
  sigma_min=0)`` is `VariancePreserving` with beta_max = b and beta_min -> 0 (here 1e-30). Their default sigma_min of 0.001 adds
  0.001^2 to sigma^2, which ours does not know. ``DDIMSampler``'s eta is the square of ours, which is that of Song, Meng and Ermon.
  Their guidance strength is w - 1. A ``KarrasDenoiser``'s backbone returns minus our velocity, from x / sqrt(alpha^2 + sigma^2) and
  log(sigma / alpha).
- diffusers: index k of their tables of 1,000 entries is our t = (k + 1) / 1000, index -1 is t = 0. The tables are float32; they
  are built here with float64 in its place. ``fixed_small`` is `DDPM`'s "posterior", ``fixed_large`` its "forward"; they add noise
  in a last step of "forward" unless it leaves from index 0, as it does here. ``squaredcos_cap_v2`` is Cosine(0.008) except for
  its last entry, which is capped so that some signal is left. ``rescale_betas_zero_snr`` keeps alpha(1 / 1000), `ZeroTerminal`
  alpha(0): their alpha is ours times a (1 - b) / (a - b), with a and b the base's alpha at 1 / 1000 and 1 (a factor 1 + 3e-7).
  ``DDIMInverseScheduler`` evaluates the network where the caller likes; it is given the points that our passes visit.
  ``ScoreSdeVpScheduler`` is `EulerMaruyama` on equal steps. ``ScoreSdeVeScheduler`` is `PredictorCorrector` of `DDPM` with the
  "forward" variance (which is its reverse diffusion step where alpha = 1); its Langevin step size is that of the norms in the
  batch, so ours gets the ratio r |z| / (sigma |score|) that belongs to the step's own draw.

What neither has: Euler-Maruyama on schedules other than `VariancePreserving`; predictor-corrector with another predictor, or with
the mean step size; log-likelihood; loss weights. tests/diffusion holds them to closed forms. azula's ``ItoSampler`` and
``PCSampler`` are other discretisations, equal to ours only in the limit of small steps.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import diffusion_peers as peers
import torch
from diffusion_denoisers import ROWS, Backbone, D, Mixture, gaussian, gradient_of_log_density, network, rows
from diffusion_peers import TABLE, Step
from rich.console import Console
from rich.table import Table
from torch import Tensor

from latentcause.diffusion import (
    DDIM,
    DDPM,
    Cosine,
    DPMSolver,
    EulerMaruyama,
    GuidedDenoiser,
    Heun,
    LinearDDPM,
    NetworkDenoiser,
    Prediction,
    PredictorCorrector,
    Schedule,
    VarianceExploding,
    VariancePreserving,
    ZeroTerminal,
    denoising_loss,
    noised,
    times,
)
from latentcause.io import write_atomically

LIMIT = 1e-10
SEED, STEPS, INVERSION_PASSES = 1000, 25, 40
PREDICTIONS = {"noise": "epsilon", "data": "sample", "velocity": "v_prediction"}
SHARED = {"VE": VarianceExploding(0.01, 50), "VP": VariancePreserving(1e-30, 20), "cosine": Cosine()}


@dataclass(frozen=True)
class Agreement:
    """How far two sides are apart: largest absolute differences, after one step and after all of them."""

    what: str
    peer: str
    steps: int
    per_step: float
    at_end: float

    @property
    def holds(self) -> bool:
        return self.per_step <= LIMIT and self.at_end <= LIMIT  # false for NaN


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=["all", *PARTS], default="all")
    parser.add_argument("--json", type=Path, help="file for every single figure")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = [
        agreement
        for name, by_peer in PARTS.items()
        if arguments.part in ("all", name)
        for part in by_peer.values()
        for agreement in part()
    ]
    report(found)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        with write_atomically(arguments.json) as temporary:
            temporary.write_text(json.dumps([{**asdict(row), "holds": row.holds} for row in found], indent=1))
    return 0 if all(row.holds for row in found) else 1


def report(found: list[Agreement]) -> None:
    table = Table(title=f"Largest absolute differences, float64, {ROWS} rows of {D} entries; to reach: <= {LIMIT}")
    for column in ("what", "beside", "steps", "per step", "at the end", "to reach"):
        table.add_column(column, justify="right" if column in ("steps", "per step", "at the end") else "left")
    for row in found:
        one, end = f"{row.per_step:.1e}", f"{row.at_end:.1e}" if row.steps else ""
        table.add_row(row.what, row.peer, str(row.steps or ""), one, end, "reached" if row.holds else "MISSED")
    Console(width=150).print(table)


def alike(what: str, peer: str, *pairs: tuple[Tensor, Tensor]) -> Agreement:
    """Of two answers that are no paths."""
    apart = float(torch.stack([(ours - theirs).abs().max() for ours, theirs in pairs]).max())
    return Agreement(what, peer, 0, apart, apart)


def along(what: str, peer: str, ours: Step, theirs: Step, grid: Tensor, x: Tensor | None = None) -> Agreement:
    """Of two samplers that go from the same x at the first time of the grid, with the same draws in each step."""
    mine = yours = rows(SEED) if x is None else x
    apart = []
    for number, (t, s) in enumerate(pairwise(grid.tolist())):
        at_mine, at_yours = (theirs(here, t, s, torch.Generator().manual_seed(number)) for here in (mine, yours))
        mine, yours = ours(mine, t, s, torch.Generator().manual_seed(number)), at_yours
        apart.append((mine - at_mine).abs().max())
    return Agreement(what, peer, len(apart), float(torch.stack(apart).max()), float((mine - yours).abs().max()))


def apart(what: str, peer: str, ours: Step, theirs: Step, grid: Tensor) -> Agreement:
    """Of two samplers with memories, each on a path of its own, with the same draws."""
    mine = yours = rows(SEED)
    gaps = []
    for number, (t, s) in enumerate(pairwise(grid.tolist())):
        mine, yours = (
            step(x, t, s, torch.Generator().manual_seed(number)) for step, x in ((ours, mine), (theirs, yours))
        )
        gaps.append((mine - yours).abs().max())
    return Agreement(what, peer, len(gaps), float(torch.stack(gaps).max()), float(gaps[-1]))


# --- schedules ---------------------------------------------------------------------------------------------------------


def azula_schedules() -> Iterator[Agreement]:
    """Alpha and sigma, and log-SNR, where sigma = sqrt(1 - alpha^2), as they have it, keeps its digits."""
    t = torch.linspace(0, 1, 1001, dtype=torch.float64)
    inner = t[50:-1]
    for name, ours in SHARED.items():
        theirs = peers.azula_schedule(name)
        alpha, sigma = theirs(inner)
        yield alike(f"{name}: alpha, sigma", "azula", *zip(ours.at(t), theirs(t), strict=True))
        yield alike(f"{name}: log-SNR, t in [.05, .999]", "azula", (ours.log_snr(inner), 2 * (alpha / sigma).log()))


def diffusers_schedules() -> Iterator[Agreement]:
    """Tables of 1,000 entries."""
    t = torch.arange(1, TABLE + 1, dtype=torch.float64) / TABLE
    a, b = LinearDDPM().alpha(t[[0, -1]])
    for what, ours, factor, options in (
        ("linear DDPM", LinearDDPM(), 1.0, {}),
        ("cosine, offset .008, but for its cap", Cosine(0.008), 1.0, {"beta_schedule": "squaredcos_cap_v2"}),
        ("zero terminal", ZeroTerminal(LinearDDPM()), a * (1 - b) / (a - b), {"rescale_betas_zero_snr": True}),
    ):
        alpha = peers.diffusers_scheduler("DDPMScheduler", **options).alphas_cumprod.sqrt() / factor
        some = slice(-1) if "cap" in what else slice(None)
        pairs = zip(ours.at(t[some]), (alpha[some], (1 - alpha[some] ** 2).sqrt()), strict=True)
        yield alike(f"{what}: alpha, sigma", "diffusers", *pairs)


# --- conversions -------------------------------------------------------------------------------------------------------


def azula_conversions() -> Iterator[Agreement]:
    """Denoisers as such, one form from another, guidance, the loss; at three times."""
    from azula.denoise import GaussianDenoiser as TheirGaussian
    from azula.denoise import KarrasDenoiser
    from azula.linalg.covariance import FullCovariance

    clock, x = torch.tensor([0.9, 0.5, 0.1], dtype=torch.float64), rows(SEED + 1)
    for name, schedule in SHARED.items():
        theirs, exact, learned = peers.azula_schedule(name), gaussian(SEED, schedule), network(schedule, SEED)
        their_exact = TheirGaussian(exact.mean, FullCovariance(exact.axes, exact.variances), theirs)
        karras = KarrasDenoiser(Backbone(SEED), theirs)
        means, scored, velocities = [], [], []
        for t in clock:
            wanted = their_exact(x, t).mean
            score = gradient_of_log_density(exact, x, float(t))
            means.append((exact(x, float(t)).data, wanted))
            scored.append((Prediction.of(score, "score", x, *exact.levels(x, float(t))).data, wanted))
            velocities.append((learned(x, float(t)).data, karras(x, t).mean))
        yield alike(f"{name}: exact denoiser of a Gaussian", "azula", *means)
        yield alike(f"{name}: score by autograd -> data", "azula", *scored)
        yield alike(f"{name}: velocity -> data, of a network", "azula", *velocities)
        yield azula_guidance(name, schedule, clock)
        yield azula_loss(name, schedule, karras, learned)


def azula_guidance(name: str, schedule: Schedule, clock: Tensor) -> Agreement:
    from azula.guidance import CFGDenoiser

    x, with_, without = rows(SEED + 1), gaussian(SEED, schedule), gaussian(SEED + 1, schedule)
    theirs = CFGDenoiser(peers.azula_denoiser(without, peers.azula_schedule(name), with_))
    pairs = [
        (
            GuidedDenoiser(with_, without, w)(x, float(t)).data,
            theirs(x, t, positive={"conditional": True}, guidance=w - 1).mean,
        )
        for t in clock
        for w in (0.0, 0.5, 1.0, 1.5, 4.0)
    ]
    return alike(f"{name}: guidance, w = 0, 0.5, 1, 1.5, 4", "azula", *pairs)


def azula_loss(name: str, schedule: Schedule, karras: Any, learned: NetworkDenoiser) -> Agreement:
    """The squared error of the velocity, of data noised at one time per row."""
    x, t = rows(SEED + 2), torch.linspace(0.1, 0.9, ROWS, dtype=torch.float64)
    x_t, noise, alpha, sigma = noised(x, t, schedule, torch.Generator().manual_seed(SEED))
    ours = denoising_loss(learned.network(x_t, t), "velocity", x, noise, alpha, sigma).mean()
    with peers.drawing_from(torch.Generator().manual_seed(SEED)):
        return alike(f"{name}: noising, loss of the velocity", "azula", (ours, karras.loss(x, t)))


def diffusers_conversions() -> Iterator[Agreement]:
    """Each form from each, on the linear DDPM schedule."""
    schedule, x_t, output = LinearDDPM(), rows(SEED + 1), rows(SEED + 2)
    pairs: dict[str, list[tuple[Tensor, Tensor]]] = {}
    for t in (1.0, 0.5, 0.2):
        index, (alpha, sigma) = peers.table_index(t), schedule.at(t)
        before = schedule.at(t - 1 / STEPS)
        for kind, prediction in PREDICTIONS.items():
            scheduler = peers.diffusers_scheduler("DDIMScheduler", prediction_type=prediction)
            scheduler.set_timesteps(STEPS)
            theirs, ours = scheduler.step(output, index, x_t), Prediction.of(output, kind, x_t, alpha, sigma)
            data = theirs.pred_original_sample
            noise = (theirs.prev_sample - before[0] * data) / before[1]
            velocity = scheduler.get_velocity(data, noise, torch.tensor(index))
            pairs.setdefault(f"{kind} -> data, noise", []).extend([(ours.data, data), (ours.noise, noise)])
            pairs.setdefault(f"{kind} -> velocity", []).append((ours.to("velocity"), velocity))
    for what, both in pairs.items():
        yield alike(f"linear DDPM: {what}", "diffusers", *both)
    yield diffusers_score(output)


def diffusers_score(noise: Tensor) -> Agreement:
    """Noise -> score on the variance-preserving SDE: read off their step's mean at x_t = 0, which is beta score dt."""
    from diffusers.schedulers.deprecated.scheduling_sde_vp import ScoreSdeVpScheduler

    schedule, pairs, zero = VariancePreserving(), [], torch.zeros_like(noise)
    scheduler = ScoreSdeVpScheduler()
    scheduler.set_timesteps(1)
    for t in (1.0, 0.5, 0.1):
        _, mean = scheduler.step_pred(noise, zero, torch.tensor(t, dtype=noise.dtype), torch.Generator())
        ours = Prediction.of(noise, "noise", zero, *schedule.at(t)).to("score")
        pairs.append((ours, mean / (0.1 + t * 19.9)))
    return alike("VP SDE: noise -> score", "diffusers", *pairs)


# --- samplers ----------------------------------------------------------------------------------------------------------


def azula_samplers() -> Iterator[Agreement]:
    """Each with its own schedule; those that need signal or noise at both ends of a step get times that leave some."""
    from azula.denoise import KarrasDenoiser

    all_the_way, within = times(STEPS, 1.0, 0.0), times(STEPS, 0.98, 0.02, 1.5)
    for name, schedule in SHARED.items():
        theirs, mixture = peers.azula_schedule(name), Mixture(schedule, SEED)
        for which, ours, shared, grid in (
            ("mixture", mixture, peers.azula_denoiser(mixture, theirs), all_the_way),
            ("network", network(schedule, SEED), KarrasDenoiser(Backbone(SEED), theirs), within),
        ):
            x = rows(SEED) * schedule.sigma(grid[0])
            for what, sampler, peer, options, path in (
                ("DDPM", DDPM(ours), "DDPMSampler", {}, grid),
                ("DDIM, eta 0", DDIM(ours), "DDIMSampler", {"eta": 0.0}, grid),
                ("DDIM, eta 0.5", DDIM(ours, 0.5), "DDIMSampler", {"eta": 0.25}, grid),
                ("DDIM, eta 1", DDIM(ours, 1.0), "DDIMSampler", {"eta": 1.0}, grid),
                ("DDIM, eta 1.5", DDIM(ours, 1.5), "DDIMSampler", {"eta": 2.25}, grid),
                ("DDIM, eta 0", DDIM(ours), "EulerSampler", {}, within),
                ("Heun", Heun(ours), "HeunSampler", {}, within),
            ):
                step = peers.azula_step(peer, shared, **options)
                yield along(f"{what}: {name}, {which}", f"azula {peer}", sampler.step, step, path, x)
            yield azula_inversion(f"{name}, {which}", DDIM(ours), peers.azula_step("EulerSampler", shared), within)


def azula_inversion(what: str, sampler: DDIM, theirs: Step, grid: Tensor) -> Agreement:
    """Their steps from our inversion of x lead to x."""
    x, apart = rows(SEED + 3), []
    for t, s in pairwise(grid.tolist()):
        back = sampler.invert(x, torch.tensor([t, s], dtype=torch.float64), INVERSION_PASSES)
        apart.append((theirs(back, t, s, torch.Generator()) - x).abs().max())
    here = sampler.invert(x, grid, INVERSION_PASSES)
    for t, s in pairwise(grid.tolist()):
        here = theirs(here, t, s, torch.Generator())
    end = float((here - x).abs().max())
    return Agreement(f"inversion: {what}", "azula EulerSampler", len(apart), float(torch.stack(apart).max()), end)


def diffusers_samplers() -> Iterator[Agreement]:
    """Of DDPM and DDIM on the linear schedule, whatever the network predicts; of the two SDEs with the exact denoiser."""
    schedule = LinearDDPM()
    mixture, backbone = Mixture(schedule, SEED), Backbone(SEED)
    ancestral = torch.cat([times(STEPS)[:-1], torch.tensor([1 / TABLE, 0.0], dtype=torch.float64)])
    for kind, prediction in PREDICTIONS.items():
        for which, ours, raw in (
            ("mixture", mixture, lambda x, t, kind=kind: mixture(x, t).to(kind)),
            ("network", NetworkDenoiser(backbone, schedule, kind), backbone),
        ):
            where = f"linear DDPM, {which}, {kind}"
            for ours_name, theirs_name in (("posterior", "fixed_small"), ("forward", "fixed_large")):
                step = peers.diffusers_ddpm(raw, ancestral, prediction, theirs_name)
                yield along(
                    f"DDPM, {ours_name}: {where}", "diffusers DDPM", DDPM(ours, ours_name).step, step, ancestral
                )
            for eta in (0.0, 0.5, 1.0):
                step = peers.diffusers_ddim(raw, STEPS, prediction, eta)
                yield along(f"DDIM, eta {eta}: {where}", "diffusers DDIM", DDIM(ours, eta).step, step, times(STEPS))
    for eta, algorithm in ((0.0, "dpmsolver++"), (1.0, "sde-dpmsolver++")):
        step, sampler = peers.diffusers_multistep(mixture, ancestral, algorithm), DPMSolver(mixture, eta)
        yield apart(
            f"DPM-Solver, eta {eta}: linear DDPM, mixture", "diffusers DPMSolver", sampler.step, step, ancestral
        )
    yield diffusers_inversion(mixture, 0)
    yield diffusers_inversion(mixture, INVERSION_PASSES)
    exact = Mixture(VariancePreserving(), SEED)
    step = peers.diffusers_sde_step(exact, STEPS)
    yield along("Euler-Maruyama: VP, mixture", "diffusers SDE VP", EulerMaruyama(exact).step, step, times(STEPS))
    yield diffusers_predictor_corrector()


def diffusers_inversion(mixture: Mixture, passes: int) -> Agreement:
    """Their step from x_s with the noise where our pass looked: at the scaled x_s without refinements, else at our answer."""
    step, grid, sampler = peers.diffusers_inverse_step(STEPS), times(STEPS), DDIM(mixture)
    mine = yours = rows(SEED)
    apart = []
    for path in grid.unfold(0, 2, 1).flip(0):
        t = float(path[0])
        alpha = mixture.schedule.alpha(path)
        looked_at = [
            sampler.invert(x_s, path, passes) if passes else alpha[0] / alpha[1] * x_s for x_s in (mine, yours)
        ]
        at_mine, yours = (step(x_s, mixture(y, t).noise, t) for x_s, y in zip((mine, yours), looked_at, strict=True))
        mine = sampler.invert(mine, path, passes)
        apart.append((mine - at_mine).abs().max())
    end = float((mine - yours).abs().max())
    what = f"inversion, {passes} refinements: linear DDPM, mixture"
    return Agreement(what, "diffusers DDIMInverse", STEPS, float(torch.stack(apart).max()), end)


def diffusers_predictor_corrector() -> Agreement:
    """With the ratio that makes our mean step size the one of their norms."""
    schedule = VarianceExploding(0.01, 50)
    exact = Mixture(schedule, SEED)
    theirs = peers.DiffusersPredictorCorrector(exact, STEPS, 0.16, schedule.sigma_min, schedule.sigma_max)

    def step(x_t: Tensor, t: float, s: float, generator: torch.Generator) -> Tensor:
        _, ratio = theirs.step_and_ratio(x_t, t, s, generator.clone_state())
        return PredictorCorrector(DDPM(exact, "forward"), 1, ratio).step(x_t, t, s, generator)

    what = "predictor-corrector, DDPM forward: VE, mixture"
    return along(what, "diffusers SDE VE", step, theirs.step, times(STEPS), 50 * rows(SEED))


PARTS: dict[str, dict[str, Callable[[], Iterator[Agreement]]]] = {
    "schedules": {"azula": azula_schedules, "diffusers": diffusers_schedules},
    "conversions": {"azula": azula_conversions, "diffusers": diffusers_conversions},
    "samplers": {"azula": azula_samplers, "diffusers": diffusers_samplers},
}


if __name__ == "__main__":
    sys.exit(main())
