"""Other ways to the posterior of linked fields, with the interface of `SVGDM`: sampling, variational, node by node."""

from __future__ import annotations

from latentcause.models.baselines.fields.ground_failure import GroundFailure, area_of_chance, chance_of_area
from latentcause.models.baselines.fields.hazard_network import HazardNetwork, HazardWeights
from latentcause.models.baselines.fields.node_by_node import NodeByNode
from latentcause.models.baselines.fields.nuts import NUTS
from latentcause.models.baselines.fields.shared_latent import JMVAE, MMVAE, MoPoE, SharedLatent
from latentcause.models.baselines.fields.shared_latent_network import SharedLatentNetwork
from latentcause.models.baselines.fields.variational import VariationalFields
from latentcause.models.baselines.fields.vbci import VBCI

__all__ = [
    "JMVAE",
    "MMVAE",
    "NUTS",
    "VBCI",
    "GroundFailure",
    "HazardNetwork",
    "HazardWeights",
    "MoPoE",
    "NodeByNode",
    "SharedLatent",
    "SharedLatentNetwork",
    "VariationalFields",
    "area_of_chance",
    "chance_of_area",
]
