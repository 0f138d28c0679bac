"""From noise to causal variables, without a graph: solution functions."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from latentcause.networks.stacked import StackedMLP

STEEPEST = 2.0  # bound of the log slope: a longer one is noise that has learned to vanish


class SolutionFunctions(nn.Module):
    """z_i = s_i(e_i; e_-i) = exp(a_i(e_-i)) e_i + b_i(e_-i), for all i at once.

    They stand for a structural causal model whose graph is not known: solving it for z gives each variable as a function of its
    own noise e_i, and of the noises of its ancestors (Brehmer et al., Weakly supervised causal representation learning, 2022,
    section 3). a and b are perceptrons of all other noises, and b has a linear part beside.

    Parameters
    ----------
    n_latents : int
    width : int
        Of two hidden layers.
    sees_others : bool
        Without it a and b are constants: the variables are independent.
    """

    others: Tensor

    def __init__(self, n_latents: int, width: int, sees_others: bool = True) -> None:
        super().__init__()
        self.networks = StackedMLP(n_latents, (n_latents, width, width, 2))
        self.linear = nn.Parameter(torch.zeros(n_latents, n_latents))  # [i, j]: of e_j in b_i
        self.register_buffer("others", (1 - torch.eye(n_latents)) * sees_others)

    def forward(self, noise: Tensor, furthest: float = math.inf) -> tuple[Tensor, Tensor]:
        """(z, log slope), both (n, d), of noise (n, d); of others' noise beyond +-``furthest``, what they are there."""
        log_slope, shift = self.at(noise.clamp(-furthest, furthest))
        return log_slope.exp() * noise + shift, log_slope

    def at(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """(a, b), both (n, d): a_i and b_i in the light of the other noises."""
        context = noise * self.others[:, None]
        bent, shift = self.networks(context).unbind(-1)
        log_slope = STEEPEST * torch.tanh(bent / STEEPEST)
        return log_slope.T, shift.T + noise @ (self.linear * self.others).T

    def noise_for(self, noise: Tensor, wanted: dict[int, Tensor]) -> Tensor:
        """Noise (n, d) in which z_i has the wanted values (n,) for some i, and all other noises are as they were.

        With several, each depends on the new noise of those that cause it: d rounds settle an acyclic model.
        """
        changed = noise.clone()
        for _ in range(len(wanted)):
            log_slope, shift = self.at(changed)
            for i, value in wanted.items():
                changed[:, i] = (value - shift[:, i]) * (-log_slope[:, i]).exp()
        return changed
