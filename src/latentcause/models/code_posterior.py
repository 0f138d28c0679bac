"""What an encoder of images says about the noise of the factors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from latentcause.models.factor_code import FactorCode


@dataclass(frozen=True)
class CodePosterior:
    """q(u | x) = N(mean(x), variance(x)) for numbers, and probabilities of the levels for categories.

    Outputs (n, sum of ``sizes``) of an encoder hold mean and log variance of each number, a logit per level of each
    category. Labels (n, f) are u, codes for categories, and NaN where an image has none.

    Attributes
    ----------
    code : FactorCode
    prior_sd : float
        Of the prior N(u_label, prior_sd^2) of a number whose label is known.
    """

    code: FactorCode
    prior_sd: float

    @property
    def sizes(self) -> list[int]:
        """Outputs that belong to each factor."""
        return [len(self.code.levels[name]) if name in self.code.levels else 2 for name in self.code.names]

    def mean(self, outputs: Tensor) -> Tensor:
        """Means, and the likeliest levels, (n, f)."""
        columns = [
            part.argmax(1).to(part.dtype) if name in self.code.levels else part[:, 0]
            for name, part in self._parts(outputs)
        ]
        return torch.stack(columns, dim=1)

    def draw(self, outputs: Tensor, labels: Tensor, standard: Tensor) -> Tensor:
        """A draw (n, f) by standard normal noise (n, f); a category is its label where known, else the likeliest level."""
        columns = []
        for j, (name, part) in enumerate(self._parts(outputs)):
            if name in self.code.levels:
                known = labels[:, j]
                columns.append(torch.where(known.isnan(), part.argmax(1).to(known), known))
            else:
                columns.append(part[:, 0] + (0.5 * part[:, 1]).exp() * standard[:, j])
        return torch.stack(columns, dim=1)

    def divergence(self, outputs: Tensor, labels: Tensor, unlabelled_variance: Tensor) -> Tensor:
        """KL(q || N(label, prior_sd^2)) (n,), and minus log q of the labels that are categories.

        Without a label, the prior is N(0, unlabelled_variance_j), and a category adds nothing.
        """
        total = outputs.new_zeros(len(outputs))
        for j, (name, part) in enumerate(self._parts(outputs)):
            label = labels[:, j]
            labelled = ~label.isnan()
            filled = label.nan_to_num()
            if name in self.code.levels:
                error = nn.functional.cross_entropy(part, filled.long(), reduction="none")
                total = total + torch.where(labelled, error, 0.0)
                continue
            variance = torch.where(labelled, self.prior_sd**2, unlabelled_variance[j])
            mean, log_variance = part[:, 0], part[:, 1].clamp(-20, 5)
            ratio = ((mean - filled).square() + log_variance.exp()) / variance
            total = total + 0.5 * (ratio - 1 - log_variance + variance.log())
        return total

    def _parts(self, outputs: Tensor) -> list[tuple[str, Tensor]]:
        return list(zip(self.code.names, outputs.split(self.sizes, dim=1), strict=True))
