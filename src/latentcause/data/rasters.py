"""Rasters: maps in files, each on its own grid; GeoTIFF and NetCDF with coordinate systems."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from latentcause.observation.builders import between
from latentcause.observation.grids import Grid, same_crs
from latentcause.observation.likelihoods import GaussianError, Likelihood
from latentcause.observation.observation import Observation
from latentcause.observation.operators import Operator
from latentcause.writing import write_atomically

if TYPE_CHECKING:
    import xarray as xr

NETCDF = (".nc", ".nc4", ".cdf", ".netcdf")
Outside = Literal["refuse", "drop"]


@dataclass(frozen=True, eq=False)
class Raster:
    """One map of one field, on a grid of its own.

    Parameters
    ----------
    source : path or xarray.DataArray
        A GeoTIFF (or what else GDAL reads), a NetCDF file, or an array with a coordinate along each of its dimensions: the
        centres of the cells.
    noise : Likelihood or float
        p(value | mean of the field over the cell); a number is the standard deviation of a `GaussianError`.
    band : int or str, optional
        Number of the band of a GeoTIFF, from 1, or name of the variable of a NetCDF file. Needed where there are several.
    operator : Operator, optional
        What happens to the field before its cells take means, such as a `gaussian_blur` of the field's grid.
    """

    source: str | Path | xr.DataArray
    noise: Likelihood | float
    band: int | str | None = None
    operator: Operator | None = None

    @property
    def name(self) -> str:
        """For messages: file and band."""
        name = Path(self.source).name if isinstance(self.source, (str, Path)) else str(self.source.name or "array")
        return name if self.band is None else f"{name}, band {self.band}"

    def read(self) -> tuple[np.ndarray, Grid]:
        """Values, float64 with NaN where there are none, and the grid of their cells.

        Raises
        ------
        FileNotFoundError, ValueError
            As `read_raster`.
        """
        if isinstance(self.source, (str, Path)):
            return read_raster(self.source, self.band)
        return _read_array(self.source)


def read_raster(path: str | Path, band: int | str | None = None) -> tuple[np.ndarray, Grid]:
    """One band (h, w) of a GeoTIFF, or one variable of a NetCDF file, as float64 with NaN for missing cells; and its grid.

    Missing is what the file's mask, no-data value or fill value says; its scale and offset are applied.

    Raises
    ------
    FileNotFoundError
        Where there is no such file.
    ValueError
        For a file that is no raster, a band that it lacks, several bands of which none is named, and a rotated grid.
    ImportError
        Without the extra ``geo``.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no raster {path}")
    if path.suffix.lower() in NETCDF:
        return _read_netcdf(path, band)
    rasterio = _geo("rasterio")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)  # the grid then counts pixels
        try:
            file = rasterio.open(path)
        except rasterio.errors.RasterioIOError as error:
            raise ValueError(f"{path.name} can't be read as a raster: {error}") from None
        with file:
            number = _band_number(path, band, file.count)
            transform = file.transform
            if transform.b or transform.d:
                raise ValueError(
                    f"{path.name} has rows that do not run along its axes: warp it to a north-up grid first"
                )
            found = (
                file.read(number, masked=True).astype(np.float64) * file.scales[number - 1] + file.offsets[number - 1]
            )
            rows = transform.f + transform.e * np.arange(file.height + 1.0)
            columns = transform.c + transform.a * np.arange(file.width + 1.0)
            return found.filled(np.nan), Grid((rows, columns), ("y", "x"), _crs_name(file.crs))


def write_geotiff(path: str | Path, bands: Mapping[str, Any], grid: Grid) -> None:
    """Write maps (h, w) of one grid as the named bands of a GeoTIFF, float32 with NaN for missing cells.

    The file appears under its name once it is complete.

    Raises
    ------
    ValueError
        For maps of another shape, and a grid that is not one of equal cells along two axes.
    ImportError
        Without the extra ``geo``.
    """
    rasterio = _geo("rasterio")
    if len(grid.shape) != 2:
        raise ValueError(f"a GeoTIFF holds maps: a grid of {len(grid.shape)} axes goes to NetCDF")
    starts, steps = zip(
        *(start_and_step(name, axis) for name, axis in zip(grid.dims, grid.edges, strict=True)), strict=True
    )
    maps = {name: np.asarray(values, dtype=np.float32) for name, values in bands.items()}
    for name, values in maps.items():
        if values.shape != grid.shape:
            raise ValueError(f"map {name!r} has shape {values.shape}, its grid {grid.shape}")
    profile = {
        "driver": "GTiff",
        "height": grid.shape[0],
        "width": grid.shape[1],
        "count": len(maps),
        "dtype": "float32",
    }
    transform = rasterio.Affine(steps[1], 0.0, starts[1], 0.0, steps[0], starts[0])
    with (
        write_atomically(path) as temporary,
        rasterio.open(
            temporary, "w", **profile, crs=grid.crs, transform=transform, nodata=np.nan, compress="deflate", predictor=3
        ) as file,
    ):
        for number, (name, values) in enumerate(maps.items(), start=1):
            file.write(values, number)
            file.set_band_description(number, name)


def write_netcdf(path: str | Path, dataset: xr.Dataset, grid: Grid) -> None:
    """Write a dataset whose last dimensions are those of the grid as NetCDF, with the grid's coordinates and system.

    The file appears under its name once it is complete.

    Raises
    ------
    ValueError
        For a dataset that lacks a dimension of the grid or has another size along it.
    ImportError
        Without the extra ``geo``.
    """
    _geo("h5netcdf")
    for name, size in zip(grid.dims, grid.shape, strict=True):
        if dataset.sizes.get(name) != size:
            raise ValueError(f"the dataset has {dataset.sizes.get(name, 'no')} cells along {name!r}, its grid {size}")
    placed = dataset.assign_coords(grid.centres)
    if grid.crs is not None:
        _geo("rioxarray")
        placed = placed.rio.write_crs(grid.crs)
    with write_atomically(path) as temporary:
        placed.to_netcdf(temporary, engine="h5netcdf")


def observations_of(
    rasters: Mapping[str, Raster | Sequence[Raster]], grid: Grid | str | Path | None, outside: Outside
) -> tuple[Grid, dict[str, list[Observation]]]:
    """The field's grid, and the observations of each node: see `GriddedObservations.from_rasters`."""
    if outside not in ("refuse", "drop"):
        raise ValueError(f"outside={outside!r}: choose 'refuse' or 'drop'")
    listed = [
        (node, raster)
        for node, given in rasters.items()
        for raster in ([given] if isinstance(given, Raster) else given)
    ]
    if not listed:
        raise ValueError("there are no rasters: give at least one node a Raster")
    read = [(node, raster, *raster.read()) for node, raster in listed]
    if grid is None:
        named = {raster.name: own for _, raster, _, own in read}
        refuse_other_crs(named, *next(iter(named.items())))
        grid = min(named.values(), key=lambda own: own.cell_size)
    else:
        name = "the grid of the fields" if isinstance(grid, Grid) else Path(grid).name
        grid = grid if isinstance(grid, Grid) else grid_of(Path(grid))
        refuse_other_crs({raster.name: own for _, raster, _, own in read}, name, grid)
    found: dict[str, list[Observation]] = {}
    for node, raster, values, own in read:
        try:
            observation = observation_of(raster, values, own, grid, outside)
        except ValueError as error:
            raise ValueError(f"node {node!r}, {raster.name}: {error}") from None
        found.setdefault(node, []).append(observation)
    return grid, found


def observation_of(raster: Raster, values: np.ndarray, own: Grid, grid: Grid, outside: Outside) -> Observation:
    """What values on a raster's own grid say of a field on ``grid``: see `GriddedObservations.from_rasters`.

    Raises
    ------
    ValueError
        For a raster without values, and cells outside the field.
    """
    present, inside = ~np.isnan(values), grid.covers(own)
    if not present.any():
        raise ValueError(f"all {values.size} cells are missing: leave the raster out")
    lost = int((present & ~inside).sum())
    if lost == present.sum():
        raise ValueError("none of its cells lies within the field: is it a map of another place?")
    if lost and outside == "refuse":
        raise ValueError(
            f"{lost} of {present.sum()} cells lie outside the field, wholly or in part: crop the raster, enlarge the field, or "
            "leave them out with outside='drop'"
        )
    keep = present & inside
    noise = raster.noise if isinstance(raster.noise, Likelihood) else GaussianError(raster.noise)
    noise.check_size(values.size)
    operator: Operator = between(grid, own, keep)
    if raster.operator is not None:
        operator = operator @ raster.operator
    return Observation(values[keep], operator, noise.rows(keep.ravel()), raster.name)


def grid_of(path: Path) -> Grid:
    """The grid of a file of which the bands, or the one variable, do not matter."""
    return read_raster(path, None if path.suffix.lower() in NETCDF else 1)[1]


def refuse_other_crs(grids: Mapping[str, Grid], first: str, grid: Grid) -> None:
    """Refuse grids in another coordinate system than that of a grid named ``first``; the message names both."""
    for name, own in grids.items():
        if not same_crs(grid.crs, own.crs):
            raise ValueError(
                f"{name} ({own.crs or 'no coordinate system'}) and {first} ({grid.crs or 'no coordinate system'}) have "
                "incompatible coordinate systems: warp one of them to the system of the other, or add the one that is missing"
            )


def _read_netcdf(path: Path, band: int | str | None) -> tuple[np.ndarray, Grid]:
    _geo("h5netcdf")
    import xarray as xr

    with warnings.catch_warnings():  # xarray adds a filter of its own to those of the process
        try:
            dataset = xr.open_dataset(path, engine="h5netcdf", decode_coords="all")
        except OSError as error:
            raise ValueError(f"{path.name} can't be read as NetCDF 4: {error}") from None
    with dataset:
        names = [str(name) for name, variable in dataset.data_vars.items() if variable.ndim]
        if band is None and len(names) != 1:
            raise ValueError(f"{path.name} has the variables {', '.join(names) or 'none'}: name one of them as band")
        chosen = names[0] if band is None else band
        if chosen not in names:
            raise ValueError(f"{path.name} has no variable {chosen!r}: it has {', '.join(names) or 'none'}")
        try:
            return _read_array(dataset[chosen])
        except ValueError as error:
            raise ValueError(f"{path.name}: {error}") from None


def _read_array(array: xr.DataArray) -> tuple[np.ndarray, Grid]:
    flat = array.squeeze(drop=True) if 1 in array.shape else array
    missing = [str(dim) for dim in flat.dims if dim not in flat.coords]
    if missing or not flat.ndim:
        raise ValueError(
            f"dimension {', '.join(missing) or '(none)'} of the array has no coordinate: give the cells' centres"
        )
    mapping = str({**array.attrs, **array.encoding}.get("grid_mapping", "spatial_ref"))
    crs = array.coords[mapping].attrs.get("crs_wkt") if mapping in array.coords else None
    grid = Grid.from_centres({dim: flat.coords[dim].to_numpy() for dim in flat.dims}, _crs_name(crs))
    return flat.to_numpy().astype(np.float64), grid


def _band_number(path: Path, band: int | str | None, count: int) -> int:
    if band is None and count != 1:
        raise ValueError(f"{path.name} has {count} bands: name one of them as band")
    if isinstance(band, str) or not 1 <= (band or 1) <= count:
        raise ValueError(f"{path.name} has no band {band!r}: its bands are numbered 1 to {count}")
    return band or 1


def _crs_name(crs: Any) -> str | None:
    """``EPSG:...`` where there is a code, else WKT."""
    if not crs:
        return None
    found = _geo("rasterio").crs.CRS.from_user_input(crs)
    code = found.to_epsg()
    return f"EPSG:{code}" if code else str(found.to_wkt())


def start_and_step(name: str, edges: np.ndarray) -> tuple[float, float]:
    """Start and step of equally spaced edges, as a GeoTIFF needs them; refuses others, naming the axis."""
    steps = np.diff(edges)
    step = (edges[-1] - edges[0]) / len(steps)
    if not np.allclose(steps, step, rtol=1e-4):
        raise ValueError(f"the cells along {name!r} differ in size: a GeoTIFF needs equal ones; NetCDF does not")
    return float(edges[0]), float(step)


def _geo(module: str) -> Any:
    try:
        return import_module(module)
    except ImportError:
        raise ImportError(f'rasters need {module}: pip install "latentcause[geo]"') from None
