from __future__ import annotations

import csv
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch._dynamo
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from latentcause import DCRL, InterventionPairs, LinearPairs
from latentcause.datasets.pairs.simulated_pairs import SimulatedPairs
from latentcause.datasets.pairs.system import pair_system
from latentcause.metrics import mean_correlation_coefficient
from latentcause.metrics.pairs import matched_latents, pair_scores
from latentcause.models.dcrl import TIMES
from latentcause.models.pairs.networks import PairNetworks
from latentcause.models.pairs.pair_likelihood import PairLikelihood
from latentcause.models.pairs.starts import checkpoint_of_codes

SYSTEM = pair_system(3, seed=1)
BENT = pair_system(3, seed=1, mixing="mlp")
LEARNS: dict[str, Any] = {"steps": 200, "batch_size": 256, "width": 32, "device": "cpu"}
QUICK: dict[str, Any] = {"steps": 8, "batch_size": 64, "width": 8, "depth": 1, "device": "cpu"}
HELD = SYSTEM.draw(2000, seed=9)
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # after short trainings, of latents that are still mixed


@pytest.fixture(scope="module")
def data() -> SimulatedPairs:
    return SYSTEM.draw(4000, seed=2)


@pytest.fixture(scope="module")
def bent() -> SimulatedPairs:
    return BENT.draw(6000, seed=2)


@pytest.fixture(scope="module")
def few(data) -> InterventionPairs:
    return data.pairs.subset(slice(200))


@pytest.fixture(scope="module")
def fitted(data) -> DCRL:
    return DCRL(3, **LEARNS).fit(data.pairs)


@pytest.fixture(scope="module")
def trajectory(data) -> DCRL:
    return DCRL(3, code="trajectory", **LEARNS | {"steps": 80}).fit(data.pairs)


def correlation(code: pd.DataFrame, held: SimulatedPairs = HELD) -> float:
    return mean_correlation_coefficient(code.to_numpy(), held.factors_before.to_numpy())


# --- what is recovered -----------------------------------------------------------------------------------------------


def test_a_linear_system_is_recovered(fitted):
    assert correlation(fitted.encode(HELD.pairs.before)) > 0.985
    assert correlation(fitted.encode(HELD.pairs.before, refit=True)) > 0.998
    scores = pair_scores(fitted, HELD)
    assert scores.target_accuracy > 0.96
    assert scores.shd1 == 0
    assert scores.counterfactual_r2 > 0.995
    assert fitted.converged_
    assert (fitted.unhit_, fitted.mixed_, fitted.time_) == ((), (), None)


@pytest.mark.parametrize(
    "settings",
    [
        {"guidance": "diffusion"},
        {"start": "random", "steps": 300},
        {"max_targets": 2, "steps": 100},
    ],
    ids=["through the diffusion", "random start", "up to two targets"],
)
def test_every_member_of_the_family_recovers_it(data, settings):
    model = DCRL(3, **LEARNS | {"steps": 100} | settings).fit(data.pairs)
    assert correlation(model.encode(HELD.pairs.before)) > 0.97
    scores = pair_scores(model, HELD)
    assert scores.target_accuracy > 0.8
    assert scores.shd1 == 0
    assert scores.counterfactual_r2 > 0.95


def test_a_model_blind_to_pairs_or_other_noises_knows_less(data, fitted):
    blind = DCRL(3, context="none", **LEARNS | {"steps": 60}).fit(data.pairs)
    assert correlation(blind.encode(HELD.pairs.before)) < correlation(fitted.encode(HELD.pairs.before)) - 0.03
    alone = DCRL(3, paired=False, start="random", decoder="gaussian", **LEARNS | {"steps": 60}).fit(data.pairs)
    assert correlation(alone.encode(HELD.pairs.before)) < 0.95


@pytest.mark.parametrize("start", ["linear", "flow"])
def test_the_start_is_that_of_the_lines(data, start):
    """After a step too small to count, codes and variables are those of `LinearPairs`: where it is exact, nothing is sparser."""
    linear = LinearPairs(3).fit(data.pairs)
    model = DCRL(3, **QUICK | {"steps": 1, "batch_size": 4000, "learning_rate": 1e-9}, start=start).fit(data.pairs)
    x = HELD.pairs.before
    np.testing.assert_allclose(model.noise(x), linear.noise(x), atol=1e-4)
    np.testing.assert_allclose(model.encode(x), linear.encode(x), rtol=0.02, atol=0.02)  # before what is told decides
    np.testing.assert_allclose(model.decode(model.encode(x)), x, atol=0.15)


def test_where_the_mixing_bends_codes_of_a_flow_come_first(bent):
    """By a closed form alone, others than the target keep changing: measured, .64 of the targets against .81."""
    settings = LEARNS | {"steps": 400, "batch_size": 128, "learning_rate": 6e-3, "decoder": "gaussian"}
    held = BENT.draw(2000, seed=9)
    linear, flow = (DCRL(3, start=start, **settings).fit(bent.pairs) for start in ("linear", "flow"))
    assert flow.module_.settled
    assert not linear.module_.settled
    by_linear, by_flow = (pair_scores(model, held) for model in (linear, flow))
    assert by_flow.target_accuracy > by_linear.target_accuracy + 0.08
    assert by_flow.counterfactual_r2 > by_linear.counterfactual_r2 + 0.03
    codes = correlation(linear.encode(held.pairs.before), held), correlation(flow.encode(held.pairs.before), held)
    assert codes[1] > codes[0] + 0.02


def test_known_targets_name_the_latents(data):
    targets = [f"true {target}" if k % 20 == 0 and target != "none" else None for k, target in enumerate(data.targets)]
    pairs = InterventionPairs(data.pairs.before, data.pairs.after, targets)
    model = DCRL(3, **LEARNS | {"steps": 30}).fit(pairs)
    assert model.names_ == ("true z0", "true z1", "true z2")
    code = model.encode(HELD.pairs.before)
    assert matched_latents(code, HELD.factors_before) == {name: f"true {name}" for name in HELD.graph.nodes}


@pytest.mark.usefixtures("quick_contrast")
def test_more_numbers_and_more_directions_than_latents():
    system = pair_system(3, seed=1, observed=6, mixing="mlp")
    data = system.draw(1500, seed=2, measurement=0.01)
    for directions, kept in ((None, 6), (4, 4)):
        model = DCRL(3, directions=directions, **QUICK).fit(data.pairs)
        assert model.whitening_.size == kept
        assert model.encode(data.pairs.before[:5]).shape == (5, 3)
        assert model.counterfactual(data.pairs.before[:5], {"z0": 1.0}).shape == (5, 6)
        assert model.decode(np.zeros((2, 3))).shape == (2, 6)


def test_more_latents_than_directions_are_warned_of(data):
    with pytest.warns(UserWarning, match="the changes after - before have rank 3, less than n_latents=5"):
        model = DCRL(5, **QUICK).fit(data.pairs.subset(slice(300)))
    assert model.encode(HELD.pairs.before[:5]).shape == (5, 5)
    assert not model.converged_


def test_a_target_that_is_never_hit_is_named(data):
    kept = data.subset(np.array(data.targets) != "z2")
    with pytest.warns(UserWarning, match="hardly any pair hits z"):
        model = DCRL(3, **LEARNS | {"steps": 60}).fit(kept.pairs)
    assert len(model.unhit_) == 1
    assert not model.converged_


def test_merged_latents_are_named(data, monkeypatch):
    blend = np.array([[1.0, 0.9, 0.0], [0.9, -1.0, 0.0], [0.0, 0.0, 1.0]])

    def merged(module, x, t=0.0):
        return module.encoder(x) @ torch.from_numpy(blend).float()

    monkeypatch.setattr(PairNetworks, "encode", merged)
    with pytest.warns(UserWarning, match="may be several causal variables in one"):
        model = DCRL(3, **QUICK | {"steps": 1, "learning_rate": 1e-9}).fit(data.pairs)
    assert model.mixed_
    assert not model.converged_


# --- the trajectory --------------------------------------------------------------------------------------------------


def test_a_trajectory_is_read_where_moves_are_told_apart_best(trajectory):
    x = HELD.pairs.before
    assert trajectory.time_ in TIMES
    assert correlation(trajectory.encode(x)) > 0.98
    pd.testing.assert_frame_equal(trajectory.encode(x), trajectory.encode(x, t=trajectory.time_))
    early, late = trajectory.encode(x, t=0.0), trajectory.encode(x, t=1.0)
    assert not np.allclose(early, late, atol=1e-3)
    assert min(correlation(early), correlation(late)) > 0.9
    assert pair_scores(trajectory, HELD).target_accuracy > 0.9


def test_times_are_checked(trajectory, fitted):
    x = HELD.pairs.before[:3]
    for t in (-0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match=r"t=.*: give a time from 0 \(nearly clean\) to 1 \(all noise\)"):
            trajectory.encode(x, t=t)
    with pytest.raises(ValueError, match="this model has one code, not a trajectory of them: leave t out"):
        fitted.encode(x, t=0.5)


# --- what if ---------------------------------------------------------------------------------------------------------


def test_counterfactuals_have_the_wanted_variables(fitted):
    x = HELD.pairs.before
    for do in ({"z0": 1.0}, {"z1": np.linspace(-1, 1, 2000), "z2": 0.5}):
        found = fitted.encode(fitted.counterfactual(x, do))
        for name, value in do.items():
            assert np.sqrt(((found[name] - value) ** 2).mean()) < 0.1
    np.testing.assert_allclose(fitted.counterfactual(x, {}), x, atol=1e-5)
    code = fitted.encode(x)
    same = fitted.counterfactual(x, {"z1": code["z1"].to_numpy()})
    np.testing.assert_allclose(same, x, atol=1e-3)


def test_decoding_nearly_undoes_encoding(fitted):
    x = HELD.pairs.before
    missed = fitted.decode(fitted.encode(x)) - x
    assert (missed**2).sum() < 0.04 * ((x - x.mean(axis=0)) ** 2).sum()


def test_the_scm_is_that_of_the_variables_of_encode(fitted):
    code = fitted.encode(HELD.pairs.before)
    assert fitted.scm_.graph == fitted.graph_
    effect = next(name for name in fitted.names_ if fitted.graph_.parents(name))
    cause = fitted.graph_.parents(effect)[0]
    by_scm = fitted.scm_.counterfactual(code, {cause: code[cause] + 0.5})[effect] - code[effect]
    moved = fitted.counterfactual(HELD.pairs.before, {cause: code[cause].to_numpy() + 0.5})
    by_codes = fitted.encode(moved)[effect] - code[effect]
    assert by_scm.mean() == pytest.approx(by_codes.mean(), rel=0.15)


# --- the same again --------------------------------------------------------------------------------------------------


def answers(model: DCRL) -> list[np.ndarray]:
    x = HELD.pairs.before[:50]
    return [model.encode(x).to_numpy(), model.counterfactual(x, {"z0": 1.0}), model.reading_.weights]


@pytest.mark.parametrize("settings", [{}, {"start": "random", "starts": 2}, {"code": "trajectory"}])
def test_the_seed_decides_the_result(few, settings):
    first, again, other = (DCRL(3, **QUICK | settings, seed=seed).fit(few) for seed in (0, 0, 1))
    assert first.history_ == again.history_
    assert all(np.array_equal(a, b) for a, b in zip(answers(first), answers(again), strict=True))
    assert not np.array_equal(answers(first)[0], answers(other)[0])


def test_training_that_was_cut_off_goes_on_to_the_same_result(few, tmp_path, monkeypatch):
    settings = QUICK | {"steps": 20}
    whole = DCRL(3, **settings).fit(few)
    loss, calls = PairNetworks.loss, []

    def cut_off(module, batch):
        calls.append(1)
        if len(calls) == 10:  # of 4 batches an epoch
            raise KeyboardInterrupt
        return loss(module, batch)

    monkeypatch.setattr(PairNetworks, "loss", cut_off)
    with pytest.raises(KeyboardInterrupt):
        DCRL(3, **settings).fit(few, checkpoint=tmp_path / "run.pt")
    resumed = DCRL(3, **settings).fit(few, checkpoint=tmp_path / "run.pt", log=tmp_path / "log")
    assert len(calls) == 10 + 12  # three of five epochs
    assert resumed.history_ == whole.history_
    assert all(np.array_equal(a, b) for a, b in zip(answers(resumed), answers(whole), strict=True))
    with (tmp_path / "log" / "history.csv").open() as file:
        assert len(list(csv.reader(file))) == 1 + 5
    with pytest.raises(ValueError, match="checkpoint"):
        DCRL(3, **settings, seed=1).fit(few, checkpoint=tmp_path / "run.pt")


def test_both_trainings_go_on_to_the_same_result_where_they_were_cut_off(bent, tmp_path, monkeypatch):
    """First the codes are cut off, then, when they are done, the training of all."""
    pairs, file = bent.pairs.subset(slice(1000)), tmp_path / "run.pt"
    settings = LEARNS | {"steps": 240, "batch_size": 250, "learning_rate": 1e-2, "decoder": "gaussian"}
    whole = DCRL(3, **settings).fit(pairs)
    assert whole.module_.settled
    calls = {PairLikelihood: 0, PairNetworks: 0}

    def cut_off(kind, loss):
        def counted(module, batch):
            calls[kind] += 1
            if calls[kind] == 50:  # of 4 batches an epoch
                raise KeyboardInterrupt
            return loss(module, batch)

        return counted

    for kind in calls:
        monkeypatch.setattr(kind, "loss", cut_off(kind, kind.loss))
    for reached in ([50, 0], [50 + 48 * 4, 50]):  # of sixty epochs, twelve were done
        with pytest.raises(KeyboardInterrupt):
            DCRL(3, **settings).fit(pairs, checkpoint=file)
        assert list(calls.values()) == reached
        assert checkpoint_of_codes(file).exists()
        assert file.exists() == (reached[1] > 0)
    resumed = DCRL(3, **settings).fit(pairs, checkpoint=file)
    assert list(calls.values()) == [50 + 48 * 4, 50 + 48 * 4]
    assert resumed.module_.settled
    assert resumed.history_ == whole.history_
    assert all(np.array_equal(a, b) for a, b in zip(answers(resumed), answers(whole), strict=True))


def test_the_start_of_lowest_loss_goes_on(few, monkeypatch):
    labels, kept = [], []
    train = DCRL._trained

    def watched(model, module, tensors, steps, label, *rest):
        begun = module.encoder.skip.weight.detach().clone()
        result = train(model, module, tensors, steps, label, *rest)
        labels.append((label, result.history[-1]["train_loss"]))
        kept.append((begun, module.encoder.skip.weight.detach().clone()))
        return result

    monkeypatch.setattr(DCRL, "_trained", watched)
    model = DCRL(3, start="random", starts=3, **QUICK | {"steps": 40}).fit(few)
    assert [label for label, _ in labels] == ["start 1 of 3", "start 2 of 3", "start 3 of 3", "DCRL"]
    best = int(np.argmin([loss for _, loss in labels[:3]]))
    assert torch.equal(kept[3][0], kept[best][1])
    assert float(model.module_.seen) == model.module_.total


def test_steps_are_passes_over_the_pairs(data, few):
    for pairs, settings, epochs in (
        (few, {"steps": 8, "batch_size": 64}, 2),  # of 4 batches, the last of 8 pairs
        (few, {"steps": 1, "batch_size": 64}, 1),
        (few, {"steps": 3, "batch_size": 1000}, 3),
        (data.pairs, {"steps": 30, "batch_size": 400}, 3),
    ):
        assert len(DCRL(3, **QUICK | settings).fit(pairs).history_) == epochs


# --- what is wrong is said -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"decoder": "flow"}, "decoder='flow': choose one of diffusion, gaussian"),
        ({"code": "long"}, "code='long': choose one of finite, trajectory"),
        ({"guidance": "none"}, "guidance='none': choose one of head, diffusion"),
        ({"context": "all"}, "context='all': choose one of others, none"),
        ({"start": "ica"}, "start='ica': choose one of flow, linear, random"),
        ({"mechanisms": "tree"}, "mechanisms='tree': choose one of linear, spline"),
        ({"code": "trajectory", "decoder": "gaussian"}, "a Gaussian decoder has no trajectory"),
        ({"starts": 2, "start": "linear"}, 'start="linear" has one start, the lines of changes'),
        ({"paired": False}, 'start="flow" is learned from what changes in pairs: with paired=False use'),
        ({"steps": 0}, "steps, batch_size, width, depth, starts and directions must be at least 1"),
        ({"directions": 0}, "steps, batch_size, width, depth, starts and directions must be at least 1"),
        ({"learning_rate": -1.0}, "learning_rate=-1.0: give a positive number"),
        ({"device": "tpu"}, "device 'tpu' is not present here"),
        ({"max_targets": 3}, "max_targets=3: give at least one latent, and 1 or 2 targets at once"),
    ],
)
def test_settings_are_checked(few, settings, said):
    with pytest.raises(ValueError, match=said):
        DCRL(3, **QUICK | settings).fit(few)


def test_errors_at_the_door(data, few, fitted):
    with pytest.raises(ValueError, match="19 pairs are too few for 3 latents: give at least 20"):
        DCRL(3, **QUICK).fit(few.subset(slice(19)))
    for wrong in (data, data.pairs.before):
        with pytest.raises(TypeError, match=f"fit takes InterventionPairs, not {type(wrong).__name__}"):
            DCRL(3, **QUICK).fit(wrong)
    with pytest.raises(ValueError, match="observations of 2, but the model was fitted to 3"):
        fitted.encode(HELD.pairs.before[:, :2])
    with pytest.raises(FloatingPointError, match="loss not finite in epoch 1; use a smaller learning_rate"):
        DCRL(3, **QUICK | {"steps": 4, "learning_rate": 1e30}).fit(few)


def test_images():
    rng = np.random.default_rng(0)
    patterns = rng.random((3, 3 * 64))
    drawn = SYSTEM.draw(300, seed=4)
    before, after = (
        (0.5 + 0.02 * part.to_numpy() @ patterns).clip(0, 1).reshape(-1, 3, 8, 8)
        for part in (drawn.factors_before, drawn.factors_after)
    )
    model = DCRL(3, **QUICK).fit(InterventionPairs(before, after))
    assert model.whitening_.size <= 96
    found = model.counterfactual(before[:5], {"z0": 1.0})
    assert found.shape == (5, 3, 8, 8)
    assert 0 <= found.min() <= found.max() <= 1
    assert model.decode(np.zeros((2, 3))).shape == (2, 3, 8, 8)
    with pytest.raises(ValueError, match="observations of 1 x 8 x 8, but the model was fitted to 3 x 8 x 8"):
        model.encode(before[:, :1])
    assert DCRL(2, directions=2, **QUICK).fit(InterventionPairs(before, after)).whitening_.size == 2


# --- the rules of estimators -----------------------------------------------------------------------------------------


def test_the_rules_of_estimators(few):
    model = DCRL(3, **QUICK)
    assert set(vars(model)) == set(model.get_params())
    assert model.set_params(seed=4).seed == 4
    params = model.get_params()
    assert model.fit(few) is model
    assert model.get_params() == params
    twin = clone(model)
    assert not hasattr(twin, "module_")
    assert twin.get_params() == params
    assert repr(DCRL(3, code="trajectory")) == "DCRL(code='trajectory', n_latents=3)"


def test_use_before_fit_is_one_clear_error(few):
    uses = [
        lambda model: model.encode(few.before),
        lambda model: model.encode(few.before, refit=True),
        lambda model: model.infer_targets(few),
        lambda model: model.counterfactual(few.before, {}),
        lambda model: model.graph_,
        lambda model: model.fitted_state(),
    ]
    for use in uses:
        with pytest.raises(NotFittedError, match="this DCRL is not fitted yet: call fit"):
            use(DCRL(3))


def test_draws_scatter_about_what_decode_says_as_observations_do(fitted):
    z = fitted.encode(HELD.pairs.before)
    drawn, mean = fitted.draw(z, generator=0), fitted.decode(z)
    assert drawn.shape == HELD.pairs.before.shape
    np.testing.assert_array_equal(drawn, fitted.draw(z, generator=0))
    scale = HELD.pairs.before.std(axis=0)
    offset = np.abs((drawn - mean).mean(axis=0)) / scale
    spread = (drawn - mean).std(axis=0) / scale
    assert offset.max() < 0.05
    assert ((spread > 0.005) & (spread < 0.5)).all()
    with pytest.raises(ValueError, match="give a column of finite numbers for each of z0, z1, z2"):
        fitted.draw(z.to_numpy()[:, :2], generator=0)
