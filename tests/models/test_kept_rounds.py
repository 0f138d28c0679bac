"""Interrupted fits of linked fields go on to the same result: in the rounds of the prior, and in the training after them."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
import xarray as xr

from latentcause import SVGDM, CausalGraph, GriddedObservations, training
from latentcause.fields import GaussianFields, Matern, White
from latentcause.models import field_prior, kept_rounds
from latentcause.observation import BernoulliError, GaussianError, Likelihood, block_mean
from latentcause.writing import write_atomically

GRAPH, SHAPE = CausalGraph.chain(2), (6, 8)
TRUTH = GaussianFields(GRAPH, {("z1", "z2"): 1.5}, {"z1": Matern(4.0, 1.0), "z2": White(0.1)}, SHAPE)
START = GaussianFields(GRAPH, {("z1", "z2"): 0.0}, {"z1": Matern(2.0, 0.3, 2.5), "z2": White(1.0)}, SHAPE)


def observed(noise: Likelihood | None = None, seed: int = 0) -> GriddedObservations:
    sensors = {
        "z1": [(block_mean(SHAPE, 2), GaussianError(0.3))],
        "z2": [(block_mean(SHAPE, 2), noise or GaussianError(0.2))],
    }
    z = TRUTH.sample(1, torch.Generator().manual_seed(seed))[0]
    return GriddedObservations.simulate(GRAPH, z, sensors, torch.Generator().manual_seed(1))


def model(**settings: Any) -> SVGDM:
    small = {"rounds": 6, "draws": 120, "epochs": 3, "channels": 4, "blocks": 1, "steps": 6, "device": "cpu"}
    return SVGDM(GRAPH, START, **{**small, **settings})


def stopping(save: int) -> Callable[[Path], AbstractContextManager[Path]]:
    """As `write_atomically`, but Ctrl-C comes in place of that save."""
    saves = 0

    def write(path: Path) -> AbstractContextManager[Path]:
        nonlocal saves
        saves += 1
        if saves == save:
            raise KeyboardInterrupt
        return write_atomically(path)

    return write


def assert_same(one: SVGDM, other: SVGDM) -> None:
    """To rounding: the last bits of what BLAS adds up depend on where in memory its operands happen to lie."""
    assert one.prior_.weights == pytest.approx(other.prior_.weights, rel=1e-8, abs=1e-10)
    assert one.prior_.intercepts == pytest.approx(other.prior_.intercepts, rel=1e-8, abs=1e-10)
    for node, kernel in one.prior_.kernels.items():
        assert asdict(kernel) == pytest.approx(asdict(other.prior_.kernels[node]), rel=1e-8)
    for epoch, like in zip(one.history_, other.history_, strict=True):
        assert epoch == pytest.approx(like, rel=1e-4)
    xr.testing.assert_allclose(
        *(found.sample_posterior(2, generator=0) for found in (one, other)), rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize("accelerated", [True, False])
@pytest.mark.parametrize(("where", "save"), [(kept_rounds, 1), (kept_rounds, 4), (training, 3)])
def test_an_interrupted_fit_goes_on_to_the_same_result(
    accelerated: bool, where: Any, save: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not accelerated:
        monkeypatch.setattr(field_prior, "MOST_CELLS", 0)
    path, calls = tmp_path / "fit.pt", []
    whole = model().fit(observed())
    with monkeypatch.context() as patched:
        patched.setattr(where, "write_atomically", stopping(save))
        with pytest.raises(KeyboardInterrupt):
            model().fit(observed(), checkpoint=path)
    given = field_prior.fitted_fields
    monkeypatch.setattr(field_prior, "fitted_fields", lambda *args: calls.append(0) or given(*args))
    again = model().fit(observed(), checkpoint=path)
    assert_same(again, whole)
    assert len(calls) == (6 - (save - 1) if where is kept_rounds else 0)
    model().fit(observed(), checkpoint=path)
    assert len(calls) == (6 - (save - 1) if where is kept_rounds else 0)  # nothing was left to do


def test_rounds_on_what_is_not_gaussian_and_more_of_them(tmp_path: Path) -> None:
    seen, settings = observed(BernoulliError()), {"scores": "exact", "steps": 4}
    model(rounds=1, **settings).fit(seen, checkpoint=tmp_path / "fit.pt")
    more = model(rounds=2, **settings).fit(seen, checkpoint=tmp_path / "fit.pt")
    assert_same(more, model(rounds=2, **settings).fit(seen))


def test_rounds_that_have_settled_stay_so(tmp_path: Path) -> None:
    first = model(rounds=200, scores="exact").fit(observed(), checkpoint=tmp_path / "fit.pt")
    state = json.loads((tmp_path / "fit.pt.rounds").read_text())
    assert state["settled"]
    assert state["done"] < 200
    again = model(rounds=300, scores="exact").fit(observed(), checkpoint=tmp_path / "fit.pt")
    assert again.prior_.weights == first.prior_.weights


def test_a_checkpoint_that_does_not_belong_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "fit.pt"
    kept = tmp_path / "fit.pt.rounds"
    model(rounds=2, scores="exact").fit(observed(), checkpoint=path)
    for settings, seen, message in (
        ({"seed": 1}, observed(), r"fit\.pt\.rounds is of another fit \(seed: 0, not 1\): delete it, or name another"),
        ({"rounds": 1}, observed(), r"fit\.pt\.rounds holds 2 rounds, this fit has 1"),
        ({}, observed(seed=1), r"is of another fit \(values"),
        ({}, observed(GaussianError(0.21)), r"is of another fit"),
        ({"prior": TRUTH}, observed(), r"is of another fit \(weights: \[0\.0\], not \[1\.5\]\)"),
    ):
        with pytest.raises(ValueError, match=message):
            model(rounds=2, scores="exact").set_params(**settings).fit(seen, checkpoint=path)
    state = json.loads(kept.read_text())
    kept.write_text(json.dumps(state | {"format": 2}))
    with pytest.raises(ValueError, match=r"fit\.pt\.rounds is of another version"):
        model(rounds=2).fit(observed(), checkpoint=path)
    for content in (kept.read_text()[:-9], "[]", "{}"):
        kept.write_text(content)
        with pytest.raises(ValueError, match=r"checkpoint fit\.pt\.rounds is damaged .*: delete it to start anew"):
            model(rounds=2).fit(observed(), checkpoint=path)
