"""Simulated wildfires: terrain, fuel and weather, a front that spreads through them, and what a sensor sees of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import torch

from latentcause.datasets.wildfires.sensor import FOOTPRINT, FireSensor
from latentcause.datasets.wildfires.series import CHANNELS, PIXEL, FireSeries
from latentcause.datasets.wildfires.spread import BARREN, SpreadModel, ignitions
from latentcause.fields import Matern

LEAST_SIDE = 16
FOREST, SHRUB, GRASS = 1.0, 7.0, 10.0
"""Classes of land cover (IGBP)."""


@dataclass(frozen=True, eq=False)
class SimulatedFire:
    """A fire as a sensor sees it, and the truth beside.

    Attributes
    ----------
    series : FireSeries
        As a file holds it.
    front : bool ndarray (days, h, w)
        What burns on each day.
    cloud : bool ndarray (days, h, w)
        Where the sensor sees nothing. Clouds are bright in the three VIIRS bands.
    footprints : tuple of int
        Pixels along a side of the sensor's footprint on each day.
    spread : SpreadModel
    sensor : FireSensor
    """

    series: FireSeries
    front: np.ndarray
    cloud: np.ndarray
    footprints: tuple[int, ...]
    spread: SpreadModel
    sensor: FireSensor

    @property
    def reached(self) -> np.ndarray:
        """What has burned up to each day, bool (days, h, w)."""
        return np.logical_or.accumulate(self.front, axis=0)

    def tomorrow(self) -> np.ndarray:
        """P(burns on the next day) given the true fronts up to each day but the last, (days - 1, h, w)."""
        state = zip(self.front, self.reached, self.series.values[:-1], strict=False)
        return np.concatenate(
            [self.spread.next_day(front[None], reached[None], maps) for front, reached, maps in state]
        )


def simulate_wildfires(
    n_fires: int,
    shape: tuple[int, int] = (64, 64),
    days: int = 12,
    *,
    seed: int,
    spread: SpreadModel | None = None,
    sensor: FireSensor | None = None,
) -> list[SimulatedFire]:
    """Independent fires, in maps of 375 m pixels whose channels are those of WildfireSpreadTS.

    Causes come first. Elevation is a Matern field (length 12 pixels, standard deviation 300 m), and slope and aspect are its
    derivatives. Fuel is a Matern field g (length 6) seen in the NDVI = 4500 + 1800 g and the land cover: forest above 0.6, shrub,
    grass below -0.5, barren ground below -1.3. The drought of a fire is one number (pdsi ~ N(-1.5, 1.5^2), with a smooth field of
    standard deviation 0.3). Wind is a vector for the fire (3 m/s, any direction), one for each day (autoregression of 0.7, standard
    deviation 2 m/s) and a smooth field (0.5 m/s). Temperature, humidity and rain (8 % of days) vary from day to day; the energy
    release component rises with drought and temperature. Forecasts are the next day's weather with errors.

    The fire begins as a disc (`ignitions`) and spreads by the `SpreadModel`; what is reported is what the `FireSensor` sees.

    Parameters
    ----------
    n_fires : int
    shape : tuple of int
        Even, 16 or more.
    days : int
        2 or more.
    seed : int
    spread, sensor : optional

    Returns
    -------
    list of SimulatedFire

    Raises
    ------
    ValueError
        For no fires, fewer days or another shape.
    """
    if n_fires < 1 or days < 2:
        raise ValueError(f"{n_fires} fires of {days} days: give 1 fire or more, and 2 days or more")
    if len(shape) != 2 or any(n < LEAST_SIDE or n % FOOTPRINT for n in shape):
        raise ValueError(f"shape={shape}: give two even numbers of {LEAST_SIDE} pixels or more")
    spread, sensor = spread or SpreadModel(), sensor or FireSensor()
    starts = ignitions(shape)
    return [
        _simulated(f"simulated_{seed}_{k}", shape, days, np.random.default_rng([seed, k]), starts, spread, sensor)
        for k in range(n_fires)
    ]


def _simulated(
    name: str,
    shape: tuple[int, int],
    days: int,
    rng: np.random.Generator,
    starts: np.ndarray,
    spread: SpreadModel,
    sensor: FireSensor,
) -> SimulatedFire:
    values = _maps(shape, days, rng)
    front = np.zeros((days, *shape), dtype=bool)
    front[0] = reached = starts[rng.integers(len(starts))]
    for day in range(1, days):
        p = spread.next_day(front[day - 1][None], reached[None], values[day - 1])[0]
        front[day] = rng.random(shape) < p
        reached = reached | front[day]
    footprints = tuple(np.where(rng.random(days) < sensor.far_share, FOOTPRINT, 1).tolist())
    cloud = np.stack([_cloud(shape, size, sensor.cloud_share, rng) for size in footprints])
    _add_reflectances(values, cloud, reached_before=np.logical_or.accumulate(front, axis=0), rng=rng)
    hours = np.where(rng.random(days) < 0.5, 10.0, 20.0)  # of the two overpasses, UTC
    for day in range(days):
        mask = sensor.detect(front[day], cloud[day], footprints[day], rng)
        values[day, -1] = mask * hours[day]
    first = date(2020, 6, 1) + timedelta(days=int(rng.integers(120)))
    dates = tuple(first + timedelta(days=day) for day in range(days))
    lnglat = (float(rng.uniform(-122, -106)), float(rng.uniform(34, 48)))
    series = FireSeries(2020, name, dates, lnglat, values)
    return SimulatedFire(series, front, cloud, footprints, spread, sensor)


def _maps(shape: tuple[int, int], days: int, rng: np.random.Generator) -> np.ndarray:
    """All channels (days, 23, h, w) but the reflectances and the fire."""
    values = np.zeros((days, len(CHANNELS), *shape), dtype=np.float32)

    def put(name: str, maps: np.ndarray) -> None:
        maps = np.asarray(maps)
        values[:, CHANNELS.index(name)] = maps[:, None, None] if maps.ndim == 1 else maps

    elevation = 1000 + 300 * _field(shape, 12.0, rng, smoothness=2.5)
    south, east = np.gradient(elevation, PIXEL)
    put("elevation", elevation)
    put("slope", np.rad2deg(np.arctan(np.hypot(south, east))))
    put("aspect", np.rad2deg(np.arctan2(-east, south)) % 360)  # the way down, clockwise from north
    fuel = _field(shape, 6.0, rng)
    put("NDVI", 4500 + 1800 * fuel)
    put("EVI2", 2400 + 1000 * fuel + 200 * rng.standard_normal(shape))
    put("land cover", np.select([fuel > 0.6, fuel > -0.5, fuel > -1.3], [FOREST, SHRUB, GRASS], BARREN))
    drought = rng.normal(-1.5, 1.5)
    put("pdsi", drought + 0.3 * _field(shape, 30.0, rng))

    heat, damp, supply = (_autoregression(days + 1, rng) for _ in range(3))
    rain = np.where(rng.random(days + 1) < 0.08, rng.exponential(4.0, days + 1), 0.0)
    warmest, humidity = 303 + 4 * heat, np.maximum(0.006 + 0.002 * damp, 0.001)
    put("total precipitation", rain[:-1])
    put("maximum temperature", warmest[:-1])
    put("minimum temperature", warmest[:-1] - 15)
    put("specific humidity", humidity[:-1])
    put("energy release component", np.clip(55 - 5 * drought + 6 * (heat + supply - damp)[:-1], 5, 120))
    put("forecast total precipitation", np.maximum(rain[1:] + rng.normal(0, 0.5, days), 0))
    put("forecast temperature", warmest[1:] - 281 + rng.normal(0, 1.5, days))  # of the whole day, in degrees Celsius
    put("forecast specific humidity", humidity[1:] + rng.normal(0, 5e-4, days))

    angle = rng.uniform(0, 2 * np.pi)
    mean = 3 * np.array([np.cos(angle), np.sin(angle)])
    daily = mean[:, None] + 2 * np.stack([_autoregression(days + 1, rng) for _ in range(2)])
    local = np.stack([0.5 * _field(shape, 20.0, rng) for _ in range(2)])
    wind = daily[:, :-1, None, None] + local[:, None]
    forecast = daily[:, 1:] + rng.normal(0, 1.0, (2, days))
    for prefix, (towards_east, towards_north) in (("", wind), ("forecast ", forecast)):
        put(f"{prefix}wind speed", np.hypot(towards_east, towards_north))
        put(f"{prefix}wind direction", np.rad2deg(np.arctan2(-towards_east, -towards_north)) % 360)
    return values


def _add_reflectances(
    values: np.ndarray, cloud: np.ndarray, reached_before: np.ndarray, rng: np.random.Generator
) -> None:
    """The three bands, in ten-thousandths: vegetation is dark in I1, burned ground in I2, clouds are bright in all."""
    fuel = (values[:, CHANNELS.index("NDVI")] - 4500) / 1800
    scars = np.concatenate([np.zeros_like(reached_before[:1]), reached_before[:-1]])
    clear = {
        "VIIRS band I1": 1000 - 250 * fuel,
        "VIIRS band I2": 2400 + 500 * fuel - 1000 * scars,
        "VIIRS band M11": 1600 - 300 * fuel + 600 * scars,
    }
    for name, maps in clear.items():
        seen = np.where(cloud, 6000.0, maps) + 150 * rng.standard_normal(maps.shape)
        values[:, CHANNELS.index(name)] = np.maximum(seen, 0)


def _cloud(shape: tuple[int, int], footprint: int, share: float, rng: np.random.Generator) -> np.ndarray:
    """Where a footprint sees nothing because a cloud covers one of its pixels; bool (h, w)."""
    field = _field(shape, 8.0, rng)
    # A beta distribution whose mass is near 0, with some overcast days: of shape 0.5 and of that mean.
    covered = field < np.quantile(field, rng.beta(0.5, 0.5 * (1 - share) / share))
    cut = covered.reshape(shape[0] // footprint, footprint, shape[1] // footprint, footprint).any((1, 3))
    return cut.repeat(footprint, 0).repeat(footprint, 1)


def _field(shape: tuple[int, int], length: float, rng: np.random.Generator, smoothness: float = 1.5) -> np.ndarray:
    """A Matern field of variance 1."""
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    return Matern(length, 1.0, smoothness).sample(1, shape, generator)[0].numpy()


def _autoregression(days: int, rng: np.random.Generator, memory: float = 0.7) -> np.ndarray:
    """A stationary series (days,) of variance 1."""
    noise = rng.standard_normal(days)
    series = np.empty(days)
    series[0] = noise[0]
    for day in range(1, days):
        series[day] = memory * series[day - 1] + np.sqrt(1 - memory**2) * noise[day]
    return series
