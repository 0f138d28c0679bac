"""The test is chosen by its name, or by the kinds of columns."""

from __future__ import annotations

import pytest

from confounded_tables import siblings
from latentcause.data import Variables
from latentcause.discovery.independence import (
    ChiSquared,
    DSeparation,
    FisherZ,
    GeneralisedCovariance,
    GSquared,
    KernelIndependence,
    MixedRegression,
    choose_test,
)
from latentcause.graph import CausalGraph

NUMBERS, CATEGORIES, BOTH = (siblings(60, kinds, seed=0, causes="") for kinds in ("nnn", "232", "n3n"))


def test_auto_looks_at_the_columns() -> None:
    for table, kind in ((NUMBERS, FisherZ), (CATEGORIES, ChiSquared), (BOTH, MixedRegression)):
        assert type(choose_test(table, "auto")) is kind
        assert type(choose_test(Variables.read(table))) is kind
    assert type(choose_test(NUMBERS.to_numpy())) is FisherZ


def test_names_classes_and_tests() -> None:
    assert type(choose_test(NUMBERS, "fisher-z")) is FisherZ
    assert type(choose_test(CATEGORIES, "chi-squared")) is ChiSquared
    assert type(choose_test(CATEGORIES, "g-squared")) is GSquared
    assert type(choose_test(NUMBERS, "mixed")) is MixedRegression
    assert type(choose_test(BOTH, "gcm")) is GeneralisedCovariance
    assert type(choose_test(BOTH, GeneralisedCovariance)) is GeneralisedCovariance
    oracle = DSeparation(CausalGraph.chain(3))
    assert choose_test(None, oracle) is oracle


def test_kci_by_name() -> None:
    pytest.importorskip("causallearn")
    assert type(choose_test(BOTH, "kci")) is KernelIndependence


def test_an_unknown_name_lists_the_known() -> None:
    known = "auto, fisher-z, chi-squared, g-squared, mixed, gcm, kci"
    with pytest.raises(ValueError, match=f"there is no test 'pearson': choose one of {known}"):
        choose_test(NUMBERS, "pearson")
