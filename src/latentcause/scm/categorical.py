"""Categories in a structural causal model: nodes that are one, and parents that are one."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from latentcause.scm.mechanisms import Mechanism
from latentcause.scm.noise import Noise, UniformNoise


@dataclass(frozen=True)
class CategoricalMechanism(Mechanism):
    """A category of K levels, with codes 0..K-1: a multinomial logit in the parents.

    P(z_j = k | parents) is proportional to exp(intercepts_k + weights_k . parents). The code is drawn by the inverse of its
    distribution function from one uniform number: z_j = #{k < K - 1 : P(z_j <= k | parents) <= u}.

    Parameters
    ----------
    intercepts : tuple of K floats
        At least two; minus infinity for a level that never occurs. Only differences between levels matter.
    weights : tuple of K tuples of float
        One number per parent each; left out, the node ignores its parents.

    Raises
    ------
    ValueError
        For fewer than two levels, or another number of rows of weights.
    """

    intercepts: tuple[float, ...]
    weights: tuple[tuple[float, ...], ...] = ()
    noise: Noise = field(default_factory=UniformNoise, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.n_levels < 2:
            raise ValueError(f"a category with {self.n_levels} levels: give the intercepts of at least two")
        if self.weights and len(self.weights) != self.n_levels:
            raise ValueError(f"{len(self.weights)} rows of weights for {self.n_levels} levels: give one per level")

    @property
    def n_levels(self) -> int:
        """K."""
        return len(self.intercepts)

    def probabilities(self, parents: Tensor) -> Tensor:
        """P(z_j = k | parents): (..., number of parents) -> (..., K)."""
        logits = parents.new_tensor(self.intercepts).expand(*parents.shape[:-1], -1)
        if self.weights and self.weights[0]:
            if len(self.weights[0]) != parents.shape[-1]:
                raise ValueError(
                    f"a mechanism with {len(self.weights[0])} weights on a node with {parents.shape[-1]} parents: give "
                    "one per parent"
                )
            logits = logits + parents @ parents.new_tensor(self.weights).T
        return torch.softmax(logits, dim=-1)

    def predict(self, parents: Tensor, noise: Tensor) -> Tensor:
        """Codes (n,) from uniform noise (n,)."""
        below = self.probabilities(parents).cumsum(-1)[..., :-1]
        return (below <= noise[..., None]).sum(-1).to(parents)

    def abduct(self, values: Tensor, parents: Tensor) -> Tensor:
        """Refused: an interval of noise gives the same level."""
        raise ValueError("it is a category, and a range of noise gives the same level, so its noise is not determined")

    def mean(self, parents: Tensor) -> Tensor:
        """Refused: levels have no mean."""
        raise ValueError("a category has no mean: ask for the probability of one of its levels")

    def log_density(self, values: Tensor, parents: Tensor) -> Tensor:
        """Log probability of the codes."""
        chosen = values.long()[..., None]
        return self.probabilities(parents).log().gather(-1, chosen).squeeze(-1)


@dataclass(frozen=True)
class DummyCoded(Mechanism):
    """Another mechanism, which sees a parent that is a category of K levels as K - 1 columns of zeros and ones.

    Column k is 1 where the parent has level k; the first level has zeros everywhere.

    Parameters
    ----------
    mechanism : Mechanism
    n_levels : tuple of int
        One per parent, in the graph's order: the number of levels, or 0 where the parent is a number.
    """

    mechanism: Mechanism
    n_levels: tuple[int, ...]

    @property
    def noise(self) -> Noise:  # type: ignore[override]  # read only, as all of a frozen dataclass
        """The mechanism's own."""
        return self.mechanism.noise

    def expand(self, parents: Tensor) -> Tensor:
        """The columns (..., q) that the mechanism sees, from parents (..., number of parents)."""
        if len(self.n_levels) != parents.shape[-1]:
            raise ValueError(
                f"a mechanism for {len(self.n_levels)} parents on a node with {parents.shape[-1]}: give one count each"
            )
        return torch.cat([_columns(parents[..., k], count) for k, count in enumerate(self.n_levels)], dim=-1)

    def predict(self, parents: Tensor, noise: Tensor) -> Tensor:
        """The mechanism's, of the expanded parents."""
        return self.mechanism.predict(self.expand(parents), noise)

    def abduct(self, values: Tensor, parents: Tensor) -> Tensor:
        """The mechanism's, of the expanded parents."""
        return self.mechanism.abduct(values, self.expand(parents))

    def counterfactual(self, values: Tensor, before: Tensor, after: Tensor) -> Tensor:
        """The mechanism's, of the expanded parents."""
        return self.mechanism.counterfactual(values, self.expand(before), self.expand(after))

    def mean(self, parents: Tensor) -> Tensor:
        """The mechanism's, of the expanded parents."""
        return self.mechanism.mean(self.expand(parents))

    def log_density(self, values: Tensor, parents: Tensor) -> Tensor:
        """The mechanism's, of the expanded parents."""
        return self.mechanism.log_density(values, self.expand(parents))


def levels_of(mechanism: Mechanism) -> int:
    """Number of levels of the category that this mechanism makes, 0 where it makes numbers."""
    inner = mechanism.mechanism if isinstance(mechanism, DummyCoded) else mechanism
    return inner.n_levels if isinstance(inner, CategoricalMechanism) else 0


def _columns(codes: Tensor, count: int) -> Tensor:
    if not count:
        return codes[..., None]
    return (codes[..., None] == torch.arange(1, count, device=codes.device)).to(codes.dtype)
