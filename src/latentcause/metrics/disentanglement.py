"""DCI: whether each number of a code stands for one factor, each factor for one number, and the code for all factors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from latentcause.data.labelled_images import split_rows
from latentcause.data.variables import Variables

FEWEST_ROWS = 40


@dataclass(frozen=True, eq=False)
class DCI:
    """Disentanglement, completeness and informativeness of a code; no units, 1 is perfect in each.

    Attributes
    ----------
    disentanglement : float
        Of the code: mean over its columns, weighted by their importance, of 1 - H(P_i) with P_i the shares of the factors
        in column i's importance, and entropies to the base of the number of factors.
    completeness : float
        Mean over the factors of 1 - H(Q_j), with Q_j the shares of the columns in what predicts factor j.
    informativeness : float
        Mean of ``by_factor``.
    by_factor : dict from factor to float
        1 - error / error of the mean on held-out rows: squared errors of numbers, shares of wrong levels (against the
        commonest level) of categories. Not above 1; below 0 where the code misleads.
    importances : DataFrame
        A row for each column of the code, a column for each factor; columns add up to 1, or are 0 where the code says
        nothing of a factor.
    """

    disentanglement: float
    completeness: float
    informativeness: float
    by_factor: dict[str, float]
    importances: pd.DataFrame


def dci(codes: Any, factors: Any, *, seed: int, held_out: float = 0.25) -> DCI:
    """Score a code against the factors that it should tell apart (Eastwood and Williams, A framework for the quantitative
    evaluation of disentangled representations, ICLR 2018, section 2).

    Gradient-boosted trees (100 of depth 3) predict each factor from the whole code; the importance of a column is its share
    in their decrease of impurity. Trees see no difference between a column and a monotone function of it. Where factors go
    together, few rows let trees take one for the other: score the factors themselves as a code beside, as a ceiling.

    Parameters
    ----------
    codes, factors : DataFrame, array (n, columns) or Variables
        Row by row of the same images. Two or more columns each.
    seed : int
        Of the split, and of the trees' order of ties.
    held_out : float
        Share of the rows that scores informativeness.

    Raises
    ------
    ValueError
        For unequal or too few rows, one column, a factor that does not vary, and what `Variables.read` refuses.
    """
    code, truth = Variables.read(codes), Variables.read(factors)
    if len(code) != len(truth) or len(code) < FEWEST_ROWS:
        raise ValueError(f"{len(code)} rows of codes and {len(truth)} of factors: give as many, {FEWEST_ROWS} or more")
    for what, table in (("codes", code), ("factors", truth)):
        if len(table.names) < 2:
            raise ValueError(f"{what} have one column: telling apart needs two or more")
    still = np.ptp(truth.values, axis=0) == 0
    if still.any():
        raise ValueError(f"factor {truth.names[int(still.argmax())]!r} does not vary: no code can predict it")
    rest, held = split_rows(len(code), held_out, seed)
    importances, by_factor = np.empty((len(code.names), len(truth.names))), {}
    for j, name in enumerate(truth.names):
        importances[:, j], by_factor[name] = _predicted(
            code.values, truth.values[:, j], name in truth.levels, rest, held, seed
        )
    weights = importances.sum(axis=1) / max(importances.sum(), np.finfo(float).tiny)
    return DCI(
        disentanglement=float(weights @ _concentration(importances)),
        completeness=float(_concentration(importances.T).mean()),
        informativeness=float(np.mean(list(by_factor.values()))),
        by_factor=by_factor,
        importances=pd.DataFrame(importances, index=list(code.names), columns=list(truth.names)),
    )


def _predicted(
    code: np.ndarray, factor: np.ndarray, is_category: bool, rest: np.ndarray, held: np.ndarray, seed: int
) -> tuple[np.ndarray, float]:
    """Importances of the columns, and informativeness on the held-out rows."""
    from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor

    kind = GradientBoostingClassifier if is_category else GradientBoostingRegressor
    trees = kind(random_state=seed).fit(code[rest], factor[rest])
    predicted, actual = trees.predict(code[held]), factor[held]
    if is_category:
        levels, counts = np.unique(factor[rest], return_counts=True)
        error, baseline = (predicted != actual).mean(), (levels[counts.argmax()] != actual).mean()
    else:
        error, baseline = np.square(predicted - actual).mean(), np.square(factor[rest].mean() - actual).mean()
    return trees.feature_importances_, float(1 - error / max(baseline, np.finfo(float).tiny))


def _concentration(weights: np.ndarray) -> np.ndarray:
    """1 - entropy (to the base of the number of columns) of each row's shares; 0 for a row of zeros."""
    total = weights.sum(axis=1, keepdims=True)
    shares = np.divide(weights, total, out=np.full(weights.shape, 1 / weights.shape[1]), where=total > 0)
    logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    return 1 + (shares * logs).sum(axis=1) / np.log(weights.shape[1])
