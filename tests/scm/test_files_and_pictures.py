from __future__ import annotations

import numpy as np
import pytest
import torch

import latentcause as lc
from latentcause import CausalGraph, StructuralCausalModel
from latentcause.scm import FunctionMechanism, GaussianNoise, GeneralMechanism, LinearMechanism, SplineMechanism
from latentcause.splines import UniformBSpline
from scm_systems import CLINIC, clinic, clinic_rows


@pytest.mark.parametrize("noise", ["empirical", "gaussian", "kernel"])
def test_a_loaded_model_is_the_saved_one(tmp_path, noise):
    frame = clinic_rows(200, seed=0)
    scm = StructuralCausalModel.fit(CLINIC, frame, noise=noise, seed=2)
    lc.save(scm, tmp_path / "clinic.safetensors", notes={"table": "clinic.csv"})
    again = lc.load(tmp_path / "clinic.safetensors")
    assert again.graph == scm.graph
    assert again.levels == scm.levels
    assert again.settings == scm.settings
    do = {"site": "b"}
    assert np.array_equal(again.sample(50, do, generator=1), scm.sample(50, do, generator=1))
    assert again.counterfactual(frame, {"treated": True}).equals(scm.counterfactual(frame, {"treated": True}))
    ask = {"data": frame, "resamples": 5, "draws": 20}
    assert again.effect("pain", {"age": 60.0}, **ask) == scm.effect("pain", {"age": 60.0}, **ask)


def test_given_mechanisms_and_odd_names_come_back(tmp_path):
    graph = CausalGraph.from_edges([("__a__", "b/c:d")])
    spline = SplineMechanism((UniformBSpline(-2.0, 2.0, 5),), (tuple(np.linspace(-1, 1, 5)),), 0.5, 0.3)
    scm = StructuralCausalModel(graph, {"__a__": LinearMechanism(), "b/c:d": spline})
    lc.save(scm, tmp_path / "m.safetensors")
    again = lc.load(tmp_path / "m.safetensors")
    assert again.mechanisms == scm.mechanisms
    assert again.settings is None


@pytest.mark.parametrize(
    "mechanism", [FunctionMechanism(torch.sum), GeneralMechanism(lambda parents, noise: noise, GaussianNoise())]
)
def test_mechanisms_that_are_code_are_not_saved(tmp_path, mechanism):
    scm = StructuralCausalModel(CausalGraph(("a",)), {"a": mechanism})
    with pytest.raises(TypeError, match=rf"param:mechanisms/a is a {type(mechanism).__name__}, which holds code"):
        lc.save(scm, tmp_path / "m.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_mechanism_of_someones_own_is_not_saved(tmp_path):
    class LinearMechanism2(LinearMechanism):
        pass

    scm = StructuralCausalModel(CausalGraph(("a",)), {"a": LinearMechanism2()})
    with pytest.raises(TypeError, match="is a LinearMechanism2, which can't be saved"):
        lc.save(scm, tmp_path / "m.safetensors")


def test_pictures_show_a_panel_per_edge():
    frame = clinic_rows(60, seed=0)
    figure = clinic().plot_mechanisms(frame)
    panels = {(ax.get_xlabel(), ax.get_ylabel()): ax for ax in figure.axes if ax.get_visible()}
    assert set(panels) == {(cause, effect if effect == "pain" else f"P({effect})") for cause, effect in CLINIC.edges}
    line = panels["age", "pain"].lines[0]
    assert np.allclose(np.diff(line.get_ydata()), 0.1 * np.diff(line.get_xdata()))
    site = panels["age", "P(site)"]
    assert np.allclose(sum(line.get_ydata() for line in site.lines), 1.0)
    assert [text.get_text() for text in site.get_legend().get_texts()] == ["a", "b", "c"]
    assert [label.get_text() for label in panels["site", "pain"].get_xticklabels()] == ["a", "b", "c"]
    assert np.allclose(np.diff(panels["treated", "pain"].lines[0].get_ydata()), -3.0)


def test_pictures_of_what_has_no_mean_show_the_data_alone():
    graph = CausalGraph.chain(2)
    square = GeneralMechanism(lambda parents, noise: parents.sum(-1) * noise, GaussianNoise())
    scm = StructuralCausalModel(graph, {"z1": LinearMechanism(), "z2": square})
    (ax,) = scm.plot_mechanisms(scm.sample(10, generator=0)).axes
    assert not ax.lines
    assert ax.get_title() == "mean not known in closed form"
    lonely = StructuralCausalModel(CausalGraph(("a",)), {"a": LinearMechanism()})
    with pytest.raises(ValueError, match="the graph has no edges"):
        lonely.plot_mechanisms(np.zeros((3, 1)))


def test_the_graph_is_drawn_with_its_nodes():
    texts = {text.get_text() for text in clinic().plot().texts}
    assert set(CLINIC.nodes) <= texts
