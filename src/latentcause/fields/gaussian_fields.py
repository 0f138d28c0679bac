"""GaussianFields: a linear-Gaussian causal system of fields, with everything about it in closed form."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, get_args

import torch
from torch import Tensor

from latentcause.fields.joint_gaussian import Form, JointGaussian
from latentcause.fields.kernels import MOST_DENSE, Kernel, White
from latentcause.graph import CausalGraph
from latentcause.graph_text import Edge

if TYPE_CHECKING:
    from latentcause.data.gridded_observations import GriddedObservations


class GaussianFields:
    """z_i = intercept_i + sum_k w_ki z_k + e_i over the parents k, pixel by pixel, e_i a Gaussian field with a kernel.

    With B_ik = w_ki and K = blockdiag(K_1, ..., K_d): z has covariance (I - B)^-1 K (I - B)^-T and precision
    (I - B)' K^-1 (I - B). Field tensors are (..., d, *shape), nodes in ``graph.nodes`` order; dense matrices are node-major:
    row i * pixels + p is pixel p of node i. All tensors are float64 on the CPU; draws live on the generator's device.

    Parameters
    ----------
    graph : CausalGraph
    weights : mapping from (parent, child) to float
        One for every edge.
    kernels : mapping from node to Kernel
        Covariance of every node's own noise e_i.
    shape : tuple of int
        Of one field: (n,) or (h, w).
    intercepts : mapping from node to float, optional
        Zero for the nodes left out.

    Raises
    ------
    ValueError
        For an edge without a weight, a weight without an edge, one that is not finite, a node without a kernel, a kernel or
        intercept without a node, or a shape that is not one or two positive sizes.
    """

    def __init__(
        self,
        graph: CausalGraph,
        weights: Mapping[Edge, float],
        kernels: Mapping[str, Kernel],
        shape: tuple[int, ...],
        intercepts: Mapping[str, float] | None = None,
    ) -> None:
        check_keys("weight", weights, graph.edges)
        check_keys("kernel", kernels, graph.nodes)
        check_keys("intercept", intercepts or {}, graph.nodes, all_needed=False)
        for what, number in (*weights.items(), *(intercepts or {}).items()):
            if not math.isfinite(number):
                raise ValueError(f"the number for {what} is {number}: give a finite one")
        self.graph, self.shape = graph, checked_shape(shape)
        self.weights = {edge: float(weights[edge]) for edge in graph.edges}
        self.kernels = {node: kernels[node] for node in graph.nodes}
        self.intercepts = {node: float((intercepts or {}).get(node, 0.0)) for node in graph.nodes}

    @property
    def pixels(self) -> int:
        """Pixels of one field."""
        return math.prod(self.shape)

    @property
    def coefficients(self) -> Tensor:
        """B (d, d): [i, k] is the weight of the edge from node k to node i."""
        matrix = torch.zeros(len(self.graph), len(self.graph), dtype=torch.float64)
        for (cause, effect), weight in self.weights.items():
            matrix[self.graph.index(effect), self.graph.index(cause)] = weight
        return matrix

    @property
    def response(self) -> Tensor:
        """(I - B)^-1 (d, d): [i, k] is the total effect of a unit of node k's noise on node i."""
        identity = torch.eye(len(self.graph), dtype=torch.float64)
        return torch.linalg.solve(identity - self.coefficients, identity)

    @property
    def mean(self) -> Tensor:
        """E[z]: (d, *shape)."""
        levels = self.response @ torch.tensor(list(self.intercepts.values()), dtype=torch.float64)
        return levels.reshape(-1, *[1] * len(self.shape)).expand(-1, *self.shape).clone()

    def covariance(self) -> Tensor:
        """(I - B)^-1 K (I - B)^-T, (d * pixels, d * pixels).

        Raises
        ------
        ValueError
            For more than `latentcause.fields.MOST_DENSE` pixels in all nodes.
        """
        self._check_dense()
        noise = torch.stack([kernel.covariance(self.shape) for kernel in self.kernels.values()])
        return self._node_major(torch.einsum("ik,jk,kpq->ipjq", self.response, self.response, noise))

    def precision(self) -> Tensor:
        """(I - B)' K^-1 (I - B), (d * pixels, d * pixels).

        Raises
        ------
        ValueError
            As `covariance` does, and where a kernel's covariance is singular in float64.
        """
        self._check_dense()
        inverse = torch.stack([kernel.precision(self.shape) for kernel in self.kernels.values()])
        remainder = torch.eye(len(self.graph), dtype=torch.float64) - self.coefficients
        return self._node_major(torch.einsum("ki,kj,kpq->ipjq", remainder, remainder, inverse))

    def joint(self, form: Form) -> JointGaussian:
        """The distribution of z as a `JointGaussian`, which denoises.

        ``dense`` is exact, and so is ``sites`` for white kernels. ``torus`` is exact but across opposite edges, which it takes
        for neighbours. ``reflected`` is the nearest covariance that is diagonal in cosines: wrong near the edges, where it
        takes the fields for mirrored, and off by about the kernel's length over the size of the grid elsewhere.

        Raises
        ------
        ValueError
            For an unknown form, too many pixels for ``dense`` (see `covariance`), or ``sites`` with a kernel that is not white.
        """
        if form == "dense":
            return JointGaussian.dense(self.mean, self.covariance())
        if form == "sites":
            return JointGaussian.of_sites(self.mean, self._covariance_of_sites())
        if form not in ("torus", "reflected"):
            raise ValueError(f"unknown form {form!r}: choose one of {', '.join(get_args(Form))}")
        spectra = torch.stack(
            [
                kernel.torus_spectrum(self.shape) if form == "torus" else kernel.reflected_spectrum(self.shape)
                for kernel in self.kernels.values()
            ]
        )
        cross = torch.einsum("ik,jk,k...->...ij", self.response, self.response, spectra)
        return JointGaussian.spectral(self.mean, cross, form)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """n draws of all nodes: (n, d, *shape), exact."""
        noise = torch.stack([kernel.sample(n, self.shape, generator) for kernel in self.kernels.values()])
        fields = torch.einsum("ik,kn...->ni...", self.response.to(noise.device), noise)
        return fields + self.mean.to(fields.device)

    def log_density(self, z: Tensor) -> Tensor:
        """log p(z) in nats of each draw: (..., d, *shape) -> (...), differentiable.

        Raises
        ------
        ValueError
            For a kernel without a density at this shape: see `latentcause.fields.Kernel.log_density`.
        """
        offset = z - self.mean.to(z)
        residuals = offset - torch.einsum("ik,...kp->...ip", self.coefficients.to(z), self._flat(offset)).reshape(
            z.shape
        )
        parts = residuals.unbind(-1 - len(self.shape))
        return torch.stack(
            [kernel.log_density(part, self.shape) for kernel, part in zip(self.kernels.values(), parts, strict=True)]
        ).sum(0)

    def posterior(self, observations: GriddedObservations) -> tuple[Tensor, Tensor]:
        """Mean (d, *shape) and covariance (d * pixels, d * pixels) of z given linear observations y = A z + N(0, R).

        mean = E[z] + C A' (A C A' + R)^-1 (y - A E[z]) and C - C A' (A C A' + R)^-1 A C with C the prior covariance; the
        inverse of this covariance is (I - B)' K^-1 (I - B) + A' R^-1 A. This form needs no inverse of K or R, and only one
        solve as large as the number of values.

        Parameters
        ----------
        observations : GriddedObservations
            Of these nodes on this shape, by linear operators with Gaussian noise.

        Raises
        ------
        ValueError
            For observations of other nodes or another shape, by other operators or with other noise; or for too many pixels
            (see `covariance`).
        """
        observations = observations.to("cpu", torch.float64)
        if (observations.nodes, observations.shape) != (self.graph.nodes, self.shape):
            raise ValueError(
                f"the observations are of nodes {list(observations.nodes)} on shape {observations.shape}, the fields are "
                f"{list(self.graph.nodes)} on {self.shape}"
            )
        if not (observations.is_linear and observations.is_gaussian):
            raise ValueError(
                "an exact posterior needs linear operators and Gaussian noise: these observations have others"
            )
        values, units = observations.values, torch.eye(len(observations.values), dtype=torch.float64)
        operator, noise = observations.adjoint(units).flatten(1), observations.noise_times(units)
        covariance = self.covariance()
        seen = operator @ covariance
        factor = torch.linalg.cholesky(seen @ operator.mT + noise)
        white = torch.linalg.solve_triangular(factor, seen, upper=False)
        surprise = values - operator @ self.mean.flatten()
        shift = white.mT @ torch.linalg.solve_triangular(factor, surprise[:, None], upper=False)
        return self.mean + shift.reshape(self.mean.shape), covariance - white.mT @ white

    def __repr__(self) -> str:
        return f"GaussianFields({str(self.graph)!r}, shape={self.shape})"

    def _covariance_of_sites(self) -> Tensor:
        for node, kernel in self.kernels.items():
            if not isinstance(kernel, White):
                raise ValueError(f"the sites are not independent: the kernel of {node!r} is {kernel}, not White")
        noise = torch.tensor([kernel.variance for kernel in self.kernels.values()], dtype=torch.float64)
        return self.response * noise @ self.response.mT

    def _check_dense(self) -> None:
        rows = len(self.graph) * self.pixels
        if rows > MOST_DENSE:
            raise ValueError(
                f"a dense matrix of {len(self.graph)} nodes x {self.pixels} pixels is refused: at most {MOST_DENSE} rows "
                'are allowed; use draws, or joint("reflected")'
            )

    def _node_major(self, blocks: Tensor) -> Tensor:
        return blocks.reshape(len(self.graph) * self.pixels, -1)

    def _flat(self, z: Tensor) -> Tensor:
        return z.flatten(z.ndim - len(self.shape))


def checked_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape as ints: one or two positive sizes."""
    sizes = tuple(int(size) for size in shape)
    if len(sizes) not in (1, 2) or min(sizes) < 1:
        raise ValueError(f"the shape of a field is {shape}: give (n,) or (h, w), each at least 1")
    return sizes


def check_keys(what: str, given: Mapping[Any, Any], wanted: tuple[Any, ...], all_needed: bool = True) -> None:
    """Refuse a key that is not wanted, and (if all are needed) one that is wanted and not given."""
    article = "an" if what[0] in "aeiou" else "a"
    if unknown := [key for key in given if key not in wanted]:
        raise ValueError(f"{article} {what} is given for {unknown[0]!r}, which is not among {list(wanted)}")
    if all_needed and (missing := [key for key in wanted if key not in given]):
        raise ValueError(f"no {what} for {missing[0]!r}: give one for each of {list(wanted)}")
