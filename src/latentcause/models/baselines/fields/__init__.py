"""Other ways to the posterior of linked fields, with the interface of `SVGDM`: sampling, variational, node by node."""

from __future__ import annotations

from latentcause.models.baselines.fields.node_by_node import NodeByNode
from latentcause.models.baselines.fields.nuts import NUTS
from latentcause.models.baselines.fields.variational import VariationalFields

__all__ = ["NUTS", "NodeByNode", "VariationalFields"]
