from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from latentcause.models.pairs.lines import Lines, directions_of
from latentcause.models.pairs.whitening import Whitening


@dataclass(frozen=True)
class Linear:
    """z = total u, x = mixing z, with a random acyclic system; rows of pairs that hit one variable, or none (d)."""

    total: np.ndarray
    mixing: np.ndarray
    noise: np.ndarray
    noise_after: np.ndarray
    hit: np.ndarray

    @property
    def before(self) -> np.ndarray:
        return self.noise @ self.total.T @ self.mixing.T

    @property
    def after(self) -> np.ndarray:
        return self.noise_after @ self.total.T @ self.mixing.T


def linear(d: int, n: int, seed: int = 0, size: int | None = None) -> Linear:
    rng = np.random.default_rng(seed)
    order = rng.permutation(d)
    weights = np.zeros((d, d))
    weights[np.ix_(order, order)] = np.tril(rng.choice([-1, 1], (d, d)) * rng.uniform(0.3, 1.2, (d, d)), -1)
    weights *= rng.random((d, d)) < min(1.0, 3 / d)
    total = np.linalg.inv(np.eye(d) - weights)
    u, hit = rng.standard_normal((n, d)), rng.integers(d + 1, size=n)
    after = u.copy()
    for i in range(d):
        rows = hit == i
        after[rows, i] = (rng.standard_normal(rows.sum()) - np.delete(u[rows], i, 1) @ np.delete(total[i], i)) / total[
            i, i
        ]
    return Linear(total, rng.standard_normal((size or d, d)), u, after, hit)


def order_of(lines: Lines, truth: Linear) -> np.ndarray:
    """Which line is that of each variable."""
    m = truth.noise.shape[1]
    together = np.abs(np.corrcoef(lines.codes(truth.before).T, truth.noise.T)[:m, m:])
    return linear_sum_assignment(-together.T)[1]


@pytest.mark.parametrize(("d", "n"), [(2, 300), (3, 500), (6, 2000), (12, 5000), (32, 8000)])
def test_codes_are_the_noises_to_rounding(d, n):
    truth = linear(d, n)
    lines = Lines.fit(truth.before, truth.after, d, seed=0)
    codes = lines.taking(order_of(lines, truth)).codes(truth.before)
    np.testing.assert_allclose(codes.std(axis=0), 1)
    gain = (codes * truth.noise).sum(axis=0) / (truth.noise**2).sum(axis=0)
    np.testing.assert_allclose(codes, gain * truth.noise, atol=1e-6)


def test_variables_are_within_sampling_error():
    truth = linear(4, 40_000)
    lines = Lines.fit(truth.before, truth.after, 4, seed=0)
    lines = lines.taking(order_of(lines, truth))
    z, true = lines.variables(truth.before), truth.noise @ truth.total.T
    scale = np.sign((z * true).sum(axis=0))
    # Each regression has 8000 rows: errors of about 1 / sqrt(8000), in the unit of the intervened variable, for each noise.
    np.testing.assert_allclose((z * scale - true).std(axis=0), 0, atol=5 * np.sqrt(4 / 8000))
    np.testing.assert_allclose(z, lines.codes(truth.before) @ lines.solution)
    given = [(lines.variables(truth.after)[truth.hit == i, i]).std() for i in range(4)]
    np.testing.assert_allclose(given, 1, atol=1e-3)


def test_an_invertible_map_of_what_is_observed_changes_nothing():
    truth = linear(5, 2000)
    turn = np.linalg.qr(np.random.default_rng(1).standard_normal((5, 5)))[0] * np.geomspace(1, 30, 5)
    lines, turned = (Lines.fit(truth.before @ a, truth.after @ a, 5, seed=0) for a in (np.eye(5), turn))
    z, again = (
        part.taking(order_of(part, mapped)).variables(mapped.before)
        for part, mapped in (
            (lines, truth),
            (turned, Linear(truth.total, turn.T @ truth.mixing, truth.noise, truth.noise_after, truth.hit)),
        )
    )
    np.testing.assert_allclose(again * np.sign((again * z).sum(axis=0)), z, atol=1e-5)


def test_more_is_observed_than_there_are_latents():
    truth = linear(3, 4000, size=7)
    whitening = Whitening.of(truth.before, truth.after)
    lines = Lines.fit(whitening(truth.before), whitening(truth.after), 3, seed=0)
    together = np.abs(np.corrcoef(lines.codes(whitening(truth.before)).T, truth.noise.T)[:3, 3:])
    np.testing.assert_allclose(together.max(axis=0), 1, atol=1e-9)
    with_rest = rotated_beside_noise(truth, 4)
    lines = Lines.fit(*with_rest, 3, seed=0)
    together = np.abs(np.corrcoef(lines.codes(with_rest[0]).T, truth.noise.T)[:3, 3:])
    np.testing.assert_allclose(together.max(axis=0), 1, atol=5e-3)


def rotated_beside_noise(truth: Linear, extra: int) -> tuple[np.ndarray, np.ndarray]:
    """Standardised observations turned with as many dimensions of unit noise, drawn anew after the intervention."""
    rng, n = np.random.default_rng(1), len(truth.noise)
    whitening = Whitening.of(truth.before, truth.after)
    turn = np.linalg.qr(rng.standard_normal((whitening.size + extra,) * 2))[0]
    before, after = (
        np.hstack([whitening(x), rng.standard_normal((n, extra))]) @ turn for x in (truth.before, truth.after)
    )
    return before, after


def test_errors_of_measurement_do_not_hide_the_lines():
    truth, rng = linear(3, 8000, size=12), np.random.default_rng(1)
    x, x_after = (part + 0.1 * rng.standard_normal(part.shape) for part in (truth.before, truth.after))
    whitening = Whitening.of(x, x_after)  # which makes errors as large as what is looked for
    lines = Lines.fit(whitening(x), whitening(x_after), 3, seed=0)
    together = np.abs(np.corrcoef(lines.codes(whitening(x)).T, truth.noise.T)[:3, 3:])
    assert together.max(axis=0).min() > 0.97


def test_pairs_that_hit_two_are_left_out():
    truth, rng = linear(3, 6000), np.random.default_rng(1)
    after = truth.noise_after.copy()
    double = rng.random(6000) < 0.3
    after[double, 0], after[double, 1] = 2 * rng.standard_normal((2, double.sum()))
    mixed = Linear(truth.total, truth.mixing, truth.noise, after, truth.hit)
    errors = []
    for several in (False, True):
        lines = Lines.fit(mixed.before, mixed.after, 3, 0, several)
        codes = lines.taking(order_of(lines, mixed)).codes(mixed.before)
        errors.append(1 - np.abs(np.diag(np.corrcoef(codes.T, truth.noise.T)[:3, 3:])).min())
    assert errors[0] > 1e-2
    assert errors[1] < 1e-6


def test_told_targets_decide_the_regressions():
    truth = linear(3, 3000)
    lines = Lines.fit(truth.before, truth.after, 3, seed=0)
    lines = lines.taking(order_of(lines, truth))
    hit = np.eye(4)[truth.hit][:, :3]
    told = lines.told(lines.codes(truth.after), hit)
    assert np.array_equal(told.unmix, lines.unmix)
    np.testing.assert_allclose(told.solution, lines.solution, atol=1e-4)
    none = lines.told(lines.codes(truth.after), np.zeros((3000, 3)))
    assert np.array_equal(none.solution, np.eye(3))


def test_directions_are_leading_ones_of_weighed_changes():
    moved = np.array([[2.0, 0.0], [-4.0, 0.0], [1.0, 1.0], [3.0, 3.0], [0.0, 9.0]])
    hit = np.array([[1, 0], [1, 0], [0, 1], [0, 1], [0, 0]], dtype=float)
    found = np.abs(directions_of(moved, hit))
    np.testing.assert_allclose(found, [[1, 0], [np.sqrt(0.5)] * 2], atol=1e-12)
