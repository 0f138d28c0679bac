"""Average and conditional effects of interventions, with bootstrap intervals."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from latentcause.data.variables import Variables
from latentcause.graph import CausalGraph
from latentcause.progress import progress
from latentcause.scm import counterfactuals, linear_effects, simulation
from latentcause.scm.fitting.nodes import fit_nodes
from latentcause.scm.interventions import Action, Intervention, Shift, checked_actions
from latentcause.scm.mechanisms import Mechanism

if TYPE_CHECKING:
    from latentcause.scm.model import StructuralCausalModel

Outcome = str | tuple[str, Hashable]


@dataclass(frozen=True, repr=False)
class Effect:
    """An average or conditional effect.

    Attributes
    ----------
    value : float
        In the units of the outcome, or a difference of probabilities.
    low, high : float or None
        Ends of the bootstrap interval; None where no data were given.
    level : float
        The share of resampled effects between them.
    error : float
        Monte Carlo standard error of ``value``; 0 for closed forms and conditional effects.
    resamples : int
        Refits behind the interval: fewer than asked for where resamples did not determine a mechanism.
    question : str
        The effect in words.
    """

    value: float
    low: float | None
    high: float | None
    level: float
    error: float
    resamples: int
    question: str

    def __repr__(self) -> str:
        text = f"{self.question}: {self.value:.4g}"
        if self.low is not None:
            text += f" ({self.level:.0%} interval {self.low:.4g} to {self.high:.4g}, {self.resamples} resamples)"
        return text + (f", Monte Carlo error {self.error:.2g}" if self.error else "")


@dataclass(frozen=True)
class _Question:
    """What is asked, checked: everything but the mechanisms."""

    graph: CausalGraph
    node: str
    code: int | None
    do: dict[str, Action]
    versus: dict[str, Action]
    rows: Tensor | None
    draws: int
    seed: int

    @property
    def needed(self) -> tuple[str, ...]:
        """The outcome and all nodes that can reach it."""
        return (*self.graph.ancestors(self.node), self.node)

    def outcomes(self, values: Tensor) -> Tensor:
        own = values[self.graph.index(self.node)]
        return own if self.code is None else (own == self.code).to(own.dtype)

    def difference(self, mechanisms: Mapping[str, Mechanism]) -> Tensor:
        """The outcome under do minus that under versus: for every row, or for paired draws."""
        arms = []
        for actions in (self.do, self.versus):
            if self.rows is None:
                values = simulation.simulate(self.graph, mechanisms, actions, self.draws, self.seed, self.needed)
            else:
                values = counterfactuals.answer(self.graph, mechanisms, self.rows.clone(), actions, self.needed)
            arms.append(self.outcomes(values))
        return arms[0] - arms[1]


def estimate_effect(
    model: StructuralCausalModel,
    outcome: Outcome,
    do: Mapping[str, Intervention],
    versus: Mapping[str, Intervention] | None,
    *,
    rows: Any,
    data: Any,
    level: float,
    resamples: int,
    draws: int,
    generator: torch.Generator | int,
) -> Effect:
    """`StructuralCausalModel.effect`, which says what is computed."""
    if not do:
        raise ValueError("do is empty: name at least one node to intervene on")
    if not 0 < level < 1:
        raise ValueError(f"level is {level}: give a share between 0 and 1, such as 0.9")
    for name, count in (("resamples", resamples), ("draws", draws)):
        if count < 2:
            raise ValueError(f"{name} is {count}: give at least 2")
    if data is not None and model.settings is None:
        raise ValueError(
            "an interval needs a model that can be fitted again, but the mechanisms of this one were given: leave data out, "
            "or use StructuralCausalModel.fit"
        )
    generator = generator if isinstance(generator, torch.Generator) else torch.Generator().manual_seed(int(generator))
    seeds = torch.randint(0, 2**62, (2,), generator=generator).tolist()
    question = _question(model, outcome, do, versus, rows, draws, seeds[0])
    value, error = _point(question, model.mechanisms)
    low = high = None
    count = 0
    if data is not None:
        table = model.read(data)
        spread = _resampled(model, question, table, resamples, seeds[1])
        low, high = _interval(spread, level, len(table))
        count = len(spread)
    return Effect(value, low, high, level, error, count, _in_words(outcome, do, versus, rows is not None))


def _question(
    model: StructuralCausalModel,
    outcome: Outcome,
    do: Mapping[str, Intervention],
    versus: Mapping[str, Intervention] | None,
    rows: Any,
    draws: int,
    seed: int,
) -> _Question:
    node, code = _checked_outcome(model, outcome)
    table = None if rows is None else torch.tensor(model.read(rows).values.T)
    n = None if table is None else table.shape[1]
    arms = [checked_actions(arm, model.graph, model.levels, n) for arm in (do, versus)]
    return _Question(model.graph, node, code, arms[0], arms[1], table, draws, seed)


def _checked_outcome(model: StructuralCausalModel, outcome: Outcome) -> tuple[str, int | None]:
    node, *level = (outcome,) if isinstance(outcome, str) else outcome
    if node not in model.graph:
        raise ValueError(f"the outcome {node!r} is not a node of the graph: its nodes are {list(model.graph.nodes)}")
    levels = model.levels.get(node)
    if levels is None and level:
        raise ValueError(f"the outcome {node!r} is a number and has no levels: give the name alone")
    if levels is None:
        return node, None
    if not level or level[0] not in levels:
        asked = f"has no level {level[0]!r}" if level else "is a category"
        raise ValueError(
            f"the outcome {node!r} {asked}: give ({node!r}, level), whose probability is the outcome then; its levels are "
            f"{list(levels)}"
        )
    return node, levels.index(level[0])


def _point(question: _Question, mechanisms: Mapping[str, Mechanism]) -> tuple[float, float]:
    """The effect and its Monte Carlo standard error."""
    if question.code is None:
        lines = linear_effects.lines_of(question.graph, mechanisms, question.needed)
        closed = linear_effects.difference(
            question.graph, question.node, lines, question.do, question.versus, question.rows
        )
        if closed is not None:
            return float(closed), 0.0
    differences = question.difference(mechanisms)
    if question.rows is not None:
        return float(differences.mean()), 0.0
    return float(differences.mean()), float(differences.std()) / len(differences) ** 0.5


# --- bootstrap -------------------------------------------------------------------------------------------------------


def _interval(spread: np.ndarray, level: float, n: int) -> tuple[float, float]:
    """Expanded percentile interval (Hesterberg 2015) of effects of resamples of n rows.

    A plain percentile interval is too narrow, like a normal interval without the n - 1 of the variance and without
    Student's t: so it takes the quantiles at Phi(-+ t sqrt(n / (n - 1))), t being that of n - 1 degrees of freedom. The k-th
    of R sorted effects stands at k / (R + 1), where the next one falls with equal chance between any two.
    """
    from scipy import stats

    tail = stats.norm.cdf(stats.t.ppf((1 - level) / 2, max(n - 1, 1)) * (n / max(n - 1, 1)) ** 0.5)
    low, high = np.quantile(spread, [tail, 1 - tail], method="weibull")
    return float(low), float(high)


def _resampled(
    model: StructuralCausalModel, question: _Question, data: Variables, resamples: int, seed: int
) -> np.ndarray:
    """The effects (at most ``resamples``) of refits to rows drawn with replacement (Efron 1979)."""
    assert model.settings is not None
    effects = None
    if question.code is None:
        lines = linear_effects.lines_of(question.graph, model.mechanisms, question.needed)
        fitted = [node for node in lines if not question.graph.parents(node) or model.settings.kinds[node] == "linear"]
        refits = linear_effects.resampled_lines(question.graph, data, fitted, resamples, np.random.default_rng(seed))
        effects = linear_effects.difference(
            question.graph, question.node, refits, question.do, question.versus, question.rows
        )
    if effects is None:
        effects = np.array(list(_refits(model, question, data, resamples, seed)))
    usable = effects[np.isfinite(effects)]
    if len(usable) < resamples:
        warnings.warn(
            f"{resamples - len(usable)} of {resamples} resamples did not determine a mechanism and are left out of the "
            "interval: there are few rows for some level or parent",
            RuntimeWarning,
            stacklevel=4,
        )
    if len(usable) < 2:
        raise ValueError("no resample determined all mechanisms: give more rows, or leave data out")
    return usable


def _refits(
    model: StructuralCausalModel, question: _Question, data: Variables, resamples: int, seed: int
) -> Iterator[float]:
    """The effect of one refit after another, not a number where a mechanism was not determined."""
    assert model.settings is not None
    rng = np.random.default_rng(seed)
    refitted = [node for node in question.needed if not _set_in_both(question, node)]
    with progress("bootstrap", resamples, "effect") as report:
        for done in range(resamples):
            chosen = data.values[rng.integers(len(data), size=len(data))]
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", RuntimeWarning)  # one resample's separated levels say little
                    fitted = fit_nodes(
                        model.graph, Variables(data.names, chosen, data.levels), model.settings, refitted
                    )
                value = _point(question, {**model.mechanisms, **fitted})[0]
            except ValueError:
                value = float("nan")
            report(done + 1, value)
            yield value


def _set_in_both(question: _Question, node: str) -> bool:
    arms = (question.do.get(node), question.versus.get(node))
    return all(action is not None and not isinstance(action, Shift) for action in arms)


# --- words -----------------------------------------------------------------------------------------------------------


def _in_words(
    outcome: Outcome, do: Mapping[str, Intervention], versus: Mapping[str, Intervention] | None, conditional: bool
) -> str:
    name = outcome if isinstance(outcome, str) else f"P({outcome[0]} = {outcome[1]})"
    kind = "conditional effect" if conditional else "effect"
    return f"{kind} on {name} of {_arm(do)} versus {_arm(versus) if versus else 'no intervention'}"


def _arm(do: Mapping[str, Intervention]) -> str:
    return "do(" + ", ".join(f"{node} = {_short(action)}" for node, action in do.items()) + ")"


def _short(action: Intervention) -> str:
    if isinstance(action, (Shift, Mechanism)):
        return repr(action) if isinstance(action, Mechanism) or np.ndim(action.amount) == 0 else "Shift(one per row)"
    return str(action) if isinstance(action, str) or np.ndim(action) == 0 else "one per row"
