"""VBCI: its bound against sums over all states, its weights on data of its own model, and the Hokkaido rasters."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit, log_expit
from scipy.stats import norm
from sklearn.exceptions import NotFittedError
from sklearn.metrics import average_precision_score, roc_auc_score

from latentcause import CausalGraph, GriddedObservations
from latentcause.metrics import reliability
from latentcause.models.baselines.fields import (
    VBCI,
    GroundFailure,
    HazardNetwork,
    HazardWeights,
    area_of_chance,
    chance_of_area,
)
from latentcause.observation import BernoulliError, GaussianError, LogNormalError, Observation, block_mean

EDGES = "slide -> damage; liquid -> damage; slide -> proxy; liquid -> proxy; damage -> proxy"
GRAPH = CausalGraph.from_string(EDGES)
WEIGHTS = HazardWeights(
    {"slide": -0.4, "liquid": 0.3, "damage": -1.5, "proxy": -1.0},
    {"slide": 1.4, "liquid": 0.8},
    {
        ("slide", "damage"): 2.0,
        ("liquid", "damage"): 1.2,
        ("slide", "proxy"): 2.2,
        ("liquid", "proxy"): 1.0,
        ("damage", "proxy"): 0.5,
    },
    0.12,
)


def network(n: int, seed: int) -> tuple[HazardNetwork, np.ndarray]:
    """A network with log y drawn from WEIGHTS, and the true hazards (3, n); every tenth pixel is not seen."""
    rng = np.random.default_rng(seed)
    alpha = {"slide": rng.normal(-0.5, 1.5, n), "liquid": rng.normal(-1, 1.5, n)}
    possible = np.stack([np.ones(n, bool), rng.random(n) < 0.8, rng.random(n) < 0.5])
    z = np.zeros((3, n))
    for row, h in enumerate(("slide", "liquid")):
        odds = WEIGHTS.intercept[h] + WEIGHTS.slope[h] * alpha[h]
        z[row] = possible[row] & (rng.random(n) < expit(odds))
    odds = WEIGHTS.intercept["damage"] + 2.0 * z[0] + 1.2 * z[1]
    z[2] = possible[2] & (rng.random(n) < expit(odds))
    log_y = -1.0 + 2.2 * z[0] + 1.0 * z[1] + 0.5 * z[2] + 0.12 * rng.normal(size=n)
    log_y[::10] = np.nan
    parents = {"slide": (), "liquid": (), "damage": ("slide", "liquid")}
    return HazardNetwork(parents, ("slide", "liquid", "damage"), "proxy", alpha, possible, log_y), z


def log_joint(net: HazardNetwork, pixel: int, z: tuple[int, ...]) -> float:
    """log p(y, z) of one pixel, written out."""
    if any(state and not net.possible[row, pixel] for row, state in enumerate(z)):
        return -np.inf
    total = 0.0
    for row, h in enumerate(("slide", "liquid")):
        if net.possible[row, pixel]:
            total += log_expit((2 * z[row] - 1) * (WEIGHTS.intercept[h] + WEIGHTS.slope[h] * net.log_odds[h][pixel]))
    if net.possible[2, pixel]:
        total += log_expit((2 * z[2] - 1) * (-1.5 + 2.0 * z[0] + 1.2 * z[1]))
    y = net.log_y[pixel]
    if not np.isnan(y):
        total += norm.logpdf(y, -1.0 + 2.2 * z[0] + 1.0 * z[1] + 0.5 * z[2], 0.12) - y
    return float(total)


def test_bound_is_the_sum_over_all_states_and_below_the_evidence() -> None:
    net, _ = network(30, 0)
    q = np.where(net.possible, np.random.default_rng(1).uniform(0.05, 0.95, net.possible.shape), 0.0)
    written_out, evidence = 0.0, 0.0
    for pixel in range(30):
        joints = []
        for z in product((0, 1), repeat=3):
            own = np.prod([q[row, pixel] if state else 1 - q[row, pixel] for row, state in enumerate(z)])
            joints.append(log_joint(net, pixel, z))
            if own > 0:
                written_out += own * (joints[-1] - np.log(own))
        evidence += np.logaddexp.reduce(joints)
    assert net.bound(WEIGHTS, q) == pytest.approx(written_out, rel=1e-10)
    settled = q
    for _ in range(50):
        settled = net.updated_chances(WEIGHTS, settled)
    assert written_out < net.bound(WEIGHTS, settled) < evidence


def test_an_update_is_the_best_chance_given_the_others() -> None:
    net, _ = network(12, 2)
    q = np.where(net.possible, 0.3, 0.0)
    for _ in range(200):
        q = net.updated_chances(WEIGHTS, q)
    best = net.bound(WEIGHTS, q)
    for row, pixel in np.argwhere(net.possible):
        for step in (-1e-3, 1e-3):
            moved = q.copy()
            moved[row, pixel] = np.clip(q[row, pixel] + step, 0.0, 1.0)
            assert net.bound(WEIGHTS, moved) <= best + 1e-9


def test_the_bound_of_one_hazard_is_the_evidence_of_a_mixture() -> None:
    rng = np.random.default_rng(3)
    alpha = rng.normal(size=200)
    log_y = np.where(rng.random(200) < expit(alpha), 1.0, 0.0) + 0.3 * rng.normal(size=200)
    net = HazardNetwork({"h": ()}, ("h",), "y", {"h": alpha}, np.ones((1, 200), bool), log_y)
    weights, q = net.start()
    q = net.updated_chances(weights, q)
    w = weights.intercept["y"] + weights.effect["h", "y"] * np.array([[0.0], [1.0]])
    p = np.stack([expit(-alpha), expit(alpha)])
    evidence = (np.log((p * norm.pdf(log_y, w, weights.sd)).sum(0)) - log_y).sum()
    assert net.bound(weights, q) == pytest.approx(evidence, rel=1e-12)


def test_weights_of_simulated_pixels_are_found_and_the_bound_never_falls() -> None:
    net, z = network(20_000, 4)
    maps = {h: expit(net.log_odds[h]) for h in ("slide", "liquid")}
    seen = {h: Observation(values, noise=BernoulliError()) for h, values in maps.items()}
    seen["proxy"] = Observation(np.exp(net.log_y), noise=LogNormalError(1.0))
    observed = GriddedObservations(GRAPH, (20_000,), seen)
    model = VBCI(GRAPH, where={"liquid": net.possible[1], "damage": net.possible[2]}).fit(observed)
    assert len(model.bounds_) > 10
    assert min(np.diff(model.bounds_)) > -1e-9 * abs(model.bounds_[-1])
    found = model.weights_
    assert found.sd == pytest.approx(0.12, abs=0.03)
    assert found.intercept["proxy"] == pytest.approx(-1.0, abs=0.05)
    for edge, weight in WEIGHTS.effect.items():
        assert found.effect[edge] == pytest.approx(weight, abs=0.05 if edge[1] == "proxy" else 0.3)
    for h in ("slide", "liquid"):
        assert found.slope[h] == pytest.approx(WEIGHTS.slope[h], abs=0.15)
        assert found.intercept[h] == pytest.approx(WEIGHTS.intercept[h], abs=0.15)
    hidden = model.probabilities_
    for row, h in enumerate(("slide", "liquid", "damage")):
        assert roc_auc_score(z[row, net.possible[row]], hidden[h].to_numpy()[net.possible[row]]) > 0.9
        assert (hidden[h].to_numpy()[~net.possible[row]] == 0).all()
    draws = model.sample_posterior(200, generator=0)
    assert draws["proxy"].shape == (200, 20_000)
    assert set(np.unique(draws["slide"])) == {0.0, 1.0}
    assert float(np.abs(draws["slide"].mean("sample") - hidden["slide"]).mean()) < 0.02
    raised = sum(found.effect[h, "proxy"] * draws[h].to_numpy() for h in hidden.data_vars)
    np.testing.assert_allclose(draws["proxy"], np.exp(found.intercept["proxy"] + raised), rtol=1e-5)


def test_a_map_without_noise_has_a_bound() -> None:
    graph = CausalGraph.from_string("h -> y")
    seen = {
        "h": Observation([0.2, 0.3, 0.6, 0.7], noise=BernoulliError()),
        "y": Observation([1.0, 1.0, 3.0, 3.0], noise=LogNormalError(1.0)),
    }
    model = VBCI(graph).fit(GriddedObservations(graph, (4,), seen))
    assert np.isfinite(model.bounds_).all()
    np.testing.assert_allclose(model.probabilities_["h"], [0, 0, 1, 1], atol=1e-6)


def test_prior_maps_of_coarse_cells_reach_their_pixels() -> None:
    graph = CausalGraph.from_string("h -> y")
    chance = np.array([0.2, 0.6])
    log_y = np.array([0.0, 0.1, 0.0, 0.9, 1.0, 1.1])
    seen = {
        "h": Observation(chance, block_mean((6,), 3), BernoulliError()),
        "y": Observation(np.exp(log_y), noise=LogNormalError(1.0)),
    }
    model = VBCI(graph, max_rounds=3).fit(GriddedObservations(graph, (6,), seen))
    np.testing.assert_allclose(expit(model._network.log_odds["h"]), [0.2] * 3 + [0.6] * 3)


def observed(**changed: Observation | None) -> GriddedObservations:
    shape = (8,)
    seen = {
        "slide": Observation(np.linspace(0.1, 0.6, 8), noise=BernoulliError()),
        "liquid": Observation(np.linspace(0.6, 0.1, 8), noise=BernoulliError()),
        "proxy": Observation(np.linspace(0.5, 2.0, 8), noise=LogNormalError(1.0)),
    } | changed
    return GriddedObservations(GRAPH, shape, {node: own for node, own in seen.items() if own is not None})


def test_what_does_not_fit_the_model_is_refused() -> None:
    with pytest.raises(ValueError, match=r"node 'slide' has 0 observations"):
        VBCI(GRAPH).fit(observed(slide=None))
    with pytest.raises(ValueError, match=r"node 'liquid': give chances"):
        VBCI(GRAPH).fit(observed(liquid=Observation(np.ones(8), noise=GaussianError(1.0))))
    with pytest.raises(ValueError, match=r"node 'proxy': give values"):
        VBCI(GRAPH).fit(observed(proxy=Observation(np.ones(8), noise=GaussianError(1.0))))
    with pytest.raises(ValueError, match=r"node 'proxy': each value must be that of one pixel"):
        VBCI(GRAPH).fit(observed(proxy=Observation([1.0, 2.0], block_mean((8,), 4), LogNormalError(1.0))))
    with pytest.raises(ValueError, match=r"node 'proxy': all its values are the same"):
        VBCI(GRAPH).fit(observed(proxy=Observation(np.ones(8), noise=LogNormalError(1.0))))
    with pytest.raises(ValueError, match=r"node 'damage' has parents and an observation"):
        VBCI(GRAPH).fit(observed(damage=Observation(np.full(8, 0.5), noise=BernoulliError())))
    with pytest.raises(ValueError, match=r"node 'slide': its prior map is 0 everywhere"):
        VBCI(GRAPH).fit(observed(slide=Observation(np.zeros(8), noise=BernoulliError())))
    half = Observation([0.5], block_mean((8,), 4).rows(np.array([True, False])), BernoulliError())
    with pytest.raises(ValueError, match=r"no cell of its prior map sees 4 of 8 pixels"):
        VBCI(GRAPH).fit(observed(slide=half))
    with pytest.raises(ValueError, match=r"where names 'road', no hazard"):
        VBCI(GRAPH, where={"road": np.ones(8, bool)}).fit(observed())
    with pytest.raises(ValueError, match=r"where\['damage'\] has shape \(7,\)"):
        VBCI(GRAPH, where={"damage": np.ones(7, bool)}).fit(observed())
    with pytest.raises(ValueError, match=r"where\['damage'\] is true in no pixel"):
        VBCI(GRAPH, where={"damage": np.zeros(8, bool)}).fit(observed())
    dry = np.arange(8) < 4
    wet = {h: Observation(np.where(dry, 0.3, 0.0), noise=BernoulliError()) for h in ("slide", "liquid")}
    with pytest.raises(ValueError, match=r"node 'damage' is possible only where all prior maps are 0"):
        VBCI(GRAPH, where={"damage": ~dry}).fit(observed(**wet))
    fork = CausalGraph.from_string("slide -> a; slide -> b")
    seen = {"slide": Observation(np.full(8, 0.5), noise=BernoulliError())}
    with pytest.raises(ValueError, match=r"the graph ends in 'a', 'b'"):
        VBCI(fork).fit(GriddedObservations(fork, (8,), seen))
    with pytest.raises(NotFittedError, match="call fit"):
        VBCI(GRAPH).sample_posterior(1, generator=0)
    with pytest.raises(ValueError, match="max_rounds is 0"):
        VBCI(GRAPH, max_rounds=0).fit(observed())
    with pytest.raises(ValueError, match="n is 0"):
        VBCI(GRAPH, max_rounds=1).fit(observed()).sample_posterior(0, generator=0)


def test_hokkaido_beside_the_posterior_that_the_authors_published(shared_data: Callable[[str], Path]) -> None:
    pytest.importorskip("rioxarray")
    from latentcause.datasets import load_hokkaido

    maps = load_hokkaido(shared_data("hokkaido"))
    names = ("damage_proxy", "prior_landslide", "prior_liquefaction", "building_footprint")
    seen = GroundFailure.from_rasters(*(maps.rasters[name].to_numpy() for name in names))
    model = VBCI(seen.graph, where=seen.where).fit(seen.observations)
    assert min(np.diff(model.bounds_)) > 0
    known = maps.truth.notnull().to_numpy()
    truth = maps.truth.to_numpy()[known]

    def reached(probability: np.ndarray) -> tuple[float, ...]:
        p = probability[known]
        calibration = reliability(p, truth)
        return (
            roc_auc_score(truth, p),
            average_precision_score(truth, p),
            calibration.calibration_error,
            calibration.brier,
        )

    published = maps.rasters["vbci_landslide"].to_numpy()
    assert reached(published) == pytest.approx((0.893, 0.468, 0.047, 0.048), abs=5e-4)
    # Neither settings nor weights have seen the mapped landslides.
    own = area_of_chance(model.probabilities_["landslide"].to_numpy(), "landslide")
    assert reached(own) == pytest.approx((0.890, 0.463, 0.046, 0.046), abs=2e-3)
    assert np.corrcoef(own.ravel(), published.ravel())[0, 1] > 0.9


@pytest.mark.parametrize("hazard", ["landslide", "liquefaction"])
def test_areas_and_chances_are_each_others_inverse(hazard: str) -> None:
    chance = np.linspace(0, 1, 101)
    area = area_of_chance(chance, hazard)  # type: ignore[arg-type]
    assert (np.diff(area) > 0).all()
    np.testing.assert_allclose(chance_of_area(area, hazard), chance, atol=1e-9)  # type: ignore[arg-type]
    np.testing.assert_allclose(chance_of_area([0.0, 1.0], hazard), [0.0, 1.0], atol=1e-12)  # type: ignore[arg-type]


def test_rasters_of_ground_failure_are_checked() -> None:
    square = np.full((4, 4), 0.1)
    found = GroundFailure.from_rasters(square + np.eye(4), square, square, np.eye(4))
    assert found.graph.parents("damage_proxy") == ("landslide", "liquefaction", "building_damage")
    assert found.where["building_damage"].sum() == 4
    with pytest.raises(ValueError, match=r"buildings has shape \(2, 2\)"):
        GroundFailure.from_rasters(square, square, square, np.eye(2))
    with pytest.raises(ValueError, match=r"16 areas are outside \[0, 1\] \(first: 1.1\)"):
        GroundFailure.from_rasters(square, square + 1, square, square)
    with pytest.raises(ValueError, match="no area of 'flood'"):
        area_of_chance(square, "flood")  # type: ignore[arg-type]
