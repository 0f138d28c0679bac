from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from latentcause.scm import (
    EmpiricalNoise,
    GaussianNoise,
    KernelNoise,
    LinearMechanism,
    MonotoneSpline,
    PostNonlinearMechanism,
    UniformNoise,
)
from latentcause.scm.fitting import post_nonlinear, splines
from latentcause.scm.fitting.table import Table

BENT = MonotoneSpline(np.array([-2.0, -0.5, 0.0, 3.0]), np.array([0.5, 3.0, 0.2, 1.0]), -1.0)


@dataclass(frozen=True)
class Exponential:
    """The link exp, so that the noise multiplies."""

    def __call__(self, y: Tensor) -> Tensor:
        return y.exp()

    def inverse(self, z: Tensor) -> Tensor:
        return z.log()

    def log_slope(self, z: Tensor) -> Tensor:
        return -z.log()


def curve(parents: np.ndarray) -> np.ndarray:
    return np.sin(1.5 * parents[:, 0]) + 0.5 * parents[:, 1]


def test_the_noise_behind_a_value_is_exact():
    mechanism = PostNonlinearMechanism(LinearMechanism((0.7, -0.4), 0.3, 0.5), BENT)
    generator = torch.Generator().manual_seed(0)
    parents = torch.randn(500, 2, generator=generator, dtype=torch.float64)
    noise = torch.randn(500, generator=generator, dtype=torch.float64)
    assert (mechanism.abduct(mechanism.predict(parents, noise), parents) - noise).abs().max() < 1e-12


def test_the_log_density_has_the_jacobian_of_the_link():
    mechanism = PostNonlinearMechanism(LinearMechanism((0.7,), 0.3, 0.5), BENT)
    parents = torch.full((1, 1), 0.8, dtype=torch.float64)
    z = torch.linspace(-30, 30, 200_001, dtype=torch.float64)
    density = mechanism.log_density(z, parents.expand(len(z), 1)).exp()
    assert torch.trapezoid(density, z).item() == pytest.approx(1.0, abs=1e-6)
    assert torch.trapezoid(density * z, z).item() == pytest.approx(mechanism.mean(parents).item(), abs=2e-3)
    log_normal = PostNonlinearMechanism(LinearMechanism((), 0.3, 0.5), Exponential())
    z = torch.tensor([0.2, 1.0, 4.0], dtype=torch.float64)
    expected = torch.distributions.LogNormal(torch.tensor(0.3).double(), math.sqrt(0.5)).log_prob(z)
    assert torch.allclose(log_normal.log_density(z, torch.zeros(3, 0, dtype=z.dtype)), expected)


def test_the_mean_is_that_over_the_noise():
    parents = torch.linspace(-1, 1, 6, dtype=torch.float64).reshape(2, 3, 1)
    line = 0.5 * parents[..., 0] + 0.1
    values = np.random.default_rng(0).gamma(2.0, 0.3, 100)
    of_values = np.exp(values).mean()
    for noise, factor in (
        (GaussianNoise(0.6), math.exp(0.3)),
        (EmpiricalNoise(values), of_values),
        (KernelNoise(values, 0.2), of_values * math.exp(0.02)),
    ):
        mechanism = PostNonlinearMechanism(LinearMechanism((0.5,), 0.1, noise=noise), Exponential())
        assert torch.allclose(mechanism.mean(parents), factor * line.exp(), rtol=1e-6)
    many = EmpiricalNoise(np.random.default_rng(1).normal(size=5000))
    mechanism = PostNonlinearMechanism(LinearMechanism((0.5,), 0.1, noise=many), Exponential())
    assert torch.allclose(mechanism.mean(parents), np.exp(many.values).mean() * line.exp(), rtol=5e-3)
    other = PostNonlinearMechanism(LinearMechanism((0.5,), noise=UniformNoise()), Exponential())
    with pytest.raises(ValueError, match="no quadrature is known for UniformNoise"):
        other.mean(parents)


def relative_error(mechanism: object, link: object, n: int = 2000) -> float:
    """Of counterfactuals under other parents, relative to the spread of the true ones; ``link`` is the true g."""
    z, parents, other, truth = system(link, n, seed=7)
    found = mechanism.predict(torch.from_numpy(other), mechanism.abduct(torch.from_numpy(z), torch.from_numpy(parents)))
    return float(np.sqrt(np.square(found.numpy() - truth).mean()) / truth.std())


def system(link: object, n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    parents, other, noise = rng.normal(size=(n, 2)), rng.normal(size=(n, 2)), 0.5 * rng.normal(size=n)
    return link(curve(parents) + noise), parents, other, link(curve(other) + noise)


@pytest.mark.parametrize(("link", "largest"), [(np.exp, 0.15), (np.sinh, 0.15), (lambda y: 3 * np.tanh(y / 1.5), 0.08)])
def test_a_post_nonlinear_system_is_recovered_where_an_additive_fit_fails(link, largest):
    z, parents, *_ = system(link, 2000, seed=0)
    table = Table("z", parents, z, ("a", "b"))
    error = relative_error(post_nonlinear.fit([table], "empirical", 0)["z"], link)
    assert error < largest
    assert error < relative_error(splines.fit([table], "empirical", 0)["z"], link) / 3


def test_the_link_is_found_up_to_its_scale():
    z, parents, *_ = system(np.exp, 4000, seed=1)
    mechanism = post_nonlinear.fit([Table("z", parents, z, ("a", "b"))], "gaussian", 0)["z"]
    found = mechanism.link.inverse(torch.from_numpy(z)).numpy()
    assert np.corrcoef(found, np.log(z))[0, 1] > 0.995
    scale = np.log(z).std() / found.std()
    assert mechanism.inner.variance * scale**2 == pytest.approx(0.25, rel=0.1)
    ends = torch.from_numpy(mechanism.link.knots[[0, -1]])
    assert torch.allclose(mechanism.link.inverse(ends), ends)


def test_an_additive_system_gets_a_line_for_a_link_and_the_spline_fit():
    z, parents, *_ = system(lambda y: y, 1000, seed=2)
    table = Table("z", parents, z, ("a", "b"))
    mechanism, spline = (kind.fit([table], "gaussian", 0)["z"] for kind in (post_nonlinear, splines))
    assert mechanism.link.slopes.tolist() == pytest.approx([1.0, 1.0])
    asked = torch.from_numpy(parents)
    assert (mechanism.mean(asked) - spline.mean(asked)).abs().max() < 1e-6
    assert mechanism.inner.variance == pytest.approx(spline.variance)


def test_the_slopes_have_the_largest_likelihood():
    """Moving the slopes of the link either way, at the smoothing found, lowers the likelihood of its definition."""
    z, parents, *_ = system(np.exp, 500, seed=3)
    design = splines.AdditiveDesign.of(parents)
    fitted = post_nonlinear._fit_link(design, z, 6)
    inverse = fitted.smooth.inverse
    heights = fitted.link.values - fitted.link.values.mean(axis=0)

    def likelihood(slopes: np.ndarray) -> float:
        target = heights @ slopes
        weights = inverse @ (design.columns.T @ target)
        squares = target @ target - weights @ (design.columns.T @ target)
        return -squares / 2 + np.log(fitted.link.derivatives @ slopes).sum() + np.log(slopes).sum()

    best = likelihood(fitted.slopes)
    for k in range(len(fitted.slopes)):
        for step in (0.97, 1.03):
            moved = fitted.slopes.copy()
            moved[k] *= step
            assert likelihood(moved) < best


def test_values_on_a_few_points_and_collinear_parents():
    rng = np.random.default_rng(0)
    parents = rng.normal(size=(300, 1))
    counts = np.round(parents[:, 0] + rng.normal(size=300))
    mechanism = post_nonlinear.fit([Table("z", parents, counts, ("a",))], "empirical", 0)["z"]
    noise = mechanism.abduct(torch.from_numpy(counts), torch.from_numpy(parents))
    assert torch.allclose(mechanism.predict(torch.from_numpy(parents), noise), torch.from_numpy(counts), atol=1e-9)
    twice = np.hstack([parents, 3 * parents])
    with pytest.raises(ValueError, match="of node 'z' are collinear"):
        post_nonlinear.fit([Table("z", twice, counts, ("a", "b"))], "empirical", 0)
