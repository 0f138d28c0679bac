"""Daily maps of a wildfire in the HDF5 layout of WildfireSpreadTS."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from latentcause.data.labels import listing
from latentcause.writing import write_atomically

CHANNELS = (
    "VIIRS band M11",
    "VIIRS band I2",
    "VIIRS band I1",
    "NDVI",
    "EVI2",
    "total precipitation",
    "wind speed",
    "wind direction",
    "minimum temperature",
    "maximum temperature",
    "energy release component",
    "specific humidity",
    "slope",
    "aspect",
    "elevation",
    "pdsi",
    "land cover",
    "forecast total precipitation",
    "forecast wind speed",
    "forecast wind direction",
    "forecast temperature",
    "forecast specific humidity",
    "active fire",
)
"""Of every day, in the order of the files. Wind directions are those the wind comes from, in degrees clockwise from north."""

PIXEL = 375.0
"""Metres along one side of a pixel."""

ATTRIBUTES = ("year", "fire_name", "img_dates", "lnglat")


@dataclass(frozen=True, eq=False)
class FireSeries:
    """Daily maps of one fire.

    Attributes
    ----------
    year : int
    name : str
        Of the fire; also of its file.
    dates : tuple of date
        Of the days, rising.
    lnglat : tuple of float
        Longitude and latitude of the centre, degrees.
    values : float32 ndarray (days, 23, h, w)
        The ``CHANNELS``, in the units of the data set. NaN where nothing was measured. Active fire is the hour of its last
        detection on that day (UTC), or 0.
    """

    year: int
    name: str
    dates: tuple[date, ...]
    lnglat: tuple[float, float]
    values: np.ndarray

    @property
    def masks(self) -> np.ndarray:
        """Where a fire was detected, bool (days, h, w)."""
        return self.channel("active fire") > 0

    def channel(self, name: str) -> np.ndarray:
        """One channel (days, h, w)."""
        return self.values[:, CHANNELS.index(name)]

    def samples(self, days: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Features of ``days`` consecutive days, and the mask of the day after them.

        Returns
        -------
        features : ndarray (n, days, 23, h, w)
            A view; n is the number of days less ``days``.
        masks : ndarray of bool (n, h, w)

        Raises
        ------
        ValueError
            For less than one day, and for a series that has no day after so many.
        """
        if not 1 <= days < len(self.dates):
            raise ValueError(
                f"{days} days of features from fire {self.name!r} of {len(self.dates)} days: give 1 to one less"
            )
        windows = np.lib.stride_tricks.sliding_window_view(self.values[:-1], days, axis=0)
        return np.moveaxis(windows, -1, 1), self.masks[days:]

    def __repr__(self) -> str:
        height, width = self.values.shape[2:]
        return f"FireSeries({self.name!r}, {len(self.dates)} days from {self.dates[0]}, {height} x {width} pixels)"


def read_fire(path: str | Path) -> FireSeries:
    """Read one fire: ``data`` (days, 23, h, w) with the attributes year, fire_name, img_dates and lnglat.

    S. Gerard, Y. Zhao and J. Sullivan, WildfireSpreadTS: a dataset of multi-modal time series for wildfire spread prediction
    (NeurIPS 2023, data sets and benchmarks); the files are those that its script ``CreateHDF5Dataset.py`` makes.

    Raises
    ------
    FileNotFoundError
        Where there is no such file.
    ValueError
        For a file that is truncated or no HDF5, lacks the data or an attribute, or holds another number of channels, dates
        or coordinates; the message names the file.
    ImportError
        Without the extra ``geo``.
    """
    path = Path(path)
    with _opened(path) as file:
        if "data" not in file:
            raise ValueError(f"{path.name} has no dataset 'data' (it has: {listing(list(file)) or 'none'})")
        data = file["data"]
        missing = [name for name in ATTRIBUTES if name not in data.attrs]
        if missing:
            raise ValueError(f"the data of {path.name} lack the attributes {listing(missing)}")
        if data.ndim != 4 or data.shape[1] != len(CHANNELS):
            raise ValueError(
                f"the data of {path.name} have the shape {data.shape}: expected (days, {len(CHANNELS)} channels, height, width)"
            )
        dates = _dates(path.name, data.attrs["img_dates"], len(data))
        lnglat = np.asarray(data.attrs["lnglat"], dtype=np.float64).ravel()
        if len(lnglat) != 2:
            raise ValueError(f"the lnglat of {path.name} is {lnglat}: expected longitude and latitude")
        values = data[...].astype(np.float32)
        year, name = int(data.attrs["year"]), _text(data.attrs["fire_name"])
    fire = values[:, -1]
    fire[np.isnan(fire)] = 0.0  # in the maps that the files are made from, NaN is no detection
    if (fire < 0).any():
        raise ValueError(f"the active fire of {path.name} has {(fire < 0).sum()} negative hours")
    return FireSeries(year, name, dates, (float(lnglat[0]), float(lnglat[1])), values)


def read_fires(folder: str | Path, years: Sequence[int] | None = None) -> list[FireSeries]:
    """Read all fires ``YEAR/NAME.hdf5`` of a folder, in the order of years and names; their sizes and days may differ.

    Raises
    ------
    FileNotFoundError
        Where the folder holds no fire, or none of one of the years.
    ValueError, ImportError
        As `read_fire`.
    """
    folder = Path(folder)
    found: list[Path] = []
    for year in ["*"] if years is None else [str(year) for year in years]:
        files = sorted(folder.glob(f"{year}/*.hdf5"))
        if not files:
            raise FileNotFoundError(f"there are no files {year}/NAME.hdf5 in {folder}")
        found += files
    return [read_fire(path) for path in found]


def write_fire(folder: str | Path, fire: FireSeries) -> Path:
    """Write a fire as ``YEAR/NAME.hdf5`` of a folder, which is made where it is missing. The file appears once complete.

    Raises
    ------
    ImportError
        Without the extra ``geo``.
    """
    h5py = _h5py()
    home = Path(folder) / str(fire.year)
    home.mkdir(parents=True, exist_ok=True)
    path = home / f"{fire.name}.hdf5"
    with write_atomically(path) as temporary, h5py.File(temporary, "w") as file:
        data = file.create_dataset("data", data=fire.values.astype(np.float32), compression="gzip", shuffle=True)
        data.attrs["year"] = fire.year
        data.attrs["fire_name"] = fire.name
        data.attrs["img_dates"] = [day.isoformat() for day in fire.dates]
        data.attrs["lnglat"] = fire.lnglat
    return path


# --- inside ----------------------------------------------------------------------------------------------------------


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The file; what h5py finds wrong with it, when opened or read, becomes a ValueError."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    h5py = _h5py()
    try:
        with h5py.File(path, "r") as file:
            yield file
    except OSError as error:
        raise ValueError(f"{path.name} can't be read as HDF5, or is cut short: {error}") from None


def _dates(name: str, texts: Any, days: int) -> tuple[date, ...]:
    listed = [_text(text).removesuffix(".tif") for text in texts]
    if len(listed) != days:
        raise ValueError(f"{name} has {len(listed)} dates for {days} days")
    try:
        dates = tuple(date.fromisoformat(text) for text in listed)
    except ValueError:
        raise ValueError(f"the dates of {name} are not all of the form 2020-08-31 (first: {listed[0]!r})") from None
    if any(later <= earlier for earlier, later in pairwise(dates)):
        raise ValueError(f"the dates of {name} do not rise")
    return dates


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _h5py() -> Any:
    try:
        return import_module("h5py")
    except ImportError:
        raise ImportError('files of wildfires need h5py: pip install "latentcause[geo]"') from None
