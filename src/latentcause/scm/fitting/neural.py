"""Neural mechanisms: smooth, with all interactions of the parents; all nodes train as one stacked network."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from latentcause.progress import progress
from latentcause.scm.fitting.table import Table, residual_noise
from latentcause.scm.mechanisms import Mechanism
from latentcause.scm.neural import NeuralMechanism
from latentcause.threads import threads_for

HIDDEN = 32  # width of both hidden layers of each node
BATCH_ROWS = 256
HELD_OUT = 0.1  # share of the rows that the stopping rule watches
ROUND_STEPS = 25  # steps between two looks at them
MAX_ROUNDS = 400
PATIENCE = 8  # rounds without a gain of MIN_GAIN before a node's learning rate falls
MIN_GAIN = 1e-3  # of the held-out error
RATES = (1e-2, 2e-3)  # of Adam; after the last a node is done
FORGETTING = (0.9, 0.999)  # of Adam's averages of the gradient and of its square
SMOOTHING = 0.98  # of the average of the weights, over about 50 steps, that is scored and kept


def fit(tables: Sequence[Table], noise: str, seed: int) -> dict[str, Mechanism]:
    """Least squares of every node on a line and a network with two hidden layers of its parents, by Adam.

    Parents and nodes are standardised, the line starts at the least-squares solution. The weights
    are averaged over about 50 steps, and the average is judged on a tenth of the rows: where it predicts them no better
    for 8 rounds of 25 steps, the node goes back to its best average and goes on at a fifth of the learning rate; the
    second time it is done. Nodes do not influence each other.

    Raises
    ------
    ValueError
        For fewer than 10 rows.

    Warns
    -----
    sklearn.exceptions.ConvergenceWarning
        Where a node was still improving after 10,000 steps.
    """
    n = len(tables[0].values)
    if n < 10:
        raise ValueError(f"{n} rows are too few to fit a network to node {tables[0].node!r}: at least 10 are needed")
    counts = [len(table.columns) for table in tables]
    inputs = torch.zeros(len(tables), n, max(counts))
    for j, table in enumerate(tables):
        inputs[j, :, : counts[j]] = torch.from_numpy(_standardised(table.parents))
    targets = torch.from_numpy(np.stack([_standardised(table.values) for table in tables])).float()
    with threads_for(n):
        weights, converged = _train(inputs, targets, counts, seed)
    _warn_of([table.node for table, settled in zip(tables, converged, strict=True) if not settled])
    layers = [part.double().numpy() for part in _layers(weights, max(counts))]
    return {table.node: _mechanism(table, [part[j] for part in layers], noise) for j, table in enumerate(tables)}


def _standardised(values: np.ndarray) -> np.ndarray:
    return (values - values.mean(axis=0)) / _scale(values)


def _scale(values: np.ndarray) -> np.ndarray:
    return np.where((spread := values.std(axis=0)) > 0, spread, 1.0)


def _train(inputs: Tensor, targets: Tensor, counts: Sequence[int], seed: int) -> tuple[Tensor, list[bool]]:
    """Weights (nodes, weights of a node) of the best held-out error, from inputs (nodes, n, p) and targets (nodes, n)."""
    generator = torch.Generator().manual_seed(seed)
    tested, kept = torch.randperm(inputs.shape[1], generator=generator).tensor_split([_held_out(inputs.shape[1])])
    weights = torch.stack([_start(inputs[j, kept], targets[j, kept], p, seed + j) for j, p in enumerate(counts)])
    held_out = inputs[:, tested], targets[:, tested]
    best, best_error, smooth = weights, _errors(weights, *held_out), weights
    mark, stale, drops = best_error.clone(), torch.zeros(len(counts)), torch.zeros(len(counts), dtype=torch.long)
    averages, steps = [torch.zeros_like(weights), torch.zeros_like(weights)], torch.zeros(len(counts), 1)
    rates = torch.tensor([*RATES, 0.0])
    batches = _batches(kept, generator)
    with progress("neural mechanisms", MAX_ROUNDS) as report:
        for number in range(1, MAX_ROUNDS + 1):
            for _ in range(ROUND_STEPS):
                rows = next(batches)
                variables = weights.detach().requires_grad_()
                loss = _errors(variables, inputs[:, rows], targets[:, rows]).sum()
                (gradient,) = torch.autograd.grad(loss, variables)
                steps += 1
                weights = weights - rates[drops, None] * _direction(gradient, averages, steps)
                smooth = smooth.lerp(weights, 1 - SMOOTHING)
            error = _errors(smooth, *held_out)
            report(number, float(error.mean()))
            best = torch.where((error < best_error)[:, None], smooth, best)
            best_error = torch.minimum(error, best_error)
            gained = best_error < mark * (1 - MIN_GAIN)
            mark = torch.where(gained, best_error, mark)
            stale = torch.where(gained, 0, stale + 1)
            if (falls := (stale >= PATIENCE) & (drops < len(RATES))).any():
                weights[falls] = smooth[falls] = best[falls]
                stale[falls] = steps[falls] = 0
                drops = drops + falls
                for average in averages:
                    average[falls] = 0
            if (drops == len(RATES)).all():
                break
    return best, (drops == len(RATES)).tolist()


def _held_out(n: int) -> int:
    return max(1, round(HELD_OUT * n))


def _batches(rows: Tensor, generator: torch.Generator) -> Iterator[Tensor]:
    """Rows in random order, BATCH_ROWS at a time and of each pass no smaller rest, for ever."""
    size = min(BATCH_ROWS, len(rows))
    while True:
        shuffled = rows[torch.randperm(len(rows), generator=generator)]
        yield from shuffled[: len(rows) // size * size].split(size)


def _start(inputs: Tensor, targets: Tensor, p: int, seed: int) -> Tensor:
    """Random weights of a node with p parents in inputs (n, widest), with the least-squares line and a last layer of zeros."""
    generator = torch.Generator().manual_seed(seed)
    design = torch.cat([inputs[:, :p], torch.ones(len(inputs), 1)], dim=1).double()
    line = torch.linalg.lstsq(design, targets.double(), driver="gelsd").solution.float()
    slopes, first = torch.zeros(inputs.shape[1]), torch.zeros(inputs.shape[1], HIDDEN)
    slopes[:p], first[:p] = line[:p], torch.randn(p, HIDDEN, generator=generator) / p**0.5
    parts = [
        slopes,
        line[p:],
        first,
        torch.randn(HIDDEN, generator=generator),
        torch.randn(HIDDEN, HIDDEN, generator=generator) / HIDDEN**0.5,
        torch.zeros(2 * HIDDEN),
    ]
    return torch.cat([part.reshape(-1) for part in parts])


def _layers(weights: Tensor, p: int) -> tuple[Tensor, ...]:
    """Slopes, intercept, and weights and biases of the layers, node axis first, of flat weights (nodes, .)."""
    sizes = [p, 1, p * HIDDEN, HIDDEN, HIDDEN * HIDDEN, HIDDEN, HIDDEN]
    slopes, intercept, first, bias, second, second_bias, last = weights.split(sizes, dim=1)
    return (
        slopes,
        intercept,
        first.unflatten(1, (p, HIDDEN)),
        bias,
        second.unflatten(1, (HIDDEN, HIDDEN)),
        second_bias,
        last,
    )


def _errors(weights: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
    """Mean squared error of every node."""
    slopes, intercept, first, bias, second, second_bias, last = _layers(weights, inputs.shape[2])
    hidden = nn.functional.silu(torch.baddbmm(bias[:, None], inputs, first))
    hidden = nn.functional.silu(torch.baddbmm(second_bias[:, None], hidden, second))
    values = inputs @ slopes[:, :, None] + hidden @ last[:, :, None]
    return (values.squeeze(-1) + intercept - targets).square().mean(dim=1)


def _direction(gradient: Tensor, averages: list[Tensor], steps: Tensor) -> Tensor:
    """Adam's step per unit of learning rate (Kingma and Ba 2015, Algorithm 1), for nodes that started at other times."""
    for average, power, forgetting in zip(averages, (gradient, gradient.square()), FORGETTING, strict=True):
        average.lerp_(power, 1 - forgetting)
    first, second = (a / (1 - f**steps) for a, f in zip(averages, FORGETTING, strict=True))
    return first / (second.sqrt() + 1e-8)


def _warn_of(nodes: list[str]) -> None:
    from sklearn.exceptions import ConvergenceWarning

    if nodes:
        warnings.warn(
            f"the networks of nodes {nodes} were still improving after {MAX_ROUNDS * ROUND_STEPS} steps: their fit is "
            "usable, and more rows or another kind of mechanism would do better",
            ConvergenceWarning,
            stacklevel=3,
        )


def _mechanism(table: Table, layers: list[np.ndarray], noise: str) -> NeuralMechanism:
    """The network in the units of the data: standardisation becomes part of its first and last layers."""
    p, scale, unit = len(table.columns), _scale(table.parents), float(_scale(table.values))
    slopes, _, first, bias, second, second_bias, last = layers
    slopes, first = slopes[:p] * unit / scale, first[:p] / scale[:, None]
    centre = table.parents.mean(axis=0)
    weights, biases = (first, second, last[:, None] * unit), (bias - centre @ first, second_bias)
    network = NeuralMechanism(slopes, weights, biases)
    residuals = table.values - network.mean(torch.from_numpy(table.parents)).numpy()
    return NeuralMechanism(
        slopes, weights, biases, float(residuals.mean()), noise=residual_noise(table.node, residuals, noise)
    )
