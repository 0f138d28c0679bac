"""Grid: edges, centres and positions in another grid's pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentcause.observation import Grid


def test_centres_and_edges() -> None:
    grid = Grid.from_centres({"lat": [40.5, 40.3, 40.1], "lon": [1.0, 2.0, 4.0]}, "EPSG:4326")
    assert grid.shape == (3, 3)
    np.testing.assert_allclose(grid.edges[0], [40.6, 40.4, 40.2, 40.0])
    np.testing.assert_allclose(grid.edges[1], [0.5, 1.5, 3.0, 5.0])
    np.testing.assert_allclose(grid.centres["lat"], [40.5, 40.3, 40.1])
    assert grid.cell_size == pytest.approx(0.2 * 1.5)
    assert Grid.of_shape((2, 3)).dims == ("y", "x")
    assert Grid.of_shape((2, 3, 4)).dims == ("axis0", "axis1", "axis2")
    with pytest.raises(ValueError, match="read-only"):
        grid.edges[0][0] = 1


@given(st.integers(1, 6), st.floats(-100, 100), st.floats(0.01, 10), st.booleans(), st.booleans())
def test_positions_in_pixels(n: int, start: float, step: float, falling: bool, other_falls: bool) -> None:
    axis = start + step * np.arange(n + 1.0) * (-1 if falling else 1)
    own = Grid((axis,))
    at = np.array([-1.5, 0.25, 0.25 + n / 2, n + 2.5])
    there = start + step * at * (-1 if falling else 1)
    (pixels,) = own.edges_in_pixels(Grid((there[::-1] if other_falls else there,)))
    np.testing.assert_allclose(pixels[::-1] if other_falls else pixels, at, atol=1e-8)
    np.testing.assert_array_equal(own.covers(own), np.ones(n, dtype=bool))


def test_edges_that_rounding_moved_are_the_same() -> None:
    exact, rounded = np.linspace(140, 141, 3601), np.round(np.linspace(140, 141, 3601), 8)
    (pixels,) = Grid((exact,)).edges_in_pixels(Grid((rounded,)))
    np.testing.assert_array_equal(pixels, np.arange(3601))


def test_covers_says_which_cells_lie_within() -> None:
    field, cells = Grid.of_shape((4, 4)), Grid(([-1.0, 1.0, 3.0, 5.0], [0.0, 2.0, 4.0]))
    assert field.covers(cells).tolist() == [[False, False], [True, True], [False, False]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((), ()), "at least one axis"),
        ((([0.0, 1.0],), ("y", "x")), "a name for each"),
        ((([0.0],),), "at least two edges"),
        ((([0.0, np.nan],),), "all finite"),
        ((([0.0, 1.0, 1.0],),), "neither rise nor fall"),
    ],
)
def test_bad_edges_are_refused(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Grid(*arguments)


def test_one_centre_does_not_tell_a_cell() -> None:
    with pytest.raises(ValueError, match="at least two tell the size"):
        Grid.from_centres({"x": [1.0]})
