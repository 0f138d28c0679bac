"""Forecasts of the next day's fire mask, for fires in the layout of WildfireSpreadTS."""

from latentcause.models.baselines.fires.forecaster import FireForecaster
from latentcause.models.baselines.fires.logistic import LogisticFire
from latentcause.models.baselines.fires.persistence import PersistentFire
from latentcause.models.baselines.fires.unet import FireUNet

__all__ = ["FireForecaster", "FireUNet", "LogisticFire", "PersistentFire"]
