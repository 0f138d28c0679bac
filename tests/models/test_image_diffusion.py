"""Edits along an image's own path of inversion, beside closed forms."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from latentcause.models.image_diffusion import EXAGGERATED_FROM, SCHEDULE, ImageDiffusion

SPREAD = 0.4
IMAGES = 0.5 + 0.05 * torch.randn(70, 1, 2, 3, generator=torch.Generator().manual_seed(0))


class Shifted(nn.Module):
    """The exact velocity of data N(code, SPREAD^2) on [-1, 1], the same code for every pixel; counts its passes."""

    def __init__(self) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(()))
        self.passes = 0

    def forward(self, x: Tensor, t: Tensor, code: Tensor) -> Tensor:
        self.passes += 1
        alpha, sigma = (level.to(x)[:, None, None, None] for level in SCHEDULE.at(t))
        mean = code[:, :, None, None] + self.offset
        data = mean + alpha * SPREAD**2 / (alpha**2 * SPREAD**2 + sigma**2) * (x - alpha * mean)
        return (alpha * x - data) / sigma


def errors(steps: int, guidance: float = 1.0) -> Tensor:
    """How far edits are from the shift that the change of the mean implies, as a share of it; row by row."""
    factual = torch.linspace(-0.2, 0.2, len(IMAGES))[:, None]
    wanted = factual + 0.2
    found = ImageDiffusion(Shifted(), steps, 0).edited(IMAGES, factual, wanted, [(factual, guidance)])
    return (found - IMAGES - 0.1 * guidance).flatten(1).abs().amax(1) / 0.1


@pytest.mark.parametrize("guidance", [1.0, 0.5])
@pytest.mark.parametrize("steps", [3, 10, 40])
def test_a_mean_that_moves_moves_the_image(steps, guidance):
    # What is missing is the signal that is left at the first time.
    assert errors(steps, guidance).max() < 0.005


def test_whoever_is_told_the_same_is_returned_in_any_number_of_steps():
    code = torch.linspace(-0.5, 0.5, len(IMAGES))[:, None]
    for steps in (1, 3):
        diffusion = ImageDiffusion(Shifted(), steps, 0)
        torch.testing.assert_close(diffusion.edited(IMAGES, code, code, [(code, 1.7)]), IMAGES, rtol=0, atol=1e-6)
        torch.testing.assert_close(diffusion.edited(IMAGES, code, code + 1, [(code, 0.0)]), IMAGES, rtol=0, atol=1e-6)


def test_an_edit_costs_two_passes_a_step_and_exaggeration_a_third_early_on():
    network, code = Shifted(), torch.zeros(5, 1)
    diffusion = ImageDiffusion(network, 4, 3)
    early = int((diffusion._times_of_edits >= EXAGGERATED_FROM).sum())
    assert 0 < early < 5
    for guidance, passes in ((1.0, 10), (1.5, 10 + early), (0.5, 15)):
        network.passes = 0
        diffusion.edited(IMAGES[:5], code, code + 0.1, [(code, guidance)] if guidance != 1 else [])
        assert network.passes == passes


def test_guidance_beyond_one_exaggerates_by_less_than_all_the_way():
    factual, network = torch.zeros(len(IMAGES), 1), ImageDiffusion(Shifted(), 20, 0)
    moved = [
        float((network.edited(IMAGES, factual, factual + 0.2, [(factual, w)]) - IMAGES).mean()) for w in (1.0, 1.3, 1.6)
    ]
    assert moved[0] == pytest.approx(0.1, abs=1e-3)
    assert moved[0] < moved[1] < moved[2] < 0.1 * 1.6


@pytest.mark.parametrize("weights", [(0.4, 1.0), (1.0, 0.3), (0.4, 0.3)])
def test_each_change_has_a_weight_of_its_own(weights):
    # Told the sum of two numbers, of which either moves alone.
    factual, diffusion = torch.zeros(len(IMAGES), 1), ImageDiffusion(Shifted(), 20, 0)
    parts = (0.2, 0.06)
    without = [(factual + sum(parts) - part, w) for part, w in zip(parts, weights, strict=True)]
    moved = (diffusion.edited(IMAGES, factual, factual + sum(parts), without) - IMAGES).mean()
    wanted = sum(w * part for part, w in zip(parts, weights, strict=True)) / 2
    assert float(moved) == pytest.approx(wanted, abs=1e-3)


def test_rows_are_edited_independently_of_each_other():
    code = torch.linspace(-0.5, 0.5, len(IMAGES))[:, None]
    diffusion = ImageDiffusion(Shifted(), 4, 0)
    whole, one = diffusion.edited(IMAGES, code, -code), diffusion.edited(IMAGES[66:67], code[66:67], -code[66:67])
    torch.testing.assert_close(whole[66:67], one)
