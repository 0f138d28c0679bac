"""GriddedObservations: one linear map and one likelihood of all cells, and what is refused at the door."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import latentcause as lc
from latentcause.observation import (
    BernoulliError,
    Component,
    CorrelatedError,
    FunctionOperator,
    GaussianError,
    Grid,
    LogNormalError,
    MixtureEmission,
    Observation,
    block_mean,
    cells,
    gaussian_blur,
    identity,
    points,
)

GRAPH = lc.CausalGraph.from_string("rain -> flood -> damage")
SHAPE = (4, 6)
MASK = np.arange(24).reshape(SHAPE) % 5 > 1


def gaussian_system(seed: int = 0) -> tuple[lc.GriddedObservations, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(3, *SHAPE, generator=generator, dtype=torch.float64)
    lags = np.abs(np.subtract.outer(np.arange(6), np.arange(6)))
    sensors = {
        "damage": [(cells(MASK), GaussianError(0.3)), (points(SHAPE, [[1.2, 3.4]]), GaussianError(0.1))],
        "rain": [
            (block_mean(SHAPE, 2), CorrelatedError(0.2 * 0.5**lags)),
            (gaussian_blur(SHAPE, 1), LogNormalError(0.2)),
        ],
    }
    return lc.GriddedObservations.simulate(GRAPH, z, sensors, generator), z


def dense(observations: lc.GriddedObservations) -> torch.Tensor:
    """A (M, d * pixels), column by column."""
    pixels = 3 * 24
    return observations.apply(torch.eye(pixels, dtype=torch.float64).reshape(pixels, 3, *SHAPE)).T


def noise_covariance(observations: lc.GriddedObservations) -> torch.Tensor:
    return observations.noise_times(torch.eye(len(observations.values), dtype=torch.float64))


def test_cells_stand_in_the_order_of_the_nodes() -> None:
    observations, z = gaussian_system()
    assert [node for node, _ in observations.per_node] == ["rain", "rain", "damage", "damage"]
    assert len(observations.values) == 6 + 24 + MASK.sum() + 1
    seen = observations.apply(z[None])[0]
    torch.testing.assert_close(seen[:6], block_mean(SHAPE, 2)(z[0]))
    torch.testing.assert_close(seen[30:-1], z[2][torch.as_tensor(MASK)])


@given(st.integers(0, 2**31))
def test_adjoint_is_the_transpose(seed: int) -> None:
    observations, _ = gaussian_system()
    rng = np.random.default_rng(seed)
    z, v = (
        torch.as_tensor(rng.standard_normal((2, 3, *SHAPE))),
        torch.as_tensor(rng.standard_normal((2, len(observations.values)))),
    )
    assert (observations.apply(z) * v).sum().item() == pytest.approx(
        (z * observations.adjoint(v)).sum().item(), rel=1e-9
    )
    assert observations.adjoint(v)[:, 1].abs().max() == 0
    torch.testing.assert_close(observations.tangent(z, z), observations.apply(z))


def test_gaussian_likelihood_is_the_dense_one() -> None:
    observations, z = gaussian_system()
    assert observations.is_gaussian
    assert observations.is_linear
    covariance = noise_covariance(observations)
    torch.testing.assert_close(covariance.diagonal(), observations.noise_variance)
    assert covariance[0, 1] == pytest.approx(0.1)
    exact = torch.distributions.MultivariateNormal(observations.values, covariance).log_prob(
        dense(observations) @ z.flatten()
    )
    stretch = observations.values[6:30].sum()  # of log-normal values: density of y, not of log y
    assert float(observations.log_likelihood(z[None])[0]) == pytest.approx(float(exact - stretch))
    value, variance = observations.sites(
        torch.zeros(2, len(observations.values)), torch.ones(2, len(observations.values))
    )
    torch.testing.assert_close(value, observations.values.float().expand_as(value))
    torch.testing.assert_close(variance, observations.noise_variance.float().expand_as(value))


def test_other_likelihoods_have_sites_and_stand_in_variances() -> None:
    noise = MixtureEmission(Component("normal", 2.0, 0.5), Component("normal", 0.0, 0.5))
    observations = lc.GriddedObservations(
        GRAPH,
        (5,),
        {
            "rain": Observation([1, 0, np.nan, 1, 0.2], noise=BernoulliError()),
            "flood": Observation([0.1, 2.0, 1.0, 0.3, 1.9], noise=noise),
            "damage": Observation(np.ones(5), noise=0.5),
        },
    )
    assert not observations.is_gaussian
    mean, variance = torch.zeros(2, 14, dtype=torch.float64), torch.full((2, 14), 2.0, dtype=torch.float64)
    value, noise_variance = observations.sites(mean, variance)
    expected = noise.sites(observations.values[4:9], mean[:, 4:9], variance[:, 4:9])
    torch.testing.assert_close(value[:, 4:9], expected[0])
    torch.testing.assert_close(noise_variance[:, 9:], torch.full((2, 5), 0.25, dtype=torch.float64))
    torch.testing.assert_close(observations.noise_times(mean + 3, noise_variance), 3 * noise_variance)
    with pytest.raises(ValueError, match="BernoulliError is not Gaussian"):
        observations.noise_times(mean)
    with pytest.raises(ValueError, match="BernoulliError is not Gaussian"):
        _ = observations.noise_variance
    start = observations.pseudo_inverse()
    assert start[0, 0] > 0 > start[0, 1]
    assert start[0, 2].isnan()
    assert start[0].nan_to_num().abs().max() < 1
    torch.testing.assert_close(start[2], torch.ones(5, dtype=torch.float64))


def test_pseudo_inverse_weighs_by_precision() -> None:
    rng = np.random.default_rng(0)
    good, poor = rng.standard_normal(6), rng.standard_normal(6)
    observations = lc.GriddedObservations(
        ["a", "b"],
        SHAPE,
        {"b": [Observation(good, block_mean(SHAPE, 2), 0.1), Observation(poor, block_mean(SHAPE, 2), 0.2)]},
    )
    field = observations.pseudo_inverse(tolerance=1e-12)
    assert field[0].isnan().all()
    torch.testing.assert_close(block_mean(SHAPE, 2)(field[1]), torch.as_tensor(0.8 * good + 0.2 * poor))
    left, right = cells(MASK), block_mean(SHAPE, 4, (0, 1))
    two = lc.GriddedObservations(
        ["a"], SHAPE, {"a": [Observation(np.ones(left.size), left, 1), Observation([3.0], right, 1)]}
    )
    matrix = np.concatenate([left.matrix.toarray(), right.matrix.toarray()])
    expected = (np.linalg.pinv(matrix) @ [*np.ones(left.size), 3.0]).reshape(SHAPE)
    expected[~(left.footprint | right.footprint)] = np.nan
    np.testing.assert_allclose(two.pseudo_inverse(tolerance=1e-12)[0].numpy(), expected, atol=1e-9)


def test_missing_cells_are_left_out_with_their_noise() -> None:
    values, sd = np.arange(24.0).reshape(SHAPE), np.full(SHAPE, 0.5)
    values[1, 2] = sd[1, 2] = np.nan
    sd[3, 5] = 2.0
    observations = lc.GriddedObservations(["a"], SHAPE, {"a": Observation(values, noise=GaussianError(sd))})
    assert len(observations.values) == 23
    assert observations.noise_variance[-1] == 4
    assert observations.pseudo_inverse()[0].isnan().sum() == 1


def test_functions_have_pullbacks() -> None:
    operator = FunctionOperator(lambda z: z.square().flatten(1), SHAPE)
    observations = lc.GriddedObservations(
        ["a", "b"], SHAPE, {"b": Observation(np.ones(24), operator, 1.0), "a": Observation(np.ones(SHAPE), noise=1.0)}
    )
    z = torch.as_tensor(np.random.default_rng(0).standard_normal((2, 2, *SHAPE)))
    v = torch.ones(2, 48, dtype=torch.float64)
    torch.testing.assert_close(observations.pullback(z, v), torch.stack([torch.ones_like(z[:, 0]), 2 * z[:, 1]], 1))
    torch.testing.assert_close(observations.tangent(z, z)[:, 24:], 2 * z[:, 1].square().flatten(1))
    assert not observations.is_linear
    assert observations.pseudo_inverse()[1].isnan().all()
    with pytest.raises(ValueError, match="node 'b' is seen through a function"):
        observations.adjoint(v)


def test_vectors_of_sites_are_fields_of_one_axis() -> None:
    observations = lc.GriddedObservations(["a", "b"], (4,), {"a": Observation([1.0, 2.0, np.nan, 4.0], noise=0.1)})
    assert observations.values.tolist() == [1.0, 2.0, 4.0]
    assert observations.grid.dims == ("x",)


def test_moving_and_leaving_out() -> None:
    observations, _ = gaussian_system()
    single = observations.to(dtype=torch.float32)
    assert single.values.dtype == torch.float32
    assert observations.values.dtype == torch.float64
    assert single.noise_variance.dtype == torch.float32
    part = single.without("rain")
    torch.testing.assert_close(part.values, single.values[30:])
    assert "rain: not observed" in repr(part)
    with pytest.raises(ValueError, match="node 'flood' is not observed"):
        observations.without("flood")
    with pytest.raises(ValueError, match="no observations"):
        part.without("damage")


def test_simulated_noise_has_its_spread() -> None:
    z = torch.zeros(1, 20_000, dtype=torch.float64)
    observations = lc.GriddedObservations.simulate(
        ["a"], z, {"a": [(identity((20_000,)), GaussianError(0.3))]}, torch.Generator().manual_seed(0)
    )
    assert float(observations.values.std()) == pytest.approx(0.3, rel=0.02)


def plain(values: Any = 1.0, **given: Any) -> Observation:
    return Observation(np.broadcast_to(values, SHAPE), noise=given.pop("noise", 0.1), **given)


@pytest.mark.parametrize(
    ("observations", "message"),
    [
        ({}, "there are no observations"),
        ({"rain": []}, "there are no observations"),
        ({"rian": plain()}, "observations of 'rian', no node of the system"),
        ({"rain": plain(np.nan)}, "node 'rain': all 24 cells are missing"),
        ({"rain": [plain(), plain(np.inf)]}, "node 'rain', observation 1: 24 values are infinite"),
        ({"rain": plain(np.inf, name="a.tif, band 2")}, "node 'rain', a.tif, band 2: 24 values are infinite"),
        ({"rain": Observation(np.ones(5), noise=0.1)}, r"node 'rain': values of shape \(5,\) .* give an operator"),
        ({"rain": Observation(np.ones(5), block_mean(SHAPE, 2), 0.1)}, "must belong together"),
        (
            {"rain": Observation([1.0], block_mean((4,), 4), 0.1)},
            r"takes fields of shape \(4,\), the fields have shape \(4, 6\)",
        ),
        ({"rain": plain(1.5, noise=BernoulliError())}, r"node 'rain': 24 values are outside \[0, 1\]"),
        ({"rain": plain(noise=GaussianError(np.ones(5)))}, "node 'rain': 5 noise standard deviations for 24 values"),
        ({"rain": plain(noise=CorrelatedError(np.eye(3)))}, "node 'rain': a noise covariance of 3 cells for 24 values"),
        ({"rain": plain(0.0, noise=LogNormalError(1.0))}, "node 'rain': 24 values are not positive"),
    ],
)
def test_bad_observations_are_refused(observations: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lc.GriddedObservations(GRAPH, SHAPE, observations)


def test_noise_is_positive_and_given() -> None:
    for sd in (0, -0.1):
        with pytest.raises(ValueError, match="give positive numbers"):
            Observation([1.0], noise=sd)
    with pytest.raises(TypeError, match="needs its noise"):
        Observation([1.0])
    with pytest.raises(TypeError, match="not a function"):
        Observation([1.0], lambda z: z, 0.1)  # type: ignore[arg-type]


def test_a_lost_node_is_refused() -> None:
    graph = lc.CausalGraph.from_string("rain -> flood; hail")
    with pytest.raises(ValueError, match="node 'hail' is not observed and has no edge"):
        lc.GriddedObservations(graph, SHAPE, {"rain": plain()})
    assert lc.GriddedObservations(graph, SHAPE, {"hail": plain()}).nodes == ("rain", "flood", "hail")
    observed = lc.GriddedObservations(["rain", "flood", "hail"], SHAPE, {"rain": plain()})
    with pytest.raises(ValueError, match="node 'hail'"):
        observed.validate_for(graph)
    with pytest.raises(ValueError, match="the graph has 'rain', 'flood', 'damage'"):
        observed.validate_for(GRAPH)


@pytest.mark.parametrize(
    "call",
    [
        lambda o: o.apply(torch.zeros(1, 2, *SHAPE)),
        lambda o: o.apply(torch.zeros(3, *SHAPE)),
        lambda o: o.adjoint(torch.zeros(1, 3)),
        lambda o: o.noise_times(torch.zeros(1, 3)),
    ],
)
def test_other_shapes_are_refused(call: Callable[[lc.GriddedObservations], object]) -> None:
    with pytest.raises(ValueError, match="of shape"):
        call(gaussian_system()[0])


def test_repr_says_who_sees_what() -> None:
    observations, _ = gaussian_system()
    text = repr(observations)
    assert text.splitlines()[0] == f"GriddedObservations: 3 fields of 4 x 6 pixels, {len(observations.values)} values"
    assert "rain: 6 cells that see 24 of 24 pixels, CorrelatedError" in text
    assert "flood: not observed" in text
    assert "Observation(a.tif: 24 values, every pixel, GaussianError)" in repr(plain(name="a.tif"))
    assert lc.GriddedObservations(["a"], Grid.of_shape(SHAPE), {"a": plain()}).shape == SHAPE
