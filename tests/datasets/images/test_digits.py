"""Digits of scikit-learn: ink and intensity are exact."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from latentcause.datasets import digits
from latentcause.datasets.images.digits import measure_digits, render_digits


def test_measured_factors_are_the_labels_of_all_digits() -> None:
    data = digits(seed=0)
    assert len(data) == 1797
    np.testing.assert_allclose(data.measure(data.images.pixels), data.images.labels, rtol=1e-5)
    assert data.images.labels["ink"].between(12, 28).all()
    assert data.images.labels.corr().iloc[0, 1] > 0.9
    assert len(np.unique(data.base, axis=0)) > 1790  # a few pictures of the set are equal


def test_ink_of_10_and_40_suits_every_digit() -> None:
    data = digits(seed=0)
    for ink in (10.0, 40.0):
        seen = data.measure(data.counterfactual(slice(None), {"ink": ink}))
        np.testing.assert_allclose(seen["ink"], ink, rtol=1e-5)


def test_impossible_factors_are_refused() -> None:
    base = digits(2, seed=0).base
    with pytest.raises(ValueError, match=r"ink=64.5 \(row 1\) is out of reach"):
        render_digits(base, pd.DataFrame({"ink": [20.0, 64.5], "intensity": [100.0, 100.0]}))
    with pytest.raises(ValueError, match="intensity must be"):
        render_digits(base, pd.DataFrame({"ink": [20.0, 20.0], "intensity": [100.0, 300.0]}))
    with pytest.raises(ValueError, match="there are 1 to 1797"):
        digits(2000, seed=0)


def test_a_black_image_has_no_ink() -> None:
    assert measure_digits(np.zeros((1, 8, 8))).to_numpy().tolist() == [[0.0, 0.0]]
