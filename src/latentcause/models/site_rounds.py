"""Scores of independent sites, learned from observations of the sites where no clean fields are known."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from latentcause.data.gridded_observations import GriddedObservations
from latentcause.progress import progress
from latentcause.training import resolve_device

if TYPE_CHECKING:
    from latentcause.models.svgdm import SVGDM

LEAST_DRAWS, SITES = 8, 16_384  # of the posterior in each round: fields, and sites in all of them


def learn_from_sites(
    model: SVGDM, observations: GriddedObservations, checkpoint: Path | None, log: Path | None
) -> None:
    """Fit a model whose scores are learned from draws of its own posterior, round by round; its ``prior_`` are the last of these.

    Expectation maximisation with diffusions (Rozet et al., Learning diffusion priors from observations by expectation
    maximization, 2024): draws of q_k(z | y), all sites together, are what q_{k+1}(z) is learned from. It begins with the
    moments of the prior's draws. The model's ``rounds`` are gone through with the moments alone, each of which is the exact
    M step of Gaussian sites; and then, where scores are to be learned, as many with networks. All rounds have the same
    noise, so that they settle. Networks keep checkpoints under the name of ``checkpoint`` and the number of the round.

    Raises
    ------
    ValueError
        For a negative number of rounds, and what `SVGDM.fit` refuses.
    """
    if model.rounds < 0:
        raise ValueError(f"rounds={model.rounds}: give 0 or more")
    settings = model.get_params(deep=False) | {"rounds": 0}
    found = type(model)(**settings | {"scores": "gaussian"}).fit(observations)
    kinds = ["gaussian"] * model.rounds + ["learned"] * (model.rounds if model.scores == "learned" else 0)
    n = max(LEAST_DRAWS, math.ceil(SITES / math.prod(observations.shape)))
    with progress("learning from sites", len(kinds), "round") as report:
        for k, kind in enumerate(kinds, start=1):
            generator = torch.Generator(resolve_device(model.device)).manual_seed(model.seed)
            z = found.sampled(n, generator, observations)[0].double()
            own = None if checkpoint is None else checkpoint.with_name(f"{checkpoint.name}.{k}")
            found = type(model)(**settings | {"scores": kind, "prior": z}).fit(observations, checkpoint=own, log=log)
            report(k, k)
    model.prior_, model.joint_, model.scores_ = found.prior_, found.joint_, found.scores_
    model.history_, model.observations_ = found.history_, observations
