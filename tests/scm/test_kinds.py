"""What every kind of fitted mechanism must do alike."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import latentcause as lc
from latentcause import CausalGraph, StructuralCausalModel
from latentcause.scm import LinearMechanism, SplineMechanism, TreeMechanism
from latentcause.scm.fitting import KINDS, fit_mechanisms
from latentcause.scm.fitting.automatic import held_out_errors
from latentcause.scm.fitting.table import Table

GRAPH = CausalGraph.from_string("a -> b; a -> d; b -> d; site -> d; d -> e")
LARGEST_ERROR = {"linear": 1.0, "spline": 0.08, "boosted": 0.25, "neural": 0.12, "post-nonlinear": 0.08, "auto": 0.08}
"""Root mean squared error of counterfactuals of d, whose standard deviation is 0.9: a line fails here."""


def equations(a: np.ndarray, site: np.ndarray, noise: np.ndarray) -> dict[str, np.ndarray]:
    b = np.sin(2 * a) + noise[0]
    d = a**2 / 2 - np.abs(b) + np.where(site == "y", 1.0, 0.0) - np.where(site == "z", 1.0, 0.0) + noise[1]
    return {"a": a, "site": site, "b": b, "d": d, "e": 0.5 * d + noise[2]}


def rows(n: int, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A table, and what it would have been with another a and the same noise."""
    rng = np.random.default_rng(seed)
    a, site, noise = rng.normal(size=n), rng.choice(list("xyz"), n), 0.3 * rng.normal(size=(3, n))
    return pd.DataFrame(equations(a, site, noise)), pd.DataFrame(equations(np.tanh(a - 1), site, noise))


@pytest.mark.parametrize("kind", list(KINDS))
def test_counterfactuals_of_an_additive_system(kind):
    factual, truth = rows(1500, seed=0)
    scm = StructuralCausalModel.fit(GRAPH, factual, mechanisms=kind, seed=1)
    found = scm.counterfactual(factual, do={"a": truth["a"].to_numpy()})
    error = float(np.sqrt(np.square(found["d"] - truth["d"]).mean()))
    assert error < LARGEST_ERROR[kind]
    unmoved = scm.counterfactual(factual, do={"a": factual["a"].to_numpy()})
    assert np.allclose(unmoved["d"], factual["d"], atol=1e-9)


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_fit_is_decided_by_its_seed_and_survives_a_file(kind, tmp_path):
    factual, _ = rows(200, seed=2)
    scm = StructuralCausalModel.fit(GRAPH, factual, mechanisms=kind, noise="kernel", seed=3)
    again = StructuralCausalModel.fit(GRAPH, factual, mechanisms=kind, noise="kernel", seed=3)
    lc.save(scm, tmp_path / "scm.safetensors")
    loaded = lc.load(tmp_path / "scm.safetensors")
    sample = scm.sample(40, {"b": 0.5}, generator=1)
    for other in (again, loaded):
        assert np.array_equal(other.sample(40, {"b": 0.5}, generator=1), sample)
        assert other.counterfactual(factual, {"a": 1.0}).equals(scm.counterfactual(factual, {"a": 1.0}))
    assert np.isfinite(loaded.log_density(factual)).all()


def tables(seed: int) -> list[Table]:
    rng = np.random.default_rng(seed)
    parents = rng.normal(size=(400, 2))
    u, (a, b) = 0.3 * rng.normal(size=(3, 400)), parents.T
    return [
        Table("line", parents, a - b + u[0], ("a", "b")),
        Table("curve", parents, np.sin(2 * a) + b**2 + u[1], ("a", "b")),
        Table("steps", parents, np.where((a > 0) == (b > 0), 2.0, -2.0) + u[2], ("a", "b")),
    ]


def test_auto_takes_the_simplest_kind_that_will_do():
    chosen = []
    for seed in range(4):
        fitted = fit_mechanisms("auto", tables(seed), "gaussian", seed)
        chosen.append([type(fitted[node]) for node in ("line", "curve", "steps")])
    lines, curves, steps = zip(*chosen, strict=True)
    assert lines.count(LinearMechanism) >= 3
    assert set(curves) == {SplineMechanism}
    assert set(steps) == {TreeMechanism}


def test_held_out_errors_are_those_of_rows_that_were_not_seen():
    """Of pure noise, n + 1 over n in expectation for a mean; an indicator of one row has no fold to learn it from."""
    rng = np.random.default_rng(0)
    parents = np.zeros((200, 1))
    parents[17] = 1.0
    values = rng.normal(size=200)
    values[17] = 50.0
    errors = held_out_errors("linear", [Table("z", parents, values, ("site=c",))], seed=0)["z"]
    assert errors[17] > 45**2
    fold = np.random.default_rng(0).permutation(200) % 5
    inside = fold != fold[17]
    assert errors[17] == pytest.approx((50.0 - values[inside].mean()) ** 2)
    with pytest.raises(ValueError, match="4 rows are too few for 5 folds"):
        held_out_errors("linear", [Table("z", parents[:4], values[:4], ("site=c",))], seed=0)
