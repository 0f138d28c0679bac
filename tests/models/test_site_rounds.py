"""Scores learned from observations of many sites alone: the likeliest moments where all is Gaussian, and more where it is not."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

import latentcause as lc
from latentcause import SVGDM, CausalGraph, GriddedObservations, training
from latentcause.metrics import crps
from latentcause.models import field_scores
from latentcause.observation import Observation
from latentcause.writing import write_atomically

GRAPH = CausalGraph.from_edges([("a", "b")])


def observed(z: torch.Tensor, sd: tuple[float, float], seed: int = 1) -> GriddedObservations:
    noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    seen = {node: Observation(z[i] + sd[i] * noise[i], noise=sd[i]) for i, node in enumerate(GRAPH.nodes)}
    return GriddedObservations(GRAPH, tuple(z.shape[1:]), seen)


def start(sites: int) -> torch.Tensor:
    """Draws that know neither mean nor dependence."""
    return 2 * torch.randn(40, 2, sites, generator=torch.Generator().manual_seed(7), dtype=torch.float64)


def model(prior: torch.Tensor, **settings: Any) -> SVGDM:
    small = {"form": "sites", "steps": 16, "channels": 4, "blocks": 1, "epochs": 2, "device": "cpu"}
    return SVGDM(GRAPH, prior, **{**small, **settings})


def curved(sites: int) -> torch.Tensor:
    a, noise = torch.randn(2, sites, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return torch.stack([a, a.square() + 0.3 * noise])


def test_moments_become_the_likeliest_ones():
    """All cells seen with known noise R: the likelihood of N(m, C) is highest at the mean of y, and at C = Cov[y] - R."""
    root = torch.tensor([[1.0, 0.0], [1.2, 0.6]], dtype=torch.float64)
    z = root @ torch.randn(2, 600, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + torch.tensor(
        [[1.0], [-2.0]]
    )
    seen = observed(z, (0.4, 0.5))
    found = model(start(600), scores="gaussian", rounds=10, steps=24).fit(seen).joint_
    y = seen.values.reshape(2, -1)
    wanted = torch.cov(y, correction=0) - torch.diag(torch.tensor([0.16, 0.25], dtype=torch.float64))
    covariance = (found.axes * found.variances[:, None]) @ found.axes.mT
    torch.testing.assert_close(covariance[0], wanted, atol=0.03, rtol=0.03)
    torch.testing.assert_close(found.mean[:, 0], y.mean(1), atol=0.02, rtol=0)


def test_networks_learn_a_mechanism_that_nobody_gave_them():
    z = curved(800)
    seen = observed(z, (0.4, 0.6))
    settings = {"rounds": 2, "epochs": 5, "channels": 16, "blocks": 2, "learning_rate": 5e-3}
    errors = []
    for scores in ("gaussian", "learned"):
        draws = (
            model(start(800), scores=scores, **settings).fit(seen).sampled(24, torch.Generator().manual_seed(3), seen)
        )
        errors.append(crps(draws[0][:, 1].numpy(), z[1].numpy()).mean())
    assert errors[1] < 0.93 * errors[0]


def test_an_interrupted_fit_goes_on_to_the_same_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Stopped in the second epoch of the second network, which is the fourth round."""
    seen, saves = observed(curved(60), (0.4, 0.6)), []

    def stop(path: Path) -> AbstractContextManager[Path]:
        saves.append(path.name)
        if saves.count("fit.pt.4") == 2:
            raise KeyboardInterrupt
        return write_atomically(path)

    settings = {"rounds": 2, "steps": 6}
    whole = model(start(60), **settings).fit(seen)
    with monkeypatch.context() as patched:
        patched.setattr(training, "write_atomically", stop)
        with pytest.raises(KeyboardInterrupt):
            model(start(60), **settings).fit(seen, checkpoint=tmp_path / "fit.pt")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fit.pt.3", "fit.pt.4"]
    again = model(start(60), **settings).fit(seen, checkpoint=tmp_path / "fit.pt")
    assert again.history_ == whole.history_
    lc.save(again, tmp_path / "model.safetensors")
    loaded = lc.load(tmp_path / "model.safetensors")
    draws = [found.sample_posterior(3, generator=0) for found in (whole, again, loaded)]
    xr.testing.assert_identical(draws[0], draws[1])
    xr.testing.assert_identical(draws[0], draws[2])


def test_rows_of_few_sites_hold_all_sites_once_and_the_first_again():
    z = torch.arange(2 * 2 * 21.0).reshape(2, 2, 3, 7)
    rows = field_scores._regrouped(z)
    assert rows.shape == (3, 2, 16)
    sites = rows.movedim(1, -1).reshape(-1, 2)
    np.testing.assert_array_equal(sites[:42], z.movedim(1, -1).reshape(-1, 2))
    np.testing.assert_array_equal(sites[42:], sites[:6])


def test_what_can_not_be_learned_so_is_refused():
    seen = observed(curved(60), (0.4, 0.6))
    with pytest.raises(ValueError, match="rounds=-2: give 0 or more"):
        model(start(60), rounds=-2).fit(seen)
    with pytest.raises(
        ValueError, match=r"rounds=2 fit a prior of GaussianFields, not a Tensor: .* or form='sites' for"
    ):
        model(start(60), rounds=2, form="reflected").fit(seen)
    with pytest.raises(
        ValueError, match=r"the prior's fields have the shape \(2, 50\), the observations are of \(2, 60\)"
    ):
        model(start(50), rounds=2).fit(seen)
