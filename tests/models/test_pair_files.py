"""A model of pairs that was saved and loaded answers as before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch._dynamo  # noqa: F401  # the first optimiser loads it, and it sets an environment variable
from sklearn.exceptions import NotFittedError

import latentcause as lc
from latentcause.datasets import SimulatedPairs, pair_system
from latentcause.models.pairs import pair_model

MODELS = {
    "linear": lc.LinearPairs(3),
    "splines": lc.LinearPairs(3, mechanisms="spline"),
    "diffusion": lc.DCRL(3, steps=4),
    "trajectory": lc.DCRL(3, steps=4, code="trajectory", mechanisms="spline"),
    "gaussian": lc.DCRL(3, steps=4, decoder="gaussian", context="none", start="random", max_targets=2),
}


@pytest.fixture(scope="module")
def drawn() -> SimulatedPairs:
    return pair_system(3, seed=0, observed=4).draw(1200, seed=1)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.filterwarnings("ignore:z:UserWarning")
@pytest.mark.filterwarnings("ignore:hardly any:UserWarning")
def test_a_loaded_model_is_the_saved_one(
    name: str, drawn: SimulatedPairs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pair_model, "MOST_ROWS", 300)  # so that the file holds a part of the pairs
    pairs = lc.InterventionPairs(
        pd.DataFrame(drawn.pairs.before, columns=list("abcd")),
        pd.DataFrame(drawn.pairs.after, columns=list("abcd")),
        [target if row < 50 else None for row, target in enumerate(drawn.targets)],
    )
    model: Any = MODELS[name].fit(pairs)
    lc.save(model, tmp_path / "model.safetensors")
    again = lc.load(tmp_path / "model.safetensors")
    lc.save(again, tmp_path / "twice.safetensors")
    for loaded in (again, lc.load(tmp_path / "twice.safetensors")):
        same(model, loaded, pairs)


def same(model: Any, loaded: Any, pairs: lc.InterventionPairs) -> None:
    x, do = pairs.before, {model.names_[1]: 0.7}
    assert type(loaded) is type(model)
    assert loaded.get_params() == model.get_params()
    for what in ("names_", "shape_", "columns_", "unhit_", "mixed_", "converged_"):
        assert getattr(loaded, what) == getattr(model, what), what
    pd.testing.assert_frame_equal(loaded.encode(x), model.encode(x), check_exact=True)
    pd.testing.assert_frame_equal(loaded.infer_targets(pairs), model.infer_targets(pairs), check_exact=True)
    np.testing.assert_array_equal(loaded.counterfactual(x, do), model.counterfactual(x, do))
    np.testing.assert_array_equal(loaded.decode(model.encode(x)), model.decode(model.encode(x)))
    assert str(graph_of(loaded)) == str(graph_of(model))
    if isinstance(model, lc.DCRL):
        assert loaded.time_ == model.time_
        assert loaded.history_ == model.history_
        pd.testing.assert_frame_equal(loaded.encode(x, refit=True), model.encode(x, refit=True), check_exact=True)
    if model.mechanisms == "linear":
        np.testing.assert_array_equal(loaded.reading_.weights, model.reading_.weights)
        np.testing.assert_array_equal(loaded.scm_.sample(5, generator=0), model.scm_.sample(5, generator=0))


def graph_of(model: Any) -> Any:
    return model.graph_ if model.mechanisms == "linear" else model.reading_.cpdag


@pytest.mark.filterwarnings("ignore:z:UserWarning")
@pytest.mark.filterwarnings("ignore:hardly any:UserWarning")
@pytest.mark.filterwarnings("ignore:too few pairs:UserWarning")
@pytest.mark.usefixtures("quick_contrast")
@pytest.mark.parametrize("start", ["flow", "random"])
def test_a_loaded_model_of_images_is_the_saved_one(start: Any, drawn: SimulatedPairs, tmp_path: Path) -> None:
    patterns = np.random.default_rng(0).random((3, 2 * 5 * 6))
    before, after = (
        (0.5 + 0.2 * np.tanh(part.to_numpy() @ patterns / 5)).reshape(-1, 2, 5, 6)
        for part in (drawn.factors_before, drawn.factors_after)
    )
    pairs = lc.InterventionPairs(before, after)
    model = lc.DCRL(3, steps=100, start=start, width=16, directions=8, device="cpu").fit(pairs)
    assert model.module_.settled == (start == "flow")
    lc.save(model, tmp_path / "model.safetensors")
    same(model, lc.load(tmp_path / "model.safetensors"), pairs)


def test_columns_are_read_by_name(drawn: SimulatedPairs) -> None:
    names = ["a", "b", "c", "d"]
    before, after = (pd.DataFrame(x, columns=names) for x in (drawn.pairs.before, drawn.pairs.after))
    model = lc.LinearPairs(3).fit(lc.InterventionPairs(before, after))
    mixed_up = before[["d", "b", "a", "c"]].assign(extra=1.0)
    pd.testing.assert_frame_equal(model.encode(mixed_up), model.encode(drawn.pairs.before))
    turned = lc.InterventionPairs(before[names[::-1]], after[names[::-1]])
    pd.testing.assert_frame_equal(model.infer_targets(turned), model.infer_targets(drawn.pairs))
    np.testing.assert_array_equal(
        model.counterfactual(mixed_up, {"z0": 1.0}), model.counterfactual(drawn.pairs.before, {"z0": 1.0})
    )
    with pytest.raises(ValueError, match="no column 'b' of the model"):
        model.encode(before.drop(columns="b"))
    with pytest.raises(ValueError, match="observation 2 holds NaN"):
        model.encode(before.assign(c=before["c"].where(before.index != 2)))


def test_unfitted_models_can_not_be_saved(tmp_path: Path) -> None:
    for model in (lc.LinearPairs(2), lc.DCRL(2)):
        with pytest.raises(NotFittedError, match="call fit"):
            lc.save(model, tmp_path / "model.safetensors")
        with pytest.raises(NotFittedError, match="call fit"):
            model.counterfactual(np.zeros((2, 2)), {"z0": 1.0})
    assert not (tmp_path / "model.safetensors").exists()
