"""Interventions as they are written on the command line: ``--do NODE=VALUE`` and ``--shift NODE=AMOUNT``."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Any

from latentcause.scm import Shift, StructuralCausalModel


def read_question(model: StructuralCausalModel, do: Sequence[str], shift: Sequence[str]) -> dict[str, Any]:
    """`read_interventions`, at least one.

    Raises
    ------
    ValueError
        For none, and for what `read_interventions` refuses.
    """
    actions = read_interventions(model, do, shift)
    if not actions:
        raise ValueError("nothing is asked: name at least one --do NODE=VALUE or --shift NODE=AMOUNT")
    return actions


def read_interventions(model: StructuralCausalModel, do: Sequence[str], shift: Sequence[str]) -> dict[str, Any]:
    """``{node: value, level or Shift}``, as the model's ``do`` takes it.

    Raises
    ------
    ValueError
        For text without an equals sign, an unknown node or level, a value that is no finite number, and a node named twice.
    """
    actions: dict[str, Any] = {}
    for flag, texts in (("--do", do), ("--shift", shift)):
        for text in texts:
            node, value = split_assignment(model, flag, text)
            if node in actions:
                raise ValueError(f"{node!r} is intervened on twice: once is enough")
            if flag == "--shift":
                actions[node] = Shift(_number(f"{flag} {text}", value))
            elif node in model.levels:
                actions[node] = read_level(model, node, value)
            else:
                actions[node] = _number(f"{flag} {text}", value)
    return actions


def in_words(do: Sequence[str], shift: Sequence[str]) -> str:
    """Such as "do(x = 1, y + 0.5)"."""
    parts = [text.replace("=", " = ", 1) for text in do] + [text.replace("=", " + ", 1) for text in shift]
    return f"do({', '.join(parts)})" if parts else "no intervention"


def split_assignment(model: StructuralCausalModel, flag: str, text: str) -> tuple[str, str]:
    """Node and value of ``node=value``; names and levels may hold equals signs.

    Raises
    ------
    ValueError
        For text without an equals sign, and an unknown node.
    """
    cuts = [i for i, sign in enumerate(text) if sign == "="]
    if not cuts:
        raise ValueError(f"{flag} {text!r} has no equals sign: write NODE=VALUE")
    for cut in cuts[::-1]:
        if (node := text[:cut].strip()) in model.graph:
            return node, text[cut + 1 :].strip()
    node = text[: cuts[0]].strip()
    raise ValueError(
        f"{flag} names {node!r}, which is not a node of the model: its nodes are {', '.join(model.graph.nodes)}"
    )


def _number(what: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        raise ValueError(f"{what}: {value!r} is no number, but the values of this node are") from None
    if not math.isfinite(number):
        raise ValueError(f"{what}: {value!r} is not finite")
    return number


def read_level(model: StructuralCausalModel, node: str, value: str) -> Hashable:
    """The level of a category that reads like this.

    Raises
    ------
    ValueError
        Where there is none.
    """
    for level in model.levels[node]:
        if str(level) == value:
            return level
    levels = ", ".join(map(str, model.levels[node]))
    raise ValueError(f"{value!r} is no level of {node!r}: its levels are {levels}")
