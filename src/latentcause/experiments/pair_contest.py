"""Methods that learn from pairs, on systems whose truth is known: one run, and what came of it."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA, FastICA
from sklearn.linear_model import LinearRegression

from latentcause.data.intervention_pairs import InterventionPairs
from latentcause.datasets.pairs.image_pairs import pendulum_pairs
from latentcause.datasets.pairs.simulated_pairs import SimulatedPairs
from latentcause.datasets.pairs.system import pair_system
from latentcause.experiments.image_vae import ImageVAE
from latentcause.metrics.pairs import code_scores, pair_scores
from latentcause.models.dcrl import DCRL, TIMES
from latentcause.models.linear_pairs import LinearPairs
from latentcause.models.noisy_linear_pairs import NoisyLinearPairs

HELD_OUT = 8000
DCI_ROWS = 4000
EVALUATED = {"D": "disentanglement", "C": "completeness", "MCC": "correlation"}

# What is asked of `DCRL` in each case, beside its defaults; the Gaussian decoder gets the same.
SETTINGS: dict[str, dict[str, Any]] = {
    "nonlinear": {"steps": 4000, "width": 128},
    "pendulum": {
        "steps": 2500,
        "batch_size": 256,
        "width": 128,
        "directions": 256,
        "starts": 3,
        "mechanisms": "spline",
    },
}

Method = Callable[[int, Mapping[str, Any], int], Any]

MODELS: dict[str, Method] = {
    "LinearPairs": lambda m, settings, seed: LinearPairs(m, mechanisms=settings.get("mechanisms", "linear"), seed=seed),
    "NoisyLinearPairs": lambda m, settings, seed: NoisyLinearPairs(m, seed=seed),
    "DCRL": lambda m, settings, seed: DCRL(m, **settings, seed=seed),
    "DCRL, through the diffusion": lambda m, settings, seed: DCRL(m, **settings, guidance="diffusion", seed=seed),
    "DCRL, trajectory": lambda m, settings, seed: DCRL(m, **settings, code="trajectory", seed=seed),
    "DCRL, random start": lambda m, settings, seed: DCRL(m, **{**settings, "starts": 3}, start="random", seed=seed),
    "ILCM (Gaussian decoder)": lambda m, settings, seed: DCRL(
        m, **{**settings, "starts": 1}, decoder="gaussian", start="linear", seed=seed
    ),
    "dVAE": lambda m, settings, seed: DCRL(
        m, **settings, decoder="gaussian", context="none", start="random", seed=seed
    ),
    "beta-VAE": lambda m, settings, seed: DCRL(
        m, **settings, decoder="gaussian", paired=False, start="random", seed=seed
    ),
}

# Methods that see the codes of an `ImageVAE` in place of images, and what is asked of them in place of the case's settings:
# what is learned of a few codes is not soon learned by heart, and takes more steps.
ON_CODES: dict[str, dict[str, Any]] = {"ILCM (image VAE)": {"steps": 8000, "directions": None}}
MODELS["ILCM (image VAE)"] = MODELS["ILCM (Gaussian decoder)"]
SIMPLE = ("raw x", "PCA", "FastICA", "truth regressed on x")


def simulated(case: Mapping[str, Any], seed: int) -> tuple[SimulatedPairs, SimulatedPairs]:
    """Pairs to learn from, and held-out ones (never mismatched), of the system that a case and a seed make.

    A case has ``nodes``, ``pairs``, and settings of `pair_system` under ``system`` and of its ``draw`` under ``draw``; or
    ``images``: "pendulum", and ``size``.
    """
    if case.get("images") == "pendulum":
        drawn = pendulum_pairs(case["pairs"] + 2000, case["size"], seed=seed)
    else:
        system, how = pair_system(case["nodes"], seed=seed, **case.get("system", {})), case.get("draw", {})
        held_out = {name: value for name, value in how.items() if name != "wrong"}
        return system.draw(case["pairs"], seed=seed + 1, **how), system.draw(HELD_OUT, seed=seed + 2, **held_out)
    return drawn.subset(slice(case["pairs"])), drawn.subset(slice(case["pairs"], None))


def run(case: Mapping[str, Any], method: str, seed: int) -> dict[str, Any]:
    """Fit a method to a case and score it on held-out pairs: D, C, MCC (of the code before, and after the linear refit), targets,
    graph, counterfactuals, CPU-seconds of the fit."""
    data, held = simulated(case, seed)
    m = len(data.graph)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # idle and merged latents are in the row
        if method in SIMPLE:
            return _simple(method, data, held, m, seed)
        settings = {
            **SETTINGS.get(case.get("settings", ""), {}),
            **ON_CODES.get(method, {}),
            **case.get("model", {}),
        }
        start = time.process_time()
        if method in ON_CODES:
            data, held = _reduced(data, held, seed)
        model = MODELS[method](m, settings, seed).fit(data.pairs)
        seconds = time.process_time() - start
        row = {
            "cpu_s": seconds,
            **_scores(model.encode(held.pairs.before), held, seed),
            **asdict(pair_scores(model, held)),
        }
        if method in ON_CODES:
            row["counterfactual_r2"] = None  # it would be of codes, and the others' are of pixels
        if isinstance(model, DCRL):
            refit = _scores(model.encode(held.pairs.before, refit=True), held, seed)
            row |= {f"{name} refit": value for name, value in refit.items()}
            row |= {"loss": model.history_[-1]["train_loss"], "time": model.time_}
            if model.time_ is not None:
                row["by_time"] = {str(t): _scores(model.encode(held.pairs.before, t), held, seed) for t in TIMES}
    return {**row, "converged": model.converged_, "mixed": model.mixed_, "unhit": model.unhit_}


def _reduced(data: SimulatedPairs, held: SimulatedPairs, seed: int) -> tuple[SimulatedPairs, SimulatedPairs]:
    """Pairs of images as pairs of codes, of a VAE that is fitted to the first."""
    if not data.pairs.is_images:
        raise ValueError(f"{', '.join(ON_CODES)} takes images: choose another method for this case")
    vae = ImageVAE.fit(data.pairs.before, data.pairs.after, seed=seed)
    first, second = (
        replace(part, pairs=InterventionPairs(vae.encode(part.pairs.before), vae.encode(part.pairs.after)))
        for part in (data, held)
    )
    return first, second


def _simple(method: str, data: SimulatedPairs, held: SimulatedPairs, m: int, seed: int) -> dict[str, Any]:
    """What needs no pairs: the observations themselves, decompositions of them, and what they say of the truth where it is told."""
    start = time.process_time()
    before, x = (part.reshape(len(part), -1) for part in (data.pairs.before, held.pairs.before))
    if method == "raw x":
        code = x if x.shape[1] <= 4 * m else PCA(4 * m, random_state=seed).fit(before[:20_000]).transform(x)
    elif method == "truth regressed on x":  # of linear systems the limit, with errors of measurement or without
        code = LinearRegression().fit(before, data.factors_before).predict(x)
    elif method == "PCA":
        code = PCA(m, whiten=True, random_state=seed).fit(before).transform(x)
    else:
        before = before[:20_000]
        if data.pairs.is_images:  # its whitening finds the same directions, but decomposes all columns for it
            principal = PCA(m, random_state=seed).fit(before)
            before, x = principal.transform(before), principal.transform(x)
        code = FastICA(m, whiten="unit-variance", random_state=seed, max_iter=500).fit(before).transform(x)
    frame = pd.DataFrame(np.asarray(code), columns=[f"c{k}" for k in range(code.shape[1])])
    return {"cpu_s": time.process_time() - start, **_scores(frame, held, seed)}


def _scores(code: pd.DataFrame, held: SimulatedPairs, seed: int) -> dict[str, float]:
    found = asdict(code_scores(code, held.factors_before, seed=seed, rows=DCI_ROWS))
    return {short: found[name] for short, name in EVALUATED.items()}
