"""Observations of the fields of a causal system, each on its own cells, checked at the door."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from torch import Tensor

from latentcause.data.labels import listing
from latentcause.data.rasters import Outside, Raster, observations_of
from latentcause.graph import CausalGraph
from latentcause.observation.grids import Grid
from latentcause.observation.likelihoods import Likelihood
from latentcause.observation.observation import Observation
from latentcause.observation.operators import LinearOperator, Operator, least_squares

if TYPE_CHECKING:
    Observed = Observation | Sequence[Observation]


class GriddedObservations:
    """What sensors say of d fields on one grid: for each node any number of observations. Nothing in it changes.

    A field z_i has one number per pixel; z (n, d, *shape) holds n systems of fields, nodes in order. Observation k of node
    i has values y_k = A_k z_i + noise, or another likelihood p(y_k | A_k z_i). All cells of all observations, one after
    the other in the order of the nodes, are the M cells of this object; cells without a value (NaN) are left out.

    Parameters
    ----------
    nodes : CausalGraph or sequence of str
        With a graph, a node that nobody observes and that has no edge is refused.
    shape : tuple of int, or Grid
        Of the fields: (sites,) for vectors of independent sites, (n,) along a line, (height, width) for maps. A `Grid` adds
        coordinates and a coordinate system.
    observations : mapping from node to Observation, or several of them
        Nodes without observations may be left out.

    Attributes
    ----------
    nodes : tuple of str
    shape : tuple of int
    grid : Grid
        Pixels of size 1 where only a shape was given.
    per_node : list of (node, Observation)
        As used: with operators, flat values and no missing cell.
    values : Tensor (M,)
        Of Gaussian observations the y in y = A z + e; of others the values as they are.

    Raises
    ------
    ValueError
        For an unknown node, no observation at all, a node nobody observes and nobody is linked to, and what
        `Observation.of_field` refuses; the message names the node and the observation.

    Examples
    --------
    >>> from latentcause.observation import Observation, block_mean
    >>> coarse = Observation([1.0, 2.0], block_mean((6,), 3), noise=0.1)
    >>> GriddedObservations(["rain", "flood"], (6,), {"rain": coarse})
    GriddedObservations: 2 fields of 6 pixels, 2 values
      rain: 2 cells that see 6 of 6 pixels, GaussianError
      flood: not observed
    """

    def __init__(
        self,
        nodes: CausalGraph | Sequence[str],
        shape: Sequence[int] | Grid,
        observations: Mapping[str, Observed],
    ) -> None:
        self.nodes: tuple[str, ...] = nodes.nodes if isinstance(nodes, CausalGraph) else tuple(nodes)
        self.grid = shape if isinstance(shape, Grid) else Grid.of_shape(shape)
        self.shape = self.grid.shape
        unknown = [node for node in observations if node not in self.nodes]
        if unknown:
            raise ValueError(
                f"observations of {listing(unknown)}, no node of the system (nodes: {listing(self.nodes)})"
            )
        self.per_node = _checked(self.nodes, self.shape, observations)
        if not self.per_node:
            raise ValueError("there are no observations: give at least one node an Observation")
        if isinstance(nodes, CausalGraph):
            self.validate_for(nodes)
        self._place(torch.device("cpu"), torch.float64)

    @classmethod
    def simulate(
        cls,
        nodes: CausalGraph | Sequence[str],
        fields: Tensor,
        sensors: Mapping[str, Sequence[tuple[Operator, Likelihood]]],
        generator: torch.Generator,
        *,
        grid: Grid | None = None,
    ) -> Self:
        """Draw what sensors would say of known fields (d, *shape): (operator, noise) pairs for each node that has any."""
        names = nodes.nodes if isinstance(nodes, CausalGraph) else tuple(nodes)
        observations = {
            node: [
                Observation(noise.sample(op(fields[names.index(node)]), generator), op, noise) for op, noise in pairs
            ]
            for node, pairs in sensors.items()
        }
        return cls(nodes, grid or tuple(fields.shape[1:]), observations)

    @classmethod
    def from_rasters(
        cls,
        nodes: CausalGraph | Sequence[str],
        rasters: Mapping[str, Raster | Sequence[Raster]],
        *,
        grid: Grid | str | Path | None = None,
        outside: Outside = "refuse",
    ) -> Self:
        """From GeoTIFF and NetCDF files or xarray arrays, each with a grid of its own, which is kept.

        The value of a cell is seen as the mean of the field over it, each pixel weighted by its share of the cell.

        Parameters
        ----------
        nodes : CausalGraph or sequence of str
        rasters : mapping from node to `Raster`, or several of them
        grid : Grid or path, optional
            Of the fields, or a raster that has it. The finest of the rasters where it is not given.
        outside : {"refuse", "drop"}
            What becomes of cells with values that do not lie within the field as a whole.

        Raises
        ------
        ValueError
            For rasters on incompatible coordinate systems, cells outside the field, a raster without values, and what
            `read_raster` and the class refuse; the message names the node, the file and the band.
        FileNotFoundError
            For a file that is not there.
        """
        found, observations = observations_of(rasters, grid, outside)
        return cls(nodes, found, observations)

    # --- what the cells see ------------------------------------------------------------------------------------------

    def apply(self, z: Tensor) -> Tensor:
        """A z (n, M) of fields z (n, d, *shape), in their dtype and on their device.

        Raises
        ------
        ValueError
            For fields of another shape or number.
        """
        return torch.cat([op(z[:, i]) for i, op in self._operators(z)], dim=-1)

    def adjoint(self, v: Tensor) -> Tensor:
        """A' v (n, d, *shape) for v (n, M).

        Raises
        ------
        ValueError
            Where an operator is not linear: then ``pullback`` gives J' v at a point.
        """
        return self.pullback(None, v)

    def tangent(self, z: Tensor, direction: Tensor) -> Tensor:
        """J u (n, M): the derivative of ``apply`` at z along u (n, d, *shape); A u where all operators are linear."""
        return torch.cat([op.tangent(z[:, i], direction[:, i]) for i, op in self._operators(direction)], dim=-1)

    def pullback(self, z: Tensor | None, v: Tensor) -> Tensor:
        """J' v (n, d, *shape): the transposed derivative of ``apply`` at z, for v (n, M). z may be None if all is linear."""
        parts: list[list[Tensor]] = [[] for _ in self.nodes]
        for (node, observation), cells in zip(self.per_node, self._split(v), strict=True):
            i = self.nodes.index(node)
            parts[i].append(_pull(node, observation, None if z is None else z[:, i], cells))
        none = v.new_zeros(len(v), *self.shape)
        return torch.stack([sum(fields[1:], fields[0]) if fields else none for fields in parts], dim=1)

    def pseudo_inverse(self, mean: float = 0.0, variance: float = 1.0, tolerance: float = 0.03) -> Tensor:
        """Fields (d, *shape) of least norm that fit the values best; NaN where no cell sees a node's pixel.

        Several observations of a node are weighted by their precision. A value that is not Gaussian in what it sees
        counts as the mean of its tilted density with the cavity N(``mean``, ``variance``), and by its site's precision.
        Observations through functions that are not linear take no part. ``tolerance`` as in `LinearOperator.pseudo_inverse`:
        the default is for a starting point, and leaves detail that a blur has all but removed at zero.
        """
        fields = torch.full((len(self.nodes), *self.shape), torch.nan).to(self.values)
        for i, node in enumerate(self.nodes):
            own = [
                (o.operator, *self._on_scale(o, y, mean, variance))
                for o, y in self._of(node)
                if isinstance(o.operator, LinearOperator)
            ]
            if own:
                seen = np.logical_or.reduce([operator.footprint for operator, _, _ in own])
                field = _weighted_inverse(own, tolerance)
                fields[i] = torch.where(torch.as_tensor(seen, device=field.device), field, torch.nan)
        return fields

    # --- noise -------------------------------------------------------------------------------------------------------

    @property
    def noise_variance(self) -> Tensor:
        """The diagonal of R (M,).

        Raises
        ------
        ValueError
            Where an observation is not Gaussian in what it sees.
        """
        return torch.cat([o.noise.noise_variance(y).expand_as(y) for (_, o), y in self._with_values()])

    def noise_times(self, v: Tensor, variance: Tensor | None = None) -> Tensor:
        """R v (n, M) for v (n, M), where R is the covariance of the noise.

        ``variance`` (n, M), from ``sites``, stands in for the cells of observations that are not Gaussian.

        Raises
        ------
        ValueError
            Where such an observation has no variance.
        """
        stand_in = [None] * len(self.per_node) if variance is None else self._split(variance)
        return torch.cat(
            [
                o.noise.noise_times(part) if o.noise.is_gaussian or own is None else own * part
                for (_, o), part, own in zip(self.per_node, self._split(v), stand_in, strict=True)
            ],
            dim=-1,
        )

    def noise_draws(self, n: int, generator: torch.Generator) -> Tensor:
        """Draws e ~ N(0, R): (n, M), for observations that are Gaussian in what they see."""
        parts = zip(self.per_node, self._split(torch.zeros_like(self.values.expand(n, -1))), strict=True)
        return torch.cat([o.noise.target(o.noise.sample(own, generator)) for (_, o), own in parts], dim=-1)

    def sites(self, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        """Gaussian stand-ins (values, variances), each (n, M), of all likelihoods for cavities N(mean, variance), each (n, M).

        See `Likelihood.sites`. Gaussian observations stand for themselves, whatever the cavity.
        """
        parts = [
            o.noise.sites(y.to(mean.device), m, v)
            for ((_, o), y), m, v in zip(self._with_values(), self._split(mean), self._split(variance), strict=True)
        ]
        return torch.cat([value for value, _ in parts], dim=-1), torch.cat([noise for _, noise in parts], dim=-1)

    def log_likelihood(self, z: Tensor) -> Tensor:
        """log p(all values | z), (n,), of fields z (n, d, *shape)."""
        seen = self._split(self.apply(z))
        terms = [o.noise.log_prob(y.to(s), s).sum(-1) for ((_, o), y), s in zip(self._with_values(), seen, strict=True)]
        return torch.stack(terms).sum(0)

    @property
    def is_gaussian(self) -> bool:
        """Whether all observations are Gaussian in what they see."""
        return all(observation.noise.is_gaussian for _, observation in self.per_node)

    @property
    def is_linear(self) -> bool:
        """Whether all operators are linear."""
        return all(isinstance(observation.operator, LinearOperator) for _, observation in self.per_node)

    # --- others from this one ----------------------------------------------------------------------------------------

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        """The same with ``values`` on another device or of another dtype."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._place(torch.device(device) if device is not None else self.values.device, dtype or self.values.dtype)
        return other

    def without(self, node: str) -> Self:
        """The same without the observations of one node.

        Raises
        ------
        ValueError
            Where the node has none, or no other has any.
        """
        if node not in (observed for observed, _ in self.per_node):
            raise ValueError(f"node {node!r} is not observed: there is nothing to leave out")
        kept: dict[str, list[Observation]] = {}
        for name, observation in self.per_node:
            kept.setdefault(name, []).append(observation)
        del kept[node]
        return type(self)(self.nodes, self.grid, kept).to(self.values.device, self.values.dtype)

    def validate_for(self, graph: CausalGraph) -> None:
        """Check that these are observations of the nodes of this graph.

        Raises
        ------
        ValueError
            For other nodes or another order of them, and a node that nobody observes and that no edge links to another.
        """
        if graph.nodes != self.nodes:
            raise ValueError(
                f"the observations are of nodes {listing(self.nodes)}, the graph has {listing(graph.nodes)}: give them in one order"
            )
        observed = {node for node, _ in self.per_node}
        lost = [n for n in graph.nodes if n not in observed and not graph.parents(n) and not graph.children(n)]
        if lost:
            raise ValueError(
                f"node {listing(lost)} is not observed and has no edge: nothing can be said of it; observe it, link it or drop it"
            )

    def __repr__(self) -> str:
        pixels = " x ".join(str(n) for n in self.shape)
        lines = [f"{type(self).__name__}: {len(self.nodes)} fields of {pixels} pixels, {len(self.values)} values"]
        for node in self.nodes:
            own = self._of(node)
            lines += [f"  {node}: {_described(o)}" for o, _ in own] or [f"  {node}: not observed"]
        return "\n".join(lines)

    # --- private -----------------------------------------------------------------------------------------------------

    def _place(self, device: torch.device, dtype: torch.dtype) -> None:
        self._raw = [torch.as_tensor(o.values).to(device, dtype) for _, o in self.per_node]
        self.values = torch.cat([o.noise.target(y) for (_, o), y in self._with_values()])

    def _operators(self, z: Tensor) -> list[tuple[int, Operator]]:
        if tuple(z.shape[1:]) != (len(self.nodes), *self.shape):
            raise ValueError(
                f"fields of shape {tuple(z.shape)}: give (n, {', '.join(map(str, (len(self.nodes), *self.shape)))})"
            )
        return [(self.nodes.index(node), o.operator) for node, o in self.per_node if o.operator is not None]

    def _split(self, cells: Tensor) -> tuple[Tensor, ...]:
        if cells.shape[-1] != len(self.values):
            raise ValueError(f"numbers of shape {tuple(cells.shape)} for {len(self.values)} cells: give one per cell")
        return torch.split(cells, [len(y) for y in self._raw], dim=-1)

    def _with_values(self) -> list[tuple[tuple[str, Observation], Tensor]]:
        return list(zip(self.per_node, self._raw, strict=True))

    def _of(self, node: str) -> list[tuple[Observation, Tensor]]:
        return [(o, y) for (name, o), y in self._with_values() if name == node]

    @staticmethod
    def _on_scale(observation: Observation, y: Tensor, mean: float, variance: float) -> tuple[Tensor, Tensor]:
        """Value and precision (m,) of each cell on the scale of what it sees."""
        noise = observation.noise
        if noise.is_gaussian:
            return noise.target(y), 1 / noise.noise_variance(y).expand_as(y)
        cavity = torch.full_like(y, mean), torch.full_like(y, variance)
        return noise.tilted(y, *cavity)[0].to(y), 1 / noise.sites(y, *cavity)[1]


def _checked(
    nodes: tuple[str, ...], shape: tuple[int, ...], observations: Mapping[str, Observed]
) -> list[tuple[str, Observation]]:
    """Observations in the order of the nodes, each ready for use; an error names node and observation."""
    found = []
    for node in nodes:
        given = observations.get(node, ())
        several = [given] if isinstance(given, Observation) else list(given)
        for number, observation in enumerate(several):
            name = observation.name or (f"observation {number}" if len(several) > 1 else "")
            try:
                found.append((node, observation.of_field(shape)))
            except ValueError as error:
                raise ValueError(f"node {node!r}{f', {name}' if name else ''}: {error}") from None
    return found


def _pull(node: str, observation: Observation, field: Tensor | None, cells: Tensor) -> Tensor:
    operator = observation.operator
    if isinstance(operator, LinearOperator):
        return operator.adjoint(cells)
    if operator is None or field is None:
        raise ValueError(
            f"node {node!r} is seen through a function that is not linear: it has no adjoint, only a pullback"
        )
    return operator.pullback(field, cells)


def _weighted_inverse(own: list[tuple[LinearOperator, Tensor, Tensor]], tolerance: float) -> Tensor:
    if len(own) == 1 and own[0][0].disjoint:
        return own[0][0].pseudo_inverse(own[0][1])
    roots = [precision.sqrt() for _, _, precision in own]
    sizes = [len(root) for root in roots]

    def times(z: Tensor) -> Tensor:
        return torch.cat([root * operator(z) for root, (operator, _, _) in zip(roots, own, strict=True)], dim=-1)

    def adjoint(v: Tensor) -> Tensor:
        parts = zip(roots, torch.split(v, sizes, dim=-1), own, strict=True)
        return torch.stack([operator.adjoint(root * part) for root, part, (operator, _, _) in parts]).sum(0)

    weighted = torch.cat([root * value for root, (_, value, _) in zip(roots, own, strict=True)])
    return least_squares(times, adjoint, weighted, tolerance)


def _described(observation: Observation) -> str:
    name = f"{observation.name}, " if observation.name else ""
    seen = ""
    if isinstance(observation.operator, LinearOperator):
        footprint = observation.operator.footprint
        seen = f" that see {footprint.sum()} of {footprint.size} pixels"
    return f"{name}{len(observation.values)} cells{seen}, {type(observation.noise).__name__}"
