"""Counterfactual images of CausalDiffAE beside simple answers and the true ones, its codes, its sampler and its speed.

    python benchmarks/causal_diffae.py --seeds 3 --json out/causal_diffae.json
    python benchmarks/causal_diffae.py --config benchmarks/causal_diffae_quick.yaml --seeds 1      # digits, a minute or two
    python benchmarks/causal_diffae.py --part inversion --plot out/inversion.png

Parts: ``images`` (trains a model per set of images and seed; errors to the true counterfactual images, measured factors,
axioms, DCI), ``speed`` (CPU-seconds of training, counterfactuals and rendering), ``inversion`` (what DDIM inversion followed by
DDIM loses, against steps and refinements). The configuration names the sets, their sizes and the model's settings. Results are
kept in ``--work`` as they come, and training leaves checkpoints there: an interrupted run goes on where it stopped. After a
change of the program, remove ``journal.jsonl`` there. MorphoMNIST needs MNIST's file in ../shared/data/mnist or
LATENTCAUSE_DATA. Seeds start at 2000: none of them was used to choose a setting.

Simple answers: ``factual`` returns the image; ``pixel scaling`` multiplies it by the ratio of intensities that a causal model of
the labels implies; ``re-rendered`` redraws the factual picture itself by the rule that drew the images, with the
counterfactual factors: the ceiling for whoever sees only the picture.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import causal_diffae_tables as tables
import numpy as np
import pandas as pd
import torch
import yaml

import latentcause as lc
from latentcause.datasets import FactorImages
from latentcause.experiments.journal import Journal
from latentcause.metrics import FactorPredictor, composition, counterfactual_report, dci, train_factor_predictor
from latentcause.models.baselines.images import Factual, PixelScaling
from latentcause.writing import write_atomically

HERE = Path(__file__).resolve().parent
FIRST_SEED = 2000
CYCLES = (1, 10)
COMPONENTS = 10
TIMED_IMAGES, TIMED_COUNTERFACTUALS, TIMED_RENDERINGS = 1920, 64, 1000
INVERSION_STEPS, INVERSION_REFINEMENTS, INVERTED_IMAGES = (5, 10, 25, 50), (0, 1, 3, 5), 32
SAMPLING = ("guidance", "steps", "refinements")  # settings of the model that training does not depend on
MODES = {"labels observed": True, "image alone": False}
MODEL = "CausalDiffAE"
Task = dict[str, Any]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=["all", "images", "speed", "inversion"], default="all")
    parser.add_argument("--config", type=Path, default=HERE / "causal_diffae_20min.yaml")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    parser.add_argument("--json", type=Path, help="file for every single figure")
    parser.add_argument("--plot", type=Path, help="PNG file for the figure of part inversion")
    parser.add_argument(
        "--work", type=Path, default=HERE.parent / "out" / "causal_diffae", help="folder of checkpoints"
    )
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    config = yaml.safe_load(arguments.config.read_text(encoding="utf-8"))
    seeds = range(FIRST_SEED, FIRST_SEED + arguments.seeds)
    arguments.work.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {"config": config, "seeds": list(seeds)}
    if arguments.part in ("all", "images"):
        results["images"] = images_part(config, seeds, arguments.work, arguments.jobs)
    if arguments.part in ("all", "speed"):
        results["speed"] = {name: speed(name, settings) for name, settings in config["sets"].items()}
        tables.print_speed(results["speed"])
    if arguments.part in ("all", "inversion"):
        name, settings = next(iter(config["sets"].items()))
        results["inversion"] = inversion(task_of(name, settings, seeds[0]), arguments.work)
        tables.print_inversion(results["inversion"], arguments.plot)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        with write_atomically(arguments.json) as temporary:
            temporary.write_text(json.dumps(results, indent=1))
    return 0


# --- data and models -------------------------------------------------------------------------------------------------


def make(name: str, settings: Mapping[str, Any], n: int, seed: int, work: Path | None) -> FactorImages:
    """n images of a set."""
    if name == "morphomnist":
        shared = HERE.parents[1] / "shared" / "data"
        folder = None if "LATENTCAUSE_DATA" in os.environ else shared / "mnist"
        return lc.datasets.morphomnist(n, seed=seed, folder=folder, cache=work)
    if name == "pendulum":
        return lc.datasets.pendulum(n, settings["size"], seed=seed)
    return lc.datasets.digits(n, seed=seed)


@lru_cache(maxsize=1)
def halves(key: str, work: Path) -> tuple[FactorImages, FactorImages]:
    """Images to train on, and held-out ones, of a task."""
    task = json.loads(key)
    settings, seed = task["settings"], task["seed"]
    return make(task["set"], settings, settings["images"], seed, work).split(settings["held_out"], seed=seed)


@lru_cache(maxsize=1)
def fitted(key: str, work: Path) -> lc.CausalDiffAE:
    """The model of a task, trained here or taken from its checkpoint."""
    task = json.loads(key)
    known = training_of(task)
    name = f"{task['set']}-{task['seed']}-{hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:10]}"
    data, _ = halves(key, work)
    model = lc.CausalDiffAE(data.graph, seed=task["seed"], **task["settings"]["model"])
    return model.fit(data.images, checkpoint=work / f"{name}.pt", log=work / name)


@lru_cache(maxsize=1)
def trained_predictor(key: str, work: Path) -> FactorPredictor:
    """The judge of effectiveness, trained on images that the model was trained on too."""
    task = json.loads(key)
    rest, _ = halves(key, work)
    some = rest.images.subset(slice(task["settings"]["predictor_images"]))
    return train_factor_predictor(some, seed=task["seed"])


def actions(data: FactorImages, do: Mapping[str, Any], seed: int) -> dict[str, dict[str, np.ndarray]]:
    """A do() for each factor asked about: one value per image, from the factor's marginal or uniform in a range."""
    fresh = data.scm.to_frame(data.scm.sample(len(data), generator=seed + 500_000))
    rng = np.random.default_rng(seed)
    return {
        node: {node: fresh[node].to_numpy() if how == "marginal" else rng.uniform(*how, len(data))}
        for node, how in do.items()
    }


def task_of(name: str, settings: Mapping[str, Any], seed: int, **more: Any) -> Task:
    return {"set": name, "seed": seed, "settings": dict(settings), **more}


def key_of(task: Task) -> str:
    return json.dumps({name: task[name] for name in ("set", "seed", "settings")}, sort_keys=True)


def training_of(task: Task) -> Task:
    """What training depends on."""
    settings = {name: task["settings"].get(name) for name in ("images", "held_out", "size")}
    model = {name: value for name, value in task["settings"]["model"].items() if name not in SAMPLING}
    return {"set": task["set"], "seed": task["seed"], "settings": {**settings, "model": model}, "what": "training"}


# --- simple answers --------------------------------------------------------------------------------------------------


@dataclass
class Rerendered:
    """Draws the picture that it is given anew, with the factors that the true causal model says it would have.

    Factual factors are the labels, or else as measured and within the labels' range.
    """

    truth: FactorImages
    base_of: Callable[[np.ndarray], np.ndarray]

    def counterfactual(self, images: np.ndarray, do: Mapping[str, Any], labels: pd.DataFrame | None = None) -> Any:
        if labels is None:
            known = self.truth.images.labels
            labels = self.truth.measure(images).clip(known.min(), known.max(), axis=1)
        return self.truth.render(self.base_of(images), self.truth.scm.counterfactual(labels, do))


BASE_OF: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "morphomnist": lambda images: images[:, 0],
    "digits": lambda images: images[:, 0] / images[:, 0].max(axis=(1, 2), keepdims=True),
    "pendulum": lambda images: np.zeros((len(images), 0)),
}


def simple_answers(name: str, rest: FactorImages, truth: FactorImages, bounds: Any) -> dict[str, Any]:
    """What a model has to be better than, and what it can hardly be."""
    answers: dict[str, Any] = {"factual": Factual(rest.graph).fit(rest.images)}
    if "intensity" in rest.graph:
        answers["pixel scaling"] = PixelScaling(rest.graph, "intensity", bounds=bounds).fit(rest.images)
    return {**answers, "re-rendered": Rerendered(truth, BASE_OF[name])}


# --- images ----------------------------------------------------------------------------------------------------------


def images_part(config: Mapping[str, Any], seeds: range, work: Path, jobs: int) -> dict[str, Any]:
    """Train every model, then judge it; print the tables."""
    journal, results = Journal(work / "journal.jsonl"), {}
    models = [task_of(name, settings, seed) for name, settings in config["sets"].items() for seed in seeds]
    journal.complete([training_of(task) for task in models], partial(training, work=work), jobs)
    journal.complete([part for task in models for part in parts_of(task)], partial(judge, work=work), jobs)
    for name, settings in config["sets"].items():
        results[name] = [
            {
                "seed": task["seed"],
                "training": journal[training_of(task)],
                **{part["what"]: journal[part] for part in parts_of(task)},
            }
            for task in models
            if task["set"] == name
        ]
        tables.print_images(name, settings, config["column"], results[name])
    return results


def parts_of(task: Task) -> list[Task]:
    """What a trained model is asked, each kept in the journal by itself."""
    return [{**task, "what": what} for what in (*task["settings"]["do"], "composition", "dci")]


def training(task: Task, work: Path) -> dict[str, Any]:
    """CPU-seconds of the training (of the last part of it, where it was interrupted) and its last loss."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        halves(key_of(task), work)
        start = time.process_time()
        model = fitted(key_of(task), work)
    weights = sum(values.numel() for values in model.module_.parameters())
    return {"cpu_s": time.process_time() - start, "parameters": weights, "history": model.history_[-1]}


def judge(task: Task, work: Path) -> dict[str, Any]:
    """What one task asks for: a report on do() of a factor by every method, composition, or DCI of the code."""
    settings, seed = task["settings"], task["seed"]
    (rest, held), model = halves(key_of(task), work), fitted(key_of(task), work)
    if task["what"] == "dci":
        return codes(model, held, seed)
    truth = held.subset(slice(settings["judged"]))
    if task["what"] == "composition":
        few = truth.subset(slice(settings["composed"]))
        return {
            mode: {str(k): error for k, error in composition(model, few, CYCLES, observed=told).items()}
            for mode, told in MODES.items()
        }
    do = actions(truth, settings["do"], seed)[task["what"]]
    answers = {
        MODEL: model,
        **simple_answers(task["set"], rest, truth, task["settings"]["model"].get("bounds")),
    }
    predictor = trained_predictor(key_of(task), work)
    reports = {
        f"{name}, {mode}": counterfactual_report(answer, truth, do, observed=told, predictor=predictor)
        for name, answer in answers.items()
        for mode, told in MODES.items()
        if told or name in (MODEL, "re-rendered")
    }
    return {name: asdict(report) for name, report in reports.items()}


def codes(model: lc.CausalDiffAE, held: FactorImages, seed: int) -> dict[str, Any]:
    """DCI of the model's code, of the labels, and of principal components of the pixels, on all held-out images."""
    from sklearn.decomposition import PCA

    labels, flat = held.images.labels, held.images.pixels.reshape(len(held), -1)
    candidates = {
        f"{MODEL}, z": model.encode(held.images),
        "true labels": labels,
        f"PCA, {COMPONENTS} components": PCA(COMPONENTS, random_state=seed).fit_transform(flat),
    }
    scores = {name: dci(code, labels, seed=seed) for name, code in candidates.items()}
    return {
        name: {"D": score.disentanglement, "C": score.completeness, "I": score.informativeness, **score.by_factor}
        for name, score in scores.items()
    }


# --- speed -----------------------------------------------------------------------------------------------------------


def speed(name: str, settings: Mapping[str, Any]) -> dict[str, float]:
    """Seconds of this process (all threads) and of the clock, on a set that is small but of the same kind."""
    data = make(name, settings, min(TIMED_IMAGES, settings["images"]), FIRST_SEED, None)
    model = {**settings["model"], "seed": FIRST_SEED}
    seconds = []
    for epochs in (1, 3):  # their difference is free of the encoder's warm-up and of what is done once
        fresh = lc.CausalDiffAE(data.graph, **{**model, "epochs": epochs})
        fit_s, _ = timed(partial(fresh.fit, data.images))
        seconds.append(fit_s)
    few = data.subset(slice(TIMED_COUNTERFACTUALS))
    do = next(iter(actions(few, settings["do"], FIRST_SEED).values()))
    counterfactual_s, wall_s = timed(partial(fresh.counterfactual, few.images, do, few.images.labels))
    drawn = data.subset(slice(TIMED_RENDERINGS))
    render_s, _ = timed(partial(drawn.render, drawn.base, drawn.images.labels))
    missed = (drawn.measure(drawn.images.pixels) - drawn.images.labels).abs().mean()
    return {
        "training images per CPU-second": 2 * len(data) / (seconds[1] - seconds[0]),
        f"CPU-seconds of {len(few)} counterfactuals": counterfactual_s,
        f"seconds of {len(few)} counterfactuals": wall_s,
        "CPU-seconds of rendering 1,000 images": 1000 * render_s / len(drawn),
        **{f"rendering error, {node}": float(error) for node, error in missed.items()},
    }


def timed(function: Callable[[], Any]) -> tuple[float, float]:
    """CPU-seconds and seconds that a call takes."""
    cpu, wall = time.process_time(), time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        function()
    return time.process_time() - cpu, time.perf_counter() - wall


# --- sampler ---------------------------------------------------------------------------------------------------------


def inversion(task: Task, work: Path) -> list[dict[str, float]]:
    """L1 between images and what DDIM makes of their inversion, for numbers of steps and of refinements."""
    model, (_, held) = fitted(key_of(task), work), halves(key_of(task), work)
    before = {name: getattr(model, name) for name in ("steps", "refinements")}
    pixels = held.images.pixels[:INVERTED_IMAGES]
    code, rows = model.encode(pixels, blocks=True), []
    for refinements in INVERSION_REFINEMENTS:
        for steps in INVERSION_STEPS:
            model.set_params(steps=steps, refinements=refinements)
            error = float(np.abs(model.decode(code, model.invert(pixels), guidance=1.0) - pixels).mean())
            rows.append({"steps": steps, "refinements": refinements, "passes": steps * (refinements + 2), "l1": error})
    model.set_params(**before)
    return rows


if __name__ == "__main__":
    sys.exit(main())
