"""Joint Gaussians of fields: every form against dense algebra; fits against the moments they estimate."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from latentcause import CausalGraph
from latentcause.fields import GaussianFields, JointGaussian, Matern, White
from latentcause.fields.joint_gaussian import Form

GRAPH = CausalGraph.from_string("a -> b")
FORMS: list[Form] = ["dense", "reflected", "torus", "sites"]
SPECTRAL: list[Form] = ["reflected", "torus"]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def system(shape: tuple[int, ...], white: bool = False) -> GaussianFields:
    kernels = {"a": White(1.0), "b": White(0.3)} if white else {"a": Matern(2.0), "b": Matern(1.0, 0.4, 0.5)}
    return GaussianFields(GRAPH, {("a", "b"): 0.9}, kernels, shape, {"a": 1.5, "b": -0.5})


def joint(form: Form, shape: tuple[int, ...]) -> JointGaussian:
    return system(shape, white=form == "sites").joint(form)


def one_sided(shape: tuple[int, ...]) -> JointGaussian:
    """Node b is node a moved by one pixel, plus noise: complex cross-spectra."""
    ((n,), a) = (shape, Matern(2.0).torus_spectrum(shape))
    turn = torch.exp(-2j * math.pi * torch.arange(n, dtype=torch.float64) / n)
    cross = torch.stack([torch.stack([a + 0j, a * turn.conj()], -1), torch.stack([a * turn, a + 0.2], -1)], -2)
    return JointGaussian.spectral(torch.zeros(2, n).double(), cross, "torus")


def matrix(joint: JointGaussian) -> Tensor:
    """Its covariance, column by column."""
    size = joint.mean.numel()
    return joint.covariance_times(torch.eye(size).double().reshape(size, *joint.mean.shape)).reshape(size, size)


JOINTS = {f"{form}-{shape}": joint(form, shape) for form in FORMS for shape in [(7,), (8,), (4, 5), (3, 6), (1, 4)]}
JOINTS["one-sided-8"], JOINTS["one-sided-7"] = one_sided((8,)), one_sided((7,))
every_joint = pytest.mark.parametrize("joint", JOINTS.values(), ids=JOINTS)


@pytest.mark.parametrize("shape", [(7,), (3, 4)])
def test_dense_and_sites_are_exact(shape: tuple[int, ...]) -> None:
    for form, white in (("dense", False), ("sites", True), ("dense", True)):
        fields = system(shape, white)
        exact = fields.joint(form)  # type: ignore[arg-type]
        torch.testing.assert_close(matrix(exact), fields.covariance(), rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(exact.mean, fields.mean)


@pytest.mark.parametrize("shape", [(9,), (4, 6)])
def test_torus_is_the_covariance_on_a_ring(shape: tuple[int, ...]) -> None:
    fields = system(shape)
    covariance = matrix(fields.joint("torus")).reshape(2, *shape, 2, *shape)
    rings = [torch.fft.ifftn(kernel.torus_spectrum(shape)).real for kernel in fields.kernels.values()]
    expected = {(0, 0): rings[0], (1, 0): 0.9 * rings[0], (0, 1): 0.9 * rings[0], (1, 1): 0.81 * rings[0] + rings[1]}
    for (i, j), ring in expected.items():
        for pixel in ((0,) * len(shape), tuple(n // 2 for n in shape)):
            moved = ring.roll(pixel, tuple(range(len(shape))))
            torch.testing.assert_close(covariance[(i, *pixel, j)], moved, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("shape", [(9,), (4, 6)])
def test_reflected_is_the_nearest_that_is_diagonal_in_cosines(shape: tuple[int, ...]) -> None:
    fields = system(shape)
    exact, near = fields.covariance(), matrix(fields.joint("reflected"))
    assert near.trace().item() == pytest.approx(exact.trace().item(), rel=1e-12)
    error = torch.linalg.norm(exact - near).square()
    # Pythagoras: what is left out is orthogonal to what is kept, so the squared norms add up
    assert torch.linalg.norm(exact).square().item() == pytest.approx(
        (torch.linalg.norm(near).square() + error).item(), rel=1e-10
    )
    assert error < 0.2 * torch.linalg.norm(exact).square()


def test_a_one_sided_dependence_stays_one_sided() -> None:
    covariance = matrix(one_sided((8,))).reshape(2, 8, 2, 8)
    ring = torch.fft.ifft(Matern(2.0).torus_spectrum((8,))).real
    torch.testing.assert_close(covariance[1, 0, 0], ring.roll(-1), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(covariance[0, 0, 1], ring.roll(1), rtol=1e-10, atol=1e-12)


@every_joint
def test_covariance_is_symmetric_and_positive(joint: JointGaussian) -> None:
    covariance = matrix(joint)
    torch.testing.assert_close(covariance, covariance.mT, rtol=1e-10, atol=1e-12)
    assert torch.linalg.eigvalsh(covariance).min() > 0


@every_joint
@pytest.mark.parametrize(("alpha", "sigma"), [(0.8, 0.6), (1.0, 3.0), (0.3, 0.01), (0.0, 1.0), (1.0, 0.0)])
def test_denoising_is_conditioning(joint: JointGaussian, alpha: float, sigma: float) -> None:
    covariance, mean = matrix(joint), joint.mean.flatten()
    eye = torch.eye(len(mean)).double()
    gain = alpha * covariance @ torch.linalg.inv(alpha**2 * covariance + sigma**2 * eye)
    x = normal(2, 3, *joint.mean.shape)
    expected = mean + (x.flatten(2) - alpha * mean) @ gain.mT
    found = joint.denoise(x, alpha, sigma)
    torch.testing.assert_close(found.flatten(2), expected, rtol=1e-8, atol=1e-9)
    left = covariance - alpha * gain @ covariance
    torch.testing.assert_close(
        joint.denoising_covariance_times(x, alpha, sigma).flatten(2), x.flatten(2) @ left.mT, rtol=1e-7, atol=1e-9
    )
    torch.testing.assert_close(joint.covariance_times(x).flatten(2), x.flatten(2) @ covariance, rtol=1e-8, atol=1e-9)


@every_joint
def test_one_level_per_draw(joint: JointGaussian) -> None:
    x = normal(3, *joint.mean.shape)
    shape = (3, *[1] * joint.mean.ndim)
    alpha, sigma = torch.tensor([0.9, 0.5, 0.1]).double(), torch.tensor([0.2, 0.7, 1.0]).double()
    together = joint.denoise(x, alpha.reshape(shape), sigma.reshape(shape))
    spread = joint.denoising_covariance_times(x, alpha.reshape(shape), sigma.reshape(shape))
    for row in range(3):
        torch.testing.assert_close(together[row], joint.denoise(x[row], alpha[row].item(), sigma[row]))
        expected = joint.denoising_covariance_times(x[row], alpha[row], sigma[row])
        torch.testing.assert_close(spread[row], expected)


@every_joint
def test_tweedie_ties_mean_and_covariance(joint: JointGaussian) -> None:
    x, v = normal(*joint.mean.shape), normal(*joint.mean.shape, seed=1)
    _, slope = torch.autograd.functional.jvp(lambda x: joint.denoise(x, 0.7, 0.5), x, v)
    torch.testing.assert_close(joint.denoising_covariance_times(v, 0.7, 0.5), 0.25 / 0.7 * slope, rtol=1e-9, atol=1e-10)


@every_joint
def test_draws_have_mean_and_covariance(joint: JointGaussian) -> None:
    draws = joint.sample(4000, generator())
    assert draws.shape == (4000, *joint.mean.shape)
    offsets, expected = (draws - joint.mean).flatten(1), matrix(joint)
    error = ((expected.diagonal()[:, None] * expected.diagonal() + expected.square()) / 4000).sqrt()
    assert ((offsets.mT @ offsets / 4000 - expected).abs() / error).max() < 6
    assert (offsets.mean(0) / (expected.diagonal() / 4000).sqrt()).abs().max() < 6
    assert torch.equal(draws[:5], joint.sample(4000, generator())[:5])


@every_joint
def test_half_and_single_precision(joint: JointGaussian) -> None:
    x = normal(2, *joint.mean.shape)
    exact = joint.denoise(x, 0.8, 0.6)
    single = joint.denoise(x.float(), 0.8, 0.6)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), exact, rtol=1e-4, atol=1e-5)
    half = joint.denoise(x.bfloat16(), 0.8, 0.6)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.double(), exact, rtol=0.05, atol=0.05)
    moved = joint.to("cpu", torch.float32)
    assert torch.equal(moved.denoise(x.float(), 0.8, 0.6), single)
    assert moved.sample(2, generator()).dtype == torch.float32


@pytest.mark.parametrize("form", FORMS)
def test_fit_finds_the_distribution_that_made_the_draws(form: Form) -> None:
    shape = (6,) if form == "dense" else (24,)
    truth = joint(form, shape)
    n = 6000
    fit = JointGaussian.from_samples(truth.sample(n, generator()), form)
    expected, found = matrix(truth), matrix(fit)
    error = ((expected.diagonal()[:, None] * expected.diagonal() + expected.square()) / n).sqrt()
    # The taper blurs the spectra of the torus, so its correlations a third of the ring away are off by more than chance.
    allowed = 6 * error + (0.05 if form == "torus" else 0)
    assert ((found - expected).abs() / allowed).max() < 1
    assert (fit.mean - truth.mean).abs().max() < 6 * (expected.diagonal().max() / n).sqrt()


@pytest.mark.parametrize("form", SPECTRAL)
def test_fit_keeps_the_mean_variance_of_stationary_fields(form: Form) -> None:
    fields = system((12, 10))
    n = 3000
    draws = fields.sample(n, generator())
    fit = JointGaussian.from_samples(draws, form)
    found = matrix(fit).reshape(2, 120, 2, 120).diagonal(dim1=1, dim2=3).mean(-1)
    expected = torch.tensor([[1.0, 0.9], [0.9, 0.81 + 0.4]]).double()
    # the variance of a draw's mean square is at most twice the variance squared
    torch.testing.assert_close(found, expected, rtol=0, atol=6 * 1.21 * math.sqrt(2 / n))
    torch.testing.assert_close(fit.mean, fields.mean, rtol=0, atol=6 * math.sqrt(1.21 / n))


@pytest.mark.parametrize("form", SPECTRAL)
def test_fitted_spectra_denoise_nearly_as_well_as_the_exact_covariance(form: Form) -> None:
    fields = system((64,))
    fit = JointGaussian.from_samples(fields.sample(2000, generator()), form)
    exact = fields.joint("dense")
    z = fields.sample(500, generator(1))
    for sigma in (0.1, 0.5, 2.0):
        x = z + sigma * normal(*z.shape, seed=2)
        error, limit = ((model.denoise(x, 1.0, sigma) - z).square().mean() for model in (fit, exact))
        assert limit < error < 1.08 * limit


def test_fits_of_independent_sites_pool_all_pixels() -> None:
    truth = joint("sites", (50, 20))
    fit = JointGaussian.from_samples(truth.sample(8, generator()), "sites")
    torch.testing.assert_close(matrix_of_site(fit), matrix_of_site(truth), rtol=0, atol=6 * 1.21 * math.sqrt(2 / 8000))


def matrix_of_site(joint: JointGaussian) -> Tensor:
    return (joint.axes * joint.variances[:, None]) @ joint.axes.mT


def test_a_singular_covariance_denoises_to_its_support() -> None:
    flat = JointGaussian.dense(torch.zeros(1, 2).double(), torch.ones(2, 2).double())
    x = torch.tensor([[3.0, 1.0]]).double()
    torch.testing.assert_close(flat.denoise(x, 1.0, 0.0), torch.tensor([[2.0, 2.0]]).double())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: JointGaussian.dense(torch.zeros(2, 3), torch.eye(5)),
            r"a covariance of shape \(5, 5\) for a mean of 6",
        ),
        (lambda: JointGaussian.dense(torch.zeros(1, 2), -torch.eye(2)), "it is no covariance"),
        (lambda: JointGaussian.of_sites(torch.zeros(2, 3), torch.eye(3)), "for 2 nodes"),
        (lambda: JointGaussian.spectral(torch.zeros(2, 3), torch.zeros(3, 2), "torus"), r"give \(3, 2, 2\)"),
        (lambda: JointGaussian.spectral(torch.zeros(1, 3), torch.ones(3, 1, 1), "dense"), "torus or reflected"),
        (lambda: JointGaussian.from_samples(torch.zeros(9, 2, 3), "wavelet"), "unknown form 'wavelet'"),
        (
            lambda: JointGaussian.from_samples(normal(6, 2, 3), "dense"),
            "6 draws of 2 nodes x 3 pixels are too few.*give 7",
        ),
        (lambda: JointGaussian.from_samples(normal(2, 2, 3), "torus"), "give 3 or more"),
        (lambda: JointGaussian.from_samples(normal(9, 2, 3) / 0, "torus"), "not finite"),
        (lambda: system((4,)).joint("sites"), "the kernel of 'a' is Matern"),
        (lambda: system((4,)).joint("wavelet"), "unknown form 'wavelet'"),
        (lambda: joint("dense", (4,)).denoise(torch.zeros(2, 5), 1.0, 1.0), r"fields of shape \(2, 5\)"),
        (
            lambda: joint("dense", (4,)).denoise(torch.zeros(3, 2, 4), torch.ones(3), 1.0),
            r"give numbers, or one per draw",
        ),
    ],
)
def test_bad_input_is_refused(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()  # type: ignore[operator]
