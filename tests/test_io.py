"""Saving and loading: what goes in comes out, and files cut short, foreign or newer are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from scipy import sparse
from sklearn.exceptions import NotFittedError

from latentcause import io
from latentcause.data import MultiDomainData
from latentcause.graph import CausalGraph
from latentcause.io import load, read_notes, save
from latentcause.models.base import LatentModel
from latentcause.observation import (
    BernoulliError,
    Component,
    CorrelatedError,
    FunctionOperator,
    GaussianError,
    LogNormalError,
    MixtureEmission,
    Observation,
    block_mean,
    gaussian_blur,
    identity,
    points,
)

REGISTRY = {"MeanModel": __name__}
GRAPH = CausalGraph.from_edges([("b", "a")], nodes=["a", "b", "c"])


class MeanModel(LatentModel):
    """The smallest model: every latent is the mean of the row."""

    def __init__(self, graph: CausalGraph, setting: Any = None, loadings: Any = None) -> None:
        self.graph, self.setting, self.loadings = graph, setting, loadings

    def fit(self, data: MultiDomainData) -> Self:
        self.noise_variance_ = float(np.trace(data.moments.second))
        self.history_ = [{"likelihood": -2.5, "step": 1}, {"likelihood": float("-inf"), "step": 2}]
        self.state_ = {"means_": data.moments.mean, "flag_": np.array(True), "steps_": np.arange(3)[::-1]}
        return self

    def posterior(self, data: MultiDomainData) -> tuple[np.ndarray, np.ndarray]:
        means = np.concatenate([x.mean(axis=1) for _, _, x in data.batches()])
        return np.repeat(means[:, None], len(self.graph.nodes), axis=1), np.ones((len(data), len(self.graph.nodes)))

    def fitted_state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        self.check_fitted()
        return self.state_, {"noise_variance_": self.noise_variance_, "history_": self.history_}

    def restore_state(self, arrays: dict[str, np.ndarray], values: dict[str, Any]) -> None:
        self.noise_variance_, self.history_ = values["noise_variance_"], values["history_"]
        self.state_ = {name: arrays[name] for name in ("means_", "flag_", "steps_")}


class Foreign(MeanModel):
    """A model that the registry does not name."""


@pytest.fixture
def data() -> MultiDomainData:
    x = np.random.default_rng(0).normal(size=(8, 3))
    return MultiDomainData(x, np.arange(8) % 2, {0: None, 1: "a"})


@pytest.fixture
def saved(data: MultiDomainData, tmp_path: Path) -> Path:
    save(MeanModel(GRAPH).fit(data), tmp_path / "model.safetensors", REGISTRY)
    return tmp_path / "model.safetensors"


def same(first: Any, second: Any) -> bool:
    """Equality that looks into arrays and containers, and at types."""
    if type(first) is not type(second):
        return False
    if isinstance(first, np.ndarray):
        return first.dtype == second.dtype and first.shape == second.shape and np.array_equal(first, second)
    if isinstance(first, dict):
        return list(first) == list(second) and all(same(first[key], second[key]) for key in first)
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second


# --- there and back --------------------------------------------------------------------------------------------------


def test_a_loaded_model_is_the_saved_one(data: MultiDomainData, tmp_path: Path) -> None:
    loadings = np.asfortranarray(np.arange(6, dtype=np.float32).reshape(3, 2))
    model = MeanModel(GRAPH, setting=("soft", 0.5, None), loadings=loadings).fit(data)
    save(model, tmp_path / "model.safetensors", REGISTRY)
    again = load(tmp_path / "model.safetensors", REGISTRY)
    assert type(again) is MeanModel
    assert again.graph == GRAPH
    assert again.graph.nodes == GRAPH.nodes
    assert same(again.setting, model.setting)
    assert same(again.loadings, loadings)
    assert same(again.state_, model.state_)
    assert same((again.noise_variance_, again.history_), (model.noise_variance_, model.history_))
    np.testing.assert_array_equal(again.transform(data), model.transform(data))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False) | st.text(max_size=5)
    | st.lists(st.floats(width=32, allow_nan=False), max_size=4).map(lambda x: np.array(x, dtype=np.float32))
    | st.integers(-9, 9).map(np.array),
    lambda inner: st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple)
    | st.dictionaries(st.text("abc/:", max_size=3), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(value=VALUES)
@example(value={"__graph__": 1, "__dict__": {"a": {"__array__": ()}}})
def test_any_setting_comes_back(value: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("io") / "model.safetensors"
    model = MeanModel(GRAPH, setting=value)
    model.noise_variance_, model.history_ = 1.0, [{"value": value}]
    model.state_ = {"means_": np.zeros((0, 2)), "flag_": np.array(False), "steps_": np.arange(2, dtype=np.int32)}
    save(model, path, REGISTRY)
    again = load(path, REGISTRY)
    assert same(again.setting, value)
    assert same(again.history_, model.history_)
    assert same(again.state_, model.state_)


def test_numpy_numbers_come_back_as_plain_ones(data: MultiDomainData, tmp_path: Path) -> None:
    model = MeanModel(GRAPH, setting=[np.float64(0.5), np.int64(3), np.bool_(True)]).fit(data)
    save(model, tmp_path / "m.safetensors", REGISTRY)
    assert same(load(tmp_path / "m.safetensors", REGISTRY).setting, [0.5, 3, True])


def test_the_file_is_plain_safetensors_with_json(saved: Path) -> None:
    assert set(load_file(saved)) == {"means_", "flag_", "steps_"}
    size = int.from_bytes(saved.read_bytes()[:8], "little")
    metadata = json.loads(saved.read_bytes()[8 : 8 + size])["__metadata__"]
    assert (metadata["format"], metadata["version"], metadata["class"]) == ("latentcause", "1", "MeanModel")
    graph = json.loads(metadata["params"])["graph"]
    assert graph == {"__graph__": {"nodes": ["a", "b", "c"], "edges": [["b", "a"]]}}


def test_parameters_for_which_a_fitted_value_stands(data: MultiDomainData, tmp_path: Path) -> None:
    model = MeanModel(GRAPH, setting=print).fit(data)
    plain = model.fitted_state
    model.fitted_state = lambda: (plain()[0], {**plain()[1], "param:setting": "stands for it"})
    save(model, tmp_path / "m.safetensors", REGISTRY)
    assert load(tmp_path / "m.safetensors", REGISTRY).setting is None


def test_a_fitted_value_may_have_the_name_of_a_parameter(data: MultiDomainData, tmp_path: Path) -> None:
    model = MeanModel(GRAPH, setting=3).fit(data)
    plain = model.fitted_state
    model.fitted_state = lambda: (plain()[0], {**plain()[1], "setting": 4})
    save(model, tmp_path / "m.safetensors", REGISTRY)
    assert load(tmp_path / "m.safetensors", REGISTRY).setting == 3


OPERATORS = {
    "every pixel": identity((4, 5)),
    "blocks": block_mean((4, 5), 2, 0.5, partial=True),
    "blurred points": points((4, 5), [[1.2, 3.4], [0.5, 4.0]]) @ gaussian_blur((4, 5), 1),
}
NOISES = {
    "number": lambda m: GaussianError(0.5),
    "one per cell": lambda m: LogNormalError(np.linspace(0.1, 1, m)),
    "yes or no": lambda m: BernoulliError(2.0, -1.0),
    "classes": lambda m: MixtureEmission(Component("logit-normal", 1.0, 0.5), Component("normal", -1.0, 0.2)),
    "dense": lambda m: CorrelatedError(np.eye(m) + 0.5),
    "sparse": lambda m: CorrelatedError(sparse.identity(m, format="csr") * 2.0),
}


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("noise", NOISES)
def test_observations_come_back(operator: str, noise: str, data: MultiDomainData, tmp_path: Path) -> None:
    sees = OPERATORS[operator]
    errs = NOISES[noise](sees.size)
    drawn = torch.Generator().manual_seed(0)
    field = torch.randn(3, 4, 5, generator=drawn, dtype=torch.float64)
    observation = Observation(errs.sample(sees(field[0]), drawn).clamp(0.01, 0.99), sees, errs, "map.tif, band 1")
    assert io.can_save(observation)
    save(MeanModel(GRAPH, setting=[observation]).fit(data), tmp_path / "m.safetensors", REGISTRY)
    (again,) = load(tmp_path / "m.safetensors", REGISTRY).setting
    assert again.name == observation.name
    np.testing.assert_array_equal(again.values, observation.values)
    assert (again.operator.shape, again.operator.grid) == (sees.shape, sees.grid)
    torch.testing.assert_close(again.operator(field), sees(field), atol=0, rtol=0)
    values = torch.as_tensor(observation.values).ravel()
    torch.testing.assert_close(
        again.noise.log_prob(values, sees(field)), errs.log_prob(values, sees(field)), atol=0, rtol=0
    )


def test_functions_of_a_field_can_not_be_saved() -> None:
    assert not io.can_save(Observation(np.zeros(2), FunctionOperator(lambda z: z.square(), (2,)), noise=1.0))


# --- what can't be saved ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (print, "param:setting is a builtin_function_or_method"),
        ([0, {1: 2}], "param:setting/1 is a dict"),
        ({"a": {("b",): 1}}, "param:setting/a is a dict"),
        (np.array(["text"]), "array 'param:setting' of MeanModel has type <U4"),
        (np.array([1j]), "array 'param:setting' of MeanModel has type complex128"),
    ],
)
def test_settings_that_a_file_cannot_hold(data: MultiDomainData, tmp_path: Path, setting: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        save(MeanModel(GRAPH, setting=setting).fit(data), tmp_path / "m.safetensors", REGISTRY)
    assert list(tmp_path.iterdir()) == []


def test_models_that_cannot_be_saved(data: MultiDomainData, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Foreign is not a model that load knows"):
        save(Foreign(GRAPH).fit(data), tmp_path / "m.safetensors", REGISTRY)
    with pytest.raises(NotFittedError):
        save(MeanModel(GRAPH), tmp_path / "m.safetensors", REGISTRY)
    impostor = type("MeanModel", (MeanModel,), {})
    with pytest.raises(ValueError, match="MeanModel is not a model that load knows"):
        save(impostor(GRAPH).fit(data), tmp_path / "m.safetensors", REGISTRY)
    model = MeanModel(GRAPH).fit(data)
    model.state_["value:x"] = np.ones(2)
    with pytest.raises(ValueError, match="fitted array 'value:x' of MeanModel has a colon"):
        save(model, tmp_path / "m.safetensors", REGISTRY)
    assert list(tmp_path.iterdir()) == []


def test_notes_come_back_and_do_not_touch_the_model(data: MultiDomainData, saved: Path, tmp_path: Path) -> None:
    notes = {"targets": {"a": ["b"]}, "centre": [0.1, 2.0], "empty": None}
    save(MeanModel(GRAPH).fit(data), tmp_path / "noted.safetensors", REGISTRY, notes=notes)
    assert read_notes(tmp_path / "noted.safetensors") == notes
    assert read_notes(saved) == {}
    noted, plain = load(tmp_path / "noted.safetensors", REGISTRY), load(saved, REGISTRY)
    assert same(noted.fitted_state(), plain.fitted_state())


# --- what can't be loaded --------------------------------------------------------------------------------------------


def test_a_file_cut_anywhere_is_refused(saved: Path) -> None:
    whole = saved.read_bytes()
    for length in range(len(whole)):
        saved.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"model\.safetensors .*cut short"):
            load(saved, REGISTRY)


def test_files_of_others_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"weight": np.ones(3)}, path)
    with pytest.raises(ValueError, match=r"other\.safetensors is a safetensors file, but not one that latentcause"):
        load(path, REGISTRY)
    path.write_bytes(b"\x80\x04\x95 a pickle or anything else")
    with pytest.raises(ValueError, match=r"other\.safetensors is not a latentcause file"):
        load(path, REGISTRY)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "absent.safetensors", REGISTRY)


def rewritten(path: Path, change: Callable[[dict[str, str], dict[str, np.ndarray]], Any]) -> Path:
    """The saved file with its metadata and tensors changed."""
    size = int.from_bytes(path.read_bytes()[:8], "little")
    metadata = json.loads(path.read_bytes()[8 : 8 + size])["__metadata__"]
    tensors = load_file(path)
    change(metadata, tensors)
    save_file(tensors, path, metadata=metadata)
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m, t: m.update(version="2"), "has format 2, this latentcause reads 1: update latentcause"),
        (lambda m, t: m.update({"class": "os.system"}), "holds a os.system, which this latentcause does not know"),
        (lambda m, t: m.update(params='{"grid": 3}'), "does not fit the MeanModel of this latentcause: .*grid"),
        (lambda m, t: m.update(values="{"), "does not fit the MeanModel"),
        (lambda m, t: m.pop("class"), "lacks 'class' in its header"),
        (lambda m, t: m.update(version="soon"), "has format soon"),
        (lambda m, t: t.pop("means_"), "does not fit the MeanModel of this latentcause: 'means_'"),
    ],
)
def test_files_that_do_not_fit(saved: Path, change: Callable[..., Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load(rewritten(saved, change), REGISTRY)


@pytest.mark.parametrize("name", io.REGISTRY)
def test_every_registered_model_offers_what_saving_needs(name: str) -> None:
    model = io._model_class(name, io.REGISTRY)
    assert all(hasattr(model, method) for method in ("get_params", "fitted_state", "restore_state"))
