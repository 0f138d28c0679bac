from __future__ import annotations

import numpy as np
import pytest

from latentcause.models.anderson import MEMORY, Anderson


def contraction(d: int, slowest: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x -> T x + c with eigenvalues up to ``slowest``, and its fixed point."""
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.normal(size=(d, d)))[0]
    T = basis @ np.diag(np.linspace(0.1, slowest, d)) @ basis.T
    c = rng.normal(size=d)
    return T, c, np.linalg.solve(np.eye(d) - T, c)


def run(T: np.ndarray, c: np.ndarray, steps: int, weights: np.ndarray | None = None) -> np.ndarray:
    anderson = Anderson(np.ones(len(c)) if weights is None else weights)
    x = np.zeros(len(c))
    for _ in range(steps):
        x = anderson.next(x, T @ x + c)
    return x


@pytest.mark.parametrize("d", [1, 2, 4])
def test_a_linear_map_of_few_dimensions_is_solved_in_that_many_steps(d):
    T, c, fixed = contraction(d, 0.99, seed=d)
    assert d <= MEMORY
    assert np.allclose(run(T, c, d + 1), fixed, atol=1e-3 * np.linalg.norm(fixed))
    assert np.allclose(run(T, c, d + 4), fixed, atol=1e-8 * np.linalg.norm(fixed))


def test_a_slow_contraction_converges_much_faster_than_by_plain_steps():
    T, c, fixed = contraction(30, 0.99, seed=0)
    plain = np.zeros(30)
    for _ in range(60):
        plain = T @ plain + c
    error, plain_error = np.linalg.norm(run(T, c, 60) - fixed), np.linalg.norm(plain - fixed)
    assert plain_error > 0.1 * np.linalg.norm(fixed)
    assert error < 0.02 * plain_error


def test_the_first_step_is_plain_and_so_is_the_first_after_forgetting():
    T, c, _ = contraction(3, 0.9, seed=1)
    anderson = Anderson(np.ones(3))
    x = np.array([1.0, 2.0, 3.0])
    assert np.array_equal(anderson.next(x, T @ x + c), T @ x + c)
    x = T @ x + c
    assert not np.allclose(anderson.next(x, T @ x + c), T @ x + c)
    anderson.forget()
    assert np.array_equal(anderson.next(x, T @ x + c), T @ x + c)


def test_entries_without_weight_do_not_steer():
    T, c, fixed = contraction(2, 0.9, seed=2)
    rng = np.random.default_rng(3)
    anderson = Anderson(np.array([1.0, 1.0, 0.0]))
    x = np.zeros(3)
    for _ in range(8):
        x = anderson.next(x, np.append(T @ x[:2] + c, rng.normal(scale=1e3)))
    assert np.allclose(x[:2], fixed, atol=1e-6)


def test_at_the_fixed_point_it_stays_there():
    T, c, fixed = contraction(4, 0.9, seed=4)
    anderson = Anderson(np.ones(4))
    x = fixed
    for _ in range(4):
        x = anderson.next(x, T @ x + c)
    assert np.allclose(x, fixed, atol=1e-12)
