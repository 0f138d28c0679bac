"""LinearPairs: causal variables of a linear system from pairs, in closed form."""

from __future__ import annotations

from typing import Any, Literal, Self

import numpy as np
from scipy.optimize import linear_sum_assignment

from latentcause.data.intervention_pairs import InterventionPairs
from latentcause.models.pairs.lines import Lines, noise_for
from latentcause.models.pairs.observations import check_directions
from latentcause.models.pairs.pair_model import PairModel


class LinearPairs(PairModel):
    """Causal variables, their graph and what each pair's intervention hit, where mixing and mechanisms are linear: in a second.

    Changes x~ - x lie on one line per latent: the lines' directions give the noises, regressions on the noises the variables
    (`latentcause.models.pairs.lines.Lines`). Exact without measurement error, as pairs grow; with
    it use `NoisyLinearPairs`. Where mixing or mechanisms are not linear it is what `DCRL` has to beat, and where `DCRL` starts.
    Images are never mixed linearly: on those of a pendulum it finds nothing, and may not notice.

    Parameters
    ----------
    n_latents : int
    max_targets : {1, 2}
        Latents that one intervention may hit at once; lines are found from pairs that hit one.
    mechanisms : {"linear", "spline"}
        Of the graph's edges, when it is read.
    seed : int
        Of the search for directions.
    """

    def __init__(
        self, n_latents: int, *, max_targets: int = 1, mechanisms: Literal["linear", "spline"] = "linear", seed: int = 0
    ) -> None:
        self.n_latents = n_latents
        self.max_targets = max_targets
        self.mechanisms = mechanisms
        self.seed = seed

    lines_: Lines
    _min_effect = 0.02

    def fit(self, pairs: InterventionPairs) -> Self:
        """Learn from pairs.

        Raises
        ------
        ValueError
            For fewer pairs than needed, targets beyond ``n_latents`` or ``max_targets``, and observations that vary in fewer
            directions than there are latents.
        """
        v, v_after = self._door(pairs, None)
        check_directions(self.whitening_.size, self.n_latents)
        lines, known = Lines.fit(v, v_after, self.n_latents, self.seed, self.max_targets > 1), self._known(pairs)
        self.lines_ = lines.taking(matched(lines.codes(v_after) - lines.codes(v), known, self.n_latents))
        self._finish(pairs, known, settled=True)
        _, after, hit = self._read
        self.lines_ = self.lines_.told(after, np.eye(self.n_latents + 1)[hit][:, :-1])
        return self

    # --- files -------------------------------------------------------------------------------------------------------

    def fitted_state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """What fitting learned: arrays by name, and values that JSON can hold. ``latentcause.save`` writes both."""
        self.check_fitted()
        return {}, {**self._shared_state(), "lines": self.lines_}

    def restore_state(self, arrays: dict[str, np.ndarray], values: dict[str, Any]) -> None:
        """Set the fitted attributes from what ``fitted_state`` gave."""
        self._restore_shared(values)
        self.lines_ = values["lines"]

    # --- for PairModel -----------------------------------------------------------------------------------------------

    def _codes(self, x: np.ndarray, t: float | None) -> np.ndarray:
        if t is not None:
            raise ValueError("LinearPairs has one code, not a trajectory of them: leave t out")
        return self.lines_.codes(self._standardised(x))

    def _solved(self, codes: np.ndarray) -> np.ndarray:
        return np.asarray(codes @ self.lines_.solution)

    def _noise_for(self, codes: np.ndarray, wanted: dict[int, np.ndarray]) -> np.ndarray:
        return noise_for(codes, wanted, self.lines_.solution)

    def _decoded(self, codes: np.ndarray) -> np.ndarray:
        return np.asarray(codes @ np.linalg.pinv(self.lines_.unmix))


def matched(moved: np.ndarray, known: np.ndarray, m: int) -> np.ndarray:
    """Which line belongs to each latent: those that move where known targets say, the rest as they come."""
    told = (known >= 1) & (known <= m)
    if not told.any():
        return np.arange(m)
    scale = np.sqrt((moved**2).mean(axis=0)) + 1e-12
    size = np.abs(moved[told] / scale)
    gain = np.array([size[known[told] == i + 1].sum(axis=0) for i in range(m)])
    return np.asarray(linear_sum_assignment(-gain)[1])
