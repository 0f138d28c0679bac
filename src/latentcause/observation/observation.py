"""Observation: the values of some cells, what they see of a field, and how far they stray from it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from latentcause.observation.builders import identity
from latentcause.observation.likelihoods import GaussianError, Likelihood
from latentcause.observation.operators import Operator


@dataclass(frozen=True, eq=False, repr=False)
class Observation:
    """What one sensor says of one field.

    Parameters
    ----------
    values : array or tensor
        One number per cell of the operator, in its grid's shape or flat; NaN where there is none.
    operator : Operator, optional
        What the cells see of the field; every pixel where it is not given.
    noise : Likelihood or float
        p(value | seen); a number is the standard deviation of a `GaussianError`.
    name : str
        For messages, such as a file and its band.

    Raises
    ------
    ValueError
        For a noise that is not positive.
    TypeError
        For a noise or operator of another type.
    """

    values: Any
    operator: Operator | None = None
    noise: Any = None
    name: str = ""

    def __post_init__(self) -> None:
        values = self.values.detach().cpu().numpy() if isinstance(self.values, Tensor) else self.values
        object.__setattr__(self, "values", np.array(values, dtype=np.float64))
        if self.operator is not None and not isinstance(self.operator, Operator):
            raise TypeError(f"an operator is one of latentcause.observation, not a {type(self.operator).__name__}")
        if self.noise is None:
            raise TypeError("an observation needs its noise: a Likelihood, or a number as standard deviation")
        if not isinstance(self.noise, Likelihood):
            object.__setattr__(self, "noise", GaussianError(self.noise))

    def of_field(self, shape: tuple[int, ...]) -> Observation:
        """The observation of a field of that shape: with an operator, values (m,) and no missing cell.

        Raises
        ------
        ValueError
            Where the operator takes other fields, the values do not fit it, no cell has a value, or the values or the noise
            are none that the likelihood allows.
        """
        operator = identity(shape) if self.operator is None else self.operator
        if operator.shape != shape:
            raise ValueError(f"its operator takes fields of shape {operator.shape}, the fields have shape {shape}")
        if self.values.shape not in (operator.grid, (operator.size,)):
            cure = "give an operator" if self.operator is None else "the operator and the values must belong together"
            raise ValueError(f"values of shape {self.values.shape} for an operator with cells {operator.grid}: {cure}")
        keep = ~np.isnan(self.values.ravel())
        if not keep.any():
            raise ValueError(f"all {keep.size} cells are missing: leave the observation out")
        values, noise = self.values.ravel(), self.noise
        noise.check_size(len(values))
        if not keep.all():
            values, noise, operator = values[keep], noise.rows(keep), operator.rows(keep)
        noise.check(values)
        return replace(self, values=values, operator=operator, noise=noise)

    def __repr__(self) -> str:
        name = f"{self.name}: " if self.name else ""
        cells = np.isfinite(self.values).sum()
        operator = "every pixel" if self.operator is None else repr(self.operator)
        return f"Observation({name}{cells} values, {operator}, {type(self.noise).__name__})"
