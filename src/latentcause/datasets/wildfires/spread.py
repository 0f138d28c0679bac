"""How a simulated fire spreads from one day to the next."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from latentcause.datasets.wildfires.series import CHANNELS, PIXEL

BARREN, UNBURNABLE = 16.0, -6.0
"""Class of land cover (IGBP) on which hardly anything burns, and what that adds to the potential."""


@dataclass(frozen=True, eq=False)
class Drive:
    """What one day's maps say of how fire spreads: three fields (..., h, w).

    Attributes
    ----------
    potential : ndarray
        Logarithm of the rate at which a pixel catches fire, apart from direction.
    east, north : ndarray
        The push of wind and slope: what a unit step in that direction adds to the logarithm.
    """

    potential: np.ndarray
    east: np.ndarray
    north: np.ndarray


@dataclass(frozen=True)
class SpreadModel:
    """A burning pixel j sets an unburnt pixel i on fire within a day at the rate r_ij; a burning pixel burns on with chance s.

    P(i burns tomorrow) = 1 - exp(-sum_j front_j r_ij) where i has not burned yet, s where it burns today, 0 where it burned
    before, independently for all i given today's state. With o the step from j to i, |o| <= radius,

        r_ij = rate w(o) exp(potential_i + push_i . o / |o|) + embers exp(potential_i),   w(o) ~ exp(-|o| / reach), sum 1,
        potential = (NDVI - 4500) / 3600 + 0.02 (energy release component - 60) - rain / 2 mm + (lift - wind) V,
        push = wind V (direction of the wind) + slope (gradient of the elevation, in degrees),
        s = smoulder exp(-rain / 2 mm),

    V the wind's speed in m/s; land cover 16 (barren) lowers the potential by 6. The terms of wind and slope are those of the
    cellular automaton of Alexandridis et al., Applied Mathematics and Computation 204 (2008), p_w = exp(c1 V) exp(c2 V (cos
    - 1)) and p_s = exp(a angle), with their c1, c2 and a, added as vectors at the pixel that catches fire. The weather is
    that of today.

    Attributes
    ----------
    rate : float
        Pixels that a burning one sets on fire a day, at potential and push 0 amid unburnt ones.
    reach, radius : float, int
        In pixels.
    embers : float
        To every pixel of the map, however far.
    lift, wind, slope : float
        c1, c2 (s/m) and a (per degree).
    smoulder : float
    """

    rate: float = 1.0
    reach: float = 1.0
    radius: int = 4
    embers: float = 1e-6
    lift: float = 0.045
    wind: float = 0.131
    slope: float = 0.078
    smoulder: float = 0.4

    def drive(self, maps: np.ndarray) -> Drive:
        """Of maps (..., 23, h, w) of a day."""
        get = {name: maps[..., k, :, :].astype(np.float64) for k, name in enumerate(CHANNELS)}
        speed, origin = get["wind speed"], np.deg2rad(get["wind direction"])
        south, east = (np.rad2deg(np.arctan(part)) for part in np.gradient(get["elevation"], PIXEL, axis=(-2, -1)))
        potential = (
            (get["NDVI"] - 4500) / 3600
            + 0.02 * (get["energy release component"] - 60)
            - get["total precipitation"] / 2
            + (self.lift - self.wind) * speed
            + np.where(get["land cover"] == BARREN, UNBURNABLE, 0.0)
        )
        return Drive(
            potential,
            -self.wind * speed * np.sin(origin) + self.slope * east,
            -self.wind * speed * np.cos(origin) - self.slope * south,
        )

    def next_day(self, front: np.ndarray, reached: np.ndarray, maps: np.ndarray) -> np.ndarray:
        """P(burns tomorrow) (n, h, w).

        Parameters
        ----------
        front, reached : ndarray of bool (n, h, w)
            What burns today, and what has burned up to today.
        maps : ndarray (23, h, w)
            Of today.
        """
        flat = sparse.csr_array(front.reshape(len(front), -1).astype(np.float64))
        drive = self.drive(maps)
        hazard = np.asarray((flat @ self._rates(drive).T).todense()).reshape(front.shape)
        hazard = hazard + self.embers * np.exp(drive.potential) * front.sum((1, 2), keepdims=True)
        rain = maps[CHANNELS.index("total precipitation")].astype(np.float64)
        catches = np.where(reached, 0.0, -np.expm1(-hazard))
        return np.where(front, self.smoulder * np.exp(-rain / 2), catches)

    def _rates(self, drive: Drive) -> sparse.csr_array:
        """r_ij without embers: (pixels that catch fire, pixels that burn)."""
        shape = drive.potential.shape
        steps = np.stack(np.meshgrid(*[np.arange(-self.radius, self.radius + 1)] * 2, indexing="ij"), -1).reshape(-1, 2)
        length = np.hypot(*steps.T)
        steps, length = steps[(length > 0) & (length <= self.radius)], length[(length > 0) & (length <= self.radius)]
        weights = np.exp(-length / self.reach)
        weights *= self.rate / weights.sum()
        rows, columns = np.indices(shape)
        from_row = rows - steps[:, 0, None, None]
        from_column = columns - steps[:, 1, None, None]
        inside = (from_row >= 0) & (from_row < shape[0]) & (from_column >= 0) & (from_column < shape[1])
        towards_east, towards_north = (steps[:, 1] / length)[:, None, None], (-steps[:, 0] / length)[:, None, None]
        log_rate = drive.potential + drive.east * towards_east + drive.north * towards_north
        rates = weights[:, None, None] * np.exp(log_rate)
        target = np.broadcast_to(rows * shape[1] + columns, inside.shape)
        source = from_row * shape[1] + from_column
        size = shape[0] * shape[1]
        return sparse.csr_array((rates[inside], (target[inside], source[inside])), shape=(size, size))


def ignitions(shape: tuple[int, int], radii: tuple[int, ...] = (1, 2, 3)) -> np.ndarray:
    """All fronts of a first day, bool (n, h, w): discs of these radii whose centre is in the middle half. Each is as likely."""
    height, width = shape
    rows, columns = np.meshgrid(
        np.arange(height // 4, height - height // 4), np.arange(width // 4, width - width // 4), indexing="ij"
    )
    down, right = np.indices(shape)
    distance = np.hypot(down - rows.reshape(-1, 1, 1), right - columns.reshape(-1, 1, 1))
    return np.concatenate([distance <= radius + 0.5 for radius in radii])
