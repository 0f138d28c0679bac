"""What every model promises, whatever its method: scikit-learn's rules for estimators, and reproducible fits."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch._dynamo  # noqa: F401 (the first optimiser loads it, and it sets an environment variable)
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from latent_samples import labels, reordered, small_sample, values
from latentcause import CausalGraph, FModeling, GModeling, MultiDomainData, load, save
from latentcause.io import REGISTRY
from latentcause.models.base import LatentModel
from latentcause.models.baselines import IVAE, PCA, SCMVAE, VAE, ConditionalVAE, FastICA, ProbabilisticPCA

CHAIN = CausalGraph.chain(3)
SHORT = {"max_epochs": 2, "hidden": 8}
LOADINGS = small_sample().system.loadings

MODELS: list[tuple[type[LatentModel], dict[str, Any]]] = [
    (FModeling, {"initialisation": LOADINGS}),
    (FModeling, {"loadings": LOADINGS, "base": None, "score": "parents", "noise_variance": 2.0}),
    (GModeling, {"initialisation": LOADINGS}),
    (GModeling, {"initialisation": LOADINGS, "posterior_by": "sampled", "max_iterations": 4, "draws": 80}),
    (PCA, {}),
    (ProbabilisticPCA, {}),
    (FastICA, {}),
    (VAE, SHORT),
    (ConditionalVAE, SHORT),
    (IVAE, SHORT),
    (SCMVAE, {**SHORT, "init": "random"}),
    (SCMVAE, {**SHORT, "init": "random", "decoder": "mlp"}),
]
# The order of the rows decides folds, held-out rows, minibatches and random draws: there the result only comes near.
CLOSED_FORM = (PCA, ProbabilisticPCA)

every_model = pytest.mark.parametrize(
    ("cls", "settings"),
    MODELS,
    ids=lambda value: value.__name__ if isinstance(value, type) else "-".join(value) if value else "defaults",
)
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(scope="module")
def fits() -> dict[int, LatentModel]:
    return {}


@pytest.fixture
def fit(cls, settings, fits) -> LatentModel:
    """The model fitted once to the small sample."""
    key = next(i for i, (c, s) in enumerate(MODELS) if c is cls and s is settings)
    if key not in fits:
        fits[key] = cls(CHAIN, **settings).fit(small_sample().data)
    return fits[key]


def test_every_model_that_can_be_saved_is_tested_here():
    known = {name: getattr(import_module(module), name) for name, module in REGISTRY.items()}
    assert {cls for cls, _ in MODELS} == {cls for cls in known.values() if issubclass(cls, LatentModel)}


@every_model
def test_constructors_only_store(cls, settings):
    model = cls(CHAIN, **settings)
    assert isinstance(model, LatentModel)
    assert set(vars(model)) == set(model.get_params())
    assert all(model.get_params()[name] is value for name, value in settings.items())
    # Nothing is checked before fit, so that settings can be changed one after the other.
    odd = cls(None, **settings)
    assert odd.set_params(graph=CHAIN).graph is CHAIN


@every_model
def test_clones_and_representations(cls, settings, fit):
    twin = clone(fit)
    assert type(twin) is cls
    assert not hasattr(twin, "noise_variance_")
    for name, value in fit.get_params().items():
        assert np.array_equal(twin.get_params()[name], value), name
    assert repr(fit).startswith(f"{cls.__name__}(")
    assert "z1 -> z2; z2 -> z3" in repr(fit)


@every_model
def test_use_before_fit_is_one_clear_error(cls, settings):
    data = small_sample().data
    for use in (cls.posterior, cls.transform):
        with pytest.raises(NotFittedError, match=f"this {cls.__name__} is not fitted yet: call fit"):
            use(cls(CHAIN, **settings), data)
    with pytest.raises(NotFittedError, match=f"this {cls.__name__} is not fitted yet"):
        cls(CHAIN, **settings).fitted_state()


@every_model
def test_fitting_returns_the_model_and_leaves_its_settings_and_the_data(cls, settings):
    data = small_sample().data
    before, model = values(data).copy(), cls(CHAIN, **settings)
    params = model.get_params()
    assert model.fit(data) is model
    assert all(model.get_params()[name] is value for name, value in params.items())
    assert np.array_equal(values(data), before)


@every_model
def test_fitted_attributes(cls, settings, fit):
    assert fit.latents_.shape == fit.latent_variances_.shape == (600, 3)
    assert fit.latents_.dtype == fit.latent_variances_.dtype == np.float64
    assert np.isfinite(fit.latents_).all()
    assert np.isfinite(fit.latent_variances_).all()
    assert (fit.latent_variances_ > 0).all()
    assert type(fit.noise_variance_) is float
    assert fit.noise_variance_ > 0
    assert type(fit.converged_) is bool
    assert type(fit.n_iter_) is int
    assert all(type(entry) is dict for entry in fit.history_)
    if settings.get("decoder") != "mlp":
        assert fit.loadings_.shape == (10, 3)
        assert np.linalg.matrix_rank(fit.loadings_) == 3


@every_model
def test_transform_is_the_posterior_mean_of_any_rows(cls, settings, fit):
    part = small_sample().data.subset(np.r_[20:30, 580:590])
    means, variances = fit.posterior(part)
    assert means.shape == variances.shape == (20, 3)
    assert (variances > 0).all()
    if settings.get("posterior_by") == "sampled":
        assert fit.transform(part).shape == (20, 3)
    else:
        assert np.array_equal(fit.transform(part), means)
        assert np.allclose(means, fit.latents_[np.r_[20:30, 580:590]], atol=1e-4)


@every_model
def test_the_same_seed_gives_the_same_fit_whatever_ran_before(cls, settings, fit):
    np.random.default_rng(0).normal(size=3)
    again = clone(fit).fit(small_sample().data)
    for name in ("latents_", "latent_variances_", "noise_variance_", "history_", "n_iter_", "converged_"):
        assert np.array_equal(getattr(again, name), getattr(fit, name)), name


@every_model
def test_files_bring_the_model_back(cls, settings, fit, tmp_path):
    save(fit, tmp_path / "model.safetensors")
    back = load(tmp_path / "model.safetensors")
    assert type(back) is cls
    for name, value in fit.get_params().items():
        assert np.array_equal(back.get_params()[name], value), name
    part = small_sample().data.subset(np.r_[0:20, 500:520])
    for a, b in zip(back.posterior(part), fit.posterior(part), strict=True):
        assert np.array_equal(a, b)


@every_model
def test_rows_may_come_in_any_order(cls, settings, fit):
    order = np.random.default_rng(1).permutation(600)
    mixed = reordered(small_sample().data, order)
    again = clone(fit).fit(mixed)
    if cls in CLOSED_FORM:
        assert np.allclose(again.latents_, fit.latents_[order], atol=1e-8)
        return
    assert np.isfinite(again.latents_).all()
    if cls in (FModeling, GModeling):
        error = np.square(again.latents_ - fit.latents_[order]).mean(0)
        assert (error < 0.15 * fit.latent_variances_.mean(0)).all()


@every_model
def test_other_measurements_than_those_of_the_fit_are_refused(cls, settings, fit):
    data = small_sample().data
    narrow = MultiDomainData(values(data)[:, :7], labels(data), data.targets)
    with pytest.raises(ValueError, match="7"):
        fit.posterior(narrow)


@every_model
def test_a_target_outside_the_graph_is_refused(cls, settings):
    data = small_sample().data
    foreign = MultiDomainData(values(data), labels(data), {**data.targets, "none": ["z9"]})
    with pytest.raises(ValueError, match="target 'z9' of domain 'none' is not a node of the graph"):
        cls(CHAIN, **settings).fit(foreign)
