"""One observation of ``latentcause posterior``: the values of a file, and what they say of a field on a grid."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from latentcause.commands.posterior_config import (
    AreaMean,
    BernoulliNoise,
    BlockMean,
    ComponentDensity,
    CorrelatedNoise,
    GaussianNoise,
    LogNormalNoise,
    MixtureNoise,
    Observed,
    Points,
    SdFile,
)
from latentcause.data.labels import listing
from latentcause.data.rasters import Raster, observation_of, read_raster
from latentcause.observation import (
    BernoulliError,
    Component,
    CorrelatedError,
    GaussianError,
    Grid,
    Likelihood,
    LinearOperator,
    LogNormalError,
    MixtureEmission,
    Observation,
    block_mean,
    gaussian_blur,
    identity,
    points,
)

VALUE = "value"
"""Column of the values of points, where none is named as band."""


@dataclass(frozen=True, eq=False)
class MeasuredRaster:
    """Values (h, w) on a grid of their own; ``sd``, of that shape, where the noise comes from a file."""

    settings: Observed
    values: np.ndarray
    grid: Grid
    sd: np.ndarray | None

    @property
    def name(self) -> str:
        """For messages: file and band."""
        return _name(self.settings)

    def observation(self, field: Grid) -> Observation:
        """What the values say of a field on that grid.

        Raises
        ------
        ValueError
            For values that the transform or the noise do not allow, and cells that are not where the operator needs them.
        """
        settings, operator = self.settings, self.settings.operator
        blur = _blur(settings, field)
        if isinstance(operator, AreaMean):
            raster = Raster(settings.file, _likelihood(settings, self.sd, self.values.shape), settings.band, blur)
            return observation_of(raster, _transformed(self.values, settings), self.grid, field, settings.outside)
        _refuse_other_pixels(field, self.grid)
        sees = identity(field.shape)
        cells = self.values
        if isinstance(operator, BlockMean):
            sees = block_mean(field.shape, operator.ratio, operator.offset, partial=operator.partial)
            if operator.value == "mean":
                cells = sees(torch.as_tensor(self.values)).numpy().reshape(sees.grid)
            else:
                cells = self.values[_centres_of_blocks(operator, field.shape)]
        noise = _likelihood(settings, self.sd, cells.shape)
        return Observation(_transformed(cells, settings), sees if blur is None else sees @ blur, noise, self.name)


@dataclass(frozen=True, eq=False)
class MeasuredPoints:
    """Values (k,) and a table whose columns hold the coordinates; ``sd`` (k,) where the noise comes from a file."""

    settings: Observed
    values: np.ndarray
    table: pd.DataFrame
    sd: np.ndarray | None

    @property
    def name(self) -> str:
        """For messages: file and column."""
        return _name(self.settings)

    def observation(self, field: Grid) -> Observation:
        """What the values say of a field on that grid.

        Raises
        ------
        ValueError
            For coordinates that are not there or outside the field, and values that the transform or the noise do not allow.
        """
        settings, dims = self.settings, list(field.dims)
        missing = [dim for dim in dims if dim not in self.table]
        if missing:
            raise ValueError(f"it has no column {listing(missing)}: points need the axes of the grid, {listing(dims)}")
        at = field.in_pixels(np.stack([_column(self.table, settings.file, dim) for dim in dims], axis=1))
        inside = np.asarray(np.logical_and(at >= 0, at <= field.shape).all(axis=1))
        if not inside.any():
            raise ValueError("none of its points lies within the field: is it a table of another place?")
        if not inside.all() and settings.outside == "refuse":
            raise ValueError(
                f"{(~inside).sum()} of {len(at)} points lie outside the field (first: row {int((~inside).argmax())}): remove "
                "them, or leave them out with outside: drop"
            )
        sees, blur = points(field.shape, at[inside]), _blur(settings, field)
        values = _transformed(self.values, settings)[inside]
        noise = _likelihood(settings, self.sd).rows(inside)
        return Observation(values, sees if blur is None else sees @ blur, noise, self.name)


def measure(settings: Observed, data: Path) -> MeasuredRaster | MeasuredPoints:
    """Read the values, and the noise where it is in a file.

    Raises
    ------
    FileNotFoundError, ValueError
        For a file, band or column that is not there, or another grid of the noise.
    """
    per_cell = sd_file(settings)
    if isinstance(settings.operator, Points):
        table = _read_table(data / settings.file)
        values, sd = _bounded(_column(table, settings.file, settings.band), settings), None
        if per_cell is not None:
            sd = _column(_read_table(data / per_cell.file), per_cell.file, per_cell.band)
            if len(sd) != len(values):
                raise ValueError(f"noise.sd: {per_cell.file} has {len(sd)} rows, {settings.file} {len(values)}")
        return MeasuredPoints(settings, values, table, sd)
    values, grid = read_raster(data / settings.file, settings.band)
    values = _bounded(values, settings)
    if per_cell is None:
        return MeasuredRaster(settings, values, grid, None)
    if isinstance(settings.operator, BlockMean):
        raise ValueError("noise.sd: blocks need one number, not a raster")
    sd, other = read_raster(data / per_cell.file, per_cell.band)
    if sd.shape != values.shape or not all(map(np.allclose, grid.edges, other.edges)):
        raise ValueError(f"noise.sd: {per_cell.file} has another grid than {settings.file}")
    return MeasuredRaster(settings, values, grid, sd)


def sd_file(settings: Observed) -> SdFile | None:
    """The file that holds the standard deviation of the noise, if one does."""
    noise = settings.noise
    return noise.sd if isinstance(noise, (GaussianNoise, LogNormalNoise)) and isinstance(noise.sd, SdFile) else None


# --- inside ----------------------------------------------------------------------------------------------------------


def _name(settings: Observed) -> str:
    return settings.file if settings.band is None else f"{settings.file}, band {settings.band}"


def _blur(settings: Observed, field: Grid) -> LinearOperator | None:
    return None if settings.point_spread is None else gaussian_blur(field.shape, settings.point_spread)


def _read_table(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise FileNotFoundError(f"there is no table {path}")
    try:
        return pd.read_csv(path)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise ValueError(f"{path.name} can't be read as a .csv file: {error}") from None


def _column(table: pd.DataFrame, file: str, band: int | str | None) -> np.ndarray:
    name = VALUE if band is None else str(band)
    if name not in table:
        raise ValueError(f"{file} has no column {name!r} (columns: {listing(table.columns)}): name one of them as band")
    if not pd.api.types.is_numeric_dtype(table[name]):
        raise ValueError(f"column {name!r} of {file} does not hold numbers")
    return table[name].to_numpy(dtype=np.float64)


def _likelihood(settings: Observed, per_cell: np.ndarray | None, cells: tuple[int, ...] | None = None) -> Likelihood:
    """Of values on a raster of so many cells along its axes, or of points."""
    noise = settings.noise
    match noise:
        case GaussianNoise() | LogNormalNoise():
            kind = GaussianError if isinstance(noise, GaussianNoise) else LogNormalError
            try:
                return kind(noise.sd if per_cell is None else per_cell.ravel())
            except ValueError as error:
                beside = sd_file(settings)
                raise ValueError(
                    f"noise.sd: {error}" if beside is None else f"noise.sd, {beside.file}: {error}"
                ) from None
        case CorrelatedNoise():
            if cells is None:
                raise ValueError("noise.kind: correlated noise is one of a raster's cells: give points another")
            return _correlated(noise.sd, noise.reach, cells)
        case BernoulliNoise():
            return BernoulliError(noise.slope, noise.offset)
        case MixtureNoise():
            return MixtureEmission(_component(noise.one), _component(noise.zero))


def _correlated(sd: float, reach: float, cells: tuple[int, ...]) -> CorrelatedError:
    """Covariances sd^2 (1 - 3 h / 2 + h^3 / 2) at h of the reach: the spherical model, positive definite on maps."""

    def kernel(distance: np.ndarray) -> np.ndarray:
        h = np.minimum(distance / reach, 1.0)
        return sd**2 * (1 - 1.5 * h + 0.5 * h**3)

    return CorrelatedError.from_kernel(kernel, np.indices(cells).reshape(len(cells), -1).T, reach)


def _component(density: ComponentDensity) -> Component:
    return Component(density.family, density.mean, density.sd)


def _transformed(values: np.ndarray, settings: Observed) -> np.ndarray:
    """NaN stays NaN."""
    if settings.transform == "none":
        return values
    wrong = values <= 0 if settings.transform == "log" else (values <= 0) | (values >= 1)
    if wrong.any():
        allowed = "above 0" if settings.transform == "log" else "between 0 and 1"
        raise ValueError(
            f"transform: {wrong.sum()} values have no {settings.transform} (first: {values[wrong][0]:g}): it takes numbers "
            f"{allowed}"
        )
    return np.log(values) if settings.transform == "log" else np.log(values) - np.log1p(-values)


def _bounded(values: np.ndarray, settings: Observed) -> np.ndarray:
    """Scaled, and between the lowest and the highest; NaN stays NaN."""
    if settings.lowest is None and settings.highest is None:
        return values * settings.scale
    return np.clip(values * settings.scale, settings.lowest, settings.highest)


def _centres_of_blocks(operator: BlockMean, shape: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    """Indices of the pixel in the middle of each block, as `block_mean` cuts the grid."""
    axes = []
    for axis, n in enumerate(shape):
        ratio, offset = (
            float(given[axis] if isinstance(given, tuple) else given) for given in (operator.ratio, operator.offset)
        )
        edges = offset + ratio * np.arange(int((n - offset) / ratio + 1e-9) + 1)
        if operator.partial:
            edges = np.unique(np.r_[0.0, edges, float(n)])
        axes.append(((edges[1:] + edges[:-1]) / 2).astype(int))
    return np.ix_(*axes)


def _refuse_other_pixels(field: Grid, own: Grid) -> None:
    cells = field.edges_in_pixels(own)
    if own.shape != field.shape or any(
        not np.array_equal(axis, np.arange(n + 1.0)) for axis, n in zip(cells, field.shape, strict=True)
    ):
        raise ValueError(
            "its cells are not the pixels of the field: use the operator 'area', or give this raster as the grid"
        )
