"""The kind of mechanism that the data ask for, node by node."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from latentcause.scm.fitting import fit_mechanisms
from latentcause.scm.fitting.table import Table
from latentcause.scm.mechanisms import Mechanism

SIMPLEST_FIRST = ("linear", "spline", "boosted")
FOLDS = 5


def fit(tables: Sequence[Table], noise: str, seed: int) -> dict[str, Mechanism]:
    """For every node the simplest kind that predicts held-out rows about as well as the best: linear, spline or boosted.

    The kinds are compared by squared errors in 5-fold cross-validation, the folds drawn with ``seed``. The first kind is
    taken whose mean error exceeds that of the best by at most one standard error of the difference, which is taken over
    the rows (the one-standard-error rule of Breiman et al. 1984, section 3.4.3, for paired errors).

    Raises
    ------
    ValueError
        For fewer rows than folds, and where a kind refuses the data; the message names the node.
    """
    errors = {kind: held_out_errors(kind, tables, seed) for kind in SIMPLEST_FIRST}
    chosen: dict[str, list[Table]] = {kind: [] for kind in SIMPLEST_FIRST}
    for table in tables:
        own = np.stack([errors[kind][table.node] for kind in SIMPLEST_FIRST])
        excess = own - own[own.mean(axis=1).argmin()]
        close = excess.mean(axis=1) <= excess.std(axis=1) / len(table.values) ** 0.5
        chosen[SIMPLEST_FIRST[int(close.argmax())]].append(table)
    fitted: dict[str, Mechanism] = {}
    for kind, some in chosen.items():
        fitted |= fit_mechanisms(kind, some, noise, seed)
    return fitted


def held_out_errors(kind: str, tables: Sequence[Table], seed: int) -> dict[str, np.ndarray]:
    """Squared errors (n,) of every node's mechanism, each row predicted from the folds that it is not in.

    Columns that are constant without a fold, such as the indicator of a rare level, are left out there.
    """
    n = len(tables[0].values)
    if n < FOLDS:
        raise ValueError(f"{n} rows are too few for {FOLDS} folds: give more, or name the kind of mechanism")
    fold = np.random.default_rng(seed).permutation(n) % FOLDS
    errors = {table.node: np.empty(n) for table in tables}
    for held in range(FOLDS):
        inside, outside = fold != held, fold == held
        train, varying = [], {}
        for table in tables:
            varying[table.node] = columns = np.flatnonzero(np.ptp(table.parents[inside], axis=0) > 0)
            names = tuple(table.columns[k] for k in columns)
            train.append(Table(table.node, table.parents[inside][:, columns], table.values[inside], names))
        fitted = fit_mechanisms(kind, [table for table in train if table.columns], "gaussian", seed)
        for table, shown in zip(tables, train, strict=True):
            predicted = np.full(int(outside.sum()), shown.values.mean())
            if shown.columns:
                parents = torch.from_numpy(table.parents[outside][:, varying[table.node]])
                predicted = fitted[table.node].mean(parents).numpy()
            errors[table.node][outside] = np.square(table.values[outside] - predicted)
    return errors
