"""Encoder, decoder and evidence lower bound of the variational autoencoders."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

LOG_TWO_PI = math.log(2 * math.pi)


class AmortisedNetwork(nn.Module):
    """q(z | x, a) = N(mean(c, a), diag v(c, a)) and p(x | z) = N(f(z), sigma^2 I), on compressed measurements.

    c (r,) are the leading principal coordinates of x, in units of ``unit``. A linear decoder whose columns lie in that
    subspace loses nothing by it: |x - A z|^2 = |c - B z|^2 + (what c leaves out of |x|^2), and the last term enters by
    its mean, ``left_out``. The encoder sees c divided by ``spread``, its root mean squares, and beside its network it
    has a linear term, as the decoder has.

    Parameters
    ----------
    prior : Module
        One of ``latentcause.models.baselines.prior``.
    spread : Tensor (r,)
    n_latents : int
    n_measurements : int
        d_x, the dimension of the Gaussian p(x | z).
    unit : float
        Size of a unit of c, in the units of x: the bound is that of x.
    left_out : float
        Mean squared norm of the part of x outside the subspace, in squared ``unit``.
    conditional : bool
        Whether the encoder sees the targets a.
    linear : bool
        f(z) = B z; otherwise a network with two SiLU layers is added, and an intercept.
    hidden : int
    """

    spread: Tensor

    def __init__(
        self,
        prior: nn.Module,
        spread: Tensor,
        n_latents: int,
        n_measurements: int,
        unit: float,
        left_out: float,
        *,
        conditional: bool,
        linear: bool,
        hidden: int,
    ) -> None:
        super().__init__()
        rank = len(spread)
        self.prior = prior
        self.register_buffer("spread", spread)
        self.n_measurements, self.unit, self.left_out = n_measurements, unit, left_out
        self.conditional, self.linear = conditional, linear
        n_inputs = rank + n_latents * conditional
        self.encoder = _perceptron(n_inputs, hidden, 2 * n_latents)
        self.encoder_skip = nn.Linear(n_inputs, n_latents, bias=False)
        self.decoder_skip = nn.Linear(n_latents, rank, bias=not linear)
        self.decoder = None if linear else _perceptron(n_latents, hidden, rank)
        self.log_noise = nn.Parameter(torch.zeros(()))
        self.log_variance = nn.Parameter(torch.zeros(n_latents))

    @torch.no_grad()
    def start_at(self, loadings: Tensor, noise: float) -> None:
        """Start as the linear Gaussian model c = B z + noise, z ~ N(0, I), and its posterior.

        ``loadings`` (d, d) are the rows of B for the leading coordinates, the others are zero; ``noise`` is sigma^2 in
        squared ``unit``.
        """
        d = len(loadings)
        covariance = noise * torch.linalg.inv(loadings.T @ loadings + noise * torch.eye(d))
        self.encoder_skip.weight.zero_()
        self.encoder_skip.weight[:, :d] = covariance @ loadings.T / noise * self.spread[:d]
        self.log_variance.copy_(covariance.diagonal().log())
        self.decoder_skip.weight.zero_()
        self.decoder_skip.weight[:d] = loadings
        if self.decoder_skip.bias is not None:
            self.decoder_skip.bias.zero_()
        self.log_noise.fill_(math.log(noise))

    def encode(self, c: Tensor, indicator: Tensor) -> tuple[Tensor, Tensor]:
        """Means and log variances (n, d_z) of q."""
        inputs = c / self.spread
        if self.conditional:
            inputs = torch.cat([inputs, indicator], dim=1)
        shift, change = self.encoder(inputs).chunk(2, dim=1)
        return self.encoder_skip(inputs) + shift, self.log_variance + change

    def draw(self, batch: tuple[Tensor, ...], generator: torch.Generator) -> tuple[Tensor]:
        """Standard normal noise for every latent of the rows of the batch."""
        c = batch[0]
        return (torch.randn((len(c), len(self.log_variance)), generator=generator, device=c.device),)

    def negative_elbo(self, batch: tuple[Tensor, ...]) -> Tensor:
        """Minus the evidence lower bound of each row, in nats per sample of x (Eq. 6.1 and the bound below it)."""
        c, indicator, noise = batch
        mean, log_variance = self.encode(c, indicator)
        sample = mean + (0.5 * log_variance).exp() * noise
        if self.decoder is None:  # the expectation over q is known
            B = self.decoder_skip.weight
            misfit = (c - mean @ B.T).square().sum(dim=1) + log_variance.exp() @ B.square().sum(dim=0)
        else:
            misfit = (c - self.decoder_skip(sample) - self.decoder(sample)).square().sum(dim=1)
        size = self.n_measurements * (self.log_noise + LOG_TWO_PI + 2 * math.log(self.unit))
        reconstruction = 0.5 * ((misfit + self.left_out) / self.log_noise.exp() + size)
        return reconstruction + self.prior(mean, log_variance, sample, indicator)


def _perceptron(n_inputs: int, hidden: int, n_outputs: int) -> nn.Sequential:
    """Two SiLU layers and an output that starts at zero, so that the linear term leads."""
    last = nn.Linear(hidden, n_outputs)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(n_inputs, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), last)
