from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from latentcause import CausalGraph, StructuralCausalModel
from latentcause.scm import LinearMechanism, fitting
from scm_systems import CLINIC, clinic, clinic_rows

GRAPH = CausalGraph.from_string("a -> b; a -> y; b -> y; c -> y")


def frame(seed: int, n: int = 300) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    a, c, u, v = rng.normal(size=(4, n))
    b = 0.5 * a + u
    return pd.DataFrame({"a": a, "b": b, "c": c, "y": a - 0.8 * b + v})


def test_the_f_test_of_one_column_is_the_t_test_of_its_weight():
    data = frame(0)
    table = StructuralCausalModel.fit(GRAPH, data).redundant_parents(data).set_index(["parent", "node"])
    assert list(table.index) == [("a", "b"), ("a", "y"), ("b", "y"), ("c", "y")]
    design = np.column_stack([np.ones(300), data[["a", "b", "c"]]])
    weights = np.linalg.lstsq(design, data["y"], rcond=None)[0]
    residuals = data["y"] - design @ weights
    covariance = np.linalg.inv(design.T @ design) * (residuals @ residuals) / (300 - 4)
    p_values = 2 * stats.t.sf(np.abs(weights[1:] / np.sqrt(covariance.diagonal()[1:])), 300 - 4)
    assert np.allclose(table.loc[[("a", "y"), ("b", "y"), ("c", "y")], "p_value"], p_values)
    slope, *_ = np.polyfit(data["a"], data["b"], 1)
    assert table.loc[("a", "b"), "drop"] == pytest.approx((slope * data["a"]).var() / data["b"].var())
    assert table["redundant"].tolist() == [False, False, False, True]
    assert (table["test"] == "F").all()


def test_redundant_edges_are_found_as_rarely_as_alpha_says():
    graph = CausalGraph.from_string("a -> y; c -> y")
    kept = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        data = pd.DataFrame(rng.normal(size=(60, 2)), columns=["a", "c"]).assign(y=lambda t: t["a"])
        data["y"] += rng.normal(size=60)
        kept += not StructuralCausalModel.fit(graph, data).redundant_parents(data, alpha=0.1)["redundant"][1]
    assert stats.binomtest(kept, 200, 0.1).pvalue > 0.001


def test_categories_get_a_likelihood_ratio_test():
    data = clinic_rows(4000, seed=0)
    graph = CausalGraph((*CLINIC.nodes, "dice"), (*CLINIC.edges, ("dice", "site"), ("dice", "pain")))
    data["dice"] = np.array(list("uvw"))[np.random.default_rng(1).integers(0, 3, 4000)]
    table = StructuralCausalModel.fit(graph, data).redundant_parents(data, alpha=0.001).set_index(["parent", "node"])
    assert table["test"].to_dict() == {
        edge: "likelihood ratio" if edge[1] in ("site", "treated") else "F" for edge in graph.edges
    }
    assert set(table.index[table["redundant"]]) == {("dice", "pain"), ("dice", "site")}
    assert (table["drop"] > 0).all()


def test_the_likelihood_ratio_test_holds_its_level():
    graph = CausalGraph.from_string("a -> s")
    found = 0
    for seed in range(150):
        rng = np.random.default_rng(seed)
        data = pd.DataFrame({"a": rng.normal(size=150), "s": np.array(list("xyz"))[rng.integers(0, 3, 150)]})
        found += not StructuralCausalModel.fit(graph, data).redundant_parents(data, alpha=0.1)["redundant"][0]
    assert stats.binomtest(found, 150, 0.1).pvalue > 0.001


def test_other_kinds_are_compared_on_held_out_rows(monkeypatch):
    monkeypatch.setitem(fitting.KINDS, "least squares", "latentcause.scm.fitting.linear")
    data = frame(0, 400)
    scm = StructuralCausalModel.fit(GRAPH, data, mechanisms={"y": "least squares"})
    table = scm.redundant_parents(data).set_index(["parent", "node"])
    assert table["test"].tolist() == ["F", *["held-out error"] * 3]
    assert table["redundant"].tolist() == [False, False, False, True]
    in_sample = StructuralCausalModel.fit(GRAPH, data).redundant_parents(data).set_index(["parent", "node"])
    assert np.allclose(table["drop"], in_sample["drop"], atol=0.03)
    alone = CausalGraph.from_string("a -> b")
    scm = StructuralCausalModel.fit(alone, data, mechanisms="least squares")
    assert scm.redundant_parents(data)["drop"][0] == pytest.approx(in_sample.loc[("a", "b"), "drop"], abs=0.03)


def test_dropped_edges_leave_a_model_fitted_again_with_the_same_settings():
    data = frame(1)
    scm = StructuralCausalModel.fit(GRAPH, data, noise="gaussian", seed=3)
    table = scm.redundant_parents(data)
    smaller = scm.drop(table.loc[table["redundant"], ["parent", "node"]].to_numpy(), data)
    assert smaller.graph == CausalGraph(GRAPH.nodes, tuple(e for e in GRAPH.edges if e != ("c", "y")))
    assert smaller.settings == scm.settings
    assert smaller.mechanisms == StructuralCausalModel.fit(smaller.graph, data, noise="gaussian").mechanisms


def test_questions_that_cannot_be_answered_are_refused():
    data = frame(0, 20)
    scm = StructuralCausalModel.fit(GRAPH, data)
    with pytest.raises(ValueError, match="alpha is 5: give a level between 0 and 1"):
        scm.redundant_parents(data, alpha=5)
    with pytest.raises(ValueError, match="4 rows are too few to test the 3 columns of 'y'"):
        scm.redundant_parents(data[:4])
    with pytest.raises(ValueError, match=r"\('y', 'a'\) is not an edge of the graph"):
        scm.drop([("y", "a")], data)
    given = StructuralCausalModel(CausalGraph.chain(2), {"z1": LinearMechanism(), "z2": LinearMechanism((1.0,))})
    with pytest.raises(ValueError, match="only parents of fitted mechanisms can be tested"):
        given.redundant_parents(np.zeros((5, 2)))
    with pytest.raises(ValueError, match="were given, so it can't be fitted again"):
        given.drop([("z1", "z2")], np.zeros((5, 2)))
    with pytest.raises(ValueError, match="column 'site' holds 'z'"):
        StructuralCausalModel.fit(CLINIC, clinic_rows(100, seed=0)).redundant_parents(
            clinic_rows(20, seed=0).assign(site="z")
        )
    assert clinic().settings is None
