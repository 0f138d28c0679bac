"""Sampled posteriors for any graph: Hamiltonian Monte Carlo chains, one for every sample, all moved together."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from latentcause.scm import AdditiveMechanism, StructuralCausalModel

TRAJECTORY = 2.0
"""Longest move in units of the posterior's own time. A quarter period of a Gaussian, 1.57, forgets the start best; lengths
vary from half to a tenth more of this, so that no direction is left swinging in step."""

TARGET_ACCEPTANCE = 0.8


@dataclass(frozen=True)
class Assigned:
    """The mechanism that makes a node in some of the rows."""

    mechanism: AdditiveMechanism
    rows: Tensor


RowMechanisms = list[tuple[int, list[int], list[Assigned]]]
"""For every node: its column, its parents' columns, and which mechanism makes it in which rows."""


def everywhere(scm: StructuralCausalModel, n: int) -> RowMechanisms:
    """One structural causal model for all of n rows."""
    graph, rows, mechanisms = scm.graph, torch.arange(n), scm.gaussian_mechanisms
    return [
        (j, [graph.index(p) for p in graph.parents(node)], [Assigned(mechanisms[node], rows)])
        for j, node in enumerate(graph.nodes)
    ]


class PosteriorChains:
    """Markov chains for z given u = z + N(0, C), one chain for every row of u, kept between calls.

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
        self, mechanisms: RowMechanisms, u: Tensor, precision: Tensor, moves: int, *, adapt: bool = True
    ) -> Tensor:
        """Make some moves under the given mechanisms and noise precision C^-1 (d, d); return the new states (n, d)."""
        mass = self._mass(mechanisms, u, precision)
        energy, slope = self._energy(mechanisms, self.z, u, precision)
        for _ in range(moves):
            jitter = 0.5 + 0.6 * torch.rand(1, generator=self.generator, dtype=u.dtype, device=u.device)
            step = self.step_size * float(jitter)
            noise = torch.randn(u.shape, generator=self.generator, dtype=u.dtype, device=u.device)
            start = noise * mass.sqrt()
            z, momentum, new_slope = self.z, start, slope
            for _ in range(max(2, round(TRAJECTORY / self.step_size))):
                momentum = momentum - 0.5 * step * new_slope
                z = z + step * momentum / mass
                new_energy, new_slope = self._energy(mechanisms, z, u, precision)
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
    def _mass(mechanisms: RowMechanisms, u: Tensor, precision: Tensor) -> Tensor:
        mass = precision.diagonal().repeat(len(u), 1)
        for j, _, assigned in mechanisms:
            for part in assigned:
                mass[part.rows, j] += 1.0 / part.mechanism.variance
        return mass

    @staticmethod
    def _energy(mechanisms: RowMechanisms, z: Tensor, u: Tensor, precision: Tensor) -> tuple[Tensor, Tensor]:
        """Negative log posterior (n,) up to a constant, and its gradient (n, d)."""
        pull = (z - u) @ precision
        energy, slope = 0.5 * (pull * (z - u)).sum(1), pull
        for j, parents, assigned in mechanisms:
            for part in assigned:
                here = z[part.rows]
                mean, slopes = part.mechanism.mean_and_slopes(here[:, parents])
                scaled = (here[:, j] - mean) / part.mechanism.variance
                energy[part.rows] += 0.5 * scaled * (here[:, j] - mean)
                slope[part.rows, j] += scaled
                for k, parent in enumerate(parents):
                    slope[part.rows, parent] -= scaled * slopes[:, k]
        return energy, slope
