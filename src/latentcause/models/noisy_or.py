"""Noisy-or: which of several causes brought about what is seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from scipy.special import expit
from torch import Tensor
from torch.nn.functional import logsigmoid

_ROUNDS = 4  # of L-BFGS with line search, 100 steps each


@dataclass(frozen=True)
class NoisyOr:
    """P(any cause at pixel i) = 1 - prod_h (1 - q_hi), with log odds of q_hi = offset_h + slope_h x_hi and slope_h >= 0.

    A cause that is present always shows, and nothing else shows (Pearl 1988, section 4.3.2, with the prior maps' log odds x in
    place of fixed chances).

    Attributes
    ----------
    offsets, slopes : float64 arrays (causes,)
    """

    offsets: np.ndarray
    slopes: np.ndarray

    @classmethod
    def fit(cls, shares: np.ndarray, log_odds: np.ndarray) -> Self:
        """Maximise sum_i s_i log P_i + (1 - s_i) log(1 - P_i).

        Parameters
        ----------
        shares : array (pixels,)
            s, the probability that there is something to explain.
        log_odds : array (causes, pixels)
            x, from each cause's prior map; minus infinity where a cause is ruled out. Pixels where all are take no part.
        """
        possible = np.isfinite(log_odds)
        used = possible.any(0)
        s = torch.as_tensor(shares[used], dtype=torch.float64)
        there = torch.as_tensor(possible[:, used])
        x = torch.as_tensor(np.where(possible, log_odds, 0.0)[:, used], dtype=torch.float64)
        count = there.sum(1, keepdim=True).clamp(min=1)
        centre = x.sum(1, keepdim=True) / count
        spread = ((there * (x - centre).square()).sum(1, keepdim=True) / count).sqrt().clamp(min=1e-9)
        offset = torch.full((len(x),), float(torch.logit(s.mean().clamp(1e-6, 0.5) / len(x))), dtype=torch.float64)
        log_slope = torch.zeros(len(x), dtype=torch.float64)
        parameters = [offset.requires_grad_(), log_slope.requires_grad_()]
        optimiser = torch.optim.LBFGS(parameters, max_iter=100, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            optimiser.zero_grad()
            u = offset[:, None] + log_slope.exp()[:, None] * (x - centre) / spread
            total = torch.where(there, logsigmoid(-u), 0.0).sum(0).clamp(max=-1e-12)
            value = -(s * torch.log(-torch.expm1(total)) + (1 - s) * total).mean()
            value.backward()
            return value

        for _ in range(_ROUNDS):
            optimiser.step(loss)
        slopes = log_slope.detach().exp() / spread[:, 0]
        return cls((offset.detach() - slopes * centre[:, 0]).numpy(), slopes.numpy())

    def chances(self, log_odds: np.ndarray) -> np.ndarray:
        """q (causes, pixels): how probable each cause was before anything was seen."""
        return expit(self.offsets[:, None] + self.slopes[:, None] * log_odds)

    def given_any(self, log_odds: np.ndarray) -> np.ndarray:
        """P(cause h | some cause) (causes, pixels) = q_h / P(any), which add up to 1 or more; 0 where no cause is possible."""
        q = self.chances(log_odds)
        some = -np.expm1(np.log1p(-q).sum(0))
        return q / np.where(some > 0, some, 1.0)
