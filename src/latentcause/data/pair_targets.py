"""What is known of which variables an intervention hit, pair by pair."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from latentcause.data.labels import listing

NONE = "none"
"""The target of a pair that no intervention lies between, where that is known."""

Target = str | tuple[str, ...] | None
"""One target, several at once (sorted), ``"none"`` (known: no intervention) or None (unknown)."""


def read_pair_targets(targets: Any, n: int) -> tuple[Target, ...]:
    """The targets of n pairs in the form of `Target`, of any form that `InterventionPairs` takes; errors as it has them."""
    if targets is None:
        return (None,) * n
    if isinstance(targets, (str, Mapping)) or not isinstance(targets, Iterable):
        raise ValueError(f"targets are a {type(targets).__name__}: give a list with one entry per pair")
    entries = list(targets)
    if len(entries) != n:
        raise ValueError(f"{len(entries)} targets for {n} pairs: give one per pair, None where it is unknown")
    texts: dict[str, Target] = {}  # few differ: each text is looked at once
    found: list[Target] = []
    for row, entry in enumerate(entries):
        if not isinstance(entry, str):
            found.append(_target_of(entry, row))
            continue
        if entry not in texts:
            texts[entry] = _target_of(entry, row)
        found.append(texts[entry])
    return tuple(found)


def _target_of(entry: Any, row: int) -> Target:
    if entry is None or entry is pd.NA or (isinstance(entry, float) and np.isnan(entry)):
        return None
    if isinstance(entry, str):
        listed = entry.split(";")
    elif isinstance(entry, (tuple, list, set, frozenset, np.ndarray)):
        listed = list(entry)
    else:
        raise ValueError(
            f"the target of pair {row} is {entry!r}, which is no name: targets are names, such as 'z1'; how strong an "
            "intervention was is not modelled, and numbers of variables need to be made names with str"
        )
    wrong = [name for name in listed if not isinstance(name, str) or not name.strip() or (";" in name)]
    if wrong:
        raise ValueError(f"the target of pair {row} holds {wrong[0]!r}: a target is a name, non-empty and without ';'")
    names = tuple(sorted({name.strip() for name in listed}))
    if NONE in names and len(names) > 1:
        raise ValueError(
            f"the target of pair {row} is {NONE!r} together with others ({listing(names)}): give one or the other"
        )
    return names if len(names) > 1 else names[0] if names else NONE


def target_text(target: Target) -> str:
    """The text that stands for a target in files: empty where unknown, several with ``;`` between them."""
    return "" if target is None else target if isinstance(target, str) else ";".join(target)


def join_group_targets(targets: Sequence[Any], counts: Sequence[int]) -> list[Any]:
    """One list out of those of groups with so many rows; a ValueError names the group that does not fit."""
    if len(targets) != len(counts):
        raise ValueError(f"targets of {len(targets)} groups for {len(counts)} groups: give one list per group")
    joined: list[Any] = []
    for k, (part, count) in enumerate(zip(targets, counts, strict=True)):
        entries = [None] * count if part is None else [part] if isinstance(part, str) else list(part)
        if len(entries) != count:
            raise ValueError(f"group {k} has {count} rows of after but {len(entries)} targets: give one for each")
        joined.extend(entries)
    return joined
