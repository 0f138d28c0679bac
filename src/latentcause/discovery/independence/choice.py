"""Which test fits which data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from latentcause.data.variables import Variables
from latentcause.discovery.independence.base import IndependenceTest
from latentcause.discovery.independence.categorical import ChiSquared, GSquared
from latentcause.discovery.independence.fisher_z import FisherZ
from latentcause.discovery.independence.gcm import GeneralisedCovariance
from latentcause.discovery.independence.kernel import KernelIndependence
from latentcause.discovery.independence.mixed import MixedRegression

TESTS: dict[str, Callable[[Any], IndependenceTest]] = {
    "fisher-z": FisherZ,
    "chi-squared": ChiSquared,
    "g-squared": GSquared,
    "mixed": MixedRegression,
    "gcm": GeneralisedCovariance,
    "kci": KernelIndependence,
}
"""The tests that have a name."""


def choose_test(
    data: Any, test: str | Callable[[Any], IndependenceTest] | IndependenceTest = "auto"
) -> IndependenceTest:
    """The test to ask of these data.

    Parameters
    ----------
    data : DataFrame, array (n, d) or Variables
    test : str, class of tests or IndependenceTest
        One of ``TESTS``; or "auto": "fisher-z" if all columns are numeric, "chi-squared" if all are categories, "mixed" if
        there are both. A class is built on the data; a test that is built already is returned as it is.

    Raises
    ------
    ValueError
        For an unknown name, and for what the test refuses.
    """
    if isinstance(test, IndependenceTest):
        return test
    if callable(test):
        return test(data)
    if test == "auto":
        variables = data = Variables.read(data)
        numeric = {variables.is_numeric(name) for name in variables.names}
        test = "mixed" if len(numeric) == 2 else "fisher-z" if True in numeric else "chi-squared"
    if test not in TESTS:
        raise ValueError(f"there is no test {test!r}: choose one of {', '.join(['auto', *TESTS])}")
    return TESTS[test](data)
