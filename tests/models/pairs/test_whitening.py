from __future__ import annotations

import numpy as np
import pytest

from latentcause.models.pairs.whitening import Whitening


def rows(n: int = 2000, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, 4)) @ rng.standard_normal((4, 4)) + np.array([3.0, 0.0, -5.0, 1.0])


def test_it_whitens_and_is_undone():
    x, after = rows(), rows(seed=1) * 0.5
    whitening = Whitening.of(x, after)
    v = np.vstack([whitening(x), whitening(after)]).astype(np.float64)
    np.testing.assert_allclose(v.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(v.T @ v / len(v), np.eye(4), atol=1e-5)
    np.testing.assert_allclose(whitening.inverse(whitening(x)), x, atol=1e-5)
    np.testing.assert_allclose(whitening.forward @ whitening.backward, np.eye(4), atol=1e-12)


def test_columns_stay_near_their_own_and_units_play_no_part():
    x = rows()
    unit = np.array([1e-5, 1.0, 1e4, 0.1])
    plain, scaled = Whitening.of(x, x[::-1]), Whitening.of(x * unit, x[::-1] * unit)
    np.testing.assert_allclose(scaled(x * unit), plain(x), atol=1e-5)
    assert (np.diag(np.corrcoef(x.T, plain(x).T)[:4, 4:]) > 0.5).all()


def test_directions_that_do_not_vary_are_left_out():
    x = rows().astype(np.float32)
    constant = np.column_stack([x, np.full(2000, 5.1, dtype=np.float32), x @ np.ones(4, dtype=np.float32)])
    whitening = Whitening.of(constant, constant[::-1])
    assert whitening.size == 4
    v = whitening(constant).astype(np.float64)
    np.testing.assert_allclose(v.T @ v / len(v), np.eye(4), atol=1e-3)
    np.testing.assert_allclose(whitening.inverse(v), constant, atol=1e-4)
    moved = constant.copy()
    moved[:, 4] += 1e3  # nothing is known of what did not vary
    np.testing.assert_array_equal(whitening(moved), whitening(constant))


@pytest.mark.parametrize("columns", [40, 1200], ids=["exact", "randomised"])
def test_the_leading_directions_are_those_of_largest_variance(columns):
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.standard_normal((columns, 6)))[0]
    x = rng.standard_normal((500, 6)) * np.array([8.0, 7.0, 6.0, 0.3, 0.2, 0.1]) @ axes.T + 2.0
    whitening = Whitening.of(x[:250], x[250:], 3)
    v = whitening(x).astype(np.float64)
    assert v.shape == (500, 3)
    np.testing.assert_allclose(v.T @ v / 500, np.eye(3), atol=1e-3)
    main = (x - x.mean(axis=0)) @ axes[:, :3]
    fitted = v @ np.linalg.lstsq(v, main, rcond=None)[0]
    assert np.abs(fitted - main).max() < 0.5
    with_all = Whitening.of(x[:250], x[250:], 100)
    assert with_all.size == 6
    np.testing.assert_allclose(with_all.inverse(with_all(x)), x, atol=1e-4)
