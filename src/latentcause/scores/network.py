"""A small neural score: one network per variable, all trained together by implicit or sliced score matching."""

from __future__ import annotations

import warnings
from typing import Any, Literal, Self

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor, nn

from latentcause.training import Recipe, resolve_device, seeded, train

EVALUATION_ROWS = 16384


class NetworkScore:
    """Estimate s_j(y, c) = d/dy_j log p(y | c) for every variable j, each seeing only the inputs it may see.

    Node j has a network of its own with two SiLU layers beside a linear term. The inputs are standardised; inputs that
    a node may not see are multiplied by zero, so the gradient with respect to them is exactly zero. All networks run as
    one stacked network. The linear term starts at the closed-form minimiser of the loss over linear functions (for
    Gaussian y with all inputs visible this is already the true score) and training adds what is not linear.

    Losses, per row and summed over nodes, of a score that the networks r and the given ``base`` b add up to, s = b + r:

    - ``implicit``: 1/2 r_j^2 + b_j r_j + d r_j / d y_j (Hyvarinen 2005, Theorem 1; the terms in b alone are constant).
      The derivative is exact, carried forward through the layers.
    - ``sliced``: 1/2 |r|^2 + b' r + v' (d r / d y) v with random signs v (Song, Garg, Shi and Ermon 2020, Eq. 8,
      variance-reduced form). The same in expectation, with more noise.

    Parameters
    ----------
    visible : bool array of shape (d, d)
        ``visible[j, i]``: may s_j see y_i? The diagonal must be True.
    context_visible : bool array of shape (d, k), optional
        ``context_visible[j, i]``: may s_j see context column i (an intervention indicator)? Default: no context.
    hidden : int
        Width of both hidden layers of each node.
    loss : {"implicit", "sliced"}
    max_epochs, batch_size, learning_rate, device
        Passed to ``latentcause.training.train``.
    seed : int
        Seed of starting weights, shuffling and slices.

    Attributes
    ----------
    history_ : list of dict
        Training and held-out loss per epoch, in the standardised units of y.
    converged_ : bool
        Whether the held-out loss settled within ``max_epochs``; if not, ``fit`` warns.
    """

    def __init__(
        self,
        visible: np.ndarray,
        context_visible: np.ndarray | None = None,
        *,
        hidden: int = 64,
        loss: Literal["implicit", "sliced"] = "implicit",
        max_epochs: int = 200,
        batch_size: int = 512,
        learning_rate: float = 3e-3,
        device: str = "auto",
        seed: int = 0,
    ) -> None:
        self.visible = np.asarray(visible, dtype=bool)
        d = len(self.visible)
        self.context_visible = np.asarray(np.ones((d, 0)) if context_visible is None else context_visible, dtype=bool)
        if self.visible.shape != (d, d) or not self.visible.diagonal().all():
            raise ValueError("visible must be square with a True diagonal: each score sees its own variable")
        if self.context_visible.ndim != 2 or len(self.context_visible) != d:
            raise ValueError(f"context_visible must have one row for each of the {d} variables")
        if loss not in ("implicit", "sliced"):
            raise ValueError(f'loss must be "implicit" or "sliced", not {loss!r}')
        self.hidden = hidden
        self.loss = loss
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.device = device
        self.seed = seed

    def fit(self, y: Any, context: Any = None, weights: Any = None, base: Any = None) -> Self:
        """Fit to samples y (n, d), with context (n, k), row weights (n,) and values of a base score (n, d).

        With a base the fitted score is the remainder that is to be added to it.

        Raises ``ValueError`` for wrong shapes, values that are not finite, negative weights and a constant y.
        """
        inputs = self._inputs(y, context)
        n, d = len(inputs), len(self.visible)
        row_weights = np.ones(n) if weights is None else _finite("weights", weights, (n,))
        if row_weights.min() < 0 or not row_weights.sum() > 0:
            raise ValueError("weights must be non-negative, and some positive")
        self._mean = inputs.mean(axis=0)
        self._scale = inputs.std(axis=0)
        constant = np.flatnonzero(self._scale[:d] == 0)
        if constant.size:
            raise ValueError(f"column {constant[0]} of y is constant: it has no density, so no score")
        self._scale[self._scale == 0] = 1.0

        standard = (inputs - self._mean) / self._scale
        scaled_base = np.zeros((n, d)) if base is None else _finite("base", base, (n, d)) * self._scale[:d]
        row_weights = row_weights / row_weights.mean()
        mask = np.hstack([self.visible, self.context_visible])
        with seeded(self.seed):
            self.network_ = _StackedNetwork(mask, self.hidden)
        self.network_.set_linear(*_linear_minimiser(standard, mask, row_weights, scaled_base))
        result = train(
            self.network_,
            self._implicit if self.loss == "implicit" else self._sliced,
            tuple(torch.from_numpy(a.astype(np.float32)) for a in (standard, row_weights, scaled_base)),
            Recipe(self.max_epochs, self.batch_size, self.learning_rate),
            seed=self.seed,
            draw=None if self.loss == "implicit" else _random_signs,
            device=self.device,
            label="network score",
        )
        self.history_, self.converged_ = result.history, result.converged
        if not self.converged_:
            warnings.warn(
                f"the network score was still improving after {self.max_epochs} epochs; raise max_epochs",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self

    def score(self, y: Any, context: Any = None) -> np.ndarray:
        """The scores (n, d) at y (n, d) with context (n, k), in 1 / units of y, float64."""
        return self.score_and_derivative(y, context)[0]

    def score_and_derivative(self, y: Any, context: Any = None) -> tuple[np.ndarray, np.ndarray]:
        """The scores s_j and their own derivatives d s_j / d y_j, each (n, d), float64."""
        if not hasattr(self, "network_"):
            raise RuntimeError("this NetworkScore is not fitted yet: call fit(y) first")
        d = len(self.visible)
        standard = torch.from_numpy(((self._inputs(y, context) - self._mean) / self._scale).astype(np.float32))
        self.network_.to(device := resolve_device(self.device))
        with torch.no_grad():
            parts = [self.network_(rows.to(device)) for rows in standard.split(EVALUATION_ROWS)]
        score, derivative = (torch.cat(part).double().cpu().numpy() for part in zip(*parts, strict=True))
        return score / self._scale[:d], derivative / self._scale[:d] ** 2

    def state(self) -> dict[str, np.ndarray]:
        """What fitting learned, by name; `restore` takes it back."""
        weights = {f"weight.{name}": value.cpu().numpy() for name, value in self.network_.state_dict().items()}
        return weights | {"mean": self._mean, "scale": self._scale}

    def restore(self, state: dict[str, np.ndarray]) -> Self:
        """Become the fitted score that ``state`` describes."""
        self._mean, self._scale = state["mean"], state["scale"]
        with seeded(self.seed):
            self.network_ = _StackedNetwork(np.hstack([self.visible, self.context_visible]), self.hidden)
        weights = {name.removeprefix("weight."): a for name, a in state.items() if name.startswith("weight.")}
        self.network_.load_state_dict({name: torch.from_numpy(a.copy()) for name, a in weights.items()})
        return self

    def _implicit(self, batch: tuple[Tensor, ...]) -> Tensor:
        inputs, weights, base = batch
        score, derivative = self.network_(inputs)
        return weights * (0.5 * score.square() + base * score + derivative).sum(dim=1)

    def _sliced(self, batch: tuple[Tensor, ...]) -> Tensor:
        inputs, weights, base, signs = batch
        slices = nn.functional.pad(signs, (0, inputs.shape[1] - signs.shape[1]))  # the context does not move
        score, change = self.network_(inputs, slices)
        return weights * (0.5 * score.square() + base * score + signs * change).sum(dim=1)

    def _inputs(self, y: Any, context: Any) -> np.ndarray:
        d, k = self.context_visible.shape
        values = _finite("y", y, (None, d))
        if context is None and k:
            raise ValueError(f"this score sees {k} context columns: pass context of shape (n, {k})")
        added = np.zeros((len(values), 0)) if context is None else _finite("context", context, (len(values), k))
        return np.hstack([values, added])


def _random_signs(batch: tuple[Tensor, ...], generator: torch.Generator) -> tuple[Tensor]:
    base = batch[2]
    return (torch.randint(0, 2, base.shape, generator=generator, device=base.device, dtype=base.dtype) * 2 - 1,)


class _StackedNetwork(nn.Module):
    """All nodes' networks, node axis first: r_j(u) = skip_j' u + bias_j + W3_j silu(W2_j silu(W1_j u)), masked inputs."""

    mask: Tensor

    def __init__(self, mask: np.ndarray, hidden: int) -> None:
        super().__init__()
        d, m = mask.shape
        self.register_buffer("mask", torch.from_numpy(mask.astype(np.float32)))
        seen = self.mask.sum(dim=1)[:, None, None]
        self.first = nn.Parameter(torch.randn(d, m, hidden) / seen.sqrt())
        self.first_bias = nn.Parameter(torch.randn(d, 1, hidden))
        self.second = nn.Parameter(torch.randn(d, hidden, hidden) / hidden**0.5)
        self.second_bias = nn.Parameter(torch.zeros(d, 1, hidden))
        self.last = nn.Parameter(torch.zeros(d, hidden, 1))
        self.skip = nn.Parameter(torch.zeros(d, m))
        self.bias = nn.Parameter(torch.zeros(d))

    def set_linear(self, skip: np.ndarray, bias: np.ndarray) -> None:
        """Start the linear terms at skip (d, m) and bias (d,)."""
        with torch.no_grad():
            self.skip.copy_(torch.from_numpy(skip))
            self.bias.copy_(torch.from_numpy(bias))

    def forward(self, inputs: Tensor, direction: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Values (n, d) at inputs (n, m); change (n, d) along ``direction`` (n, m), or of node j along its own y_j."""
        first = self.first * self.mask[:, :, None]
        skip = self.skip * self.mask
        own = torch.arange(len(skip), device=skip.device)
        if direction is None:
            tangent, change = first[own, own][:, None, :], skip[own, own]
        else:
            tangent, change = direction @ first, direction @ skip.T
        hidden, tangent = _silu(inputs @ first + self.first_bias, tangent)
        hidden, tangent = _silu(hidden @ self.second + self.second_bias, tangent @ self.second)
        value = inputs @ skip.T + self.bias + (hidden @ self.last).squeeze(-1).T
        return value, change + (tangent @ self.last).squeeze(-1).T


def _silu(x: Tensor, tangent: Tensor) -> tuple[Tensor, Tensor]:
    """The SiLU x sigmoid(x), and its derivative times the tangent."""
    gate = torch.sigmoid(x)
    value = x * gate
    return value, (gate + value * (1 - gate)) * tangent


def _linear_minimiser(
    inputs: np.ndarray, mask: np.ndarray, weights: np.ndarray, base: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The linear r_j = skip_j' u + bias_j that minimise the implicit loss: E[phi phi'] c = -(e_j + E[b_j phi])."""
    n, m = inputs.shape
    features = np.hstack([inputs, np.ones((n, 1))])
    weighted = features * (weights / n)[:, None]
    gram, with_base = weighted.T @ features, weighted.T @ base
    skip, bias = np.zeros(mask.shape), np.zeros(len(mask))
    for j, seen in enumerate(mask):
        used = np.flatnonzero(np.append(seen, True))
        target = -(np.eye(m + 1)[j] + with_base[:, j])[used]
        # Indicators that add up to one are collinear with the intercept: the least-squares solution of least norm.
        solution = np.linalg.lstsq(gram[np.ix_(used, used)], target, rcond=1e-10)[0]
        skip[j, used[:-1]], bias[j] = solution[:-1], solution[-1]
    return skip, bias


def _finite(name: str, values: Any, shape: tuple[int | None, ...]) -> np.ndarray:
    """``values`` as a finite float64 array of the given shape, where None stands for any length."""
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    array = array.astype(np.float64)
    if array.ndim != len(shape) or any(want not in (None, got) for want, got in zip(shape, array.shape, strict=True)):
        wanted = ", ".join("n" if length is None else str(length) for length in shape)
        raise ValueError(f"{name} must have shape ({wanted}), not {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds NaN or infinity")
    return array
