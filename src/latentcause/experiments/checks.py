"""Claims of a paper, held against what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Table = tuple[list[str], list[list[str]]]
"""Column names, and rows of cells."""


@dataclass(frozen=True)
class Check:
    """A claim, what was found, and whether it holds."""

    claim: str
    found: str
    holds: bool


def check_table(checks: Sequence[Check]) -> Table:
    """A row for each claim, with its verdict."""
    return ["claim", "found", "verdict"], [
        [check.claim, check.found, "holds" if check.holds else "FAILS"] for check in checks
    ]
