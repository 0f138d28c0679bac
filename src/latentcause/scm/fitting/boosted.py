"""Gradient-boosted trees: mechanisms of any shape, in steps, with all interactions of the parents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from latentcause.scm.fitting.table import Table, residual_noise
from latentcause.scm.mechanisms import Mechanism
from latentcause.scm.trees import TreeMechanism

SETTINGS = {"max_iter": 1000, "learning_rate": 0.1, "max_leaf_nodes": 8, "min_samples_leaf": 10, "early_stopping": True}
"""Of scikit-learn's HistGradientBoostingRegressor. Smooth mechanisms need smaller trees, and more, than its defaults."""


def fit(tables: Sequence[Table], noise: str, seed: int) -> dict[str, Mechanism]:
    """Histogram-based gradient boosting of every node on its parents (Friedman 2001; Ke et al. 2017), by scikit-learn.

    Trees of up to 8 leaves are added until a tenth of the rows, drawn with ``seed``, is predicted no better by 10 more
    of them; there are 1000 at most.
    """
    return {table.node: _fit_one(table, noise, seed) for table in tables}


def boxes_of(regressor: Any) -> tuple[tuple[np.ndarray, ...], np.ndarray, np.ndarray, float]:
    """The thresholds, boxes, values and intercept of a `TreeMechanism` that predicts as this fitted regressor does.

    ``regressor`` is a HistGradientBoostingRegressor with squared loss and numeric columns. Each leaf is a box: a split
    of a node's box at a threshold ends its left half, and starts its right half, one cell after the threshold's own.
    """
    trees = [predictor.nodes for (predictor,) in regressor._predictors]
    splits = np.concatenate([tree[tree["is_leaf"] == 0] for tree in trees])
    thresholds = tuple(
        np.unique(splits["num_threshold"][splits["feature_idx"] == k]) for k in range(regressor.n_features_in_)
    )
    whole = np.array([np.zeros(len(thresholds), dtype=np.int64), [len(edges) + 1 for edges in thresholds]])
    boxes, values = [], []
    for tree in trees:
        pending = [(tree[0], whole)]
        while pending:
            node, box = pending.pop()
            if node["is_leaf"]:
                boxes.append(box)
                values.append(node["value"])
                continue
            parent, left, right = node["feature_idx"], box.copy(), box.copy()
            left[1, parent] = right[0, parent] = np.searchsorted(thresholds[parent], node["num_threshold"]) + 1
            pending += [(tree[node["left"]], left), (tree[node["right"]], right)]
    return thresholds, np.array(boxes), np.array(values), float(np.ravel(regressor._baseline_prediction)[0])


def _fit_one(table: Table, noise: str, seed: int) -> TreeMechanism:
    from sklearn.ensemble import HistGradientBoostingRegressor

    regressor = HistGradientBoostingRegressor(**SETTINGS, random_state=seed).fit(table.parents, table.values)
    thresholds, boxes, values, intercept = boxes_of(regressor)
    trees = TreeMechanism(thresholds, boxes, values, intercept)
    residuals = table.values - trees.mean(torch.from_numpy(table.parents)).numpy()
    return TreeMechanism(
        thresholds,
        boxes,
        values,
        intercept + float(residuals.mean()),
        noise=residual_noise(table.node, residuals, noise),
    )
