"""azula and diffusers in our terms: schedules by name, samplers as ``step(x_t, t, s, generator)``, our denoisers in theirs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from latentcause.diffusion import Denoiser

Step = Callable[[Tensor, float, float, torch.Generator], Tensor]

TABLE = 1000
"""Entries of the tables of diffusers: their index k is our t = (k + 1) / 1000."""


# --- azula -----------------------------------------------------------------------------------------------------------


def azula_schedule(name: str) -> Any:
    """Their counterpart of the schedule of that name in `diffusion_core.SHARED`."""
    from azula import noise

    return {
        "VE": lambda: noise.VESchedule(0.01, 50),
        "VP": lambda: noise.VPSchedule(alpha_min=math.exp(-5), sigma_min=0),
        "cosine": lambda: noise.CosineSchedule(alpha_min=0, sigma_min=0),
    }[name]()


def azula_denoiser(ours: Denoiser, schedule: Any, given: Denoiser | None = None) -> Any:
    """Ours as one of theirs; called with ``conditional=True`` it is the one that is given a condition."""
    from azula.denoise import Denoiser as Theirs
    from azula.denoise import DiracPosterior

    class Shared(Theirs):
        def __init__(self) -> None:
            super().__init__()
            self.schedule = schedule

        def forward(self, x_t: Tensor, t: Tensor, conditional: bool = False) -> DiracPosterior:
            chosen = given if conditional else ours
            return DiracPosterior(mean=chosen(x_t, float(t)).data)

    return Shared()


def azula_step(name: str, denoiser: Any, **options: float) -> Step:
    """A step of their sampler of that name; it draws by ``torch.randn_like``, which is made to draw from the generator."""
    from azula import sample

    sampler = getattr(sample, name)(denoiser, **options)

    def step(x_t: Tensor, t: float, s: float, generator: torch.Generator) -> Tensor:
        with drawing_from(generator):
            return sampler.step(x_t, torch.tensor(t, dtype=x_t.dtype), torch.tensor(s, dtype=x_t.dtype))

    return step


@contextmanager
def drawing_from(generator: torch.Generator) -> Iterator[None]:
    """``torch.randn_like`` draws from this generator, as ``torch.randn`` would."""

    def draw(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator, dtype=like.dtype)

    with patch.object(torch, "randn_like", draw):
        yield


# --- diffusers -------------------------------------------------------------------------------------------------------


def diffusers_scheduler(name: str, **options: Any) -> Any:
    """Theirs, its tables in float64; nothing is clipped."""
    import diffusers

    with patch.object(torch, "float32", torch.float64):
        return getattr(diffusers, name)(num_train_timesteps=TABLE, clip_sample=False, **options)


def table_index(t: float) -> int:
    return round(t * TABLE) - 1


def diffusers_ddpm(network: Callable[[Tensor, Tensor], Tensor], grid: Tensor, prediction: str, variance: str) -> Step:
    """Their ancestral sampler along the grid; ``prediction`` says what the network's output is."""
    scheduler = diffusers_scheduler("DDPMScheduler", prediction_type=prediction, variance_type=variance)
    scheduler.set_timesteps(timesteps=[table_index(t) for t in grid[:-1].tolist()])

    def step(x_t: Tensor, t: float, s: float, generator: torch.Generator) -> Tensor:
        output = network(x_t, torch.tensor(t, dtype=x_t.dtype))
        return scheduler.step(output, table_index(t), x_t, generator=generator).prev_sample

    return step


def diffusers_ddim(network: Callable[[Tensor, Tensor], Tensor], steps: int, prediction: str, eta: float) -> Step:
    """Their DDIM on equal steps from t = 1 to 0."""
    scheduler = diffusers_scheduler("DDIMScheduler", prediction_type=prediction)
    scheduler.set_timesteps(steps)

    def step(x_t: Tensor, t: float, s: float, generator: torch.Generator) -> Tensor:
        output = network(x_t, torch.tensor(t, dtype=x_t.dtype))
        return scheduler.step(output, table_index(t), x_t, eta=eta, generator=generator).prev_sample

    return step


def diffusers_multistep(denoiser: Denoiser, grid: Tensor, algorithm: str) -> Step:
    """Their second-order multistep solver on the linear schedule; it wants the noise, and has a memory of its own."""
    import diffusers

    with patch.object(torch, "float32", torch.float64):
        scheduler = diffusers.DPMSolverMultistepScheduler(TABLE, algorithm_type=algorithm, lower_order_final=False)
    scheduler.set_timesteps(timesteps=[table_index(t) for t in grid[:-1].tolist()])
    alpha, sigma = denoiser.schedule.at(grid)
    scheduler.sigmas = sigma / alpha  # theirs are rounded to float32

    def step(x_t: Tensor, t: float, s: float, generator: torch.Generator) -> Tensor:
        noise = denoiser(x_t, t).noise
        with patch.object(torch, "float32", torch.float64):
            return scheduler.step(noise, table_index(t), x_t, generator=generator).prev_sample

    return step


def diffusers_inverse_step(steps: int) -> Callable[[Tensor, Tensor, float], Tensor]:
    """(x_s, eps, t) -> x_t of their inverted DDIM on equal steps between t = 0 and 1."""
    scheduler = diffusers_scheduler("DDIMInverseScheduler")
    scheduler.set_timesteps(steps)
    return lambda x_s, noise, t: scheduler.step(noise, table_index(t), x_s).prev_sample


def diffusers_sde_step(denoiser: Denoiser, steps: int) -> Step:
    """Their Euler-Maruyama on the variance-preserving SDE; it wants the noise, and takes steps of 1 / steps."""
    from diffusers.schedulers.deprecated.scheduling_sde_vp import ScoreSdeVpScheduler

    scheduler = ScoreSdeVpScheduler()
    scheduler.set_timesteps(steps)

    def step(x_t: Tensor, t: float, s: float, generator: torch.Generator) -> Tensor:
        return scheduler.step_pred(denoiser(x_t, t).noise, x_t, torch.tensor(t, dtype=x_t.dtype), generator)[0]

    return step


class DiffusersPredictorCorrector:
    """Their predictor-corrector on the variance-exploding SDE, on equal steps from 1 to 0 (sigma_min)."""

    def __init__(self, denoiser: Denoiser, steps: int, ratio: float, low: float, high: float) -> None:
        from diffusers import ScoreSdeVeScheduler

        self.denoiser, self.steps, self.ratio = denoiser, steps, ratio
        with double_precision():
            self.scheduler = ScoreSdeVeScheduler(steps + 1, ratio, low, high)

    def step(self, x_t: Tensor, t: float, s: float, generator: torch.Generator) -> Tensor:
        return self.step_and_ratio(x_t, t, s, generator)[0]

    def step_and_ratio(self, x_t: Tensor, t: float, s: float, generator: torch.Generator) -> tuple[Tensor, float]:
        """x_s, and the ratio with which our mean step size 2 (ratio sigma)^2 is the one that their norms gave."""
        place = (round(t * self.steps) + 0.5) / self.steps  # of which they take the whole steps below
        with double_precision():
            x_s = self.scheduler.step_pred(self.denoiser(x_t, t).to("score"), place, x_t, generator).prev_sample
            score = self.denoiser(x_s, s).to("score")
            drawn = torch.randn(x_s.shape, generator=generator.clone_state(), dtype=x_s.dtype)
            ratio = self.ratio * float(drawn.norm(dim=1).mean() / score.norm(dim=1).mean())
            corrected = self.scheduler.step_correct(score, x_s, generator).prev_sample
        return corrected, ratio / float(self.denoiser.schedule.at(s)[1])


@contextmanager
def double_precision() -> Iterator[None]:
    """What asks for no dtype gets float64."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
