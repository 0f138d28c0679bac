"""SharedLatentNetwork: one latent vector behind all fields, inferred from any of several views."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from latentcause.models.baselines.fields.experts import Gaussian, log_mixture, product

LOG_TWO_PI = math.log(2 * math.pi)
LEAST_NOISE = 1e-4  # variance of a pixel, as a share of its node's
START = 0.02  # least share of a latent that a view is taken to explain at the start
RIDGE = 1e-3

Subset = tuple[int, ...]
"""Numbers of views, rising."""


class SharedLatentNetwork(nn.Module):
    """u ~ N(0, I) and z | u ~ N(f(u), diag s^2), with encoders of several views of z.

    z are all pixels of all fields; f is affine plus a network, s^2 a number for each pixel. From the views y_v in a subset S
    the latent is inferred as q(u | S) ~ N(u; 0, I) prod_(v in S) N(u; m_v(y_v), 1 / l_v(y_v)). With q the mean of the C such
    products of ``subsets``, the bound on log p(z) is

        L(z, y) = 1 / C sum_c E_(u ~ q_c)[log p(z | u) + log p(u) - log q(u | y)],

    one draw from every component (Shi et al. 2019, section 3). What the sensors are is known, so log p(z, y) exceeds log p(z)
    by log p(y | z), which no parameter changes: L is the joint bound up to that number.

    Parameters
    ----------
    cells : sequence of int
        Numbers in each view.
    pixels : int
        Numbers in z.
    latents, hidden : int
        Length of u; width of the two hidden layers of each network.
    subsets : sequence of subsets
    joint : bool
        Whether the product over all views is replaced by an encoder of its own that sees them together. The products of single
        views are then drawn to it by ``pull`` sum_v KL(q(u | y) || q(u | y_v)) (Suzuki et al. 2016, eq. 8).
    pull : float
    """

    def __init__(
        self,
        cells: Sequence[int],
        pixels: int,
        latents: int,
        hidden: int,
        subsets: Sequence[Subset],
        *,
        joint: bool = False,
        pull: float = 0.0,
    ) -> None:
        super().__init__()
        self.cells, self.subsets, self.pull = list(cells), list(subsets), pull
        self.encoders = nn.ModuleList(Encoder(m, latents, hidden) for m in cells)
        self.joint_encoder = Encoder(sum(cells), latents, hidden) if joint else None
        self.linear = nn.Linear(latents, pixels)
        self.curved = _perceptron(latents, hidden, pixels)
        self.log_noise = nn.Parameter(torch.zeros(pixels))

    @property
    def latents(self) -> int:
        """k, the length of u."""
        return self.linear.in_features

    def posterior(self, subset: Subset, views: Sequence[Tensor | None]) -> Gaussian:
        """q(u | the views of a subset), each (n, m_v)."""
        present = [view for v, view in enumerate(views) if v in subset and view is not None]
        if self.joint_encoder is not None and len(present) == len(self.cells):
            return product([self.joint_encoder(torch.cat(present, 1))])
        return product([self.encoders[v](view) for v, view in zip(subset, present, strict=True)])

    def decode(self, u: Tensor) -> Tensor:
        """f(u) (n, pixels)."""
        return self.linear(u) + self.curved(u)

    def draw(self, batch: tuple[Tensor, ...], generator: torch.Generator) -> tuple[Tensor]:
        """Standard normal noise for the latents of each row, one for every component: (n, C, k)."""
        z = batch[0]
        return (torch.randn((len(z), len(self.subsets), self.latents), generator=generator, device=z.device),)

    def negative_elbo(self, batch: tuple[Tensor, ...]) -> Tensor:
        """-L (n,) of z (n, pixels), the views (n, m_v) and noise (n, C, k), in nats."""
        z, *views, noise = batch
        components = [self.posterior(subset, views) for subset in self.subsets]
        draws = [q.sample(noise[:, c]) for c, q in enumerate(components)]
        bound = torch.stack([self.log_density(z, u) for u in draws]).mean(0)
        if len(components) == 1:  # the divergence is known
            bound = bound - components[0].divergence_from_prior()
        else:
            terms = [-0.5 * (u.square() + LOG_TWO_PI).sum(-1) - log_mixture(u, components) for u in draws]
            bound = bound + torch.stack(terms).mean(0)
        if self.joint_encoder is None:
            return -bound
        single = [self.posterior((v,), views) for v in range(len(views))]
        pulls = torch.stack([components[0].divergence(own) for own in single]).sum(0)
        return self.pull * pulls - bound

    def log_density(self, z: Tensor, u: Tensor) -> Tensor:
        """log p(z | u) (n,)."""
        misfit = (z - self.decode(u)).square() * (-self.log_noise).exp()
        return -0.5 * (misfit + self.log_noise + LOG_TWO_PI).sum(-1)

    @torch.no_grad()
    def start_at(self, z: Tensor, views: Sequence[Tensor]) -> None:
        """Start as linear: the leading principal axes of z (n, pixels), and each view's regression on their scores.

        A view that explains the share 1 - r of a score's variance has the precision 1 / r - 1 for it, and so the product of the
        prior and that one expert has the moments of the regression.
        """
        n = len(z)
        scores, sizes, axes = torch.linalg.svd(z - z.mean(0), full_matrices=False)
        scores, sizes, axes = (
            scores[:, : self.latents] * math.sqrt(n),
            sizes[: self.latents] / math.sqrt(n),
            axes[: self.latents],
        )
        self.linear.weight.copy_((sizes[:, None] * axes).T)
        self.linear.bias.copy_(z.mean(0))
        for encoder, view in zip(self.encoders, views, strict=True):
            cast("Encoder", encoder).start_at(view, scores)
        if self.joint_encoder is not None:
            self.joint_encoder.start_at(torch.cat(list(views), 1), scores)
        left = torch.zeros_like(self.log_noise)
        for subset in self.subsets:
            q = self.posterior(subset, list(views))
            left += (z - self.linear(q.mean)).square().mean(0)
            left += self.linear.weight.square() @ (1 / q.precision).mean(0)
        self.log_noise.copy_((left / len(self.subsets)).clamp(min=LEAST_NOISE).log())


class Encoder(nn.Module):
    """An expert N(m(y), 1 / l(y)) on u from a view y (n, m): affine in y plus a network, which starts at zero."""

    def __init__(self, cells: int, latents: int, hidden: int) -> None:
        super().__init__()
        self.linear = nn.Linear(cells, latents)
        self.log_precision = nn.Parameter(torch.zeros(latents))
        self.curved = _perceptron(cells, hidden, 2 * latents)

    def forward(self, y: Tensor) -> Gaussian:
        """Mean and precision, (n, k)."""
        shift, change = self.curved(y).chunk(2, dim=1)
        return Gaussian(self.linear(y) + shift, (self.log_precision + change).exp())

    @torch.no_grad()
    def start_at(self, y: Tensor, scores: Tensor) -> None:
        """Start at the ridge regression of scores (n, k) of unit variance on a view with columns of unit variance."""
        gram = y.T @ y / len(y) + RIDGE * torch.eye(y.shape[1], device=y.device)
        weight = torch.linalg.solve(gram, y.T @ scores / len(y))
        explained = 1 - (scores - y @ weight).square().mean(0)
        explained = explained.clamp(START, 1 - LEAST_NOISE)
        self.log_precision.copy_((explained / (1 - explained)).log())
        self.linear.weight.copy_((weight / explained).T)
        self.linear.bias.zero_()


def _perceptron(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    last = nn.Linear(hidden, outputs)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(inputs, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), last)
