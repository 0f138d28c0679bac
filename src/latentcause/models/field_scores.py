"""Scores of the fields of a causal system, learned from draws: Gaussian moments, and a network for what they leave."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from latentcause.diffusion import Cosine, Denoiser, Prediction, draw_times
from latentcause.fields import JointGaussian, Sees, gaussian_denoiser
from latentcause.fields.denoisers import seen_nodes
from latentcause.graph import CausalGraph
from latentcause.networks.field_network import FieldNetwork
from latentcause.threads import threads_for
from latentcause.training import Recipe, seeded, train

if TYPE_CHECKING:
    from latentcause.models.svgdm import SVGDM

SCHEDULE = Cosine()
LOW_TIME, HIGH_TIME = 0.001, 0.995  # of training
MOST_SITES = 16  # in a row of training


class FieldScores(nn.Module):
    """E[z_i | what node i sees of z_t] = Gaussian estimate + c_i(t) r_i(t) network_i, trained by denoising score matching.

    The Gaussian estimate has the draws' own mean and covariance, so that the network, which starts at zero, learns only what is
    not Gaussian. r_i^2 = v_i sigma^2 / (alpha^2 v_i + sigma^2) is the variance that z_i keeps under its own noise alone, v_i
    its variance; the loss is the squared error in units of r. c_i^2 = alpha^2 v_i / (alpha^2 v_i + sigma^2) is the share of
    signal: what is left to correct goes with it, and without it (sigma^2 / alpha) times the network's derivative, of which
    guidance makes a covariance, would grow without bound as the signal goes.

    Parameters
    ----------
    joint : JointGaussian
        Of all nodes, in float32 or float64.
    graph : CausalGraph
    sees : {"blanket", "parents", "all"}
    channels, blocks : int
        As in `FieldNetwork`.
    """

    variance: Tensor

    def __init__(self, joint: JointGaussian, graph: CausalGraph, sees: Sees, channels: int, blocks: int) -> None:
        super().__init__()
        self.gaussian = gaussian_denoiser(joint, graph, sees, SCHEDULE)
        seen = torch.zeros(len(graph), len(graph), dtype=torch.bool)
        for i, node in enumerate(graph.nodes):
            seen[i, seen_nodes(graph, node, sees)] = True
        axes = 0 if joint.form == "sites" else joint.mean.ndim - 1
        self.network = FieldNetwork(seen, axes, channels, blocks)
        self.register_buffer("variance", _variances(joint))

    def forward(self, x_t: Tensor, t: Tensor | float) -> Tensor:
        """E[z | z_t] (n, d, *shape), at one time or at times (n,)."""
        alpha, sigma = self.gaussian.levels(x_t, t)
        variance = self.variance.to(x_t).reshape(1, -1, *[1] * (x_t.ndim - 2))
        total = alpha.square() * variance + sigma.square()
        estimate = self.gaussian(x_t, t).data
        rows = torch.as_tensor(t, dtype=x_t.dtype, device=x_t.device).expand(len(x_t))
        correction = self.network(x_t / total.sqrt(), estimate / variance.sqrt(), rows)
        return estimate + alpha * sigma * variance / total * correction

    def draw(self, batch: tuple[Tensor, ...], generator: torch.Generator) -> tuple[Tensor, ...]:
        """Times, and noise of the shape of the fields."""
        (z,) = batch
        t = draw_times(len(z), generator, z, LOW_TIME, HIGH_TIME).to(z)
        return t, torch.randn(z.shape, generator=generator, device=z.device)

    def loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        """Squared error (n,) of the estimate in units of r, mean over nodes and pixels."""
        z, t, noise = batch
        alpha, sigma = self.gaussian.levels(z, t)
        variance = self.variance.to(z).reshape(1, -1, *[1] * (z.ndim - 2))
        error = (self(alpha * z + sigma * noise, t) - z).square()
        return (error * (alpha.square() / sigma.square() + 1 / variance)).flatten(1).mean(1)


class LearnedDenoiser(Denoiser):
    """The denoiser that `FieldScores` have learned."""

    def __init__(self, scores: FieldScores) -> None:
        self.scores, self.schedule = scores, SCHEDULE

    def __call__(self, x_t: Tensor, t: Tensor | float) -> Prediction:
        """For fields x_t (n, d, *shape)."""
        alpha, sigma = self.levels(x_t, t)
        return Prediction.of(self.scores(x_t, t), "data", x_t, alpha, sigma)


def learned_scores(
    model: SVGDM, z: Tensor, checkpoint: Path | None, log: Path | None
) -> tuple[FieldScores, list[dict[str, float]]]:
    """Scores trained on draws z (n, d, *shape) by a model's settings, and the losses after each epoch.

    ``checkpoint`` and ``log`` as in `latentcause.training.train`.
    """
    joint = whole = model.joint_.to("cpu", torch.float32)
    if joint.form == "sites" and z[0, 0].numel() > MOST_SITES:
        # Sites are independent and alike: rows of few give a batch as much to choose from as there is.
        z = _regrouped(z)
        joint = JointGaussian(joint.mean.flatten(1)[:, :MOST_SITES], joint.variances, joint.axes, "sites")
    with seeded(model.seed):
        scores = FieldScores(joint, model.graph, model.sees, model.channels, model.blocks)
    recipe = Recipe(
        model.epochs, model.batch_size, model.learning_rate, schedule="cosine", average=0.995, clip_norm=1.0
    )
    with threads_for(0):
        result = train(
            scores,
            scores.loss,
            (z.float(),),
            recipe,
            seed=model.seed,
            draw=scores.draw,
            device=model.device,
            label="SVGDM",
            checkpoint=checkpoint,
            log=log,
        )
    if joint is not whole:
        weights = scores.state_dict()
        with seeded(model.seed):
            scores = FieldScores(whole, model.graph, model.sees, model.channels, model.blocks)
        scores.to(weights["variance"].device).load_state_dict(weights)
    return scores.eval().requires_grad_(False), result.history


def _regrouped(z: Tensor) -> Tensor:
    """All sites of draws (n, d, *shape) in rows (m, d, `MOST_SITES`); the last row is filled with sites of the first."""
    rows = z.flatten(2).movedim(1, -1).flatten(0, 1)
    groups = torch.arange(-(-len(rows) // MOST_SITES) * MOST_SITES).remainder(len(rows)).reshape(-1, MOST_SITES)
    return rows[groups].movedim(-1, 1)


def _variances(joint: JointGaussian) -> Tensor:
    """The mean variance (d,) of each node over its pixels."""
    d = len(joint.mean)
    rows = joint.axes.shape[-1] // d
    shares = joint.axes.abs().square().reshape(*joint.axes.shape[:2], -1)
    weights = torch.ones(len(joint.variances), dtype=joint.variances.dtype)
    if joint.form == "torus" and len(weights) > 1:
        weights = _half_spectrum_weights(joint)
    total = torch.einsum("f,fij,fj->i", weights / weights.sum(), shares.to(joint.variances), joint.variances)
    return total.reshape(d, rows).mean(1)


def _half_spectrum_weights(joint: JointGaussian) -> Tensor:
    """How often each frequency of the half spectrum stands in the whole one."""
    *front, last = joint.mean.shape[1:]
    weights = torch.full((last // 2 + 1,), 2.0, dtype=joint.variances.dtype)
    weights[0] = 1
    if last % 2 == 0:
        weights[-1] = 1
    return weights.expand(*front, -1).flatten()
