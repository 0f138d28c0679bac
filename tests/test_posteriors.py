"""Summaries and scores of posteriors: against NumPy, closed forms, and a calibrated posterior."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import latentcause as lc
from latentcause.posteriors import exceedance, scores, summarise, to_chains

SYSTEM = lc.datasets.three_fields((16,))


def drawn(n: int = 40, shape: tuple[int, ...] = (3, 4), nodes: tuple[str, ...] = ("a", "b")) -> xr.Dataset:
    rng = np.random.default_rng(0)
    dims = ("y", "x")[-len(shape) :]
    coords = {dim: np.arange(size) + 0.5 for dim, size in zip(dims, shape, strict=True)}
    variables = {node: (("sample", *dims), rng.standard_normal((n, *shape)) + i) for i, node in enumerate(nodes)}
    return xr.Dataset(variables, {"sample": np.arange(n), **coords}, attrs={"crs": "EPSG:32654"})


def test_summaries_are_those_of_numpy() -> None:
    posterior = drawn()
    found = summarise(posterior, quantiles=(0.025, 0.5), thresholds={"b": 1.2})
    assert list(found) == ["a_mean", "a_sd", "a_q2.5", "a_q50", "b_mean", "b_sd", "b_q2.5", "b_q50", "b_exceedance"]
    b = posterior["b"].to_numpy()
    np.testing.assert_allclose(found["b_mean"], b.mean(0))
    np.testing.assert_allclose(found["b_sd"], b.std(0, ddof=1))
    np.testing.assert_allclose(found["b_q50"], np.median(b, axis=0))
    np.testing.assert_allclose(found["b_exceedance"], (b > 1.2).sum(0) / 40)
    assert found["b_mean"].dims == ("y", "x")
    assert found.attrs == posterior.attrs
    np.testing.assert_array_equal(found["x"], posterior["x"])


@given(st.integers(2, 30), st.floats(0.02, 0.98))
def test_quantiles_leave_their_share_of_new_draws_below(n: int, p: float) -> None:
    """Of uniform draws 1/(n+1), ..., n/(n+1) the p-quantile is p, as far as they reach."""
    posterior = xr.Dataset({"a": (("sample", "x"), np.arange(1, n + 1)[:, None] / (n + 1))})
    found = summarise(posterior, quantiles=(p,))
    (name,) = [name for name in found if "_q" in str(name)]
    np.testing.assert_allclose(found[name], np.clip(p, 1 / (n + 1), n / (n + 1)))


@given(st.lists(st.integers(1, 4), min_size=1, max_size=3), st.integers(2, 5))
def test_summaries_have_the_shape_of_the_grid(shape: list[int], n: int) -> None:
    dims = tuple(f"axis{i}" for i in range(len(shape)))
    posterior = xr.Dataset({"a": (("sample", *dims), np.random.default_rng(0).random((n, *shape)))})
    for found in summarise(posterior, thresholds={"a": 0.5}).values():
        assert found.dims == dims
        assert found.shape == tuple(shape)


def test_scores_of_an_exact_posterior() -> None:
    """Truths drawn beside the draws: coverage is the level, rmse the sd, CRPS sd / sqrt(pi) of Gaussians."""
    rng = np.random.default_rng(1)
    posterior = xr.Dataset({"a": (("sample", "x"), 2 * rng.standard_normal((400, 20_000)))})
    found = scores(posterior, {"a": 2 * rng.standard_normal(20_000)}, levels=(0.5, 0.95)).loc["a"]
    assert found["coverage_0.5"] == pytest.approx(0.5, abs=0.012)
    assert found["coverage_0.95"] == pytest.approx(0.95, abs=0.006)
    assert found["rmse"] == pytest.approx(found["sd"], rel=0.02)
    assert found["crps"] == pytest.approx(2 / np.sqrt(np.pi), rel=0.02)


def test_truths_by_name_or_in_order() -> None:
    posterior = drawn()
    truth = np.random.default_rng(1).standard_normal((2, 3, 4))
    truth[1, 0, 0] = np.nan
    by_order = scores(posterior, torch.as_tensor(truth))
    assert list(by_order.index) == ["a", "b"]
    dataset = xr.Dataset({"b": (("y", "x"), truth[1])})
    for given_truth in ({"b": truth[1]}, dataset):
        assert scores(posterior, given_truth).equals(by_order.loc[["b"]])
    b, y = posterior["b"].to_numpy()[:, ~np.isnan(truth[1])], truth[1][~np.isnan(truth[1])]
    assert by_order.loc["b", "rmse"] == pytest.approx(np.sqrt(np.mean((b.mean(0) - y) ** 2)))
    assert by_order.loc["b", "crps"] == pytest.approx(lc.metrics.crps(b, y).mean())


def test_svgdm_covers_as_often_as_it_says() -> None:
    """Over 12 truths of the linear system, with exact scores."""
    model = lc.SVGDM(SYSTEM.graph, SYSTEM.fields, scores="exact", steps=64, device="cpu")
    truths, posteriors = [], []
    for seed in range(12):
        truth, observations = SYSTEM.observe("LFO", torch.Generator().manual_seed(seed))
        if not seed:
            model.fit(observations)
        truths.append(truth.numpy())
        posteriors.append(model.sample_posterior(40, generator=seed, observations=observations))
    found = scores(xr.concat(posteriors, "x"), np.concatenate(truths, axis=1), levels=(0.9,))
    np.testing.assert_allclose(found["coverage_0.9"], 0.9, atol=0.07)


def test_chains() -> None:
    posterior = drawn(12)
    found = to_chains(posterior, 3)
    assert found["a"].dims == ("chain", "draw", "y", "x")
    assert dict(found.sizes) == {"chain": 3, "draw": 4, "y": 3, "x": 4}
    np.testing.assert_array_equal(found["b"].to_numpy().reshape(12, 3, 4), posterior["b"])
    np.testing.assert_array_equal(found["x"], posterior["x"])
    assert to_chains(posterior).sizes["chain"] == 1


# --- bad input -------------------------------------------------------------------------------------------------------


def test_bad_input_is_refused() -> None:
    posterior = drawn()
    with pytest.raises(ValueError, match="'a' is no posterior: variables need the dimension 'sample'"):
        summarise(posterior.isel(sample=0)[["a"]])
    with pytest.raises(ValueError, match="a data set without variables"):
        summarise(xr.Dataset())
    with pytest.raises(ValueError, match="a quantile of 5"):
        summarise(posterior, quantiles=(5,))
    with pytest.raises(ValueError, match="one sample has no spread"):
        summarise(drawn(1))
    with pytest.raises(ValueError, match="a threshold for 'c', no node of the posterior"):
        exceedance(posterior, {"c": 1.0})
    with pytest.raises(ValueError, match="the threshold of 'a' is nan"):
        exceedance(posterior, {"a": float("nan")})
    with pytest.raises(ValueError, match="a truth of 'c'"):
        scores(posterior, {"c": np.zeros((3, 4))})
    with pytest.raises(ValueError, match=r"the truth of 'a' has shape \(4, 3\), the posterior \(3, 4\)"):
        scores(posterior, {"a": np.zeros((4, 3))})
    with pytest.raises(ValueError, match="truths of 3 nodes"):
        scores(posterior, np.zeros((3, 3, 4)))
    with pytest.raises(ValueError, match="40 samples do not make 3 chains"):
        to_chains(posterior, 3)
