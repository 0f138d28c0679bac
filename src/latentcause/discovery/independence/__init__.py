"""Tests of conditional independence, one interface."""

from __future__ import annotations

from typing import Any

from latentcause.discovery.independence.base import IndependenceTest
from latentcause.discovery.independence.fisher_z import FisherZ
from latentcause.discovery.independence.oracle import DSeparation

__all__ = ["DSeparation", "FisherZ", "IndependenceTest", "choose_test"]


def choose_test(data: Any, test: str | IndependenceTest) -> IndependenceTest:
    """The named test on these data."""
    return test if isinstance(test, IndependenceTest) else FisherZ(data)
