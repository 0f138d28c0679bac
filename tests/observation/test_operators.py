"""Operators: adjoints, means, pseudo-inverses and derivatives, against dense matrices and brute force."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage, sparse

from latentcause.observation import (
    FunctionOperator,
    Grid,
    LinearOperator,
    area_mean,
    between,
    block_mean,
    cells,
    gaussian_blur,
    identity,
    linear,
    points,
)

shapes = st.one_of(
    st.tuples(st.integers(1, 9)), st.tuples(st.integers(1, 7), st.integers(1, 7)), st.just((2, 3, 4))
).filter(lambda shape: math.prod(shape) > 1)
seeds = st.integers(0, 2**31)


def random_edges(draw: st.DrawFn, n: int) -> np.ndarray:
    cuts = draw(
        st.lists(st.floats(0, n, allow_nan=False), min_size=2, max_size=6, unique_by=lambda x: float(np.round(x, 3)))
    )
    edges = np.round(np.sort(cuts), 3)
    return edges[::-1] if draw(st.booleans()) else edges


@st.composite
def operators(draw: st.DrawFn) -> LinearOperator:
    shape = draw(shapes)
    rng = np.random.default_rng(draw(seeds))
    made: dict[str, Callable[[], LinearOperator]] = {
        "identity": lambda: identity(shape),
        "blocks": lambda: block_mean(shape, rng.uniform(0.4, 3), rng.uniform(-2, 2), partial=True),
        "areas": lambda: area_mean(shape, [random_edges(draw, n) for n in shape]),
        "blur": lambda: gaussian_blur(shape, rng.uniform(0, 2, len(shape))),
        "cells": lambda: cells(_mask(rng, shape)),
        "points": lambda: points(shape, rng.uniform(0, shape, (4, len(shape)))),
        "matrix": lambda: LinearOperator([rng.standard_normal((3, math.prod(shape)))], shape),
    }
    operator = made[draw(st.sampled_from(sorted(made)))]()
    if draw(st.booleans()):
        operator = operator @ gaussian_blur(shape, 0.8)
    return operator.rows(_mask(rng, (operator.size,))) if draw(st.booleans()) else operator


def _mask(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    mask = rng.random(shape) < 0.6
    mask.flat[rng.integers(mask.size)] = True
    return mask


def normal(rng: np.random.Generator, *shape: int) -> torch.Tensor:
    return torch.as_tensor(rng.standard_normal(shape))


@given(operators(), seeds)
def test_adjoint_is_the_transpose(operator: LinearOperator, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = normal(rng, 2, *operator.shape), normal(rng, 2, operator.size)
    assert (operator(x) * y).sum().item() == pytest.approx((x * operator.adjoint(y)).sum().item(), rel=1e-9, abs=1e-9)


@given(operators(), seeds)
def test_an_operator_is_its_matrix(operator: LinearOperator, seed: int) -> None:
    x = normal(np.random.default_rng(seed), 3, *operator.shape)
    dense = torch.as_tensor(operator.matrix.toarray())
    torch.testing.assert_close(operator(x), x.reshape(3, -1) @ dense.T)
    np.testing.assert_array_equal(operator.footprint.ravel(), np.abs(dense.numpy()).sum(0) > 0)
    assert operator.size == len(dense) == math.prod(operator.grid)
    if operator.disjoint:
        gram = (dense @ dense.T).numpy()
        np.testing.assert_allclose(gram, np.diag(np.diag(gram)), atol=1e-12)


@given(shapes, st.floats(0.3, 4), st.floats(-5, 5), seeds)
def test_means_keep_constants(shape: tuple[int, ...], ratio: float, offset: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for operator in (
        block_mean(shape, ratio, offset, partial=True),
        gaussian_blur(shape, rng.uniform(0, 3)),
        points(shape, rng.uniform(0, shape, (5, len(shape)))),
    ):
        torch.testing.assert_close(
            operator(torch.full(shape, 2.5, dtype=torch.float64)),
            torch.full((operator.size,), 2.5, dtype=torch.float64),
        )


@given(st.data())
def test_area_means_are_integrals_over_cells(data: st.DataObject) -> None:
    shape = data.draw(shapes)
    edges = [random_edges(data.draw, n) for n in shape]
    operator = area_mean(shape, edges)
    field = np.random.default_rng(0).standard_normal(shape)
    for number, cell in enumerate(itertools.product(*(range(len(axis) - 1) for axis in edges))):
        total = volume = 0.0
        for pixel in np.ndindex(*shape):
            shared = 1.0
            for axis, k, i in zip(edges, cell, pixel, strict=True):
                low, high = sorted(axis[k : k + 2])
                shared *= max(0.0, min(high, i + 1) - max(low, i))
            total, volume = total + shared * field[pixel], volume + shared
        assert operator(torch.as_tensor(field))[number].item() == pytest.approx(total / volume, abs=1e-9)


def test_whole_blocks_are_plain_means() -> None:
    field = torch.arange(24.0, dtype=torch.float64).reshape(4, 6)
    operator = block_mean((4, 6), 2)
    assert operator.grid == (2, 3)
    assert operator.disjoint
    torch.testing.assert_close(operator(field), field.reshape(2, 2, 3, 2).mean((1, 3)).flatten())


def test_blocks_that_the_field_cuts_off() -> None:
    field = torch.arange(10.0, dtype=torch.float64)
    assert block_mean((10,), 4, 3)(field).tolist() == [4.5]
    assert block_mean((10,), 4, 3, partial=True)(field).tolist() == [1.0, 4.5, 8.0]
    assert block_mean((10,), 4, -9, partial=True)(field).tolist() == [1.0, 4.5, 8.0]
    assert block_mean((3,), 10, -4, partial=True)(field[:3]).tolist() == [1.0]


def test_cells_of_another_grid_in_either_direction() -> None:
    north_up = Grid((np.linspace(8, 0, 9), np.linspace(0, 4, 5)), crs="EPSG:32654")
    south_up = Grid((np.linspace(1, 7, 4), np.linspace(0, 4, 3)), crs="EPSG:32654")
    field = torch.arange(32.0, dtype=torch.float64).reshape(8, 4)
    expected = field.flip(0)[1:7].reshape(3, 2, 2, 2).mean((1, 3)).flatten()
    torch.testing.assert_close(between(north_up, south_up)(field), expected)
    keep = np.array([[True, False], [False, False], [True, True]])
    torch.testing.assert_close(between(north_up, south_up, keep)(field), expected[torch.as_tensor(keep.ravel())])


def test_blur_is_a_gaussian_filter_away_from_the_border() -> None:
    field = np.random.default_rng(0).standard_normal((30, 24))
    blurred = gaussian_blur((30, 24), (1.5, 0.7))(torch.as_tensor(field)).reshape(30, 24).numpy()
    np.testing.assert_allclose(
        blurred[7:-7, 4:-4], ndimage.gaussian_filter(field, (1.5, 0.7), radius=(6, 3))[7:-7, 4:-4], atol=1e-12
    )


def test_points_are_interpolated_between_centres() -> None:
    rng = np.random.default_rng(0)
    field, at = rng.standard_normal((5, 6)), rng.uniform(0, (5, 6), (40, 2))
    expected = ndimage.map_coordinates(field, at.T - 0.5, order=1, mode="nearest")
    np.testing.assert_allclose(points((5, 6), at)(torch.as_tensor(field)).numpy(), expected, atol=1e-12)


def test_a_linear_function_becomes_its_matrix() -> None:
    operator = linear(lambda z: z.cumsum(-1)[:, ::2], (3, 4))
    assert operator.grid == (2, 4)
    z = normal(np.random.default_rng(0), 5, 3, 4)
    torch.testing.assert_close(operator(z), z.cumsum(-1)[:, ::2].flatten(1))


@given(operators(), seeds)
def test_pseudo_inverse(operator: LinearOperator, seed: int) -> None:
    y = normal(np.random.default_rng(seed), 2, operator.size)
    dense = operator.matrix.toarray()
    values = np.linalg.svd(dense, compute_uv=False)
    if values.min(where=values > 1e-9 * values.max(), initial=np.inf) < 0.02 * values.max():
        return  # an ill-conditioned operator is undone as far as the tolerance allows, by design
    found = operator.pseudo_inverse(y, tolerance=1e-12)
    np.testing.assert_allclose(found.reshape(2, -1).numpy(), y.numpy() @ np.linalg.pinv(dense, 1e-9).T, atol=1e-6)


def test_pseudo_inverse_that_does_not_arrive_says_so() -> None:
    blur = gaussian_blur((40,), 3.0)
    y = normal(np.random.default_rng(0), 40)
    with pytest.warns(RuntimeWarning, match="in 2 steps"):
        blur.pseudo_inverse(y, steps=2)
    assert blur.pseudo_inverse(torch.zeros(40)).abs().max() == 0


def test_composition_applies_the_right_one_first() -> None:
    rng = np.random.default_rng(0)
    first, second = gaussian_blur((6, 6), 1.0), block_mean((6, 6), 2)
    both = block_mean((3, 3), 3) @ second @ first
    z = normal(rng, 4, 6, 6)
    torch.testing.assert_close(both(z)[:, 0], first(z).mean(-1))
    matrices = LinearOperator([rng.standard_normal((2, 5)), rng.standard_normal((5, 6))], (6,))
    assert len(matrices.factors) == 1
    with pytest.raises(ValueError, match="takes fields of shape \\(3, 3\\)"):
        _ = block_mean((3, 3), 3) @ first


def test_derivatives_of_any_order_and_transforms() -> None:
    for operator in (gaussian_blur((3, 4), 1.0).rows([0, 2, 5]), block_mean((3, 4), 1.5, partial=True)):
        z = normal(np.random.default_rng(0), 2, 3, 4).requires_grad_()
        with torch.random.fork_rng(devices=[]):  # the checks draw random directions
            assert torch.autograd.gradcheck(operator, z)
            assert torch.autograd.gradgradcheck(lambda x, op=operator: op(x).square(), z)
        dense = torch.as_tensor(operator.matrix.toarray())
        torch.testing.assert_close(torch.func.jacrev(operator)(z[0].detach()).reshape(dense.shape), dense)
        torch.testing.assert_close(torch.func.vmap(operator, in_dims=1)(z.movedim(0, 1)), operator(z))
        torch.testing.assert_close(operator.tangent(z, 2 * z), operator(2 * z))


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # torch's own, at first use
def test_forward_derivatives() -> None:
    operator = block_mean((3, 4), 1.5, partial=True)
    z = normal(np.random.default_rng(0), 2, 3, 4)
    torch.testing.assert_close(torch.func.jvp(operator, (z,), (3 * z,))[1], operator(3 * z))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dtype_of_the_field_is_kept(dtype: torch.dtype) -> None:
    operator = block_mean((4, 4), 2)
    z = normal(np.random.default_rng(0), 4, 4)
    found = operator(z.to(dtype))
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), operator(z), atol=0.02, rtol=0.02)


def test_a_function_and_its_derivatives() -> None:
    operator = FunctionOperator(lambda z: z.square().sum(-1), (3, 4))
    z, u, v = (normal(np.random.default_rng(seed), 2, *shape) for seed, shape in enumerate([(3, 4), (3, 4), (3,)]))
    assert operator.grid == (3,)
    torch.testing.assert_close(operator(z[0]), z[0].square().sum(-1))
    torch.testing.assert_close(operator.tangent(z, u), 2 * (z * u).sum(-1))
    torch.testing.assert_close(operator.pullback(z, v), 2 * z * v[..., None])
    torch.testing.assert_close(operator.rows([2, 0])(z), operator(z)[:, [2, 0]])
    of_blocks = FunctionOperator(torch.tanh, (2, 2)) @ block_mean((4, 4), 2)
    torch.testing.assert_close(of_blocks(normal(np.random.default_rng(3), 5, 4, 4)).shape, torch.Size([5, 4]))
    half = of_blocks.pullback(torch.zeros(1, 4, 4, dtype=torch.float64), torch.ones(1, 4, dtype=torch.float64))
    torch.testing.assert_close(half, torch.full((1, 4, 4), 0.25, dtype=torch.float64))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: area_mean((4,), [[0, 5]]), "cells along axis 0 span 0 to 5 pixels, outside the field of 0 to 4"),
        (lambda: area_mean((4, 4), [[0, 4]]), "edges along 1 axes"),
        (lambda: area_mean((4,), [[0, 2, 1]]), "neither rise nor fall"),
        (lambda: block_mean((4,), 0), "positive number of pixels"),
        (lambda: block_mean((4,), 5), "no whole block of 5 pixels"),
        (lambda: block_mean((4, 4), (1, 2, 3)), "one number, or one per axis"),
        (lambda: gaussian_blur((4,), -1), "at least 0 pixels"),
        (lambda: cells(np.zeros((2, 2), dtype=bool)), "true somewhere"),
        (lambda: points((4, 4), [[1, 1], [5, 1]]), r"1 points lie outside .* point 1 at \(5.0, 1.0\)"),
        (lambda: points((4, 4), [1, 1]), r"give \(k, 2\)"),
        (lambda: identity((3, 0)), "at least 1"),
        (lambda: linear(torch.tanh, (3,)), "not linear"),
        (lambda: linear(lambda z: z + 1, (3,)), "not linear"),
        (lambda: linear(lambda z: z, (200, 200)), "too large"),
        (lambda: LinearOperator([np.ones((2, 3))], (4,)), "has 3 columns: 4 are needed"),
        (lambda: LinearOperator([np.array([[np.inf, 0.0]])], (2,)), "NaN or infinite"),
        (lambda: LinearOperator([sparse.csr_matrix((0, 3))], (3,)), "0 cells"),
        (lambda: FunctionOperator(lambda z: z.sum(), (3,)), "must give"),
        (lambda: between(Grid.of_shape((4,)), Grid(([2.0, 5.0],))), "1 of 1 cells lie outside the field"),
        (lambda: between(Grid.of_shape((4,)), Grid(([0.0, 1.0],), crs="EPSG:4326")), "incompatible coordinate systems"),
        (lambda: between(Grid.of_shape((4,)), Grid.of_shape((2, 2))), "same axes"),
        (lambda: identity((3,))(torch.zeros(4)), "fields of shape"),
        (lambda: identity((3,)).adjoint(torch.zeros(4)), "3 cells"),
    ],
)
def test_bad_input_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
