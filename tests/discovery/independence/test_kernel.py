"""KCI behind the interface: causal-learn's p-values, categories as indicators, and its absence."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest

from latentcause.discovery.independence import FisherZ, KernelIndependence


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    z = rng.normal(size=150)
    return pd.DataFrame(
        {
            "x": z + 0.5 * rng.normal(size=150),
            "y": np.cos(2 * z) + 0.5 * rng.normal(size=150),
            "z": z,
            "c": np.where(z + 0.3 * rng.normal(size=150) > 0, "up", "down"),
        }
    )


def test_p_values_are_those_of_causal_learn(table: pd.DataFrame) -> None:
    cit = pytest.importorskip("causallearn.utils.cit")
    numbers = table[["x", "y", "z"]]
    peer = cit.CIT(numbers.to_numpy(), "kci")
    test = KernelIndependence(numbers)
    for x, y, given in ((0, 1, []), (0, 2, []), (0, 1, [2]), (1, 2, [0])):
        names = [numbers.columns[j] for j in (x, y, *given)]
        assert test.p_value(names[0], names[1], names[2:]) == pytest.approx(peer(x, y, given), rel=1e-6, abs=1e-12)


def test_dependence_of_any_form_is_seen(table: pd.DataFrame) -> None:
    pytest.importorskip("causallearn")
    rng = np.random.default_rng(1)
    noise = np.exp(table["z"]) * rng.normal(size=150)  # neither mean depends on the other
    frame = pd.DataFrame({"size": table["z"], "noise": noise})
    assert KernelIndependence(frame).p_value("size", "noise") < 1e-3
    assert FisherZ(frame).p_value("size", "noise") > 0.05
    assert KernelIndependence(table).p_value("x", "y", "z") > 0.05
    assert KernelIndependence(table).p_value("c", "x") < 1e-6


def test_without_causal_learn_the_error_says_what_to_install(
    table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "causallearn.utils.KCI.KCI", None)
    with pytest.raises(ImportError, match=r'test="kci" needs causal-learn: pip install "latentcause\[discovery\]"'):
        KernelIndependence(table)
