from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from latentcause.data.variables import Variables
from latentcause.models.factor_code import FactorCode

ANGLE, PLACE = (-40.0, 60.0), (0.0, 2.0)


@st.composite
def tables(draw) -> tuple[Variables, dict[str, tuple[float, float]]]:
    """Labels of numbers, some with bounds, and categories; and the bounds."""
    n = draw(st.integers(4, 12))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    columns, bounds = {}, {}
    for j in range(draw(st.integers(1, 4))):
        kind, name = draw(st.sampled_from(["number", "bounded", "category"])), f"f{j}"
        low, width = draw(st.floats(-1e3, 1e3)), draw(st.floats(1e-2, 1e3))
        share = generator.uniform(0.01, 0.99, n)
        share[:2] = 0.2, 0.7
        if kind == "category":
            levels = list("abc")[: draw(st.integers(2, 3))]
            columns[name] = pd.Categorical([levels[i % len(levels)] for i in range(n)], categories=levels)
        else:
            columns[name] = low + width * share
            if kind == "bounded":
                bounds[name] = (low, low + width)
    return Variables.read(pd.DataFrame(columns)), bounds


@given(tables())
def test_labels_go_to_the_standard_scale_and_back(drawn):
    labels, bounds = drawn
    code = FactorCode.of(labels, bounds)
    scaled = code.scaled(labels.values)
    size = 1 + np.abs(labels.values).max()
    np.testing.assert_allclose(code.unscaled(scaled), labels.values, rtol=1e-9, atol=1e-9 * size)
    numeric = [j for j, name in enumerate(labels.names) if name not in labels.levels]
    np.testing.assert_allclose(scaled[:, numeric].mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(scaled[:, numeric].std(0), 1, rtol=1e-6)
    assert np.array_equal(code.low, labels.values.min(0))
    assert np.array_equal(code.high, labels.values.max(0))


@given(tables())
def test_what_a_network_is_told_names_the_factors_again(drawn):
    labels, bounds = drawn
    code = FactorCode.of(labels, bounds)
    scaled = torch.from_numpy(code.scaled(labels.values))
    told = code.told(scaled)
    assert told.shape == (len(labels), code.size)
    assert torch.equal(code.chosen(told), scaled)


@given(tables(), st.floats(-1e4, 1e4))
def test_no_number_of_the_standard_scale_leaves_the_bounds(drawn, far):
    labels, bounds = drawn
    code = FactorCode.of(labels, bounds)
    values = code.unscaled(np.full((1, len(labels.names)), far))[0]
    for name, (low, high) in bounds.items():
        assert low <= values[labels.index(name)] <= high


def table(**columns) -> Variables:
    return Variables.read(pd.DataFrame(columns))


def test_closed_form_of_both_scales():
    labels = table(angle=[10.0, -15.0, 35.0, 10.0], place=[0.5, 0.25, 1.0, 1.25])
    code = FactorCode.of(labels, {"angle": ANGLE})
    logits = np.log(np.array([0.5, 0.25, 0.75, 0.5]) / np.array([0.5, 0.75, 0.25, 0.5]))
    place = labels.column("place")
    wanted = np.stack([(logits - logits.mean()) / logits.std(), (place - place.mean()) / place.std()], 1)
    np.testing.assert_allclose(code.scaled(labels.values), wanted, rtol=1e-12, atol=1e-12)


def test_categories_are_one_hot_beside_the_numbers():
    labels = table(angle=[1.0, 3.0, 1.0, 3.0], shape=["round", "square", "long", "long"])
    code = FactorCode.of(labels, {})
    assert code.levels == {"shape": ("long", "round", "square")}
    assert code.size == 4
    told = code.told(torch.from_numpy(code.scaled(labels.values)))
    assert told.tolist() == [[-1, 0, 1, 0], [1, 0, 0, 1], [-1, 1, 0, 0], [1, 1, 0, 0]]


def test_a_missing_label_stays_missing():
    code = FactorCode.of(table(angle=[1.0, 3.0], place=[0.5, 1.0]), {"place": PLACE})
    scaled = code.scaled(np.array([[np.nan, np.nan], [2.0, 0.75]]))
    assert np.isnan(scaled[0]).all()
    assert np.isfinite(scaled[1]).all()


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({"size": (0, 1)}, "bounds are given for 'size', which is no factor"),
        ({"shape": (0, 1)}, "bounds are given for 'shape', which is a category"),
        ({"angle": (2, 2)}, r"bounds of 'angle' are \(2, 2\): give \(low, high\)"),
        ({"angle": (5, 0)}, r"bounds of 'angle' are \(5, 0\)"),
        ({"angle": (1, 5)}, r"labels of 'angle' run from 1 to 3, not strictly inside its bounds \(1, 5\): widen"),
        ({"angle": (0, 2.5)}, "labels of 'angle' run from 1 to 3"),
    ],
)
def test_bounds_that_cant_be_are_refused(bounds, message):
    with pytest.raises(ValueError, match=message):
        FactorCode.of(table(angle=[1.0, 3.0], shape=["a", "b"]), bounds)
