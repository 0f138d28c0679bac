"""Tables whose columns depend on each other through common causes only: what tests of independence are tried on."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd


def siblings(n: int, kinds: str, seed: int, causes: str = "zc") -> pd.DataFrame:
    """Columns v0, v1, ... that are independent given their common causes: "z" is a number, "c" a category, both act nonlinearly.

    ``kinds`` has one character for each column: "n" a number, "2" or "3" a category of so many levels.
    """
    rng = np.random.default_rng(seed)
    z, c = rng.normal(size=n), rng.integers(0, 3, n)
    table: dict[str, np.ndarray] = {}
    for j, kind in enumerate(kinds):
        phase = 0.3 * j
        mean = (np.sin(1.5 * z + phase) + 0.3 * z**2) * ("z" in causes) + 0.8 * (c == j % 3) * ("c" in causes)
        table[f"v{j}"] = response(mean, kind, rng)
    if "z" in causes:
        table["z"] = z
    if "c" in causes:
        table["c"] = np.array(["red", "green", "blue"])[c]
    return pd.DataFrame(table)


def response(mean: np.ndarray, kind: str, rng: np.random.Generator) -> np.ndarray:
    """A number with this mean, or a category cut from it at its quantiles; either way noisy."""
    value = mean + rng.logistic(size=len(mean))
    if kind == "n":
        return value
    cuts = np.quantile(value, np.arange(1, int(kind)) / int(kind))
    return np.array(["low", "mid", "top"])[np.searchsorted(cuts, value)]


def sibling_tests(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x, y and given of the tests of all pairs of siblings, given all their causes."""
    children = [j for j, name in enumerate(table.columns) if name.startswith("v")]
    x, y = np.array(list(combinations(children, 2))).T
    causes = np.arange(len(children), table.shape[1])
    return x, y, np.tile(causes, (len(x), 1))
