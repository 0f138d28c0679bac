"""The causal model of an image's factors, asked and answered in the units of the labels."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from latentcause.data.labelled_images import LabelledImages
from latentcause.data.variables import Variables
from latentcause.discovery.acyclic_weights import acyclic_weights
from latentcause.graph import CausalGraph
from latentcause.models.factor_code import Bounds, FactorCode
from latentcause.scm import Mechanism, StructuralCausalModel
from latentcause.scm.interventions import Intervention, Shift, checked_actions
from latentcause.scm.simulation import parents_of

FAR_OUTSIDE = 0.25  # of the range of the labels: do() beyond warns
LEAST_RATIO, MOST_RATIO = 0.3, 4.0  # of a rare combination's density under do() to its density as observed


@dataclass(frozen=True)
class FactorModel:
    """z_i = f_i(z_pa(i)) + u_i of factors on the standard scale of their code; a category comes about as in `scm`.

    Attributes
    ----------
    scm : StructuralCausalModel
        On the standard scale.
    code : FactorCode
    """

    scm: StructuralCausalModel
    code: FactorCode

    @classmethod
    def fit(
        cls,
        images: LabelledImages,
        graph: CausalGraph,
        bounds: Mapping[str, Bounds] | None = None,
        mechanisms: str | Mapping[str, str] = "spline",
        seed: int = 0,
    ) -> Self:
        """Learn the mechanisms from the labels, with Gaussian noise.

        Raises
        ------
        ValueError
            Where labels and graph do not belong together, and for what `FactorCode` and `StructuralCausalModel.fit` refuse.
        """
        images.validate_for(graph)
        labels = Variables.read(images.variables.to_frame(), graph.nodes, images.levels)
        code = FactorCode.of(labels, bounds or {})
        frame = Variables(labels.names, code.scaled(labels.values), labels.levels)
        return cls(StructuralCausalModel.fit(graph, frame, mechanisms=mechanisms, noise="gaussian", seed=seed), code)

    @property
    def graph(self) -> CausalGraph:
        """Of the factors."""
        return self.scm.graph

    @property
    def noise_variance(self) -> Tensor:
        """Variances (f,) of u, at least 1e-6; 1 for categories."""
        variances = [
            1.0 if name in self.code.levels else max(float(self.scm.mechanisms[name].noise.variance), 1e-6)
            for name in self.code.names
        ]
        return torch.tensor(variances)

    # --- labels ------------------------------------------------------------------------------------------------------

    def read(self, labels: Any) -> Tensor:
        """Labels (n, f), a DataFrame or array with a column per factor, on the standard scale; float32.

        Raises
        ------
        ValueError
            For a missing column or value, an unknown level, and a label that is not strictly inside its bounds.
        """
        table = Variables.read(labels, self.graph.nodes, self.code.levels)
        for name, (low, high) in self.code.bounds.items():
            values = table.column(name)
            outside = (values <= low) | (values >= high)
            if outside.any():
                row = int(outside.argmax())
                raise ValueError(
                    f"the label of {name!r} in row {row} is {values[row]:g}, not strictly inside its bounds ({low:g}, {high:g})"
                )
        return torch.from_numpy(self.code.scaled(table.values)).float()

    def frame(self, scaled: Tensor | np.ndarray) -> pd.DataFrame:
        """Factors (n, f) on the standard scale as labels in their own units."""
        empty = Variables(self.graph.nodes, np.zeros((1, len(self.graph))), self.code.levels)
        return empty.to_frame(self.code.unscaled(np.asarray(scaled, dtype=np.float64)))

    def noise_of(self, images: LabelledImages) -> Tensor:
        """The u (n, f) that labels of images imply, NaN where there are none; float32."""
        values = self.code.scaled(images.values_of(self.graph.nodes))
        noise = np.full_like(values, np.nan)
        noise[images.labelled] = self.abducted(torch.from_numpy(values[images.labelled])).numpy()
        return torch.from_numpy(noise).float()

    def balance_of(self, images: LabelledImages, power: float) -> Tensor:
        """Weights (n,) of images, of mean 1, that make combinations of factors less rare; float32.

        (prod_i p(z_i) / p(z_i | z_pa(i)))^power over numbers with parents, with normal marginals, the ratio (to its mean) kept in
        [0.3, 4]: with power 1 and no limits, averages over weighted images are averages under independent factors, which is
        what do() asks about. An image without labels weighs 1.
        """
        log_ratio = torch.zeros(len(images))
        noise, labelled = self.noise_of(images), torch.from_numpy(images.labelled.copy())
        factors = self.solved(noise[labelled])
        for j, name in enumerate(self.code.names):
            if name not in self.code.levels and self.graph.parents(name):
                own = factors[:, j]
                spread = own.var() if len(own) > 1 else torch.ones(())  # of one label: that of the code's scale
                marginal = -0.5 * ((own - own.mean()).square() / spread + spread.log())
                given = -0.5 * (noise[labelled, j].square() / self.noise_variance[j] + self.noise_variance[j].log())
                log_ratio[labelled] += marginal - given
        ratio = log_ratio.clamp(max=np.log(MOST_RATIO)).exp()
        weights = (ratio / ratio.mean()).clamp(LEAST_RATIO, MOST_RATIO) ** power
        return weights / weights.mean()

    # --- along the graph ---------------------------------------------------------------------------------------------

    def abducted(self, factors: Tensor) -> Tensor:
        """u (n, f) from factors z (n, f); a category stands for itself."""
        noise = factors.clone()
        for j, name in enumerate(self.code.names):
            if name not in self.code.levels:
                above = parents_of(self.graph, name, factors.T)
                noise[:, j] = self.scm.mechanisms[name].abduct(factors[:, j], above)
        return noise

    def solved(self, noise: Tensor) -> Tensor:
        """z (n, f) from u (n, f), along the graph."""
        columns: dict[str, Tensor] = {}
        for name in self.graph.topological_order:
            own = noise[:, self.graph.index(name)]
            if name not in self.code.levels:
                above = [columns[parent] for parent in self.graph.parents(name)]
                own = self.scm.mechanisms[name].predict(
                    torch.stack(above, 1) if above else own.new_zeros(len(own), 0), own
                )
            columns[name] = own
        return torch.stack([columns[name] for name in self.code.names], dim=1)

    # --- what if -----------------------------------------------------------------------------------------------------

    def counterfactual(self, factual: Tensor, do: Mapping[str, Intervention]) -> Tensor:
        """What the factors (n, f), on the standard scale, would have been under a do() in own units; float32.

        Raises
        ------
        ValueError
            For an unknown factor or level, values that are no numbers or outside bounds, a mechanism, and a factor downstream
            whose noise is not determined (a category).
        """
        actions = self._scaled_actions(do, len(factual), factual)
        changed = self.scm.counterfactual(factual.double().numpy(), actions)
        self._warn_far_outside(changed, do)
        return torch.from_numpy(changed).float()

    def sample(self, n: int, do: Mapping[str, Intervention] | None, generator: torch.Generator) -> Tensor:
        """n draws of the factors (n, f) on the standard scale, under an intervention in own units or none; float32."""
        if n < 1:
            raise ValueError(f"n is {n}: give the number of images to draw")
        rows = self.scm.sample(n, self._scaled_actions(do or {}, n, None), generator=generator)
        self._warn_far_outside(rows, do or {})
        return torch.from_numpy(rows).float()

    def _scaled_actions(
        self, do: Mapping[str, Intervention], n: int, factual: Tensor | None
    ) -> dict[str, Intervention]:
        """do() on the standard scale. A shift in own units becomes the values that it leads to, where the scale bends."""
        scaled: dict[str, Intervention] = {}
        for name, action in checked_actions(do, self.graph, self.scm.levels, n).items():
            if isinstance(action, Mechanism):
                raise ValueError(f"do({name}) is a mechanism: models of images take numbers, levels and shifts")
            if name in self.code.levels:
                scaled[name] = do[name]
            elif isinstance(action, Shift):
                scaled[name] = self._scaled_shift(name, action, do, factual)
            else:
                scaled[name] = self._scaled_values(name, action.numpy())
        return scaled

    def _scaled_shift(
        self, name: str, action: Shift, do: Mapping[str, Intervention], factual: Tensor | None
    ) -> Intervention:
        j, amount = self.graph.index(name), np.asarray(action.amount)
        if name not in self.code.bounds:
            return Shift(amount / self.code.scale[j])
        if factual is None or set(self.graph.ancestors(name)) & set(do):
            raise ValueError(
                f"do({name}) shifts a factor with bounds, which needs its factual value: give values instead"
            )
        return self._scaled_values(name, self.code.unscaled(factual.double().numpy())[:, j] + amount)

    def _scaled_values(self, name: str, values: np.ndarray) -> np.ndarray:
        j = self.graph.index(name)
        table = np.zeros((values.size, len(self.graph)))
        table[:, j] = values
        scaled = self.code.scaled(table)[:, j].reshape(values.shape)
        if not np.isfinite(scaled).all():
            raise ValueError(f"do({name}) is not strictly inside its bounds {self.code.bounds[name]}")
        return scaled

    def _warn_far_outside(self, rows: np.ndarray, do: Mapping[str, Intervention]) -> None:
        """Warn where a factor was set or shifted to what no label comes near."""
        values = self.code.unscaled(rows)
        for name in do:
            j = self.graph.index(name)
            low, high = self.code.low[j], self.code.high[j]
            margin = FAR_OUTSIDE * (high - low)
            least, most = values[:, j].min(), values[:, j].max()
            if name not in self.code.levels and (least < low - margin or most > high + margin):
                warnings.warn(
                    f"do({name} = {least if least < low - margin else most:g}) lies far outside the labels seen, {low:g} to "
                    f"{high:g}: the image is extrapolated",
                    UserWarning,
                    stacklevel=4,
                )

    # --- files -------------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """What `restored` needs, in types that ``latentcause.save`` writes."""
        levels = {name: list(levels) for name, levels in self.scm.levels.items()}
        return {"graph": self.graph, "code": self.code, "mechanisms": dict(self.scm.mechanisms), "levels": levels}

    @classmethod
    def restored(cls, state: Mapping[str, Any]) -> Self:
        """The model that gave this state."""
        return cls(StructuralCausalModel(state["graph"], state["mechanisms"], state["levels"]), state["code"])


def learned_graph(images: LabelledImages, bounds: Mapping[str, Bounds] | None = None) -> tuple[CausalGraph, str]:
    """A graph of the factors from their labels alone, by `acyclic_weights` on the scale of `FactorCode`; what to say of it.

    Raises
    ------
    ValueError
        For a factor that is a category, and for what `FactorCode` and `acyclic_weights` refuse.
    """
    labels = images.variables
    if labels.levels:
        raise ValueError(
            f"without a graph one is learned from numbers, but factor {next(iter(labels.levels))!r} is a category: give the "
            "graph"
        )
    scaled = FactorCode.of(labels.require_variation(), bounds or {}).scaled(labels.values)
    found = acyclic_weights(Variables(labels.names, scaled, {}))
    return found.graph, "; ".join([f"the graph was learned from the labels: {found.graph}", *found.notes])
