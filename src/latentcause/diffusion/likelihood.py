"""Log-likelihood of data under a diffusion model, by its probability flow."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from latentcause.diffusion.denoisers import Denoiser
from latentcause.progress import progress


def log_likelihood(
    denoiser: Denoiser,
    x: Tensor,
    *,
    steps: int = 100,
    first: float = 1e-3,
    last: float = 1.0,
    probes: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """log p(x) in nats, one value a row, of the model that the probability flow defines.

    With y = x / alpha and u = log(sigma / alpha) the flow is dy/du = exp(u) eps, so log p changes by the integral of its
    divergence (Chen et al. 2018; Song et al. 2021, Eq. 39), here by the classical Runge-Kutta method of order 4 on equal steps
    of u; at ``last``, x is N(0, alpha^2 + sigma^2) or, without signal, N(0, sigma^2). The result is for data with noise of
    standard deviation sigma(first), from which a smooth density differs by O(sigma^2).

    Parameters
    ----------
    denoiser : Denoiser
    x : Tensor (n, ...)
        Taken as data at time ``first``.
    steps : int
    first, last : float
        Times; some noise at the first, some signal at the last (a ``last`` of 1 is moved to where alpha is 1e-4 of sigma).
    probes : int, optional
        Number of random signs per row for the divergence (Hutchinson 1990). Without it, it is exact: one backward pass for
        each dimension, fit for vectors.
    generator : torch.Generator, optional
        Of the probes.

    Raises
    ------
    ValueError
        For no noise at ``first``, times out of order, or probes without a generator.
    """
    start, end = _log_ratio(denoiser, first), _log_ratio(denoiser, last)
    if not math.isfinite(start):
        raise ValueError(f"no noise is left at first = {first}: take a later time, such as 0.001")
    end = min(end, math.log(1e4))
    if not start < end:
        raise ValueError(f"first = {first} must be before last = {last}")
    signs = None
    if probes is not None:
        if generator is None:
            raise ValueError("probes are random: give a generator")
        draws = torch.randint(0, 2, (probes, *x.shape), generator=generator, device=x.device)
        signs = (2 * draws - 1).to(x.dtype)
    h = (end - start) / steps
    clock = _times_at(denoiser, torch.linspace(start, end, 2 * steps + 1, dtype=torch.float64), first, last).tolist()
    alpha, _ = denoiser.levels(x, first)
    size = x[0].numel()
    y, change = x / alpha, x.new_zeros(len(x))
    with progress("log-likelihood", steps, "log(sigma / alpha)") as report:
        for k in range(steps):
            y, change = _runge_kutta_step(denoiser, clock[2 * k : 2 * k + 3], y, change, h, signs)
            report(k + 1, start + (k + 1) * h)
    # At u = end, y is N(0, 1 + exp(2 u)); where alpha(last) > 0 that is x / alpha with x ~ N(0, alpha^2 + sigma^2).
    variance = 1 + math.exp(2 * end)
    log_end = -0.5 * (y.flatten(1).square().sum(1) / variance + size * math.log(2 * math.pi * variance))
    return log_end + change - size * float(alpha.log())  # p(x) = p(y) alpha^-d


def _times_at(denoiser: Denoiser, u: Tensor, first: float, last: float) -> Tensor:
    """The times at which log(sigma / alpha), which grows with time, has the values u: by bisection, all at once."""
    low, high = torch.full_like(u, first), torch.full_like(u, last)
    for _ in range(60):
        middle = 0.5 * (low + high)
        early = -0.5 * denoiser.schedule.log_snr(middle) < u
        low, high = torch.where(early, middle, low), torch.where(early, high, middle)
    return 0.5 * (low + high)


def _log_ratio(denoiser: Denoiser, t: float) -> float:
    return -0.5 * float(denoiser.schedule.log_snr(t))


def _runge_kutta_step(
    denoiser: Denoiser, times: list[float], y: Tensor, change: Tensor, h: float, signs: Tensor | None
) -> tuple[Tensor, Tensor]:
    slope1, growth1 = _flow(denoiser, y, times[0], signs)
    slope2, growth2 = _flow(denoiser, y + h / 2 * slope1, times[1], signs)
    slope3, growth3 = _flow(denoiser, y + h / 2 * slope2, times[1], signs)
    slope4, growth4 = _flow(denoiser, y + h * slope3, times[2], signs)
    y = y + h / 6 * (slope1 + 2 * slope2 + 2 * slope3 + slope4)
    return y, change + h / 6 * (growth1 + 2 * growth2 + 2 * growth3 + growth4)


def _flow(denoiser: Denoiser, y: Tensor, t: float, signs: Tensor | None) -> tuple[Tensor, Tensor]:
    """dy/du at y, and its divergence (n,)."""
    alpha, sigma = denoiser.levels(y, t)
    with torch.enable_grad():
        variables = y.detach().requires_grad_()
        slope = sigma / alpha * denoiser(alpha * variables, t).noise
        if signs is None:
            flat = slope.flatten(1)
            divergence = y.new_zeros(len(y))
            for i in range(flat.shape[1]):
                (row,) = torch.autograd.grad(flat[:, i].sum(), variables, retain_graph=True)
                divergence += row.flatten(1)[:, i]
        else:
            parts = [
                (torch.autograd.grad((slope * v).sum(), variables, retain_graph=True)[0] * v).flatten(1).sum(1)
                for v in signs
            ]
            divergence = torch.stack(parts).mean(0)
    return slope.detach(), divergence
