"""Fitting mechanisms to data: one module per kind, which fits all nodes of its kind in one call."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from latentcause.scm.fitting.table import NOISES, Table, residual_noise
from latentcause.scm.mechanisms import Mechanism

__all__ = ["KINDS", "NOISES", "Table", "fit_mechanisms", "residual_noise"]

KINDS: dict[str, str] = {
    "linear": "latentcause.scm.fitting.linear",
    "spline": "latentcause.scm.fitting.splines",
    "boosted": "latentcause.scm.fitting.boosted",
    "neural": "latentcause.scm.fitting.neural",
    "post-nonlinear": "latentcause.scm.fitting.post_nonlinear",
    "auto": "latentcause.scm.fitting.automatic",
}
"""``{kind: module}``; the module has ``fit(tables, noise, seed)``, which returns a mechanism per node."""


def fit_mechanisms(kind: str, tables: Sequence[Table], noise: str, seed: int) -> dict[str, Mechanism]:
    """A fitted mechanism of this kind for every table.

    Parameters
    ----------
    kind : str
        One of `KINDS`.
    tables : sequence of Table
        One per node; nodes without parents are not among them.
    noise : {"empirical", "gaussian", "kernel"}
        What the residuals become, by `residual_noise`.
    seed : int
        Of kinds that draw random numbers.

    Raises
    ------
    ValueError
        For an unknown kind, or where the data do not determine a mechanism; the message names the node.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown kind of mechanism {kind!r}: choose one of {list(KINDS)}")
    return import_module(KINDS[kind]).fit(tables, noise, seed) if tables else {}
