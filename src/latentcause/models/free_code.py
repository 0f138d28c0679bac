"""The numbers of a factor's code that no label speaks of."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from latentcause.data.variables import Variables
from latentcause.models.factor_code import FactorCode


@dataclass(frozen=True)
class FreeCode:
    """The code of a factor that is a number is a block: the factor itself, then ``block_size`` - 1 free numbers.

    Their posterior is q(e | x) = N(mean(x), variance(x)), their prior N(0, 1). Outputs (n, 2 ``size``) of an encoder hold all
    means, then all log variances. A category has no free numbers.

    Attributes
    ----------
    code : FactorCode
    block_size : int

    Raises
    ------
    ValueError
        For a block_size that is no whole number above 0, and where the name of a free number is that of a factor.
    """

    code: FactorCode
    block_size: int

    def __post_init__(self) -> None:
        if not isinstance(self.block_size, int) or isinstance(self.block_size, bool) or self.block_size < 1:
            raise ValueError(f"block_size is {self.block_size!r}: give a whole number, 1 for no free numbers")
        taken = [name for name in self.columns if name in self.code.names]
        if taken:
            raise ValueError(f"{taken[0]!r} is a factor, and the name of a free number of another: rename the factor")

    @property
    def owners(self) -> tuple[str, ...]:
        """The factor of each free number (size,)."""
        numeric = [name for name in self.code.names if name not in self.code.levels]
        return tuple(name for name in numeric for _ in range(self.block_size - 1))

    @property
    def columns(self) -> tuple[str, ...]:
        """The name of each free number: "thickness_1", "thickness_2", ..."""
        return tuple(f"{name}_{1 + k % (self.block_size - 1)}" for k, name in enumerate(self.owners))

    @property
    def size(self) -> int:
        """How many there are."""
        return len(self.owners)

    # --- the encoder's ------------------------------------------------------------------------------------------------

    def mean(self, outputs: Tensor) -> Tensor:
        """Means (n, size)."""
        return outputs[:, : self.size]

    def draw(self, outputs: Tensor, standard: Tensor) -> Tensor:
        """A draw (n, size) by standard normal noise (n, size)."""
        return outputs[:, : self.size] + (0.5 * outputs[:, self.size :]).exp() * standard

    def divergence(self, outputs: Tensor) -> Tensor:
        """KL(q || N(0, 1)) (n,)."""
        mean, log_variance = outputs[:, : self.size], outputs[:, self.size :].clamp(-20, 5)
        return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1)

    # --- what if ------------------------------------------------------------------------------------------------------

    def after(self, free: Tensor, do: Collection[str], moved: Tensor) -> Tensor:
        """Free numbers (n, size) after do(): 0, their prior mean, where their factor is in ``do`` and has ``moved`` (n, f)."""
        replaced = torch.tensor([name in do for name in self.owners], dtype=torch.bool)
        index = [self.code.names.index(name) for name in self.owners]
        return torch.where(replaced & moved[:, index], 0.0, free)

    # --- tables -------------------------------------------------------------------------------------------------------

    def read(self, table: pd.DataFrame) -> Tensor:
        """The free numbers (n, size) of a table that has them among its columns; float32.

        Raises
        ------
        ValueError
            For a missing column or value.
        """
        if not self.size:
            return torch.zeros(len(table), 0)
        return torch.from_numpy(Variables.read(table, self.columns).values.copy()).float()

    def frame(self, factors: pd.DataFrame, free: Tensor) -> pd.DataFrame:
        """Factors with the free numbers of each after it."""
        numbers = pd.DataFrame(free.numpy().astype(np.float64), columns=list(self.columns), index=factors.index)
        order = []
        for name in self.code.names:
            order += [name, *(column for column, owner in zip(self.columns, self.owners, strict=True) if owner == name)]
        return pd.concat([factors, numbers], axis=1)[order]
