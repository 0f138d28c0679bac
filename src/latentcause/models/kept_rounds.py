"""The file from which interrupted rounds of fitting a prior go on."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from latentcause.data.gridded_observations import GriddedObservations
from latentcause.fields import GaussianFields, Kernel
from latentcause.writing import write_atomically

if TYPE_CHECKING:
    from latentcause.models.svgdm import SVGDM

FORMAT = 1

Memory = Iterable[tuple[np.ndarray, np.ndarray]]


class KeptRounds:
    """State of the rounds of one fit, as JSON whose numbers are read back to the last digit.

    Parameters
    ----------
    checkpoint : Path
        The file's name, but for ``.rounds`` at its end.
    model : SVGDM
    observations : GriddedObservations
        Of the fit that the file belongs to.
    """

    def __init__(self, checkpoint: Path, model: SVGDM, observations: GriddedObservations) -> None:
        self.path = checkpoint.with_name(f"{checkpoint.name}.rounds")
        self._rounds, self._fit = model.rounds, _identity(model, observations)

    def write(self, done: int, settled: bool, prior: GaussianFields, memory: Memory) -> None:
        """Rounds that are done, whether they have settled, the prior after them, and Anderson's memory."""
        state = {
            "format": FORMAT,
            "fit": self._fit,
            "done": done,
            "settled": settled,
            "prior": _numbers(prior),
            "memory": [[point.tolist(), image.tolist()] for point, image in memory],
        }
        with write_atomically(self.path) as temporary:
            temporary.write_text(json.dumps(state), encoding="utf-8")

    def read(self, like: GaussianFields) -> tuple[int, bool, GaussianFields, list[tuple[np.ndarray, np.ndarray]]]:
        """What was written, the prior one of the same graph and kinds of kernels as ``like``.

        Raises
        ------
        ValueError
            For a file that is damaged, of another version or another fit, or of more rounds than this fit has.
        """
        try:
            state: dict[str, Any] = json.loads(self.path.read_text(encoding="utf-8"))
            done, settled, fit = state["done"], state["settled"], state["fit"]
            version, numbers, memory = state["format"], state["prior"], state["memory"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"checkpoint {self.path.name} is damaged ({error}): delete it to start anew") from None
        if version != FORMAT:
            raise ValueError(
                f"checkpoint {self.path.name} is of another version of latentcause: delete it to start anew"
            )
        for what, value in self._fit.items():
            if fit.get(what) != value:
                raise ValueError(
                    f"checkpoint {self.path.name} is of another fit ({what}: {fit.get(what)}, not {value}): delete it, or name "
                    "another file"
                )
        if done > self._rounds:
            raise ValueError(
                f"checkpoint {self.path.name} holds {done} rounds, this fit has {self._rounds}: delete it, or give as many"
            )
        pairs = [(np.array(point), np.array(image)) for point, image in memory]
        return done, settled, _fields(numbers, like), pairs


def _identity(model: SVGDM, observations: GriddedObservations) -> dict[str, Any]:
    """What rounds depend on; of operators and noises what they make of one field, to the digits that all machines agree on."""
    prior = model.prior
    assert isinstance(prior, GaussianFields)
    probe = torch.randn(
        (1, len(model.graph), *observations.shape), generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    observations = observations.to("cpu", torch.float64)
    settings = ("form", "sees", "guidance", "steps", "eta", "seed")
    return {
        "edges": [list(edge) for edge in model.graph.edges],
        "shape": list(observations.shape),
        "weights": list(prior.weights.values()),
        "intercepts": list(prior.intercepts.values()),
        "kernels": [repr(kernel) for kernel in prior.kernels.values()],
        "values": zlib.crc32(observations.values.numpy().tobytes()),
        "cells": f"{float(observations.apply(probe).square().sum()):.6g}",
        "noise": f"{float(observations.log_likelihood(probe)):.6g}",
        **{name: getattr(model, name) for name in settings},
    }


def _numbers(prior: GaussianFields) -> dict[str, Any]:
    return {
        "weights": list(prior.weights.values()),
        "intercepts": list(prior.intercepts.values()),
        "kernels": [[kernel.variance, getattr(kernel, "length", None)] for kernel in prior.kernels.values()],
    }


def _fields(numbers: dict[str, Any], like: GaussianFields) -> GaussianFields:
    weights = dict(zip(like.weights, numbers["weights"], strict=True))
    intercepts = dict(zip(like.intercepts, numbers["intercepts"], strict=True))
    kernels: dict[str, Kernel] = {}
    for (node, kernel), (variance, length) in zip(like.kernels.items(), numbers["kernels"], strict=True):
        changed = {"variance": variance} if length is None else {"variance": variance, "length": length}
        kernels[node] = replace(kernel, **changed)  # type: ignore[type-var]
    return GaussianFields(like.graph, weights, kernels, like.shape, intercepts)
