"""Reports on models whose answers are known: the truth, one that does nothing, and ones with one fault each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest

from latentcause.datasets import FactorImages, digits, pendulum
from latentcause.metrics import composition, counterfactual_report, train_factor_predictor

TRUTH = digits(60, seed=1)
INKS = TRUTH.scm.sample(60, generator=2)[:, 0]


class Perfect:
    """Answers with the truth: redraws what it sees, with factors that it measures or is told."""

    def __init__(self, truth: FactorImages = TRUTH) -> None:
        self.truth = truth

    def counterfactual(self, images: Any, do: Mapping[str, Any], labels: pd.DataFrame | None = None) -> np.ndarray:
        factors = self.truth.measure(images) if labels is None else labels
        return self.truth.render(self.truth.base, self.truth.scm.counterfactual(factors, do))


class Factual:
    """Nothing ever changes."""

    def counterfactual(self, images: Any, do: Mapping[str, Any], labels: pd.DataFrame | None = None) -> Any:
        return images


class Drifting(Perfect):
    """Loses a hundredth of the brightness each time."""

    def counterfactual(self, images: Any, do: Mapping[str, Any], labels: pd.DataFrame | None = None) -> np.ndarray:
        return 0.99 * super().counterfactual(images, do, labels)


class SmudgesNothing(Factual):
    """Paints a corner that should stay as it is."""

    def counterfactual(self, images: Any, do: Mapping[str, Any], labels: pd.DataFrame | None = None) -> Any:
        changed = np.array(images)
        changed[:, :, :2, :2] = 1.0 if do else changed[:, :, :2, :2]
        return changed


@pytest.mark.parametrize("observed", [False, True])
def test_the_truth_has_no_errors(observed):
    report = counterfactual_report(Perfect(), TRUTH, {"ink": INKS}, observed=observed, cycles=(1, 3))
    assert (report.do, report.images, report.observed) == (("ink",), 60, observed)
    assert report.l1 < 1e-4
    assert report.psnr > 50
    assert np.isnan(report.ssim)  # 8 x 8
    assert report.reversibility < 1e-4
    assert report.pixels_moved == 0
    assert list(report.composition) == [1, 3]
    assert max(report.composition.values()) < 1e-4
    for name in ("ink", "intensity"):
        change = report.factors[name]
        assert change.is_effect
        assert change.slope == pytest.approx(1, abs=1e-3)
        assert change.error < 0.05
        assert (change.not_measured, change.predicted_error) == (0, None)


def test_doing_nothing_has_the_errors_of_the_factual_image():
    report = counterfactual_report(Factual(), TRUTH, {"ink": INKS}, cycles=(2,))
    true_images = TRUTH.counterfactual(slice(None), {"ink": INKS})
    assert report.l1 == pytest.approx(float(np.abs(true_images - TRUTH.images.pixels).mean()), rel=1e-5)
    assert report.factors["ink"].error == pytest.approx(np.abs(INKS - TRUTH.images.labels["ink"]).mean(), rel=1e-3)
    assert report.factors["ink"].slope == pytest.approx(0, abs=1e-9)
    assert report.factors["ink"].moved == 0
    assert (report.reversibility, report.pixels_moved, report.composition) == (0, 0, {2: 0.0})


def test_what_should_not_move_is_told_from_what_should():
    report = counterfactual_report(Perfect(), TRUTH, {"intensity": 100.0})
    assert not report.factors["ink"].is_effect
    assert report.factors["ink"].moved < 1e-3
    assert np.isnan(report.factors["ink"].slope)
    assert report.factors["intensity"].moved > 20
    smudged = counterfactual_report(SmudgesNothing(), TRUTH, {"intensity": 100.0})
    assert smudged.factors["ink"].moved > 0.1
    assert smudged.pixels_moved > report.pixels_moved + 0.02


def test_errors_add_up_over_cycles():
    errors = composition(Drifting(), TRUTH, (1, 4))
    mean = float(TRUTH.images.pixels.mean())
    assert errors[1] == pytest.approx(0.01 * mean, rel=1e-3)
    assert errors[4] == pytest.approx((1 - 0.99**4) * mean, rel=1e-2)
    told = composition(Drifting(), TRUTH, (4,), observed=True)  # who is told the brightness forgets its last faults
    assert told[4] == pytest.approx(0.01 * mean, rel=1e-3)


def test_factors_that_cannot_be_measured_are_counted():
    scenes = pendulum(20, 24, seed=3)

    class Blank(Factual):
        def counterfactual(self, images: Any, do: Mapping[str, Any], labels: pd.DataFrame | None = None) -> Any:
            changed = np.array(images)
            changed[:5] = 1.0
            return changed

    report = counterfactual_report(Blank(), scenes, {"light": 8.0})
    assert report.factors["angle"].not_measured == 5
    assert report.factors["light"].not_measured == 5
    assert report.factors["shadow_length"].not_measured == 0  # no shadow has length 0
    assert report.factors["light"].error == pytest.approx(
        np.abs(8 - scenes.images.labels["light"][5:]).mean(), rel=0.05
    )
    assert 0 <= report.ssim < 1
    everywhere = counterfactual_report(Perfect(scenes), scenes, {"light": 8.0}, observed=True)
    assert everywhere.ssim > 0.999


def test_a_predictor_trained_on_real_images_judges_too():
    real = digits(1000, seed=4).images
    predictor = train_factor_predictor(real, seed=0, epochs=6)
    report = counterfactual_report(Perfect(), TRUTH, {"ink": INKS}, predictor=predictor)
    still = counterfactual_report(Factual(), TRUTH, {"ink": INKS}, predictor=predictor)
    for name in ("ink", "intensity"):
        better, worse = report.factors[name].predicted_error, still.factors[name].predicted_error
        assert better is not None
        assert worse is not None
        assert better < 0.5 * worse


def test_a_predictor_needs_numbers_that_vary():
    images = TRUTH.images
    from latentcause import LabelledImages

    with pytest.raises(ValueError, match="'kind' is a category"):
        train_factor_predictor(LabelledImages(images.pixels, {"kind": ["a", "b"] * 30}), seed=0)
    with pytest.raises(ValueError, match="'ink' is the same"):
        train_factor_predictor(LabelledImages(images.pixels, {"ink": np.ones(60)}), seed=0)


def test_questions_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="do\\(\\) is empty"):
        counterfactual_report(Factual(), TRUTH, {})
    with pytest.raises(ValueError, match="at least 1"):
        composition(Factual(), TRUTH, (0, 1))
    with pytest.raises(ValueError, match="not a node"):
        counterfactual_report(Factual(), TRUTH, {"colour": 1.0})
