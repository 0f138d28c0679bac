"""ILCM's own code (Brehmer et al. 2022) on the pairs of ``dcrl.py --case linear``: what its authors' training finds there.

    git clone https://github.com/Qualcomm-AI-research/weakly-supervised-causal-representation-learning ilcm
    pip install hydra-core==1.3.2 && pip install --no-deps nflows==0.14 umnn
    python benchmarks/dcrl_ilcm.py --ilcm ilcm --seeds 3 --json out/dcrl_ilcm.json
    python benchmarks/dcrl_ilcm.py --ilcm ilcm --n 5 --steps 140670

Model, losses, schedules and training loop are imported from the clone, settings are read from its ``config/scaling_ilcm``: encoder,
decoder and solution functions of 2 x 64 units, batch 64, Adam at 3e-4 down a cosine three times, 90 epochs in phases (10 without
interventions, then projected; their likelihood from the 30th, hard targets from the 60th). Their epoch is 1563 steps; here it is a
90th of ``--steps``, so that every schedule keeps its share of the training. D, C, MCC and targets are those of ``dcrl.py``, on the
same held-out pairs; CPU-seconds are of their training alone. Medians over seeds, with the range.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch
from dcrl import FIRST_SEED, PAIRS
from torch import Tensor

from latentcause.console import show_table
from latentcause.datasets.pairs.simulated_pairs import SimulatedPairs
from latentcause.experiments.journal import Journal, Task
from latentcause.experiments.pair_contest import _scores, simulated
from latentcause.metrics.pairs import matched_latents
from latentcause.writing import write_atomically

EPOCHS = 90
COLUMNS = {"D": "D", "C": "C", "MCC": "MCC", "target_accuracy": "targets", "cpu_s": "CPU-s"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ilcm", type=Path, required=True, help="clone of the authors' repository")
    parser.add_argument("--n", type=int, nargs="+", default=[5, 10], help="numbers of variables")
    parser.add_argument("--steps", type=int, help="of training (default: 13,500 up to 5 variables, else 7,200)")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    parser.add_argument("--json", type=Path, help="file for every single figure")
    parser.add_argument("--work", type=Path, default=Path("out/dcrl_ilcm"), help="folder of results as they come")
    arguments = parser.parse_args()
    if arguments.steps is not None and (arguments.steps < EPOCHS or arguments.steps % EPOCHS):
        parser.error(f"--steps: a multiple of {EPOCHS}, their number of epochs")
    torch.set_num_threads(1)
    arguments.work.mkdir(parents=True, exist_ok=True)
    journal, table, found = Journal(arguments.work / "journal.jsonl"), [], []
    seeds = range(FIRST_SEED, FIRST_SEED + arguments.seeds)
    for n in arguments.n:
        steps = arguments.steps or (13_500 if n <= 5 else 7_200)
        tasks = [{"n": n, "steps": steps, "seed": seed} for seed in seeds]
        journal.complete(tasks, partial(one, arguments.ilcm))
        runs = [journal[task] for task in tasks]
        table.append([n, steps, *(spread([run[key] for run in runs], 1 if key == "cpu_s" else 3) for key in COLUMNS)])
        found.append({"n": n, "steps": steps, "seeds": list(seeds), "runs": runs})
    title = f"ILCM, the authors' code, median over {arguments.seeds} seeds (range)"
    show_table(title, ["n", "steps", *COLUMNS.values()], table)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        with write_atomically(arguments.json) as temporary:
            temporary.write_text(json.dumps(found, indent=1))
    return 0


def one(clone: Path, task: Task) -> dict[str, Any]:
    """Train their model on a system of ``dcrl.py``, and score it on its held-out pairs."""
    scaling = theirs(clone)
    from hydra import compose, initialize_config_dir

    data, held = simulated({"nodes": task["n"], "pairs": PAIRS}, task["seed"])
    ours = [f"data.dim_z={task['n']}", f"training.epochs={EPOCHS}", "training.device=cpu"]
    # Validation and saving are off: they are no part of training.
    quiet = ["general.verbose=false", "training.validate_every_n_steps=0", "training.save_model_every_n_steps=0"]
    with initialize_config_dir(str((clone / "config").resolve()), version_base="1.1"):
        cfg = compose("scaling_ilcm", overrides=[*ours, *quiet])
    torch.manual_seed(task["seed"])  # as they do where an experiment begins
    np.random.seed(task["seed"])  # noqa: NPY002
    model = scaling.create_model(cfg)
    batches = Batches(data, cfg.training.batchsize, task["steps"] // EPOCHS)
    # At each step their metrics try all permutations of up to 5 latents, for the log only: of more latents they try none.
    unlogged = scaling.VAEMetrics(dim_z=task["n"] + 5)
    with (
        patch.object(scaling, "load_dataset", lambda *_: None),
        patch.object(scaling, "DataLoader", lambda *_, **__: batches),
        patch.object(scaling, "VAEMetrics", lambda **_: unlogged),
    ):
        start = time.process_time()
        history, _ = scaling.train(cfg, model)
        seconds = time.process_time() - start
    model.eval()
    with torch.no_grad():
        before, after = tensors(held)
        columns = [f"c{k}" for k in range(task["n"])]
        code = pd.DataFrame(model.encode_to_causal(before).numpy(), columns=columns)
        hit = model.infer_intervention(before, after)[0].numpy()
    # Latents stand for the variables that they are matched to, as in `latentcause.metrics.pairs.pair_scores`.
    latent_of = matched_latents(code, held.factors_before)
    right = np.array(["none", *columns])[hit] == np.array([latent_of.get(str(name), name) for name in held.targets])
    rest = {"target_accuracy": float(right.mean()), "cpu_s": seconds, "loss": float(np.mean(history["loss"][-1000:]))}
    return {**_scores(code, held, task["seed"]), **rest}


def theirs(clone: Path) -> Any:
    """The module of their experiment with linear systems of growing size."""
    if str(clone.resolve()) not in sys.path:
        sys.path.insert(0, str(clone.resolve()))
        # They need mlflow for logs and seaborn for pictures only: in their place stand modules that do nothing.
        log = ModuleType("mlflow")
        log.log_metric = lambda *_, **__: None  # type: ignore[attr-defined]
        sys.modules.update({"mlflow": log, "seaborn": ModuleType("seaborn")})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a version of hydra's that they leave open
        from experiments import scaling
    torch.optim.Adam([torch.zeros(1)])  # the first optimiser of a process loads half of torch: not on their clock
    return scaling


class Batches:
    """In place of their loader: an epoch of so many steps, which goes on in the shuffled pairs where the last one stopped.

    True variables and targets, which theirs hands out too (for the log), are blank here.
    """

    def __init__(self, data: SimulatedPairs, size: int, steps: int) -> None:
        self.pairs, self.size, self.steps = tensors(data), size, steps
        self.left = torch.empty(0, dtype=torch.long)

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        for _ in range(self.steps):
            if len(self.left) < self.size:
                self.left = torch.randperm(len(self.pairs[0]))
            rows, self.left = self.left[: self.size], self.left[self.size :]
            before, after = (part[rows] for part in self.pairs)
            blank = torch.zeros_like(before)
            yield before, after, blank, blank, torch.zeros(self.size, dtype=torch.long), blank


def tensors(data: SimulatedPairs) -> list[Tensor]:
    return [torch.tensor(part, dtype=torch.float32) for part in (data.pairs.before, data.pairs.after)]


def spread(values: list[float], digits: int) -> str:
    around = f" ({min(values):.{digits}f}-{max(values):.{digits}f})" if len(values) > 1 else ""
    return f"{np.median(values):.{digits}f}{around}"


if __name__ == "__main__":
    raise SystemExit(main())
