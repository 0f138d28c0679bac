"""StructuralFields: a causal system of fields with any mechanisms, and Gaussian, heavy-tailed or skewed noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from latentcause.fields.gaussian_fields import check_keys, checked_shape
from latentcause.fields.kernels import Kernel
from latentcause.fields.noises import PixelNoise
from latentcause.graph import CausalGraph

FieldNoise = Kernel | PixelNoise
"""What the noise of a node may be."""


class StructuralFields:
    """z_i = m_i(z_pa(i)) + e_i for all nodes i, with independent noise fields e_i.

    Field tensors are (..., d, *shape), nodes in ``graph.nodes`` order.

    Parameters
    ----------
    graph : CausalGraph
    mechanisms : mapping from node to callable
        One for every node with parents, called with one field (..., *shape) for each parent, in the order of
        ``graph.parents(node)``: ``lambda a, b: torch.tanh(a) * b``. Returns (..., *shape), and is made of torch operations
        where gradients are wanted.
    noises : mapping from node to Kernel or PixelNoise
    shape : tuple of int
        Of one field: (sites,), (n,) or (h, w).

    Raises
    ------
    ValueError
        For a node without noise, a node with parents but no mechanism, a mechanism of a node without parents, an unknown
        node, or a shape that is not one or two positive sizes.

    Examples
    --------
    >>> from latentcause.fields import SquaredExponential, StudentNoise
    >>> graph = CausalGraph.from_string("rain -> flood")
    >>> noises = {"rain": SquaredExponential(2.0), "flood": StudentNoise(5.0, 0.1)}
    >>> fields = StructuralFields(graph, {"flood": torch.relu}, noises, (32,))
    >>> z = fields.sample(3, torch.Generator().manual_seed(0))
    >>> z.shape, fields.log_density(z).shape
    (torch.Size([3, 2, 32]), torch.Size([3]))
    """

    def __init__(
        self,
        graph: CausalGraph,
        mechanisms: Mapping[str, Callable[..., Tensor]],
        noises: Mapping[str, FieldNoise],
        shape: tuple[int, ...],
    ) -> None:
        check_keys("mechanism", mechanisms, tuple(node for node in graph.nodes if graph.parents(node)))
        check_keys("noise", noises, graph.nodes)
        self.graph, self.shape = graph, checked_shape(shape)
        self.mechanisms = {node: mechanisms[node] for node in graph.nodes if node in mechanisms}
        self.noises = {node: noises[node] for node in graph.nodes}

    def predict(self, noise: Tensor) -> Tensor:
        """The fields z (..., d, *shape) that the noise e (..., d, *shape) leads to."""
        fields: dict[str, Tensor] = {}
        parts = dict(zip(self.graph.nodes, self._split(noise), strict=True))
        for node in self.graph.topological_order:
            fields[node] = self._mean(node, fields, parts[node]) + parts[node]
        return torch.stack([fields[node] for node in self.graph.nodes], self._axis)

    def abduct(self, z: Tensor) -> Tensor:
        """The noise e (..., d, *shape) behind the fields z (..., d, *shape): the inverse of `predict`, of unit Jacobian."""
        fields = dict(zip(self.graph.nodes, self._split(z), strict=True))
        noise = [fields[node] - self._mean(node, fields, fields[node]) for node in self.graph.nodes]
        return torch.stack(noise, self._axis)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """n draws of all nodes: (n, d, *shape), float64, on the generator's device."""
        noise = [own.sample(n, self.shape, generator) for own in self.noises.values()]
        return self.predict(torch.stack(noise, self._axis))

    def log_density(self, z: Tensor) -> Tensor:
        """log p(z) = sum_i log p(e_i) in nats: (..., d, *shape) -> (...); differentiable.

        Raises
        ------
        ValueError
            For a kernel without a density at this shape: see `Kernel.log_density`.
        """
        parts = self._split(self.abduct(z))
        return torch.stack(
            [own.log_density(part, self.shape) for own, part in zip(self.noises.values(), parts, strict=True)]
        ).sum(0)

    def __repr__(self) -> str:
        return f"StructuralFields({str(self.graph)!r}, shape={self.shape})"

    @property
    def _axis(self) -> int:
        return -1 - len(self.shape)

    def _split(self, z: Tensor) -> tuple[Tensor, ...]:
        wanted = (len(self.graph), *self.shape)
        if tuple(z.shape[self._axis :]) != wanted:
            raise ValueError(f"fields of shape {tuple(z.shape)} for a system of fields (..., {str(wanted)[1:]}")
        return z.unbind(self._axis)

    def _mean(self, node: str, fields: Mapping[str, Tensor], like: Tensor) -> Tensor:
        """m_i at the parents' fields; 0 for a node without parents."""
        if node not in self.mechanisms:
            return torch.zeros_like(like)
        mean = self.mechanisms[node](*[fields[parent] for parent in self.graph.parents(node)])
        if mean.shape != like.shape:
            raise ValueError(
                f"the mechanism of {node!r} returned shape {tuple(mean.shape)} for fields of shape {tuple(like.shape)}"
            )
        return mean
