"""Pictures of counterfactual images show the images, the signed change, and the factors that they are given."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from latentcause.image_plots import counterfactuals, image_rows
from latentcause.plots import TARGETED


def frame(n: int, **columns: Any) -> pd.DataFrame:
    return pd.DataFrame({name: np.resize(np.asarray(values), n) for name, values in columns.items()})


def shown(figure: Any) -> list[np.ndarray]:
    return [np.asarray(image.get_array()) for image in figure.axes[0].images]


def texts(figure: Any) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def test_image_rows_show_the_first_eight_of_every_row() -> None:
    images = np.random.default_rng(0).random((10, 1, 4, 6))
    figure = image_rows({"before": images, "after": 1 - images})
    assert texts(figure) == ["before", "after"]
    drawn = shown(figure)
    assert len(drawn) == 16
    np.testing.assert_array_equal(drawn[1], images[1, 0])
    np.testing.assert_array_equal(drawn[8], 1 - images[0, 0])
    left, right, bottom, top = figure.axes[0].images[0].get_extent()
    assert (right - left) / (bottom - top) == pytest.approx(6 / 4)
    with pytest.raises(ValueError, match="rows of images of one shape"):
        image_rows({"before": images, "after": images[:3]})
    with pytest.raises(ValueError, match="rows of images of one shape"):
        image_rows({})


def test_counterfactuals_show_before_after_and_the_signed_change() -> None:
    before, after = np.zeros((2, 1, 3, 3)), np.zeros((2, 1, 3, 3))
    after[0, 0, 1, 1], before[1, 0, 0, 0] = 0.5, 0.25
    factors, changed = frame(2, t=[1.234, 2.0], i=[100.0, 110.0]), frame(2, t=4.0, i=[100.0, 190.4])
    figure = counterfactuals(before, after, factors, changed, acted=["t"], title="do(t = 4)")
    drawn = shown(figure)
    np.testing.assert_array_equal(drawn[1], after[0, 0])
    np.testing.assert_array_equal(drawn[5], after[1, 0] - before[1, 0])
    assert figure.axes[0].images[2].get_clim() == (-0.5, 0.5)  # one scale for all
    found = texts(figure)
    assert {"factual", "counterfactual", "difference", "t", "i", "do(t = 4)"} < set(found)
    assert found.count("1.23 → 4.00") == found.count("2.00 → 4.00") == 1
    assert "100" in found  # what does not change stands there once
    assert "110 → 190" in found
    colours = {text.get_text(): to_hex(text.get_color()) for text in figure.axes[0].texts}
    assert colours["1.23 → 4.00"] == TARGETED
    assert TARGETED not in (colours["100"], colours["110 → 190"])
    figure.canvas.draw()


def test_a_change_of_hue_shows_though_the_brightness_stays() -> None:
    red, green = np.zeros((1, 3, 2, 2)), np.zeros((1, 3, 2, 2))
    red[:, 0], green[:, 1] = 0.6, 0.8
    figure = counterfactuals(red, green, frame(1, hue="red"), frame(1, hue="green"))
    drawn = shown(figure)
    assert drawn[0].shape == (2, 2, 3)
    np.testing.assert_allclose(drawn[2], 0.8)
    assert "red → green" in texts(figure)


def test_more_than_eight_images_go_on_below() -> None:
    images = np.random.default_rng(1).random((11, 1, 4, 4))
    table = frame(11, t=np.arange(11.0))
    figure = counterfactuals(images, images, table, table)
    assert len(shown(figure)) == 33
    tops = [image.get_extent()[3] for image in figure.axes[0].images]
    assert max(tops[:24]) < min(tops[24:])
    assert texts(figure).count("difference") == 2
    assert figure.axes[0].images[2].get_clim() == (-1, 1)  # nothing changed: the scale is that of all there is


def test_measured_factors_stand_below_their_own_and_others_last() -> None:
    images = np.random.default_rng(2).random((1, 1, 4, 4))
    measured = frame(1, t=2.0, angle=0.5), frame(1, t=3.5, angle=0.75)
    figure = counterfactuals(images, 1 - images, frame(1, t=2.1, i=7), frame(1, t=4.0, i=7), ["t"], measured)
    lines = {text.get_text(): text.get_position()[1] for text in figure.axes[0].texts}
    names = ["t", "measured", "i", "measured angle"]
    assert sorted(names, key=lines.__getitem__) == names
    assert lines["2.00 → 3.50"] == lines["measured"]
    assert lines["0.500 → 0.750"] == lines["measured angle"]


def test_tables_of_another_length_are_refused() -> None:
    images = np.zeros((3, 1, 2, 2))
    with pytest.raises(ValueError, match="give the same number of each"):
        counterfactuals(images, images, frame(2, t=1.0), frame(3, t=1.0))
