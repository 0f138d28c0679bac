"""The 2018 Hokkaido Iburi earthquake: a damage proxy map, models of ground failure, and the landslides mapped afterwards.

S. Xu, J. Dimasaka, D. J. Wald and H. Y. Noh, Seismic multi-hazard and impact estimation via causal inference from satellite
imagery, Nature Communications 13, 7793 (2022); the rasters are those of its public repository (MIT licence).
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from latentcause.data.gridded_observations import GriddedObservations
from latentcause.data.rasters import read_raster
from latentcause.datasets.files import DataFiles
from latentcause.graph import CausalGraph
from latentcause.observation.builders import block_mean
from latentcause.observation.grids import Grid
from latentcause.observation.logistic import BernoulliError, Component, MixtureEmission
from latentcause.observation.observation import Observation

if TYPE_CHECKING:
    import xarray as xr

    from latentcause.observation.operators import LinearOperator

Hazard = Literal["landslide", "liquefaction"]

FILES = DataFiles(
    name="hokkaido",
    checksums={
        "building_footprint.tif": "a0ada695518f7e9d7dec855385dc08a2f6cfbb6c4dbf1dc14697b5c5deb62dd8",
        "damage_proxy_map.tif": "75f7327243d8c219c6f4ca46f074c4831acf9373ed6b9fff4b756284f218eea4",
        "landslide_truth_west.tif": "96cf47210891659bc7eeac56e559c25c00c47c1df2c22f735054f1a16890ac10",
        "prior_landslide.tif": "2a99277d5a7555ea1b3d3df6817697eec943a3d42da7874ce5fff059d615ab9d",
        "prior_liquefaction.tif": "f7b1ec4e393c3a33136f612a3ecd92521614b7dc0eafc256cc08ff37d5574358",
        "vbci_building_damage.tif": "4fd5e1d432da1be7510483a3238ef86eb37df77360db9a795171fc11c32fe76e",
        "vbci_posterior_landslide.tif": "626fbf66ca262bcba7bd8a4b4a2bc7c4fd181a3ad6397d78d07c60cd44891fb9",
        "vbci_posterior_liquefaction.tif": "02c6a51d66c5d499f7ae2030950635c92d2d2c3f0e0c13754f2a93a0729c8d94",
    },
    origin=(
        "30 m rasters of the 2018 Hokkaido Iburi earthquake from the repository of Xu et al., Nature Communications 13, 7793 "
        "(2022): damage proxy, ground failure models, buildings, mapped landslides, and the posteriors of its authors"
    ),
)

_RASTERS = {
    "damage_proxy": "damage_proxy_map.tif",
    "prior_landslide": "prior_landslide.tif",
    "prior_liquefaction": "prior_liquefaction.tif",
    "building_footprint": "building_footprint.tif",
    "vbci_landslide": "vbci_posterior_landslide.tif",
    "vbci_liquefaction": "vbci_posterior_liquefaction.tif",
    "vbci_building_damage": "vbci_building_damage.tif",
}
_CAUSES = ("landslide", "liquefaction", "building_damage")
_LEAST = 1e-4  # the damage proxy of a few pixels is 0 or 1, where log odds have no value
_CELLS: dict[str, tuple[float, tuple[float, float]]] = {
    "landslide": (7.5, (1.9, 2.4)),
    "liquefaction": (15.0, (5.0, 1.0)),
}


def load_hokkaido(folder: str | Path | None = None) -> HokkaidoMaps:
    """Read the rasters (424 x 578 pixels of one second of arc, about 30 m; EPSG:4326) and the mapped landslides.

    Parameters
    ----------
    folder
        Where the eight GeoTIFFs are. Without it they are looked for in ``$LATENTCAUSE_DATA/hokkaido``, or in the user's
        cache; nothing is downloaded.

    Raises
    ------
    FileNotFoundError
        Where a file is missing.
    ValueError
        Where a file is not the published one.
    ImportError
        Without the extra ``geo``.
    """
    home = FILES.find(folder)
    try:
        import_module("rioxarray")
    except ImportError:
        raise ImportError('the Hokkaido rasters need rioxarray: pip install "latentcause[geo]"') from None
    import xarray as xr

    _, grid = read_raster(home / "damage_proxy_map.tif")  # the others differ from it by 1e-5 of a pixel
    maps = {name: (grid.dims, read_raster(home / file)[0]) for name, file in _RASTERS.items()}
    rasters = xr.Dataset(maps, grid.centres).rio.write_crs(grid.crs)
    truth = xr.DataArray(
        read_raster(home / "landslide_truth_west.tif")[0], rasters.coords, grid.dims, "landslide_truth"
    )
    return HokkaidoMaps(rasters, truth)


@dataclass(frozen=True, eq=False)
class HokkaidoMaps:
    """What was seen from space and modelled, and what was found on the ground.

    Attributes
    ----------
    rasters : xarray.Dataset
        Maps (y, x) of 424 x 578 pixels with a coordinate system: ``damage_proxy`` (loss of radar coherence, 0 to 1, with
        speckle that neighbours share), ``prior_landslide`` and ``prior_liquefaction`` (probabilities of the USGS models, each
        the same over a much coarser cell: see ``prior``), ``building_footprint`` (area per pixel), and the posterior
        probabilities that the authors of VBCI published, ``vbci_landslide``, ``vbci_liquefaction``, ``vbci_building_damage``.
    truth : xarray.DataArray
        1 where a landslide was mapped, 0 where none was, NaN where there is no map: columns 289 and on.
    """

    rasters: xr.Dataset
    truth: xr.DataArray

    @property
    def graph(self) -> CausalGraph:
        """landslide, liquefaction and building_damage, each a cause of change, in this order."""
        return CausalGraph((*_CAUSES, "change"), tuple((cause, "change") for cause in _CAUSES))

    def observations(self) -> GriddedObservations:
        """What the maps say of the nodes of ``graph``.

        Change is seen by the damage proxy, in every pixel, as a `MixtureEmission` on the scale of log odds; the hazards by their
        models' chances, and building damage by the share of a pixel that is built over, all with a `BernoulliError`. The
        numbers in these likelihoods are starting points for models that learn them, such as `latentcause.CausesOfChange`.
        """
        proxy = self.rasters["damage_proxy"]
        grid = Grid.from_centres({dim: proxy[dim].to_numpy() for dim in proxy.dims}, "EPSG:4326")
        built = self.rasters["building_footprint"].to_numpy()
        emission = MixtureEmission(Component("logit-normal", 1.0, 0.6), Component("logit-normal", 0.0, 0.5))
        seen = {
            hazard: Observation(*self.prior(hazard), BernoulliError(), f"prior_{hazard}") for hazard in get_args(Hazard)
        }
        seen["building_damage"] = Observation(built / built.max(), noise=BernoulliError(), name="building_footprint")
        seen["change"] = Observation(proxy.clip(_LEAST, 1 - _LEAST).to_numpy(), noise=emission, name="damage_proxy")
        return GriddedObservations(self.graph, grid, seen)

    def prior(self, hazard: Hazard) -> tuple[np.ndarray, LinearOperator]:
        """The model of a hazard on its own grid: probabilities of its cells, and what each cell sees of a field of pixels.

        Cells measure 7.5 pixels (landslide) or 15 (liquefaction) a side; those at the border are cut off with the raster. The
        models leave chances of less than about 0.002 and 0.0003 at 0, which does not mean never: such cells get half of the
        smallest chance that is given.

        Raises
        ------
        ValueError
            For another hazard.
        """
        if hazard not in get_args(Hazard):
            raise ValueError(f"there is no prior of {hazard!r}: choose landslide or liquefaction")
        raster = self.rasters[f"prior_{hazard}"].to_numpy()
        ratio, offset = _CELLS[hazard]
        operator = block_mean(raster.shape, ratio, offset, partial=True)
        edges = [np.r_[0.0, np.arange(start, n, ratio), n] for start, n in zip(offset, raster.shape, strict=True)]
        rows, columns = (((axis[1:] + axis[:-1]) / 2).astype(int) for axis in edges)
        chances = raster[np.ix_(rows, columns)]
        return np.maximum(chances, raster[raster > 0].min() / 2), operator
