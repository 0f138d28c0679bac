from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning

from latent_samples import exchangeable, labels, paper_sample, ratio, reordered, small_sample, values
from latentcause import CausalGraph, GModeling, MultiDomainData, load, save
from latentcause.datasets import interventional_system
from latentcause.metrics import align_columns, frobenius_error, relative_mse
from latentcause.scm import LinearMechanism, SplineMechanism

CHAIN = CausalGraph.chain(3)
DIAMOND = CausalGraph.from_string("z1 -> z2; z1 -> z3; z2 -> z4; z3 -> z4")


def near(**settings) -> GModeling:
    """Started at the true loadings, which spares the search for them."""
    return GModeling(CHAIN, initialisation=small_sample().system.loadings, **settings)


def known(**settings) -> GModeling:
    return GModeling(CHAIN, loadings=small_sample().system.loadings, noise_variance=2.0, **settings)


@pytest.fixture(scope="module")
def fit() -> GModeling:
    return near().fit(small_sample().data)


@pytest.fixture(scope="module")
def linear_fit() -> GModeling:
    return near(mechanisms="linear").fit(small_sample("linear").data)


def log_likelihood(fit: GModeling, data: MultiDomainData) -> float:
    """Closed-form Gaussian log-likelihood per sample of a fit with linear mechanisms."""
    total = 0.0
    for e, targets in enumerate(data.targets.values()):
        mechanisms = fit.scm(targets).mechanisms
        B = np.zeros((3, 3))
        for j, node in enumerate(fit.graph.nodes):
            for parent, weight in zip(fit.graph.parents(node), mechanisms[node].weights, strict=False):
                B[j, fit.graph.index(parent)] = weight
        response = np.linalg.inv(np.eye(3) - B)
        mean = fit.loadings_ @ response @ [m.intercept for m in mechanisms.values()]
        spread = response @ np.diag([m.variance for m in mechanisms.values()]) @ response.T
        covariance = fit.loadings_ @ spread @ fit.loadings_.T + fit.noise_variance_ * np.eye(len(mean))
        offset = values(data)[data.domain_index == e] - mean
        total += -0.5 * (offset @ np.linalg.inv(covariance) * offset).sum()
        total += -0.5 * len(offset) * np.linalg.slogdet(2 * np.pi * covariance)[1]
    return total / data.n_samples


# --- how near the limit --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["linear", "bounded", "saturating"])
def test_learned_mechanisms_loadings_and_noise_come_near_the_limit(family):
    # No shrinkage is at 1.74 to 1.82 times the limit here, f-modeling at 1.04 to 1.05.
    sample = paper_sample(family)
    fit = GModeling(sample.system.graph).fit(sample.data)
    assert fit.converged_
    assert fit.unidentified_ == ()
    assert 1.0 < ratio(fit, sample) < 1.05
    assert fit.noise_variance_ == pytest.approx(2.0, rel=0.02)
    assert frobenius_error(fit.loadings_, sample.system.loadings) < 0.04
    aligned = align_columns(fit.loadings_, sample.system.loadings).latents(fit.latents_)
    calibration = np.square(aligned - sample.latents).mean(0) / fit.latent_variances_.mean(0)
    assert (np.abs(calibration - 1) < 0.2).all()


def test_with_known_loadings_and_noise_it_is_at_the_limit_and_keeps_them():
    sample = small_sample("saturating", n=600)
    fit = known().fit(sample.data)
    assert 0.998 < ratio(fit, sample) < 1.01
    assert np.allclose(fit.loadings_, sample.system.loadings)
    assert fit.noise_variance_ == 2.0


def test_wrong_loadings_turn_towards_the_truth():
    sample = small_sample()
    turn = np.linalg.qr(np.eye(3) + 0.2 * np.random.default_rng(0).normal(size=(3, 3)))[0]
    start = sample.system.loadings @ turn
    fit = GModeling(CHAIN, initialisation=start).fit(sample.data)
    assert frobenius_error(start, sample.system.loadings) > 0.2
    assert frobenius_error(fit.loadings_, sample.system.loadings) < 0.02


# --- the likelihood ------------------------------------------------------------------------------------------------


def test_its_log_likelihood_is_that_of_the_measurements(linear_fit):
    data = small_sample("linear").data
    assert linear_fit.history_[-1]["log_likelihood"] == pytest.approx(log_likelihood(linear_fit, data), abs=2e-4)


def test_every_plain_em_step_raises_the_likelihood():
    with pytest.warns(ConvergenceWarning):
        fit = near(mechanisms="linear", max_iterations=4).fit(small_sample("linear").data)
    rising = [entry["log_likelihood"] for entry in fit.history_]
    rising.append(log_likelihood(fit, small_sample("linear").data))
    assert (np.diff(rising) > 0).all()


def test_the_fit_is_a_maximum_of_the_likelihood(linear_fit):
    data, loadings = small_sample("linear").data, linear_fit.loadings_
    best = log_likelihood(linear_fit, data)
    rng = np.random.default_rng(1)
    try:
        for _ in range(10):
            skew = 0.02 * rng.normal(size=(10, 10))
            linear_fit.loadings_ = np.asarray(torch.matrix_exp(torch.from_numpy(skew - skew.T))) @ loadings
            assert log_likelihood(linear_fit, data) < best
    finally:
        linear_fit.loadings_ = loadings
    node = linear_fit.scm_.mechanisms["z2"]
    for weight, variance in ((1.1, 1.0), (0.9, 1.0), (1.0, 1.1), (1.0, 0.9)):
        changed = LinearMechanism((node.weights[0] * weight,), node.intercept, node.variance * variance)
        linear_fit.scm_.mechanisms["z2"] = changed
        assert log_likelihood(linear_fit, data) < best
    linear_fit.scm_.mechanisms["z2"] = node


def test_acceleration_reaches_more_likelihood_than_as_many_plain_steps(monkeypatch):
    data = small_sample("linear").data
    runs = {}
    for plain in (4, 16):
        monkeypatch.setattr("latentcause.models.g_modeling.PLAIN", plain)
        with pytest.warns(ConvergenceWarning):
            runs[plain] = log_likelihood(near(mechanisms="linear", max_iterations=16).fit(data), data)
    assert runs[4] > runs[16]


# --- mechanisms ----------------------------------------------------------------------------------------------------


def test_linear_mechanisms_are_found_in_the_linear_family():
    sample = small_sample("linear", n=1000)
    fit = known(mechanisms="linear").fit(sample.data)
    for node in CHAIN.nodes:
        true, found = sample.system.baseline.mechanisms[node], fit.scm_.mechanisms[node]
        assert isinstance(found, LinearMechanism)
        assert np.allclose(found.weights, true.weights, atol=0.05)
        assert found.intercept == pytest.approx(0.0, abs=0.25)
        assert found.variance == pytest.approx(4.0, rel=0.1)
        hit = fit.intervened_[node]
        assert hit.weights == ()
        assert hit.intercept == pytest.approx(10.0, abs=0.2)
        assert hit.variance == pytest.approx(1.0, abs=0.35)


def test_splines_follow_a_nonlinear_mechanism():
    sample = small_sample("saturating", n=1000)
    fit = known().fit(sample.data)
    found = fit.scm_.mechanisms["z2"]
    assert isinstance(found, SplineMechanism)
    parents = torch.linspace(-4, 11, 40, dtype=torch.float64)[:, None]
    true = sample.system.baseline.mechanisms["z2"].mean(parents)
    line = torch.from_numpy(np.polyval(np.polyfit(parents[:, 0], true, 1), parents[:, 0]))
    assert (found.mean(parents) - true).square().mean() < 0.15 * (line - true).square().mean()


@pytest.mark.parametrize("intervention", ["shift", "variance"])
def test_soft_interventions_keep_their_parents(intervention):
    sample = small_sample("linear", intervention, n=400)
    fit = GModeling(CHAIN, interventions="soft", mechanisms="linear").fit(sample.data)
    assert ratio(fit, sample) < {"shift": 1.05, "variance": 1.1}[intervention]
    true, found = sample.system.intervened["z2"], fit.intervened_["z2"]
    # A column's sign is free, so z1 and z2 may both have turned.
    signs = align_columns(fit.loadings_, sample.system.loadings).factors
    assert found.weights[0] * signs[0] * signs[1] == pytest.approx(true.weights[0], abs=0.2)
    assert found.intercept * signs[1] == pytest.approx(true.intercept, abs=0.8)
    assert found.variance == pytest.approx(true.variance, rel=0.5)


def test_the_learned_model_can_be_sampled_under_any_do(fit):
    hit = fit.scm(["z1", "z3"]).sample(4000, generator=0)
    for j, node in ((0, "z1"), (2, "z3")):
        mechanism = fit.intervened_[node]
        assert hit[:, j].mean() == pytest.approx(mechanism.intercept, abs=5 * (mechanism.variance / 4000) ** 0.5)
        assert hit[:, j].var() == pytest.approx(mechanism.variance, rel=0.2)
    fixed = fit.scm_.sample(50, do={"z2": 3.0}, generator=1)
    assert (fixed[:, 1] == 3.0).all()
    assert np.array_equal(fixed[:, 0], fit.scm_.sample(50, generator=1)[:, 0])
    assert fit.scm("z2").mechanisms["z2"] == fit.intervened_["z2"]


@pytest.mark.parametrize("family", ["linear", "bounded", "saturating"])
def test_unseen_pairs_of_targets_are_predicted_better_than_by_adding_shifts(family):
    sample = small_sample(family, n=500)
    fit = near().fit(sample.data)
    x, domain = values(sample.data), sample.data.domain_index
    means = np.stack([x[domain == e].mean(0) for e in range(4)])
    covariances = np.stack([np.cov(x[domain == e].T) for e in range(4)])
    errors = []
    for first, second in ((1, 2), (1, 3), (2, 3)):
        pair = [f"z{first}", f"z{second}"]
        z = sample.system.scm(pair).sample(200_000, generator=7)
        A = sample.system.loadings
        mean, covariance = A @ z.mean(0), A @ np.cov(z.T) @ A.T + 2 * np.eye(10)
        found = fit.predict(pair)
        added = means[first] + means[second] - means[0], covariances[first] + covariances[second] - covariances[0]
        errors.append([[np.square(m - mean).sum(), np.square(c - covariance).sum()] for m, c in (found, added)])
    model, addition = np.mean(errors, axis=0)
    assert (model < 0.5 * addition).all()
    assert model[0] < 0.5


def test_predictions_are_the_moments_of_the_learned_model(fit):
    mean, covariance = fit.predict(["z1"], draws=20_000)
    z = fit.scm("z1").sample(20_000, generator=fit.seed)
    assert np.allclose(mean, fit.loadings_ @ z.mean(0))
    expected = fit.loadings_ @ np.cov(z.T) @ fit.loadings_.T + fit.noise_variance_ * np.eye(10)
    assert np.allclose(covariance, expected)
    x = values(small_sample().data)[small_sample().data.domain_index == 1]
    assert np.abs(mean - x.mean(0)).max() < 0.6
    assert all(np.array_equal(a, b) for a, b in zip(fit.predict("z1"), fit.predict(["z1"]), strict=True))


# --- sampled posteriors --------------------------------------------------------------------------------------------


def test_exact_and_sampled_posteriors_agree():
    sample = small_sample("linear", n=100)
    exact = known(mechanisms="linear").fit(sample.data)
    sampled = known(mechanisms="linear", posterior_by="sampled", max_iterations=60).fit(sample.data)
    sd = np.sqrt(exact.latent_variances_)
    # The mean of 100 independent draws would be off by a tenth of a standard deviation; chains remember a few moves.
    error = (sampled.latents_ - exact.latents_) / sd
    assert np.sqrt(np.square(error).mean()) < 0.3
    assert np.abs(error.mean(0)).max() < 0.1
    assert sampled.latent_variances_.mean() == pytest.approx(exact.latent_variances_.mean(), rel=0.1)
    for node in CHAIN.nodes:
        a, b = exact.scm_.mechanisms[node], sampled.scm_.mechanisms[node]
        assert np.allclose(a.weights, b.weights, atol=0.05)
        assert b.variance == pytest.approx(a.variance, rel=0.1)


def test_graphs_whose_nodes_have_two_parents_are_sampled():
    system = interventional_system(DIAMOND, family="linear", n_measurements=10, seed=3)
    sample = system.sample(120, seed=4)
    model = GModeling(DIAMOND, initialisation=system.loadings, mechanisms="linear", max_iterations=40, draws=50)
    fit = model.fit(sample.data)
    aligned = align_columns(fit.loadings_, system.loadings).latents(fit.latents_)
    raw = values(sample.data) @ system.loadings
    assert relative_mse(aligned, sample.latents) < 0.75 * relative_mse(raw, sample.latents)
    assert len(fit.scm_.mechanisms["z4"].weights) == 2
    means, variances = fit.posterior(sample.data)
    assert np.sqrt(np.square(means - fit.latents_).mean()) < 0.4 * np.sqrt(variances.mean())


def test_columns_that_are_not_orthogonal_are_sampled_and_found():
    sample = small_sample("linear", n=300)
    loadings = sample.system.loadings @ np.array([[1, 0.6, 0], [0, 0.8, 0.5], [0, 0, 0.75**0.5]])
    noise = np.random.default_rng(5).normal(size=(1200, 10)) * 0.5**0.5
    data = MultiDomainData(sample.latents @ loadings.T + noise, labels(sample.data), sample.data.targets)
    rough = loadings + 0.05 * np.random.default_rng(6).normal(size=(10, 3))
    fit = GModeling(CHAIN, columns="psd", mechanisms="linear", initialisation=rough, max_iterations=40, draws=40).fit(
        data
    )
    assert np.allclose(np.linalg.norm(fit.loadings_, axis=0), 1)
    assert frobenius_error(fit.loadings_, loadings) < 0.5 * frobenius_error(rough, loadings)
    assert fit.noise_variance_ == pytest.approx(0.5, rel=0.05)
    assert "log_likelihood" not in fit.history_[0]


def test_columns_have_the_form_that_is_asked_for(fit):
    assert np.allclose(fit.loadings_.T @ fit.loadings_, np.eye(3), atol=1e-9)
    free = near(columns="orthogonal").fit(small_sample().data)
    gram = free.loadings_.T @ free.loadings_
    assert np.allclose(gram, np.diag(gram.diagonal()), atol=1e-9)
    assert np.allclose(gram.diagonal(), 1.0, atol=0.2)
    assert ratio(free, small_sample()) < 1.06
    assert "log_likelihood" in free.history_[0]  # orthogonal columns keep the E-step exact


# --- the fit and its record ----------------------------------------------------------------------------------------


def test_the_record_of_the_iterations(fit):
    assert fit.n_iter_ == len(fit.history_) > 4
    assert set(fit.history_[0]) == {"log_likelihood", "noise_variance", "change"}
    assert fit.history_[-1]["log_likelihood"] > fit.history_[0]["log_likelihood"]
    assert fit.history_[-1]["change"] < 0.01
    assert fit.converged_


@pytest.mark.parametrize("iterations", [1, 4, 5, 10, 11, 13])
def test_running_out_of_iterations_is_a_warning_and_never_converged(iterations):
    with pytest.warns(ConvergenceWarning, match=f"still rising after {iterations} iterations: raise max_iterations"):
        fit = near(max_iterations=iterations).fit(small_sample().data)
    assert not fit.converged_
    assert fit.n_iter_ == iterations
    assert np.isfinite(fit.latents_).all()


@pytest.mark.parametrize(
    "settings", [{}, {"posterior_by": "sampled", "max_iterations": 5, "draws": 5}], ids=["exact", "sampled"]
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_same_seed_gives_the_same_fit(settings):
    data = small_sample().data
    first, second = near(**settings).fit(data), near(**settings).fit(data)
    assert np.array_equal(first.latents_, second.latents_)
    assert np.array_equal(first.loadings_, second.loadings_)
    assert first.history_ == second.history_
    if settings:
        assert not np.array_equal(near(seed=1, **settings).fit(data).latents_, first.latents_)


def test_the_order_of_the_rows_does_not_matter(fit):
    data = small_sample().data
    order = np.random.default_rng(7).permutation(data.n_samples)
    again = near().fit(reordered(data, order))
    assert np.allclose(again.latents_, fit.latents_[order], atol=0.02)
    assert np.allclose(again.loadings_, fit.loadings_, atol=0.01)


def test_float32_and_streamed_data_give_the_same(fit, tmp_path):
    data = small_sample().data
    x = values(data).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    streamed = MultiDomainData.from_npy(tmp_path / "x.npy", labels(data), data.targets)
    from_disk, single = near().fit(streamed), near().fit(MultiDomainData(x, labels(data), data.targets))
    assert np.array_equal(from_disk.latents_, single.latents_)
    assert single.latents_.dtype == np.float64
    assert np.allclose(single.latents_, fit.latents_, atol=0.02)


# --- new data, files -----------------------------------------------------------------------------------------------


def test_the_data_of_the_fit_get_the_same_latents_again(fit):
    data = small_sample().data
    means, variances = fit.posterior(data)
    assert np.allclose(means, fit.latents_, atol=1e-5)
    assert np.allclose(variances, fit.latent_variances_, atol=1e-5)


def test_rows_by_themselves_and_rows_far_out_have_their_own_posterior(linear_fit):
    data = small_sample("linear").data
    rows = np.array([5, 310, 599])
    assert np.allclose(linear_fit.transform(data.subset(rows)), linear_fit.latents_[rows], atol=1e-5)
    # In a linear model the posterior mean is linear in x, also eight standard deviations from all that the fit has seen.
    x = values(data)[:1]
    far = x + 20 * linear_fit.loadings_[:, 0]
    both = MultiDomainData(np.vstack([x, x + 0.02 * linear_fit.loadings_[:, 0]]), ["none"] * 2, {"none": []})
    near_by = linear_fit.transform(both)
    alone = linear_fit.transform(MultiDomainData(far, ["none"], {"none": []}))
    assert np.allclose(alone - near_by[:1], 1000 * (near_by[1:] - near_by[:1]), rtol=0.01, atol=0.02)


def test_targets_may_come_in_combinations_that_the_fit_has_not_seen(fit):
    x = values(small_sample().data)[:20]
    new = MultiDomainData(x, ["pair"] * 20, {"pair": ["z1", "z2"]})
    means, variances = fit.posterior(new)
    assert np.isfinite(means).all()
    assert (variances > 0).all()
    # The prior pulls both towards 10, here from about 0.
    signs = align_columns(fit.loadings_, small_sample().system.loadings).factors
    assert ((means - x @ fit.loadings_)[:, :2] * signs[:2] > 2).all()


def test_what_the_fit_has_not_learned_is_refused():
    sample = small_sample()
    part = sample.data.subset(np.r_[0:450])  # without the domain that targets z3
    fit = known(max_iterations=30).fit(part)
    assert set(fit.intervened_) == {"z1", "z2"}
    with pytest.raises(ValueError, match=r"no domain of the fit targeted 'z3', .* interventions on \['z1', 'z2'\]"):
        fit.transform(sample.data)
    with pytest.raises(ValueError, match="no domain of the fit targeted 'z3'"):
        fit.predict(["z1", "z3"])
    with pytest.raises(ValueError, match="target 'z9' is not a node of the graph"):
        fit.scm("z9")
    narrow = MultiDomainData(values(part)[:, :5], labels(part), part.targets)
    with pytest.raises(ValueError, match="the data have 5 measurements, the model was fitted on 10"):
        fit.transform(narrow)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"mechanisms": "linear", "columns": "orthogonal", "interventions": "soft"},
        {"posterior_by": "sampled", "max_iterations": 4, "draws": 4},
        {"columns": "psd", "max_iterations": 4, "draws": 4},
    ],
    ids=["defaults", "linear", "sampled", "psd"],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_saved_fits_come_back_exactly(settings, tmp_path):
    data = small_sample().data
    fit = near(**settings).fit(data)
    save(fit, tmp_path / "fit.safetensors")
    back = load(tmp_path / "fit.safetensors")
    for a, b in zip(back.posterior(data), fit.posterior(data), strict=True):
        assert np.array_equal(a, b)
    for name in ("latents_", "latent_variances_", "loadings_", "noise_variance_", "history_", "n_iter_", "converged_"):
        assert np.array_equal(getattr(back, name), getattr(fit, name)), name
    assert back.scm_.mechanisms == fit.scm_.mechanisms
    assert back.intervened_ == fit.intervened_
    assert back.unidentified_ == fit.unidentified_


# --- bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mechanisms": "cubic"}, "unknown mechanisms 'cubic': choose 'spline' or 'linear'"),
        ({"posterior_by": "magic"}, "unknown posterior_by 'magic': choose 'auto', 'exact' or 'sampled'"),
        ({"columns": "free"}, "unknown columns 'free'"),
        ({"interventions": "firm"}, "unknown interventions 'firm'"),
        ({"initialisation": "ica"}, "unknown initialisation 'ica': choose 'gaussian', 'pca' or an array"),
        ({"noise_variance": 0.0}, "noise_variance=0.0 must be a positive number"),
        ({"loadings": np.eye(3)}, r"loadings has shape \(3, 3\)"),
        ({"loadings": np.ones((10, 3))}, "linearly dependent"),
        ({"loadings": np.full((10, 3), np.inf)}, "loadings holds NaN or infinity"),
        ({"columns": "psd", "posterior_by": "exact"}, "exact posteriors need .* orthogonal loading columns"),
        ({"n_splines": 2}, "needs at least 4 functions, not 2"),
        ({"max_iterations": 0}, "max_iterations=0 must be at least 1"),
        ({"draws": 1}, "draws=1 must be at least 2"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_settings_that_cannot_be_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        GModeling(CHAIN, **{"initialisation": small_sample().system.loadings, **settings}).fit(small_sample().data)


def test_exact_posteriors_are_refused_where_a_node_has_two_parents():
    system = interventional_system(DIAMOND, n_measurements=6, seed=0)
    model = GModeling(DIAMOND, posterior_by="exact", loadings=system.loadings)
    with pytest.raises(ValueError, match="exact posteriors need a graph where no node has two parents"):
        model.fit(system.sample(20, seed=0).data)


def test_unknown_noise_needs_more_measurements_than_nodes():
    sample = small_sample()
    square = MultiDomainData(values(sample.data)[:, :3], labels(sample.data), sample.data.targets)
    with pytest.raises(ValueError, match=r"as many measurements as nodes \(3\): give noise_variance"):
        GModeling(CHAIN).fit(square)


def test_nodes_that_the_domains_do_not_identify_are_named_in_a_warning():
    graph, data = exchangeable()
    with pytest.warns(
        UserWarning, match="do not identify left, right: none targets them.* Add domains that target them"
    ):
        fit = GModeling(graph).fit(data)
    assert fit.unidentified_ == ("left", "right")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_a_fit_on_a_gpu_agrees_with_the_cpu():
    data = small_sample().data
    cpu, gpu = (near(device=device).fit(data) for device in ("cpu", "cuda"))
    assert np.allclose(gpu.latents_, cpu.latents_, atol=0.02)
    assert np.allclose(gpu.transform(data), gpu.latents_, atol=1e-5)


def test_a_node_that_every_domain_targets_is_named():
    system = interventional_system(CausalGraph.chain(2), n_measurements=10, seed=0)
    sample = system.sample(300, {"first": ["z1"], "both": ["z1", "z2"]}, seed=1)
    with pytest.warns(UserWarning, match="every domain targets z1, so nothing shows what makes it when left alone"):
        fit = GModeling(system.graph).fit(sample.data)
    assert fit.scm_.mechanisms["z1"] == fit.intervened_["z1"]
    assert fit.scm_.mechanisms["z2"] != fit.intervened_["z2"]
