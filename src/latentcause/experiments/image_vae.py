"""A convolutional VAE that reduces images to a few numbers, on which ILCM's authors run it where they have images."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from latentcause.threads import threads_for
from latentcause.training import Recipe, seeded, train

CODES = 16
CHANNELS = (16, 32, 64, 64)  # of each resolution, after the first halving
HIDDEN = 128
BETA = 0.1  # weight of the divergence
USED = 0.1  # nats of divergence, on average: a code with less says nothing
RECIPE = Recipe(max_epochs=4, batch_size=64, learning_rate=2e-3, schedule="cosine", held_out=0.0)
LEVELS = 255  # that pixels are rounded to while training: a quarter of the memory, for an error far below the code's
SCALED = 2000  # images of each array that mean, spread and use of the codes are found from
ROWS_AT_ONCE = 256


class ImageVAE(nn.Module):
    """Means of q(e | x) = N(mean(x), diag sd(x)^2) in place of images x. With the decoder's mean d(e), training minimises

        |x - d(e)|^2 / 2 + BETA KL(q(e | x) || N(0, 1)),    e ~ q(e | x).

    After Brehmer et al., Weakly supervised causal representation learning, 2022 (appendix on CausalCircuit), who reduce images so
    before ILCM sees them; the loss, with unit sd and this weight, and networks without norms are those of their code. Theirs are
    residual, with coordinates as channels; here convolutions of stride 2 end in a perceptron that sees every place. They train
    for 50 epochs and hold the codes of a pair together with a weak penalty; here neither. Codes that training left unused are
    not handed on: `DCRL` standardises what it sees (their ILCM does not), and would make as much of them as of the others.

    Parameters
    ----------
    images : ndarray (n, c, h, w)
        Their mean and spread set the scale of the networks. Sides are multiples of 16.
    """

    mean: Tensor
    spread: Tensor
    used: Tensor

    def __init__(self, images: np.ndarray) -> None:
        super().__init__()
        mean = images.mean(axis=0)
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("spread", torch.tensor(np.sqrt(np.mean((images - mean) ** 2))))
        self.register_buffer("used", torch.ones(CODES, dtype=torch.bool))
        colours, *sides = mean.shape
        inner = (CHANNELS[-1], *(side // 2 ** len(CHANNELS) for side in sides))
        size = int(np.prod(inner))
        layers: list[nn.Module] = []
        for here, there in pairwise((colours, *CHANNELS)):
            layers += [nn.Conv2d(here, there, 3, stride=2, padding=1), nn.SiLU()]
        layers += [nn.Flatten(), nn.Linear(size, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, 2 * CODES)]
        self.encoder = nn.Sequential(*layers).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        layers = [nn.Linear(CODES, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, size), nn.Unflatten(1, inner)]
        for here, there in pairwise((*reversed(CHANNELS), colours)):
            layers += [nn.SiLU(), nn.ConvTranspose2d(here, there, 4, stride=2, padding=1)]
        self.decoder = nn.Sequential(*layers).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @classmethod
    def fit(cls, *images: np.ndarray, seed: int) -> ImageVAE:
        """Train on images (n, c, h, w) in [0, 1], of one array or several."""
        some = np.concatenate([part[:: max(1, len(part) // SCALED)] for part in images])
        with seeded(seed), threads_for(0):
            module = cls(some)
            pixels = torch.from_numpy(np.concatenate([np.rint(LEVELS * part).astype(np.uint8) for part in images]))
            train(module, module.loss, (pixels,), RECIPE, seed=seed, draw=module.draw, device="cpu", label="image VAE")
        module.used = _divergence(*module.posterior(some)).mean(dim=0) > USED
        return module

    @torch.no_grad()
    def posterior(self, images: np.ndarray) -> tuple[Tensor, Tensor]:
        """Means and log sds (n, CODES) of q(e | x)."""
        parts = np.array_split(images, 1 + len(images) // ROWS_AT_ONCE)
        means, log_sds = zip(*(self._posterior(torch.tensor(part)) for part in parts), strict=True)
        return torch.cat(means), torch.cat(log_sds)

    def encode(self, images: np.ndarray) -> np.ndarray:
        """Means (n, r) of the r codes that are used."""
        return np.asarray(self.posterior(images)[0][:, self.used].numpy())

    @torch.no_grad()
    def reconstruct(self, images: np.ndarray) -> np.ndarray:
        """d at the means of q(e | x)."""
        means = self.posterior(images)[0]
        return np.asarray(torch.cat([self._decoded(part) for part in means.split(ROWS_AT_ONCE)]).numpy())

    def draw(self, batch: tuple[Tensor, ...], generator: torch.Generator) -> tuple[Tensor, ...]:
        """Noise of the codes."""
        return (torch.randn((len(batch[0]), CODES), generator=generator),)

    def loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        """The loss (n,) of batches (pixels from 0 to 255, noise)."""
        images, noise = batch[0] / LEVELS, batch[1]
        mean, log_sd = self._posterior(images)
        error = (images - self._decoded(mean + log_sd.exp() * noise)).square().sum(dim=(1, 2, 3))
        return error / 2 + BETA * _divergence(mean, log_sd).sum(dim=1)

    def _posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        seen = ((images - self.mean) / self.spread).contiguous(memory_format=torch.channels_last)
        mean, log_sd = self.encoder(seen).chunk(2, dim=1)
        return mean, log_sd.clamp(-7, 2)

    def _decoded(self, codes: Tensor) -> Tensor:
        return self.mean + self.spread * self.decoder(codes)


def _divergence(mean: Tensor, log_sd: Tensor) -> Tensor:
    """KL(N(mean, sd^2) || N(0, 1)) of each code."""
    return 0.5 * (mean.square() + (2 * log_sd).exp() - 1) - log_sd
