"""Where the errors of a posterior of `SVGDM` come from, estimated on the fitted model itself."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from latentcause.data.gridded_observations import GriddedObservations
from latentcause.diffusion import Denoiser, DPMSolver, log_likelihood
from latentcause.fields.denoisers import seen_nodes
from latentcause.progress import progress

if TYPE_CHECKING:
    from latentcause.models.svgdm import SVGDM

TIMES = (0.8, 0.6, 0.4, 0.2, 0.1)  # of noise at which estimates are examined
OBSERVED, NOISES = 32, 8  # draws that are observed, and noises of each at each time
SIGNS = 8  # random signs from which the variance that Tweedie's formula claims is estimated
KNOBS = {
    "discretisation": "steps",
    "score": "draws, epochs, channels, blocks",
    "local Gaussian": "eta; more noise forgets early guidance",
    "Tweedie": "draws, epochs: the derivative of the scores",
    "entropy": "probes and steps of elbo()",
}


def error_budget(model: SVGDM, n: int, generator: torch.Generator) -> pd.DataFrame:
    """The five errors of paper 000, section 4; `SVGDM.error_budget` says what the rows are."""
    z = model.prior_draws(n, generator)
    halving = discretisation(model, n, generator)
    unseen, claimed = estimates(model, z, generator)
    observed = guided(model, z, generator)
    spread = entropy(model, min(n, 8), generator)
    rows = [
        ("discretisation", halving, "sd", halving**2 / 2),
        ("score", unseen, "sd", unseen**2 / 2),
        ("local Gaussian", observed, "sd", observed**2 / 2),
        ("Tweedie", claimed, "share of variance", claimed**2 / 4),
        ("entropy", spread, "nats", spread),
    ]
    table = pd.DataFrame(rows, columns=["error", "size", "unit", "nats per coordinate"]).set_index("error")
    return table.assign(knob=[KNOBS[name] for name in table.index])


def discretisation(model: SVGDM, n: int, generator: torch.Generator) -> float:
    """Root mean square distance, in sd of the samples, between paths of N and of 2 N steps along the same noise."""
    clock = model.clock()
    coarse, fine = (model.solver(model.denoiser()) for _ in range(2))
    halves = torch.stack([clock[:-1], (clock[:-1] + clock[1:]) / 2], 1).flatten()
    x = model.start(n, generator)
    a = b = x
    with progress("halving steps", len(clock) - 1, "time") as report:
        for k, (t, s) in enumerate(pairwise(clock.tolist())):
            middle = float(halves[2 * k + 1])
            first, second = (_normal(x, generator) for _ in range(2))
            b, shrink = _stepped(fine, b, t, middle, first)
            _, sd_first = shrink
            b, (kept, sd_second) = _stepped(fine, b, middle, s, second)
            mean, sd = coarse.moments(a, t, s)
            # The noise of the two halves, as one: its variance is that of the whole step.
            a = mean + (kept * sd_first * first + sd_second * second if float(sd) > 0 else 0)
            report(k + 1, s)
    return float(((a - b).square().mean(0) / b.var(0).clamp(min=1e-12)).mean().sqrt())


def estimates(model: SVGDM, z: Tensor, generator: torch.Generator) -> tuple[float, float]:
    """Two lower bounds from draws z (n, d, *shape) of the prior under noise.

    The residual z - E[z | z_t] of a right score is uncorrelated with all functions of z_t: the share of it that a regression on
    such functions explains, on draws that did not make the regression, is error of the score. And its square is what Tweedie's
    second formula claims, sigma^2 / alpha d E[z | z_t] / d z_t.
    """
    prior, explained, claims = model.denoiser().prior, [], []
    for t in TIMES:
        alpha, sigma = prior.levels(z, t)
        x_t = alpha * z + sigma * _normal(z, generator)
        found, covariance_times = prior.linearised(x_t, t)
        residual = z - found.data
        explained.append(_explained(model, residual, x_t, found.data))
        claimed = torch.zeros_like(z)
        for _ in range(SIGNS):
            signs = torch.randint(0, 2, z.shape, generator=generator, device=generator.device).to(z) * 2 - 1
            claimed += signs * covariance_times(signs) / SIGNS
        actual = residual.square()
        off = ((claimed - actual).flatten(2).mean(2) / actual.flatten(2).mean((0, 2))).double()
        # Less what chance alone makes of the mean over draws.
        claims.append((off.mean(0).square() - off.var(0) / len(off)).mean())
    return float(np.sqrt(np.mean(explained))), float(torch.stack(claims).mean().clamp(min=0).sqrt())


def guided(model: SVGDM, z: Tensor, generator: torch.Generator) -> float:
    """As the first of `estimates`, of the guided denoiser: each draw is seen by sensors of its own noise.

    What is found beyond the error of the score comes of z given z_t being taken for Gaussian.
    """
    observations, z = model.chosen(), z[:OBSERVED]
    with progress("guidance", len(z), "draw") as report:
        residuals: dict[float, list[tuple[Tensor, Tensor, Tensor]]] = {t: [] for t in TIMES}
        for k, own in enumerate(z):
            sensors: dict[str, list] = {}
            for node, seen in observations.per_node:
                sensors.setdefault(node, []).append((seen.operator, seen.noise))
            told = GriddedObservations.simulate(
                observations.nodes, own.cpu().double(), sensors, _cpu(generator), grid=observations.grid
            )
            denoiser = model.denoiser(told)
            for t in TIMES:
                alpha, sigma = denoiser.levels(own, t)
                x_t = alpha * own + sigma * _normal(own.expand(NOISES, *own.shape), generator)
                data = denoiser(x_t, t).data
                residuals[t].append((own - data, x_t, data))
            report(k + 1, float("nan"))
    explained = [
        _explained(model, *(torch.cat(kind) for kind in zip(*parts, strict=True))) for parts in residuals.values()
    ]
    return float(np.sqrt(np.mean(explained)))


def entropy(model: SVGDM, n: int, generator: torch.Generator) -> float:
    """Root mean square difference per coordinate of log q(z | y) by one random sign and by another, over sqrt 2."""
    denoiser = model.denoiser()
    z = model.solver(denoiser)(model.start(n, generator), model.clock(), generator)
    values = [flow_density(denoiser, z, generator, steps=25, probes=1) for _ in range(2)]
    return float((values[0] - values[1]).square().mean().sqrt() / 2**0.5 / z[0].numel())


def flow_density(denoiser: Denoiser, z: Tensor, generator: torch.Generator, steps: int, probes: int) -> Tensor:
    """Log q (n,) of draws of a denoiser's diffusion, by its probability flow."""
    return log_likelihood(denoiser, z, steps=steps, first=2e-3, last=0.99, probes=probes, generator=generator)


def _stepped(solver: DPMSolver, x: Tensor, t: float, s: float, noise: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """A step with this noise, the share of what came before that is kept, and the sd of the noise."""
    mean, sd = solver.moments(x, t, s)
    (alpha_t, sigma_t), (alpha_s, sigma_s) = solver.denoiser.levels(x, t), solver.denoiser.levels(x, s)
    h = (alpha_s.log() - sigma_s.log()) - (alpha_t.log() - sigma_t.log())
    return mean + sd * noise, (sigma_s / sigma_t * (-solver.eta * h).exp(), sd)


def _explained(model: SVGDM, residual: Tensor, x_t: Tensor, data: Tensor) -> float:
    """Share of the residual's variance that its regression on functions of z_t explains, by halves, mean over nodes.

    The functions: z_t, the estimates, and products of estimates, of the node and what its score sees.
    """
    half, shares = len(residual) // 2, []
    for i, node in enumerate(model.graph.nodes):
        near = sorted({i, *seen_nodes(model.graph, node, model.sees)})
        parts = [part[:, j] for part in (x_t, data) for j in near]
        parts += [data[:, j] * data[:, k] for a, j in enumerate(near) for k in near[a:]]
        features = torch.stack([torch.ones_like(parts[0]), *parts], -1).double()
        target = residual[:, i].double()
        first, second = ((features[a].flatten(0, -2), target[a].flatten()) for a in (slice(half), slice(half, None)))
        for (x, y), (x_new, y_new) in ((first, second), (second, first)):
            scale = x.square().mean(0).sqrt().clamp(min=1e-12)
            gram = (x / scale).mT @ (x / scale) / len(x) + 1e-6 * torch.eye(x.shape[1]).to(x)
            weights = torch.linalg.solve(gram, (x / scale).mT @ y / len(x)) / scale
            shares.append(1 - float((y_new - x_new @ weights).square().sum() / y_new.square().sum()))
    return max(0.0, float(np.mean(shares)))


def _normal(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator, dtype=like.dtype, device=generator.device).to(like)


def _cpu(generator: torch.Generator) -> torch.Generator:
    """A generator of the CPU, whose draws follow from this one."""
    if generator.device.type == "cpu":
        return generator
    seed = torch.randint(2**62, (), generator=generator, device=generator.device)
    return torch.Generator().manual_seed(int(seed))
