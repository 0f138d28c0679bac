"""A mechanism whose mean is a small neural network."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from latentcause.scm.mechanisms import AdditiveMechanism
from latentcause.scm.noise import Noise


@dataclass(frozen=True, eq=False)
class NeuralMechanism(AdditiveMechanism):
    """z_j = intercept + slopes' z_pa(j) + network(z_pa(j)) + noise: a line, and what a network adds to it.

    The network is x -> silu(silu(x W_1 + b_1) W_2 + b_2) W_3 ..., with SiLU (x sigmoid(x)) between any number of
    layers and none after the last, which has one output and no bias.

    Parameters
    ----------
    slopes : ndarray (number of parents,)
        In the graph's order of parents, in units of the node per unit of the parent.
    weights : tuple of ndarray (inputs, outputs)
        Of each layer; the first has an input per parent, the last one output.
    biases : tuple of ndarray (outputs,)
        Of each layer but the last.
    intercept, variance : float

    Raises
    ------
    ValueError
        If the shapes do not fit each other.
    """

    slopes: np.ndarray
    weights: tuple[np.ndarray, ...]
    biases: tuple[np.ndarray, ...]
    intercept: float = 0.0
    variance: float = 1.0
    noise: Noise = None  # type: ignore[assignment]  # set by __post_init__

    def __post_init__(self) -> None:
        super().__post_init__()
        widths = [len(self.slopes), *map(len, self.biases), 1]
        wanted = list(pairwise(widths))
        if [weight.shape for weight in self.weights] != wanted:
            raise ValueError(f"weights have shapes {[weight.shape for weight in self.weights]}: they must be {wanted}")

    def __repr__(self) -> str:
        widths = " x ".join(str(len(bias)) for bias in self.biases)
        return f"NeuralMechanism({len(self.slopes)} parents, hidden layers of {widths}, noise {self.noise})"

    def mean(self, parents: Tensor) -> Tensor:
        """The line plus the network; differentiable."""
        if len(self.slopes) != parents.shape[-1]:
            raise ValueError(f"a network of {len(self.slopes)} parents on a node with {parents.shape[-1]} parents")
        hidden = parents
        for weight, bias in zip(self.weights[:-1], self.biases, strict=True):
            hidden = nn.functional.silu(
                hidden @ torch.from_numpy(weight).to(parents) + torch.from_numpy(bias).to(parents)
            )
        line = parents @ torch.from_numpy(self.slopes).to(parents) + self.intercept
        return line + (hidden @ torch.from_numpy(self.weights[-1]).to(parents)).squeeze(-1)
