"""Sampled posteriors for any graph: Hamiltonian Monte Carlo chains, one for every sample, all moved together."""

from __future__ import annotations

import torch
from torch import Tensor

from latentcause.scm import StructuralCausalModel

TRAJECTORY = 1.5
"""Length of a move in units of the posterior's own time: about a quarter period of a Gaussian, which forgets the start best."""

TARGET_ACCEPTANCE = 0.8


class PosteriorChains:
    """Markov chains for z ~ scm given u = z + N(0, C), one chain for every row of u, kept between calls.

    Hamiltonian Monte Carlo (Neal 2011) with the noise's and mechanisms' precisions as masses and a step size that adapts to an
    acceptance of 0.8, so that neither scale of z nor of the noise needs tuning. Exact in the limit of many moves.

    Parameters
    ----------
    u : Tensor (n, d)
        Unmixed measurements, columns in ``graph.nodes`` order. The chains start there.
    generator : torch.Generator
        On the device of ``u``.
    """

    def __init__(self, u: Tensor, generator: torch.Generator) -> None:
        self.z = u.clone()
        self.step_size = 0.5
        self.generator = generator

    def advance(
        self, scm: StructuralCausalModel, u: Tensor, precision: Tensor, moves: int, *, adapt: bool = True
    ) -> Tensor:
        """Make some moves under the given model and noise precision C^-1 (d, d); return the new states (n, d)."""
        mass = self._mass(scm, precision)
        energy, slope = self._energy(scm, self.z, u, precision)
        for _ in range(moves):
            jitter = 0.8 + 0.4 * torch.rand(1, generator=self.generator, dtype=u.dtype, device=u.device)
            step = self.step_size * float(jitter)
            noise = torch.randn(u.shape, generator=self.generator, dtype=u.dtype, device=u.device)
            start = noise * mass.sqrt()
            z, momentum, new_slope = self.z, start, slope
            for _ in range(max(1, round(TRAJECTORY / self.step_size))):
                momentum = momentum - 0.5 * step * new_slope
                z = z + step * momentum / mass
                new_energy, new_slope = self._energy(scm, z, u, precision)
                momentum = momentum - 0.5 * step * new_slope
            kinetic = 0.5 * ((start.square() - momentum.square()) / mass).sum(1)
            log_ratio = energy - new_energy + kinetic
            uniform = torch.rand(len(u), generator=self.generator, dtype=u.dtype, device=u.device)
            accepted = uniform.log() < log_ratio
            self.z = torch.where(accepted[:, None], z, self.z)
            energy = torch.where(accepted, new_energy, energy)
            slope = torch.where(accepted[:, None], new_slope, slope)
            if adapt:
                rate = float(log_ratio.exp().clamp(max=1.0).nan_to_num(0.0).mean())
                self.step_size *= 2.718281828 ** (0.3 * (rate - TARGET_ACCEPTANCE))
        return self.z

    @staticmethod
    def _mass(scm: StructuralCausalModel, precision: Tensor) -> Tensor:
        variances = precision.new_tensor([scm.mechanisms[node].variance for node in scm.graph.nodes])
        return precision.diagonal() + 1.0 / variances

    @staticmethod
    def _energy(scm: StructuralCausalModel, z: Tensor, u: Tensor, precision: Tensor) -> tuple[Tensor, Tensor]:
        """Negative log posterior (n,) up to a constant, and its gradient (n, d)."""
        z = z.detach().requires_grad_()
        offset = z - u
        energy = 0.5 * ((offset @ precision) * offset).sum(1)
        for j, node in enumerate(scm.graph.nodes):
            parents = z[:, [scm.graph.index(p) for p in scm.graph.parents(node)]]
            mechanism = scm.mechanisms[node]
            energy = energy + 0.5 * (z[:, j] - mechanism.mean(parents)).square() / mechanism.variance
        (slope,) = torch.autograd.grad(energy.sum(), z)
        return energy.detach(), slope
