from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import torch._dynamo  # the first optimiser loads it, and it sets an environment variable
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError

from latentcause import CausalGraph, MultiDomainData, load, save
from latentcause.models.baselines import IVAE, PCA, SCMVAE, VAE, ConditionalVAE, FastICA, ProbabilisticPCA

GRAPH = CausalGraph.from_edges([("z1", "z2"), ("z2", "z3")])
LINEAR = (PCA, ProbabilisticPCA, FastICA)
VARIATIONAL = (VAE, ConditionalVAE, IVAE, SCMVAE)
TARGETS = {"none": [], "do(z1)": ["z1"], "do(z2)": ["z2"], "do(z3)": ["z3"]}


def orthonormal(d_x: int, d_z: int, rng: np.random.Generator) -> np.ndarray:
    return np.linalg.qr(rng.standard_normal((d_x, d_z)))[0]


def chain(n: int = 500, noise: float = 0.5, seed: int = 0) -> tuple[MultiDomainData, np.ndarray, np.ndarray]:
    """A linear Gaussian chain z1 -> z2 -> z3 with interventions N(5, 1), its latents and its loadings."""
    rng = np.random.default_rng(seed)
    latents, weights = [], {0: {}, 1: {0: 0.9}, 2: {1: -0.8}}
    for nodes in TARGETS.values():
        z = np.zeros((n, 3))
        for j, parents in weights.items():
            hit = f"z{j + 1}" in nodes
            z[:, j] = 5 + rng.standard_normal(n) if hit else 2 * rng.standard_normal(n)
            z[:, j] += sum(0 if hit else w * z[:, i] for i, w in parents.items())
        latents.append(z)
    z = np.vstack(latents)
    A = orthonormal(20, 3, rng)
    x = z @ A.T + np.sqrt(noise) * rng.standard_normal((len(z), 20))
    return MultiDomainData(x, np.repeat(list(TARGETS), n), TARGETS), z, A


@pytest.fixture(scope="module")
def data() -> MultiDomainData:
    return chain()[0]


@pytest.fixture(scope="module")
def x(data) -> np.ndarray:
    return next(data.batches())[2]


def best_match(found: np.ndarray, truth: np.ndarray) -> float:
    """Relative squared error under the best signs and permutation."""
    errors = []
    for order in itertools.permutations(range(truth.shape[1])):
        z = found[:, order]
        errors.append(np.sum((z * np.sign((z * truth).sum(axis=0)) - truth) ** 2) / np.sum(truth**2))
    return min(errors)


def subspace_cosine(A: np.ndarray, B: np.ndarray) -> float:
    """Cosine of the largest principal angle between two column spaces."""
    return np.linalg.svd(np.linalg.qr(A)[0].T @ np.linalg.qr(B)[0])[1].min()


def gaussian_log_likelihood(x: np.ndarray, A: np.ndarray, prior: np.ndarray, noise: float) -> float:
    """Mean log density of N(0, A diag(prior) A' + noise I) at the rows of x."""
    covariance = A * prior @ A.T + noise * np.eye(len(A))
    quadratic = np.einsum("ij,ij->", x @ np.linalg.inv(covariance), x) / len(x)
    return -0.5 * (quadratic + np.linalg.slogdet(covariance)[1] + len(A) * np.log(2 * np.pi))


def quick(model, data):
    """Fit where the epoch limit is expected to come first."""
    with pytest.warns(ConvergenceWarning, match=f"{type(model).__name__}: the bound was still rising"):
        return model.fit(data)


# --- linear models ------------------------------------------------------------------------------------------------


def test_pca_is_the_eigendecomposition_about_zero(data, x):
    fit = PCA(GRAPH).fit(data)
    values, vectors = np.linalg.eigh(x.T @ x / len(x))
    assert np.allclose(np.abs((fit.loadings_ * vectors[:, :-4:-1]).sum(axis=0)), 1)
    assert fit.noise_variance_ == pytest.approx(values[:-3].mean())
    assert np.allclose(fit.latents_, x @ fit.loadings_)
    assert np.allclose(fit.latent_variances_, fit.noise_variance_)


def test_pca_recovers_uncorrelated_latents_of_different_variances():
    rng = np.random.default_rng(1)
    z = rng.standard_normal((4000, 3)) * [6, 3, 1.5]
    A = orthonormal(30, 3, rng)
    data = MultiDomainData(z @ A.T + 0.1 * rng.standard_normal((4000, 30)), ["all"] * 4000, {"all": []})
    fit = PCA(GRAPH).fit(data)
    assert best_match(fit.latents_, z) < 0.01
    assert fit.noise_variance_ == pytest.approx(0.01, rel=0.03)


def test_probabilistic_pca_has_the_closed_form_gaussian_posterior(data, x):
    fit = ProbabilisticPCA(GRAPH).fit(data)
    W, noise = fit.loadings_, fit.noise_variance_
    prior = np.linalg.eigvalsh(x.T @ x / len(x))[:-4:-1] - noise
    covariance = np.linalg.inv(np.diag(1 / prior) + W.T @ W / noise)
    assert np.allclose(fit.latents_, x @ W @ covariance / noise)
    assert np.allclose(fit.latent_variances_, covariance.diagonal())
    assert np.allclose(np.linalg.norm(W, axis=0), 1)

    # The form printed by Tipping and Bishop, z ~ N(0, I), is the same posterior in other units.
    A = W * np.sqrt(prior)
    M = A.T @ A + noise * np.eye(3)
    assert np.allclose(fit.latents_, x @ A @ np.linalg.inv(M) * np.sqrt(prior))
    assert np.allclose(fit.latent_variances_, noise * np.linalg.inv(M).diagonal() * prior)


def test_probabilistic_pca_is_the_maximum_of_the_likelihood(data, x):
    fit = ProbabilisticPCA(GRAPH).fit(data)
    noise = fit.noise_variance_
    prior = np.linalg.eigvalsh(x.T @ x / len(x))[:-4:-1] - noise
    best = gaussian_log_likelihood(x, fit.loadings_, prior, noise)
    tilted = np.linalg.qr(fit.loadings_ + 0.01 * np.random.default_rng(2).standard_normal(fit.loadings_.shape))[0]
    assert best > gaussian_log_likelihood(x, tilted, prior, noise)
    assert best > gaussian_log_likelihood(x, fit.loadings_, prior, 1.02 * noise)
    assert best > gaussian_log_likelihood(x, fit.loadings_, prior, 0.98 * noise)
    assert best > gaussian_log_likelihood(x, fit.loadings_, 1.05 * prior, noise)


def test_fastica_recovers_independent_non_gaussian_latents():
    rng = np.random.default_rng(3)
    z = np.column_stack([rng.laplace(size=5000), rng.uniform(-2, 2, 5000), rng.exponential(size=5000) - 1]) * 3
    A = rng.standard_normal((30, 3))
    A /= np.linalg.norm(A, axis=0)
    data = MultiDomainData(z @ A.T + 0.1 * rng.standard_normal((5000, 30)), ["all"] * 5000, {"all": []})
    fit = FastICA(GRAPH, seed=4).fit(data)
    assert fit.converged_
    assert best_match(fit.latents_, z) < 0.01
    assert np.allclose(np.linalg.norm(fit.loadings_, axis=0), 1)
    assert np.allclose(np.linalg.pinv(fit.loadings_) @ fit.loadings_, np.eye(3))
    x = next(data.batches())[2]
    assert np.allclose(fit.latents_, x @ np.linalg.pinv(fit.loadings_).T)
    spread = np.linalg.inv(fit.loadings_.T @ fit.loadings_).diagonal()
    assert np.allclose(fit.latent_variances_[0], fit.noise_variance_ * spread)


def test_fastica_says_when_it_did_not_settle(data):
    with pytest.warns(ConvergenceWarning, match="did not settle within 2 iterations"):
        fit = FastICA(GRAPH, max_iterations=2).fit(data)
    assert not fit.converged_


# --- variational autoencoders -------------------------------------------------------------------------------------


def test_linear_vae_reaches_the_likelihood_of_probabilistic_pca_and_never_exceeds_it(data, x):
    fit = VAE(GRAPH, hidden=16, seed=1).fit(data)
    pca = ProbabilisticPCA(GRAPH).fit(data)
    prior = np.linalg.eigvalsh(x.T @ x / len(x))[:-4:-1] - pca.noise_variance_
    limit = gaussian_log_likelihood(x, pca.loadings_, prior, pca.noise_variance_)
    coordinates = torch.from_numpy((x @ fit.basis_ / fit.unit_).astype(np.float32))
    with torch.no_grad():
        batch = (coordinates, torch.zeros(len(x), 3))
        noise = fit.network_.draw(batch, torch.Generator().manual_seed(0))
        bound = -float(fit.network_.negative_elbo((*batch, *noise)).double().mean())
    assert limit - 0.05 < bound <= limit + 1e-4
    assert fit.converged_
    assert fit.noise_variance_ == pytest.approx(pca.noise_variance_, rel=0.02)
    assert subspace_cosine(fit.loadings_, pca.loadings_) > 0.999
    # Its posterior is then that of the Gaussian model with its own loadings.
    strength = fit.latent_scales_**2
    covariance = np.linalg.inv(np.diag(1 / strength) + fit.loadings_.T @ fit.loadings_ / fit.noise_variance_)
    exact = x @ fit.loadings_ @ covariance / fit.noise_variance_
    assert np.mean((fit.latents_ - exact) ** 2) < 0.01 * np.mean(exact**2)


def test_vae_with_the_scm_prior_nears_the_posterior_of_the_true_system():
    data, z, A = chain(seed=5)
    fit = SCMVAE(GRAPH, hidden=16, seed=5).fit(data)
    x = next(data.batches())[2]
    exact = np.zeros_like(z)
    for e, nodes in enumerate(TARGETS.values()):
        hit = np.array([f"z{j + 1}" in nodes for j in range(3)])
        B = np.array([[0, 0, 0], [0.9, 0, 0], [0, -0.8, 0]]) * ~hit[:, None]
        response = np.linalg.inv(np.eye(3) - B)
        mean, prior = response @ np.where(hit, 5.0, 0.0), response @ np.diag(np.where(hit, 1.0, 4.0)) @ response.T
        gain = prior @ np.linalg.inv(prior + 0.5 * np.eye(3))
        rows = data.domain_index == e
        exact[rows] = mean + (x[rows] @ A - mean) @ gain.T
    sign = np.sign((fit.latents_ * z).sum(axis=0))
    found = fit.latents_ * sign
    # In the order of the nodes, nothing permuted. Over seeds the amortised posterior gains 30 to 60 % of what the exact one gains
    # over no shrinkage, depending on where its early stopping ends; a wrong prior or order of nodes gains nothing.
    best, none = np.sum((exact - z) ** 2), np.sum((x @ A - z) ** 2)
    assert best < np.sum((found - z) ** 2) < none - 0.25 * (none - best)
    assert np.sum((fit.loadings_ * sign - A) ** 2) < 0.01
    calibration = np.mean((found - z) ** 2, axis=0) / fit.latent_variances_.mean(axis=0)
    assert (np.abs(calibration - 1) < 0.15).all()


def test_random_axes_lose_to_the_gaussian_start():
    data = chain(seed=0)[0]
    held_out = {
        init: max(entry["held_out_elbo"] for entry in SCMVAE(GRAPH, init=init, hidden=16, seed=0).fit(data).history_)
        for init in ("gaussian", "random")
    }
    assert held_out["gaussian"] > held_out["random"] + 0.01


def test_ivae_recovers_latents_that_are_independent_given_the_domain():
    rng = np.random.default_rng(6)
    targets = {"a": [], "b": ["z1"], "c": ["z2"], "d": ["z3"], "e": ["z1", "z3"]}
    scales = np.array([[1, 1, 1], [5, 1, 1], [1, 5, 1], [1, 1, 5], [3, 1, 0.5]])
    z = np.vstack([3 + row * rng.standard_normal((800, 3)) for row in scales])
    A = orthonormal(20, 3, rng)
    data = MultiDomainData(z @ A.T + 0.3 * rng.standard_normal((4000, 20)), np.repeat(list(targets), 800), targets)
    fit = IVAE(GRAPH, hidden=16, seed=1).fit(data)
    assert best_match(fit.latents_, z) < 0.03
    assert best_match(PCA(GRAPH).fit(data).latents_, z) > 0.3
    assert max(e["held_out_elbo"] for e in fit.history_) > fit.history_[0]["held_out_elbo"] + 0.5


def test_conditional_vae_fits_each_domain_better_than_one_prior_for_all(data):
    conditional = ConditionalVAE(GRAPH, hidden=16, seed=0).fit(data)
    plain = VAE(GRAPH, hidden=16, seed=0).fit(data)
    assert conditional.history_[-1]["held_out_elbo"] > plain.history_[-1]["held_out_elbo"] + 0.5
    assert conditional.latent_variances_.mean() < plain.latent_variances_.mean()


def test_mlp_decoder_follows_a_curve_and_has_no_loadings():
    rng = np.random.default_rng(7)
    z = rng.standard_normal((3000, 1))
    x = np.hstack([4 * z, z**2, np.sin(2 * z)]) @ orthonormal(12, 3, rng).T + 0.3 * rng.standard_normal((3000, 12))
    data, graph = MultiDomainData(x, ["all"] * 3000, {"all": []}), CausalGraph.from_edges([], nodes=["z1"])
    curved = VAE(graph, decoder="mlp", hidden=32, seed=0).fit(data)
    straight = VAE(graph, hidden=32, seed=0).fit(data)
    assert curved.noise_variance_ == pytest.approx(0.09, rel=0.1)
    assert straight.noise_variance_ > 0.2
    assert abs(np.corrcoef(curved.latents_[:, 0], z[:, 0])[0, 1]) > 0.97
    assert not hasattr(curved, "loadings_")
    with pytest.raises(AttributeError, match='decoder="mlp" is not linear: it has no loadings_'):
        curved.loadings_


def test_targets_the_encoder_has_not_seen_are_a_warning(data):
    new = MultiDomainData(next(data.batches())[2][:50], ["both"] * 50, {"both": ["z1", "z2"]})
    with pytest.warns(UserWarning, match="targets of domain 'both' were not in the data"):
        quick(SCMVAE(GRAPH, max_epochs=1, hidden=8), data).posterior(new)
    quick(VAE(GRAPH, max_epochs=1, hidden=8), data).posterior(new)  # its encoder sees no targets


def test_settings_that_do_not_exist_are_refused(data):
    with pytest.raises(ValueError, match='decoder must be "linear" or "mlp"'):
        VAE(GRAPH, decoder="cubic").fit(data)
    with pytest.raises(ValueError, match='interventions must be "hard" or "soft"'):
        SCMVAE(GRAPH, interventions="firm").fit(data)
    with pytest.raises(ValueError, match='init must be "gaussian" or "random"'):
        SCMVAE(GRAPH, init="pca").fit(data)
    with pytest.raises(ValueError, match="rank=2 is below the 3 nodes"):
        VAE(GRAPH, rank=2).fit(data)


# --- every baseline -----------------------------------------------------------------------------------------------

EVERY = [(cls, {}) for cls in LINEAR] + [(cls, {"max_epochs": 2, "hidden": 8}) for cls in VARIATIONAL]
EVERY += [(IVAE, {"max_epochs": 2, "decoder": "mlp"}), (SCMVAE, {"max_epochs": 2, "interventions": "soft"})]
every_model = pytest.mark.parametrize(("cls", "settings"), EVERY, ids=lambda v: getattr(v, "__name__", None))
short_fits = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@every_model
@short_fits
def test_saved_models_come_back_exactly(cls, settings, data, tmp_path):
    fit = cls(GRAPH, seed=3, **settings).fit(data)
    save(fit, tmp_path / "model.safetensors")
    back = load(tmp_path / "model.safetensors")
    assert back.get_params() == fit.get_params()
    part = data.subset(slice(100, 900))
    for name in ("latents_", "latent_variances_", "noise_variance_", "history_", "converged_", "n_iter_"):
        assert np.array_equal(getattr(back, name), getattr(fit, name)), name
    assert all(np.array_equal(a, b) for a, b in zip(back.posterior(part), fit.posterior(part), strict=True))
    if settings.get("decoder") != "mlp":
        assert np.array_equal(back.loadings_, fit.loadings_)


@every_model
@short_fits
def test_shapes_and_units(cls, settings, data):
    fit = cls(GRAPH, **settings).fit(data)
    means, variances = fit.posterior(data)
    assert means.shape == variances.shape == (data.n_samples, 3)
    assert means.dtype == variances.dtype == np.float64
    assert np.allclose(means, fit.latents_)
    assert (variances > 0).all()
    assert np.array_equal(fit.transform(data), means)
    if settings.get("decoder") != "mlp":
        assert np.allclose(np.linalg.norm(fit.loadings_, axis=0), 1)


@every_model
@short_fits
def test_same_seed_same_fit_in_memory_and_streamed(cls, settings, data, tmp_path):
    first = cls(GRAPH, seed=8, **settings).fit(data)
    np.save(tmp_path / "x.npy", next(data.batches())[2])
    domain = np.array(data.domains)[data.domain_index]
    streamed = MultiDomainData.from_npy(tmp_path / "x.npy", domain, data.targets)
    second = clone(first).fit(streamed)
    assert streamed.is_streamed
    assert np.array_equal(first.latents_, second.latents_)
    assert np.array_equal(first.latent_variances_, second.latent_variances_)


@every_model
def test_what_cannot_work_is_one_clear_error(cls, settings, data):
    with pytest.raises(NotFittedError, match=f"this {cls.__name__} is not fitted yet"):
        cls(GRAPH, **settings).posterior(data)
    square = MultiDomainData(next(data.batches())[2][:, :3], data.domain_index, {i: [] for i in range(4)})
    with pytest.raises(ValueError, match="noise variance cannot be told from the signal"):
        cls(GRAPH, **settings).fit(square)
    with pytest.raises(ValueError, match="4 measurements"):
        cls(CausalGraph.chain(5), **settings).fit(MultiDomainData(np.eye(4), ["a"] * 4, {"a": []}))


@every_model
@short_fits
def test_other_measurements_than_those_of_the_fit_are_refused(cls, settings, data):
    fewer = MultiDomainData(next(data.batches())[2][:, :10], data.domain_index, {i: [] for i in range(4)})
    with pytest.raises(ValueError, match=f"this {cls.__name__} was fitted to 20 measurements, the data have 10"):
        cls(GRAPH, **settings).fit(data).posterior(fewer)


def test_weights_of_other_settings_are_refused(data):
    arrays, values = quick(VAE(GRAPH, max_epochs=1, hidden=8), data).fitted_state()
    with pytest.raises(ValueError, match="do not fit the settings of this VAE"):
        VAE(GRAPH, hidden=9).restore_state(arrays, values)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_a_fit_on_a_gpu_agrees_with_the_cpu(data):
    fits = [VAE(GRAPH, hidden=16, device=device, seed=1).fit(data) for device in ("cpu", "cuda")]
    assert fits[1].history_[-1]["held_out_elbo"] == pytest.approx(fits[0].history_[-1]["held_out_elbo"], abs=0.02)
    assert fits[1].noise_variance_ == pytest.approx(fits[0].noise_variance_, rel=0.01)
