"""Networks: what diffusion models and encoders are made of."""

from latentcause.networks.conditioning import Conditioner
from latentcause.networks.encoder import ImageEncoder
from latentcause.networks.field_network import FieldNetwork
from latentcause.networks.mlp import ScoreMLP
from latentcause.networks.unet import UNet

__all__ = ["Conditioner", "FieldNetwork", "ImageEncoder", "ScoreMLP", "UNet"]
