"""Grid: where the pixels of a field, or the cells of a raster, lie."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

SNAP = 1e-3
"""Share of a pixel within which two edges count as one: coordinates in files are rounded."""


@dataclass(frozen=True, eq=False)
class Grid:
    """Cells along one or more axes, each from one edge to the next, in the units of a coordinate system.

    Parameters
    ----------
    edges : sequence of arrays
        For each axis its n + 1 edges, strictly rising or strictly falling (the rows of a map fall from north to south).
    dims : tuple of str, optional
        Names of the axes: x; or y, x; or axis0, axis1, ... where there is none.
    crs : str, optional
        Coordinate system, as ``"EPSG:4326"`` or WKT.

    Raises
    ------
    ValueError
        For edges that are not finite or not monotone, an axis without a cell, or as many names as there are axes not.
    """

    edges: tuple[np.ndarray, ...]
    dims: tuple[str, ...] = ()
    crs: str | None = None

    def __post_init__(self) -> None:
        edges = tuple(np.asarray(axis, dtype=np.float64).copy() for axis in self.edges)
        dims = tuple(self.dims) or _usual_names(len(edges))
        if not edges or len(dims) != len(edges) or len(set(dims)) < len(dims):
            raise ValueError(
                f"a grid of {len(edges)} axes with names {dims}: give at least one axis, and a name for each"
            )
        for name, axis in zip(dims, edges, strict=True):
            steps = np.diff(axis)
            if axis.ndim != 1 or len(axis) < 2 or not np.isfinite(axis).all():
                raise ValueError(f"axis {name!r} of a grid needs at least two edges, all finite")
            if not ((steps > 0).all() or (steps < 0).all()):
                raise ValueError(f"the edges along axis {name!r} of a grid neither rise nor fall throughout")
            axis.flags.writeable = False
        object.__setattr__(self, "edges", edges)
        object.__setattr__(self, "dims", dims)

    @classmethod
    def of_shape(cls, shape: Iterable[int]) -> Self:
        """Pixels of size 1, the first from 0 to 1."""
        return cls(tuple(np.arange(n + 1.0) for n in shape))

    @classmethod
    def from_centres(cls, centres: Mapping[Any, Any], crs: str | None = None) -> Self:
        """From ``{axis name: centres}`` in the order of the axes; edges lie midway between them.

        Raises
        ------
        ValueError
            For an axis of one cell, whose size centres do not tell, and for what the class refuses.
        """
        edges = []
        for name, values in centres.items():
            axis = np.asarray(values, dtype=np.float64)
            if axis.ndim != 1 or len(axis) < 2:
                raise ValueError(
                    f"axis {name!r} has {axis.size} centre: at least two tell the size of a cell; give edges"
                )
            middle = (axis[1:] + axis[:-1]) / 2
            edges.append(np.concatenate([[2 * axis[0] - middle[0]], middle, [2 * axis[-1] - middle[-1]]]))
        return cls(tuple(edges), tuple(str(name) for name in centres), crs)

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of cells along each axis."""
        return tuple(len(axis) - 1 for axis in self.edges)

    @property
    def centres(self) -> dict[str, np.ndarray]:
        """{axis name: centres of the cells}."""
        return {name: (axis[1:] + axis[:-1]) / 2 for name, axis in zip(self.dims, self.edges, strict=True)}

    @property
    def cell_size(self) -> float:
        """Mean size (length, area, ...) of a cell, in the units of the coordinates."""
        return math.prod(abs(axis[-1] - axis[0]) / (len(axis) - 1) for axis in self.edges)

    def edges_in_pixels(self, other: Grid) -> tuple[np.ndarray, ...]:
        """The edges of ``other`` in units of this grid's pixels, pixel i from i to i + 1; beyond it by its last pixel's size.

        Raises
        ------
        ValueError
            Where the grids have other axes or coordinate systems.
        """
        if len(other.edges) != len(self.edges):
            raise ValueError(f"a grid of {len(other.edges)} axes on one of {len(self.edges)}: they need the same axes")
        if not same_crs(self.crs, other.crs):
            raise ValueError(
                f"incompatible coordinate systems: {_name(other.crs)} on {_name(self.crs)}; bring the raster to the system "
                "of the field, or the field to that of the raster"
            )
        return tuple(_in_pixels(own, axis) for own, axis in zip(self.edges, other.edges, strict=True))

    def in_pixels(self, points: Any) -> np.ndarray:
        """Points (k, axes), as `edges_in_pixels` gives edges."""
        at = np.asarray(points, dtype=np.float64)
        return np.stack([_in_pixels(own, at[:, number]) for number, own in enumerate(self.edges)], axis=1)

    def covers(self, other: Grid) -> np.ndarray:
        """Boolean, of the shape of ``other``: which of its cells lie within this grid as a whole.

        Raises
        ------
        ValueError
            As ``edges_in_pixels``.
        """
        inside = np.ones(other.shape, dtype=bool)
        for number, (axis, n) in enumerate(zip(self.edges_in_pixels(other), self.shape, strict=True)):
            good = (axis >= 0) & (axis <= n)
            shape = [1] * inside.ndim
            shape[number] = -1
            inside &= (good[1:] & good[:-1]).reshape(shape)
        return inside


def same_crs(first: str | None, second: str | None) -> bool:
    """Whether two names or descriptions mean the same coordinate system; none is the same as none only."""
    if first == second:
        return True
    if first is None or second is None:
        return False
    try:
        from rasterio.crs import CRS
    except ImportError:
        raise ImportError('comparing coordinate systems needs rasterio: pip install "latentcause[geo]"') from None
    return bool(CRS.from_user_input(first) == CRS.from_user_input(second))


def _in_pixels(own: np.ndarray, values: np.ndarray) -> np.ndarray:
    rising = own if own[-1] > own[0] else -own
    values = values if own[-1] > own[0] else -values
    pixels = np.interp(values, rising, np.arange(len(rising), dtype=np.float64))
    before, after = values < rising[0], values > rising[-1]
    pixels[before] = (values[before] - rising[0]) / (rising[1] - rising[0])
    pixels[after] = len(rising) - 1 + (values[after] - rising[-1]) / (rising[-1] - rising[-2])
    whole = np.round(pixels)
    return np.where(np.abs(pixels - whole) <= SNAP, whole, pixels)


def _usual_names(axes: int) -> tuple[str, ...]:
    return {1: ("x",), 2: ("y", "x")}.get(axes) or tuple(f"axis{i}" for i in range(axes))


def _name(crs: str | None) -> str:
    return "none" if crs is None else crs if len(crs) < 40 else f"{crs[:36]}..."
