"""A simulated earthquake: shaking, landslides, liquefaction and damage, and the files in which sensors see them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from latentcause.data.rasters import write_geotiff
from latentcause.fields import GaussianFields, Matern
from latentcause.graph import CausalGraph
from latentcause.observation import (
    GaussianError,
    Grid,
    LinearOperator,
    LogNormalError,
    between,
    identity,
    points,
)
from latentcause.writing import write_atomically

CRS, PIXEL, WEST, NORTH = "EPSG:32654", 100.0, 560_000.0, 4_740_000.0
"""Coordinate system (UTM 54 N), size of a pixel in metres, and the upper left corner."""

MULTIPLE = 12
"""Pixels in a cell of the coarsest raster."""


def hazard_fields(shape: tuple[int, int] = (48, 60)) -> GaussianFields:
    """Shaking causes landslides and liquefaction, and all three cause damage.

    ``shaking`` is the logarithm of the peak acceleration in % g, ``landslide`` and ``liquefaction`` are the log odds of a
    pixel, and ``damage`` is the logarithm of an index whose median is 1.
    """
    graph = CausalGraph.from_string(
        "shaking -> landslide; shaking -> liquefaction; shaking -> damage; landslide -> damage; liquefaction -> damage"
    )
    weights = {
        ("shaking", "landslide"): 2.0,
        ("shaking", "liquefaction"): 1.5,
        ("shaking", "damage"): 0.5,
        ("landslide", "damage"): 0.4,
        ("liquefaction", "damage"): 0.3,
    }
    kernels = {
        "shaking": Matern(15.0, 0.25),
        "landslide": Matern(4.0, 1.5),
        "liquefaction": Matern(6.0, 1.0),
        "damage": Matern(3.0, 0.3),
    }
    means = {"shaking": 3.0, "landslide": -2.5, "liquefaction": -3.0, "damage": 0.0}
    own = {
        node: mean - sum(weights[parent, node] * means[parent] for parent in graph.parents(node))
        for node, mean in means.items()
    }
    return GaussianFields(graph, weights, kernels, shape, own)


def simulate_hazards(folder: str | Path, shape: tuple[int, int] = (48, 60), *, seed: int = 0) -> Tensor:
    """Draw `hazard_fields` and write what sensors see of them into a folder, which is made where it is missing.

    ==================== ================================================================================================
    ``shaking.tif``      mean logarithm of the acceleration over cells of 6 pixels; errs by 0.15
    ``stations.csv``     y, x and acceleration in % g at 20 stations; its logarithm errs by 0.1
    ``landslide.tif``    prior chance of a landslide in cells of 4 pixels that begin 2 pixels inside; its log odds err by 0.7
    ``liquefaction.tif`` prior chance of liquefaction in cells of 12 pixels; its log odds err by 0.8
    ``damage.tif``       the damage index of every pixel, speckled: its logarithm errs by 0.7; clouds hide some
    ``truth.tif``        the fields, a band for each
    ==================== ================================================================================================

    Returns
    -------
    Tensor (4, *shape)
        The true fields: shaking, landslide, liquefaction, damage.

    Raises
    ------
    ValueError
        For a shape that is not of multiples of 12.
    ImportError
        Without the extra ``geo``.
    """
    if len(shape) != 2 or any(n < MULTIPLE or n % MULTIPLE for n in shape):
        raise ValueError(
            f"shape={shape}: give two multiples of {MULTIPLE}, the pixels in a cell of the coarsest raster"
        )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    fields = hazard_fields(shape)
    z = fields.sample(1, generator)[0]
    truth = dict(zip(fields.graph.nodes, z, strict=True))
    pixels = _grid(shape)

    def cells(node: str, ratio: int, offset: int, sd: float) -> tuple[np.ndarray, Grid]:
        grid = _grid(shape, ratio, offset)
        seen = between(pixels, grid)(truth[node])
        return GaussianError(sd).sample(seen, generator).reshape(grid.shape).numpy(), grid

    shaking, grid = cells("shaking", 6, 0, 0.15)
    write_geotiff(folder / "shaking.tif", {"log_pga": shaking}, grid)
    for node, ratio, offset, sd in (("landslide", 4, 2, 0.7), ("liquefaction", 12, 0, 0.8)):
        log_odds, grid = cells(node, ratio, offset, sd)
        write_geotiff(folder / f"{node}.tif", {"chance": 1 / (1 + np.exp(-log_odds))}, grid)
    at = torch.rand(20, 2, generator=generator, dtype=torch.float64).numpy() * shape
    _write_stations(folder / "stations.csv", points(shape, at), truth["shaking"], at, generator)
    proxy = LogNormalError(0.7).sample(identity(shape)(truth["damage"]), generator).reshape(shape).numpy()
    cloud = Matern(5.0).sample(1, shape, generator)[0].numpy()
    proxy[cloud > np.quantile(cloud, 0.85)] = np.nan
    write_geotiff(folder / "damage.tif", {"index": proxy}, pixels)
    write_geotiff(folder / "truth.tif", {node: field.numpy() for node, field in truth.items()}, pixels)
    return z


def _grid(shape: Sequence[int], ratio: int = 1, offset: int = 0) -> Grid:
    """Cells of ``ratio`` pixels, the first ``offset`` pixels from the corner, as many as fit."""
    rows, columns = (PIXEL * (offset + ratio * np.arange((n - offset) // ratio + 1)) for n in shape)
    return Grid((NORTH - rows, WEST + columns), ("y", "x"), CRS)


def _write_stations(
    path: Path, sees: LinearOperator, field: Tensor, at: np.ndarray, generator: torch.Generator
) -> None:
    acceleration = GaussianError(0.1).sample(sees(field), generator).exp().numpy()
    table = pd.DataFrame({"y": NORTH - PIXEL * at[:, 0], "x": WEST + PIXEL * at[:, 1], "pga": acceleration})
    with write_atomically(path) as temporary:
        table.to_csv(temporary, index=False, float_format="%.10g")
