"""Landslides of the 2018 Hokkaido earthquake, beside those mapped in the west half."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from latentcause.datasets.hokkaido import load_hokkaido
from latentcause.experiments.checks import Table
from latentcause.experiments.journal import Result, Task
from latentcause.metrics import reliability
from latentcause.models.causes_of_change import CausesOfChange

FIGURES = ("AUROC", "AP", "calibration error", "Brier")
BASELINES = {
    "hazard map known before": "prior_landslide",
    "map of change": "damage_proxy",
    "VBCI, as published": "vbci_landslide",
}
MODEL = "CausesOfChange"


def mapped_landslides(task: Task) -> Result:
    """Figures of each method's probabilities, over the pixels of the west; no mapped landslide is used in fitting.

    A task holds the ``seed``, and the ``folds`` and ``epochs`` of the model.

    Raises
    ------
    FileNotFoundError
        Without the rasters.
    ImportError
        Without the extra ``geo``.
    """
    maps = load_hokkaido()
    west = maps.truth.notnull().to_numpy()
    truth = maps.truth.to_numpy()[west]
    rows = {name: judged(maps.rasters[raster].to_numpy()[west], truth) for name, raster in BASELINES.items()}
    start = time.process_time()
    model = CausesOfChange(maps.graph, folds=task["folds"], epochs=task["epochs"], seed=task["seed"])
    model.fit(maps.observations())
    rows[MODEL] = judged(model.probabilities()["landslide"].to_numpy()[west], truth)
    return {"rows": rows, "cpu_s": time.process_time() - start, "mapped": float(truth.mean())}


def judged(probability: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    """The figures of probabilities (pixels,) of what is true (pixels,)."""
    calibration = reliability(probability, truth)
    found = (
        roc_auc_score(truth, probability),
        average_precision_score(truth, probability),
        calibration.calibration_error,
        calibration.brier,
    )
    return dict(zip(FIGURES, map(float, found), strict=True))


def table(rows: Mapping[str, Mapping[str, float]]) -> Table:
    """A row for each method."""
    cells = [[name, *(f"{row[figure]:.3f}" for figure in FIGURES)] for name, row in rows.items()]
    return ["landslides", *FIGURES], cells
