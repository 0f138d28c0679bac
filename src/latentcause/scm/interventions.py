"""Interventions on a node: set it, shift it, or put another mechanism in place of its own."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from latentcause.graph import CausalGraph
from latentcause.scm.categorical import levels_of
from latentcause.scm.mechanisms import Mechanism

Levels = Mapping[str, tuple[Hashable, ...]]


@dataclass(frozen=True, eq=False)
class Shift:
    """The node takes what its own mechanism gives, plus ``amount``: z_j = f_j(z_pa(j), u_j) + amount.

    Parameters
    ----------
    amount : float or ndarray (n,)
        In the node's units; one number, or one per row.
    """

    amount: Any

    def __repr__(self) -> str:
        return f"Shift({np.asarray(self.amount)})"


Intervention = Any
"""What a do() takes for one node: a number, an array of numbers, a level or an array of levels, `Shift`, or `Mechanism`."""

Action = Tensor | Shift | Mechanism
"""A checked intervention: values of shape () or (n,), a `Shift` by a tensor of that shape, or a mechanism."""


def checked_actions(
    do: Mapping[str, Intervention] | None, graph: CausalGraph, levels: Levels, n: int | None
) -> dict[str, Action]:
    """The interventions of a do(), checked; levels of categories become codes.

    Parameters
    ----------
    do : mapping from node to intervention, or None
    graph : CausalGraph
    levels : mapping from node to levels
        Of the nodes that are categories.
    n : int or None
        Number of rows, which the length of arrays must equal; None refuses arrays.

    Raises
    ------
    ValueError
        For an unknown node, values of another shape than () and (n,), values that are not finite or no numbers, an unknown
        level, and for a category also a `Shift` or a mechanism that makes no category of as many levels.
    """
    do = dict(do or {})
    refuse_unknown(graph, do, "do() names")
    return {node: _checked(node, action, levels.get(node), n) for node, action in do.items()}


def refuse_unknown(graph: CausalGraph, named: Mapping[str, Any], what: str) -> None:
    """Refuse names that are not nodes of the graph."""
    unknown = [node for node in named if node not in graph]
    if unknown:
        raise ValueError(f"{what} {unknown[0]!r}, which is not a node of the graph: its nodes are {list(graph.nodes)}")


def _checked(node: str, action: Intervention, levels: tuple[Hashable, ...] | None, n: int | None) -> Action:
    if isinstance(action, Mechanism):
        made, wanted = levels_of(action), len(levels or ())
        if made != wanted:
            kinds = [f"a category of {count} levels" if count else "numbers" for count in (made, wanted)]
            raise ValueError(f"do({node}) gives a mechanism of {kinds[0]} to a node of {kinds[1]}")
        return action
    if isinstance(action, Shift):
        if levels is not None:
            raise ValueError(f"do({node}) is a shift, but {node!r} is a category: set it to one of {list(levels)}")
        return Shift(_numbers(node, action.amount, n))
    return _numbers(node, action, n) if levels is None else _codes(node, action, levels, n)


def _numbers(node: str, given: Any, n: int | None) -> Tensor:
    try:
        values = torch.as_tensor(np.asarray(given, dtype=np.float64))
    except (TypeError, ValueError):
        raise ValueError(f"do({node}) is {given!r}, but the values of {node!r} are numbers: give a number") from None
    _check_shape(node, values.shape, n)
    if not torch.isfinite(values).all():
        raise ValueError(f"do({node}) is not finite: give a number")
    return values


def _codes(node: str, given: Any, levels: tuple[Hashable, ...], n: int | None) -> Tensor:
    code = {level: float(number) for number, level in enumerate(levels)}
    if isinstance(given, Hashable) and given in code:
        return torch.tensor(code[given], dtype=torch.float64)
    array = np.asarray(given, dtype=object)
    _check_shape(node, array.shape, n)
    codes = pd.Series(array.reshape(-1), dtype=object).map(code).to_numpy(dtype=np.float64)
    if np.isnan(codes).any():
        odd = array.reshape(-1)[int(np.isnan(codes).argmax())]
        raise ValueError(f"do({node}) is {odd!r}, which is no level of {node!r}: its levels are {list(levels)}")
    return torch.as_tensor(codes.reshape(array.shape))


def _check_shape(node: str, shape: tuple[int, ...], n: int | None) -> None:
    if shape == () or (n is not None and tuple(shape) == (n,)):
        return
    rows = f", or one for each of the {n} rows" if n is not None else ""
    raise ValueError(f"do({node}) has shape {tuple(shape)}: give one number{rows}")
