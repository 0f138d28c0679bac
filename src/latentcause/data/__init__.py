"""What a user brings, checked once, at the door."""

from __future__ import annotations

from latentcause.data.intervention_pairs import InterventionPairs
from latentcause.data.labelled_images import LabelledImages
from latentcause.data.moments import Moments
from latentcause.data.multi_domain import MultiDomainData
from latentcause.data.variables import Variables

__all__ = ["InterventionPairs", "LabelledImages", "Moments", "MultiDomainData", "Variables"]
