"""The networks of CausalDiffAE and what they are trained on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from latentcause.diffusion import Cosine, denoising_loss, draw_times, loss_weight
from latentcause.models.factor_code import FactorCode
from latentcause.networks import ImageEncoder, UNet
from latentcause.scm import StructuralCausalModel
from latentcause.scm.simulation import parents_of

SCHEDULE = Cosine()
LOW_TIME, HIGH_TIME = 0.001, 0.995


class CausalAutoencoder(nn.Module):
    """Encoder q(u | x), the causal layer z_i = f_i(z_pa(i)) + u_i, and the decoder v(x_t, t, z).

    Parameters
    ----------
    scm : StructuralCausalModel
        Of the factors on the standard scale; its mechanisms stay as they are.
    code : FactorCode
    image_channels : int
    channels : sequence of int
        Of the decoder.
    kl_weight, prior_sd, p_unconditional : float
        As in `CausalDiffAE`.
    """

    def __init__(
        self,
        scm: StructuralCausalModel,
        code: FactorCode,
        image_channels: int,
        channels: Sequence[int],
        *,
        kl_weight: float,
        prior_sd: float,
        p_unconditional: float,
    ) -> None:
        super().__init__()
        self.scm, self.code = scm, code
        self.kl_weight, self.prior_sd, self.p_unconditional = kl_weight, prior_sd, p_unconditional
        # Numbers need mean and log variance, categories a logit per level.
        self.outputs = [len(code.levels[name]) if name in code.levels else 2 for name in code.names]
        self.encoder = ImageEncoder(image_channels, sum(self.outputs))
        self.decoder = UNet(image_channels, code.size, tuple(channels))
        noise = [
            1.0 if name in code.levels else max(float(scm.mechanisms[name].noise.variance), 1e-6) for name in code.names
        ]
        self.register_buffer("noise_variance", torch.tensor(noise))

    noise_variance: Tensor

    # --- causal layer ------------------------------------------------------------------------------------------------

    def abducted(self, factors: Tensor) -> Tensor:
        """u (n, f) from factors z (n, f); a category stands for itself."""
        noise = factors.clone()
        for j, name in enumerate(self.code.names):
            if name not in self.code.levels:
                above = parents_of(self.scm.graph, name, factors.T)
                noise[:, j] = self.scm.mechanisms[name].abduct(factors[:, j], above)
        return noise

    def solved(self, noise: Tensor) -> Tensor:
        """z (n, f) from u (n, f), along the graph."""
        columns: dict[str, Tensor] = {}
        for name in self.scm.graph.topological_order:
            own = noise[:, self.scm.graph.index(name)]
            if name not in self.code.levels:
                above = [columns[parent] for parent in self.scm.graph.parents(name)]
                own = self.scm.mechanisms[name].predict(
                    torch.stack(above, 1) if above else own.new_zeros(len(own), 0), own
                )
            columns[name] = own
        return torch.stack([columns[name] for name in self.code.names], dim=1)

    def encode(self, images: Tensor) -> Tensor:
        """z (n, f) at the encoder's means, and the likeliest levels."""
        parts = self.encoder(images).split(self.outputs, dim=1)
        means = [
            part.argmax(1).to(part.dtype) if name in self.code.levels else part[:, 0]
            for name, part in zip(self.code.names, parts, strict=True)
        ]
        return self.solved(torch.stack(means, dim=1))

    # --- losses ------------------------------------------------------------------------------------------------------

    def encoder_loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        """KL(q(u | x) || N(u_label, prior_sd^2)) (n,), and minus log q of the labels that are categories."""
        images, noise = batch
        return self._alignment(self.encoder(images), noise)

    def draw(self, batch: tuple[Tensor, ...], generator: torch.Generator) -> tuple[Tensor, ...]:
        """Times, noise of images and of factors, and which rows are told nothing."""
        images, noise = batch[0], batch[1]
        t = draw_times(len(images), generator, images, LOW_TIME, HIGH_TIME).to(images)
        device = images.device
        return (
            t,
            torch.randn(images.shape, generator=generator, device=device),
            torch.randn(noise.shape, generator=generator, device=device),
            torch.rand(len(images), generator=generator, device=device) < self.p_unconditional,
        )

    def loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        """Denoising loss plus ``kl_weight`` times the alignment, (n,)."""
        images, noise, t, image_noise, factor_noise, withheld = batch
        outputs = self.encoder(images).float()
        told = self.code.told(self.solved(self._drawn(outputs, noise, factor_noise)))
        x = 2 * images - 1
        alpha, sigma = (level.to(x)[:, None, None, None] for level in SCHEDULE.at(t))
        predicted = self.decoder(alpha * x + sigma * image_noise, t, told, withheld).float()
        error = denoising_loss(predicted, "velocity", x, image_noise, alpha, sigma)
        weight = loss_weight("uniform", "velocity", SCHEDULE, t).to(error)
        return weight * error + self.kl_weight * self._alignment(outputs, noise)

    def _drawn(self, outputs: Tensor, noise: Tensor, standard: Tensor) -> Tensor:
        """A draw of u (n, f); a category is its label where known, else the encoder's choice."""
        columns = []
        for j, (name, part) in enumerate(zip(self.code.names, outputs.split(self.outputs, dim=1), strict=True)):
            if name in self.code.levels:
                known = noise[:, j]
                columns.append(torch.where(known.isnan(), part.argmax(1).to(known), known))
            else:
                columns.append(part[:, 0] + (0.5 * part[:, 1]).exp() * standard[:, j])
        return torch.stack(columns, dim=1)

    def _alignment(self, outputs: Tensor, noise: Tensor) -> Tensor:
        total = outputs.new_zeros(len(outputs))
        for j, (name, part) in enumerate(zip(self.code.names, outputs.split(self.outputs, dim=1), strict=True)):
            label = noise[:, j]
            labelled = ~label.isnan()
            filled = label.nan_to_num()
            if name in self.code.levels:
                error = nn.functional.cross_entropy(part, filled.long(), reduction="none")
                total = total + torch.where(labelled, error, 0.0)
                continue
            # Without a label, the prior is that of the mechanism's noise.
            variance = torch.where(labelled, self.prior_sd**2, self.noise_variance[j])
            mean, log_variance = part[:, 0], part[:, 1].clamp(-20, 5)
            ratio = ((mean - filled).square() + log_variance.exp()) / variance
            total = total + 0.5 * (ratio - 1 - log_variance + variance.log())
        return total
